"""The torsos of the Atari papers."""

import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.nets.backbones.base import Backbone


def _three_convs(in_channels: int, widths: tuple[int, int, int], slope: float) -> Backbone:
    """`slope` of the units below 0."""
    a, b, c = widths
    shapes = [(in_channels, a, 8, 4), (a, b, 4, 2), (b, c, 3, 1)]
    stages: list[nn.Module] = [nn.Sequential(nn.Conv2d(*shape), nn.LeakyReLU(slope, inplace=True)) for shape in shapes]
    return Backbone(stages, channels=[a, b, c], strides=[4, 8, 8])


def nature(in_channels: int) -> Backbone:
    """Mnih et al. 2015, Methods: 32 8x8 stride 4, 64 4x4 stride 2, 64 3x3 stride 1, no padding."""
    return _three_convs(in_channels, (32, 64, 64), slope=0.0)


def small(in_channels: int) -> Backbone:
    """The same with half the filters, for about twice the speed on a laptop's CPU, and leaky units.

    With so few filters and the step sizes that make it learn fast, plain ReLU lost a whole layer in one of the runs of Pong: every
    unit of it was 0 on every picture, and Q a constant.
    """
    return _three_convs(in_channels, (16, 32, 32), slope=0.1)


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + inner


def impala(in_channels: int) -> Backbone:
    """Espeholt et al. 2018, figure 3 (the deep one): three sections of 16, 32, 32 with two residual blocks each."""
    stages: list[nn.Module] = []
    widths = [16, 32, 32]
    for index, width in enumerate(widths):
        section = [nn.Conv2d(in_channels, width, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
        section += [Residual(width), Residual(width)]
        if index == len(widths) - 1:
            section.append(nn.ReLU())
        stages.append(nn.Sequential(*section))
        in_channels = width
    return Backbone(stages, channels=widths, strides=[2, 4, 8])
