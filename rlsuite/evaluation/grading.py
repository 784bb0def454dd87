"""Grades a board agent on positions with known best moves: how often it errs, and the cost. Shapes: B positions, A actions."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.graded_positions import TOTAL, Graded
from rlsuite.boardgames.ratings import wilson
from rlsuite.core.game import Game
from rlsuite.evaluation.statistics import bootstrap_interval
from rlsuite.search import Evaluate, Gumbel, Puct
from rlsuite.search.search import choose_actions

_BATCH = 250


class Grade(NamedTuple):
    """The results of an agent on the positions of one class."""

    name: str
    positions: int
    mistakes: float  # share of mistakes, in [0, 1]
    interval: tuple[float, float]  # 95%, Wilson's
    loss: float | None  # mean difference between the scores of the best move and the agent's; None if no scores are known
    loss_interval: tuple[float, float] | None  # 95%, percentile bootstrap; None if all moves lose the same, such as nothing
    unit: str  # unit of the loss
    random: float  # share of mistakes that random moves would make


def grade(
    evaluate: Evaluate,
    game: Game,
    classes: Sequence[Graded],
    simulations: int,
    method: Puct | Gumbel,
    solve: bool,
    seed: int = 0,
    total: bool = False,
    show: Callable[[int, int], None] = lambda done, of: None,
) -> list[Grade]:
    """Returns a grade for every class and, with `total` and several classes, one for all positions.

    `simulations` = 0 plays the net's best move, without a search. `show` is called with the number of positions so far, and their
    total.
    """
    wrong: list[NDArray[np.bool_]] = []  # [B] of each class
    loss: list[NDArray[np.float64]] = []
    random = [np.array([_random_mistakes(game, *at) for at in zip(one.rows, one.right, strict=True)]) for one in classes]
    played, of = 0, sum(len(graded.rows) for graded in classes)
    for graded in classes:
        actions = []
        for begin in range(0, len(graded.rows), _BATCH):
            show(played, of)
            rows = graded.rows[begin : begin + _BATCH]
            actions.append(choose_actions(game, rows, evaluate, simulations, method, seed, solve))
            played += len(rows)
        at = np.arange(len(graded.rows)), np.concatenate(actions)
        wrong.append(~graded.right[at])
        loss.append(graded.loss[at])
    grades = [_grade(one.name, one.unit, *found) for one, found in zip(classes, zip(wrong, loss, random, strict=True), strict=True)]
    if total and len(classes) > 1:
        grades.append(_grade(TOTAL, classes[0].unit, np.concatenate(wrong), np.concatenate(loss), np.concatenate(random)))
    return grades


def _random_mistakes(game: Game, row: NDArray[np.int8], right: NDArray[np.bool_]) -> float:
    """The share of mistakes among the legal moves in the position `row` [R]."""
    legal = np.empty(game.num_actions, np.int32)
    return float(1 - right[legal[: game.rules.legal(row, legal)]].mean())


def _grade(name: str, unit: str, wrong: NDArray[np.bool_], loss: NDArray[np.float64], random: NDArray[np.float64]) -> Grade:
    """The grade of moves. `wrong` [B]: whether each is a mistake; `loss` [B]: how much it loses, nan where that is unknown."""
    share, count, known = float(wrong.mean()), len(wrong), loss[~np.isnan(loss)]
    interval = bootstrap_interval(known, np.mean) if len(np.unique(known)) > 1 else None
    return Grade(
        name, count, share, wilson(share, count), float(known.mean()) if len(known) else None, interval, unit, float(random.mean())
    )
