"""What a net sees of Go: AlphaGo Zero's stones of the last positions (Silver et al. 2017), or chains in atari."""

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.envs.boards.go import points_of


def played(game: Game, count: int, seed: int) -> list[BoardState]:
    """The positions of a random game, at most `count` moves long, with a pass now and then."""
    rng, states = np.random.default_rng(seed), [game.new_state()]
    while len(states) <= count and not states[-1].is_terminal():
        legal = states[-1].legal_actions()
        passes = rng.random() < 0.1 and not (len(states) > 1 and "after a pass" in str(states[-1]))
        states.append(states[-1].apply(legal[-1] if passes or len(legal) == 1 else int(rng.choice(legal[:-1]))))
    return states


@pytest.mark.parametrize("history", [1, 3, 8])
def test_the_stones_of_the_last_positions_are_seen_by_the_player_to_move(history: int) -> None:
    game = make_game(f"go(size=5,komi=0.5,planes=stones,history={history})")
    assert game.observation_shape == (2 * history + 1, 5, 5)
    states = played(game, 60, seed=history)
    assert len(states) > 30
    for at, state in enumerate(states):
        planes, own = state.observation(), state.player + 1
        for k in range(history):
            points = points_of(states[at - k].row).reshape(5, 5) if k <= at else np.zeros((5, 5))
            np.testing.assert_array_equal(planes[2 * k], points == own)
            np.testing.assert_array_equal(planes[2 * k + 1], points == 3 - own)
        assert (planes[-1] == (own == 1)).all()


def test_the_rules_are_those_of_the_same_game_with_other_planes() -> None:
    stones, chains = make_game("go(size=5,planes=stones,history=4)"), make_game("go(size=5)")
    for seed in range(5):
        a, b = stones.new_state(), chains.new_state()
        rng = np.random.default_rng(seed)
        while not a.is_terminal():
            assert a.legal_actions() == b.legal_actions()
            assert str(a) == str(b)
            action = int(rng.choice(a.legal_actions()))
            a, b = a.apply(action), b.apply(action)
        assert a.returns() == b.returns()
        assert b.is_terminal()


def test_positions_that_a_net_sees_differently_have_different_hashes() -> None:
    # The same stones and turn, by another order of moves: superko and cache must not take one for the other's planes.
    orders = [(0, 6, 1, 7), (1, 6, 0, 7)]
    for planes, same in (("", True), (",planes=stones,history=2", True), (",planes=stones,history=4", False)):
        game = make_game(f"go(size=5{planes})")
        ends = []
        for order in orders:
            state = game.new_state()
            for action in order:
                state = state.apply(action)
            ends.append(state)
        equal = np.array_equal(ends[0].observation(), ends[1].observation())
        hashes = [int(game.rules.hash(end.row)) for end in ends]
        assert equal == same
        assert (hashes[0] == hashes[1]) == same


def test_a_position_from_text_has_no_earlier_ones() -> None:
    game = make_game("go(size=3,planes=stones,history=2)")
    planes = game.parse_state("xo.\n...\n...\nx to play").observation()
    assert planes[0].sum() == planes[1].sum() == 1
    assert planes[2:4].sum() == 0
    assert (planes[4] == 1).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("go(planes=stone)", "unknown planes of go 'stone'; did you mean stones"),
        ("go(planes=stones,history=0)", "history 0; allowed are 1 to 16 positions"),
        ("go(history=4)", "history works with planes=stones"),
    ],
)
def test_planes_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_game(text)
