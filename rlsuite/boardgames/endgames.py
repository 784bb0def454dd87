"""Endgames to grade agents on: late positions of games between searches, solved exactly. Shapes: A actions, R bytes a row, n games.

Games begin with up to 8 random moves, then plain Monte Carlo tree search plays both sides. A game gives at most one position, the
first in which moves differ in score and the number of empty cells is within a limit. The limit is drawn for each game, between half
of the solver's maximum and all of it. So the positions depend only on the game, their number and the seed: all agents are graded on
the same ones.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.graded_positions import Graded
from rlsuite.boardgames.openings import random_opening
from rlsuite.boardgames.opponents import Mcts
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Endgames, Game, Row

RESULTS = ("won", "drawn", "lost")  # for the player to move, under best play
_OPENING_MOVES, _SIMULATIONS = 8, 50
_AT_ONCE = 128  # games played at once
_BARREN = 256  # games in a row without a new position after which the draw is given up


def draw(game: Game, count: int, seed: int, show: Callable[[int, int], None] = lambda done, of: None) -> list[Graded]:
    """Draws `count` different positions, in classes by their result; a mistake is a move that changes the result.

    `show` is called with the number of positions so far, and `count`. UsageError for a game without a solver, or if the games have
    too few positions.
    """
    solver = game.endgames
    if solver is None:
        raise UsageError(f"{game.name} has no solver of endgames (a game names one as endgames)")
    rng, player = np.random.default_rng(seed), Mcts(game, _SIMULATIONS)
    found: dict[bytes, tuple[Row, NDArray[np.float64]]] = {}
    barren = 0
    while len(found) < count:
        show(len(found), count)
        for position in _play(game, solver, player, min(_AT_ONCE, count - len(found)), rng):
            new = position is not None and position[0].tobytes() not in found
            if position is not None and new:
                found[position[0].tobytes()] = position
            barren = 0 if new else barren + 1
        if barren >= _BARREN:
            raise UsageError(
                f"{game.name}: found {len(found)} of {count} endgames with at most {solver.most} empty cells, "
                f"and none in the last {barren} games"
            )
    return _classes(list(found.values()), solver)


def _play(
    game: Game, solver: Endgames, player: Mcts, games: int, rng: np.random.Generator
) -> list[tuple[Row, NDArray[np.float64]] | None]:
    """Plays n games; returns from each a position [R] with the scores of its moves [A], or None if there was no such position."""
    most = rng.integers(solver.most // 2, solver.most + 1, games)  # [n] empty cells
    rows = [random_opening(game, int(rng.integers(_OPENING_MOVES + 1)), rng)[1] for _ in range(games)]
    found: list[tuple[Row, NDArray[np.float64]] | None] = [None] * games
    running = list(range(games))
    while running:
        for i in running:
            if solver.empty(rows[i]) <= most[i]:
                scores = solver.scores(rows[i])
                if np.nanmin(scores) < np.nanmax(scores):
                    found[i] = rows[i], scores
        running = [i for i in running if found[i] is None]
        if not running:
            break
        actions = player(np.stack([rows[i] for i in running]), [[]] * len(running), rng)
        for i, action in zip(running, actions, strict=True):
            game.rules.play(rows[i], action)
        running = [i for i in running if not game.rules.outcome(rows[i])[0]]
    return found


def _classes(found: list[tuple[Row, NDArray[np.float64]]], solver: Endgames) -> list[Graded]:
    """The positions in classes by their result; empty classes are left out."""
    classes = []
    for name, sign in zip(RESULTS, (1, 0, -1), strict=True):
        chosen = [(row, scores) for row, scores in found if np.sign(np.nanmax(scores)) == sign]
        if not chosen:
            continue
        rows, scores = np.stack([row for row, _ in chosen]), np.stack([scores for _, scores in chosen])  # [B,R], [B,A]
        loss = np.nanmax(scores, 1, keepdims=True) - scores
        right = np.sign(scores) == sign  # nan is not
        classes.append(Graded(name, rows, right, loss if solver.unit else np.full_like(loss, np.nan), solver.unit or "points"))
    return classes
