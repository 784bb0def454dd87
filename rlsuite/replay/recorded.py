"""The store of agents that learn from recordings alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.types import Unroll
from rlsuite.replay.replay import Replay, Sample


class Recorded:
    """A store of recorded steps that allows one batch for each call of `add`, which stores nothing."""

    dropped_updates = 0

    def __init__(self, recorded: Replay, steps: int, digest: str):
        """`recorded`: a replay filled with `steps` recorded steps; `digest`: their hash."""
        self.recorded, self.steps, self.digest = recorded, steps, digest
        self.due = 0  # batches to draw

    @property
    def capacity_steps(self) -> int:
        """The number of recorded steps."""
        return self.steps

    def __len__(self) -> int:
        return self.steps

    def add(self, unroll: Unroll) -> None:
        """Allows one more batch."""
        self.due += 1

    def can_sample(self, count: int) -> bool:
        """Whether a batch is due."""
        return self.due > 0

    def sample(self, count: int) -> Sample:
        """A batch of `count` sequences, drawn uniformly."""
        self.due -= 1
        return self.recorded.draw(count, 0.0)

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """Does nothing, because there are no priorities."""

    def end_streams(self) -> None:
        """Does nothing, because recordings are complete."""

    def state_dict(self) -> dict[str, Any]:
        """The random generator's state and the batches due; the steps stay in their own folder."""
        return {"digest": self.digest, "rng": self.recorded.rng.bit_generator.state, "due": self.due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned. ValueError if the recordings have changed."""
        if state.get("digest") != self.digest:
            raise ValueError("replay.demonstrations hold other episodes than when the run was saved")
        self.recorded.rng.bit_generator.state, self.due = state["rng"], state["due"]
