"""The convolutional nets of the Atari papers."""

from torch import nn

from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.bricks import ConvReLU, RectifiedConv2d, Residual, SpectralConv2d, conv, norm_of, pre_conv

Widths = tuple[int, int, int]  # of three convolutions


def _three_convs(in_channels: int, widths: Widths, slope: float, norm: str, rectify: bool) -> Backbone:
    """Three convolutions of 8x8, 4x4 and 3x3 without padding; `slope`: of the leaky ReLU below 0, whose gradient takes longer.

    With `rectify` the first one is a `RectifiedConv2d`, which sees neither the sign nor the size of a contrast.
    """
    a, b, c = widths
    stages: list[nn.Module] = []
    for i, o, kernel, stride in ((in_channels, a, 8, 4), (a, b, 4, 2), (b, c, 3, 1)):
        if rectify and not stages:
            stages.append(RectifiedConv2d(i, o, kernel, stride))
            continue
        convolution = nn.Conv2d(i, o, kernel, stride, bias=norm == "none")
        if norm == "none" and not slope:
            stages.append(ConvReLU(convolution, nn.ReLU(inplace=True)))
            continue
        between = [] if norm == "none" else [norm_of(norm, o)]
        act = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
        stages.append(nn.Sequential(convolution, *between, act))
    return Backbone(stages, in_channels)


def nature(in_channels: int, norm: str = "none", widths: Widths = (32, 64, 64), rectify: bool = False) -> Backbone:
    """Mnih et al. 2015, Methods: 32 8x8 stride 4, 64 4x4 stride 2, 64 3x3 stride 1, no padding. `widths`: of the three.

    `rectify`: the same features for an image and its negative, and for faint objects and bright ones.
    """
    return _three_convs(in_channels, widths, 0.0, norm, rectify)


def small(in_channels: int, norm: str = "none", widths: Widths = (16, 32, 32), rectify: bool = False) -> Backbone:
    """`nature` with half the filters, for about twice the speed on a laptop's CPU, and leaky ReLU.

    With so few filters and the learning rates that make it learn fast, plain ReLU lost a whole layer in one run of Pong: all its
    units were 0 on every image, and Q was constant.
    """
    return _three_convs(in_channels, widths, 0.1, norm, rectify)


def data_efficient(in_channels: int, norm: str = "none", widths: tuple[int, int] = (32, 64)) -> Backbone:
    """van Hasselt et al. 2019, appendix: 32 5x5 stride 5, 64 5x5 stride 5, no padding; a sixth of the cost of `nature`."""
    a, b = widths
    convs: list[nn.Module] = [conv(i, o, 5, 5, norm=norm, valid=True) for i, o in ((in_channels, a), (a, b))]
    return Backbone(convs, in_channels)


def impala(in_channels: int, norm: str = "none", scale: int = 1, spectral: bool = False) -> Backbone:
    """Espeholt et al. 2018, figure 3 (deep): sections of 16, 32 and 32 channels times `scale`, with two residual blocks each.

    `spectral`: the convolutions of the blocks are divided by their spectral norm, as in Beyond The Rainbow (Clark et al. 2024).
    """
    stages: list[nn.Module] = []
    widths = [16 * scale, 32 * scale, 32 * scale]
    i = in_channels
    for index, width in enumerate(widths):
        section: list[nn.Module] = [nn.Conv2d(i, width, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
        for _ in range(2):
            layers = [SpectralConv2d(width, width, 3) if spectral else None for _ in range(2)]
            body = nn.Sequential(*(pre_conv(width, width, norm=norm, layer=layer) for layer in layers))
            section.append(Residual(body, act=False))
        if index == len(widths) - 1:
            section.append(nn.ReLU())
        stages.append(nn.Sequential(*section))
        i = width
    return Backbone(stages, in_channels)
