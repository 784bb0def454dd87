"""OpenSpiel's games as our `Game`: the same moves and results, searches and checks that work, and clear refusals."""

from typing import Any

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Row
from rlsuite.envs.boards.check import check_game
from rlsuite.search import Puct, compiled, search, uniform_evaluator
from rlsuite.search.tree import kernels

pyspiel = pytest.importorskip("pyspiel")


def test_a_game_is_played_as_in_openspiel() -> None:
    name = "breakthrough(rows=5,columns=4)"
    game, theirs = make_game(f"openspiel(game={name})"), pyspiel.load_game(name)
    rng = np.random.default_rng(0)
    for _ in range(10):
        state, other = game.new_state(), theirs.new_initial_state()
        while not other.is_terminal():
            assert (state.player, state.legal_actions()) == (other.current_player(), other.legal_actions())
            planes = np.array(other.observation_tensor(other.current_player())).reshape(theirs.observation_tensor_shape())
            assert np.array_equal(state.observation()[:-1], planes)
            assert (state.observation()[-1] == state.player).all()
            action = int(rng.choice(other.legal_actions()))
            state, other = state.apply(action), other.child(action)
        assert state.is_terminal()
        assert state.returns() == tuple(other.returns())
    assert game.parse_state(str(state)) == state


@pytest.mark.parametrize("name", ["openspiel(game=tic_tac_toe)", "openspiel(game=chess,max_moves=40)"])
def test_openspiel_games_keep_the_contract(name: str) -> None:
    facts = check_game(make_game(name), games=3)
    assert facts["longest"] <= 40


@pytest.mark.integration
def test_a_search_finds_what_it_finds_in_our_own_game() -> None:
    """In tic-tac-toe, where actions have the same numbers, the visits of the same positions are equal."""
    ours, theirs = make_game("tic_tac_toe"), make_game("openspiel(game=tic_tac_toe)")
    for moves in ([], [4], [0, 4, 8], [0, 1, 3]):
        a, b = ours.new_state(), theirs.new_state()
        for move in moves:
            a, b = a.apply(move), b.apply(move)
        found = [
            search(game, [state], uniform_evaluator(game), 200, Puct(noise_fraction=0.0))
            for game, state in ((ours, a), (theirs, b))
        ]
        assert np.array_equal(found[0].visits, found[1].visits)
        assert found[0].value[0] == found[1].value[0]


def test_games_too_long_are_drawn() -> None:
    state = make_game("openspiel(game=chess,max_moves=2)").new_state()
    state = state.apply(state.legal_actions()[0])
    assert not state.is_terminal()
    state = state.apply(state.legal_actions()[0])
    assert state.is_terminal()
    assert state.legal_actions() == []
    assert state.returns() == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("openspiel(game=backgammon)", "backgammon has chance"),
        ("openspiel(game=dark_chess)", "hides something"),
        ("openspiel(game=goofspiel)", "goofspiel has"),
        ("openspiel(game=chinese_checkers(players=3))", "is for 3 players"),
        ("openspiel(game=ches)", "unknown game of OpenSpiel 'ches'; did you mean chess"),
        ("openspiel(game=hex(bord_size=3))", "OpenSpiel refuses"),
        ("openspiel(game=tic_tac_toe,max_moves=0)", "allowed are 1 to 10,000"),
    ],
)
def test_other_kinds_of_games_are_refused(name: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        make_game(name)


def test_an_impossible_board_text_is_refused() -> None:
    game = make_game("openspiel(game=tic_tac_toe)")
    with pytest.raises(UsageError, match="move '4' is illegal"):
        game.parse("moves: 4 4")
    with pytest.raises(UsageError, match="lists the moves"):
        game.parse("...")
    with pytest.raises(UsageError, match="cannot begin from 'nonsense'"):
        make_game("openspiel(game=chess)").parse("start: nonsense\nmoves:")


def test_chess_from_a_fen() -> None:
    fen = "4k3/8/8/8/8/8/4P3/4K3 w - - 0 1"
    game = make_game("openspiel(game=chess)").starting_from(f"start: {fen}\nmoves:")
    state = game.new_state()
    assert str(state).splitlines()[0] == fen
    assert [state.text_of(action) for action in state.legal_actions()] == ["Kd1", "Kf1", "Kf2", "Kd2", "e3", "e4"]
    state = state.apply(state.legal_actions()[-1])
    assert game.parse_state(str(state)) == state
    assert game.usual().parse_state(str(state)) == state
    assert (state.observation() != game.new_state().observation()).any()


def test_errors_and_ctrl_c_come_out_of_a_search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Compiled rules call Python, whose exceptions cannot pass through them as they are."""
    game = make_game("openspiel(game=tic_tac_toe)")
    state = game.new_state()

    def broken(row: Row) -> Any:
        raise error("no such position")

    error: type[BaseException] = KeyError
    monkeypatch.setattr("rlsuite.envs.boards.openspiel.position", broken)
    with pytest.raises(RuntimeError, match="OpenSpiel gives no answer"):
        search(game, [state], uniform_evaluator(game), 10)
    assert "KeyError: 'no such position'" in capsys.readouterr().err
    error = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        state.legal_actions()


def test_its_rules_and_searches_can_be_kept_on_disk() -> None:
    """`objmode`, which would call Python just as well, could not be."""
    game = make_game("openspiel(game=tic_tac_toe)")
    search(game, [game.new_state()], uniform_evaluator(game), 10)
    kernels.cache_clear()  # what another process begins with
    assert compiled(game, Puct)
