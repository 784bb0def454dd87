"""CNN backbones: x [N,C,H,W] -> list of feature maps, finest first. One explicit dict of builders."""

from collections.abc import Callable

from rlsuite.calls import check_keywords, parse_call
from rlsuite.errors import UsageError, unknown
from rlsuite.nets.backbones.atari import impala, nature, small
from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.tower import tower

BACKBONES: dict[str, Callable[..., Backbone]] = {  # name -> builder(input channels, parameters of its own)
    "nature": nature,
    "impala": impala,
    "small": small,
    "tower": tower,
}

__all__ = ["BACKBONES", "Backbone", "make_backbone"]


def make_backbone(name: str, in_channels: int) -> Backbone:
    """`nature`, or with parameters `tower(width=64,depth=5)`. UsageError for what there is not."""
    kind, parameters = parse_call("backbone", name)
    if kind not in BACKBONES:
        raise unknown("backbone", kind, BACKBONES)
    check_keywords(kind, BACKBONES[kind], parameters, skip=1)
    if not all(isinstance(value, int) and value > 0 for value in parameters.values()):
        raise UsageError(f"{name}: parameters of a backbone are whole numbers above 0")
    return BACKBONES[kind](in_channels, **parameters)
