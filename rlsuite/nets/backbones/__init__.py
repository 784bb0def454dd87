"""CNN backbones: x [N,C,H,W] -> list of feature maps, finest first. One explicit dict of builders."""

from collections.abc import Callable

from rlsuite.nets.backbones.atari import impala, nature, small
from rlsuite.nets.backbones.base import Backbone

BACKBONES: dict[str, Callable[[int], Backbone]] = {  # name -> builder(input channels)
    "nature": nature,
    "impala": impala,
    "small": small,
}

__all__ = ["BACKBONES", "Backbone"]
