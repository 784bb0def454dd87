"""PGN as other programs write it is read; ours is read by python-chess."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from rlsuite.boardgames import game_records
from rlsuite.boardgames.games import CHESS, make_game
from rlsuite.boardgames.record import AFTER_THE_END, BadRecord, GameRecord
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game

pytest.importorskip("pyspiel")
pgn = pytest.importorskip("chess.pgn")

CASES = Path(__file__).parent / "records"
LESSON = "4k3/8/8/8/8/8/4P3/4K3 w - - 0 1"


def names(record: GameRecord) -> list[str]:
    state, found = record.game.new_state(), list[str]()
    for action in record.actions:
        found.append(state.text_of(action))
        state = state.apply(action)
    return found


def read(text: str | bytes) -> list[str]:
    return names(game_records.read(text.encode() if isinstance(text, str) else text))


def actions_of(game: Game, moves: str) -> list[int]:
    state, found = game.new_state(), list[int]()
    for name in moves.split():
        found.append(next(action for action in state.legal_actions() if state.text_of(action) == name))
        state = state.apply(found[-1])
    return found


def test_chess_is_written_as_pgn(tmp_path: Path) -> None:
    game = make_game(CHESS)
    actions = actions_of(game, "e4 e5 Nf3 Nc6 Bc4 Bc5 O-O Nf6 Re1")
    path = tmp_path / "game.pgn"
    game_records.write(path, game, actions, ("second", "first"), 0.0, "resigned")
    text = path.read_text()
    assert '[White "first"]' in text
    assert '[Result "1-0"]' in text
    assert "1. e4 e5 2. Nf3 Nc6 3. Bc4 Bc5 4. O-O Nf6 5. Re1 1-0" in text
    record = game_records.read(path)
    assert (record.actions, record.players, record.points, record.ending) == (actions, ("second", "first"), 0.0, "resigned")


def test_ours_is_read_by_python_chess(tmp_path: Path) -> None:
    game, path, rng = make_game(CHESS), tmp_path / "game.pgn", np.random.default_rng(0)
    for start in (game, game.starting_from("start: r3k2r/pppp4/8/8/8/8/PPPP4/R3K2R b KQkq - 3 9\nmoves:")):
        for _ in range(3):
            state, actions, moves = start.new_state(), list[int](), list[str]()
            while not state.is_terminal() and len(actions) < 120:
                actions.append(int(rng.choice(state.legal_actions())))
                moves.append(game.presentation.uci(state.row, actions[-1]) if game.presentation.uci else "")
                state = state.apply(actions[-1])
            game_records.write(path, start, actions, ('a "b" \\', "c"), 0.5)
            theirs = pgn.read_game(io.StringIO(path.read_text()))
            assert not theirs.errors
            assert [move.uci() for move in theirs.mainline_moves()] == moves
            assert theirs.board().fen() == str(start.new_state()).splitlines()[0]
            record = game_records.read(path)
            assert (record.game.new_state(), record.actions) == (start.new_state(), actions)
            assert (record.players, record.points) == (('a "b" \\', "c"), 0.5)


def test_comment_lines_that_begin_with_a_bracket() -> None:
    record = game_records.read(CASES / "clock_comments.pgn")
    assert names(record) == ["e4", "e5", "Qh5", "Nc6", "Bc4", "Nf6", "Qxf7#"]
    assert (record.players, record.points) == (("B", "A"), 0.0)  # player 0 is Black


def test_a_game_from_a_position(tmp_path: Path) -> None:
    record = game_records.read(CASES / "from_a_position.pgn")
    assert str(record.game.new_state()).startswith(LESSON)
    assert names(record) == ["e4", "Kd7", "Kd2"]
    game_records.write(tmp_path / "game.pgn", record.game, record.actions, ("", ""))
    assert f'[SetUp "1"]\n[FEN "{LESSON}"]\n\n1. e4 Kd7 2. Kd2 *' in (tmp_path / "game.pgn").read_text()
    black = read('[FEN "4k3/8/8/8/8/8/4P3/4K3 b - - 5 9"]\n\n9... Kd7 10. e4 *')
    assert black == ["Kd7", "e4"]


def test_castling_without_a_blank_and_without_tags() -> None:
    record = game_records.read(CASES / "castling_without_blank.pgn")
    assert names(record) == ["e4", "e5", "Nf3", "Nc6", "Bc4", "Bc5", "O-O", "Nf6", "d3", "O-O"]
    assert record.points == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "1. e4! {best by test (really)} e5 (1... c5 2. Nf3 (2. c3)) 2.Nf3 $1 Nc6 3. Bc4 ; the Italian\n3... Bc5 4. 0-0\n",
        "\ufeff1. e4 e5 2. Nf3 Nc6 3. Bc4 Bc5 4. 0-0 1-0",
        "\n\n% escaped\n1 e4 e5 2 Nf3 Nc6 3 Bc4 Bc5 4 O-O *",
        '[Event "x"]\r\n\r\n1. e4 e5 2. Nf3\r\nNc6 3. Bc4 Bc5 4. O-O 1-0\r\n',
        '[Event "x"][Site "y"] [Round "1"]\n1.e2-e4 e7-e5 2.Ng1-f3 Nb8-c6 3.Bf1-c4 Bf8-c5 4.O-O!? *',
        '[Variant "From Position"]\n\n1. e4 e5 2. Nf3 Nc6 3. Bc4 Bc5 4. O-O *',
        '  [Event "x"]\n\n1. e4 e5 2. Nf3 Nc6 3. Bc4 Bc5 4. O-O {ends in a comment',
    ],
)
def test_what_other_programs_write(text: str) -> None:
    assert read('[Event "x"]\n\n' + text if text.startswith("1. e4!") else text) == ["e4", "e5", "Nf3", "Nc6", "Bc4", "Bc5", "O-O"]


def test_charsets() -> None:
    for charset in ("utf-8", "utf-16", "latin-1"):
        text = '[White "Müller"]\n\n1. e4 {für} e5 *'
        record = game_records.read(text.encode(charset))
        assert (names(record), record.players[1]) == (["e4", "e5"], "Müller")


def test_several_games_in_a_file() -> None:
    text = '[Event "1"]\n\n1. e4 1-0\n\n[Event "2"]\n\n1. d4 --\n\n[Event "3"]\n\n1. c4 *\n\n1. b4 *\n'
    found = list(game_records.read_all(text.encode()))
    assert [names(record) if isinstance(record, GameRecord) else record.kind for record in found] == [
        ["e4"],
        "a null move",
        ["c4"],
        ["b4"],
    ]
    first = game_records.read(text.encode())
    assert (names(first), first.notes) == (["e4"], ["only the first game of the file is read"])


def test_moves_after_the_end_are_told() -> None:
    there_and_back = "Nf3 Nf6 Ng1 Ng8 " * 3  # the position comes for the third time after eight moves
    record = game_records.read(f"1. {there_and_back} *".encode())
    assert len(record.actions) == 8
    assert record.notes == [AFTER_THE_END]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1. e4 e5 2. -- Nc6 *", "move 3 is a null move, which chess does not have"),
        ("1. e4 e5 2. Z0 *", "move 3 is a null move"),
        ("1. e4 e5 2. Qh9 Qxh7 *", "after 2 moves: illegal san: 'Qxh7'"),
        ("1. e4 e5 2. Sf3 *", "'Sf3' is not a move in English notation"),
        ("1. e4 e5 (1... c5 2. Qxf7) 2. Nf3 *", "illegal san: 'Qxf7'"),
        ("1. e4 e5\n\n2. Nf3 Nc6 *", "a blank line comes before the end of a game"),
        ('[Variant "Chess960"]\n[FEN "4k3/8/8/8/8/8/8/RK5R w HA - 0 1"]\n\n1. O-O *', "a game of Chess960"),
        ('[FEN "4k3/8/8/8/8/8/8/RK5R w HA - 0 1"]\n\n1. O-O *', "castling rights of its FEN are those of Chess960"),
        ('[Variant "Atomic"]\n\n1. e4 *', "a game of Atomic"),
        ('[Variant "Flying"]\n\n1. e4 *', "Flying"),
        ('[FEN "4k3/8"]\n\n1. e4 *', "4k3/8"),
        ('[FEN "4k3/8/8/8/8/8/4P3/8 w - - 0 1"]\n\n1. e4 *', "not a legal position"),
        ('[Fen "4k3/8/8/8/8/8/4P3/4K3 w - - 0 1"]\n\n1. e4 *', "a tag that cannot be read"),
        ('[FEN "4k3/8/8/8/8/8/4P3/4K3 w - - 0 1]\n\n1. e4 *', "a tag that cannot be read"),
        ('[SetUp "1"]\n\n1. e4 *', "SetUp is 1, but there is no FEN"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, complaint: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match=complaint):
        read(text)
    assert not caplog.records


def test_a_record_of_another_game() -> None:
    found = next(game_records.read_all(b"1. e4 *", make_game("go(size=5)")))
    assert isinstance(found, BadRecord)
    assert str(found) == "the record is a game of chess, not of go(size=5,komi=7.5)"


def test_without_python_chess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chess", None)
    monkeypatch.setitem(sys.modules, "chess.pgn", None)
    with pytest.raises(UsageError, match=r"^PGN is read by python-chess: pip install 'rlsuite\[chess\]'$"):
        read("1. e4 *")
