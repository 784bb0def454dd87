"""What `rlsuite list nets` tells of every backbone.

To build them all takes half a minute, so the facts lie in `rlsuite/data/nets.json`; tests compare them, and `python -m
rlsuite.nets.catalogue` writes them anew.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from rlsuite.nets.backbones import BACKBONES, make_backbone
from rlsuite.nets.classifier import published
from rlsuite.nets.pretrained import backbones_of


class Facts(NamedTuple):
    name: str
    parameters: int  # as published: with its classifier, where it had one
    input: tuple[int, int, int]  # (C,H,W) as published
    macs: int  # multiplications and additions for one such input
    strides: tuple[int, ...]
    channels: tuple[int, ...]


def facts(name: str) -> Facts:
    """Nothing is computed: the net has shapes and no weights."""
    entry = BACKBONES[name]
    with torch.device("meta"):
        net: nn.Module = published(name) if entry.classes is not None else make_backbone(name, entry.channels)
        shape = (entry.channels, entry.size, entry.size)
        macs = count_macs(net, torch.empty(1, *shape))
    (backbone,) = backbones_of(net)
    return Facts(name, sum(p.numel() for p in net.parameters()), shape, macs, backbone.strides, backbone.channels)


def count_macs(net: nn.Module, x: torch.Tensor) -> int:
    """Of convolutions and dense layers, in evaluation mode (the net is left in it), for one input x [1,...]."""
    net.eval()
    weights = {name: tensor.to("meta") for name, tensor in (*net.named_parameters(), *net.named_buffers())}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        functional_call(net, weights, (x.to("meta"),))
    return int(counter.get_total_flops()) // 2


def known() -> list[Facts]:
    """Of every backbone, as written down."""
    rows: list[dict[str, Any]] = json.loads((files("rlsuite") / "data" / "nets.json").read_text())
    for row in rows:
        row.update({key: tuple(value) for key, value in row.items() if isinstance(value, list)})
    return [Facts(**row) for row in rows]


def table() -> str:
    lines = [f"{'net':<30} {'parameters':>12} {'input':>11} {'MACs':>9}  strides and channels of its maps"]
    for row in known():
        maps = " ".join(f"{stride}:{width}" for stride, width in zip(row.strides, row.channels, strict=True))
        shape = "x".join(map(str, row.input))
        lines.append(f"{row.name:<30} {row.parameters:>12,} {shape:>11} {row.macs / 1e6:>8,.1f}M  {maps}")
    return "\n".join(lines)


if __name__ == "__main__":
    written = [json.dumps(facts(name)._asdict()) for name in BACKBONES]
    (Path(__file__).parents[1] / "data" / "nets.json").write_text("[\n" + ",\n".join(written) + "\n]\n")
