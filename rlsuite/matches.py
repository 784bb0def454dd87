"""Matches between board agents, many games at once, and ratings. Shapes: G games, R bytes a row, N players."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.envs.boards.game import Game
from rlsuite.search import Evaluate, Gumbel, Puct
from rlsuite.search.search import search_rows

Mover = Callable[[NDArray[np.int8]], NDArray[np.int64]]  # positions [n,R] that run -> actions [n]


def searcher(game: Game, evaluate: Evaluate, method: Puct | Gumbel, simulations: int, solve: bool = True) -> Mover:
    return lambda rows: search_rows(game, rows, evaluate, simulations, method, solve=solve).action


class Score(NamedTuple):
    """Of the first of two players."""

    wins: int
    draws: int
    losses: int

    @property
    def points(self) -> float:
        """In [0, 1]: a draw is half a win."""
        return (self.wins + self.draws / 2) / (self.wins + self.draws + self.losses)


def play_match(game: Game, first: Mover, second: Mover, games: int, opening_moves: int, seed: int) -> Score:
    """`games` (made even) games from pairs of random openings of up to `opening_moves` moves, each played from both sides.

    Agents play the same from the same position, so without openings two of them would play two games for ever.
    """
    rng, rules, pairs = np.random.default_rng(seed), game.rules, (games + 1) // 2
    rows = np.repeat(np.stack([_opening(game, opening_moves, rng) for _ in range(pairs)]), 2, 0)  # [G,R]
    side = np.tile([0, 1], pairs)  # [G] the player that `first` is
    running = np.arange(len(rows))
    points = np.zeros(len(rows))  # [G] to `first`
    while running.size:
        turn = np.array([rules.player(rows[g]) for g in running]) == side[running]
        for mover, theirs in ((first, running[turn]), (second, running[~turn])):
            if theirs.size:
                for g, action in zip(theirs.tolist(), mover(rows[theirs]), strict=True):
                    rules.play(rows[g], int(action))
        ends = [rules.outcome(rows[g]) for g in running]
        for g, (over, value) in zip(running.tolist(), ends, strict=True):
            if over:
                points[g] = value if side[g] == 0 else -value
        running = running[[not over for over, _ in ends]]
    return Score(int((points > 0).sum()), int((points == 0).sum()), int((points < 0).sum()))


def _opening(game: Game, most: int, rng: np.random.Generator) -> NDArray[np.int8]:
    state = game.new_state()
    for _ in range(int(rng.integers(most + 1))):
        after = state.apply(int(rng.choice(state.legal_actions())))
        if after.is_terminal():
            break
        state = after
    return state.row


def elo(results: Sequence[tuple[int, int, Score]], players: int) -> NDArray[np.float64]:
    """Ratings [N] of the Bradley-Terry model, player 0 at 0, from (player, opponent, score of the player).

    A draw is half a win and half a loss; one draw beside every match's results keeps ratings finite. Newton's method.
    """
    rating = np.zeros(players)  # natural units: ln(10) / 400 of an Elo point
    for _ in range(100):
        gradient, curvature = np.zeros(players), np.zeros((players, players))
        for a, b, score in results:
            total = score.wins + score.draws + score.losses + 1
            won = score.wins + score.draws / 2 + 0.5
            expected = 1 / (1 + np.exp(rating[b] - rating[a]))
            gradient[a] += won - total * expected
            gradient[b] -= won - total * expected
            weight = total * expected * (1 - expected)
            curvature[[a, b], [a, b]] += weight
            curvature[[a, b], [b, a]] -= weight
        step = np.zeros(players)
        step[1:] = np.linalg.solve(curvature[1:, 1:], gradient[1:])
        rating += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(rating * 400 / np.log(10))


def elo_intervals(results: Sequence[tuple[int, int, Score]], players: int, seed: int, resamples: int = 200) -> NDArray[np.float64]:
    """95% bootstrap intervals [N,2] of `elo`, every match's games drawn again."""
    rng = np.random.default_rng(seed)
    ratings = []
    for _ in range(resamples):
        drawn = [(a, b, Score(*map(int, rng.multinomial(sum(s), np.array(s) / sum(s))))) for a, b, s in results]
        ratings.append(elo(drawn, players))
    return np.percentile(ratings, [2.5, 97.5], axis=0).T
