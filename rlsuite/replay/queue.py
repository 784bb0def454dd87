"""The on-policy store: a bounded queue of whole chunks, each given out once, in the order they came.

Shapes: K steps of a chunk, L lanes, B rollouts of a batch, S planes of a stack, P pixels of a plane.
"""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.replay.replay import Sample
from rlsuite.replay.ring import FIRST, joined, stack_planes
from rlsuite.step import Chunk, EnvSpec, Step, Trajectory, as_tuples, tree_zip


class Queue:
    """A trajectory is a chunk and what was seen behind it: T = K + 1, so that no transition is lost between two chunks."""

    stale = 0  # nothing here has priorities

    def __init__(self, spec: EnvSpec, lanes: int, steps: int, capacity_chunks: int):
        """`steps`: K, the length of a chunk."""
        self.spec, self.lanes, self.steps, self.capacity = spec, lanes, steps, capacity_chunks
        self.chunks: deque[Chunk] = deque()

    def __len__(self) -> int:
        """Stored steps, all lanes."""
        return len(self.chunks) * self.steps * self.lanes

    @property
    def capacity_steps(self) -> int:
        return self.capacity * self.steps * self.lanes

    def can_insert(self) -> bool:
        return len(self.chunks) < self.capacity

    def add(self, chunk: Chunk) -> None:
        """Leaves [K,L,...]. ValueError if it is full."""
        if not self.can_insert():
            raise ValueError(f"the queue is full: {self.capacity} chunks")
        self.chunks.append(chunk)

    def can_sample(self, count: int) -> bool:
        return len(self.chunks) * self.lanes >= count

    def sample(self, count: int) -> Sample:
        """The `count` oldest rollouts, whole chunks, as [K+1,count,...]. ValueError if they end within a chunk."""
        if count % self.lanes:
            raise ValueError(f"a batch of {count} rollouts ends within a chunk of {self.lanes}")
        chunks = [self.chunks.popleft() for _ in range(count // self.lanes)]
        trajectory = joined([self._trajectory(chunk) for chunk in chunks])
        return Sample(trajectory, np.arange(count), np.ones(count, np.float32), min(chunk.version for chunk in chunks))

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """There are no priorities."""

    def end_streams(self) -> None:
        """Chunks hold all that is learned from them, so nothing reaches over the gap."""

    def _trajectory(self, chunk: Chunk) -> Trajectory:
        steps, now = chunk.steps, chunk.now
        assert now is not None
        # Nobody has acted on what is seen last: its extras are blanks that no loss reads.
        blank = now._replace(extras={name: np.zeros_like(leaf[0]) for name, leaf in steps.extras.items()})
        whole: Step = tree_zip(lambda leaf, last: np.concatenate([leaf, last[None]]), steps, blank)  # [K+1,L,...]
        if self.spec.stack > 1:
            whole = whole._replace(observation=self._stacks(chunk.before, whole))
        return Trajectory(whole, chunk.state)

    def _stacks(self, before: NDArray[Any], steps: Step) -> NDArray[Any]:
        """Planes [T,L,H,W] and those before them [S-1,L,H,W] -> [T,L,S,H,W], in memory [T,L,H,W,S]."""
        t, lanes = steps.reward.shape
        height, width = self.spec.observation_shape[1:]
        planes = np.concatenate([before, steps.observation]).reshape(-1, lanes, height * width)  # [S-1+T,L,P]
        flags = np.zeros((lanes, planes.shape[0]), np.uint8)  # planes of earlier episodes are blank in `before` already
        flags[:, self.spec.stack - 1 :] = steps.first.T * np.uint8(FIRST)
        lane = np.tile(np.arange(lanes), t)
        slot = np.repeat(np.arange(self.spec.stack - 1, planes.shape[0]), lanes)
        out = stack_planes(planes.transpose(1, 0, 2), flags, lane, slot, self.spec.stack)  # [T*L,P,S]
        return np.moveaxis(out.reshape(t, lanes, height, width, -1), -1, 2)

    def state_dict(self) -> dict[str, Any]:
        return {"chunks": [self._plain(chunk) for chunk in self.chunks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.chunks = deque(
            Chunk(
                Step(**chunk["steps"]),
                chunk["before"],
                Step(**chunk["now"]),
                chunk["starts"],
                as_tuples(chunk["state"]),
                chunk["version"],
            )
            for chunk in state["chunks"]
        )

    @staticmethod
    def _plain(chunk: Chunk) -> dict[str, Any]:
        assert chunk.now is not None
        return {**chunk._asdict(), "steps": chunk.steps._asdict(), "now": chunk.now._asdict()}
