"""How often a board agent errs where perfect play is known. Shapes: B positions, A actions.

The positions: `envs/boards/connect_four_positions.csv`, six classes of 1,000, every move graded by a perfect solver
(`scripts/connect_four_positions.py` made it). A mistake is a move that turns a win into a draw or a loss, or a draw into a loss.
"""

import csv
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.search import Evaluate, Gumbel, Puct
from rlsuite.search.search import search_rows, without_search

SOLVED = ("connect_four",)  # games with graded positions
_BATCH = 250


class Graded(NamedTuple):
    """Positions of one class."""

    name: str  # such as beginning-hard
    rows: NDArray[np.int8]  # [B,R]
    right: NDArray[np.bool_]  # [B,A] moves that keep what perfect play gets


class Grade(NamedTuple):
    name: str
    positions: int
    mistakes: float  # share in [0, 1]
    interval: tuple[float, float]  # 95%, Wilson's


def graded_positions(game: Game, most: int | None = None) -> list[Graded]:
    """All classes, the first `most` positions of each. UsageError for a game that is not solved here."""
    if game.name not in SOLVED:
        raise UsageError(f"{game.name} has no solved positions here; {', '.join(SOLVED)} has")
    by_class: dict[str, list[tuple[NDArray[np.int8], list[bool]]]] = {}
    with (files("rlsuite") / "envs" / "boards" / f"{game.name}_positions.csv").open() as file:
        for line in csv.DictReader(file):
            found = by_class.setdefault(line["class"], [])
            if most is not None and len(found) >= most:
                continue
            state = game.new_state()
            for move in line["moves"]:
                state = state.apply(int(move) - 1)
            best = next(letter for letter in "wdl" if letter in line["outcomes"])
            found.append((state.row, [letter == best for letter in line["outcomes"]]))
    return [
        Graded(name, np.stack([row for row, _ in found]), np.array([right for _, right in found]))
        for name, found in by_class.items()
    ]


def grade(
    evaluate: Evaluate, game_name: str, simulations: int, method: Puct | Gumbel, solve: bool, most: int | None = None, seed: int = 0
) -> list[Grade]:
    """Shares of mistakes class by class; `simulations` = 0: the move that the net likes best, without a search."""
    game = make_game(game_name)
    grades = []
    for graded in graded_positions(game, most):
        wrong = 0
        for begin in range(0, len(graded.rows), _BATCH):
            rows, right = graded.rows[begin : begin + _BATCH], graded.right[begin : begin + _BATCH]
            action = _moves(game, rows, evaluate, simulations, method, solve, seed)
            wrong += int((~right[np.arange(len(rows)), action]).sum())
        grades.append(Grade(graded.name, len(graded.rows), wrong / len(graded.rows), wilson(wrong, len(graded.rows))))
    return grades


def _moves(
    game: Game, rows: NDArray[np.int8], evaluate: Evaluate, simulations: int, method: Puct | Gumbel, solve: bool, seed: int
) -> NDArray[np.int64]:
    if simulations:
        return search_rows(game, rows, evaluate, simulations, method, seed, solve=solve).action
    return without_search(game, rows, evaluate)


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927)."""
    share, scale = count / total, 1 + z**2 / total
    middle = (share + z**2 / (2 * total)) / scale
    half = z / scale * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
