"""What an agent is: a few pure functions over a net. Shapes: T time, B batch."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rlsuite.core.types import State, Step, Trajectory

Net = nn.Module  # (step [T,B,...], state) -> (output, state)


class Mode(NamedTuple):
    """How to act: explore as training does, or play as well as the agent can."""

    explore: bool
    agent_steps: int  # the global clock, for schedules
    rng: torch.Generator  # on the net's device
    first_env: int = 0  # where the environments of this collector stand among those of all
    total_envs: int = 0  # environments of all collectors; 0: those of this one


class Loss(NamedTuple):
    loss: Tensor  # [B] f32, before importance weights
    td: Tensor | None  # [T,B] f32, what priorities are made of; None: the agent has none
    metrics: dict[str, Tensor]  # scalars, detached
    stop: Tensor | None = None  # scalar bool: no further minibatch of this trajectory
    valid: Tensor | None = None  # [T,B] bool, where `td` counts; None: everywhere

    def counted(self) -> tuple[Tensor, Tensor]:
        """What `Agent.priority` takes: td and valid, [T,B]."""
        assert self.td is not None
        return self.td, torch.ones_like(self.td, dtype=torch.bool) if self.valid is None else self.valid


class Extra(NamedTuple):
    """One of the extras of `act` that a replay memory keeps."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class SequenceSpec(NamedTuple):
    """What a store must cut for an agent."""

    length: int | None  # T; None: on-policy, whole unrolls and what is seen behind them, each once
    sparse: bool  # observations only at step 0 and at the bootstrap step
    extras: tuple[Extra, ...] = ()
    games: bool = False  # unrolls are of games, one behind the other in one environment, and the agent brings its collector
    stride: int = 1  # steps from one sequence to the next; 1: a sequence for every action
    from_first: bool = False  # strides are counted from the first step of every episode
    state: tuple[Extra, ...] = ()  # leaves of the recurrent state that a replay memory keeps where sequences start
    burn_in: int = 0  # steps at a sequence's start that nothing is learned from


class Agent(Protocol):
    """One file an algorithm; no I/O, no devices. Everything that changes is passed in.

    Three things may be there beside what stands below. `has_target = False`: `loss` does not look at `target`. `supports`, a
    frozen set: what the agent can do with among "continuous actions", "net.memory", "net.last_action_reward",
    "net.separate_value", and, of an on-policy agent that corrects for them, "old weights". And a hook, `prepare(net,
    trajectory, rng) -> iterator of trajectories`: the minibatches that a trajectory is learned from, one update each, called
    without gradients. `begin(net)` may change a new net's first weights, those of
    `net.init_from` included. An agent of board games (`sequence.games`) brings `collector(env, net, *, seed, device, bf16)`, which
    gives a `GameCollector`, and `evaluator(net)`, which gives what a search asks.
    """

    @property
    def sequence(self) -> SequenceSpec: ...

    def make_net(self) -> Net: ...

    def initial_state(self, batch: int) -> State: ...

    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        """`step` has leaves [1,B,...]; returns actions [B] i64, the new state, and extras [B,...] to be stored."""
        ...

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss: ...

    def priority(self, td: Tensor, valid: Tensor) -> Tensor:
        """td, valid [T,B] -> [B] f32 > 0. Collectors and the learner share it; not needed where `Loss.td` is None."""
        ...
