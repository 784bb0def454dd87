"""Our UCI engine on OpenSpiel's chess, and UCI programs as opponents."""

import subprocess
import sys
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


def test_it_speaks_uci(tmp_path: Path) -> None:
    """A mate in one is found, unknown commands are ignored, and wrong ones are reported."""
    lines = [
        "uci",
        "isready",
        "nonsense",
        "setoption name Simulations value 300",
        "position startpos moves e2e5",
        "position fen 8/8/8/8/8/8/8/8 w - - 0 1",
        "position startpos moves f2f3 e7e5 g2g4",
        "go nodes 300",
        "ucinewgame",
        "position startpos",
        "go movetime 200",
        "go wtime 1000 btime 1000 movestogo 0",
        "go movetime abc nodes 5",
        "position startpos moves e2e5",
        "go nodes 5",
        "position startpos",
        "go infinite",
        "stop",
        "quit",
    ]
    command = [sys.executable, "-m", "rlsuite", "uci", "mcts(simulations=50)"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, cwd=tmp_path, timeout=180)
    assert done.returncode == 0, done.stderr
    output = done.stdout.splitlines()
    assert output[0] == "id name rlsuite mcts(simulations=50)"
    assert "uciok" in output
    assert "readyok" in output
    assert "info string position: e2e5 is not a legal move there" in output
    assert "info string position: only games from the starting position are supported" in output
    best = [line for line in output if line.startswith("bestmove")]
    assert len(best) == 6
    assert best[4] == "bestmove 0000"  # of a position that was refused
    assert best[0] == "bestmove d8h4"
    assert any(line.startswith("info depth") and " pv d8h4" in line for line in output)


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
