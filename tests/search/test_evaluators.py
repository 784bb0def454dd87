"""A cache returns the evaluations that it was given, even if positions collide; rollouts against exact values."""

from typing import Any

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.search import Cached, Evaluate, plane_evaluator, rollout_evaluator, uniform_evaluator

ACTIONS = 3


def asked_for(calls: list[list[int]]) -> Evaluate:
    """An evaluator whose logits and values are the positions' keys; appends what it was asked for to `calls`."""

    def evaluate(rows: Any, keys: Any) -> Any:
        calls.append(keys.tolist())
        return np.repeat(keys.astype(np.float32)[:, None], ACTIONS, 1), keys.astype(np.float32) / 100

    return evaluate


@pytest.mark.parametrize("size", [1, 4, 64])
def test_a_cache_changes_no_evaluation(size: int) -> None:
    calls: list[list[int]] = []
    cached, rng = Cached(asked_for(calls), ACTIONS, size), np.random.default_rng(0)
    for _ in range(200):
        keys = rng.integers(0, 40, size=int(rng.integers(1, 12))).astype(np.uint64)  # 0 is the key of an empty slot
        logits, values = cached(np.zeros((len(keys), 8), np.int8), keys)
        assert np.array_equal(logits, np.repeat(keys.astype(np.float32)[:, None], ACTIONS, 1))
        assert np.array_equal(values, keys.astype(np.float32) / 100)
    assert all(len(set(call)) == len(call) for call in calls)  # no position twice in a batch
    asked = sum(map(len, calls))
    assert cached.found == cached.asked - asked
    assert asked < cached.asked
    if size == 64:  # more slots than positions: each was asked for once, except key 0, which no slot can hold
        assert sorted(key for call in calls for key in call if key) == list(range(1, 40))


def test_new_weights_are_asked_again() -> None:
    calls: list[list[int]] = []
    cached, rows = Cached(asked_for(calls), ACTIONS, 16), np.zeros((2, 8), np.int8)
    keys = np.array([5, 6], np.uint64)
    cached(rows, keys)
    cached(rows, keys)
    assert calls == [[5, 6]]
    cached.clear()
    cached(rows, keys)
    assert calls == [[5, 6], [5, 6]]


def test_a_restored_cache_knows_what_the_saved_one_knew() -> None:
    calls: list[list[int]] = []
    cached, rows = Cached(asked_for([]), ACTIONS, 16), np.zeros((3, 8), np.int8)
    cached(rows, np.array([5, 6, 23], np.uint64))
    other = Cached(asked_for(calls), ACTIONS, 16)
    other.table.load_state_dict(cached.table.state_dict())
    assert other(rows, np.array([6, 7, 5], np.uint64))[1].tolist() == pytest.approx([0.06, 0.07, 0.05])
    assert calls == [[7]]


def test_planes_are_those_of_the_player_to_move() -> None:
    game = make_game("tic_tac_toe")
    seen: list[Any] = []

    def net(planes: Any) -> Any:
        seen.append(planes.copy())
        return np.zeros((len(planes), 9), np.float32), np.zeros(len(planes), np.float32)

    states = [game.new_state(), game.new_state().apply(4)]
    plane_evaluator(game, net)(np.stack([state.row for state in states]), np.zeros(2, np.uint64))
    assert np.array_equal(seen[0], np.stack([state.observation() for state in states]))


def test_rollouts_have_the_value_of_random_play() -> None:
    """Tic-tac-toe from the empty board: random play wins 0.585 and loses 0.288 of the games (both by enumeration)."""
    game = make_game("tic_tac_toe")
    rows = np.stack([game.new_state().row] * 20_000)
    before, evaluate = rows.copy(), rollout_evaluator(game, seed=1)
    _, values = evaluate(rows, np.arange(20_000, dtype=np.uint64))
    assert (values == 1).mean() == pytest.approx(0.585, abs=0.012)
    assert (values == -1).mean() == pytest.approx(0.288, abs=0.012)
    after = np.stack([game.new_state().apply(4).row] * 20_000)  # the sign is that of the player to move
    assert evaluate(after, np.arange(20_000, dtype=np.uint64))[1].mean() < -0.3
    assert np.array_equal(evaluate(rows, np.arange(20_000, dtype=np.uint64))[1], values)
    assert np.array_equal(rows, before)


def test_the_uniform_evaluator_knows_nothing() -> None:
    game = make_game("tic_tac_toe")
    logits, values = uniform_evaluator(game)(np.zeros((4, 16), np.int8), np.zeros(4, np.uint64))
    assert logits.shape == (4, 9)
    assert not logits.any()
    assert not values.any()
