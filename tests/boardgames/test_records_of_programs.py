"""Records that other programs write come back through ours unchanged, and broken ones change nothing in silence."""

import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sgfmill import sgf

from rlsuite.boardgames import game_records
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.record import AFTER_THE_END, BadRecord, GameRecord
from rlsuite.boardgames.sgf import GUESSED
from rlsuite.core.game import Game

chess = pytest.importorskip("chess")
pgn = pytest.importorskip("chess.pgn")
pytest.importorskip("pyspiel")
pytestmark = pytest.mark.integration

PLACES = f"{os.environ.get('PATH', '')}:/usr/games"


def program(name: str) -> str:
    path = shutil.which(name, path=PLACES)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def by_sgfmill(content: bytes) -> list[tuple[str, Any]]:
    """The main line as sgfmill reads it, whatever the charset: (colour, (row from below, column) or None)."""
    game = sgf.Sgf_game.from_bytes(content, override_encoding="ISO-8859-1")
    moves = [node.get_move() for node in game.get_main_sequence()]
    return [move for move in moves if move[0] is not None]


def by_chess(text: str) -> list[str]:
    """The main line as python-chess reads it, in UCI."""
    game = pgn.read_game(io.StringIO(text))
    return [] if game is None else [move.uci() for move in game.mainline_moves()]


