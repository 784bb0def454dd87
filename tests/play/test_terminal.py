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


def test_boards_have_names_of_rows_and_columns() -> None:
    game = make_game("hex(size=3)")
    text = board(Session(game, BoardPlayer("random", game)))
    assert text == "    a b c\n  1 . . .\n   2 . . .\n    3 . . ."
