"""Games are read back as they were written, and a bad record is refused with the place of the mistake."""

import subprocess
import sys
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
@pytest.mark.parametrize(("points", "ending"), [(0.5, ""), (1.0, "resigned"), (0.0, "out of time"), (None, "")])
def test_every_game_comes_back(name: str, points: float | None, ending: str, tmp_path: Path) -> None:
    game = make_game(name)
    actions = random_actions(name)
    path = tmp_path / f"game{game_records.suffix(game)}"
    players = ("a ] \\ person", "mcts(simulations=3)")
    game_records.write(path, game, actions, players, points, ending)
    for record in (game_records.read(path), game_records.read(path, game), game_records.read(path.read_bytes())):
        assert (record.game.name, record.actions) == (game.name, actions)
        assert (record.players, record.points, record.ending, record.notes) == (players, points, ending, [])


@pytest.mark.parametrize("name", ["go(size=5,komi=2.5)", "othello(size=6)", "gomoku(size=7)", "hex(size=5)", "connect_four"])
def test_a_game_from_another_position_comes_back(name: str, tmp_path: Path) -> None:
    state = make_game(name).new_state()
    for action in random_actions(name)[:5]:
        state = state.apply(action)
    game = make_game(name).starting_from(str(state))
    actions = [state.legal_actions()[1]]
    path = tmp_path / f"game{game_records.suffix(game)}"
    game_records.write(path, game, actions, ("a", "b"))
    record = game_records.read(path)
    assert (str(record.game.new_state()), record.actions) == (str(state), actions)
    assert game_records.read(path, make_game(name)).game.new_state() == record.game.new_state()
    game_records.write(path, make_game(name), random_actions(name), ("a", "b"))
    assert game_records.read(path, game).game.new_state() == make_game(name).new_state()  # and not from the other position


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rlsuite game\ngame: connect_four\nactions: 3 3 3 3 3 3 3\n", "move 7: .*illegal"),
        ("rlsuite game\ngame: conect_four\nactions: 3\n", "did you mean connect_four"),
        ("rlsuite game\ngame: connect_four\nactions: a b\n", "must be numbers"),
        ("rlsuite game\ngame: connect_four\nstart: [1]\nactions: 1\n", "its start position cannot be read"),
        ("nonsense", "is not a game record"),
        ("", "is not a game record"),
    ],
)
def test_a_bad_record_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "game"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        game_records.read(path)


def test_a_folder_without_a_record_that_can_be_read(tmp_path: Path) -> None:
    game = make_game("go(size=5)")
    (tmp_path / "chess.pgn").write_text("1. e4 *")
    with pytest.raises(UsageError, match=r"holds no records \(\.sgf or \.txt\) of go\(size=5"):
        game_records.read_folder(tmp_path, game)
    (tmp_path / "a.sgf").write_text("(;GM[1]SZ[5];B[zz])")
    (tmp_path / "b.sgf").write_text("no record")
    complaint = "no record .* that can be read; 1 left out: a point off the board .*; 1 left out: not a record"
    with pytest.raises(UsageError, match=complaint):
        game_records.read_folder(tmp_path, game)


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


@pytest.mark.integration
@pytest.mark.parametrize(
    ("game", "text", "shown", "told"),
    [
        ([], "(;SZ[5]KM[1]HA[2]AB[bb][dd];W[cc];B[cd])", "o to play", ""),
        ([], "(;SZ[5]KM[1];B[cc];W[];B[];W[aa])", "Black (x) has won", "the moves after the end of the game are left out"),
        ([], "(;SZ[5]KM[1];B[cc](;W[dd])(;W[aa]))", "x to play", "only the main line is read, without the variations"),
        (["go(size=5,komi=2.5)"], "(;SZ[5]KM[1];B[cc])", "o to play", "its komi is 1; here it is 2.5"),
    ],
)
def test_play_goes_on_from_a_record(game: list[str], text: str, shown: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "GAME.SGF"
    path.write_text(text)
    command = [sys.executable, "-m", "rlsuite", "play", *game, "--load", str(path), "--against", "random", "--side", "both"]
    done = subprocess.run(command, input="quit\n", capture_output=True, text=True, timeout=300, check=True)
    assert shown in done.stdout
    assert done.stderr == (f"rlsuite: {path}: {told}\n" if told else "")


@pytest.mark.parametrize(
    "game", ["evil.py", "evil.py:make", "evil.py:make(x=1)", "evil.game", "openspiel(game=efg_game(filename=x))"]
)
def test_a_record_runs_no_code(game: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('pwned', 'w')\n")
    (tmp_path / "bad.txt").write_text(f"rlsuite game\ngame: {game}\nactions: 0\n")
    with pytest.raises(UsageError, match="is Python code"):
        game_records.read(tmp_path / "bad.txt")
    assert not (tmp_path / "pwned").exists()


def test_a_start_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its start position cannot be read"):
        game_records.read(f"rlsuite game\ngame: hex(size=3)\nstart: {'[' * 100_000}\nactions: 0\n".encode())


def test_a_file_too_large_to_be_a_record_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(game_records, "_MOST_BYTES", 2**20)
    with open(tmp_path / "a.sgf", "wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(UsageError, match=r"a\.sgf has more than 1 MiB: it is no record of games"):
        game_records.read(tmp_path / "a.sgf")
