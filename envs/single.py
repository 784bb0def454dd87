"""Our own vector environments as single Gymnasium environments, for `gymnasium.make("rlsuite/KeyDoor-v0", rooms=2)`."""

from types import ModuleType
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlsuite.config.loader import validate
from rlsuite.core.errors import UsageError
from rlsuite.core.game import whole_number
from rlsuite.envs import key_door, recall


class Single(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A vector environment of size 1 as a single environment; keyword arguments are the keys of its module's `Config`."""

    module: ClassVar[ModuleType]  # set by subclasses, like `metadata`, which is that of the module's environments
    id: ClassVar[str]

    def __init__(self, render_mode: str | None = None, **settings: Any):
        """UsageError for an unknown keyword or value, with the nearest name."""
        if render_mode not in (None, *self.metadata["render_modes"]):
            known = " or ".join(map(repr, self.metadata["render_modes"])) or "none"
            raise UsageError(f"render_mode = {render_mode!r}: {self.id} has {known}")
        self.render_mode = render_mode
        config = validate(self.module.Config, {"id": self.id, "num_envs": 1, **settings})
        if config.num_envs != 1:
            raise UsageError(f"num_envs = {config.num_envs}: gymnasium.make makes one; use gymnasium.make_vec or rlsuite.make_env")
        self.vector = self.module.make(config, 1, render=render_mode is not None)
        self.observation_space, self.action_space = self.vector.single_observation_space, self.vector.single_action_space
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts a new episode."""
        super().reset(seed=seed)
        observation, info = self.vector.reset(seed=seed)
        self._over = False
        return observation[0], info

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step. UsageError if the action is not in the action space, or if the episode is over."""
        number, count = whole_number(action), int(self.vector.single_action_space.n)
        if number is None or not 0 <= number < count:
            raise UsageError(f"{self.id}: there is no action {action!r}; actions are the integers 0 to {count - 1}")
        if self._over:
            raise UsageError(f"{self.id}: the episode is over; reset the environment")
        observation, reward, terminated, truncated, info = self.vector.step(np.array([number]))
        self._over = bool(terminated[0] or truncated[0])
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        """A picture [H,W,3] u8."""
        return None if self.render_mode is None else self.vector.render()[0]


class KeyDoorEnv(Single):
    """KeyDoor as a single Gymnasium environment: see `envs/key_door.py`."""

    module: ClassVar[ModuleType] = key_door
    id = "rlsuite/KeyDoor-v0"
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 15}  # type: ignore[misc]


class RecallEnv(Single):
    """Recall as a single Gymnasium environment: see `envs/recall.py`."""

    module: ClassVar[ModuleType] = recall
    id = "rlsuite/Recall-v0"
    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
