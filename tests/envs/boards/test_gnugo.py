"""Our Go against GNU Go 3.8 with positional superko and without suicide: legal moves in every position, and the winner.

The random games fill no own eyes, so that all stones are alive at the end and both programs count the same area.
"""

import random
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.core.game import BoardState

GNUGO = shutil.which("gnugo") or shutil.which("gnugo", path="/usr/games")
pytestmark = pytest.mark.skipif(GNUGO is None, reason="gnugo is not installed")
COLOURS, LETTERS = ("black", "white"), "ABCDEFGHJKLMNOPQRST"


class GnuGo:
    """A GNU Go process."""

    def __init__(self) -> None:
        assert GNUGO is not None
        options = ["--mode", "gtp", "--level", "1", "--chinese-rules", "--positional-superko", "--forbid-suicide"]
        self.process = subprocess.Popen([GNUGO, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, line: str) -> str:
        """The answer to a command."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer: list[str] = []
        while not (answer and not answer[-1]):
            answer.append(self.process.stdout.readline().strip())
        assert answer[0].startswith("="), (line, answer)
        return " ".join(answer)[1:].strip()


@pytest.fixture
def gnugo() -> Iterator[GnuGo]:
    engine = GnuGo()
    yield engine
    engine.process.kill()
    engine.process.wait()


def vertex(action: int, size: int) -> str:
    return "PASS" if action == size * size else f"{LETTERS[action % size]}{size - action // size}"


def is_own_eye(state: BoardState, action: int, size: int) -> bool:
    lines, own, other = str(state).splitlines(), "xo"[state.player], "xo"[1 - state.player]
    y, x = divmod(action, size)
    around = [
        (y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy or dx) and 0 <= y + dy < size and 0 <= x + dx < size
    ]
    corners = [(i, j) for i, j in around if i != y and j != x]
    held = sum(lines[i][j] == other for i, j in corners)
    return all(lines[i][j] == own for i, j in around if i == y or j == x) and (held == 0 if len(corners) < 4 else held < 2)


def play(gnugo: GnuGo, size: int, komi: float, games: int) -> None:
    game, rng = make_game("go", size=size, komi=komi), random.Random(size)
    gnugo(f"boardsize {size}")
    gnugo(f"komi {komi}")
    for _ in range(games):
        gnugo("clear_board")
        state = game.new_state()
        while not state.is_terminal():
            colour, legal = COLOURS[state.player], state.legal_actions()
            assert legal[-1] == size * size
            assert {vertex(action, size) for action in legal[:-1]} == set(gnugo(f"all_legal {colour}").split()), f"\n{state}"
            sensible = [action for action in legal[:-1] if not is_own_eye(state, action, size)]
            action = rng.choice(sensible) if sensible else size * size
            gnugo(f"play {colour} {vertex(action, size)}")
            state = state.apply(action)
        score = gnugo("final_score")
        assert score[0] == ("B" if state.returns()[0] > 0 else "W"), f"\n{state}\n{score}"


@pytest.mark.integration
@pytest.mark.parametrize(("size", "komi"), [(5, 0.5), (7, 8.5), (9, 7.5)])
def test_legal_moves_and_results(gnugo: GnuGo, size: int, komi: float) -> None:
    play(gnugo, size, komi, games=4)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "komi"), [(5, 0.5), (7, 8.5), (9, 7.5)])
def test_legal_moves_and_results_of_many_games(gnugo: GnuGo, size: int, komi: float) -> None:
    play(gnugo, size, komi, games=200)
