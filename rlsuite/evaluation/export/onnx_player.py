"""Evaluates a saved agent that acts with an exported int8 net. Shapes: B batch, A actions, N positions."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.agents.value_based import ValueAgent
from rlsuite.core import masks
from rlsuite.core.agent import Agent, Net
from rlsuite.core.types import State, Step
from rlsuite.evaluation.export import export, runs_onnx
from rlsuite.evaluation.export.acting_net import ActingNet
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.nets.board_net import Evaluation
from rlsuite.nets.policy_net import PolicyOutput


class OnnxNet(nn.Module):
    """Replaces an agent's own net by a model in ONNX Runtime."""

    def __init__(self, saved: Saved, model: Path):
        super().__init__()
        self.like = ActingNet(saved.agent, saved.spec, saved.net)
        self.names = [port.name for port in self.like.inputs]
        self.run = runs_onnx(model, self.names)

    def scores(self, step: Step, state: State) -> tuple[Tensor, State]:
        """Values or logits [B,A] for `step`, leaves [1,B,...], and the state after it."""
        values = {"observation": step.observation[0], "first": step.first[0], "reward": step.reward[0]}
        if self.like.masked:
            values[masks.KEY] = step.extras[masks.KEY][0]
        values |= {f"state_{i}": leaf for i, leaf in enumerate(state[: self.like.states])}
        if len(state) > self.like.states:
            values["last_action"] = state[-1]
        scores, *carried = self.run(tuple(values[name] for name in self.names))
        return scores, (*carried, *state[self.like.states :])

    def forward(self, step: Step, state: State) -> tuple[PolicyOutput, State]:
        """The call of a policy agent: (step [1,B,...], state) -> (policy with a value of 0, state after it)."""
        logits, state = self.scores(step, state)
        log_std = getattr(self.like.net, "log_std", None)
        return PolicyOutput(logits[None], log_std, torch.zeros(1, len(logits))), state

    def evaluate(self, planes: Tensor) -> Evaluation:
        """The call of a board agent: planes [N,C,H,W] int8 -> policy and value."""
        return Evaluation(*self.run((planes,)))


def in_int8(saved: Saved) -> tuple[Agent, Net]:
    """The agent and the int8 net to evaluate it with. Raises the errors of `export` if the net cannot be exported."""
    with tempfile.TemporaryDirectory() as folder:
        export(saved.path, "onnx", Path(folder) / "int8", int8=True)
        net = OnnxNet(saved, Path(folder) / "int8" / "model.onnx")
    agent = saved.agent
    if not isinstance(agent, ValueAgent):
        return agent, net
    kind: Any = type(agent)

    class Quantised(kind):  # type: ignore[misc]
        def q_values(self, net: Any, step: Step, state: State, rng: torch.Generator | None) -> tuple[Tensor, State]:
            values, state = net.scores(step, state)
            return values, state

    return Quantised(agent.config, agent.net_config, agent.spec), net
