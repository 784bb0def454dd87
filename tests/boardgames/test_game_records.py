"""Games are read back as they were written, and a bad record is refused with the place of the mistake."""

from pathlib import Path

import numpy as np
import pytest

from rlsuite.boardgames import game_records
from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import UsageError


def random_actions(name: str, seed: int = 1) -> list[int]:
    state, rng, actions = make_game(name).new_state(), np.random.default_rng(seed), list[int]()
    while not state.is_terminal():
        actions.append(int(rng.choice(state.legal_actions())))
        state = state.apply(actions[-1])
    return actions


@pytest.mark.parametrize(
    "name", ["go(size=5,komi=2.5)", "othello(size=6)", "gomoku(size=7)", "hex(size=5)", "connect_four", "tic_tac_toe"]
)
def test_every_game_comes_back(name: str, tmp_path: Path) -> None:
    game = make_game(name)
    actions = random_actions(name)
    path = tmp_path / f"game{game_records.suffix(game)}"
    game_records.write(path, game, actions, ("a ] \\ person", "mcts(simulations=3)"), 0.5, "resigned")
    read, found = game_records.read(path)
    assert (read.name, found) == (game.name, actions)
    assert game_records.read(path, game)[1] == actions


def test_chess_is_written_as_pgn(tmp_path: Path) -> None:
    pytest.importorskip("pyspiel")
    game = make_game("openspiel(game=chess)")
    state, actions = game.new_state(), list[int]()
    for name in ("e4", "e5", "Nf3", "Nc6", "Bc4", "Bc5", "O-O", "Nf6", "Re1"):
        actions.append(next(action for action in state.legal_actions() if state.text_of(action) == name))
        state = state.apply(actions[-1])
    path = tmp_path / "game.pgn"
    game_records.write(path, game, actions, ("second", "first"), 0.0, "resigned")
    text = path.read_text()
    assert '[White "first"]' in text
    assert '[Result "1-0"]' in text
    assert "1. e4 e5 2. Nf3 Nc6 3. Bc4 Bc5 4. O-O Nf6 5. Re1 1-0" in text
    assert game_records.read(path)[1] == actions
    moves = "1. e4! {best by test (really)} e5 (1... c5 2. Nf3) 2.Nf3 $1 Nc6 3. Bc4 ; the Italian\n3... Bc5 4. 0-0\n"
    path.write_text(f'[Event "x"]\n[Site "y"]\n\n{moves}')
    with pytest.raises(UsageError, match="move 7, '0-0', is illegal"):
        game_records.read(path)
    path.write_text(path.read_text().replace("0-0", "O-O *"))
    assert game_records.read(path)[1] == actions[:7]


def test_sgf_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "other.sgf"
    path.write_text("(;GM[1]FF[4]SZ[5]KM[0.375]RE[B+3];B[cc];W[];B[bb](;W[aa];B[tt])(;W[dd]))")
    game, actions = game_records.read(path)
    assert game.name == "go(size=5,komi=0.5)"  # the nearest half point
    assert actions == [12, 25, 6, 0, 25]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(;GM[1]SZ[5];B[cc];W[cc])", "move 2: .*illegal"),
        ("(;GM[1]SZ[5];B[cc];B[dd])", "move 2 is B's, out of turn"),
        ("(;GM[1]SZ[5];B[zz])", "move 1, 'zz', is off the board"),
        ("(;GM[1]SZ[5]AB[cc][dd];W[aa])", "handicap"),
        ("(;GM[40]SZ[5];B[cc])", "SGF's game 40 is not known here; .*go"),
        ("(;GM[1]SZ[5];B[cc]", "is not a valid SGF record"),
        ("rlsuite game\ngame: connect_four\nactions: 3 3 3 3 3 3 3\n", "move 7: .*illegal"),
        ("rlsuite game\ngame: conect_four\nactions: 3\n", "did you mean connect_four"),
        ("rlsuite game\ngame: connect_four\nactions: a b\n", "must be numbers"),
        ("nonsense", "is not a game record"),
        ("", "is not a game record"),
    ],
)
def test_a_bad_record_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "game"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        game_records.read(path)


def test_a_record_runs_no_code_and_is_of_the_game_asked_for(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    record = tmp_path / "game.txt"
    record.write_text(f"rlsuite game\ngame: {own}\nactions: 0\n")
    with pytest.raises(UsageError, match="which is Python code"):
        game_records.read(record)
    with pytest.raises(UsageError, match="which is Python code"):
        game_records.read(record, make_game("tic_tac_toe"))
    assert not (tmp_path / "ran").exists()
    record.write_text("rlsuite game\ngame: tic_tac_toe\nactions: 0\n")
    with pytest.raises(UsageError, match="is a game of tic_tac_toe, not of gomoku"):
        game_records.read(record, make_game("gomoku(size=7)"))
    record.write_text("rlsuite game\ngame: tic_tac_toe\nactions: ²\n")
    with pytest.raises(UsageError, match="must be numbers"):
        game_records.read(record)
