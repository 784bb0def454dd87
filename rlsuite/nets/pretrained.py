"""Loading pretrained weights: our own are matched by name, those of torchvision and timm by order and shape."""

import importlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import CheckpointError, UsageError, one_line
from rlsuite.nets.auxiliary import BESIDE
from rlsuite.nets.backbones import Backbone
from rlsuite.runs import checkpoint, pretrained_agents

_MARK = "backbone."
_BODY = ("trunk.", "core.")  # torso with dense layer, and memory core
_ACTOR = "actor."  # precedes them in a net that has parts besides the one that acts
_AUXILIARY = ("aux", "AuxLogits")  # classifiers at intermediate layers, used in training only


def load_backbones(net: nn.Module, source: str | Path) -> None:
    """Loads the weights of the backbone in `source` into every backbone of `net`.

    `source`: a run of an agent or a vision model, or one of its checkpoints; or a file that `rlsuite vision import` wrote, whose
    tensors are matched in order. If the first convolution has another number of input channels, every channel gets the mean over
    the source's channels, so that a grey image repeated in all channels gives the same output as before. Where the source has batch
    normalisation and the backbone has none, each normalisation is folded into the convolution before it, which preserves the output
    in evaluation mode.

    UsageError or CheckpointError if the source does not exist or does not fit; the backbone is then unchanged.
    """
    path = pretrained_agents.located(source)
    tensors = _read(path)
    prefix = _prefix(tensors) or ""
    normalised = any(key.startswith(prefix) and key.endswith("running_mean") for key in tensors)
    for backbone in backbones_of(net):
        if normalised and backbone.twin is not None:
            twin = backbone.twin()
            _load(twin, tensors, str(path))
            fold_into(backbone, twin, str(path))
        else:
            _load(backbone, tensors, str(path))


def load_all(net: nn.Module, source: str | Path, agent: str) -> None:
    """Loads the weights of a run or a checkpoint into the `net` of an agent.

    If the source is from the same agent, all weights are loaded, except that auxiliary modules (`BESIDE`) may be missing on either
    side. Otherwise, only those of torso, dense layer and memory core are, which agents have in common.
    UsageError or CheckpointError if the source does not exist or does not fit.
    """
    path = checkpoint.find(pretrained_agents.located(source))
    saved = checkpoint.load(path, weights_only=True)
    given, config = saved.weights, saved.metadata.get("config")
    theirs = config.get("agent", {}).get("name", agent) if isinstance(config, dict) else agent
    own = net.state_dict()
    if theirs != agent:
        parts, places = _body(given), _body(own)
        for names, whose in ((parts, theirs), (places, agent)):
            if not names:
                raise CheckpointError(
                    f"{path} is of agent.name={theirs}: nothing of it fits, the net of {whose} has no torso with a dense layer"
                )
        kept = {name: tensor for name, tensor in own.items() if name not in places.values()}
        given = {**kept, **{places.get(name, name): given[full] for name, full in parts.items()}}
    else:
        given = {name: tensor for name, tensor in given.items() if name in own or not name.startswith(BESIDE)}
        given |= {name: tensor for name, tensor in own.items() if name.startswith(BESIDE) and name not in given}
    checkpoint.load_weights_into(net, given, str(path))


def _body(names: Iterable[str]) -> dict[str, str]:
    """Names of the parameters of torso, dense layer and memory core: without the prefix `actor.` -> as given."""
    return {bare: name for name in names if (bare := name.removeprefix(_ACTOR)).startswith(_BODY)}


def without_files(net: NetConfig) -> NetConfig:
    """The net's config without the files of its initial weights, which may be gone once it has been trained."""
    return net.model_copy(update={"weights": None, "init_from": None, "action_embedding_from": None})


def _load(backbone: Backbone, tensors: Mapping[str, Tensor], what: str) -> None:
    prefix = _prefix(tensors)
    if prefix is None:
        copy_in_order(backbone, tensors, what)
        return
    own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    # Tensors in a file are sorted by name, so only the net says which convolution comes first.
    first, weight = next((name, tensor) for name, tensor in backbone.state_dict().items() if tensor.dim() == 4)
    if first in own:
        own[first] = _for_channels(own[first], weight)
    checkpoint.load_weights_into(backbone, own, what)


