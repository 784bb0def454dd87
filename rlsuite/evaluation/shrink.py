"""Converts a run whose channels were pruned (`learner.prune.what=channels`) to a smaller net. Shapes: O outputs, I inputs."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlsuite.config.schema import PruneConfig
from rlsuite.config.spec_string import parse_call
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.files import writing
from rlsuite.evaluation.export.acting_net import ActingNet, Size, size_of
from rlsuite.evaluation.export.games import own_games
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import make_agent
from rlsuite.learning.pruning import refuse_dependent
from rlsuite.nets.backbones import Backbone
from rlsuite.nets.pretrained import without_files
from rlsuite.runs import checkpoint, run_folder

TORSOS = ("nature", "small", "data_efficient")
_STEPS, _TOLERANCE = 20, 1e-4  # of the comparison: steps of the agent's games, and relative difference in scores


class Shrunk(NamedTuple):
    """The sizes of the nets before and after, and how much their scores differ."""

    before: Size
    after: Size
    torso: str
    hidden: int
    largest_difference: float  # of a score, in observations of the agent's own games


def shrink(path: Path, out: Path) -> Shrunk:
    """Writes the run folder `out` with the net of a saved agent, without the channels and units that are 0.

    Its scores are compared with the agent's before anything is written. UsageError for a net that is not one of `TORSOS` followed
    by dense layers, or that has no channel or unit that is 0.
    """
    if out.exists():
        raise UsageError(f"{out} exists already: choose a new folder for --out")
    saved = Saved(path, changes={"learner": {"precision": "fp32"}})
    name, parameters = parse_call("torso", saved.config.net.torso)
    net = saved.net
    refuse_dependent(net, str(path))
    if name not in TORSOS:
        raise UsageError(f"{path}: net.torso={name} has no widths to choose, as {', '.join(TORSOS)} have")
    (backbone,) = [module for module in net.modules() if isinstance(module, Backbone)]
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    kept = [_alive(layer) for layer in convolutions]
    dense = {name: module for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    flat = _flattened(kept[-1], len(convolutions[-1].weight), next(iter(dense.values())).in_features)
    hidden = {name: layer for name, layer in dense.items() if layer.in_features == len(flat)}
    units = max(int(_alive(layer).sum()) for layer in hidden.values())
    rows = {name: _at_least(_alive(layer), units) for name, layer in hidden.items()}
    widths = "-".join(str(int(alive.sum())) for alive in kept)
    torso = f"{name}({','.join(f'{key}={value}' for key, value in {**parameters, 'widths': widths}.items())})"
    original = Saved(path).config  # in its own precision
    if all(bool(one.all()) for one in kept) and units == saved.config.net.hidden:
        raise UsageError(f"{path} has no channel that is 0: train it with learner.prune.what=channels")
    smaller = without_files(original.net).model_copy(update={"torso": torso, "hidden": units})
    learner = original.learner.model_copy(update={"prune": PruneConfig()})
    config = original.model_copy(update={"net": smaller, "learner": learner})
    agent = make_agent(config, saved.spec)
    small = agent.make_net()
    inputs = [torch.ones(convolutions[0].in_channels, dtype=torch.bool), *kept[:-1]]
    into: dict[str, Tensor] = {}
    conv_names = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    for layer, out_alive, in_alive in zip(conv_names, kept, inputs, strict=True):
        big = net.get_submodule(layer)
        into |= _part(layer, big, out_alive, in_alive)
    for layer, module in dense.items():
        if layer in hidden:
            into |= _part(layer, module, rows[layer], flat)
        else:  # an output, which belongs to the hidden layer whose name begins like its own
            source = max(hidden, key=lambda one: len(_common(one, layer)))
            into |= _part(layer, module, torch.ones(len(module.weight), dtype=torch.bool), rows[source])
    rest = {key: tensor for key, tensor in net.state_dict().items() if key not in into}
    checkpoint.load_weights_into(small, {**rest, **into}, str(path))
    difference = _difference(saved, ActingNet(saved.agent, saved.spec, net), ActingNet(agent, saved.spec, small))
    with writing(out):
        tensors = {key: tensor.detach() for key, tensor in small.state_dict().items()}
        out.mkdir(parents=True)
        checkpoint.save(out, saved.agent_steps, tensors, {}, run_folder.metadata(config, saved.spec), with_arrays=False)
        run_folder.write_config(config, out)
    return Shrunk(size_of(saved.agent, saved.spec), size_of(agent, saved.spec), torso, units, difference)


def _alive(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """Mask of the outputs [O] of a layer that are not always 0; at least one is True."""
    size = layer.weight.detach().flatten(1).abs().sum(1)
    if layer.bias is not None:
        size = size + layer.bias.detach().abs()
    return _at_least(size > 0, 1)


def _at_least(alive: Tensor, count: int) -> Tensor:
    """`alive`, with the first of the other outputs added until there are `count`."""
    alive = alive.clone()
    missing = count - int(alive.sum())
    if missing > 0:
        alive[(~alive).nonzero()[:missing, 0]] = True
    return alive


def _flattened(alive: Tensor, channels: int, features: int) -> Tensor:
    """Mask of the features of a flattened map that belong to channels that are alive."""
    return alive.repeat_interleave(features // channels)


def _part(name: str, layer: Any, outputs: Tensor, inputs: Tensor) -> dict[str, Tensor]:
    """The parameters of a layer, reduced to these outputs and inputs."""
    found = {f"{name}.weight": layer.weight.detach()[outputs][:, inputs].contiguous()}
    if layer.bias is not None:
        found[f"{name}.bias"] = layer.bias.detach()[outputs]
    return found


def _common(a: str, b: str) -> str:
    return a[: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))]


def _difference(saved: Saved, before: ActingNet, after: ActingNet) -> float:
    """The largest difference in scores over the agent's own games. RlsuiteError if it is more than rounding."""
    largest = 0.0
    with torch.no_grad():
        for given in own_games(saved, before, _STEPS, 0):
            a, b = before(*given)[0], after(*given)[0]
            largest = max(largest, float((a - b).abs().max() / a.abs().max().clamp(min=1)))
    if not largest <= _TOLERANCE:
        raise RlsuiteError(f"the smaller net of {saved.path} differs from the pruned one, by {largest:.2g}")
    return largest
