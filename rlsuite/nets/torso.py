"""Torsos, which map observations [T,B,*shape] to features [T,B,D]. Shapes: T time, B batch, D features."""

import torch
from torch import Tensor, nn

from rlsuite.boardgames.games import make_game
from rlsuite.config.schema import NetConfig
from rlsuite.config.spec_string import check_keywords, parse_call
from rlsuite.core import registry
from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.types import EnvSpec
from rlsuite.nets.backbones import BACKBONES, Backbone, make_backbone, pool_of


class Torso(nn.Module):
    """Base class of torsos: `forward(observation [T,B,*shape])` -> features [T,B,D]."""

    features: int  # D
    map_shape: tuple[int, ...] | None = None  # (C,H,W) if the features are a flattened feature map


class PixelTorso(Torso):
    """The last feature map of a backbone: flattened, averaged over its pixels, or max-pooled to 6x6 and flattened."""

    def __init__(self, backbone: Backbone, shape: tuple[int, ...], pool: str, top: float = 255.0):
        """`shape`: (C,H,W) of observations. `pool`: as in `pool_of`. `top`: the value that becomes 1."""
        super().__init__()
        self.backbone, self.top, self.pool = backbone, top, pool
        channels, height, width = backbone.shapes(*shape[1:])[-1]
        if pool == "max6":
            height = width = 6
        self.map_shape = None if pool == "gap" else (channels, height, width)
        self.features = channels if pool == "gap" else channels * height * width

    def forward(self, observation: Tensor) -> Tensor:
        """observation [T,B,C,H,W] -> [T,B,D]."""
        t, b = observation.shape[:2]
        x = self.backbone(as_input(observation.flatten(0, 1), self.top))[-1]  # [T*B,C,H,W]
        if self.pool == "max6":
            x = max_pool(x, 6)  # Schmidt & Schmied 2021
        return (x.mean((2, 3)) if self.pool == "gap" else x.flatten(1)).unflatten(0, (t, b))  # type: ignore[no-any-return]


def max_pool(x: Tensor, size: int) -> Tensor:
    """Adaptive max-pooling of x [N,C,H,W] to [N,C,`size`,`size`]."""
    if not torch.compiler.is_exporting():
        return nn.functional.adaptive_max_pool2d(x, size)
    for axis in (2, 3):  # ONNX has none: cell by cell
        length = x.shape[axis]
        bounds = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        x = torch.stack([x.narrow(axis, begin, end - begin).amax(axis) for begin, end in bounds], axis)
    return x


def as_input(images: Tensor, top: float = 255.0) -> Tensor:
    """Images divided by `top`: [...] -> float [...], in the dtype that convolutions compute in under the current autocast."""
    x = images.to(compute_dtype(images.device))
    return x * (1 / top) if x is images else x.mul_(1 / top)  # no division: in bf16 that takes four times as long


def cast_once(observation: Tensor, net: NetConfig, spec: EnvSpec) -> Tensor:
    """Casts byte images [T,B,C,H,W] to floats up to 255, once for several forward passes; other observations stay unchanged.

    Torsos on our backbones take either. Third-party torsos get the environment's dtype.
    """
    if spec.observation_dtype != "uint8" or spec.picture is not None or parse_call("torso", net.torso)[0] not in BACKBONES:
        return observation
    return observation.to(compute_dtype(observation.device))


