"""Weights from one net to another: our own by name, a library's by order and shape."""

import importlib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.nets.backbones import Backbone
from rlsuite.runs import checkpoint

_MARK = "backbone."
_AUXILIARY = ("aux", "AuxLogits")  # classifiers on the way, which nobody needs after training


def load_backbones(net: nn.Module, source: str | Path) -> None:
    """The weights of a backbone into every backbone of `net`.

    `source`: a run of ours, an agent's or a vision model's, or one of its checkpoints; or a file that `rlsuite vision import` made
    of a torchvision or timm model, which is read in order. A first convolution for another number of input channels takes the
    mean over the channels that there are, so that grey pictures in each channel give what they gave. Weights with batch
    normalisation go into a backbone without any: each is folded into the convolution before it, so that the net gives what it gave
    in evaluation. UsageError, CheckpointError for what there is not, and for weights that do not fit; the net is unchanged then.
    """
    path = Path(source)
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


def load_all(net: nn.Module, source: str | Path) -> None:
    """All weights of a run or a checkpoint of the same net. UsageError, CheckpointError for what there is not or does not fit."""
    path = checkpoint.find(Path(source).resolve())
    checkpoint.load_weights_into(net, checkpoint.load(path, weights_only=True).weights, str(path))


def _load(backbone: Backbone, tensors: Mapping[str, Tensor], what: str) -> None:
    prefix = _prefix(tensors)
    if prefix is None:
        copy_in_order(backbone, tensors, what)
        return
    own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    # A file sorts its tensors, so the first convolution is found in the net.
    first, weight = next((name, tensor) for name, tensor in backbone.state_dict().items() if tensor.dim() == 4)
    if first in own:
        own[first] = _for_channels(own[first], weight)
    checkpoint.load_weights_into(backbone, own, what)


@torch.no_grad()
def fold_into(plain: nn.Module, normalised: nn.Module, what: str) -> None:
    """The weights of a net with batch normalisation into the same one without: outputs are those in evaluation mode.

    CheckpointError where a normalisation does not follow a convolution (pre-activation nets): it cannot be folded.
    """
    follows: dict[int, nn.BatchNorm2d] = {}  # by convolution
    for chain in normalised.modules():
        if isinstance(chain, nn.Sequential):
            for layer, norm in itertools.pairwise(chain):
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    follows[id(layer)] = norm
    given = [module for module in normalised.modules() if isinstance(module, nn.Conv2d)]
    convolutions = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in normalised.modules())
    if norms != len(follows) or len(convolutions) != len(given):
        raise CheckpointError(f"{what}: its batch normalisations do not follow convolutions, they cannot be folded into norm=none")
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
    """UsageError if there is none."""
    found = [module for module in net.modules() if isinstance(module, Backbone)]
    if not found:
        raise UsageError("net.weights, net.freeze: this net has no backbone")
    return found


