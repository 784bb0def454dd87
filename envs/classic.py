"""Vector environments of any registered Gymnasium environment. Classic-control and toy-text ones can be saved and restored.

Gymnasium has no standard way to save an environment. The state of the classic-control and toy-text environments is in a few plain
attributes, listed below. With any other environment, a resumed run starts new episodes.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from pydantic import Field, field_validator

from rlsuite.config.schema import EnvSection
from rlsuite.core import registry
from rlsuite.core.errors import EnvError, UsageError
from rlsuite.core.masks import KEY
from rlsuite.envs import action_masks

# In these families, these attributes are the whole state of an environment, apart from its random generator and time limit.
_FAMILIES = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.")
_STATE = ("state", "s", "steps_beyond_terminated", "last_u", "lastaction", "fickle_step")

LONGEST = 10_000  # default time limit, so that the evaluation of an agent that walks in circles ends


class Config(EnvSection):
    """Settings of a Gymnasium environment."""

    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment."""
    max_episode_steps: int | None = Field(None, ge=1)
    """Time limit of an episode in agent steps; null: the environment's own, or 10,000 if it has none."""
    action_masks: bool = True
    """Obey action masks if the environment reports `action_mask` in `info` or in a Dict observation. Masks are never part of the
    agent's observation."""

    @field_validator("kwargs")
    @classmethod
    def _kept_as_given(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Refuses values that JSON would change or lose: evaluation must use the same environment as training."""
        _refuse_changed("env.kwargs", kwargs)
        return kwargs


def _refuse_changed(place: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place}: the key {key!r} is not text")
            _refuse_changed(f"{place}.{key}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_changed(f"{place}[{index}]", inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: {value} cannot be saved in a config")
    elif value is not None and type(value) not in (bool, int, float, str):
        raise ValueError(f"{place}: a {type(value).__name__} cannot be saved in a config; use text, numbers, lists and mappings")


class SyncEnvs(VectorWrapper[Any, Any, Any, Any, Any]):
    """A SyncVectorEnv with float32 rewards, whose state can be saved if it is known.

    It passes on action masks, and drops entries of the environments' `metadata` and `info` that a collector could mistake for ours.
    """

    def __init__(self, env: SyncVectorEnv, env_id: str, masks: bool):
        """`env_id`: the name in error messages. `masks`: whether to report action masks, if the environments do."""
        super().__init__(env)
        self.env_id = env_id
        self.metadata = {key: env.metadata[key] for key in ("autoreset_mode", "render_modes", "render_fps") if key in env.metadata}
        self.masks_in = action_masks.place_of(env, env_id) if masks else None
        if self.masks_in is not None:
            self.metadata["info_keys"] = (KEY,)
        self.single_observation_space = action_masks.without(env.single_observation_space)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.masks = masks

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins new episodes. EnvError if the environment's own `reset` raises."""
        with registry.third_party(f"env.id = {self.env_id}, reset", EnvError):
            return self._moved(*self.env.reset(seed=seed, options=options))

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of all environments: see `VectorEnv`. EnvError if one of them raises."""
        with registry.third_party(f"env.id = {self.env_id}, step", EnvError):
            observation, reward, terminated, truncated, info = self.env.step(actions)
            info.pop("terminal", None)
            observation, info = self._moved(observation, info)
            return observation, np.asarray(reward, np.float32), terminated, truncated, info

    def _moved(self, observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Moves the masks of a Dict observation to `info`. UsageError for masks that `step` reports but `reset` did not."""
        if self.masks and self.masks_in is None and KEY in info and not isinstance(self.single_action_space, gymnasium.spaces.Box):
            raise UsageError(f"env.id = {self.env_id}: info['{KEY}'] came from step but not from reset, which must report it, too")
        if isinstance(observation, dict) and KEY in observation:
            info = {key: value for key, value in info.items() if key not in (KEY, f"_{KEY}")}
            if self.masks_in == "observation":
                info[KEY] = observation[KEY]
            observation = {key: part for key, part in observation.items() if key != KEY}
        return observation, info

    def get_state(self) -> dict[str, Any] | None:
        """Everything that the next steps depend on, for an exact resume; None if the environment's state is unknown."""
        states = [self._env_state(env) for env in self._sync.envs]
        if any(state is None for state in states):
            return None
        return {"envs": states, "autoreset": np.array(self._sync._autoreset_envs)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned. Call it after a reset, because the wrappers require one."""
        self._sync._autoreset_envs = state["autoreset"].copy()
        for env, saved in zip(self._sync.envs, state["envs"], strict=True):
            for name, value in saved["attributes"].items():
                if name not in _STATE:
                    raise ValueError(f"{name} is not part of an environment's state")
                # Some environments keep their state as a tuple, which comes back from a checkpoint as a list.
                present = getattr(env.unwrapped, name)
                setattr(env.unwrapped, name, tuple(value) if isinstance(present, tuple) else copy.deepcopy(value))
            env.unwrapped.np_random.bit_generator.state = saved["rng"]
            if saved["elapsed"] is not None:
                _time_limit(env)._elapsed_steps = saved["elapsed"]

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
    """An environment family made from one class or factory function of `gymnasium.Env`s, given as `my_env.py:MyEnv`."""

    Config = Config

    def __init__(self, make: Callable[..., gymnasium.Env[Any, Any]]):
        self.spec_of = gymnasium.envs.registration.EnvSpec("rlsuite/OfOnesOwn-v0", entry_point=make)

    def make(self, config: Any, num_envs: int, threads: int = 1, render: bool = False) -> VectorEnv[Any, Any, Any]:
        """See the module's function `make`."""
        return _make(self.spec_of, config, num_envs, render)


def make(config: Config, num_envs: int, threads: int = 1, render: bool = False) -> VectorEnv[Any, Any, Any]:
    """The environments of a run, stepped in one process and one thread.

    UsageError if the environment cannot be built, because of a missing package or a wrong keyword argument.
    """
    return _make(config.id.rpartition(":")[2], config, num_envs, render)  # `module:Env-v0`: the module is imported


def _make(env_id: str | gymnasium.envs.registration.EnvSpec, config: Config, num_envs: int, render: bool) -> SyncEnvs:
    if "render_mode" in config.kwargs:
        raise UsageError("env.kwargs.render_mode: rlsuite sets it itself, for `rlsuite evaluate --video`; remove it")
    kwargs = {**config.kwargs, **({"render_mode": "rgb_array"} if render else {})}
    with registry.third_party(f"env.id = {config.id}, __init__"):
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
        except (gymnasium.error.Error, ImportError) as error:
            raise UsageError(f"env.id={config.id} cannot be built: {error}") from error
        assert isinstance(env, SyncVectorEnv)
        return SyncEnvs(env, config.id, config.action_masks)
