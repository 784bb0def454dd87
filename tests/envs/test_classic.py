"""Gymnasium environments: rewards, ends, and saved states that continue bit for bit."""

import datetime
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, describe
from rlsuite.envs.classic import Config, make

RESTORABLE: dict[str, tuple[str, dict[str, Any]]] = {  # with short time limits, so that 60 steps cross several
    "CartPole-v1": ("CartPole-v1", {}),
    "CartPole-v1, cut at 7": ("CartPole-v1", {"max_episode_steps": 7}),
    "Acrobot-v1": ("Acrobot-v1", {"max_episode_steps": 11}),
    "MountainCar-v0": ("MountainCar-v0", {"max_episode_steps": 13}),
    "MountainCarContinuous-v0": ("MountainCarContinuous-v0", {"max_episode_steps": 13}),
    "Pendulum-v1": ("Pendulum-v1", {"max_episode_steps": 9}),
    "FrozenLake-v1, slippery": ("FrozenLake-v1", {"is_slippery": True}),
    "FrozenLake-v1, cut at 3": ("FrozenLake-v1", {"is_slippery": True, "max_episode_steps": 3}),
    "Taxi-v4": ("Taxi-v4", {"max_episode_steps": 12}),
    "Taxi-v4, rain": ("Taxi-v4", {"is_rainy": True, "max_episode_steps": 12}),
    "CliffWalking-v1": ("CliffWalking-v1", {"max_episode_steps": 10}),
    "CliffWalkingSlippery-v1": ("CliffWalkingSlippery-v1", {"max_episode_steps": 10}),
}


def step(env: Any, rng: np.random.Generator) -> list[Any]:
    """One random step: observation, reward, terminated, truncated."""
    space = env.single_action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        actions: Any = rng.integers(space.n, size=env.num_envs)
    else:
        actions = rng.uniform(space.low, space.high, size=(env.num_envs, *space.shape)).astype(np.float32)
    return list(env.step(actions)[:4])


