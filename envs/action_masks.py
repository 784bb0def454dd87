"""Where Gymnasium environments report action masks: in `info["action_mask"]`, or in a part `action_mask` of a Dict observation."""

from typing import Any, Literal

import gymnasium
from gymnasium.spaces import Dict, Discrete, MultiDiscrete, Space
from gymnasium.vector import SyncVectorEnv

from rlsuite.core import registry
from rlsuite.core.masks import KEY

Place = Literal["info", "observation"]


def place_of(env: SyncVectorEnv, env_id: str) -> Place | None:
    """Where an environment reports action masks; None if nowhere. Makes and resets one more environment to find out."""
    if not isinstance(env.single_action_space, Discrete | MultiDiscrete):
        return None
    if isinstance(env.single_observation_space, Dict) and KEY in env.single_observation_space.spaces:
        return "observation"
    with registry.third_party(f"env.id = {env_id}, __init__"):
        one: gymnasium.Env[Any, Any] = env.env_fns[0]()
    with registry.third_party(f"env.id = {env_id}, reset"):
        info = one.reset(seed=0)[1]
    one.close()
    return "info" if KEY in info else None


def without(space: Space[Any]) -> Space[Any]:
    """A Dict observation space without its action masks; any other space unchanged."""
    if not isinstance(space, Dict) or KEY not in space.spaces:
        return space
    return Dict({key: part for key, part in space.spaces.items() if key != KEY})
