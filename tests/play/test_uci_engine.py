"""Our UCI engine on OpenSpiel's chess, and UCI programs as opponents."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.matches import Batched, Programs, play_games
from rlsuite.boardgames.opponents import make_opponent
from rlsuite.boardgames.uci_opponent import moves_by_name
from rlsuite.core.errors import OpponentError, UsageError
from rlsuite.play.players import BoardPlayer

pytestmark = pytest.mark.integration

pytest.importorskip("pyspiel")
CHESS = "openspiel(game=chess,max_moves=40)"


class Talk:
    """A running engine, and what it has said, with the times."""

    def __init__(self, folder: Path, player: str = "mcts(simulations=50)"):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rlsuite", "uci", player],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=folder,
            env={**os.environ, "XDG_CACHE_HOME": str(folder)},
        )

    def say(self, *lines: str) -> float:
        """Sends lines; the time afterwards."""
        assert self.process.stdin is not None
        for line in lines:
            self.process.stdin.write(line + "\n")
        return time.monotonic()

    def until(self, word: str) -> list[str]:
        """The lines up to the one that begins with `word`."""
        assert self.process.stdout is not None
        lines = list[str]()
        while not lines or lines[-1].split()[:1] != [word]:
            line = self.process.stdout.readline()
            assert line, lines
            lines.append(line.strip())
        return lines

    def go(self, position: str, command: str) -> list[str]:
        """The answer to a search: its `info` lines, and last the best move."""
        self.say(f"position {position}", command)
        return self.until("bestmove")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine's folder, where it also keeps what it compiles."""
    return tmp_path_factory.mktemp("uci")


@pytest.fixture(scope="module")
def talk(folder: Path) -> Iterator[Talk]:
    it = Talk(folder)
    it.say("uci", "isready")
    lines = it.until("readyok")
    assert lines[0] == "id name rlsuite mcts(simulations=50)"
    assert "uciok" in lines
    yield it
    it.say("quit")
    assert it.process.wait(20) == 0
    assert it.process.stderr is not None
    errors = it.process.stderr.read()  # OpenSpiel adds a line about the FEN that it refuses
    assert errors.count("compiling the search for openspiel(game=chess,max_moves=512), which takes some seconds\n") == 1
    assert "Traceback" not in errors


def test_a_second_engine_compiles_nothing(talk: Talk, folder: Path) -> None:
    again = Talk(folder)
    again.say("uci", "isready")
    again.until("readyok")
    again.go("startpos", "go nodes 20")
    assert "compiling" not in again.process.communicate("quit\n")[1]


def test_movetimes_are_kept_once_it_is_ready(talk: Talk) -> None:
    for at, wanted in enumerate((100, 100, 300, 1000)):
        begin = talk.say("position startpos", f"go movetime {wanted}")
        best, took = talk.until("bestmove")[-1], time.monotonic() - begin
        assert re.match(r"bestmove [a-h][12][a-h][34]", best)
        assert 0.4 * wanted / 1000 < took < wanted / 1000 + 0.2, at  # 0.05 on a machine that does nothing else


@pytest.mark.parametrize(
    "position",
    [
        "startpos moves g1f3 g8f6 f3g1 f6g8 g1f3 g8f6 f3g1 f6g8",  # the third time
        "startpos moves g1f3 g8f6 f3g1 f6g8 g1f3 g8f6 f3g1 f6g8 g1f3 g8f6 f3g1 f6g8 b1c3",  # and on
        "fen 4k3/8/8/8/8/8/4P3/4K2R w K - 100 90",  # fifty moves
        "fen 4k3/8/8/8/8/8/4P3/4K2R w K - 99 90 moves h1h2 e8d8",
    ],
)
def test_a_draw_is_for_the_gui_to_claim(talk: Talk, position: str) -> None:
    chess = pytest.importorskip("chess")
    words = position.split()
    board = chess.Board(" ".join(words[1:7])) if words[0] == "fen" else chess.Board()
    for name in words[words.index("moves") + 1 :] if "moves" in words else []:
        board.push_uci(name)
    assert chess.Move.from_uci(talk.go(position, "go nodes 20")[-1].split()[1]) in board.legal_moves


