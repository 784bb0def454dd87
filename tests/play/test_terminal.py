"""A game in the terminal, as a person would type it."""

from pathlib import Path

import pytest

from rlsuite.boardgames import game_records
from rlsuite.boardgames.games import make_game
from rlsuite.play.players import BoardPlayer
from rlsuite.play.session import Session
from rlsuite.play.terminal import board, run


def play(
    game: str, typed: list[str], side: int | None, player: str = "mcts(simulations=400)", watching: bool = False
) -> tuple[Session, str]:
    made = make_game(game)
    session, shown, lines = Session(made, BoardPlayer(player, made)), list[str](), iter(typed)

    def read(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration as error:
            raise EOFError from error

    run(session, side, watching, read, shown.append)
    return session, "\n".join(shown)


def test_a_whole_game_and_its_commands(tmp_path: Path) -> None:
    saved = tmp_path / "game.txt"
    session, shown = play("tic_tac_toe", ["hint", "moves", "b2", "undo", "b9", "A1", "undo", "a1", f"save {saved}", "quit"], 0)
    assert session.actions[0] == 0
    assert len(session.actions) == 2
    assert "did you mean b" in shown
    assert "you can expect" in shown
    assert "a1 b1 c1 a2" in shown
    assert game_records.read(saved).actions == session.actions


def test_it_takes_a_win_and_says_so() -> None:
    session, shown = play("tic_tac_toe", ["a1", "b1", "a2", "b2", "a3", "b3", "c1", "c2"], 1)
    assert session.over
    assert "you have lost" in shown


def test_a_game_goes_on_after_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    session, shown = play("tic_tac_toe", ["b2", f"save {tmp_path}", "save a\0b", "quit"], 0)
    assert session.actions[0] == 4
    assert "Is a directory" in shown
    assert "null byte" in shown


def test_a_finished_game_can_be_saved_and_moves_taken_back(tmp_path: Path) -> None:
    saved = tmp_path / "game.txt"
    typed = ["a1", "b1", "a2", "b2", "a3", f"save {saved}", "a1", "undo", "c3", ""]
    session, shown = play("tic_tac_toe", typed, None)
    assert len(game_records.read(saved).actions) == 5
    assert "the game is over: save FILE, undo or quit" in shown
    assert len(session.actions) == 5
    assert not session.over


@pytest.mark.integration
def test_both_sides_and_none() -> None:
    _, shown = play("tic_tac_toe", ["a1", "b1", "a2", "b2", "a3"], None)
    assert shown.endswith("x has won")
    session, shown = play("hex(size=3)", [], None, watching=True)
    assert session.over
    assert "has won" in shown
    _, shown = play("connect_four", ["resign"], 0, "random")
    assert "you have lost by resignation" in shown
    _, shown = play("connect_four", ["hint"], 0, "random")
    assert "random does not search" in shown


@pytest.mark.parametrize(
    ("game", "lines"),
    [
        ("hex(size=3)", ["    a b c", "  1 . . .", "   2 . . .", "    3 . . ."]),
        ("go(size=9)", ["    a b c d e f g h j", "  9 . . . . . . . . ."]),  # no i, row 1 at the bottom, as every Go player has it
        ("gomoku(size=15)", ["    a b c d e f g h j k l m n o p", " 15 . . . . . . . . . . . . . . ."]),
        ("othello", ["    a b c d e f g h", "  1 . . . . . . . ."]),
        ("connect_four", ["    a b c d e f g", "    . . . . . . ."]),
    ],
)
def test_boards_have_names_of_rows_and_columns(game: str, lines: list[str]) -> None:
    made = make_game(game)
    assert board(Session(made, BoardPlayer("random", made))).splitlines()[: len(lines)] == lines


@pytest.mark.parametrize("game", ["go(size=9)", "gomoku(size=9)", "othello", "hex(size=9)", "tic_tac_toe"])
def test_a_point_has_the_name_that_the_board_shows(game: str) -> None:
    made = make_game(game)
    state = made.new_state()
    for action in state.legal_actions()[:20]:
        session = Session(made, BoardPlayer("random", made))
        before = board(session).splitlines()
        session.play(action)
        columns, after = before[0].split(), board(session).splitlines()
        name = made.action_text(action)
        row = next(at for at, line in enumerate(before) if line.split()[:1] == [name[1:]])
        at = 1 + columns.index(name[0])
        assert (before[row].split()[at], after[row].split()[at]) == (".", "x")


def test_what_one_waits_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer of a process waits for the compiler: before it there is a line that says so."""
    monkeypatch.setattr("rlsuite.play.session.compiled", lambda *_: False)
    _, shown = play("tic_tac_toe", ["a1"], 0)
    lines = shown.splitlines()
    said = lines.index("compiling the search for tic_tac_toe, which takes some seconds")
    assert any(line.startswith("mcts(simulations=400) plays") for line in lines[said:])


def test_save_without_a_name_and_with_blanks(tmp_path: Path) -> None:
    _, shown = play("tic_tac_toe", ["a1", "save", "Save", f"save {tmp_path}/my game.txt"], None)
    assert shown.count("save needs the name of a file: save game.txt") == 2
    assert "did you mean" not in shown
    assert game_records.read(tmp_path / "my game.txt").actions == [0]
    _, shown = play("tic_tac_toe", ["a1", "b1", "a2", "b2", "a3", "save", f"save {tmp_path}/no/folder.txt"], None)
    assert "save needs the name of a file" in shown
