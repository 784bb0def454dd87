"""Size and cost of every backbone, as `rlsuite list nets` prints them.

Building all backbones takes half a minute, so the facts are stored in `rlsuite/data/nets.json`. Tests compare the file with the
code, and `python -m rlsuite.nets.catalogue` writes it again.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from rlsuite.config.schema import NetConfig
from rlsuite.core import registry
from rlsuite.core.types import EnvSpec, Step
from rlsuite.nets import MEMORY_CORES
from rlsuite.nets.backbones import BACKBONES, make_backbone
from rlsuite.nets.classifier import published
from rlsuite.nets.memory import Bidirectional, Recurrent, make_core
from rlsuite.nets.pretrained import backbones_of


class Facts(NamedTuple):
    """Size and cost of one backbone."""

    name: str
    parameters: int  # as published: including the classifier, where there was one
    input: tuple[int, int, int]  # (C,H,W) as published
    macs: int  # multiply-accumulate operations for one such input
    strides: tuple[int, ...]  # of the feature maps
    channels: tuple[int, ...]  # of the feature maps


def facts(name: str) -> Facts:
    """The facts of the backbone `name`, measured on the meta device: no weights are allocated and nothing is computed."""
    entry = BACKBONES[name]
    with torch.device("meta"):
        net: nn.Module = published(name) if entry.classes is not None else make_backbone(name, entry.channels)
        shape = (entry.channels, entry.size, entry.size)
        macs = count_macs(net, torch.empty(1, *shape))
    (backbone,) = backbones_of(net)
    return Facts(name, sum(p.numel() for p in net.parameters()), shape, macs, backbone.strides, backbone.channels)


def count_macs(net: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulate operations of the convolutions and dense layers for one input x [1,...].

    Switches the net to evaluation mode and leaves it there.
    """
    net.eval()
    weights = {name: tensor.to("meta") for name, tensor in (*net.named_parameters(), *net.named_buffers())}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        functional_call(net, weights, (x.to("meta"),))
    return int(counter.get_total_flops()) // 2


def known() -> list[Facts]:
    """The stored facts of every backbone, read from `rlsuite/data/nets.json`."""
    rows: list[dict[str, Any]] = json.loads((files("rlsuite") / "data" / "nets.json").read_text())
    for row in rows:
        row.update({key: tuple(value) for key, value in row.items() if isinstance(value, list)})
    return [Facts(**row) for row in rows]


def table() -> str:
    """The stored facts as a table for the terminal."""
    lines = [f"{'net':<30} {'parameters':>12} {'input':>11} {'MACs':>9}  strides and channels of its maps"]
    for row in known():
        maps = " ".join(f"{stride}:{width}" for stride, width in zip(row.strides, row.channels, strict=True))
        shape = "x".join(map(str, row.input))
        lines.append(f"{row.name:<30} {row.parameters:>12,} {shape:>11} {row.macs / 1e6:>8,.1f}M  {maps}")
    return "\n".join(lines)


class CoreFacts(NamedTuple):
    """Size and cost of one memory core, with as many units as inputs."""

    name: str
    parameters: int
    macs: int  # multiply-accumulate operations for a step of one environment
    receptive_field: int | None  # steps that an output depends on; None: all of the episode


_UNITS = 256


def core_facts(name: str) -> CoreFacts:
    """The facts of the memory core `name`, with its default parameters, 256 inputs and 256 units."""
    spec = EnvSpec((1,), "float32", 1, None, 1, 1)
    core = make_core(NetConfig(memory=name, memory_size=_UNITS), _UNITS, spec)
    if isinstance(core, Recurrent | Bidirectional):  # whose kernels are not counted
        macs = sum(weight.numel() for weight in core.parameters() if weight.dim() == 2)
    else:
        no = torch.zeros(1, 1, dtype=torch.bool)
        step = Step((), torch.zeros(1, 1), no, no, no, torch.zeros(1, 1, dtype=torch.int64), {})
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            core(torch.zeros(1, 1, _UNITS), step, core.initial_state(1))
        macs = int(counter.get_total_flops()) // 2
    return CoreFacts(name, sum(p.numel() for p in core.parameters()), macs, core.receptive_field)


def core_table() -> str:
    """The facts of our memory cores as a table for the terminal, followed by the names of other cores."""
    lines = [f"{f'core, {_UNITS} inputs and units':<30} {'parameters':>12} {'MACs':>9}  sees"]
    for name in MEMORY_CORES:
        row = core_facts(name)
        sees = "the whole episode" if row.receptive_field is None else f"{row.receptive_field} steps"
        lines.append(f"{row.name:<30} {row.parameters:>12,} {row.macs / 1e6:>8,.2f}M  {sees}")
    return "\n".join([*lines, *(name for name in registry.memory_cores.names() if name not in MEMORY_CORES)])


if __name__ == "__main__":
    written = [json.dumps(facts(name)._asdict()) for name in BACKBONES]
    (Path(__file__).parents[1] / "data" / "nets.json").write_text("[\n" + ",\n".join(written) + "\n]\n")
