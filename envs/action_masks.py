"""Action masks of Gymnasium environments, which stand in `info["action_mask"]` or in a part `action_mask` of a Dict observation.

Shapes: L environments, A actions as agents count them.
"""

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from rlsuite.core import spaces
from rlsuite.core.errors import UsageError
from rlsuite.core.masks import KEY

Place = Literal["info", "observation"]


def place_of(env: SyncVectorEnv) -> Place | None:
    """Where an environment reports masks; None if nowhere. To find out, the first of them is reset without a seed."""
    if not isinstance(env.single_action_space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete):
        return None
    space = env.single_observation_space
    if isinstance(space, gymnasium.spaces.Dict) and KEY in space.spaces:
        return "observation"
    return "info" if KEY in env.envs[0].reset()[1] else None


def without(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """A Dict space without the masks; any other as it is."""
    if not isinstance(space, gymnasium.spaces.Dict) or KEY not in space.spaces:
        return space
    return gymnasium.spaces.Dict({key: part for key, part in space.spaces.items() if key != KEY})


def read(given: Any, reports: NDArray[np.bool_], space: gymnasium.Space[Any], env_id: str) -> NDArray[np.bool_]:
    """Masks as environments report them, as [L,A] bool. All actions are allowed where `reports` [L] is false.

    A mask has an entry for every action, or, where `space` is MultiDiscrete, one for every value of every part of an action.
    UsageError, naming `env_id`, for another shape.
    """
    actions = int(spaces.actions(space).space.n)
    values = int(space.nvec.sum()) if isinstance(space, gymnasium.spaces.MultiDiscrete) else actions
    out = np.ones((len(reports), actions), bool)
    for i in np.flatnonzero(reports):
        mask = np.asarray(given[i])
        if mask.shape not in ((actions,), (values,)) or mask.dtype.kind not in "biuf":
            raise UsageError(f"env.id = {env_id}: {KEY} has shape {list(mask.shape)}, but there are {actions} actions")
        out[i] = mask.astype(bool) if len(mask) == actions else _combined(mask.astype(bool), space)
    return out


def _combined(mask: NDArray[np.bool_], space: Any) -> NDArray[np.bool_]:
    """The mask of all combinations [A], from one for every value of every part."""
    out = np.ones(1, bool)
    for part in np.split(mask, np.cumsum(space.nvec.reshape(-1))[:-1]):
        out = (out[:, None] & part).reshape(-1)
    return out
