"""The net of a saved agent as other programs call it: arrays in, scores and recurrent state out. Shapes: B batch, A actions."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rlsuite.acting.selfplay import SelfPlayAgent
from rlsuite.agents.value_based import ValueAgent
from rlsuite.core import masks
from rlsuite.core.agent import Agent, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, Step
from rlsuite.nets.auxiliary import BESIDE
from rlsuite.nets.heads import clear_noise
from rlsuite.nets.memory import Recurrent


class Port(NamedTuple):
    """An input or output of a net."""

    name: str
    dtype: str
    shape: tuple[int, ...]  # without the batch axis, which comes first
    meaning: str


class ActingNet(nn.Module):
    """A saved agent's net for export, in fp32: `forward` takes the tensors of `inputs`, each [B,...], and returns `outputs`."""

    def __init__(self, agent: Agent, spec: EnvSpec, net: Net):
        """`net` is converted to fp32. UsageError for an agent that acts neither by action values nor by a policy net."""
        super().__init__()
        self.agent, self.spec, self.net = agent, spec, net.float()
        clear_noise(self.net)
        for module in self.net.modules():
            if isinstance(module, Recurrent):
                module.fixed_shapes = True
        self.board = isinstance(agent, SelfPlayAgent)
        if not self.board and not agent.has_scores:
            raise UsageError(f"agent.name={agent.config.name} acts neither by action values nor by a policy net: no export")
        self.masked = masks.KEY in spec.info_keys and not self.board
        state: tuple[Tensor, ...] = () if self.board else agent.initial_state(1)
        self.states = len(state) - agent.sees_last_action  # number of state tensors that go in and come out
        seen = "as the environment returns it"
        if self.board:
            seen = "planes of the position, as the player to move sees it"
        elif spec.observation_space is not None:
            seen = "as the agent sees the environment's observation_space (docs/own-env.md)"
        dtype = "int8" if self.board else spec.observation_dtype
        self.inputs = [Port("observation", dtype, spec.observation_shape, seen)]
        if self.masked:
            self.inputs.append(Port("action_mask", "bool", (spec.num_actions,), "the actions that are allowed"))
        if state:
            self.inputs.append(Port("first", "bool", (), "whether the observation is the first of an episode"))
        if agent.sees_last_action:
            self.inputs.append(Port("reward", "float32", (), "that came with the observation; 0 at first"))
            last = state[-1]
            meaning = "the action before; anything at first"
            self.inputs.append(Port("last_action", str(last.dtype).removeprefix("torch."), tuple(last.shape[1:]), meaning))
        carried = [
            Port(f"state_{i}", str(leaf.dtype).removeprefix("torch."), tuple(leaf.shape[1:]), "zeros at first, then the output")
            for i, leaf in enumerate(state[: self.states])
        ]
        self.inputs += carried
        if self.board:
            self.outputs = [
                Port("logits", "float32", (spec.num_actions,), "of the policy, also for moves that are not legal"),
                Port("value", "float32", (), "expected result for the player to move, from -1 to 1"),
            ]
        else:
            what = "action values; the largest is chosen" if isinstance(agent, ValueAgent) else "logits; the largest is chosen"
            size = spec.num_actions
            if spec.action_shape:
                size, what = spec.action_shape[0], "the action"
            if spec.action_space is not None:
                what += ", in the agent's terms (docs/own-env.md says what that is in the environment's action_space)"
            self.outputs = [Port("scores", "float32", (size,), what)]
            after = [port._replace(name=f"next_{port.name}", meaning="the state for the next step") for port in carried]
            self.outputs += after

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if self.board:
            output: Any = self.net.evaluate(given[0])  # type: ignore[operator]
            return output.logits, output.value
        named = dict(zip((port.name for port in self.inputs), given, strict=True))
        seen = named["observation"].unsqueeze(0)  # [1,B,...]
        no = torch.zeros(1, seen.shape[1], dtype=torch.bool)  # [1,B]
        first = named["first"].unsqueeze(0) if "first" in named else no
        reward = named["reward"].unsqueeze(0) if "reward" in named else no.float()
        state = tuple(named[f"state_{i}"] for i in range(self.states))
        if "last_action" in named:
            state = (*state, named["last_action"])
        extras = {masks.KEY: named[masks.KEY].unsqueeze(0)} if self.masked else {}
        action = no.long() if not self.spec.action_shape else no.float().unsqueeze(-1).expand(1, -1, *self.spec.action_shape)
        step = Step(seen, reward, first, no, no, action, extras)
        scores, state = self.agent.scores(self.net, step, state)  # [1,B,A]
        return masks.masked(scores, step)[0], *state[: self.states]

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Example inputs, [`batch`,...], of the right shapes and dtypes."""
        return tuple(torch.zeros(batch, *port.shape, dtype=getattr(torch, port.dtype)) for port in self.inputs)


class Size(NamedTuple):
    """The size of a net, and the cost of acting with it."""

    parameters: int
    macs: int | None  # multiply-accumulate operations for one observation; None for an agent without an acting net


def acting_parameters(net: nn.Module) -> int:
    """The number of parameters of a net, without those that are only used in training."""
    beside = (*BESIDE, "discriminator.")
    return sum(parameter.numel() for name, parameter in net.named_parameters() if not name.startswith(beside))


def size_of(agent: Agent, spec: EnvSpec) -> Size:
    """The size of an agent's net, measured by acting once with a new one."""
    with torch.random.fork_rng(devices=[]):
        net = agent.make_net()
    parameters = acting_parameters(net)
    if not (agent.has_scores or isinstance(agent, SelfPlayAgent)):
        return Size(parameters, None)
    acting = ActingNet(agent, spec, net)
    with FlopCounterMode(display=False) as counter:  # with gradients, because it does not count fused convolutions
        acting(*acting.example(1))
    return Size(parameters, int(counter.get_total_flops()) // 2)
