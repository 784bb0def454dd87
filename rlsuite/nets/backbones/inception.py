"""GoogLeNet and Inception v3, with batch normalisation and without the auxiliary classifiers."""

from functools import partial

from torch import nn

from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.bricks import Branches, conv

EPSILON = 1e-3  # of the batch normalisation


def googlenet(in_channels: int, norm: str = "batch") -> Backbone:
    """GoogLeNet (Szegedy et al. 2015, table 1), but with 3x3 filters in the 5x5 branches, as in all published weights."""
    unit = partial(conv, norm=norm, epsilon=EPSILON)

    def pool(size: int = 3) -> nn.Module:
        return nn.MaxPool2d(size, 2, ceil_mode=True)

    def mix(i: int, a: int, b1: int, b2: int, c1: int, c2: int, d: int) -> nn.Module:
        side = nn.Sequential(nn.MaxPool2d(3, 1, padding=1, ceil_mode=True), unit(i, d, 1))
        return Branches(
            unit(i, a, 1), nn.Sequential(unit(i, b1, 1), unit(b1, b2)), nn.Sequential(unit(i, c1, 1), unit(c1, c2)), side
        )

    stages: list[nn.Module] = [
        unit(in_channels, 64, 7, 2),
        nn.Sequential(pool(), unit(64, 64, 1), unit(64, 192)),
        nn.Sequential(pool(), mix(192, 64, 96, 128, 16, 32, 32), mix(256, 128, 128, 192, 32, 96, 64)),
        nn.Sequential(
            pool(),
            mix(480, 192, 96, 208, 16, 48, 64),
            mix(512, 160, 112, 224, 24, 64, 64),
            mix(512, 128, 128, 256, 24, 64, 64),
            mix(512, 112, 144, 288, 32, 64, 64),
            mix(528, 256, 160, 320, 32, 128, 128),
        ),
        nn.Sequential(pool(2), mix(832, 256, 160, 320, 32, 128, 128), mix(832, 384, 192, 384, 48, 128, 128)),
    ]
    return Backbone(stages, in_channels)


def inception_v3(in_channels: int, norm: str = "batch") -> Backbone:
    """Inception v3 (Szegedy et al. 2016, table 1 and figures 5-7, 10). Without padding in early layers: at least 75 pixels."""
    unit = partial(conv, norm=norm, epsilon=EPSILON)
    row, column = (1, 7), (7, 1)

    def average(i: int, o: int) -> nn.Module:
        return nn.Sequential(nn.AvgPool2d(3, 1, padding=1), unit(i, o, 1))

    def a(i: int, pooled: int) -> nn.Module:
        return Branches(
            unit(i, 64, 1),
            nn.Sequential(unit(i, 48, 1), unit(48, 64, 5)),
            nn.Sequential(unit(i, 64, 1), unit(64, 96), unit(96, 96)),
            average(i, pooled),
        )

    def c(wide: int) -> nn.Module:
        return Branches(
            unit(768, 192, 1),
            nn.Sequential(unit(768, wide, 1), unit(wide, wide, row), unit(wide, 192, column)),
            nn.Sequential(
                unit(768, wide, 1),
                unit(wide, wide, column),
                unit(wide, wide, row),
                unit(wide, wide, column),
                unit(wide, 192, row),
            ),
            average(768, 192),
        )

    def e(i: int) -> nn.Module:
        return Branches(
            unit(i, 320, 1),
            nn.Sequential(unit(i, 384, 1), Branches(unit(384, 384, (1, 3)), unit(384, 384, (3, 1)))),
            nn.Sequential(unit(i, 448, 1), unit(448, 384), Branches(unit(384, 384, (1, 3)), unit(384, 384, (3, 1)))),
            average(i, 192),
        )

    smaller = Branches(
        unit(288, 384, 3, 2, valid=True),
        nn.Sequential(unit(288, 64, 1), unit(64, 96), unit(96, 96, 3, 2, valid=True)),
        nn.MaxPool2d(3, 2),
    )
    smallest = Branches(
        nn.Sequential(unit(768, 192, 1), unit(192, 320, 3, 2, valid=True)),
        nn.Sequential(unit(768, 192, 1), unit(192, 192, row), unit(192, 192, column), unit(192, 192, 3, 2, valid=True)),
        nn.MaxPool2d(3, 2),
    )
    stages: list[nn.Module] = [
        nn.Sequential(unit(in_channels, 32, 3, 2, valid=True), unit(32, 32, valid=True), unit(32, 64)),
        nn.Sequential(nn.MaxPool2d(3, 2), unit(64, 80, 1), unit(80, 192, valid=True)),
        nn.Sequential(nn.MaxPool2d(3, 2), a(192, 32), a(256, 64), a(288, 64)),
        nn.Sequential(smaller, c(128), c(160), c(160), c(192)),
        nn.Sequential(smallest, e(1280), e(2048)),
    ]
    return Backbone(stages, in_channels)
