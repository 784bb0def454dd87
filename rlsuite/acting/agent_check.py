"""Tries out a third-party agent on blank data, so that a broken contract is reported before training starts.

Shapes: T time, B batch.
"""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlsuite.acting.act import act
from rlsuite.acting.board_agent import BoardAgent
from rlsuite.core import masks, registry
from rlsuite.core.agent import Agent, Extra, Games, Loss, Mode, Rollouts, Sequences, Transitions
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step, Trajectory

BATCH, ROLLOUT = 2, 4


def check_agent(agent: Agent, spec: EnvSpec) -> None:
    """Calls every method of the contract on blank data. UsageError that names the file, the method and what it should return."""
    check = _Check(agent, spec)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        check.run()


class _Check:
    def __init__(self, agent: Agent, spec: EnvSpec):
        self.agent, self.spec = agent, spec
        self.where = f"agent.name = {agent.config.name}, {type(agent).__name__}"
        self.rng = torch.Generator().manual_seed(0)

    def run(self) -> None:
        with self.calling("make_net"):
            net = self.agent.make_net()
        self.expect(isinstance(net, torch.nn.Module), "make_net", f"returned a {type(net).__name__}, not a torch.nn.Module")
        with self.calling("initial_state"):
            state = self.agent.initial_state(BATCH)
        shapes = self.shapes(state, "initial_state")
        specs = (Transitions, Sequences, Rollouts, Games)
        self.expect(isinstance(self.agent.sequence, specs), "sequence", f"is {self.agent.sequence!r}, not one of {_names(specs)}")
        if isinstance(self.agent, BoardAgent):
            self.positions(self.agent, net)
        if set(self.spec.info_keys) - {masks.KEY}:
            return  # it acts on info values from the environment, which blank data cannot stand in for
        blank = {name: torch.ones(1, BATCH, *shape, dtype=torch.bool) for name, shape, _ in masks.stored(self.spec)}
        extras: dict[str, Tensor] = {}
        for explore in (True, False) if self.agent.plays else ():
            with self.calling("act"):
                action, new_state, extras = act(self.agent, net, self.steps(1, blank), state, Mode(explore, 0, self.rng))
            self.expect(isinstance(action, Tensor), "act", f"returned a {type(action).__name__} for the actions, not a tensor")
            want = [BATCH, *self.spec.action_shape]
            self.expect(list(action.shape) == want, "act", f"returned actions of shape {list(action.shape)}, not {want}")
            kind = "floating-point" if self.spec.action_shape else "int64"
            right = action.is_floating_point() if self.spec.action_shape else action.dtype == torch.int64
            self.expect(right, "act", f"returned {action.dtype} actions, not {kind} ones")
            new_shapes = self.shapes(new_state, "act")
            self.expect(new_shapes == shapes, "act", f"changed the state's shapes and dtypes from {shapes} to {new_shapes}")
            for name, extra in extras.items():
                first = list(extra.shape[:1])
                self.expect(first == [BATCH], "act", f"returned extras[{name!r}] of shape {list(extra.shape)}, not [{BATCH}, ...]")
        extras |= {name: leaf[0] for name, leaf in blank.items()}
        stored = () if isinstance(self.agent.sequence, Rollouts) else self.agent.sequence.extras
        if self.agent.offline:  # its `recorded` adds them
            extras |= {one.name: _blank(one) for one in stored}
        for one in stored:
            self.expect(one.name in extras, "act", f"returned no extras[{one.name!r}], which `sequence` declares")
        self.losses(net, state, extras)

    def positions(self, agent: BoardAgent, net: Any) -> None:
        """Checks the shapes that `evaluator` returns for the first position of the agent's game."""
        state = agent.game.new_state()
        with self.calling("evaluator"):
            found = agent.evaluator(net)(state.row[None], np.array([agent.game.rules.hash(state.row)], np.uint64))
        shapes = [list(leaf.shape) for leaf in found] if isinstance(found, tuple) else type(found).__name__
        want = [[1, agent.game.num_actions], [1]]
        self.expect(shapes == want, "evaluator", f"gives {shapes}, not logits and values of shapes {want}")

    def losses(self, net: Any, state: State, extras: dict[str, Tensor]) -> None:
        """Checks `prepare`, `loss` and `priority` on a blank trajectory."""
        sequence = self.agent.sequence
        length = ROLLOUT + 1 if isinstance(sequence, Rollouts) else sequence.length
        if isinstance(sequence, Rollouts):
            kept = extras | {one.name: _blank(one) for one in sequence.beside(self.spec)}
        else:
            kept = {extra.name: extras[extra.name] for extra in sequence.extras}
        steps = self.steps(length, {name: extra.expand(length, *extra.shape) for name, extra in kept.items()})
        if isinstance(sequence, Transitions):
            steps = steps._replace(observation=steps.observation[:2])
        trajectory = Trajectory(steps, () if isinstance(sequence, Sequences) and not sequence.state else state)
        with self.calling("observe"):
            trajectory = self.agent.observe(net, trajectory, learning=False)
        with self.calling("prepare"):
            part = next(iter(self.agent.prepare(net, trajectory, self.rng)))
        rows = part.steps.reward.shape[1]
        with self.calling("loss"), torch.enable_grad():
            loss = self.agent.loss(net, net, part, self.rng)
        self.expect(isinstance(loss, Loss), "loss", f"returned a {type(loss).__name__}, not a rlsuite.core.agent.Loss")
        self.expect(
            list(loss.loss.shape) == [rows], "loss", f"returned a loss of shape {list(loss.loss.shape)}, not [B] = [{rows}]"
        )
        self.expect(loss.loss.requires_grad, "loss", "returned a loss that does not depend on the net's weights")
        for name, value in loss.metrics.items():
            self.expect(
                isinstance(value, Tensor), "loss", f"returned metrics[{name!r}] of type {type(value).__name__}, not a tensor"
            )
            self.expect(value.numel() == 1, "loss", f"returned metrics[{name!r}] of shape {list(value.shape)}, not a scalar")
        if loss.td is None:
            return
        self.expect(loss.td.dim() == 2, "loss", f"returned td of shape {list(loss.td.shape)}, not [T,B]")
        with self.calling("priority"):
            priority = self.agent.priority(*loss.priority_inputs())
        right = list(priority.shape) == [rows] and bool((priority > 0).all())
        self.expect(right, "priority", f"returned {priority.tolist()}, not [B] = [{rows}] numbers above 0")

    def steps(self, length: int, extras: dict[str, Tensor]) -> Step:
        """Blank steps of one episode, leaves [T,B,...]."""
        spec, shape = self.spec, (length, BATCH)
        false = torch.zeros(shape, dtype=torch.bool)  # [T,B]
        first = false.clone()
        first[0] = True
        return Step(
            observation=torch.zeros(*shape, *spec.observation_shape, dtype=getattr(torch, spec.observation_dtype)),
            reward=torch.zeros(shape),
            first=first,
            last=false,
            terminal=false,
            action=torch.zeros(*shape, *spec.action_shape, dtype=getattr(torch, spec.action_dtype)),
            extras=extras,
        )

    def shapes(self, state: State, method: str) -> list[tuple[list[int], str]]:
        """Shape and dtype of every leaf of a recurrent state."""
        self.expect(isinstance(state, tuple), method, f"returned a state that is a {type(state).__name__}, not a tuple of tensors")
        return [(list(leaf.shape), str(leaf.dtype)) for leaf in state]

    def expect(self, right: bool, method: str, found: str) -> None:
        """Raises UsageError with `found`, a description of what `method` did wrong, unless `right`."""
        if not right:
            raise UsageError(f"{self.where}.{method} {found}")

    def calling(self, method: str) -> AbstractContextManager[None]:
        """Context that reports an error of the agent's own code in one line that says where it happened."""
        return registry.third_party(f"{self.where}.{method}")


def _blank(extra: Extra) -> Tensor:
    """An extra [B,...] of zeros."""
    return torch.zeros(BATCH, *extra.shape, dtype=getattr(torch, extra.dtype))


def _names(kinds: tuple[type, ...]) -> str:
    return ", ".join(kind.__name__ for kind in kinds)
