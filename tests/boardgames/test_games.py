"""Games by name, and a game of a user's own that records, engines and the page show by its presentation."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from rlsuite import register_game
from rlsuite.boardgames import game_records
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.gtp_opponent import Gtp
from rlsuite.boardgames.openings import random_opening
from rlsuite.boardgames.opponents import make_opponent
from rlsuite.boardgames.uci_opponent import moves_by_name
from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game, GtpDialect, Presentation, Row
from rlsuite.play.gtp_engine import Engine
from rlsuite.play.players import BoardPlayer
from rlsuite.play.session import Session
from rlsuite.play.terminal import board, side_name
from rlsuite.play.web import layout


def own_game(size: int = 4) -> Game:
    """Gomoku with three in a row, as a user might present it."""
    return replace(
        make_game("gomoku", size=size, connect=3),  # which names points as Go does
        name=f"own(size={size})",
        parameters={"size": size},
        make=own_game,
        presentation=Presentation(
            sides=("Green", "Purple"),
            board="hexes",
            sgf=99,
            gtp=GtpDialect(),
            lead=lambda row: float((row[8:] == 1).sum()) - float((row[8:] == 2).sum()),
        ),
    )


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.games, "registered", {})
    register_game("own", own_game)


def engine(game: Game) -> Engine:
    return Engine(Session(game, BoardPlayer("random", game)), "name", "1.0")


@pytest.mark.usefixtures("registered")
def test_an_own_game_is_recorded_as_sgf(tmp_path: Path) -> None:
    game, path = make_game("own(size=5)"), tmp_path / "game.sgf"
    assert game_records.suffix(game) == ".sgf"
    game_records.write(path, game, [0, 7, 24], ("one", "other"))
    assert "GM[99]" in path.read_text()
    assert "SZ[5]" in path.read_text()
    for read in (game_records.read(path), game_records.read(path, game)):
        assert (read.game.name, read.actions) == ("own(size=5)", [0, 7, 24])
    with pytest.raises(UsageError, match=r"is a game of own of size 5, not of go\(size=5"):
        game_records.read(path, make_game("go(size=5)"))
    path.write_text("(;GM[1]SZ[5];B[cc])")
    with pytest.raises(UsageError, match=r"is a game of go of size 5, not of own"):
        game_records.read(path, game)


def test_an_own_game_is_drawn_and_named_as_it_wants() -> None:
    game = own_game()
    shown, session = layout(game, game.new_state().apply(5)), Session(game, BoardPlayer("random", game))
    assert shown is not None
    assert (shown["shape"], shown["cells"][5], shown["clicks"][:6]) == ("hexes", 1, [0, 1, 2, 3, 4, -1])
    assert board(session).splitlines()[1:3] == ["  4 . . . .", "   3 . . . ."]  # rows lean as those of Hex do
    assert side_name(session, 1) == "Purple (o)"
    plain = replace(game, presentation=Presentation())
    assert side_name(Session(plain, BoardPlayer("random", plain)), 1) == "o"
    assert layout(replace(game, presentation=Presentation(board="text")), game.new_state()) is None


def test_an_own_game_speaks_gtp() -> None:
    it = engine(own_game())
    assert [it.session.game.action_text(action) for action in (0, 15)] == ["a4", "d1"]
    assert it.respond("boardsize 9") == "=\n\n"
    assert it.session.game.name == "own(size=9)"
    assert it.session.game.action_text(8) == "j9"  # there is no i
    assert it.respond("boardsize 2") == "? unacceptable size\n\n"
    assert it.respond("play b j9") == "=\n\n"
    assert it.respond("final_score") == "= B+1\n\n"
    assert it.respond("final_status_list alive") == "= J9\n\n"
    with pytest.raises(UsageError, match="no program is known to play tic_tac_toe"):
        Gtp(make_game("tic_tac_toe"), "gnugo")


def test_an_own_game_of_chess_is_named_by_uci() -> None:
    game = replace(own_game(), presentation=Presentation(uci=lambda row, action: f"move{action}"))
    assert moves_by_name(game, game.new_state().apply(1).row)["move2"] == 2
    assert "move1" not in moves_by_name(game, game.new_state().apply(1).row)
    assert game_records.suffix(game) == ".pgn"


def test_a_game_of_other_parameters() -> None:
    game = make_game("go(size=5,komi=0.5)")
    assert game.with_parameters(komi=3.5).name == "go(size=5,komi=3.5)"
    assert game.with_parameters(size=7, komi=1).name == "go(size=7,komi=1)"
    assert make_game("othello").with_parameters(size=6).name == "othello(size=6)"
    for name, changes, complaint in [
        ("go", {"sise": 7}, r"unknown parameter of go\(.*'sise'; did you mean size"),
        ("go", {"size": 40}, "allowed are 1 to 19"),
        ("tic_tac_toe", {"size": 4}, "unknown parameter of tic_tac_toe 'size'"),
    ]:
        with pytest.raises(UsageError, match=complaint):
            make_game(name).with_parameters(**changes)


def test_random_openings_do_not_end_the_game() -> None:
    game, rng = make_game("tic_tac_toe"), np.random.default_rng(0)
    lengths = set()
    for _ in range(200):
        actions, row = random_opening(game, 9, rng)
        state = game.new_state()
        for action in actions:
            state = state.apply(action)
        assert not state.is_terminal()
        assert np.array_equal(state.row, row)
        lengths.add(len(actions))
    assert lengths <= set(range(4, 9))
    assert len(lengths) > 2
    assert random_opening(game, 0, rng)[0] == []
    assert {len(random_opening(game, 3, rng)[0]) for _ in range(20)} == {3}


@pytest.mark.parametrize("name", ["go(size=5)", "othello(size=6)", "hex(size=5)", "gomoku(size=5)", "connect_four", "tic_tac_toe"])
def test_every_game_begins_from_any_position(name: str) -> None:
    usual, rng = make_game(name), np.random.default_rng(0)
    state = usual.new_state()
    for _ in range(3):
        state = state.apply(int(rng.choice(state.legal_actions())))
    game = usual.starting_from(str(state))
    begin = game.new_state()
    assert (str(begin), begin.player, begin.legal_actions()) == (str(state), state.player, state.legal_actions())
    assert (begin.observation() == state.observation()).all()
    assert game.usual().new_state() == usual.new_state()
    assert usual.usual() is usual


def test_parameters_change_and_the_position_stays_unless_the_board_is_another() -> None:
    game = make_game("go(size=5,komi=0.5)").starting_from(".....\n.x...\n.....\n...x.\n.....\no to play")
    other = game.with_parameters(komi=3.5)
    assert str(other.new_state()) == str(game.new_state())
    assert other.parameters["komi"] == 3.5
    assert other.with_parameters(size=7).new_state() == make_game("go(size=7,komi=3.5)").new_state()


def test_a_game_whose_rules_always_set_up_the_board_begins_only_there() -> None:
    @njit
    def init(row: Row) -> None:
        row[8:] = 0

    usual = make_game("tic_tac_toe")
    game = replace(usual, rules=usual.rules._replace(init=init))
    with pytest.raises(UsageError, match="tic_tac_toe can begin only from its usual position"):
        game.starting_from("x..\n...\n...")


@pytest.mark.integration
def test_programs_are_told_where_a_game_begins(tmp_path: Path) -> None:
    script, said = tmp_path / "program.py", tmp_path / "said"
    script.write_text(PROGRAM.format(said=str(said)))
    stones = make_game("go(size=5,komi=0.5)").starting_from("....o\n.x...\n.....\n...x.\n.....\no to play")
    command = f"command={sys.executable} {script}"
    opponent = make_opponent(f"gtp({command})", stones)
    state = stones.new_state()
    opponent(state.row[None], [[]], np.random.default_rng(0))
    opponent.close()
    played = [line for line in said.read_text().splitlines() if line.startswith("play")]
    assert len(played) == 3
    assert {line.split()[1] for line in played[1:]} == {"black"}
    othello = make_game("othello(size=4)")
    begun = othello.starting_from(str(othello.new_state().apply(1)))
    with pytest.raises(UsageError, match="no program can be told to begin othello"):
        make_opponent(f"gtp({command})", begun)
    pytest.importorskip("pyspiel")
    said.unlink()
    chess = make_game("openspiel(game=chess)").starting_from("start: 4k3/8/8/8/8/8/4P3/4K3 w - - 0 1\nmoves:")
    opponent = make_opponent(f"uci({command})", chess)
    action = opponent(chess.new_state().row[None], [[]], np.random.default_rng(0))[0]
    opponent.close()
    assert chess.new_state().text_of(int(action)) == "e4"
    assert "position fen 4k3/8/8/8/8/8/4P3/4K3 w - - 0 1" in said.read_text().splitlines()


PROGRAM = """
import sys

