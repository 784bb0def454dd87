"""How often a board agent errs where perfect play is known. Shapes: B positions, A actions, R bytes a row.

A game's `graded_positions` is a CSV file with a class, the moves that lead to a position (a digit each: action + 1) and the outcome
of every action under perfect play (a letter each: w, d, l, or - if illegal). Connect Four's has six classes of 1,000 positions from
a perfect solver (`scripts/connect_four_positions.py`). A mistake is a move that turns a win into a draw or a loss, or a draw into a
loss.
"""

import csv
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.ratings import wilson
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.search import Evaluate, Gumbel, Puct
from rlsuite.search.search import choose_actions

_BATCH = 250


class Graded(NamedTuple):
    """The positions of one class."""

    name: str  # such as beginning-hard
    rows: NDArray[np.int8]  # [B,R]
    right: NDArray[np.bool_]  # [B,A] moves that keep the outcome of perfect play


class Grade(NamedTuple):
    """How an agent plays the positions of one class."""

    name: str
    positions: int
    mistakes: float  # a share, in [0, 1]
    interval: tuple[float, float]  # 95%, Wilson's


def graded_positions(game: Game, most: int | None = None) -> list[Graded]:
    """The first `most` positions of every class. UsageError for a game without graded positions."""
    if game.graded_positions is None:
        raise UsageError(f"{game.name} has no graded positions (a game names a file of them as graded_positions)")
    by_class: dict[str, list[tuple[NDArray[np.int8], list[bool]]]] = {}
    with game.graded_positions.open() as file:
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
    evaluate: Evaluate,
    game_name: str,
    simulations: int,
    method: Puct | Gumbel,
    solve: bool,
    most: int | None = None,
    seed: int = 0,
    show: Callable[[int, int], None] = lambda done, of: None,
) -> list[Grade]:
    """The share of mistakes in every class. `simulations` = 0 plays the net's best move, without a search.

    `show` is called with the positions played so far, and how many there are.
    """
    game = make_game(game_name)
    grades: list[Grade] = []
    classes = graded_positions(game, most)
    played, total = 0, sum(len(graded.rows) for graded in classes)
    for graded in classes:
        wrong = 0
        for begin in range(0, len(graded.rows), _BATCH):
            show(played, total)
            rows, right = graded.rows[begin : begin + _BATCH], graded.right[begin : begin + _BATCH]
            action = choose_actions(game, rows, evaluate, simulations, method, seed, solve)
            wrong += int((~right[np.arange(len(rows)), action]).sum())
            played += len(rows)
        share, count = wrong / len(graded.rows), len(graded.rows)
        grades.append(Grade(graded.name, count, share, wilson(share, count)))
    return grades
