"""DenseNet (Huang et al. 2017): within a block, every layer takes the outputs of all layers before it."""

import torch
from torch import Tensor, nn

from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.bricks import conv, norm_of, plain_conv, pre_conv

BLOCKS = {121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}


class Dense(nn.Module):
    """Concatenates x and inner(x) along the channels."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> [N,C+growth,H,W]."""
        return torch.cat([x, self.inner(x)], 1)


def _layers(i: int, count: int, growth: int, norm: str, bottleneck: bool) -> tuple[list[nn.Module], int]:
    """The layers of a block, and the number of channels after them."""
    parts: list[nn.Module] = []
    for _ in range(count):
        wide = 4 * growth
        inner = (
            [pre_conv(i, wide, 1, norm=norm), pre_conv(wide, growth, norm=norm)] if bottleneck else [pre_conv(i, growth, norm=norm)]
        )
        parts.append(Dense(nn.Sequential(*inner)))
        i += growth
    return parts, i


def _stages(
    opening: list[nn.Module], i: int, blocks: tuple[int, ...], growth: int, norm: str, bottleneck: bool, theta: float
) -> list[nn.Module]:
    """The stages of a net, one per block; `theta`: the fraction of the channels that a transition keeps."""
    stages: list[nn.Module] = []
    for index, count in enumerate(blocks):
        if index:
            o = int(i * theta)
            opening = [pre_conv(i, o, 1, norm=norm), nn.AvgPool2d(2)]
            i = o
        layers, i = _layers(i, count, growth, norm, bottleneck)
        stages.append(nn.Sequential(*opening, *layers))
    stages[-1] = nn.Sequential(stages[-1], norm_of(norm, i), nn.ReLU(inplace=norm != "none"))
    return stages


def densenet(in_channels: int, norm: str, layers: int) -> Backbone:
    """DenseNet-121, 161, 169 or 201 (table 1): growth rate 32, but 48 for 161."""
    growth, first = (48, 96) if layers == 161 else (32, 64)
    stem = conv(in_channels, first, 7, 2, norm=norm)
    pool: list[nn.Module] = [nn.MaxPool2d(3, 2, padding=1)]
    return Backbone([stem, *_stages(pool, first, BLOCKS[layers], growth, norm, True, 0.5)], in_channels)


def densenet_cifar(in_channels: int, norm: str, layers: int, growth: int, bottleneck: bool) -> Backbone:
    """DenseNet for images of 32x32 (section 4.2); with `bottleneck`, DenseNet-BC."""
    count = (layers - 4) // (6 if bottleneck else 3)
    first = 2 * growth if bottleneck else 16
    stem: list[nn.Module] = [plain_conv(in_channels, first, bias=norm == "none")]
    return Backbone(_stages(stem, first, (count,) * 3, growth, norm, bottleneck, 0.5 if bottleneck else 1.0), in_channels)