@torch.no_grad()
def fold_into(plain: nn.Module, normalised: nn.Module, what: str) -> None:
    """Copies the weights of `normalised` into `plain`, the same net without batch normalisation; `what` names the source in errors.

    The output of `plain` is that of `normalised` in evaluation mode. CheckpointError if a normalisation does not follow a
    convolution, as in pre-activation nets, and so cannot be folded.
    """
    follows: dict[int, nn.BatchNorm2d] = {}  # id of a convolution -> the normalisation after it
    for chain in normalised.modules():
        if isinstance(chain, nn.Sequential):
            for layer, norm in itertools.pairwise(chain):
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    follows[id(layer)] = norm
    given = [module for module in normalised.modules() if isinstance(module, nn.Conv2d)]
    convolutions = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in normalised.modules())
    if norms != len(follows) or len(convolutions) != len(given):
        raise CheckpointError(f"{what}: batch normalisation that does not follow a convolution cannot be folded into norm=none")
    for convolution, source in zip(convolutions, given, strict=True):
        weight = source.weight
        bias = torch.zeros(len(weight)) if source.bias is None else source.bias
        if id(source) in follows:
            norm = follows[id(source)]
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight, bias = weight * scale[:, None, None, None], norm.bias + (bias - norm.running_mean) * scale
        convolution.weight.copy_(weight)
        if convolution.bias is not None:
            convolution.bias.copy_(bias)


def backbones_of(net: nn.Module) -> list[Backbone]:
    """All backbones within `net`. UsageError if there is none."""
    found = [module for module in net.modules() if isinstance(module, Backbone)]
    if not found:
        raise UsageError("net.weights and net.freeze need a net with a backbone: this net has no backbone")
    return found


def copy_in_order(module: nn.Module, source: Mapping[str, Tensor], what: str) -> None:
    """Copies tensors into `module` in the order of both state dicts; further tensors of `source` (a classifier) are ignored.

    `what` names the source in errors. CheckpointError if tensors are missing or shapes differ; the module is then unchanged.
    """
    own = module.state_dict()
    given = [(key, tensor) for key, tensor in source.items() if not key.startswith(_AUXILIARY)]
    if len(given) < len(own):
        raise CheckpointError(f"{what} holds {len(given)} tensors, this net has {len(own)}")
    first_own, first_given = next(iter(own)), given[0]
    given[0] = (first_given[0], _for_channels(first_given[1], own[first_own]))
    pairs = list(zip(own.items(), given, strict=False))
    for (name, tensor), (key, other) in pairs:
        if tensor.shape != other.shape:
            raise CheckpointError(
                f"{what} holds the weights of another net: {key} has shape {list(other.shape)}, "
                f"in its place this net has {name} with shape {list(tensor.shape)}"
            )
    module.load_state_dict({name: other for (name, _), (_, other) in pairs})


def _for_channels(weight: Tensor, own: Tensor | None) -> Tensor:
    """The weights [O,I,K,K] of a first convolution, adapted to the number of input channels of `own`."""
    if own is None or own.dim() != 4 or weight.dim() != 4 or own.shape == weight.shape:
        return weight
    if own.shape[0] != weight.shape[0] or own.shape[2:] != weight.shape[2:] or own.shape[1] == weight.shape[1]:
        return weight
    return weight.sum(1, keepdim=True).expand(-1, own.shape[1], -1, -1) / own.shape[1]


def _prefix(tensors: Mapping[str, Tensor]) -> str | None:
    """The prefix of the names of the first backbone's weights; None if these are not our own weights."""
    for key in tensors:
        at = key.find(f"{_MARK}stages.")
        if at >= 0:
            return key[: at + len(_MARK)]
    return None


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UsageError(f"cannot read weights {path}: {one_line(error)}") from error
        if not all(re.match(r"\d{5}\.", key) for key in tensors):
            raise UsageError(f"{path} has lost the order of its layers: import the model with `rlsuite vision import`")
        return {key[6:]: tensors[key] for key in sorted(tensors)}
    if path.suffix in (".pt", ".pth", ".bin", ".pkl"):
        raise UsageError(f"{path}: pickles can run code and are not loaded; save the state dict with safetensors.torch.save_file")
    return checkpoint.load(checkpoint.find(path), weights_only=True).weights