def copy_in_order(module: nn.Module, source: Mapping[str, Tensor], what: str) -> None:
    """Copies tensor by tensor, in the order of both state dicts; `source` may go on behind the last (a classifier).

    CheckpointError, which names the first pair, if shapes differ; the module is unchanged then.
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
                f"in its place this net has {name} with {list(tensor.shape)}"
            )
    module.load_state_dict({name: other for (name, _), (_, other) in pairs})


def _for_channels(weight: Tensor, own: Tensor | None) -> Tensor:
    """A first convolution [O,I,K,K] for as many input channels as `own` has."""
    if own is None or own.dim() != 4 or weight.dim() != 4 or own.shape == weight.shape:
        return weight
    if own.shape[0] != weight.shape[0] or own.shape[2:] != weight.shape[2:] or own.shape[1] == weight.shape[1]:
        return weight
    return weight.sum(1, keepdim=True).expand(-1, own.shape[1], -1, -1) / own.shape[1]


def _prefix(tensors: Mapping[str, Tensor]) -> str | None:
    """What stands before the names of the first backbone; None: these are no weights of ours."""
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
            raise UsageError(f"cannot read weights {path}: {str(error).splitlines()[0]}") from error
        if not all(re.match(r"\d{5}\.", key) for key in tensors):
            raise UsageError(f"{path} has lost the order of its layers: write it with `rlsuite vision import`")
        return {key[6:]: tensors[key] for key in sorted(tensors)}
    if path.suffix in (".pt", ".pth", ".bin", ".pkl"):
        raise UsageError(f"{path}: pickles can run code and are not loaded; save the state dict with safetensors.torch.save_file")
    return checkpoint.load(checkpoint.find(path), weights_only=True).weights


def freeze(net: nn.Module) -> None:
    """No backbone of the net changes any more, nor do the statistics of its normalisation."""
    for backbone in backbones_of(net):
        backbone.requires_grad_(False)
        backbone.frozen = True
        backbone.eval()


def layer_groups(net: nn.Module, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """(factor on the learning rate, parameters): 1 for all but the backbone, whose stages get `decay` times that of the next.

    Layer-wise rates as in Howard & Ruder 2018 (discriminative fine-tuning). Only what learns is listed.
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
    """A state dict as a safetensors file can hold it: the format sorts by name, so numbers before the names keep the order."""
    return {f"{index:05d}.{key}": tensor.contiguous().clone() for index, (key, tensor) in enumerate(weights.items())}


def pretrained(what: str, state_dict: Path | None = None) -> dict[str, Tensor]:
    """`torchvision:resnet18` or `timm:resnet18` -> the weights of that model, in its order, for pictures in [0,1].

    `state_dict`: a safetensors file of the library's own names; None: what the library itself gets, which may download.
    UsageError if the library is not installed, is broken, or knows no such model.
    """
    library, _, name = what.partition(":")
    if library not in ("torchvision", "timm") or not name:
        raise UsageError(f"{what!r} must read torchvision:NAME or timm:NAME, such as torchvision:resnet18")
    try:
        module = importlib.import_module("torchvision.models" if library == "torchvision" else "timm")
    except Exception as error:  # a torchvision for another torch dies with RuntimeError, and takes timm along
        raise UsageError(f"{library} cannot be imported here ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    try:
        if library == "timm":
            model = module.create_model(name, pretrained=state_dict is None)
        else:
            model = module.get_model(name, weights=None if state_dict else "DEFAULT")
        if state_dict is not None:
            model.load_state_dict(load_file(state_dict))
    except Exception as error:
        raise UsageError(f"{what}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
    # What their models learned from: (x - mean) / std of each channel; these two bring it to (x - 0.5) / 0.5 themselves.
    centred = library == "torchvision" and name in ("googlenet", "inception_v3")
    mean, std = (_HALF, _HALF) if centred else (_MEAN, _STD)
    if library == "timm":
        mean, std = model.default_cfg.get("mean", mean), model.default_cfg.get("std", std)
    return take_over_normalisation(dict(model.state_dict()), mean, std)


_MEAN, _STD, _HALF = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (0.5, 0.5, 0.5)  # of ImageNet


def take_over_normalisation(weights: dict[str, Tensor], mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """The weights of a net for (x - mean) / std -> those of the same net for x in [0,1], which is what ours get.

    The first convolution takes it over, its bias or the running mean of the normalisation behind it the constant. The same but at
    the border, where the padding of the one is the mean colour and that of the other black.
    """
    names = list(weights)
    first = next(name for name in names if weights[name].dim() == 4)
    weight = weights[first].double()
    if weight.shape[1] != len(mean):
        return weights
    scaled = weight / torch.tensor(std, dtype=torch.float64)[:, None, None]
    constant = (scaled * torch.tensor(mean, dtype=torch.float64)[:, None, None]).sum((1, 2, 3))
    found = {**weights, first: scaled.to(weights[first].dtype)}
    behind = names[names.index(first) + 1 :]
    bias = first.removesuffix("weight") + "bias"
    if bias in weights:
        found[bias] = (weights[bias].double() - constant).to(weights[bias].dtype)
    else:
        running = next(name for name in behind if name.endswith("running_mean"))
        found[running] = (weights[running].double() + constant).to(weights[running].dtype)
    return found
