"""The base class of our own vector environments. Shapes: L environments."""

from abc import abstractmethod
from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

Observations = TypeVar("Observations")


class OneGeneratorEnv(VectorEnv[Observations, NDArray[np.int64], Any]):
    """A vector environment with NEXT_STEP autoreset whose environments share one random generator, and so one seed."""

    def __init__(self, num_envs: int, observation: gymnasium.Space[Any], actions: int, **metadata: Any):
        """`observation`: the observation space of one environment. `metadata`: entries for `core.types.describe`."""
        self.num_envs = num_envs
        self.single_observation_space = observation
        self.observation_space = batch_space(observation, num_envs)
        self.single_action_space = gymnasium.spaces.Discrete(actions)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, **metadata}
        self._rng = np.random.default_rng()

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Starts new episodes in all environments: observations [L,...] and `info`. TypeError for a list of seeds."""
        if isinstance(seed, list):
            raise TypeError("reset(seed=...) takes one seed for all environments, not a list")
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        return self._restart()

    @abstractmethod
    def _restart(self) -> tuple[Observations, dict[str, Any]]:
        """Starts new episodes in all environments; called by `reset` after seeding the random generator."""
