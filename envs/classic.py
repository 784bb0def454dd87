"""Any registered Gymnasium environment, as a vector of environments that can be saved and restored where its state is known.

Gymnasium has no standard way to save an environment. The state of the classic-control and toy-text ones lies in a few plain
attributes, named below; for any other environment a resumed run starts new episodes.
"""

import copy
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.config.schema import EnvSection
from rlsuite.core.errors import UsageError

# In these families such attributes are an environment's whole state, beside its random generator and its time limit.
_FAMILIES = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.")
_STATE = ("state", "s", "steps_beyond_terminated", "last_u", "lastaction", "fickle_step")


LONGEST = 10_000  # steps of an episode that nothing else ends: else an evaluation of an agent that walks in circles would never end


class Config(EnvSection):
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment."""
    max_episode_steps: int | None = Field(None, ge=1)
    """Agent steps of an episode; null: the limit of the environment, 10,000 where it has none."""


class SyncEnvs(VectorWrapper[Any, Any, Any, Any, Any]):
    """A SyncVectorEnv with float32 rewards and a state."""

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        space = self.env.single_action_space
        if isinstance(space, gymnasium.spaces.Box):  # a Gaussian policy knows no bounds
            actions = np.clip(actions, space.low, space.high)
        observation, reward, terminated, truncated, info = self.env.step(actions)
        return observation, np.asarray(reward, np.float32), terminated, truncated, info

    def get_state(self) -> dict[str, Any] | None:
        """None where the environment's state is not known."""
        num_envs = [self._env_state(env) for env in self._sync.envs]
        if any(env_index is None for env_index in num_envs):
            return None
        return {"num_envs": num_envs, "autoreset": np.array(self._sync._autoreset_envs)}

    def set_state(self, state: dict[str, Any]) -> None:
        """After a reset, so that the wrappers know that they were reset."""
        self._sync._autoreset_envs = state["autoreset"].copy()
        for env, env_index in zip(self._sync.envs, state["num_envs"], strict=True):
            for name, value in env_index["attributes"].items():
                # An environment may keep its state as a tuple, which a file knows as a list only.
                was = getattr(env.unwrapped, name)
                setattr(env.unwrapped, name, tuple(value) if isinstance(was, tuple) else copy.deepcopy(value))
            env.unwrapped.np_random.bit_generator.state = env_index["rng"]
            if env_index["elapsed"] is not None:
                _time_limit(env)._elapsed_steps = env_index["elapsed"]

    @property
    def _sync(self) -> SyncVectorEnv:
        assert isinstance(self.env, SyncVectorEnv)
        return self.env

    @staticmethod
    def _env_state(env: gymnasium.Env[Any, Any]) -> dict[str, Any] | None:
        attributes = {name: getattr(env.unwrapped, name) for name in _STATE if hasattr(env.unwrapped, name)}
        if not attributes or not type(env.unwrapped).__module__.startswith(_FAMILIES):
            return None
        plain = {name: _plain(value) for name, value in attributes.items()}
        limit = _time_limit(env)
        return {
            "attributes": plain,
            "rng": env.unwrapped.np_random.bit_generator.state,
            "elapsed": None if limit is None else limit._elapsed_steps,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else copy.deepcopy(value)


def _time_limit(env: Any) -> Any:
    while not isinstance(env, gymnasium.wrappers.TimeLimit):
        if not isinstance(env, gymnasium.Wrapper):
            return None
        env = env.env
    return env


class FromClass:
    """An environment family around one `gymnasium.Env` class, or a function that returns an environment: `my_env.py:MyEnv`."""

    Config = Config

    def __init__(self, make: Callable[..., gymnasium.Env[Any, Any]]):
        self.spec_of = gymnasium.envs.registration.EnvSpec("rlsuite/OfOnesOwn-v0", entry_point=make)

    def make(self, config: Any, num_envs: int, threads: int = 1, render: bool = False) -> VectorEnv[Any, Any, Any]:
        """As the function `make` below."""
        return _make(self.spec_of, config, num_envs, render)


def make(config: Config, num_envs: int, threads: int = 1, render: bool = False) -> VectorEnv[Any, Any, Any]:
    """One process, one thread. UsageError if the environment cannot be built (a missing extra, a wrong keyword)."""
    return _make(config.id, config, num_envs, render)


def _make(env_id: str | gymnasium.envs.registration.EnvSpec, config: Config, num_envs: int, render: bool) -> SyncEnvs:
    kwargs = {**config.kwargs, **({"render_mode": "rgb_array"} if render else {})}
    try:
        spec = gymnasium.spec(env_id) if isinstance(env_id, str) else env_id
        limit = config.max_episode_steps or spec.max_episode_steps or LONGEST
        env = gymnasium.make_vec(
            env_id,
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP},
            **{"max_episode_steps": limit, **kwargs},
        )
    except (gymnasium.error.Error, TypeError, ImportError) as error:
        raise UsageError(f"env.id={config.id} cannot be built: {error}") from error
    return SyncEnvs(env)
