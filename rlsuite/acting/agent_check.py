"""Tries out a third-party agent on blank data, so that a broken contract is reported before training starts.

Shapes: T time, B batch.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rlsuite.acting.act import act
from rlsuite.core.agent import Agent, Loss, Mode, Rollouts, Sequences, Transitions
from rlsuite.core.errors import RlsuiteError, UsageError
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
        extras: dict[str, Tensor] = {}
        for explore in (True, False):
            with self.calling("act"):
                action, new_state, extras = act(self.agent, net, self.steps(1, {}), state, Mode(explore, 0, self.rng))
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
        stored = () if isinstance(self.agent.sequence, Rollouts) else self.agent.sequence.extras
        for one in stored:
            self.expect(one.name in extras, "act", f"returned no extras[{one.name!r}], which `sequence` declares")
        self.losses(net, state, extras)

    def losses(self, net: Any, state: State, extras: dict[str, Tensor]) -> None:
        """Checks `prepare`, `loss` and `priority` on a blank trajectory."""
        sequence = self.agent.sequence
        length = ROLLOUT + 1 if isinstance(sequence, Rollouts) else sequence.length
        kept = extras if isinstance(sequence, Rollouts) else {extra.name: extras[extra.name] for extra in sequence.extras}
        steps = self.steps(length, {name: extra.expand(length, *extra.shape) for name, extra in kept.items()})
        if isinstance(sequence, Transitions):
            steps = steps._replace(observation=steps.observation[:2])
        trajectory = Trajectory(steps, () if isinstance(sequence, Sequences) and not sequence.state else state)
        with self.calling("prepare"):
            part = next(iter(self.agent.prepare(net, trajectory, self.rng)))
        rows = part.steps.reward.shape[1]
        with self.calling("loss"):
            loss = self.agent.loss(net, net, part, self.rng)
        self.expect(isinstance(loss, Loss), "loss", f"returned a {type(loss).__name__}, not a rlsuite.core.agent.Loss")
        self.expect(
            list(loss.loss.shape) == [rows], "loss", f"returned a loss of shape {list(loss.loss.shape)}, not [B] = [{rows}]"
        )
        for name, value in loss.metrics.items():
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
        """UsageError that `method` did what `found` describes, if that is not `right`."""
        if not right:
            raise UsageError(f"{self.where}.{method} {found}")

    @contextmanager
    def calling(self, method: str) -> Iterator[None]:
        """Turns what the agent's own code raises into a UsageError of one line, with file and line number."""
        try:
            yield
        except RlsuiteError:
            raise
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            reason = " ".join(str(error).split()) or "no message"
            raise UsageError(
                f"{self.where}.{method} failed: {type(error).__name__}: {reason} ({at.filename}, line {at.lineno})"
            ) from error
