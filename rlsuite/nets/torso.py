"""Torsos: observations -> features [T,B,D]. Shapes: T time, B batch, D features."""

import torch
from torch import Tensor, nn

from rlsuite.config.schema import NetConfig
from rlsuite.config.spec_string import check_keywords, parse_call
from rlsuite.core import registry
from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.types import EnvSpec
from rlsuite.nets.backbones import BACKBONES, Backbone, make_backbone, pool_of


class Torso(nn.Module):
    """`features` is D."""

    features: int


class PixelTorso(Torso):
    """observation [T,B,C,H,W] uint8 -> the last feature map of a backbone, flattened or averaged over its pixels (`gap`)."""

    def __init__(self, backbone: Backbone, shape: tuple[int, ...], pool: str):
        super().__init__()
        self.backbone = backbone
        self.gap = pool == "gap"
        channels, height, width = backbone.shapes(*shape[1:])[-1]
        self.features = channels if self.gap else channels * height * width

    def forward(self, observation: Tensor) -> Tensor:
        t, b = observation.shape[:2]
        x = self.backbone(as_input(observation.flatten(0, 1)))[-1]  # [T*B,C,H,W]
        return (x.mean((2, 3)) if self.gap else x.flatten(1)).unflatten(0, (t, b))  # type: ignore[no-any-return]


def as_input(images: Tensor) -> Tensor:
    """uint8 of any shape -> the same in [0,1], in the precision that convolutions compute in."""
    kind = images.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    return images.to(dtype).div_(255)


class NormalisedTorso(Torso):
    """A torso behind whose features stands a layer normalisation (Ba et al. 2016)."""

    def __init__(self, torso: Torso):
        super().__init__()
        self.torso = torso
        self.features = torso.features
        self.norm = nn.LayerNorm(torso.features)

    def forward(self, observation: Tensor) -> Tensor:
        return self.norm(self.torso(observation))  # type: ignore[no-any-return]


class MlpTorso(Torso):
    """observation [T,B,*shape] float -> one hidden layer; a head adds the second."""

    def __init__(self, shape: tuple[int, ...], hidden: int):
        super().__init__()
        size = int(torch.Size(shape).numel())
        self.net = nn.Sequential(nn.Linear(size, hidden), nn.ReLU())
        self.features = hidden

    def forward(self, observation: Tensor) -> Tensor:
        x = observation.flatten(2) if observation.dim() > 2 else observation.unsqueeze(-1)
        return self.net(x.float())  # type: ignore[no-any-return]


class OneHotTorso(Torso):
    """observation [T,B] of `states` discrete states -> one-hot."""

    def __init__(self, states: int):
        super().__init__()
        self.features = states

    def forward(self, observation: Tensor) -> Tensor:
        return nn.functional.one_hot(observation.long(), self.features).float()


def orthogonal_(net: nn.Module, skip: nn.Module | None = None) -> None:
    """Dense layers and convolutions, those in `skip` left out, begin orthogonal with gain sqrt(2), their biases at 0.

    (Saxe et al. 2014.) With torch's defaults what differs between two pictures of a game fades from layer to layer behind what all
    have in common: of Pong's, 28 times less was left of it behind three convolutions and a dense layer.
    """
    left_out = set(skip.modules()) if skip is not None else set()
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module not in left_out:
            nn.init.orthogonal_(module.weight, 2**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def torso_names() -> list[str]:
    """What `net.torso` may name, parameters apart."""
    return sorted({*BACKBONES, *registry.torsos.names()})


def make_torso(name: str, hidden: int, spec: EnvSpec, layer_norm: bool = False) -> Torso:
    """UsageError if the torso is unknown or does not fit the observations."""
    torso = _bare(name, hidden, spec)
    return NormalisedTorso(torso) if layer_norm else torso


def _bare(name: str, hidden: int, spec: EnvSpec) -> Torso:
    kind, parameters = parse_call("torso", name)
    if kind not in BACKBONES:
        if registry.file_of(kind) is None and kind not in registry.torsos.names():
            raise unknown("net.torso", name, torso_names())
        make = registry.torsos.get(kind)
        check_keywords(kind, make, parameters, skip=2)
        torso: Torso = make(spec, hidden, **parameters)
        return torso
    shape = spec.observation_shape
    if len(shape) != 3:
        fit = "onehot" if spec.num_states else "mlp"
        raise UsageError(f"net.torso={name} needs planes [C,H,W], but observations are {shape}: use {fit}")
    try:
        return PixelTorso(make_backbone(name, shape[0], acting=True), shape, pool_of(name))
    except ValueError as error:
        raise UsageError(f"net.torso={name}: {error}") from error


def mlp(spec: EnvSpec, hidden: int) -> Torso:
    return MlpTorso(spec.observation_shape, hidden)


def one_hot(spec: EnvSpec, hidden: int) -> Torso:
    if spec.num_states is None:
        raise UsageError(f"net.torso=onehot needs discrete states, but observations are {spec.observation_shape}")
    return OneHotTorso(spec.num_states)


class Trunk(nn.Module):
    """A torso and a dense layer: observation [T,B,...] -> [T,B,hidden]."""

    def __init__(self, net: NetConfig, spec: EnvSpec):
        super().__init__()
        self.torso = make_torso(net.torso, net.hidden, spec, net.layer_norm)
        self.dense = nn.Linear(self.torso.features, net.hidden)
        self.norm = nn.LayerNorm(net.hidden) if net.layer_norm else nn.Identity()

    def forward(self, observation: Tensor) -> Tensor:
        return torch.relu(self.norm(self.dense(self.torso(observation))))
