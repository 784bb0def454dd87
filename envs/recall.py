"""`rlsuite/Recall-v0`: a cue is shown at the first step only, and must be recalled `length` steps later.

Observation [4] f32: the cue, one-hot of size 2 (zeros after the first step); whether to answer now; 1 - t / length. There are two
actions. At the last step the reward is +1 for the action that equals the cue and -1 for the other one; before that it is 0. The
best expected return is 1 with memory and 0 without.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.config.schema import EnvSection
from rlsuite.envs.vector import OneGeneratorEnv


class Config(EnvSection):
    """Settings of Recall."""

    length: int = Field(5, ge=1, le=10_000)
    """Agent steps from the cue to the question."""


class Recall(OneGeneratorEnv[NDArray[np.float32]]):
    """Recall games as a vector environment."""

    def __init__(self, num_envs: int, length: int):
        super().__init__(num_envs, gymnasium.spaces.Box(0, 1, (4,), np.float32), actions=2)
        self.length = length
        self._t = np.zeros(num_envs, np.int64)  # [L] steps since the cue
        self._cue = np.zeros(num_envs, np.int64)  # [L]
        self._ended = np.zeros(num_envs, bool)  # [L]

    def _restart(self) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self._t[:] = 0
        self._ended[:] = False
        self._cue = self._rng.integers(2, size=self.num_envs)
        return self._observe(), {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of all environments, actions [L]; NEXT_STEP autoreset."""
        answering = ~self._ended & (self._t == self.length)
        correct = actions == self._cue
        reward = np.where(answering, np.where(correct, 1.0, -1.0), 0.0).astype(np.float32)
        fresh = self._rng.integers(2, size=self.num_envs)
        self._cue = np.where(self._ended, fresh, self._cue)
        self._t = np.where(self._ended, 0, self._t + 1)
        self._ended = answering
        return self._observe(), reward, answering, np.zeros(self.num_envs, bool), {}

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, for an exact resume."""
        return {"t": self._t.copy(), "cue": self._cue.copy(), "ended": self._ended.copy(), "rng": self._rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self._t, self._cue, self._ended = state["t"].copy(), state["cue"].copy(), state["ended"].copy()
        self._rng.bit_generator.state = state["rng"]

    def _observe(self) -> NDArray[np.float32]:
        observation = np.zeros((self.num_envs, 4), np.float32)
        start = self._t == 0
        observation[start, self._cue[start]] = 1
        observation[:, 2] = self._t == self.length
        observation[:, 3] = 1 - np.minimum(self._t, self.length) / self.length
        return observation


def make(config: Config, num_envs: int, threads: int = 1, render: bool = False) -> Recall:
    """The environments of a run. `threads` and `render` have no effect."""
    return Recall(num_envs, config.length)
