"""Residual nets: ResNet, Wide ResNet, ResNeXt, pre-activation ResNet, PyramidNet, Darknet-53."""

import itertools
from collections.abc import Callable

from torch import nn

from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.bricks import Residual, Widen, conv, norm_of, plain_conv, pre_conv

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECK = 50  # from this depth on, blocks have three convolutions

Block = Callable[[int, int, int], nn.Module]  # (input channels, width, stride)


def _assemble(in_channels: int, stem: nn.Module, width: int, blocks: tuple[int, ...], grow: int, block: Block) -> list[nn.Module]:
    """Stem and stages for large images: a stem of stride 2, max pooling of stride 2, and stages of doubling width."""
    stages: list[nn.Module] = [stem]
    i = width
    for index, count in enumerate(blocks):
        o = width << index
        parts: list[nn.Module] = [nn.MaxPool2d(3, 2, padding=1)] if index == 0 else []
        for number in range(count):
            parts.append(block(i, o, 2 if index and number == 0 else 1))
            i = o * grow
        stages.append(nn.Sequential(*parts))
    return stages


def _cifar(in_channels: int, stem: nn.Module, widths: tuple[int, int, int], count: int, block: Block) -> list[nn.Module]:
    """Three stages for images of 32x32, the stem being part of the first."""
    stages: list[nn.Module] = []
    i = 16
    for index, o in enumerate(widths):
        parts: list[nn.Module] = [stem] if index == 0 else []
        for number in range(count):
            parts.append(block(i, o, 2 if index and number == 0 else 1))
            i = o
        stages.append(nn.Sequential(*parts))
    return stages


def _basic(norm: str) -> Block:
    """Two 3x3 convolutions (He et al. 2015, figure 5 left)."""

    def block(i: int, width: int, stride: int) -> nn.Module:
        body = nn.Sequential(conv(i, width, 3, stride, norm=norm), conv(width, width, norm=norm, act="none"))
        same = i == width and stride == 1
        return Residual(body, None if same else conv(i, width, 1, stride, norm=norm, act="none"))

    return block


def _bottleneck(norm: str, groups: int = 1, base: int = 64) -> Block:
    """1x1, 3x3 (with the stride) and 1x1 convolutions (figure 5 right); `groups` of `base` channels: ResNeXt (Xie et al. 2017)."""

    def block(i: int, width: int, stride: int) -> nn.Module:
        inner, o = width * base // 64 * groups, 4 * width
        body = nn.Sequential(
            conv(i, inner, 1, norm=norm),
            conv(inner, inner, 3, stride, norm=norm, groups=groups),
            conv(inner, o, 1, norm=norm, act="none"),
        )
        same = i == o and stride == 1
        return Residual(body, None if same else conv(i, o, 1, stride, norm=norm, act="none"))

    return block


def resnet(in_channels: int, norm: str, layers: int, groups: int = 1, base: int = 64) -> Backbone:
    """ResNet (He et al. 2015, table 1); `base` = 128: Wide ResNet-2 (Zagoruyko & Komodakis 2016); `groups` = 32: ResNeXt."""
    stem = conv(in_channels, 64, 7, 2, norm=norm)
    deep = layers >= BOTTLENECK
    block = _bottleneck(norm, groups, base) if deep else _basic(norm)
    return Backbone(_assemble(in_channels, stem, 64, BLOCKS[layers], 4 if deep else 1, block), in_channels)


