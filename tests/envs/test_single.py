"""KeyDoor and Recall as Gymnasium environments."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rlsuite
from rlsuite.core.errors import UsageError

NAMES = ["KeyDoor", "Recall"]


@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_checker_accepts_our_environments(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(f"rlsuite/{name}-v0"))


@pytest.mark.parametrize("name", NAMES)
def test_one_environment_is_a_vector_of_one(name: str) -> None:
    single, vector = gymnasium.make(f"rlsuite/{name}-v0"), rlsuite.make_env(f"rlsuite/{name}-v0", num_envs=1)
    observation, _ = single.reset(seed=3)
    assert np.array_equal(observation, vector.reset(seed=3)[0][0])
    rng = np.random.default_rng(0)
    for _ in range(300):
        action = int(rng.integers(single.action_space.n))  # type: ignore[attr-defined]
        found, expected = single.step(action), vector.step(np.array([action]))
        assert np.array_equal(found[0], expected[0][0])
        assert found[1:4] == (expected[1][0], expected[2][0], expected[3][0])
        if found[2] or found[3]:
            with pytest.raises(UsageError, match="the episode is over"):
                single.step(action)
            assert np.array_equal(single.reset()[0], vector.reset()[0][0])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"roms": 3}, "unknown key roms; did you mean rooms"),
        ({"rooms": 0}, "rooms = 0: must be greater than or equal to 1"),
        ({"num_envs": 2}, "num_envs = 2"),
        ({"render_mode": "ansi"}, "'ansi': rlsuite/KeyDoor-v0 has 'rgb_array'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium warns of the render mode
        with pytest.raises(UsageError, match=complaint):
            gymnasium.make("rlsuite/KeyDoor-v0", **settings)


@pytest.mark.parametrize("action", [1.0, True, 5, -1, "0"])
def test_what_is_no_action_is_refused(action: Any) -> None:
    env = gymnasium.make("rlsuite/KeyDoor-v0")
    env.reset(seed=1)
    with pytest.raises(UsageError, match="actions are the integers 0 to 4"):
        env.step(action)


def test_a_room_is_rendered() -> None:
    env = gymnasium.make("rlsuite/KeyDoor-v0", render_mode="rgb_array", size=4)
    env.reset(seed=1)
    picture: Any = env.render()
    assert picture.shape == (144, 144, 3)


def test_a_wrong_setting_of_make_env_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown key roms; did you mean rooms"):
        rlsuite.make_env("rlsuite/KeyDoor-v0", roms=3)
