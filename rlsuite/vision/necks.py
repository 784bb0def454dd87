"""Necks, between backbone and head: maps -> maps. Every neck has the `channels` and `strides` of its output maps."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.nets.backbones.bricks import conv

Maps = list[Tensor]  # finest first, [N,C,H,W]


class Neck(nn.Module):
    """Base class of necks; by itself the identity."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.channels, self.strides = tuple(channels), tuple(strides)

    def forward(self, maps: Maps) -> Maps:
        return maps


def levels(strides: Sequence[int], finest: int) -> list[int]:
    """Index of the last map of every stride from `finest` on. ValueError if there is none."""
    found = {stride: index for index, stride in enumerate(strides) if stride >= finest}
    if not found:
        raise ValueError(f"its finest map should have stride {finest}, but the backbone's strides are {list(strides)}")
    return list(found.values())


class Fpn(Neck):
    """Feature pyramid (Lin et al. 2017): every map is projected to `width` channels, and coarser ones are added to finer ones.

    `finest`: stride of the first map used. `extra`: further maps, each half the size: `pool` one as in Faster R-CNN, `conv` two
    as in RetinaNet (P6 and P7), `none`.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, finest: int, extra: str):
        used = levels(strides, finest)
        outs = [strides[index] for index in used]
        more = {"none": 0, "pool": 1, "conv": 2}[extra]
        outs += [outs[-1] << (1 + number) for number in range(more)]
        super().__init__([width] * len(outs), outs)
        self.used, self.extra = used, extra
        self.inner = nn.ModuleList(nn.Conv2d(channels[index], width, 1) for index in used)
        self.outer = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in used)
        if extra == "conv":
            self.p6 = nn.Conv2d(width, width, 3, 2, padding=1)
            self.p7 = nn.Conv2d(width, width, 3, 2, padding=1)

    def forward(self, maps: Maps) -> Maps:
        sums = [inner(maps[index]) for inner, index in zip(self.inner, self.used, strict=True)]
        for index in range(len(sums) - 1, 0, -1):
            sums[index - 1] = sums[index - 1] + F.interpolate(sums[index], size=sums[index - 1].shape[2:])
        found = [outer(each) for outer, each in zip(self.outer, sums, strict=True)]
        if self.extra == "pool":
            found.append(F.max_pool2d(found[-1], 1, 2))
        elif self.extra == "conv":
            found.append(self.p6(found[-1]))
            found.append(self.p7(F.relu(found[-1])))
        return found


class Jpu(Neck):
    """Joint pyramid upsampling (Wu et al. 2019, FastFCN): replaces the last map by one of stride 8, made from the last three.

    A plain backbone then does the work of a dilated one, at a third of the cost.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int):
        used = levels(strides, 1)[-3:]
        super().__init__([*channels[:-1], 4 * width], [*strides[:-1], strides[used[0]]])
        self.used = used
        self.inner = nn.ModuleList(conv(channels[index], width, norm="batch") for index in used)
        self.dilated = nn.ModuleList()
        for rate in (1, 2, 4, 8):
            depthwise = nn.Conv2d(
                len(used) * width, len(used) * width, 3, padding=rate, dilation=rate, groups=len(used) * width, bias=False
            )
            norm = nn.BatchNorm2d(len(used) * width)
            self.dilated.append(nn.Sequential(depthwise, norm, conv(len(used) * width, width, 1, norm="batch")))

    def forward(self, maps: Maps) -> Maps:
        found = [inner(maps[index]) for inner, index in zip(self.inner, self.used, strict=True)]
        size = found[0].shape[2:]
        joined = torch.cat([found[0], *(F.interpolate(each, size=size, mode="bilinear") for each in found[1:])], 1)
        return [*maps[:-1], torch.cat([branch(joined) for branch in self.dilated], 1)]