def test_no_move_where_the_game_is_over(talk: Talk) -> None:
    assert talk.go("startpos moves f2f3 e7e5 g2g4 d8h4", "go nodes 5") == ["bestmove (none)"]
    assert talk.go("fen 7k/5Q2/6K1/8/8/8/8/8 b - - 0 1", "go movetime 50") == ["bestmove (none)"]  # stalemate


def test_positions_from_a_fen(talk: Talk) -> None:
    found = talk.go("fen rnbqkbnr/pppp1ppp/8/4p3/6P1/5P2/PPPPP2P/RNBQKBNR b KQkq - 0 2", "go nodes 300")
    assert found[-1] == "bestmove d8h4"
    assert " score mate 1 " in found[-2]
    assert found[-2].endswith(" pv d8h4")
    assert (
        talk.go("fen rnbqkbnr/pppp1ppp/8/4p3/6P1/5P2/PPPPP2P/RNBQKBNR b KQkq - moves d8h4", "go nodes 5")[-1] == "bestmove (none)"
    )
    for wrong in (
        "fen 8/8/8/8/8/8/8/8 w - - 0 1",
        "fen nonsense",
        "fen",
        "startpos moves e2e5",
        "nowhere",
        "fen 4k3/8/8/8/8/8/8/4K3 w KQ - 0 1",
    ):
        lines = talk.go(wrong, "go nodes 5")
        assert lines[-1] == "bestmove (none)"
        assert sum(line.startswith("info string position:") for line in lines) == 1
    assert talk.go("startpos", "go nodes 5")[-1] != "bestmove (none)"


def test_it_reports_every_second_until_stop(talk: Talk) -> None:
    for command in ("go infinite", "go ponder wtime 60000 btime 60000"):
        talk.say("position startpos moves e2e4", command)
        time.sleep(2.2)
        talk.say("isready", "stop")
        lines = talk.until("bestmove")
        reports = [line for line in lines if line.startswith("info depth")]
        assert len(reports) >= 3
        for line in reports:
            assert re.fullmatch(
                r"info depth \d+ score (cp|mate) -?\d+ nodes \d+ nps \d+ time \d+ pv( [a-h][1-8][a-h][1-8][qrbn]?)+", line
            )
        times = [int(line.split()[line.split().index("time") + 1]) for line in reports]
        assert max(b - a for a, b in pairwise([0, *times])) < 1300
        assert "readyok" in lines


def test_pondering_turns_into_a_search_with_a_clock(talk: Talk) -> None:
    talk.say("position startpos moves e2e4 e7e5", "go ponder movetime 300")
    time.sleep(1)
    begin = talk.say("ponderhit")
    assert talk.until("bestmove")[-1] != "bestmove (none)"
    assert 0.1 < time.monotonic() - begin < 0.6


def test_limits(talk: Talk) -> None:
    def nodes(lines: list[str]) -> int:
        return int(lines[-2].split()[lines[-2].split().index("nodes") + 1])

    assert talk.go("startpos", "go nodes 50 searchmoves a2a3")[-1].split()[1] == "a2a3"
    assert talk.go("startpos", "go searchmoves a2a3 h2h3 nodes 30")[-1].split()[1] in ("a2a3", "h2h3")
    assert any("searchmoves" in line for line in talk.go("startpos", "go searchmoves a2a5 nodes 3"))
    talk.say("ucinewgame")
    assert nodes(talk.go("startpos", "go nodes 20")) == 20
    talk.say("ucinewgame", "setoption name Simulations value 30")
    assert nodes(talk.go("startpos moves d2d4", "go")) == 30
    lines = talk.go("startpos moves d2d4", "go depth 2")
    assert int(lines[-2].split()[2]) >= 2
    lines = talk.go("startpos moves f2f3 e7e5 g2g4", "go mate 1")
    assert nodes(lines) <= 30
    for command in (
        "go wtime 1000 btime 1000 movestogo 0",
        "go wtime 20 btime 20",
        "go wtime -5 btime -5",
        "go movetime abc nodes 5",
    ):
        begin = time.monotonic()
        assert talk.go("startpos", command)[-1] != "bestmove (none)"
        assert time.monotonic() - begin < 1.5
    assert talk.go("startpos", "go wtime 3000 winc 500 btime 1 binc 0")[-1] != "bestmove (none)"


