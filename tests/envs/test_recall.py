"""Recall: observations and rewards step by step, and its saved state."""

import copy
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rlsuite.core.types import EnvSpec, describe
from rlsuite.envs.recall import Config, Recall, make


def fresh(num_envs: int, length: int, seed: int = 0) -> tuple[Recall, NDArray[np.float32]]:
    env = make(Config(id="rlsuite/Recall-v0", length=length), num_envs)
    return env, env.reset(seed=seed)[0]


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("correct", [True, False])
def test_an_episode_by_hand(length: int, correct: bool) -> None:
    """The cue at t = 0, the question at t = length, the reward with the final observation, and then a new cue."""
    env, seen = fresh(6, length)
    for _ in range(4):
        assert seen.shape == (6, 4)
        assert seen.dtype == np.float32
        assert (seen[:, :2].sum(1) == 1).all()  # the cue, one-hot
        assert (seen[:, 2] == 0).all()
        assert (seen[:, 3] == 1).all()
        cue = seen[:, 1].astype(int)
        for t in range(1, length + 1):
            seen, reward, terminated, truncated, _ = env.step(cue)  # naming the cue early has no reward
            assert (reward == 0).all()
            assert not terminated.any()
            assert not truncated.any()
            assert (seen[:, :2] == 0).all()  # never shown again
            assert (seen[:, 2] == (t == length)).all()
            np.testing.assert_allclose(seen[:, 3], 1 - t / length, atol=1e-6)
        seen, reward, terminated, truncated, _ = env.step(cue if correct else 1 - cue)
        assert (reward == (1 if correct else -1)).all()
        assert reward.dtype == np.float32
        assert terminated.all()
        assert not truncated.any()
        assert (seen[:, :2] == 0).all()
        seen, reward, terminated, truncated, _ = env.step(cue)  # NEXT_STEP: this step is the reset
        assert (reward == 0).all()
        assert not terminated.any()


def test_cues_are_uniform_and_differ_between_environments_and_episodes() -> None:
    env, seen = fresh(200, 1)
    cues = [seen[:, 1]]
    for _ in range(20):
        for _ in range(3):
            seen = env.step(np.zeros(200, np.int64))[0]
        cues.append(seen[:, 1])
    table = np.array(cues)
    assert abs(table.mean() - 0.5) < 5 * 0.5 / np.sqrt(table.size)
    assert 0 < table[0].mean() < 1
    assert not np.array_equal(table[0], table[1])


@pytest.mark.parametrize(("policy", "optimum"), [("memory", 1.0), ("blind", 0.0)])
def test_the_best_return_is_one_with_memory_and_zero_without(policy: str, optimum: float) -> None:
    env, seen = fresh(400, 3)
    cue, total, episodes = seen[:, 1].astype(int), 0.0, 0
    for tick in range(5 * 20):
        action = cue if policy == "memory" else np.zeros(400, np.int64)
        seen, reward, terminated, _, _ = env.step(action)
        total += float(reward.sum())
        episodes += int(terminated.sum())
        if tick % 5 == 4:
            cue = seen[:, 1].astype(int)
    assert episodes == 400 * 20
    assert total / episodes == pytest.approx(optimum, abs=5 / np.sqrt(episodes))


def test_the_seed_determines_the_cues() -> None:
    assert np.array_equal(fresh(50, 3, seed=4)[1], fresh(50, 3, seed=4)[1])
    assert not np.array_equal(fresh(50, 3, seed=4)[1], fresh(50, 3, seed=5)[1])
    with pytest.raises(TypeError, match="one seed"):
        fresh(2, 3)[0].reset(seed=[1, 2])


def run(env: Recall, ticks: int) -> list[Any]:
    out = []
    for t in range(ticks):
        out.append(env.step((np.arange(env.num_envs) + t) % 2)[:4])
    return out


def same(left: list[Any], right: list[Any]) -> bool:
    return all(np.array_equal(a, b) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("ticks", range(7))
def test_a_saved_state_continues_exactly(ticks: int) -> None:
    """At any point of an episode, including its end and the reset after it."""
    env, _ = fresh(8, 3)
    run(env, ticks)
    state = copy.deepcopy(env.get_state())
    expected = run(env, 30)
    other, _ = fresh(8, 3, seed=77)
    run(other, 2)
    other.set_state(state)
    assert same(run(other, 30), expected)


def test_a_saved_state_does_not_change_later() -> None:
    """Whatever the environment does afterwards, including a reset."""
    env, _ = fresh(8, 3)
    run(env, 2)
    state = env.get_state()
    kept = copy.deepcopy(state)
    expected = run(env, 10)
    env.set_state(state)
    env.reset(seed=9)
    env.set_state(state)
    assert np.array_equal(state["t"], kept["t"])
    assert same(run(env, 10), expected)
    env.set_state(kept)
    state = env.get_state()
    env.reset(seed=9)
    assert np.array_equal(state["t"], kept["t"]), "the reset has changed a state saved before it"


def test_spec() -> None:
    env, _ = fresh(2, 3)
    assert describe(env) == EnvSpec((4,), "float32", 2, None, 1, 1)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