for line in sys.stdin:
    with open({said!r}, "a") as file:
        file.write(line)
    word = line.split()[0]
    answers = dict(uci="uciok", isready="readyok", go="bestmove e2e4", position=None, ucinewgame=None)
    answer = answers.get(word, "= pass\\n" if word == "genmove" else "=\\n")
    if answer is not None:
        print(answer, flush=True)
"""


def test_what_a_net_sees_is_taken_from_another_game_of_the_kind() -> None:
    plain, stones = make_game("go(size=5,komi=3.5)"), make_game("go(size=7,planes=stones,history=4)")
    assert plain.seen_as(stones).name == "go(size=5,komi=3.5,planes=stones,history=4)"
    assert stones.seen_as(plain).name == "go(size=7,komi=7.5)"
    assert stones.seen_as(make_game("go(planes=stones,history=2)")).name == "go(size=7,komi=7.5,planes=stones,history=2)"
    begun = plain.starting_from(str(plain.new_state().apply(12)))
    seen = begun.seen_as(stones)
    assert str(seen.new_state()) == str(begun.new_state())
    assert seen.usual().new_state() == make_game("go(size=5,komi=3.5,planes=stones,history=4)").new_state()
    assert str(begun.with_parameters(komi=1).new_state()) == str(begun.new_state())
    assert str(seen.with_parameters(history=2).new_state()) == str(begun.new_state())  # other planes are no other board
    for other in ("hex(size=5)", "gomoku", "tic_tac_toe"):
        game = make_game(other)
        assert game.seen_as(stones) is game
        assert stones.seen_as(game) is stones
    connect = make_game("gomoku(size=5)")
    assert connect.seen_as(make_game("tic_tac_toe")) is connect
