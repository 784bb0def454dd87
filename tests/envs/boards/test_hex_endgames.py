"""The solver of Hex agrees with a search of the whole tree by the game's own rules."""

from functools import cache

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.openings import random_opening
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState
from rlsuite.envs.boards.hex_endgames import MOST_EMPTY, empty, scores


@cache
def wins(state: BoardState) -> bool:
    """Whether the player to move wins, by trying everything."""
    for action in state.legal_actions():
        after = state.apply(action)
        if after.is_terminal() or not wins(after):
            return True
    return False


def check(state: BoardState) -> None:
    found, legal = scores(state.row), state.legal_actions()
    assert np.flatnonzero(~np.isnan(found)).tolist() == legal
    for action in legal:
        after = state.apply(action)
        assert found[action] == (1 if after.is_terminal() or not wins(after) else -1), f"{state}\n{action}"


@pytest.mark.parametrize(("size", "most", "count"), [(3, 9, 20), (4, 8, 25), (6, 7, 25), (9, 6, 10)])
def test_scores_are_those_of_trying_everything(size: int, most: int, count: int) -> None:
    game, rng, seen = make_game("hex", size=size), np.random.default_rng(size), 0
    while seen < count:
        _, row = random_opening(game, size * size - int(rng.integers(1, most + 1)), rng)
        if empty(row) <= most:
            check(BoardState(game, row))
            seen += 1


@pytest.mark.parametrize(("size", "winning"), [(2, "b1 a2"), (3, "c1 a2 b2 c2 a3"), (4, "d1 c2 b3 a4")], ids=["2x2", "3x3", "4x4"])
def test_winning_first_moves_of_small_boards(size: int, winning: str) -> None:
    game = make_game("hex", size=size)
    state = game.new_state()
    found = scores(state.row)
    assert [game.action_text(action) for action in np.flatnonzero(found == 1).tolist()] == winning.split()
    if size <= 3:
        check(state)


def test_every_score_agrees_with_the_positions_after_it() -> None:
    """At the solver's limit the tree is too large to try: a move wins where no answer does."""
    game, rng = make_game("hex(size=6)"), np.random.default_rng(5)
    for _ in range(4):
        _, row = random_opening(game, 36 - MOST_EMPTY + 3, rng)
        state = BoardState(game, row)
        found = scores(row)
        for action in state.legal_actions():
            after = state.apply(action)
            assert found[action] == (1 if after.is_terminal() else -np.nanmax(scores(after.row)))


def test_positions_with_too_many_empty_cells_are_refused() -> None:
    with pytest.raises(UsageError, match="25 cells are empty; endgames are solved with at most 20"):
        scores(make_game("hex(size=5)").new_state().row)
