"""The collector rolls a vector environment with an agent's `act`. Shapes: K steps, L lanes."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.agent import Agent, Mode, Net
from rlsuite.errors import RlsuiteError
from rlsuite.priorities import Priorities
from rlsuite.step import Chunk, State, Step, as_tuples, describe, to_tensors, tree_map, tree_zip


class Episode(NamedTuple):
    """A finished game, scored as the game scores it."""

    episodic_return: float  # raw
    length: int  # agent steps
    lane: int


class GameCollector(Protocol):
    """What an agent of board games brings: chunks are of finished games, [K,1,...], one behind the other."""

    env: Any
    lanes: int
    version: int

    def ready(self, steps: int) -> bool:
        """Whether the finished games hold `steps` positions a lane."""
        ...

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Plays on: positions that were made, and games that have ended."""
        ...

    def take(self) -> Chunk: ...

    def diagnostics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool: ...


class Collector:
    """Streams of `Step`s from L lanes. The environment is seeded once, at the first reset."""

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
        first_lane: int = 0,
        of_lanes: int = 0,
        priorities: Priorities | None = None,
    ):
        """`first_lane`, `of_lanes`: as of `Mode`. `priorities`: what gives the slices of a chunk their first ones."""
        self.priorities, self.place = priorities, (first_lane, of_lanes)
        self.env, self.agent, self.net, self.explore, self.bf16 = env, agent, net, explore, bf16
        self.device = device or torch.device("cpu")
        self.lanes: int = env.num_envs
        spec = describe(env)
        self.stack = spec.stack
        self.tells = spec.tells
        self.no_action = np.zeros((self.lanes, *spec.action_shape), np.float32 if spec.action_shape else np.int64)
        self.rng = torch.Generator(self.device).manual_seed(seed)
        self.state: State = self._initial_state()
        self.version = 0  # of the net's weights: learner steps
        self.pending: list[Step] = []  # records [L,...] of the chunk that nobody has taken yet, planes instead of stacks
        self.start: Chunk | None = None  # that chunk without its records
        self.starts: list[NDArray[np.bool_]] = []  # of each of these records, [L]: does a slice start there?
        self.states: list[State] = []  # before those that do, leaves [M',...]
        self.since = np.zeros(self.lanes, np.int64)  # records since strides are counted
        self.returns = np.zeros(self.lanes, np.float64)  # of the running episodes
        self.lengths = np.zeros(self.lanes, np.int64)
        self.now = self._first(*env.reset(seed=seed))

    def _initial_state(self) -> State:
        return tree_map(lambda leaf: leaf.to(self.device), self.agent.initial_state(self.lanes))

    def _first(self, observation: NDArray[Any], info: dict[str, Any]) -> Step:
        """The records before any action, leaves [L,...]."""
        no = np.zeros(self.lanes, bool)
        told = {name: info[name] for name in self.tells}
        return Step(observation, np.zeros(self.lanes, np.float32), ~no, no, no, action=self.no_action, extras=told)

    def tick(self, agent_steps: int) -> tuple[Step, list[Episode]]:
        """One record of every lane (leaves [L,...], whole stacks), and the episodes that these records ended.

        `advance` keeps the record for a chunk; whoever only plays calls this.
        """
        mode = Mode(self.explore, agent_steps, self.rng, *self.place)
        seen: Step = to_tensors(tree_map(lambda leaf: leaf[None], self.now), self.device)  # [1,L,...]
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            action, self.state, extras = self.agent.act(self.net, seen, self.state, mode)
        record = self.now._replace(
            action=action.cpu().numpy(), extras={name: value.cpu().numpy() for name, value in extras.items()}
        )
        observation, reward, terminated, truncated, info = self.env.step(record.action)
        episodes = self._score(record)
        self.now = Step(
            observation=observation,
            reward=reward,
            first=record.last,
            last=terminated | truncated,
            terminal=info.get("terminal", terminated),
            action=record.action,
            extras={name: info[name] for name in self.tells},
        )
        return record, episodes

    def ready(self, steps: int) -> bool:
        """Whether the chunk that `take` would give out has K = `steps` records."""
        return len(self.pending) >= steps

    def diagnostics(self) -> dict[str, float]:
        """Scalars since the last call, beside those of episodes: none here."""
        return {}

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """One more record of every lane for the chunk that `take` gives out: how many steps that is, and what episodes ended."""
        if self.start is None:
            before = np.moveaxis(self.now.observation[:, :-1], 1, 0) if self.stack > 1 else None
            self.start = Chunk(self.now, before, version=self.version)
        self._mark_starts()
        record, episodes = self.tick(agent_steps)
        self.pending.append(self.compact(record))
        return self.lanes, episodes

    def take(self) -> Chunk:
        """The records since the last time, leaves [K,L,...]."""
        assert self.start is not None, "nothing was collected since the last chunk"
        chunk = self.start._replace(steps=stacked(self.pending), now=self.compact(self.now))
        if self.starts:
            states = self.states or [tree_map(lambda leaf: leaf[:0].cpu().numpy(), self.state if self.agent.slice.state else ())]
            state = tree_zip(lambda *leaves: np.concatenate(leaves), *states)
            chunk = chunk._replace(starts=np.stack(self.starts), state=state)
        self.pending, self.start, self.starts, self.states = [], None, [], []
        if self.priorities is None:
            return chunk
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return chunk._replace(priority=self.priorities(self.net, chunk))

    def collect(self, steps: int, agent_steps: int) -> tuple[Chunk, list[Episode]]:
        """K = `steps` records of every lane; exploration follows the clock from `agent_steps` on."""
        episodes = []
        for k in range(steps):
            episodes += self.advance(agent_steps + k * self.lanes)[1]
        return self.take(), episodes

    def _mark_starts(self) -> None:
        """Where the record to come starts slices, and from which states. Nothing to tell where every action starts one."""
        cut = self.agent.slice
        state = self.state
        if cut.length is None:  # a rollout is its chunk
            starts = np.full(self.lanes, not self.pending)
        elif cut.stride > 1:
            state = state if cut.state else ()  # some agents begin every slice with zeros
            if cut.from_first:
                self.since[self.now.first] = 0
            starts = self.since % cut.stride == 0
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
            lane = int(np.flatnonzero(~np.isfinite(record.observation).reshape(self.lanes, -1).all(1))[0])
            raise RlsuiteError(
                f"the environment gave an observation that is not finite, in lane {lane}: {record.observation[lane]}"
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
            "now": self.now._asdict(),
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
        """True if the streams go on; False if every lane starts a new episode, seeded with `reseed`."""
        self.rng.set_state(state["rng"])
        self.version = state["version"]
        if self.priorities is not None:
            self.priorities.load_state_dict(state["priorities"])
        self.pending = [Step(**record) for record in state["pending"]]
        start = state["start"]
        self.start = start and Chunk(self.now, start["before"], version=self.version)
        self.starts, self.states = list(state["starts"]), [as_tuples(leaves) for leaves in state["states"]]
        if state["env"] is None or not hasattr(self.env, "set_state"):
            self.now = self._first(*self.env.reset(seed=reseed))
            self.state = self._initial_state()
            self.since[:] = 0
            self.returns[:], self.lengths[:] = 0, 0
            if self.priorities is not None and not self.pending:
                self.priorities.end_streams()
            if self.pending:  # the newest record of every lane becomes the last of its episode, as at a time limit
                self.pending[-1] = self.pending[-1]._replace(last=self.pending[-1].last | True)
            return False
        self.env.set_state(state["env"])
        self.now = Step(**state["now"])
        self.since = state["since"].copy()
        self.returns, self.lengths = state["returns"].copy(), state["lengths"].copy()
        self.state = tree_map(lambda leaf: leaf.to(self.device), as_tuples(state["state"]))
        return True


def stacked(records: list[Step]) -> Step:
    """K records [L,...] -> leaves [K,L,...]."""
    steps: Step = tree_zip(lambda *leaves: leaves[0][None] if len(leaves) == 1 else np.stack(leaves), *records)
    return steps
