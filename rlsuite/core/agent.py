"""The contract of an agent: a few pure functions over a net. Shapes: T time, B batch.

A new agent is one file with a subclass of `Agent` (or of `ValueAgent`, `PolicyGradientAgent`, `BoardAgent`, which share more). It
declares the form of its training data (`sequence`), builds its net, acts, and turns a trajectory into a loss. It does no I/O, moves
nothing between devices and keeps no state: everything that changes is passed in.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

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
    "net.any_size",
    "looking ahead",  # its net may read later steps (`nets.memory.Core.looks_ahead`), because the agent does not act
    "net.auxiliary",
    "agent.novelty",
    "old weights",  # an on-policy agent that corrects for rollouts of older weights
    "inference server",  # `act` calls only the net's `forward`; for board games, `evaluate` calls only the net's `evaluate`
]


class Mode(NamedTuple):
    """How to act: explore as in training, or play as well as the agent can."""

    explore: bool
    agent_steps: int  # agent steps of the whole run so far, for schedules
    rng: torch.Generator  # on the net's device
    first_env: int = 0  # index of this collector's first environment among those of all collectors
    total_envs: int = 0  # environments of all collectors; 0: this collector is the only one


class Loss(NamedTuple):
    """The loss of a batch, with TD errors and metrics, as returned by `Objective.loss`."""

    loss: Tensor  # [B] f32, before importance weights
    td: Tensor | None  # [T,B] f32, TD errors that priorities are computed from; None: no priorities
    metrics: dict[str, Tensor]  # scalars, detached
    stop: Tensor | None = None  # scalar bool: skip the remaining minibatches of this trajectory
    valid: Tensor | None = None  # [T,B] bool, where `td` counts; None: everywhere

    def priority_inputs(self) -> tuple[Tensor, Tensor]:
        """The arguments of `Objective.priority`: td [T,B] f32 and valid [T,B] bool."""
        assert self.td is not None
        return self.td, torch.ones_like(self.td, dtype=torch.bool) if self.valid is None else self.valid


class Extra(NamedTuple):
    """An array that is stored with every step: one of the extras of `act`, or a leaf of the recurrent state."""

    name: str
    shape: tuple[int, ...]  # of one step
    dtype: str  # of NumPy, such as "float32"


@dataclass(frozen=True)
class Transitions:
    """n-step transitions, one from every action: T = n + 1, with observations only at step 0 and at the bootstrap step."""

    n: int = 1
    extras: tuple[Extra, ...] = ()
    whole: bool = False  # observations at all T steps

    @property
    def length(self) -> int:
        """T, steps of a sequence."""
        return self.n + 1


@dataclass(frozen=True)
class Sequences:
    """Sequences for recurrent replay, one starting every `stride` steps: T = burn_in + unroll + n."""

    burn_in: int  # steps at the start that only bring the recurrent state up to date
    unroll: int  # steps that are learned from
    n: int  # steps after them that targets look ahead
    stride: int  # at least 2
    state: tuple[Extra, ...] = ()  # leaves of the recurrent state, stored where sequences start; (): it is not stored
    within_episodes: bool = False  # strides are counted from the first step of every episode
    extras: tuple[Extra, ...] = ()

    @property
    def length(self) -> int:
        """T, steps of a sequence."""
        return self.burn_in + self.unroll + self.n


@dataclass(frozen=True)
class Rollouts:
    """Whole unrolls of the collector, each learned from once and then dropped, for on-policy agents."""

    recorded: bool = False  # pair each step with a recorded one, drawn uniformly from `replay.demonstrations`

    def beside(self, spec: EnvSpec) -> tuple[Extra, ...]:
        """The extras that hold the recorded steps; () if there are none."""
        observation = Extra("recorded_observation", spec.observation_shape, spec.observation_dtype)
        return (observation, Extra("recorded_action", spec.action_shape, spec.action_dtype)) if self.recorded else ()


@dataclass(frozen=True)
class Games:
    """Single positions from finished games, played by the agent's own collector: T = 1."""

    extras: tuple[Extra, ...] = ()
    length: ClassVar[int] = 1


SequenceSpec = Transitions | Sequences | Rollouts | Games