def of_record(record: GameRecord) -> list[Any]:
    """A record's moves as the two functions above give them."""
    state, found = record.game.new_state(), list[Any]()
    size = record.game.observation_shape[1]
    for action in record.actions:
        if record.game.presentation.uci is not None:
            found.append(record.game.presentation.uci(state.row, action))
        else:
            point = None if action == size * size else (size - 1 - action // size, action % size)
            found.append(("bw"[state.player], point))
        state = state.apply(action)
    return found


def seen(content: bytes, kind: str) -> list[Any] | None:
    """The moves as the library reads them; None if it refuses."""
    try:
        return by_sgfmill(content) if kind == ".sgf" else by_chess(content.decode("utf-8", "replace"))
    except Exception:  # it has no class of its own for what it refuses
        return None


def in_its_charset(content: bytes) -> bytes:
    """The content in UTF-8, if it is in the charset that it declares."""
    try:
        return content.decode(content.split(b"CA[")[1].split(b"]")[0].decode()).encode()
    except (IndexError, LookupError, ValueError):
        return content


def made_by_sgfmill(number: int) -> bytes:
    """A game of Go with comments, variations and in every third a start position; charsets of East Asia."""
    rng = np.random.default_rng(number)
    size, charset = (5, 7, 9, 13, 19)[number % 5], ("UTF-8", "GB18030", "Big5", "Shift_JIS", "ISO-8859-1")[number % 5]
    game: Game = make_game(f"go(size={size},komi=6.5)")
    made = sgf.Sgf_game(size, encoding=charset)
    root = made.get_root()
    root.set("KM", 6.5)
    root.set("PB", {"ISO-8859-1": "Müller"}.get(charset, "表功能" if charset != "Shift_JIS" else "表ソ"))
    if number % 3 == 0:
        stones = {(int(cell) // size, int(cell) % size) for cell in rng.choice(size * size, 3, replace=False)}
        root.set("AB", stones)
        root.set("HA", 3)
        root.set("PL", "w")
        cells = ["x" if (size - 1 - row, column) in stones else "." for row in range(size) for column in range(size)]
        rows = ["".join(cells[at : at + size]) for at in range(0, size * size, size)]
        game = game.starting_from("\n".join([*rows, "o to play"]))
    state = game.new_state()
    for _ in range(int(rng.integers(5, 80))):
        if state.is_terminal():
            break
        action = int(rng.choice(state.legal_actions()))
        node = made.extend_main_sequence()
        point = None if action == size * size else (size - 1 - action // size, action % size)
        node.set_move("bw"[state.player], point)
        if rng.random() < 0.2:
            node.add_comment_text("a ] bracket, a \\ backslash; ;B[aa]")
        if rng.random() < 0.1 and node.parent is not None:
            node.parent.new_child().set_move("bw"[state.player], None)
        state = state.apply(action)
    root.set("RE", ("B+R", "W+3.5", "0", "B+T")[number % 4])
    return bytes(made.serialise())


def made_by_gnugo(number: int, folder: Path) -> bytes:
    """A game of GNU Go against itself, from a handicap in two of three."""
    path = folder / f"{number}.sgf"
    command = [program("gnugo"), "--mode", "ascii", "--boardsize", str((7, 9, 13)[number % 3]), "--level", "0"]
    command += ["--seed", str(number + 1), "--handicap", str((0, 2, 4)[number // 3 % 3]), "--chinese-rules", "-o", str(path)]
    moves = 20 + number * 3
    subprocess.run(command, input="switch\n" * moves + "quit\n", text=True, capture_output=True, timeout=120, check=False)
    return path.read_bytes()


def made_by_chess(number: int) -> bytes:
    """A game of chess with comments, NAGs and variations, in every third from a position."""
    rng = np.random.default_rng(number)
    board = chess.Board()
    if number % 3 == 0:
        for _ in range(int(rng.integers(1, 30))):
            board.push(rng.choice(list(board.legal_moves)))
        board = chess.Board(board.fen())
    game = pgn.Game()
    game.setup(board)
    node = game
    for _ in range(int(rng.integers(2, 120))):
        if board.is_game_over(claim_draw=True) or board.is_insufficient_material():
            break
        moves = list(board.legal_moves)
        move, other = rng.choice(moves), rng.choice(moves)
        following = node.add_variation(move)
        if other != move and rng.random() < 0.2:
            node.add_variation(other, comment="(not this) ; [%clk 1:00]")
        if rng.random() < 0.3:
            following.comment, following.nags = "[%eval 0.3]\n[%clk 0:00:03]", {int(rng.integers(1, 20))}
        node = following
        board.push(move)
    game.headers["White"], game.headers["Black"] = 'A \\ "B"', "C"
    game.headers["Result"] = board.result() if board.is_game_over() else ("1-0", "0-1", "1/2-1/2", "*")[number % 4]
    return f"{game}\n".encode()


FORMS = (
    ["-Wsan"],
    ["-Whalg"],
    ["-Wlalg"],
    ["-Welalg"],
    ["-Wxolalg"],
    ["--fencomments"],
    ["--nomovenumbers", "-w40"],
    ["--nochecks", "-C", "-V"],
    ["--commentlines", "-7"],
    ["--noresults", "-N"],
)


def made_by_pgn_extract(number: int, folder: Path) -> bytes:
    """A game that pgn-extract has read and written in one of its forms."""
    path = folder / "game.pgn"
    path.write_bytes(made_by_chess(number))
    command = [program("pgn-extract"), "-s", *FORMS[number % len(FORMS)], str(path)]
    return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout


def samples(folder: Path, every: int) -> dict[str, bytes]:
    """Name -> content of one in `every` of 200 records: 60 and 40 in SGF, 40 and 60 in PGN."""
    for name in ("gnugo", "pgn-extract"):
        program(name)  # skips before any of the work
    found = {f"sgfmill{number:03d}.sgf": made_by_sgfmill(number) for number in range(0, 60, every)}
    found |= {f"gnugo{number:03d}.sgf": made_by_gnugo(number, folder) for number in range(0, 40, every)}
    found |= {f"chess{number:03d}.pgn": made_by_chess(number) for number in range(0, 40, every)}
    return found | {f"extract{number:03d}.pgn": made_by_pgn_extract(number, folder) for number in range(40, 100, every)}


@pytest.fixture(scope="module", params=[7, pytest.param(1, marks=pytest.mark.slow)])
def records(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return samples(tmp_path_factory.mktemp("made"), request.param)


def test_records_of_other_programs_come_back_through_ours(records: dict[str, bytes], tmp_path: Path) -> None:
    assert len(records) in (30, 200)
    for name, content in records.items():
        path = tmp_path / name
        path.write_bytes(content)
        first = game_records.read(path)
        assert of_record(first) == seen(content, path.suffix), name
        assert not first.notes, name
        if name.startswith("sgfmill"):
            assert first.players[0] in content.decode(content.split(b"CA[")[1].split(b"]")[0].decode()).replace("\\", ""), name
        game_records.write(path, first.game, first.actions, first.players, first.points, first.ending)
        again = game_records.read(path)
        assert again.game.new_state() == first.game.new_state(), name
        assert (again.actions, again.points, again.ending) == (first.actions, first.points, first.ending), name
        assert again.players == first.players
        assert of_record(first) == seen(path.read_bytes(), path.suffix), name


def broken(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with a byte changed, some bytes put in, or its end cut off."""
    at, kind = int(rng.integers(len(content))), int(rng.integers(4))
    if kind == 0:
        return content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]
    if kind == 1:
        return content[:at]
    put = bytes(rng.choice(list(b'[]();\\{}"BWab19:\n\x80\xe3\x00 '), int(rng.integers(1, 4))).astype(np.uint8))
    return content[:at] + put + content[at + (kind == 3) :]


def test_broken_records_are_refused_or_read_as_the_libraries_do(records: dict[str, bytes], tmp_path: Path) -> None:
    rng, refused, changed = np.random.default_rng(0), 0, list[tuple[str, bytes]]()
    for name, content in records.items():
        kind = name[-4:]
        for at in range(10):
            path = tmp_path / f"{at}{kind}"
            path.write_bytes(found := broken(content, rng))
            record = next(game_records.read_all(path))
            if isinstance(record, BadRecord):
                refused += 1
                continue
            ours, theirs = of_record(record), [seen(found, kind), seen(in_its_charset(found), kind)]
            if AFTER_THE_END in record.notes:
                theirs = [moves and moves[: len(ours)] for moves in theirs]
            if ours not in theirs and GUESSED not in record.notes:
                changed.append((name, found))
    assert not changed
    assert 0 < refused < 10 * len(records)
