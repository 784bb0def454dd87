"""KeyDoor: rules, observations, the solution, and a state that can be restored."""

import numpy as np
import pytest

from rlsuite.envs.key_door import DOWN, LEFT, RIGHT, UP, USE, Config, KeyDoor, make, solve

L = 32


def env(rooms: int = 3, size: int = 4, max_steps: int = 100, num_envs: int = L) -> KeyDoor:
    return make(Config(id="rlsuite/KeyDoor-v0", rooms=rooms, size=size, max_steps=max_steps), num_envs)


def placed(**fields: int) -> KeyDoor:
    """One environment in the first of two 4x4 rooms, with player, key and door in the given places."""
    made = env(rooms=2, num_envs=1)
    made.reset(seed=0)
    for name, value in {"row": 1, "column": 1, "item_row": 2, "item_column": 2, "door": 3, **fields}.items():
        getattr(made, name)[:] = value
    return made


def act(made: KeyDoor, *actions: int) -> tuple[int, int]:
    for action in actions:
        made.step(np.array([action]))
    return int(made.row[0]), int(made.column[0])


def test_solve_wins_every_game() -> None:
    made = env()
    observation, _ = made.reset(seed=1)
    won = ended = 0
    for _ in range(300):
        assert made.observation_space.contains(observation)
        observation, reward, terminated, truncated, _ = made.step(solve(made, observation))
        assert np.array_equal(reward, terminated.astype(np.float32))
        won, ended = won + int(terminated.sum()), ended + int((terminated | truncated).sum())
    assert ended > L
    assert won == ended


def test_walls_keys_and_doors() -> None:
    made = placed()
    assert act(made, UP, UP, UP) == (0, 1)
    assert act(made, LEFT, LEFT) == (0, 0)
    assert act(made, DOWN, DOWN, DOWN, DOWN) == (3, 0)
    assert act(made, RIGHT, RIGHT, RIGHT, RIGHT) == (3, 3)  # the door is locked
    assert made.room[0] == 0
    act(made, USE)  # without a key
    assert not made.open[0]
    act(made, UP, LEFT, USE)
    assert made.held[0]
    assert made.item_row[0] == -1
    act(made, RIGHT, USE)  # not at the door
    assert made.held[0]
    act(made, DOWN, USE)
    assert made.open[0]
    assert not made.held[0]
    made._rng = np.random.default_rng(0)
    act(made, RIGHT)
    assert made.room[0] == 1
    assert (made.row[0], made.column[0]) == (3, 0)
    assert made.door[0] == 4  # the last room has no door


def test_observations() -> None:
    made = placed(row=1, column=3, item_row=2, item_column=0, door=3)
    seen = made._observe()[0]
    parts = np.split(seen, np.cumsum([4, 4, 4, 4, 1, 5, 1, 1]))
    assert [part.tolist() for part in parts] == [
        [0, 1, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
        [1, 0, 0, 0],
        [0],
        [0, 0, 0, 1, 0],
        [0],
        [0],
        [1, 0],
    ]
    act(made, LEFT)
    made.item_row[:], made.item_column[:], made.held[:] = -1, -1, True
    assert made._observe()[0][8:16].sum() == 0
    assert made._observe()[0][23] == 1


def test_an_episode_is_truncated_and_the_next_begins_by_itself() -> None:
    made = env(max_steps=5, num_envs=2)
    made.reset(seed=0)
    for t in range(1, 13):
        _, reward, terminated, truncated, _ = made.step(np.array([UP, UP]))
        assert not terminated.any()
        assert not reward.any()
        assert truncated.tolist() == [t in (5, 11)] * 2  # the step after an end is a reset
    assert (made.t == 0).all()  # a new episode has just begun


def test_a_restored_state_continues_exactly() -> None:
    one, two = env(), env()
    observation, _ = one.reset(seed=1)
    two.reset(seed=2)
    for _ in range(37):
        observation = one.step(solve(one, observation))[0]
    two.set_state(one.get_state())
    for _ in range(60):
        action = np.random.default_rng(3).integers(5, size=L)
        for a, b in zip(one.step(action)[:4], two.step(action)[:4], strict=True):
            np.testing.assert_array_equal(a, b)


def test_rendering() -> None:
    made = KeyDoor(2, 2, 3, 10, render=True)
    made.reset(seed=1)
    frames = made.render()
    assert len(frames) == 2
    assert frames[0].shape == (5 * 24, 5 * 24, 3)
    assert frames[0].dtype == np.uint8
    assert len(np.unique(frames[0].reshape(-1, 3), axis=0)) == 5  # wall, floor, player, key, door


def test_a_list_of_seeds_is_refused() -> None:
    with pytest.raises(TypeError, match="one seed"):
        env().reset(seed=[1, 2])