class YoloNeck(Neck):
    """YOLOv3's top-down path (Redmon & Farhadi 2018): five convolutions on each of three maps, joined with the coarser one."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], finest: int):
        used = levels(strides, finest)[-3:]
        widths = [channels[index] // 2 for index in used]
        super().__init__(widths, [strides[index] for index in used])
        self.used = used
        self.sets, self.routes = nn.ModuleList(), nn.ModuleList()
        below = 0
        for index, width in zip(reversed(used), reversed(widths), strict=True):
            self.routes.append(conv(below, width, 1, norm="batch", act="leaky") if below else nn.Identity())
            i = channels[index] + (width if below else 0)
            parts = []
            for number in range(5):
                o = width if number % 2 == 0 else 2 * width
                parts.append(conv(i, o, 1 if number % 2 == 0 else 3, norm="batch", act="leaky"))
                i = o
            self.sets.append(nn.Sequential(*parts))
            below = width

    def forward(self, maps: Maps) -> Maps:
        found: Maps = []
        for index, route, convs in zip(reversed(self.used), self.routes, self.sets, strict=True):
            x = maps[index]
            if found:
                x = torch.cat([F.interpolate(route(found[0]), size=x.shape[2:]), x], 1)
            found.insert(0, convs(x))
        return found


class Extra(Neck):
    """SSD's extra stages (Liu et al. 2016): `count` maps after the last one, each half the size."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], finest: int, width: int, count: int):
        used = levels(strides, finest)
        outs = [strides[index] for index in used]
        super().__init__(
            [channels[index] for index in used] + [width] * count, outs + [outs[-1] << (1 + number) for number in range(count)]
        )
        self.used = used
        self.stages = nn.ModuleList()
        i = channels[used[-1]]
        for _ in range(count):
            self.stages.append(nn.Sequential(conv(i, width // 2, 1, norm="none"), conv(width // 2, width, 3, 2, norm="none")))
            i = width

    def forward(self, maps: Maps) -> Maps:
        found = [maps[index] for index in self.used]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found


class Mlfpn(Neck):
    """M2Det's pyramid (Zhao et al. 2019): `count` thinned U-shapes in a row, joined scale by scale, with channel attention.

    The first U gets two fused maps of the backbone, each further one those and the finest map of the U before.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], finest: int, width: int, count: int, scales: int):
        used = levels(strides, finest)[:2]
        first = strides[used[0]]
        super().__init__([count * width] * scales, [first << number for number in range(scales)])
        self.used = used
        self.fuse = nn.ModuleList(conv(channels[index], width, 1, norm="batch") for index in used)
        base = width * len(used)
        self.enter = nn.ModuleList(conv(base, width if number else 2 * width, 1, norm="batch") for number in range(count))
        self.down = nn.ModuleList(
            nn.ModuleList(conv(2 * width, 2 * width, 3, 2, norm="batch") for _ in range(scales - 1)) for _ in range(count)
        )
        self.up = nn.ModuleList(
            nn.ModuleList(conv(2 * width, 2 * width, norm="batch") for _ in range(scales - 1)) for _ in range(count)
        )
        self.out = nn.ModuleList(
            nn.ModuleList(conv(2 * width, width, 1, norm="batch") for _ in range(scales)) for _ in range(count)
        )
        total = count * width
        self.weigh = nn.ModuleList(
            nn.Sequential(nn.Linear(total, total // 16), nn.ReLU(), nn.Linear(total // 16, total), nn.Sigmoid())
            for _ in range(scales)
        )

    def forward(self, maps: Maps) -> Maps:
        size = maps[self.used[0]].shape[2:]
        base = torch.cat([F.interpolate(fuse(maps[index]), size=size) for fuse, index in zip(self.fuse, self.used, strict=True)], 1)
        pyramids: list[Maps] = []
        for enter, down, up, out in zip(self.enter, self.down, self.up, self.out, strict=True):
            x = torch.cat([enter(base), pyramids[-1][0]], 1) if pyramids else enter(base)
            pyramids.append(_u_shape(x, down, up, out))
        joined = [torch.cat(scale, 1) for scale in zip(*pyramids, strict=True)]
        return [each * weigh(each.mean((2, 3)))[:, :, None, None] for each, weigh in zip(joined, self.weigh, strict=True)]


def _u_shape(x: Tensor, down: nn.Module, up: nn.Module, out: nn.Module) -> Maps:
    """One thinned U: down by strides of 2, up again with sums, one output per scale, finest first."""
    assert isinstance(down, nn.ModuleList)
    assert isinstance(up, nn.ModuleList)
    assert isinstance(out, nn.ModuleList)
    way = [x]
    for step in down:
        way.append(step(way[-1]))
    found = [out[-1](way[-1])]
    x = way[-1]
    for index in range(len(way) - 2, -1, -1):
        x = F.interpolate(up[index](x), size=way[index].shape[2:]) + way[index]
        found.insert(0, out[index](x))
    return found