class Part(NamedTuple):
    """A part of a net that has an optimizer and a loss of its own, such as the generator of a GAN."""

    modules: tuple[nn.Module, ...]  # whose parameters it trains
    rate: float = 1.0  # factor on `learner.learning_rate`
    without: tuple[nn.Module, ...] = ()  # modules within them that belong to other parts

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that this part trains, each once."""
        others = {id(p) for module in self.without for p in module.parameters()}
        own = {id(p): p for module in self.modules for p in module.parameters() if p.requires_grad}
        return [p for key, p in own.items() if key not in others]


class Objective(ABC):
    """A net and a loss: all that the learner needs. Agents are objectives that also act; vision models are objectives only."""

    has_target: ClassVar[bool] = True  # whether `loss` uses `target`; if not, there is a target net only for `act_with_target`
    heads: ClassVar[tuple[str, ...]] = ()  # names of the net's heads, which `learner.resets` replaces; (): it cannot be reset

    @abstractmethod
    def make_net(self) -> Net:
        """A new net with its initial weights, on the CPU in fp32."""

    def observe(self, net: Net, trajectory: Trajectory, learning: bool) -> Trajectory:
        """Adds what the net computes, such as bonuses, to a trajectory before `prepare`; by default nothing. Without gradients.

        `learning`: the trajectory is about to be learned from, so running statistics are updated; otherwise they stay as they are.
        """
        return trajectory

    def prepare(self, net: Net, trajectory: Trajectory, rng: torch.Generator) -> Iterator[Trajectory]:
        """Yields the minibatches of a trajectory, one update each: by default the trajectory itself. Called without gradients."""
        yield trajectory

    def used(self, trajectory: Trajectory) -> Trajectory:
        """The part of a minibatch that `loss` looks at, by default all of it. Only its images are augmented."""
        return trajectory

    @abstractmethod
    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        """The loss of a trajectory, leaves [T,B,...]; `target` is the target net, or the net itself without one."""

    def parts(self, net: Net) -> dict[str, Part]:
        """The parts of the net by name, in the order in which each update trains them; by default one part, the whole net.

        Every trained parameter must belong to exactly one part.
        """
        return {"": Part((net,))}

    def of_part(self, name: str) -> "Objective":
        """The objective whose `loss` trains the part `name`; by default the objective itself, which has one part only.

        Gradients of that loss pass through the other parts, but do not change them.
        """
        return self

    def at(self, updates: int) -> Self:
        """The objective to use `updates` learner steps after the start or the last reset; by default the objective itself."""
        return self

    def priority(self, td: Tensor, valid: Tensor) -> Tensor:
        """The replay priority of each sequence, [B] f32 > 0, from td [T,B] f32 and valid [T,B] bool."""
        return (td.abs() * valid).sum(0) + 1e-6

    @property
    def makes_minibatches(self) -> bool:
        """Whether `prepare` is overridden, so that a trajectory may take several updates."""
        return type(self).prepare is not Objective.prepare


class Actor(ABC):
    """The part of an agent that a collector needs: it acts, and carries a recurrent state from step to step."""

    sequence: SequenceSpec = Transitions()  # the form of its training data; set in the class or in `__init__`

    @property
    def sees_last_action(self) -> bool:
        """Whether the last leaf of the recurrent state is the previous action, which `acting.act` puts there, not the agent."""
        return False

    def initial_state(self, batch: int) -> State:
        """The recurrent state before the first step of an episode, leaves [B,...]; () without a memory."""
        return ()

    @abstractmethod
    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Chooses actions for `step`, leaves [1,B,...]: actions [B,...], the new state, and extras [B,...] to store."""