def resnet_cifar(in_channels: int, norm: str, layers: int) -> Backbone:
    """ResNet for images of 32x32 (He et al. 2015, section 4.2), with convolutions in the shortcuts that change the size."""
    stem = conv(in_channels, 16, norm=norm)
    return Backbone(_cifar(in_channels, stem, (16, 32, 64), (layers - 2) // 6, _basic(norm)), in_channels)


def _pre(norm: str, deep: bool) -> Block:
    """Pre-activation blocks (He et al. 2016): normalisation and ReLU before each convolution, no activation after the sum."""

    def block(i: int, width: int, stride: int) -> nn.Module:
        o = 4 * width if deep else width
        same = i == o and stride == 1
        first = 1 if deep else 3
        # Where the size changes, both branches take the normalised input, otherwise only the body does.
        entry = None if same else nn.Sequential(norm_of(norm, i), nn.ReLU(inplace=norm != "none"))
        step = 1 if deep else stride
        opening = (
            pre_conv(i, width, first, step, norm=norm) if entry is None else plain_conv(i, width, first, step, bias=norm == "none")
        )
        rest = [pre_conv(width, width, 3, stride, norm=norm), pre_conv(width, o, 1, norm=norm)] if deep else []
        body = nn.Sequential(opening, *(rest or [pre_conv(width, width, norm=norm)]))
        return Residual(body, None if same else plain_conv(i, o, 1, stride, bias=norm == "none"), act=False, entry=entry)

    return block


def _ending(stages: list[nn.Module], norm: str, channels: int) -> list[nn.Module]:
    """Appends the final normalisation and ReLU that nets of pre-activation blocks need."""
    return [*stages[:-1], nn.Sequential(stages[-1], norm_of(norm, channels), nn.ReLU(inplace=norm != "none"))]


def preresnet(in_channels: int, norm: str, layers: int) -> Backbone:
    """Pre-activation ResNet (He et al. 2016, Identity Mappings in Deep Residual Networks)."""
    deep = layers >= BOTTLENECK
    stem = conv(in_channels, 64, 7, 2, norm=norm)
    stages = _assemble(in_channels, stem, 64, BLOCKS[layers], 4 if deep else 1, _pre(norm, deep))
    return Backbone(_ending(stages, norm, 2048 if deep else 512), in_channels)


def preresnet_cifar(in_channels: int, norm: str, layers: int, widen: int = 1) -> Backbone:
    """Pre-activation ResNet for images of 32x32; with `widen` = k, WRN-n-k (Zagoruyko & Komodakis 2016)."""
    widths = (16 * widen, 32 * widen, 64 * widen)
    stem = plain_conv(in_channels, 16, bias=norm == "none")
    count = (layers - (2 if widen == 1 else 4)) // 6
    stages = _cifar(in_channels, stem, widths, count, _pre(norm, deep=False))
    return Backbone(_ending(stages, norm, widths[-1]), in_channels)


def pyramidnet_cifar(in_channels: int, norm: str, layers: int, alpha: int, deep: bool = False) -> Backbone:
    """PyramidNet (Han et al. 2017): the width grows from block to block, by `alpha` in all; shortcuts are padded with zeros."""
    count = (layers - 2) // (9 if deep else 6)
    widths = list(itertools.accumulate([alpha / (3 * count)] * (3 * count), initial=16.0))[1:]
    stages: list[nn.Module] = []
    i = 16
    for index in range(3):
        parts: list[nn.Module] = [conv(in_channels, 16, norm=norm, act="none")] if index == 0 else []
        for number in range(count):
            width, stride = round(widths[index * count + number]), 2 if index and number == 0 else 1
            o = 4 * width if deep else width
            if deep:
                body = [
                    pre_conv(i, width, 1, norm=norm, act=False),
                    pre_conv(width, width, 3, stride, norm=norm),
                    pre_conv(width, o, 1, norm=norm),
                ]
            else:
                body = [pre_conv(i, width, 3, stride, norm=norm, act=False), pre_conv(width, width, norm=norm)]
            parts.append(Residual(nn.Sequential(*body, norm_of(norm, o)), Widen(o, stride), act=False))
            i = o
        stages.append(nn.Sequential(*parts))
    return Backbone(_ending(stages, norm, i), in_channels)


def darknet53(in_channels: int, norm: str = "batch") -> Backbone:
    """Darknet-53 (Redmon & Farhadi 2018, YOLOv3, table 1)."""
    stages: list[nn.Module] = [conv(in_channels, 32, norm=norm, act="leaky")]
    for index, count in enumerate((1, 2, 8, 8, 4)):
        i = 32 << index
        parts: list[nn.Module] = [conv(i, 2 * i, 3, 2, norm=norm, act="leaky")]
        for _ in range(count):
            body = nn.Sequential(conv(2 * i, i, 1, norm=norm, act="leaky"), conv(i, 2 * i, norm=norm, act="leaky"))
            parts.append(Residual(body, act=False))
        stages.append(nn.Sequential(*parts))
    return Backbone(stages, in_channels)
