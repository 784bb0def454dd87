"""The solver of Othello's endgames agrees with a search of the whole tree by the game's own rules."""

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.record import placed
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.envs.boards.othello_endgames import MOST_EMPTY, empty, scores


def best_difference(state: BoardState) -> int:
    """The difference of discs under best play for the player to move, by trying everything."""
    if state.is_terminal():
        shown = "".join(placed(state))
        lead = shown.count("x") - shown.count("o")
        return lead if state.player == 0 else -lead
    return max(-best_difference(state.apply(action)) for action in state.legal_actions())


def late_positions(game: Game, count: int, most: int, seed: int) -> list[BoardState]:
    """Positions of random games with at most `most` empty cells that are not over; in some of them only a pass is legal."""
    rng, found = np.random.default_rng(seed), list[BoardState]()
    while len(found) < count:
        state = game.new_state()
        while not state.is_terminal() and empty(state.row) > most:
            legal = state.legal_actions()
            state = state.apply(legal[rng.integers(len(legal))])
        if not state.is_terminal():
            found.append(state)
    return found


def check(state: BoardState) -> None:
    found, legal = scores(state.row), state.legal_actions()
    assert np.flatnonzero(~np.isnan(found)).tolist() == legal
    assert found[legal].tolist() == [-best_difference(state.apply(action)) for action in legal]


@pytest.mark.parametrize(("size", "most", "count"), [(8, 5, 30), (6, 6, 20), (4, 7, 20)])
def test_scores_are_those_of_trying_everything(size: int, most: int, count: int) -> None:
    game = make_game("othello", size=size)
    for state in late_positions(game, count, most, seed=size):
        check(state)


def test_passes() -> None:
    """Positions where only a pass is legal, and one that either move ends: empty cells count for nobody."""
    game = make_game("othello(size=4)")
    must_pass = [state for state in late_positions(game, 200, 5, seed=3) if state.legal_actions() == [16]]
    assert len(must_pass) >= 5
    for state in must_pass:
        check(state)
    alone = game.parse_state("xxxx\nxxxx\nxxo.\nxxx.\nx to play")
    assert scores(alone.row)[alone.legal_actions()].tolist() == [15, 15]
    assert np.isnan(scores(alone.row)).sum() == 15


@pytest.mark.parametrize("size", [6, 8])
def test_the_first_move_of_an_endgame_keeps_its_score(size: int) -> None:
    """At the solver's limit the tree is too large to try: after the best move the opponent's best score is the negative one."""
    game = make_game("othello", size=size)
    for state in late_positions(game, 3, MOST_EMPTY - 2, seed=7):
        found = scores(state.row)
        for action in state.legal_actions():
            after = state.apply(action)
            if not after.is_terminal():
                assert found[action] == -np.nanmax(scores(after.row))


def test_positions_with_too_many_empty_cells_are_refused() -> None:
    with pytest.raises(UsageError, match="60 cells are empty; endgames are solved with at most 14"):
        scores(make_game("othello").new_state().row)
    assert make_game("othello(size=10)").endgames is None


def test_othello_on_four_by_four_is_lost_for_the_first_player() -> None:
    """The second player wins by 8 discs (Feinstein 1993 solved 6 x 6; 4 x 4 is small enough to try)."""
    state = make_game("othello(size=4)").new_state()
    assert np.nanmax(scores(state.row)) == -8
