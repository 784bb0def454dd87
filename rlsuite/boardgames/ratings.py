"""From games to ratings: points with intervals, Elo of two or many, and the sequential test. Shapes: N players.

Two games from one opening, once from each side, are a pair; its games are not independent, its pairs are.
"""

from collections.abc import Sequence
from math import exp, inf, log, log10, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_UNSEEN = 1e-3  # taken for the count of a result that has not been seen: both hypotheses need all of them to be possible
_PAIR_SCORES = (0.0, 0.25, 0.5, 0.75, 1.0)  # points of a pair, as a share: 2 losses ... 2 wins


class Score(NamedTuple):
    """Of the first of two players."""

    wins: int
    draws: int
    losses: int

    @property
    def games(self) -> int:
        return sum(self)

    @property
    def points(self) -> float:
        """In [0, 1]: a draw is half a win."""
        return (self.wins + self.draws / 2) / self.games


def elo_of(points: float) -> float:
    """The difference of ratings at which a player expects this share of the points; infinite at 0 and 1."""
    if points in (0, 1):
        return inf if points else -inf
    return -400 * log10(1 / points - 1)


def points_of(difference: float) -> float:
    """The inverse of `elo_of`."""
    return 1 / (1 + 10 ** (-difference / 400))


def interval_of(pairs: Sequence[float], z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of the share of points, from the points of each pair in [0, 1].

    Wilson's interval of a share, with as many independent trials as the pairs' spread is worth: draws make it more than there are
    games, games of a pair that go alike make it fewer. One decided pair more keeps the spread from being nothing.
    """
    n, mean = len(pairs), sum(pairs) / len(pairs)
    middle = (sum(pairs) + 0.5) / (n + 1)  # one drawn pair beside them
    spread = (sum((pair - middle) ** 2 for pair in pairs) + 0.25) / (n + 1)  # of a pair; the added one counts as decided
    trials = n * middle * (1 - middle) / spread
    scale = 1 + z**2 / trials
    centre, half = (mean + z**2 / (2 * trials)) / scale, z / scale * sqrt(mean * (1 - mean) / trials + z**2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


class Sprt(NamedTuple):
    """Which of two differences of ratings is true: goes on until errors are as rare as asked for (Wald 1945).

    The likelihood ratio is that of the pairs' five results, each hypothesis at its likeliest (a generalised test, as engines of
    chess are tested): with decided games only and one game a pair it is W log(p1/p0) + L log((1-p1)/(1-p0)).
    """

    elo0: float  # no better than this ...
    elo1: float  # ... or at least this
    alpha: float = 0.05  # of taking elo1 where elo0 holds
    beta: float = 0.05

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the log likelihood ratio: below it elo0 is taken, above it elo1."""
        return log(self.beta / (1 - self.alpha)), log((1 - self.beta) / self.alpha)

    def ratio(self, pairs: Sequence[float]) -> float:
        """The log likelihood ratio of the pairs' points in [0, 1]; 0 without any."""
        counts = [sum(1 for pair in pairs if pair == score) for score in _PAIR_SCORES]
        if not pairs:
            return 0.0
        low, high = (_likelihood(counts, points_of(elo)) for elo in (self.elo0, self.elo1))
        return high - low

    def verdict(self, pairs: Sequence[float]) -> str | None:
        """`elo0`, `elo1`, or None: to be gone on with."""
        ratio, (low, high) = self.ratio(pairs), self.bounds
        return "elo0" if ratio <= low else "elo1" if ratio >= high else None


def _likelihood(counts: Sequence[float], mean: float) -> float:
    """The largest log likelihood of the pairs' results among distributions with this mean.

    Its shares are n_i / (n (1 + t (s_i - mean))), t such that the mean is right (Owen's empirical likelihood).
    """
    counts = [count or _UNSEEN for count in counts]
    total = sum(counts)
    seen = [(count / total, score - mean) for count, score in zip(counts, _PAIR_SCORES, strict=True)]
    low, high = -1 / max(d for _, d in seen), -1 / min(d for _, d in seen)
    for _ in range(100):
        t = (low + high) / 2
        if sum(p * d / (1 + t * d) for p, d in seen) > 0:
            low = t
        else:
            high = t
    return total * sum(p * log(p / (1 + t * d)) for p, d in seen)


def elo(results: Sequence[tuple[int, int, Score]], players: int) -> NDArray[np.float64]:
    """Ratings [N] of the Bradley-Terry model, player 0 at 0, from (player, opponent, score of the player).

    A draw is half a win and half a loss; one draw beside every match's results keeps ratings finite. Newton's method.
    """
    rating = np.zeros(players)  # natural units: ln(10) / 400 of an Elo point
    for _ in range(100):
        gradient, curvature = np.zeros(players), np.zeros((players, players))
        for a, b, score in results:
            total = score.games + 1
            won = score.wins + score.draws / 2 + 0.5
            expected = 1 / (1 + exp(rating[b] - rating[a]))
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