def compute_dtype(device: torch.device) -> torch.dtype:
    """The dtype that convolutions compute in under the current autocast. Autocast dtypes represent every byte exactly."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


class NormalisedTorso(Torso):
    """A torso followed by a layer normalisation of its features (Ba et al. 2016)."""

    def __init__(self, torso: Torso):
        super().__init__()
        self.torso = torso
        self.features, self.map_shape = torso.features, torso.map_shape
        self.norm = nn.LayerNorm(torso.features)

    def forward(self, observation: Tensor) -> Tensor:
        return self.norm(self.torso(observation))  # type: ignore[no-any-return]


class MlpTorso(Torso):
    """One hidden layer on flattened observations, or on the one-hot vectors of discrete states; the head adds a second one."""

    def __init__(self, spec: EnvSpec, hidden: int):
        super().__init__()
        self.num_states = spec.num_states
        size = spec.num_states or int(torch.Size(spec.observation_shape).numel())
        self.net = nn.Sequential(nn.Linear(size, hidden), nn.ReLU())
        self.features = hidden

    def forward(self, observation: Tensor) -> Tensor:
        """observation [T,B,*shape] of any dtype -> [T,B,D] f32."""
        states = self.num_states  # the numbers of states are not quantities
        x = observation.flatten(2) if states is None else nn.functional.one_hot(observation.long(), states)
        return self.net(x / 255.0 if x.dtype == torch.uint8 else x.float())  # type: ignore[no-any-return]


class PartsTorso(Torso):
    """A torso for an observation's picture and a dense layer with ReLU for its vector, with their features concatenated."""

    def __init__(self, name: str, hidden: int, spec: EnvSpec, picture: tuple[int, ...]):
        """`name`: the picture's torso. `picture`: the picture's shape (C,H,W)."""
        super().__init__()
        self.picture, self.split = picture, int(torch.Size(picture).numel())
        self.torso = _bare(name, hidden, spec._replace(observation_shape=picture, picture=None))
        self.dense = nn.Linear((spec.observation_shape[0] - self.split) // 4, hidden)
        self.features = self.torso.features + hidden

    def forward(self, observation: Tensor) -> Tensor:
        """observation [T,B,bytes] u8 -> [T,B,D]."""
        picture = observation[..., : self.split].reshape(*observation.shape[:2], *self.picture)  # [T,B,C,H,W]
        vector = observation[..., self.split :].clone(memory_format=torch.contiguous_format).view(torch.float32)  # [T,B,V]
        seen = self.torso(picture)
        return torch.cat([seen, torch.relu(self.dense(vector)).to(seen.dtype)], -1)


class OneHotTorso(Torso):
    """One-hot encoding of `states` discrete states."""

    def __init__(self, states: int):
        super().__init__()
        self.features = states

    def forward(self, observation: Tensor) -> Tensor:
        """observation [T,B] integers -> [T,B,D] f32."""
        return nn.functional.one_hot(observation.long(), self.features).float()


def orthogonal_(net: nn.Module, skip: nn.Module | None = None) -> None:
    """Initialises dense layers and convolutions with orthogonal weights of gain sqrt(2) and zero biases (Saxe et al. 2014).

    Modules within `skip` are left as they are. With PyTorch's default initialisation, the differences between images of a game fade
    from layer to layer, and only what all images share remains: after three convolutions and a dense layer, the difference between
    images of Pong was 28 times smaller.
    """
    skipped = set(skip.modules()) if skip is not None else set()
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module not in skipped:
            nn.init.orthogonal_(module.weight, 2**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def torso_names() -> list[str]:
    """The names that `net.torso` may take, without parameters."""
    return sorted({*BACKBONES, *registry.torsos.names()})


def make_torso(name: str, hidden: int, spec: EnvSpec, layer_norm: bool = False) -> Torso:
    """The torso for `net.torso` = `name`, followed by a layer normalisation if `layer_norm` is set.

    UsageError if the torso is unknown or does not fit the observations.
    """
    torso = _bare(name, hidden, spec) if spec.picture is None else PartsTorso(name, hidden, spec, spec.picture)
    return NormalisedTorso(torso) if layer_norm else torso


def _bare(name: str, hidden: int, spec: EnvSpec) -> Torso:
    kind, parameters = parse_call("torso", name)
    if kind not in BACKBONES:
        if registry.file_of(kind) is None and kind not in registry.torsos.names():
            raise unknown("net.torso", name, torso_names())
        make = registry.torsos.get(kind)
        check_keywords(kind, make, parameters, skip=2)
        torso: Torso
        if kind in registry.torsos.shipped:
            torso = make(spec, hidden, **parameters)
            return torso
        with registry.third_party(f"net.torso = {name}"):
            torso = make(spec, hidden, **parameters)
        _check(torso, name, spec)
        return torso
    shape = spec.observation_shape
    if len(shape) != 3:
        fit = "onehot" if spec.num_states else "mlp"
        raise UsageError(f"net.torso={name} needs planes [C,H,W], but observations have shape {shape}: use {fit}")
    top = 255.0 if spec.observation_dtype == "uint8" else 1.0  # floats are taken as they are
    game = None if spec.game is None else make_game(spec.game)
    try:
        return PixelTorso(make_backbone(name, shape[0], acting=True, game=game), shape, pool_of(name), top)
    except ValueError as error:
        raise UsageError(f"net.torso={name}: {error}") from error


def _check(torso: Torso, name: str, spec: EnvSpec) -> None:
    """Tries out a third-party torso on blank observations. UsageError if it breaks the contract."""
    where = f"net.torso = {name}"
    if not isinstance(torso, Torso):
        raise UsageError(f"{where} returned a {type(torso).__name__}, not a rlsuite.nets.torso.Torso")
    if not isinstance(getattr(torso, "features", None), int):
        raise UsageError(f"{where}: {type(torso).__name__} has no features, the whole number D of what it returns")
    blank = torch.zeros(1, 2, *spec.observation_shape, dtype=getattr(torch, spec.observation_dtype))  # [T,B,...]
    with registry.third_party(f"{where}: {type(torso).__name__}.forward"), torch.no_grad():
        shape = list(torso(blank).shape)
    if shape != [1, 2, torso.features]:
        raise UsageError(f"{where}: {type(torso).__name__}.forward returned {shape}, not [T,B,features] = [1, 2, {torso.features}]")


def mlp(spec: EnvSpec, hidden: int) -> Torso:
    """A torso of one hidden layer, for observations of any shape and for discrete states."""
    return MlpTorso(spec, hidden)


def one_hot(spec: EnvSpec, hidden: int) -> Torso:
    """A torso that encodes discrete states as one-hot vectors. UsageError for other observations."""
    if spec.num_states is None:
        raise UsageError(f"net.torso=onehot needs discrete states, but observations have shape {spec.observation_shape}")
    return OneHotTorso(spec.num_states)


class Trunk(nn.Module):
    """A torso followed by a dense layer with ReLU."""

    def __init__(self, net: NetConfig, spec: EnvSpec):
        super().__init__()
        self.torso = make_torso(net.torso, net.hidden, spec, net.layer_norm)
        self.dense = nn.Linear(self.torso.features, net.hidden)
        self.norm = nn.LayerNorm(net.hidden) if net.layer_norm else nn.Identity()

    def forward(self, observation: Tensor) -> Tensor:
        """observation [T,B,*shape] -> [T,B,hidden]."""
        return torch.relu(self.norm(self.dense(self.torso(observation))))
