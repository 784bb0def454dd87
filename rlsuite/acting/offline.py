"""The place of a collector for agents that learn from recordings alone."""

from typing import Any

import numpy as np

from rlsuite.acting.collector import Episode
from rlsuite.core.types import Step, Unroll


class Offline:
    """A collector that steps no environment: every `advance` counts the recorded steps that the next update learns from."""

    def __init__(self, num_envs: int, steps: int):
        """`steps`: recorded steps of an update."""
        self.num_envs, self.steps = num_envs, steps
        self.version = 0
        self.counted = False  # steps that no update has followed yet

    def ready(self, steps: int) -> bool:
        """Whether an update may follow: one for each `advance`."""
        return self.counted

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """The steps that the next update learns from, and no episodes."""
        self.counted = True
        return self.steps, []

    def take(self) -> Unroll:
        """No steps [0,L]: those that are learned from lie in `replay.recorded.Recorded`."""
        self.counted = False
        no = np.zeros((0, self.num_envs), bool)
        return Unroll(Step((), np.zeros(no.shape, np.float32), no, no, no, np.zeros(no.shape, np.int64), {}))

    def diagnostics(self) -> dict[str, float]:
        """None."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Whether an update is due."""
        return {"counted": self.counted}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """Restores what `state_dict` returned."""
        self.counted = state["counted"]
        return True
