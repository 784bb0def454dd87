"""CNN backbones by name. A backbone maps images x [N,C,H,W] to a list of feature maps, finest first."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from rlsuite.config.spec_string import parse_call
from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.game import Game
from rlsuite.core.lattice import lattice_of
from rlsuite.nets.backbones import densenet, inception, mobile, plain, resnet
from rlsuite.nets.backbones.atari import data_efficient, impala, nature, small
from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.bricks import NORMS
from rlsuite.nets.backbones.graph import graph
from rlsuite.nets.backbones.tower import tower

__all__ = ["BACKBONES", "Backbone", "Entry", "make_backbone", "pool_of"]

POOLS = ("flatten", "gap", "max6")


class Entry(NamedTuple):
    """How to build a backbone, and how it was published."""

    build: Callable[..., Backbone]  # (input channels, norm, further parameters)
    norm: str = "batch"
    pool: str = "gap"  # of the last map in a torso: gap (global average pooling) or flatten
    channels: int = 3
    size: int = 224  # height and width of its images
    classes: int | None = 1000  # None: published without a classifier
    head: str = "linear"  # see `nets.classifier`
    graph: bool = False  # its builder takes a `lattice`


_ATARI = Entry(nature, norm="none", pool="flatten", channels=4, size=84, classes=None)
_CIFAR = Entry(resnet.resnet_cifar, size=32, classes=10)
_VGG = Entry(plain.vgg, head="vgg")

BACKBONES: dict[str, Entry] = {
    "nature": _ATARI,
    "small": _ATARI._replace(build=small),
    "data_efficient": _ATARI._replace(build=data_efficient),
    "impala": _ATARI._replace(build=impala),
    "tower": _ATARI._replace(build=tower, channels=3, size=8),
    "graph": _ATARI._replace(build=graph, channels=3, size=8, graph=True),
    "lenet": Entry(plain.lenet, norm="none", pool="flatten", channels=1, size=28, classes=10, head="lenet"),
    "alexnet": Entry(plain.alexnet, norm="none", head="alexnet"),
    **{f"vgg{n}": _VGG._replace(build=partial(plain.vgg, layers=n), norm="none") for n in plain.VGG},
    **{f"vgg{n}_bn": _VGG._replace(build=partial(plain.vgg, layers=n)) for n in plain.VGG},
    "squeezenet1_0": Entry(partial(plain.squeezenet, version=0), norm="none", head="conv"),
    "squeezenet1_1": Entry(partial(plain.squeezenet, version=1), norm="none", head="conv"),
    "googlenet": Entry(inception.googlenet),
    "inception_v3": Entry(inception.inception_v3, size=299),
    **{f"resnet{n}": Entry(partial(resnet.resnet, layers=n)) for n in resnet.BLOCKS},
    "wide_resnet50_2": Entry(partial(resnet.resnet, layers=50, base=128)),
    "wide_resnet101_2": Entry(partial(resnet.resnet, layers=101, base=128)),
    "resnext50_32x4d": Entry(partial(resnet.resnet, layers=50, groups=32, base=4)),
    "resnext101_32x8d": Entry(partial(resnet.resnet, layers=101, groups=32, base=8)),
    **{f"preresnet{n}": Entry(partial(resnet.preresnet, layers=n)) for n in resnet.BLOCKS},
    **{f"resnet{n}_cifar": _CIFAR._replace(build=partial(resnet.resnet_cifar, layers=n)) for n in (20, 56, 110)},
    **{f"preresnet{n}_cifar": _CIFAR._replace(build=partial(resnet.preresnet_cifar, layers=n)) for n in (20, 56, 110)},
    **{
        f"wrn{n}_{k}_cifar": _CIFAR._replace(build=partial(resnet.preresnet_cifar, layers=n, widen=k))
        for n, k in ((16, 10), (28, 10), (40, 8))
    },
    **{
        f"pyramidnet110_a{alpha}_cifar": _CIFAR._replace(build=partial(resnet.pyramidnet_cifar, layers=110, alpha=alpha))
        for alpha in (48, 84, 270)
    },
    **{
        f"pyramidnet{n}_a{alpha}_bn_cifar": _CIFAR._replace(
            build=partial(resnet.pyramidnet_cifar, layers=n, alpha=alpha, deep=True)
        )
        for n, alpha in ((164, 270), (200, 240), (272, 200))
    },
    **{f"densenet{n}": Entry(partial(densenet.densenet, layers=n)) for n in densenet.BLOCKS},
    "densenet40_k12_cifar": _CIFAR._replace(build=partial(densenet.densenet_cifar, layers=40, growth=12, bottleneck=False)),
    **{
        f"densenet{n}_k{k}_bc_cifar": _CIFAR._replace(build=partial(densenet.densenet_cifar, layers=n, growth=k, bottleneck=True))
        for n, k in ((100, 12), (190, 40))
    },
    "mobilenet_v1": Entry(mobile.mobilenet_v1),
    **{f"mobilenet_v1_{p}": Entry(partial(mobile.mobilenet_v1, percent=p)) for p in (75, 50, 25)},
    "mobilenet_v2": Entry(mobile.mobilenet_v2),
    **{f"efficientnet_b{n}": Entry(partial(mobile.efficientnet, size=n)) for n in range(len(mobile.SCALES))},
    "darknet53": Entry(resnet.darknet53, size=256),
    "dcgan": Entry(plain.dcgan, size=64, classes=None),
    "embedding": Entry(plain.embedding, norm="none", pool="flatten", size=8, classes=None),
}


def make_backbone(name: str, in_channels: int, acting: bool = False, game: Game | None = None) -> Backbone:
    """A new backbone by its name, such as `nature`, or with parameters: `tower(width=64,depth=5)`, `resnet18(norm=none)`.

    `acting`: for an agent. Agents act on small batches and learn from large ones, and their target net copies parameters only. With
    batch statistics, the acting, the learning and the target net would compute three different functions, so agents get group
    normalisation instead, and norm=batch is refused. `game`: the board game that the net sees, for the neighbours in a graph; None:
    it sees pictures, whose pixels have eight neighbours. UsageError for an unknown name or parameter.
    """
    kind, parameters = _parse(name)
    entry = BACKBONES[kind]
    published = "group" if acting and entry.norm == "batch" else entry.norm
    norm = parameters.pop("norm", published)
    if acting and norm == "batch":
        raise UsageError(f"{name}: agents act on other batches than they learn from; use norm=group, layer, instance or none")
    if not acting and "pool" in parameters:
        raise UsageError(f"{name}: pool is for torsos of agents; in a vision model the head decides how feature maps are used")
    parameters.pop("pool", None)
    if entry.graph and game is not None:
        parameters["lattice"] = lattice_of(game)
    backbone = entry.build(in_channels, norm=norm, **parameters)
    backbone.twin = None if norm != "none" else partial(entry.build, in_channels, norm="batch", **parameters)
    if acting:
        for module in backbone.modules():
            if isinstance(module, mobile.StochasticDepth):
                module.p = 0.0  # so that acting and learning use the same net
    if entry.classes == 1000 or entry.norm == "batch":
        _initialise(backbone)
    return backbone


def pool_of(name: str) -> str:
    """How a torso reduces the last feature map: flatten, gap (global average pooling) or max6 (adaptive max-pooling to 6x6)."""
    kind, parameters = _parse(name)
    return str(parameters.get("pool", BACKBONES[kind].pool))


def _parse(name: str) -> tuple[str, dict[str, Any]]:
    kind, parameters = parse_call("backbone", name)
    if kind not in BACKBONES:
        raise unknown("backbone", kind, BACKBONES)
    build = BACKBONES[kind].build
    fixed = build.keywords if isinstance(build, partial) else {}
    declared = inspect.signature(build).parameters
    own = [key for key in list(declared)[1:] if key not in fixed and key not in ("norm", "lattice")]
    for key, value in parameters.items():
        if key not in (*own, "norm", "pool"):
            raise unknown(f"parameter of {kind}", key, [*own, "norm", "pool"])
        if key in own and isinstance(declared[key].default, tuple):
            parameters[key] = _widths(name, key, value, declared[key].default)
            continue
        switch = key in own and isinstance(declared[key].default, bool)
        if switch and not isinstance(value, bool):
            raise UsageError(f"{name}: {key} = {value}, but it is a switch: true or false")
        if key in own and not switch and (isinstance(value, bool) or not (isinstance(value, int) and value > 0)):
            raise UsageError(f"{name}: {key} = {value}, but it is a whole number above 0")
        known = {"norm": NORMS, "pool": POOLS}.get(key)
        if known is not None and value not in known:
            raise unknown(f"{key} of {kind}", str(value), known)
    return kind, parameters


def _widths(name: str, key: str, value: Any, default: tuple[int, ...]) -> tuple[int, ...]:
    """Parses several whole numbers, as in `widths=8-16-16`."""
    parts = str(value).split("-")
    if len(parts) != len(default) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        example = "-".join(map(str, default))
        raise UsageError(f"{name}: {key} = {value}, but it is {len(default)} whole numbers above 0, such as {example}")
    return tuple(map(int, parts))


def _initialise(backbone: Backbone) -> None:
    """Initialises convolutions for training from scratch: He et al. 2015 (Delving Deep into Rectifiers), by fan-out."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
