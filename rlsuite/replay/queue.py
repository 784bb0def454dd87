"""The store of on-policy agents: a bounded queue of whole unrolls, each sampled once, in the order of arrival.

Shapes: K steps of an unroll, L environments, T steps of a trajectory, S planes of a stack, H x W = P pixels of a plane.
"""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.agent import Rollouts
from rlsuite.core.types import EnvSpec, Planes, Step, Trajectory, Unroll, as_tuples, tree_zip
from rlsuite.replay.replay import Replay, Sample
from rlsuite.replay.ring import joined


class Queue:
    """A bounded first-in, first-out queue of unrolls.

    A trajectory is an unroll plus the observation after it (T = K + 1), so that no transition is lost between two unrolls.
    """

    dropped_updates = 0  # there are no priorities

    def __init__(self, spec: EnvSpec, num_envs: int, steps: int, capacity_unrolls: int):
        """`steps`: K, the length of an unroll. `capacity_unrolls`: unrolls in a full queue."""
        self.spec, self.num_envs, self.steps, self.capacity = spec, num_envs, steps, capacity_unrolls
        self.unrolls: deque[Unroll] = deque()

    def __len__(self) -> int:
        """The number of stored steps of all environments."""
        return len(self.unrolls) * self.steps * self.num_envs

    @property
    def capacity_steps(self) -> int:
        """The number of steps of all environments in a full queue."""
        return self.capacity * self.steps * self.num_envs

    def can_insert(self) -> bool:
        """Whether there is room for another unroll."""
        return len(self.unrolls) < self.capacity

    def add(self, unroll: Unroll) -> None:
        """Appends an unroll, leaves [K,L,...]. ValueError if the queue is full."""
        if not self.can_insert():
            raise ValueError(f"the queue is full: it holds {self.capacity} unrolls")
        self.unrolls.append(unroll)

    def can_sample(self, count: int) -> bool:
        """Whether there are `count` rollouts, L in each unroll."""
        return len(self.unrolls) * self.num_envs >= count

    def sample(self, count: int) -> Sample:
        """Removes and returns the `count` oldest rollouts, leaves [K+1,count,...]. ValueError if they end within an unroll."""
        if count % self.num_envs:
            raise ValueError(f"a batch of {count} rollouts ends within an unroll: it must be a multiple of {self.num_envs}")
        unrolls = [self.unrolls.popleft() for _ in range(count // self.num_envs)]
        trajectory = joined([self._trajectory(unroll) for unroll in unrolls])
        return Sample(trajectory, np.arange(count), np.ones(count, np.float32), min(unroll.version for unroll in unrolls))

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """Does nothing, because there are no priorities."""

    def end_streams(self) -> None:
        """Does nothing: trajectories never extend over two unrolls."""

    def _trajectory(self, unroll: Unroll) -> Trajectory:
        steps, current_step = unroll.steps, unroll.current_step
        assert current_step is not None
        # No action has been taken at the last step, so the agent's extras there are zeros, which no loss reads.
        extras = {name: current_step.extras.get(name, np.zeros_like(leaf[0])) for name, leaf in steps.extras.items()}
        blank = current_step._replace(extras=extras)
        whole: Step = tree_zip(lambda leaf, last: np.concatenate([leaf, last[None]]), steps, blank)  # [K+1,L,...]
        if self.spec.stack > 1:
            planes = np.concatenate([unroll.before, whole.observation])  # those of earlier episodes are blank in `before`
            whole = whole._replace(observation=Planes(planes))
        return Trajectory(whole, unroll.state)

    def state_dict(self) -> dict[str, Any]:
        """All queued unrolls."""
        return {"unrolls": [self._plain(unroll) for unroll in self.unrolls]}

    def load_state_dict(self, state: dict[str, Any]) -> str | None:
        """Replaces the queued unrolls with those of `state`; see `Store`. ValueError if it is the state of a replay."""
        if "rings" in state or "own" in state or state.get("shards"):
            raise ValueError("the saved run is of an off-policy agent, which has a replay")
        if "unrolls" not in state:
            return "rollouts that had not been learned from"  # a run on Ray does not save them
        self.unrolls = deque(
            Unroll(
                Step(**unroll["steps"]),
                unroll["before"],
                Step(**unroll["current_step"]),
                unroll["starts"],
                as_tuples(unroll["state"]),
                unroll["version"],
            )
            for unroll in state["unrolls"]
        )
        return None

    @staticmethod
    def _plain(unroll: Unroll) -> dict[str, Any]:
        assert unroll.current_step is not None
        return {**unroll._asdict(), "steps": unroll.steps._asdict(), "current_step": unroll.current_step._asdict()}


class QueueBesideRecorded(Queue):
    """A queue that pairs each step of its rollouts with a recorded step, drawn uniformly (see `Rollouts.beside`)."""

    def __init__(self, spec: EnvSpec, num_envs: int, steps: int, capacity_unrolls: int, recorded: Replay, digest: str):
        """`recorded`: a replay filled with recorded transitions; `digest`: a hash of their steps. The others: see `Queue`."""
        super().__init__(spec, num_envs, steps, capacity_unrolls)
        self.recorded, self.digest = recorded, digest

    def sample(self, count: int) -> Sample:
        """See `Queue`; the recorded steps are in the trajectory's extras, [K+1,count,...]."""
        sample = super().sample(count)
        shape = (self.steps + 1, count)
        drawn = self.recorded.draw(shape[0] * shape[1], 0.0).trajectory.steps
        leaves = (drawn.observation[0], drawn.action[0])  # of the steps that the transitions start at, [(K+1)*count,...]
        names = [extra.name for extra in Rollouts(recorded=True).beside(self.spec)]
        beside = {name: leaf.reshape(*shape, *leaf.shape[1:]) for name, leaf in zip(names, leaves, strict=True)}
        steps = sample.trajectory.steps
        steps = steps._replace(extras={**steps.extras, **beside})
        return sample._replace(trajectory=sample.trajectory._replace(steps=steps))

    def state_dict(self) -> dict[str, Any]:
        """All queued unrolls, and the random generator's state; the recorded steps stay in their own folder."""
        return {**super().state_dict(), "digest": self.digest, "recorded_rng": self.recorded.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> str | None:
        """See `Queue`. ValueError also if the recordings have changed."""
        if state.get("digest", self.digest) != self.digest:
            raise ValueError("replay.demonstrations hold other episodes than when the run was saved")
        if "recorded_rng" in state:  # a run on Ray does not save it
            self.recorded.rng.bit_generator.state = state["recorded_rng"]
        return super().load_state_dict(state)
