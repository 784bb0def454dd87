"""The contract of an agent: a few pure functions over a net. Shapes: T time, B batch.

A new agent is one file with a subclass of `Agent` (or of `ValueAgent`, `PolicyGradientAgent`, `BoardAgent`, which share more):
it says what a store must cut for it (`sequence`), builds its net, acts, and turns a trajectory into a loss. It does no I/O, moves
nothing between devices and keeps no state: everything that changes is passed in.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step, Trajectory

Net = nn.Module  # (step [T,B,...], state) -> (output, state)

Capability = Literal[
    "continuous actions",
    "net.memory",
    "net.last_action_reward",
    "net.separate_value",
    "old weights",  # an on-policy agent that corrects for rollouts of older weights
]


class Mode(NamedTuple):
    """How to act: explore as training does, or play as well as the agent can."""

    explore: bool
    agent_steps: int  # the global clock, for schedules
    rng: torch.Generator  # on the net's device
    first_env: int = 0  # index of this collector's first environment among those of all collectors
    total_envs: int = 0  # environments of all collectors; 0: those of this one


class Loss(NamedTuple):
    """What an agent's `loss` returns."""

    loss: Tensor  # [B] f32, before importance weights
    td: Tensor | None  # [T,B] f32, what priorities are made of; None: the agent has none
    metrics: dict[str, Tensor]  # scalars, detached
    stop: Tensor | None = None  # scalar bool: no further minibatch of this trajectory
    valid: Tensor | None = None  # [T,B] bool, where `td` counts; None: everywhere

    def priority_inputs(self) -> tuple[Tensor, Tensor]:
        """The arguments of `Agent.priority`: td and valid, [T,B]."""
        assert self.td is not None
        return self.td, torch.ones_like(self.td, dtype=torch.bool) if self.valid is None else self.valid


class Extra(NamedTuple):
    """An array that travels with every step: one of the extras of `act`, or a leaf of the recurrent state."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Transitions:
    """n-step transitions, one from every action: T = n + 1, observations only at step 0 and at the bootstrap step."""

    n: int = 1
    extras: tuple[Extra, ...] = ()

    @property
    def length(self) -> int:
        """T, steps of a sequence."""
        return self.n + 1


@dataclass(frozen=True)
class Sequences:
    """Sequences for recurrent replay, which start every `stride` steps: T = burn_in + unroll + n."""

    burn_in: int  # steps at the start that only bring the recurrent state up to date
    unroll: int  # steps that are learned from
    n: int  # steps after them that targets look ahead
    stride: int  # at least 2
    state: tuple[Extra, ...] = ()  # leaves of the recurrent state that is stored where sequences start; (): none is
    within_episodes: bool = False  # strides are counted from the first step of every episode
    extras: tuple[Extra, ...] = ()

    @property
    def length(self) -> int:
        """T, steps of a sequence."""
        return self.burn_in + self.unroll + self.n


@dataclass(frozen=True)
class Rollouts:
    """Whole unrolls of the collector, each learned from once and then dropped: the agent is on-policy."""


@dataclass(frozen=True)
class Games:
    """Single positions of finished games that the agent's own collector plays: T = 1."""

    extras: tuple[Extra, ...] = ()
    length: ClassVar[int] = 1


SequenceSpec = Transitions | Sequences | Rollouts | Games


class Objective(ABC):
    """A net and a loss: all that the learner needs. Agents are objectives that also act; vision models never do."""

    has_target: ClassVar[bool] = True  # whether `loss` looks at `target`; False spares the learner a copy of the net

    @abstractmethod
    def make_net(self) -> Net:
        """A new net with its first weights, on the CPU in fp32."""

    def prepare(self, net: Net, trajectory: Trajectory, rng: torch.Generator) -> Iterator[Trajectory]:
        """The minibatches that a trajectory is learned from, one update each; called without gradients."""
        yield trajectory

    @abstractmethod
    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        """The loss of a trajectory, leaves [T,B,...]; `target` is the target net, or the net itself without one."""

    def priority(self, td: Tensor, valid: Tensor) -> Tensor:
        """td, valid [T,B] -> [B] f32 > 0, the priority of each sequence; collectors and the learner share it."""
        return (td.abs() * valid).sum(0) + 1e-6

    @property
    def makes_minibatches(self) -> bool:
        """Whether `prepare` makes several updates of a trajectory."""
        return type(self).prepare is not Objective.prepare


class Actor(ABC):
    """What a collector needs: it acts, and carries a recurrent state from step to step."""

    sequence: SequenceSpec = Transitions()  # what a store cuts of its steps; set in the class or in `__init__`

    @property
    def sees_last_action(self) -> bool:
        """Whether the last leaf of its state is the action before, which whoever acts puts there (`acting.act`)."""
        return False

    def initial_state(self, batch: int) -> State:
        """The recurrent state before the first step of an episode, leaves [B,...]; () without a memory."""
        return ()

    @abstractmethod
    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        """`step` has leaves [1,B,...]; returns actions [B,...], the new state, and extras [B,...] to be stored."""


class Agent(Actor, Objective):
    """One file an algorithm. What is abstract is required; the rest has a default."""

    Config: ClassVar[type[Any]]  # its section of a run's config, derived from `rlsuite.config.schema.AgentSection`
    capabilities: ClassVar[frozenset[Capability]] = frozenset()  # what it can do beside discrete actions without a memory

    def __init__(self, config: Any, net: Any, spec: EnvSpec):
        """`config`: a `Config`; `net`: the run's `NetConfig`. UsageError where they do not fit the environment."""
        self.config, self.net_config, self.spec = config, net, spec

    @classmethod
    def validate(cls, config: Any) -> None:
        """Raises ValueError, with the key in its text, where a whole `rlsuite.config.schema.Config` does not suit this agent."""
        if not cls.has_target:
            for key in ("target_period_learner_steps", "target_ema"):
                if getattr(config.learner, key) != type(config.learner).model_fields[key].default:
                    raise ValueError(f"learner.{key} has no effect: agent.name={config.agent.name} has no target network")

    def init_net(self, net: Net) -> None:
        """Changes a new net's first weights in place, those of `net.init_from` included."""

    @property
    def sees_last_action(self) -> bool:
        return bool(self.net_config.last_action_reward)

    @property
    def on_policy(self) -> bool:
        """Whether it learns from every rollout once and has no replay."""
        return isinstance(self.sequence, Rollouts)


def agent_class(name: str) -> type[Agent]:
    """The class of an agent by name or `file.py:Class`. UsageError if there is none, or if it is no agent."""
    found = registry.agents.get(name)
    where = f"agent.name = {name}"
    if not (inspect.isclass(found) and issubclass(found, Agent)):
        kind = found.__name__ if inspect.isclass(found) else f"a {type(found).__name__}"
        raise UsageError(f"{where}: {kind} is no subclass of rlsuite.core.agent.Agent")
    if missing := sorted(found.__abstractmethods__):
        raise UsageError(f"{where}: {found.__name__} has no {', '.join(missing)}; see rlsuite.core.agent.Agent")
    if not inspect.isclass(getattr(found, "Config", None)):
        raise UsageError(f"{where}: {found.__name__} has no Config, a class derived from rlsuite.config.schema.AgentSection")
    return found


def with_capability(capability: Capability) -> list[str]:
    """Names of the known agents that have it."""
    return [name for name in registry.agents.names() if capability in agent_class(name).capabilities]
