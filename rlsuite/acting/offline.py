"""Stands in for the collector of agents that learn from recordings alone."""

from typing import Any

import numpy as np

from rlsuite.acting.collector import Episode
from rlsuite.core.types import Step, Unroll


class Offline:
    """A collector that steps no environment: each `advance` counts the recorded steps that the next update learns from."""

    def __init__(self, num_envs: int, steps: int):
        """`steps`: recorded steps per update."""
        self.num_envs, self.steps = num_envs, steps
        self.version = 0
        self.counted = False  # whether `advance` was called and its update is still to come

    def ready(self, steps: int) -> bool:
        """Whether an update is due: there is one for each `advance`."""
        return self.counted

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Returns the number of recorded steps that the next update learns from, and no episodes."""
        self.counted = True
        return self.steps, []

    def take(self) -> Unroll:
        """An empty unroll, leaves [0,L]: the steps to learn from are in `replay.recorded.Recorded`."""
        self.counted = False
        no = np.zeros((0, self.num_envs), bool)
        return Unroll(Step((), np.zeros(no.shape, np.float32), no, no, no, np.zeros(no.shape, np.int64), {}))

    def diagnostics(self) -> dict[str, float]:
        """Scalars to log: none."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Whether an update is due."""
        return {"counted": self.counted}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """Restores what `state_dict` returned."""
        self.counted = state["counted"]
        return True
