"""Segmentation heads: a class for every pixel. Shapes: N images, K classes, H x W pixels of the image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.nets.backbones import Backbone
from rlsuite.nets.backbones.bricks import Widen, conv
from rlsuite.vision.head import Head
from rlsuite.vision.necks import Maps

IGNORED = 255  # label of pixels that are left out of losses and metrics


class PixelHead(Head):
    """Base class: subclasses define `logits` of any size, which are interpolated to the size of the image."""

    def logits(self, maps: Maps) -> Tensor:
        """Logits [N,K,h,w]; h and w may be smaller than the image's."""
        raise NotImplementedError

    def forward(self, maps: Maps, images: Tensor) -> Tensor:
        """Logits [N,K,H,W] f32."""
        return F.interpolate(self.logits(maps).float(), size=list(images.shape[2:]), mode="bilinear")

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy [N] against `mask` [N,H,W], and metrics."""
        logits, mask = self(maps, images), labels["mask"].long()
        counted = (mask != IGNORED).sum((1, 2)).clamp(min=1)
        loss = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="none").sum((1, 2)) / counted
        right = ((logits.detach().argmax(1) == mask).sum((1, 2)) / counted).mean()
        return loss, {"losses/pixel_accuracy": right}

    def predict(self, maps: Maps, images: Tensor) -> Tensor:
        """Classes [N,H,W] i64."""
        return self.forward(maps, images).argmax(1)


class Fcn(PixelHead):
    """FCN (Long et al. 2015) in its modern form: 3x3 convolution, then classes; scores of `skips` finer maps are added going up.

    With 2 skips, from strides 32, 16, 8, this is FCN-8s.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, skips: int = 0):
        super().__init__()
        inner = channels[-1] // 4
        self.body = nn.Sequential(conv(channels[-1], inner, norm="batch"), nn.Dropout(0.1), nn.Conv2d(inner, classes, 1))
        finer = [index for index in range(len(strides) - 1) if strides[index] < strides[index + 1]]
        if skips > len(finer):
            raise ValueError(f"{skips} skips, but the backbone has {len(finer)} finer maps")
        self.at = finer[::-1][:skips]
        self.scores = nn.ModuleList(nn.Conv2d(channels[index], classes, 1) for index in self.at)

    def logits(self, maps: Maps) -> Tensor:
        x: Tensor = self.body(maps[-1])
        for index, score in zip(self.at, self.scores, strict=True):
            x = F.interpolate(x, size=maps[index].shape[2:], mode="bilinear") + score(maps[index])
        return x


class UNet(PixelHead):
    """U-Net (Ronneberger et al. 2015): from coarse to fine, joined with the backbone's map at every scale, two convolutions.

    Maps are resized to fit, so any image size works.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, width: int = 32):
        super().__init__()
        self.at = [index for index in range(len(strides) - 1) if strides[index] < strides[index + 1]][::-1]
        self.steps = nn.ModuleList()
        i = channels[-1]
        for place, index in enumerate(self.at):
            o = max(width, min(width << (len(self.at) - 1 - place), 256))
            self.steps.append(nn.Sequential(conv(i + channels[index], o, norm="batch"), conv(o, o, norm="batch")))
            i = o
        # The image itself is finer than the first map, where the backbone begins with a stride.
        self.last = nn.Sequential(conv(i, width, norm="batch"), nn.Conv2d(width, classes, 1))
        self.first = strides[0]

    def logits(self, maps: Maps) -> Tensor:
        x = maps[-1]
        for index, step in zip(self.at, self.steps, strict=True):
            x = step(torch.cat([F.interpolate(x, size=maps[index].shape[2:], mode="bilinear"), maps[index]], 1))
        if self.first > 1:
            x = F.interpolate(x, scale_factor=float(self.first), mode="bilinear")
        return self.last(x)  # type: ignore[no-any-return]


class SegNet(PixelHead):
    """SegNet (Badrinarayanan et al. 2017): upsampling puts values back where pooling found the maxima.

    Each map is the last one before a pooling, so these are the positions of the maxima of the map itself.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int):
        super().__init__()
        self.at = [index for index in range(len(strides) - 1) if strides[index + 1] == 2 * strides[index]][::-1]
        self.enter, self.steps = nn.ModuleList(), nn.ModuleList()
        i = channels[-1]
        for place, index in enumerate(self.at):
            o = channels[self.at[place + 1]] if place + 1 < len(self.at) else channels[index]
            self.enter.append(conv(i, channels[index], 1, norm="batch") if i != channels[index] else nn.Identity())
            self.steps.append(
                nn.Sequential(conv(channels[index], channels[index], norm="batch"), conv(channels[index], o, norm="batch"))
            )
            i = o
        self.last = nn.Conv2d(i, classes, 3, padding=1)

    def logits(self, maps: Maps) -> Tensor:
        x = maps[-1]
        for index, enter, step in zip(self.at, self.enter, self.steps, strict=True):
            pooled, places = F.max_pool2d(maps[index], 2, ceil_mode=True, return_indices=True)
            x = enter(x)
            x = F.interpolate(x, size=pooled.shape[2:]) if x.shape[2:] != pooled.shape[2:] else x
            height, width = maps[index].shape[2:]
            flat = torch.zeros(*x.shape[:2], height * width, dtype=x.dtype, device=x.device)
            x = flat.scatter(2, places.flatten(2), x.flatten(2)).view(*x.shape[:2], height, width)
            x = step(x)
        return self.last(x)  # type: ignore[no-any-return]