def through_a_file(state: Any) -> Any:
    """As a checkpoint stores it: arrays as they are, the rest as JSON, where a tuple becomes a list."""
    if isinstance(state, np.ndarray):
        return state.copy()
    if isinstance(state, dict):
        return {key: through_a_file(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [through_a_file(value) for value in state]
    return json.loads(json.dumps(state))


@pytest.mark.parametrize("case", RESTORABLE)
def test_a_saved_state_continues_bit_for_bit(case: str) -> None:
    """Saved at each of 60 steps, so also at an end, at a time limit, and between an end and the reset after it."""
    env_id, kwargs = RESTORABLE[case]
    config, num_envs, after = Config(id=env_id, kwargs=kwargs), 2, 25
    env, other = make(config, num_envs), make(config, num_envs)
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    states, random, ticks = [], [], []
    for _ in range(60 + after):
        states.append(through_a_file(env.get_state()))
        random.append(rng.bit_generator.state)
        ticks.append(step(env, rng))
    ends = [tick for tick, (_, _, terminated, truncated) in enumerate(ticks) if (terminated | truncated).any()]
    assert ends, "no episode ended"
    for at in sorted({0, 1, 30, *[e for e in ends if e < 59], *[e + 1 for e in ends if e < 59], *[e + 2 for e in ends if e < 58]}):
        other.reset(seed=1000 + at)
        other.set_state(states[at])
        rng.bit_generator.state = random[at]
        for tick in range(at, at + after):
            for left, right in zip(step(other, rng), ticks[tick], strict=True):
                assert left.dtype == right.dtype
                assert np.array_equal(left, right), f"saved at {at}, tick {tick}"


def test_taxi_with_a_fickle_passenger_is_restored_or_has_no_state() -> None:
    """`fickle_step` is drawn at the reset: a state without it is incomplete."""
    config = Config(id="Taxi-v4", kwargs={"fickle_passenger": True, "fickle_probability": 0.5, "max_episode_steps": 60})
    env, other = make(config, 40), make(config, 40)
    env.reset(seed=3)
    state = env.get_state()
    if state is None:
        return
    other.reset(seed=4)
    other.set_state(through_a_file(state))
    fickle = [e.unwrapped.fickle_step for e in env.env.envs]
    assert [e.unwrapped.fickle_step for e in other.env.envs] == fickle


def test_a_saved_state_does_not_change_later() -> None:
    env = make(Config(id="CartPole-v1"), 2)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    state = env.get_state()
    kept = through_a_file(state)
    for _ in range(30):
        step(env, rng)
    assert repr(state) == repr(kept)


def test_an_environment_of_unknown_state_returns_none() -> None:
    assert make(Config(id="Blackjack-v1"), 2).get_state() is None


class Camera(gymnasium.Env[Any, Any]):
    """Like Box2D's CarRacing: `state` is the last image, and the physics is elsewhere."""

    observation_space = gymnasium.spaces.Box(0, 255, (2, 2), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.position = 0
        self.state = np.zeros((2, 2), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.position = 0
        return self.state, {}

    def step(self, action: Any) -> Any:
        self.position += 1
        self.state = np.full((2, 2), self.position, np.uint8)
        return self.state, 0.0, self.position > 50, False, {}


@pytest.mark.parametrize("module", [__name__, "gymnasium.envs.box2d.car_racing"])
def test_an_attribute_named_state_is_not_enough(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In other environments, a third party's or Gymnasium's own Box2D, `state` need not be the whole state."""
    monkeypatch.setattr(Camera, "__module__", module)
    monkeypatch.setitem(gymnasium.registry, "Camera-v0", gymnasium.envs.registration.EnvSpec("Camera-v0", entry_point=Camera))
    env = make(Config(id="Camera-v0"), 1)
    env.reset(seed=0)
    assert env.get_state() is None


def test_ends_and_rewards_are_those_of_gymnasium() -> None:
    """Against single environments, stepped one by one: NEXT_STEP autoreset, rewards f32, truncated is not terminated."""
    num_envs, kwargs = 3, {"max_episode_steps": 15}
    env = make(Config(id="CartPole-v1", kwargs=kwargs), num_envs)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    single = [gymnasium.make("CartPole-v1", **kwargs) for _ in range(num_envs)]
    seen, _ = env.reset(seed=5)
    for env_index, one in enumerate(single):
        assert np.array_equal(seen[env_index], one.reset(seed=5 + env_index)[0])
    rng, ended = np.random.default_rng(0), np.zeros(num_envs, bool)
    terminations = truncations = 0
    for _ in range(120):
        actions = np.where(rng.random(num_envs) < 0.3, rng.integers(2, size=num_envs), np.arange(num_envs) % 2)
        actions[2] = len(single[2].unwrapped.state) and int(single[2].unwrapped.state[2] > 0)  # balances its pole for a while
        seen, reward, terminated, truncated, _ = env.step(actions)
        assert reward.dtype == np.float32
        for env_index, one in enumerate(single):
            if ended[env_index]:
                expected: Any = (one.reset()[0], 0.0, False, False)
            else:
                expected = one.step(int(actions[env_index]))[:4]
            assert np.array_equal(seen[env_index], expected[0])
            assert (reward[env_index], terminated[env_index], truncated[env_index]) == expected[1:]
            ended[env_index] = expected[2] or expected[3]
            terminations += bool(expected[2])
            truncations += bool(expected[3] and not expected[2])
    assert terminations > 0
    assert truncations > 0


def test_specs() -> None:
    cartpole = describe(make(Config(id="CartPole-v1"), 2))
    assert cartpole == EnvSpec((4,), "float32", 2, None, 1, 1, has_pictures=True)
    lake = describe(make(Config(id="FrozenLake-v1"), 2))
    assert lake == EnvSpec((), "int64", 4, 16, 1, 1, has_pictures=True)
    pendulum = describe(make(Config(id="Pendulum-v1"), 2))
    assert (pendulum.num_actions, pendulum.action_shape) == (0, (1,))


def test_environments_that_cannot_be_built_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"env.id = CartPole-v1, __init__ failed: .*gravitty"):
        make(Config(id="CartPole-v1", kwargs={"gravitty": 1}), 1)
    with pytest.raises(UsageError, match=r"env.id 'CartPole-v7'; did you mean .*CartPole-v1"):
        registry.envs.get("CartPole-v7")


def test_every_episode_ends() -> None:
    """CliffWalking has no time limit: the evaluation of an agent that walks in circles would never end."""
    for settings, limit in (({}, 10_000), ({"max_episode_steps": 7}, 7), ({"kwargs": {"max_episode_steps": 5}}, 5)):
        env = make(Config(id="CliffWalking-v1", **settings), 1)  # type: ignore[arg-type]
        env.reset(seed=1)
        ends = [bool(env.step(np.array([0]))[3][0]) for _ in range(limit)]
        assert ends == [False] * (limit - 1) + [True]


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"pay": {0: 0.0, 1: 1.0}}, r"env\.kwargs\.pay: the key 0 is not text"),
        ({"size": (3, 3)}, r"env\.kwargs\.size: a tuple cannot be saved"),
        ({"a": [1, {"b": float("nan")}]}, r"env\.kwargs\.a\[1\]\.b: nan cannot be saved"),
        ({"day": datetime.date(2026, 1, 1)}, r"env\.kwargs\.day: a date cannot be saved"),
        ({"x": np.float32(1)}, r"env\.kwargs\.x: a float32 cannot be saved"),
    ],
)
def test_arguments_that_a_saved_config_would_change_are_refused(kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        resolve("classic/dqn", {"env.kwargs": kwargs})
    kept = {"a": [1, 2.5, None, True, {"b": "c"}]}
    assert Config(id="CartPole-v1", kwargs=kept).model_dump(mode="json")["kwargs"] == kept


class Ring(gymnasium.Env[Any, Any]):
    """An environment whose own `info` and `metadata` use names that mean something to a collector."""

    metadata: dict[str, Any] = {"frame_stack": 4, "info_keys": ["terminal"], "game": "go", "render_modes": ["ansi"]}  # noqa: RUF012
    observation_space, action_space = gymnasium.spaces.Box(0, 1, (1,)), gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None):
        pass

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.ones(1, np.float32), {"terminal": True}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.ones(1, np.float32), 1.0, False, False, {"terminal": True}


def test_an_environments_own_info_and_metadata_are_not_taken_for_ours() -> None:
    gymnasium.register("Ring-v0", entry_point=Ring, max_episode_steps=3)
    try:
        env = make(Config(id="Ring-v0"), 2)
        spec = describe(env)
    finally:
        del gymnasium.registry["Ring-v0"]
    env.reset(seed=1)
    for _ in range(5):  # over the end of an episode
        assert "terminal" not in env.step(np.zeros(2, np.int64))[4]
    assert (spec.stack, spec.info_keys, spec.game, spec.has_pictures) == (1, (), None, False)


def test_rendering_only_if_asked_for() -> None:
    env = make(Config(id="FrozenLake-v1", kwargs={"map_name": "4x4"}), 1, render=True)
    assert env.env.envs[0].unwrapped.render_mode == "rgb_array"
    assert make(Config(id="FrozenLake-v1"), 1).env.envs[0].unwrapped.render_mode is None


BROKEN = """
import gymnasium
from gymnasium.spaces import Box, Discrete


class Env(gymnasium.Env):
    observation_space, action_space = Box(0, 1, (2,)), Discrete(3)

    def __init__(self, fails=None):
        self.fails = fails
        if fails == "init":
            raise KeyError("board")  # line 12

    def reset(self, seed=None, options=None):
        if self.fails == "reset":
            return self.nowhere  # line 16
        return self.observation_space.sample(), {}
"""


@pytest.mark.parametrize(("fails", "told"), [("init", "KeyError: 'board'"), ("reset", "AttributeError: .*nowhere")])
def test_an_environment_that_raises_is_named_with_the_line(fails: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(BROKEN)
    line = {"init": 12, "reset": 16}[fails]
    with pytest.raises(UsageError, match=rf"^env\.id = .*mine\.py:Env, \w+ failed: .*{told}.* \(.*mine\.py, line {line}\)$"):
        rlsuite.train("classic/dqn", [f"env.id={file}:Env", f"env.kwargs.fails={fails}", "run.threads=1"], run_dir=tmp_path / "run")
