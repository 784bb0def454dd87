"""The collector rolls a vector environment with an agent's `act`. Shapes: K steps, L environments."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.acting.initial_priorities import Priorities
from rlsuite.core.agent import Agent, Mode, Net
from rlsuite.core.errors import RlsuiteError
from rlsuite.core.types import State, Step, Unroll, as_tuples, describe, to_tensors, tree_map, tree_zip


class Episode(NamedTuple):
    """A finished game, scored as the game scores it."""

    episodic_return: float  # raw
    length: int  # agent steps
    env_index: int


class GameCollector(Protocol):
    """What an agent of board games brings: unrolls are of finished games, [K,1,...], one behind the other."""

    env: Any
    num_envs: int
    version: int

    def ready(self, steps: int) -> bool:
        """Whether the finished games hold `steps` positions an environment."""
        ...

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Plays on: positions that were made, and games that have ended."""
        ...

    def take(self) -> Unroll: ...

    def diagnostics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool: ...


class Collector:
    """Streams of `Step`s from L environments. The environment is seeded once, at the first reset."""

    def __init__(
        self,
        env: Any,
        agent: Agent,
        net: Net,
        *,
        seed: int,
        explore: bool = True,
        device: torch.device | None = None,
        bf16: bool = False,
        first_env: int = 0,
        total_envs: int = 0,
        priorities: Priorities | None = None,
    ):
        """`first_env`, `total_envs`: as of `Mode`. `priorities`: what gives the sequences of an unroll their first ones."""
        self.priorities, self.place = priorities, (first_env, total_envs)
        self.env, self.agent, self.net, self.explore, self.bf16 = env, agent, net, explore, bf16
        self.device = device or torch.device("cpu")
        self.num_envs: int = env.num_envs
        spec = describe(env)
        self.stack = spec.stack
        self.info_keys = spec.info_keys
        self.no_action = np.zeros((self.num_envs, *spec.action_shape), np.float32 if spec.action_shape else np.int64)
        self.rng = torch.Generator(self.device).manual_seed(seed)
        self.state: State = self._initial_state()
        self.version = 0  # of the net's weights: learner steps
        self.pending: list[Step] = []  # records [L,...] of the unroll that nobody has taken yet, planes instead of stacks
        self.start: Unroll | None = None  # that unroll without its records
        self.starts: list[NDArray[np.bool_]] = []  # of each of these records, [L]: does a sequence start there?
        self.states: list[State] = []  # before those that do, leaves [M',...]
        self.since = np.zeros(self.num_envs, np.int64)  # records since strides are counted
        self.returns = np.zeros(self.num_envs, np.float64)  # of the running episodes
        self.lengths = np.zeros(self.num_envs, np.int64)
        self.current_step = self._first(*env.reset(seed=seed))

    def _initial_state(self) -> State:
        return tree_map(lambda leaf: leaf.to(self.device), self.agent.initial_state(self.num_envs))

    def _first(self, observation: NDArray[Any], info: dict[str, Any]) -> Step:
        """The records before any action, leaves [L,...]."""
        no = np.zeros(self.num_envs, bool)
        extras = {name: info[name] for name in self.info_keys}
        return Step(observation, np.zeros(self.num_envs, np.float32), ~no, no, no, action=self.no_action, extras=extras)

    def tick(self, agent_steps: int) -> tuple[Step, list[Episode]]:
        """One record of every environment (leaves [L,...], whole stacks), and the episodes that these records ended.

        `advance` keeps the record for an unroll; whoever only plays calls this.
        """
        mode = Mode(self.explore, agent_steps, self.rng, *self.place)
        seen: Step = to_tensors(tree_map(lambda leaf: leaf[None], self.current_step), self.device)  # [1,L,...]
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            action, self.state, extras = self.agent.act(self.net, seen, self.state, mode)
        record = self.current_step._replace(
            action=action.cpu().numpy(), extras={name: value.cpu().numpy() for name, value in extras.items()}
        )
        observation, reward, terminated, truncated, info = self.env.step(record.action)
        episodes = self._score(record)
        self.current_step = Step(
            observation=observation,
            reward=reward,
            first=record.last,
            last=terminated | truncated,
            terminal=info.get("terminal", terminated),
            action=record.action,
            extras={name: info[name] for name in self.info_keys},
        )
        return record, episodes

    def ready(self, steps: int) -> bool:
        """Whether the unroll that `take` would give out has K = `steps` records."""
        return len(self.pending) >= steps

    def diagnostics(self) -> dict[str, float]:
        """Scalars since the last call, beside those of episodes: none here."""
        return {}

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """One more record of every environment for the unroll that `take` gives out: how many steps that is, and what episodes ended."""
        if self.start is None:
            before = np.moveaxis(self.current_step.observation[:, :-1], 1, 0) if self.stack > 1 else None
            self.start = Unroll(self.current_step, before, version=self.version)
        self._mark_starts()
        record, episodes = self.tick(agent_steps)
        self.pending.append(self.compact(record))
        return self.num_envs, episodes

    def take(self) -> Unroll:
        """The records since the last time, leaves [K,L,...]."""
        assert self.start is not None, "nothing was collected since the last unroll"
        unroll = self.start._replace(steps=stacked(self.pending), current_step=self.compact(self.current_step))
        if self.starts:
            states = self.states or [tree_map(lambda leaf: leaf[:0].cpu().numpy(), self.state if self.agent.sequence.state else ())]
            state = tree_zip(lambda *leaves: np.concatenate(leaves), *states)
            unroll = unroll._replace(starts=np.stack(self.starts), state=state)
        self.pending, self.start, self.starts, self.states = [], None, [], []
        if self.priorities is None:
            return unroll
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return unroll._replace(priority=self.priorities(self.net, unroll))

    def collect(self, steps: int, agent_steps: int) -> tuple[Unroll, list[Episode]]:
        """K = `steps` records of every environment; exploration follows the clock from `agent_steps` on."""
        episodes = []
        for k in range(steps):
            episodes += self.advance(agent_steps + k * self.num_envs)[1]
        return self.take(), episodes

    def _mark_starts(self) -> None:
        """Where the record to come starts sequences, and from which states. Nothing to tell where every action starts one."""
        sequence = self.agent.sequence
        state = self.state
        if sequence.length is None:  # a rollout is its unroll
            starts = np.full(self.num_envs, not self.pending)
        elif sequence.stride > 1:
            state = state if sequence.state else ()  # some agents begin every sequence with zeros
            if sequence.from_first:
                self.since[self.current_step.first] = 0
            starts = self.since % sequence.stride == 0
            self.since += 1
        else:
            return
        self.starts.append(starts)
        if starts.any():
            self.states.append(tree_map(lambda leaf: leaf.cpu().numpy()[starts], state))

    def compact(self, record: Step) -> Step:
        """A record as it travels: the newest plane instead of the stack."""
        return record._replace(observation=record.observation[:, -1]) if self.stack > 1 else record

    def _score(self, record: Step) -> list[Episode]:
        if not np.isfinite(record.reward).all():
            raise RlsuiteError(f"the environment gave a reward that is not finite: {record.reward}")
        if record.observation.dtype.kind == "f" and not np.isfinite(record.observation).all():
            env_index = int(np.flatnonzero(~np.isfinite(record.observation).reshape(self.num_envs, -1).all(1))[0])
            raise RlsuiteError(
                f"the environment gave an observation that is not finite, in environment {env_index}: {record.observation[env_index]}"
            )
        self.returns += record.reward
        self.lengths += ~record.first  # an episode of n actions has n + 1 records
        ended = np.flatnonzero(record.last)
        episodes = [Episode(float(self.returns[i]), int(self.lengths[i]), int(i)) for i in ended]
        self.returns[ended] = 0
        self.lengths[ended] = 0
        return episodes

    def state_dict(self) -> dict[str, Any]:
        """`env` is None where the environment cannot be saved; a restored collector then begins new episodes."""
        get = getattr(self.env, "get_state", None)
        return {
            "env": get() if get else None,
            "current_step": self.current_step._asdict(),
            "returns": self.returns,
            "lengths": self.lengths,
            "rng": self.rng.get_state(),
            "state": self.state,
            "pending": [record._asdict() for record in self.pending],
            "start": None if self.start is None else {"before": self.start.before},
            "starts": self.starts,
            "states": self.states,
            "since": self.since,
            "version": self.version if self.start is None else self.start.version,
            "priorities": None if self.priorities is None else self.priorities.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """True if the streams go on; False if every environment starts a new episode, seeded with `reseed`."""
        self.rng.set_state(state["rng"])
        self.version = state["version"]
        if self.priorities is not None:
            self.priorities.load_state_dict(state["priorities"])
        self.pending = [Step(**record) for record in state["pending"]]
        start = state["start"]
        self.start = start and Unroll(self.current_step, start["before"], version=self.version)
        self.starts, self.states = list(state["starts"]), [as_tuples(leaves) for leaves in state["states"]]
        if state["env"] is None or not hasattr(self.env, "set_state"):
            self.current_step = self._first(*self.env.reset(seed=reseed))
            self.state = self._initial_state()
            self.since[:] = 0
            self.returns[:], self.lengths[:] = 0, 0
            if self.priorities is not None and not self.pending:
                self.priorities.end_streams()
            if self.pending:  # the newest record of every environment becomes the last of its episode, as at a time limit
                self.pending[-1] = self.pending[-1]._replace(last=self.pending[-1].last | True)
            return False
        self.env.set_state(state["env"])
        self.current_step = Step(**state["current_step"])
        self.since = state["since"].copy()
        self.returns, self.lengths = state["returns"].copy(), state["lengths"].copy()
        self.state = tree_map(lambda leaf: leaf.to(self.device), as_tuples(state["state"]))
        return True


def stacked(records: list[Step]) -> Step:
    """K records [L,...] -> leaves [K,L,...]."""
    steps: Step = tree_zip(lambda *leaves: leaves[0][None] if len(leaves) == 1 else np.stack(leaves), *records)
    return steps