class DeepLab(PixelHead):
    """DeepLab v3 (Chen et al. 2017): atrous spatial pyramid pooling on the last map, which `dilate` keeps fine."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, width: int = 256):
        super().__init__()
        i = channels[-1]
        rates = [max(1, rate * 8 // max(strides[-1], 8)) for rate in (12, 24, 36)]  # at stride 8; half of them at 16
        self.branches = nn.ModuleList([conv(i, width, 1, norm="batch")])
        for rate in rates:
            dilated = nn.Conv2d(i, width, 3, padding=rate, dilation=rate, bias=False)
            self.branches.append(nn.Sequential(dilated, nn.BatchNorm2d(width), nn.ReLU(inplace=True)))
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(i, width, 1, norm="batch"))
        self.project = nn.Sequential(conv(5 * width, width, 1, norm="batch"), nn.Dropout(0.5))
        self.last = nn.Sequential(conv(width, width, norm="batch"), nn.Conv2d(width, classes, 1))

    def logits(self, maps: Maps) -> Tensor:
        x = maps[-1]
        whole = self.whole(x).expand(-1, -1, *x.shape[2:])
        return self.last(self.project(torch.cat([*(branch(x) for branch in self.branches), whole], 1)))  # type: ignore[no-any-return]


def dilate(backbone: Backbone, stride: int) -> Backbone:
    """Replaces strides beyond `stride` by dilations, in place: finer last maps from the same weights (Chen et al. 2015).

    As in DeepLab's ResNets, the convolution that loses its stride keeps the dilation so far, and those after it double it.
    ValueError if no map of the backbone has that stride, or the backbone pools where it would have to dilate.
    """
    if stride not in backbone.strides:
        raise ValueError(f"output_stride {stride} is none of the backbone's strides {sorted(set(backbone.strides))}")
    if any(isinstance(module, Widen) for module in backbone.modules()):
        raise ValueError("its shortcuts pool where it would have to dilate: use one that strides, such as a ResNet")
    seen, dilation = 1, 1
    for stage, total in zip(backbone.stages, backbone.strides, strict=True):
        if total <= stride:
            seen = total
            continue
        before, dilation = dilation, dilation * total // max(seen, 1)
        seen, first = total, True
        for module in stage.modules():
            if isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and module.stride not in (1, (1, 1)):
                raise ValueError("the backbone pools where it would have to dilate: use one that strides, such as a ResNet")
            if not isinstance(module, nn.Conv2d):
                continue
            rate = before if first and max(module.kernel_size) > 1 else dilation
            if max(module.kernel_size) > 1:
                first = False
                module.dilation = (rate, rate)
                module.padding = tuple(rate * (size // 2) for size in module.kernel_size)
            module.stride = (1, 1)
    backbone.strides = tuple(min(each, stride) for each in backbone.strides)
    return backbone
