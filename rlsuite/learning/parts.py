"""The parts of a net that a learner trains in turn, each with its own optimizer and loss. Most nets have only one part.

Shapes: B batch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.config.schema import LearnerConfig
from rlsuite.core.agent import Loss, Objective
from rlsuite.core.errors import UsageError
from rlsuite.learning.optimizers import Groups, make_optimizer, same_kind
from rlsuite.learning.resets import reset_optimizer
from rlsuite.nets.precision import Precision

Rates = Callable[[nn.Module], Groups]  # the parameters of a net in groups, each with a factor on the learning rate


class TrainedPart:
    """A part of a net and its optimizer."""

    def __init__(self, name: str, config: LearnerConfig, parameters: list[nn.Parameter], groups: Groups | None):
        """`parameters`: fp32. `groups`: the same in groups with factors on the learning rate; None: all have the same rate."""
        self.name, self.config, self.parameters, self.groups = name, config, parameters, groups
        self.optimizer = self._new_optimizer()
        self.computing: list[nn.Parameter] = []  # the same parameters, in the precision that the net computes in

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.config, self.parameters, self.groups)

    def gradients(self) -> list[Tensor]:
        """The gradients of the part's last loss."""
        return [p.grad for p in self.parameters if p.grad is not None]

    def set_learning_rate(self, rate: float) -> None:
        """Sets the learning rate for the coming updates; groups multiply it by their factors."""
        for group in self.optimizer.param_groups:
            own = rate * group.get("factor", 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(own)
            else:
                group["lr"] = own

    def reset(self) -> None:
        """Resets the optimizer's moments, in place."""
        reset_optimizer(self.optimizer, self._new_optimizer())

    def load(self, state: dict[str, Any]) -> None:
        """Restores the optimizer's `state_dict`, except learning rate and epsilon, which come from this config."""
        self.optimizer.load_state_dict(state)
        now = self._new_optimizer().param_groups
        for group, fresh in zip(self.optimizer.param_groups, now, strict=True):
            group.update({name: fresh[name] for name in ("lr", "eps") if name in fresh})
        for parameter, moments in self.optimizer.state.items():  # files do not keep the memory layout
            for name, moment in moments.items():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter, requires_grad=False).copy_(moment)


def make_parts(agent: Objective, online: Precision, config: LearnerConfig, rates: Rates | None) -> list[TrainedPart]:
    """The parts of an agent's net in the order of their turns. UsageError if a trained parameter is in none, or in two."""
    groups = None if rates is None else rates(online.master)
    made: list[TrainedPart] = []
    owners: dict[int, str] = {}  # id of a parameter -> name of its part
    for name, part in agent.parts(online.master).items():
        mine = {id(p): p for p in part.parameters()}
        if twice := next((owners[key] for key in mine if key in owners), None):
            raise UsageError(f"the parts {twice} and {name} of this net share parameters")
        owners |= dict.fromkeys(mine, name)
        own = None if groups is None else [(factor, [p for p in group if id(p) in mine]) for factor, group in groups]
        if own is None and part.rate != 1:
            own = [(1.0, list(mine.values()))]
        scaled = None if own is None else [(factor * part.rate, group) for factor, group in own if group]
        made.append(TrainedPart(name, config, list(mine.values()), scaled))
    for name, parameter in online.master.named_parameters():
        if parameter.requires_grad and id(parameter) not in owners:
            raise UsageError(f"{name} is in none of the parts of this net: {', '.join(part.name for part in made)}")
    for trained, part in zip(made, agent.parts(online.net).values(), strict=True):
        trained.computing = part.parameters()
    return made


@contextmanager
def turn_of(part: TrainedPart, parts: Sequence[TrainedPart]) -> Iterator[None]:
    """A context for the loss of one part: gradients pass through the other parts, but not into their parameters."""
    others = [p for other in parts if other is not part for p in other.computing]
    try:
        for parameter in others:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def joined(parts: Sequence[TrainedPart], turns: Sequence[tuple[Loss, Tensor]]) -> tuple[Loss, Tensor]:
    """Combines the losses and gradient norms of an update's turns: summed losses [B], total norm, and metrics of each part."""
    if len(turns) == 1:
        return turns[0]
    metrics: dict[str, Tensor] = {}
    for part, (loss, norm) in zip(parts, turns, strict=True):
        own = {f"losses/{part.name}_loss": loss.loss.detach().mean(), f"losses/{part.name}_grad_norm": norm}
        metrics |= loss.metrics | own
    losses = [loss for loss, _ in turns]
    stops = [loss.stop for loss in losses if loss.stop is not None]
    first = next(
        (loss for loss in losses if loss.td is not None), losses[0]
    )  # priorities are those of the first part that has them
    total = torch.stack([loss.loss.detach() for loss in losses]).sum(0)
    return (
        Loss(total, first.td, metrics, torch.stack(stops).any() if stops else None, first.valid),
        nn.utils.get_total_norm([norm for _, norm in turns]),
    )


def optimizer_state(parts: Sequence[TrainedPart]) -> dict[str, Any]:
    """The state of the whole net's optimizer or, with several parts, those of their optimizers by name."""
    states = {part.name: part.optimizer.state_dict() for part in parts}
    return states.get("", states)


def load_optimizer_state(parts: Sequence[TrainedPart], state: dict[str, Any]) -> None:
    """Restores what `optimizer_state` returned. ValueError if it is for other parts or another optimizer."""
    saved = {"": state} if "param_groups" in state else state
    ours, theirs = [part.name for part in parts], sorted(saved)
    if theirs != sorted(ours):
        told = [", ".join(name or "the whole net" for name in names) for names in (theirs, ours)]
        raise ValueError(f"its optimizers train {told[0]}, but the parts of this net are {told[1]}")
    for part in parts:
        if not same_kind(part.optimizer.state_dict(), saved[part.name]):
            raise ValueError(f"its optimizer is not learner.optimizer = {part.config.optimizer!r}")
    for part in parts:
        part.load(saved[part.name])
