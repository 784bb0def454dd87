"""Finds why an update is not finite: the first place, in the order of computation, with a NaN or an infinity.

Shapes: B batch, T steps of a sequence.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.core.agent import Loss
from rlsuite.core.types import Trajectory

KEPT = "training stopped, the last checkpoint is untouched"


def cause(trajectory: Trajectory, shares: Tensor, loss: Loss, named: Iterable[tuple[str, nn.Parameter]]) -> str:
    """A message about what is not finite in an update, before its optimizer step: leaves [T,B,...], weights [B] or loss [B].

    `shares`: the weights of the sequences. `named`: the parameters by name, with their gradients.
    """
    named = list(named)
    for name, leaf in _leaves(trajectory):
        if (bad := _rows(leaf)) is not None:
            ours = f"; {_largest(named)}" if name not in ("observation", "reward") else ""
            return f"{name} is not finite in {bad} of {leaf.shape[1]} sequences of the batch{ours}"
    if not _finite(shares):
        return "a weight of the batch's sequences is not finite"
    for name, parameter in named:
        if not _finite(parameter):
            return f"{name}, a weight of the net, is not finite since the update before"
    if not _finite(loss.loss):
        terms = [name for name, value in loss.metrics.items() if not _finite(value)]
        also = f" ({', '.join(terms)})" if terms else ""
        bad, size = int((~torch.isfinite(loss.loss)).sum()), loss.loss.numel()
        return (
            f"losses/loss{also} is not finite in {bad} of {size} sequences, though the batch and the weights are; {_largest(named)}"
        )
    for name, parameter in named:
        if parameter.grad is not None and not _finite(parameter.grad):
            return f"the gradient of {name} is not finite, though the loss is; {_largest(named)}"
    return f"losses/grad_norm is not finite, though every gradient is: they are too large for float32; {_largest(named)}"


def _leaves(trajectory: Trajectory) -> Iterator[tuple[str, Tensor]]:
    """The leaves that hold floats, by name."""
    for name, value in trajectory.steps._asdict().items():
        inner = {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
        yield from ((key, one) for key, one in inner.items() if isinstance(one, Tensor) and one.is_floating_point())


def _rows(leaf: Tensor) -> int | None:
    """The number of sequences of a leaf [T,B,...] that hold a non-finite number; None if none does."""
    bad = int((~torch.isfinite(leaf)).transpose(0, 1).flatten(1).any(1).sum())
    return bad or None


def _finite(value: Any) -> bool:
    return bool(torch.isfinite(torch.as_tensor(value)).all())


def _largest(named: list[tuple[str, nn.Parameter]]) -> str:
    sizes = [(name, float(parameter.detach().abs().max())) for name, parameter in named if parameter.numel()]
    if not sizes:
        return "there are no weights"
    name, size = max(sizes, key=lambda one: one[1])
    return f"the largest weight is {size:.3g}, in {name}"
