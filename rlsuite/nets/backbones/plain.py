"""Nets without shortcuts: LeNet, AlexNet, VGG, SqueezeNet, DCGAN's discriminator, and the embedding of one-hot planes."""

from torch import nn

from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.bricks import Branches, act_of, chain, conv, norm_of


def lenet(in_channels: int, norm: str = "none") -> Backbone:
    """LeNet-5 (LeCun et al. 1998) as used today: with ReLU, and the second convolution takes all six maps of the first."""
    first = nn.Conv2d(in_channels, 6, 5, padding=2)
    second = nn.Conv2d(6, 16, 5)
    stages: list[nn.Module] = [
        nn.Sequential(first, norm_of(norm, 6), nn.ReLU(inplace=True)),
        nn.Sequential(nn.MaxPool2d(2), second, norm_of(norm, 16), nn.ReLU(inplace=True)),
        nn.MaxPool2d(2),
    ]
    return Backbone(stages, in_channels)


def alexnet(in_channels: int, norm: str = "none") -> Backbone:
    """AlexNet, the single-tower variant (Krizhevsky 2014, One Weird Trick)."""
    first = nn.Conv2d(in_channels, 64, 11, 4, padding=2, bias=norm == "none")
    stages: list[nn.Module] = [
        nn.Sequential(first, norm_of(norm, 64), nn.ReLU(inplace=True)),
        nn.Sequential(nn.MaxPool2d(3, 2), conv(64, 192, 5, norm=norm)),
        nn.Sequential(nn.MaxPool2d(3, 2), conv(192, 384, norm=norm), conv(384, 256, norm=norm), conv(256, 256, norm=norm)),
        nn.MaxPool2d(3, 2),
    ]
    return Backbone(stages, in_channels)


VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions in each stage


def vgg(in_channels: int, norm: str, layers: int) -> Backbone:
    """VGG-11, 13, 16 or 19 (Simonyan & Zisserman 2015, table 1: columns A, B, D, E)."""
    stages: list[nn.Module] = []
    i = in_channels
    for index, count in enumerate(VGG[layers]):
        width = min(64 << index, 512)
        parts: list[nn.Module] = [nn.MaxPool2d(2)] if index else []
        for _ in range(count):
            parts.append(conv(i, width, norm=norm, bias=True))
            i = width
        stages.append(chain(parts))
    return Backbone([*stages, nn.MaxPool2d(2)], in_channels)


def squeezenet(in_channels: int, norm: str, version: int) -> Backbone:
    """SqueezeNet (Iandola et al. 2016): 0 is version 1.0, as in the paper; 1 is version 1.1, which costs 2.4 times less."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    def fire(i: int, squeezed: int) -> nn.Module:
        o = 4 * squeezed
        return nn.Sequential(
            conv(i, squeezed, 1, norm=norm), Branches(conv(squeezed, o, 1, norm=norm), conv(squeezed, o, 3, norm=norm))
        )

    if version == 0:
        stem = conv(in_channels, 96, 7, 2, norm=norm, valid=True)
        groups = [[(96, 16), (128, 16), (128, 32)], [(256, 32), (256, 48), (384, 48), (384, 64)], [(512, 64)]]
    else:
        stem = conv(in_channels, 64, 3, 2, norm=norm, valid=True)
        groups = [[(64, 16), (128, 16)], [(128, 32), (256, 32)], [(256, 48), (384, 48), (384, 64), (512, 64)]]
    stages = [nn.Sequential(pool(), *(fire(i, squeezed) for i, squeezed in group)) for group in groups]
    return Backbone([stem, *stages], in_channels)


def dcgan(in_channels: int, norm: str = "batch", width: int = 64, depth: int = 4) -> Backbone:
    """DCGAN's discriminator (Radford et al. 2016, section 3 and figure 1): `depth` 4x4 convolutions of stride 2, leaky ReLU of 0.2.

    `width`: channels of the first, which has no normalisation; every further one has twice as many.
    """
    stages: list[nn.Module] = []
    i = in_channels
    for index in range(depth):
        layer = nn.Conv2d(i, width << index, 4, 2, padding=1, bias=norm == "none")
        between = [norm_of(norm, width << index)] if index and norm != "none" else []
        stages.append(nn.Sequential(layer, *between, act_of("leaky2")))
        i = width << index
    return Backbone(stages, in_channels)


def embedding(in_channels: int, norm: str = "none", width: int = 64) -> Backbone:
    """A vector of `width` numbers for each plane of one-hot pictures, such as texts with a plane for each letter."""
    return Backbone([nn.Sequential(nn.Conv2d(in_channels, width, 1, bias=False), norm_of(norm, width))], in_channels)