def test_options_and_junk(talk: Talk) -> None:
    talk.say(
        "setoption name Skill Level value 3",
        "setoption name Clear Hash",
        "nonsense",
        "",
        "setoption name Simulations value x",
        "isready",
    )
    assert talk.until("readyok") == [
        "No such option: Skill Level",
        "No such option: Clear Hash",
        "info string setoption: Simulations = 'x'; allowed are 1 to 20000",
        "readyok",
    ]
    talk.say("setoption name Ponder value true", "setoption name simulations value 50", "isready")
    assert talk.until("readyok") == ["readyok"]


def test_quit_ends_a_search_and_the_program(tmp_path: Path) -> None:
    it = Talk(tmp_path, "random")
    it.say("uci", "position startpos", "go infinite")
    time.sleep(0.2)
    it.say("quit")
    assert it.process.wait(20) == 0
    done = subprocess.run(
        [sys.executable, "-m", "rlsuite", "uci", "mcts(simulations=5)"],
        input="position startpos\ngo movetime 60000\nquit\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0
    assert "bestmove" in done.stdout


def test_python_chess_plays_a_game_with_it(tmp_path: Path) -> None:
    """The client knows the rules by itself and refuses an illegal move."""
    pytest.importorskip("chess")
    import chess.engine

    command = [sys.executable, "-m", "rlsuite", "uci", "mcts(simulations=20)"]
    engine = chess.engine.SimpleEngine.popen_uci(command, timeout=120, cwd=str(tmp_path))
    try:
        board = chess.Board("8/8/8/8/8/3k4/3q4/K7 w - - 0 1")
        while not board.is_game_over() and board.ply() < 30:
            played = engine.play(board, chess.engine.Limit(time=0.05), info=chess.engine.INFO_ALL)
            assert played.move in board.legal_moves
            board.push(played.move)
        found = engine.analyse(chess.Board(), chess.engine.Limit(nodes=20), root_moves=[chess.Move.from_uci("a2a3")])
        assert found["pv"][0] == chess.Move.from_uci("a2a3")
        assert found["nodes"] == 20
    finally:
        engine.quit()


ENGINE = """
import sys
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.uci_opponent import moves_by_name
game = make_game("openspiel(game=chess)")
for line in sys.stdin:
    words = line.split()
    if words[0] == "uci": print("id name test\\noption name X type spin\\nuciok", flush=True)
    if words[0] == "isready": print("readyok", flush=True)
    if words[0] == "setoption": assert line.strip() == "setoption name Skill Level value 0"
    if words[0] == "position":
        state = game.new_state()
        for name in words[3:]:
            state = state.apply(moves_by_name(game, state.row)[name])
    if words[0] == "go":
        assert line.strip() == "go depth 1"
        print("info depth 1\\nbestmove", sorted(moves_by_name(game, state.row))[WHICH], "ponder e2e4", flush=True)
"""


def test_a_program_plays_through_uci(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(ENGINE.replace("WHICH", "0"))
    game = make_game(CHESS)
    name = f'uci(command={sys.executable} {tmp_path / "engine.py"},go=depth 1,options="Skill Level=0")'
    first, second = Batched(BoardPlayer("random", game), 1), Programs(lambda: make_opponent(name, game), 2)
    played = list(play_games(game, first, second, 2, 2, seed=1, at_once=2))
    assert [p.ending for p in played] == ["", ""]
    assert all(len(p.actions) > 8 for p in played)
    second.close()


def test_wrong_answers_and_wrong_games(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="UCI is for chess"):
        make_opponent(f"uci(command={sys.executable})", make_game("go(size=5)"))
    (tmp_path / "engine.py").write_text(ENGINE.replace("WHICH", "0"))
    with pytest.raises(UsageError, match="must read Name=value"):
        make_opponent(f"uci(command={sys.executable} {tmp_path / 'engine.py'},options=Skill)", make_game(CHESS))
    (tmp_path / "engine.py").write_text(ENGINE.replace("sorted(moves_by_name(game, state.row))[WHICH]", "'a1a8'"))
    game = make_game(CHESS)
    opponent = make_opponent(f"uci(command={sys.executable} {tmp_path / 'engine.py'},go=depth 1)", game)
    row = game.new_state().row
    with pytest.raises(OpponentError, match="no legal move here"):
        opponent(row[None], [[]], np.random.default_rng(0))
    opponent.close()
    assert moves_by_name(game, row)["e2e4"] in game.new_state().legal_actions()
