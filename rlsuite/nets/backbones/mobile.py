"""Nets of depthwise separable convolutions: MobileNet v1 and v2, EfficientNet."""

import math

import torch
from torch import Tensor, nn

from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.bricks import Excite, Residual, conv


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` nearest to `channels`, but at most a tenth below it (as in the code of Sandler et al. 2018)."""
    near = max(by, int(channels + by / 2) // by * by)
    return near + by if near < 0.9 * channels else near


def _by_stride(layers: list[tuple[int, nn.Module]]) -> list[nn.Module]:
    """Groups consecutive (stride, layer) into stages, each of which begins with a layer of stride 2."""
    groups: list[list[nn.Module]] = []
    for stride, layer in layers:
        if stride == 2 or not groups:
            groups.append([])
        groups[-1].append(layer)
    return [nn.Sequential(*group) for group in groups]


def mobilenet_v1(in_channels: int, norm: str = "batch", percent: int = 100) -> Backbone:
    """MobileNet v1 (Howard et al. 2017, table 1) with `percent` of its channels: 100, 75, 50 or 25."""

    def wide(channels: int) -> int:
        return max(1, channels * percent // 100)

    layers: list[tuple[int, nn.Module]] = [(2, conv(in_channels, wide(32), 3, 2, norm=norm))]
    i = wide(32)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for channels, stride in plan:
        o = wide(channels)
        layers.append((stride, nn.Sequential(conv(i, i, 3, stride, norm=norm, groups=i), conv(i, o, 1, norm=norm))))
        i = o
    return Backbone(_by_stride(layers), in_channels)


class StochasticDepth(nn.Module):
    """In training, drops the branch for an image with probability `p`, and scales it up otherwise (Huang et al. 2016)."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> [N,C,H,W]."""
        if not self.training or self.p == 0:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.p
        return x * kept / (1 - self.p)


def inverted(
    i: int, o: int, kernel: int, stride: int, expand: int, *, norm: str, act: str, excite: bool, drop: float = 0.0, epsilon: float
) -> nn.Module:
    """Inverted residual block (Sandler et al. 2018, figure 3b): expansion, depthwise convolution, linear projection.

    `excite`: with squeeze and excitation before the projection (Tan & Le 2019). `drop`: probability of stochastic depth.
    """
    wide = i * expand
    parts: list[nn.Module] = [] if expand == 1 else [conv(i, wide, 1, norm=norm, act=act, epsilon=epsilon)]
    parts.append(conv(wide, wide, kernel, stride, norm=norm, act=act, groups=wide, epsilon=epsilon))
    if excite:
        parts.append(Excite(wide, max(1, i // 4), act))
    parts.append(conv(wide, o, 1, norm=norm, act="none", epsilon=epsilon))
    if i != o or stride != 1:
        return nn.Sequential(*parts)
    return Residual(nn.Sequential(*parts, *([StochasticDepth(drop)] if drop else [])), act=False)


def mobilenet_v2(in_channels: int, norm: str = "batch") -> Backbone:
    """MobileNet v2 (Sandler et al. 2018, table 2)."""
    layers: list[tuple[int, nn.Module]] = [(2, conv(in_channels, 32, 3, 2, norm=norm, act="relu6"))]
    i = 32
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, o, count, first in plan:
        for number in range(count):
            stride = first if number == 0 else 1
            layers.append((stride, inverted(i, o, 3, stride, expand, norm=norm, act="relu6", excite=False, epsilon=1e-5)))
            i = o
    layers.append((1, conv(i, 1280, 1, norm=norm, act="relu6")))
    return Backbone(_by_stride(layers), in_channels)


# Factors on width and depth, b0 to b7.
SCALES = [(1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8), (1.6, 2.2), (1.8, 2.6), (2.0, 3.1)]


def efficientnet(in_channels: int, norm: str, size: int) -> Backbone:
    """EfficientNet (Tan & Le 2019, table 1); `size`: 0 to 7 for b0 to b7."""
    width, depth = SCALES[size]
    epsilon = 1e-3 if size >= 5 else 1e-5
    plan = [
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ]
    counts = [math.ceil(count * depth) for *_, count in plan]
    i = divisible(32 * width)
    layers: list[tuple[int, nn.Module]] = [(2, conv(in_channels, i, 3, 2, norm=norm, act="silu", epsilon=epsilon))]
    done = 0
    for (expand, kernel, first, channels, _), count in zip(plan, counts, strict=True):
        o = divisible(channels * width)
        for number in range(count):
            stride, drop = first if number == 0 else 1, 0.2 * done / sum(counts)
            block = inverted(i, o, kernel, stride, expand, norm=norm, act="silu", excite=True, drop=drop, epsilon=epsilon)
            layers.append((stride, block))
            i, done = o, done + 1
    layers.append((1, conv(i, 4 * i, 1, norm=norm, act="silu", epsilon=epsilon)))
    return Backbone(_by_stride(layers), in_channels)
