"""The collector rolls a vector environment with an agent's `act`. Shapes: K steps, L lanes."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.agent import Agent, Mode, Net
from rlsuite.errors import RlsuiteError
from rlsuite.step import Chunk, State, Step, describe, to_tensors, tree_map


class Episode(NamedTuple):
    """A finished game, scored as the game scores it."""

    episodic_return: float  # raw
    length: int  # agent steps
    lane: int


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
    ):
        self.env, self.agent, self.net, self.explore, self.bf16 = env, agent, net, explore, bf16
        self.device = device or torch.device("cpu")
        self.lanes: int = env.num_envs
        self.stack = describe(env).stack
        self.rng = torch.Generator(self.device).manual_seed(seed)
        self.state: State = agent.initial_state(self.lanes)
        self.returns = np.zeros(self.lanes, np.float64)  # of the running episodes
        self.lengths = np.zeros(self.lanes, np.int64)
        observation, _ = env.reset(seed=seed)
        self.now = self._first(observation)

    def _first(self, observation: NDArray[Any]) -> Step:
        """The records before any action, leaves [L,...]."""
        no = np.zeros(self.lanes, bool)
        return Step(observation, np.zeros(self.lanes, np.float32), ~no, no, no, action=np.zeros(self.lanes, np.int64), extras={})

    def tick(self, agent_steps: int) -> tuple[Step, list[Episode]]:
        """One record of every lane (leaves [L,...], whole stacks), and the episodes that these records ended."""
        mode = Mode(explore=self.explore, agent_steps=agent_steps, rng=self.rng)
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
            extras={},
        )
        return record, episodes

    def collect(self, steps: int, agent_steps: int) -> tuple[Chunk, list[Episode]]:
        """K = `steps` records of every lane; exploration follows the clock from `agent_steps` on."""
        records, episodes = [], []
        for k in range(steps):
            record, ended = self.tick(agent_steps + k * self.lanes)
            records.append(self.compact(record))
            episodes += ended
        return chunk_of(records), episodes

    def compact(self, record: Step) -> Step:
        """A record as it travels: the newest plane instead of the stack."""
        return record._replace(observation=record.observation[:, -1]) if self.stack > 1 else record

    def _score(self, record: Step) -> list[Episode]:
        if not np.isfinite(record.reward).all():
            raise RlsuiteError(f"the environment gave a reward that is not finite: {record.reward}")
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
        }

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """True if the streams go on; False if every lane starts a new episode, seeded with `reseed`."""
        self.rng.set_state(state["rng"])
        if state["env"] is None or not hasattr(self.env, "set_state"):
            observation, _ = self.env.reset(seed=reseed)
            self.now = self._first(observation)
            self.state = self.agent.initial_state(self.lanes)
            self.returns[:], self.lengths[:] = 0, 0
            return False
        self.env.set_state(state["env"])
        self.now = Step(**state["now"])
        self.returns, self.lengths = state["returns"].copy(), state["lengths"].copy()
        self.state = tuple(state["state"]) if isinstance(state["state"], list) else state["state"]
        return True


def chunk_of(records: list[Step]) -> Chunk:
    """K records [L,...] -> leaves [K,L,...]."""
    if len(records) == 1:
        return Chunk(tree_map(lambda leaf: leaf[None], records[0]))
    extras = {name: np.stack([record.extras[name] for record in records]) for name in records[0].extras}
    leaves = {name: np.stack([getattr(record, name) for record in records]) for name in Step._fields if name != "extras"}
    return Chunk(Step(**leaves, extras=extras))