class Agent(Actor, Objective):
    """Base class of agents. Abstract methods must be implemented; everything else has a default."""

    Config: ClassVar[type[Any]]  # the section `agent` of a run's config, derived from `rlsuite.config.schema.AgentSection`
    offline: ClassVar[bool] = False  # learns from `replay.demonstrations` alone; the environment is for evaluations only
    plays: ClassVar[bool] = True  # False: learns something other than acting from recordings; `rate` measures how well
    capabilities: ClassVar[frozenset[Capability]] = frozenset()  # features supported beyond discrete actions without a memory

    def __init__(self, config: Any, net: Any, spec: EnvSpec):
        """`config`: a `Config`; `net`: the run's `NetConfig`. UsageError if they do not fit the environment."""
        self.config, self.net_config, self.spec = config, net, spec

    @classmethod
    def needs_recordings(cls) -> bool:
        """Whether the agent cannot learn without `replay.demonstrations`: it uses them alone, or paired with its rollouts."""
        return cls.offline or (isinstance(cls.sequence, Rollouts) and cls.sequence.recorded)

    @classmethod
    def validate(cls, config: Any) -> None:
        """Raises ValueError, naming the key, if the whole config (`rlsuite.config.schema.Config`) does not suit this agent."""
        replay = config.replay
        if replay.demonstrations is not None and replay.demonstration_ratio is None and not cls.needs_recordings():
            raise ValueError("replay.demonstrations needs replay.demonstration_ratio: give both, or none")
        if cls.offline and config.runtime.kind != "local":
            raise ValueError(f"agent.name = {config.agent.name} learns from recordings, which takes runtime.kind = local")

    @classmethod
    def ignores(cls, config: Any) -> dict[str, str]:
        """Config keys that have no effect with this agent -> the condition under which they would; setting them is an error.

        A section's name stands for all its keys. Conditions begin with the key that they test, as in "replay.prioritized = true".
        """
        ignored: dict[str, str] = {}
        if not cls.has_target:
            target = ("learner.target_period_learner_steps", "learner.target_ema")
            if isinstance(cls.sequence, Rollouts):  # it learns from what its own weights did, so no others may act
                needs = f"agent.name = an agent that has a target network; {config.agent.name} has none"
                ignored = dict.fromkeys((*target, "learner.act_with_target"), needs)
            elif not config.learner.act_with_target:
                ignored = dict.fromkeys(target, f"learner.act_with_target = true; no loss of {config.agent.name} has a target")
        if cls.offline:
            needs = f"agent.name = an agent that collects steps; {config.agent.name} learns from recordings alone"
            stored = [f"replay.{key}" for key in type(config.replay).model_fields if key != "demonstrations"]
            others = ["env.num_envs", "run.collect_agent_steps", "run.policy_lag_learner_steps", "learner.prefetch_batches"]
            ignored |= dict.fromkeys(stored + others, needs)
        if cls.plays:
            ignored["eval.demonstrations"] = f"agent.name = an agent that does not play; {config.agent.name} plays in evaluations"
        if not cls.heads:
            ignored["learner.resets"] = f"agent.name = an agent that names the heads of its net; {config.agent.name} does not"
        return ignored

    def init_net(self, net: Net) -> None:
        """Changes the initial weights of a new net in place, after those of `net.init_from` have been loaded."""

    def recorded(self, steps: Step) -> Step:
        """Adds the extras that the agent's sequences need to recorded steps [N,...]. UsageError if it cannot learn from them."""
        return steps

    def rate(self, net: Net, episode: Step) -> float:
        """The score on a recorded episode, leaves [n+1,...], of an agent that does not play; larger is better."""
        raise NotImplementedError

    def scores(self, net: Net, steps: Step, state: State) -> tuple[Tensor, State]:
        """Action values or logits [T,B,A] f32 for `steps` [T,B,...] from `state`, and the state after them.

        For continuous actions, the means [T,B,A]. Export and distillation need this method.
        """
        raise NotImplementedError

    @property
    def has_scores(self) -> bool:
        """Whether the agent implements `scores`."""
        return type(self).scores is not Agent.scores

    @property
    def sees_last_action(self) -> bool:
        """See `Actor`: true with `net.last_action_reward`."""
        return bool(self.net_config.last_action_reward)

    @property
    def on_policy(self) -> bool:
        """Whether the agent learns from every rollout once, without a replay."""
        return isinstance(self.sequence, Rollouts)


def agent_class(name: str) -> type[Agent]:
    """The class of an agent, by name or `file.py:Class`. UsageError if there is none, or if it is not an agent."""
    found = registry.agents.get(name)
    where = f"agent.name = {name}"
    if not (inspect.isclass(found) and issubclass(found, Agent)):
        kind = found.__name__ if inspect.isclass(found) else f"an object of type {type(found).__name__}"
        raise UsageError(f"{where}: {kind} is not a subclass of rlsuite.core.agent.Agent")
    if missing := sorted(found.__abstractmethods__):
        raise UsageError(f"{where}: {found.__name__} does not implement {', '.join(missing)}; see rlsuite.core.agent.Agent")
    if not inspect.isclass(getattr(found, "Config", None)):
        raise UsageError(f"{where}: {found.__name__} has no Config, which must be a subclass of rlsuite.config.schema.AgentSection")
    return found


def with_capability(capability: Capability) -> list[str]:
    """Names of the known agents with this capability, except third-party agents that cannot be imported."""
    found = []
    for name in registry.agents.names():
        with suppress(UsageError):
            found += [name] if capability in agent_class(name).capabilities else []
    return found