def freeze(net: nn.Module) -> None:
    """Freezes all backbones of `net`: neither their weights nor their normalisation statistics change any more."""
    for backbone in backbones_of(net):
        backbone.requires_grad_(False)
        backbone.frozen = True
        backbone.eval()


def layer_groups(net: nn.Module, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """Parameter groups (factor on the learning rate, parameters), the largest factor first.

    The factor is 1 outside the backbone, and each stage of the backbone has `decay` times the factor of the part after it
    (discriminative fine-tuning, Howard & Ruder 2018). Parameters that are not trained are left out.
    """
    inner: dict[int, float] = {}
    for backbone in backbones_of(net):
        for back, stage in enumerate(reversed(backbone.stages), start=1):
            inner.update({id(parameter): decay**back for parameter in stage.parameters()})
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in net.parameters():
        if parameter.requires_grad:
            groups.setdefault(inner.get(id(parameter), 1.0), []).append(parameter)
    return sorted(groups.items(), key=lambda pair: -pair[0])


def in_order_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with a number before each name, to keep the order in a safetensors file (the format sorts by name)."""
    return {f"{index:05d}.{key}": tensor.contiguous().clone() for index, (key, tensor) in enumerate(weights.items())}


def pretrained(what: str, state_dict: Path | None = None) -> dict[str, Tensor]:
    """The weights of a library's model, such as `torchvision:resnet18` or `timm:resnet18`, in its order, for images in [0,1].

    `state_dict`: a safetensors file with the library's own names; None: the library's pretrained weights, which may be downloaded.
    UsageError if the library is not installed or broken, or has no such model.
    """
    library, _, name = what.partition(":")
    if library not in ("torchvision", "timm") or not name:
        raise UsageError(f"model {what!r} must read torchvision:NAME or timm:NAME, such as torchvision:resnet18")
    try:
        module = importlib.import_module("torchvision.models" if library == "torchvision" else "timm")
    except Exception as error:  # a torchvision built for another torch raises RuntimeError, and so does timm, which imports it
        raise UsageError(f"{library} cannot be imported here ({one_line(error)})") from error
    try:
        if library == "timm":
            model = module.create_model(name, pretrained=state_dict is None)
        else:
            model = module.get_model(name, weights=None if state_dict else "DEFAULT")
        if state_dict is not None:
            model.load_state_dict(load_file(state_dict))
    except Exception as error:
        raise UsageError(f"{what}: {one_line(error)}") from error
    # The models were trained on (x - mean) / std of each channel. These two rescale that to (x - 0.5) / 0.5 themselves.
    centred = library == "torchvision" and name in ("googlenet", "inception_v3")
    mean, std = (_HALF, _HALF) if centred else (_MEAN, _STD)
    if library == "timm":
        mean, std = model.default_cfg.get("mean", mean), model.default_cfg.get("std", std)
    return take_over_normalisation(dict(model.state_dict()), mean, std)


_MEAN, _STD, _HALF = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (0.5, 0.5, 0.5)  # of ImageNet


def take_over_normalisation(weights: dict[str, Tensor], mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """Converts the weights of a net for inputs (x - mean) / std to those of the same net for inputs x in [0,1], as our nets take.

    The scale moves into the first convolution, the constant into its bias or into the running mean of the normalisation after it.
    Outputs differ only at the border, where padding means the mean colour in one net and black in the other.
    """
    names = list(weights)
    first = next(name for name in names if weights[name].dim() == 4)
    weight = weights[first].double()
    if weight.shape[1] != len(mean):
        return weights
    scaled = weight / torch.tensor(std, dtype=torch.float64)[:, None, None]
    constant = (scaled * torch.tensor(mean, dtype=torch.float64)[:, None, None]).sum((1, 2, 3))
    found = {**weights, first: scaled.to(weights[first].dtype)}
    following = names[names.index(first) + 1 :]
    bias = first.removesuffix("weight") + "bias"
    if bias in weights:
        found[bias] = (weights[bias].double() - constant).to(weights[bias].dtype)
    else:
        running = next(name for name in following if name.endswith("running_mean"))
        found[running] = (weights[running].double() + constant).to(weights[running].dtype)
    return found
