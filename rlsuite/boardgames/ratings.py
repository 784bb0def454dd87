"""Match statistics: points with intervals, Elo of two or more players, and the sequential test. Shapes: N players.

Two games from one opening, one from each side, are a pair. The two games of a pair are not independent; pairs are.
"""

from collections.abc import Sequence
from math import exp, inf, log, log10, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_UNSEEN = 1e-3  # count for a result that was never observed, since every result must be possible under both hypotheses
_PAIR_SCORES = (0.0, 0.25, 0.5, 0.75, 1.0)  # share of a pair's points, from 2 losses to 2 wins


class Score(NamedTuple):
    """Results of a match, for the first of two players."""

    wins: int
    draws: int
    losses: int

    @property
    def games(self) -> int:
        """The number of games."""
        return sum(self)

    @property
    def points(self) -> float:
        """The share of the points, in [0, 1]; a draw is half a win."""
        return (self.wins + self.draws / 2) / self.games


def elo_of(points: float) -> float:
    """The rating difference at which a player expects this share of the points; infinite for 0 and 1."""
    if points in (0, 1):
        return inf if points else -inf
    return -400 * log10(1 / points - 1)


def points_of(difference: float) -> float:
    """The share of the points that a player expects at this rating difference: the inverse of `elo_of`."""
    return 1 / (1 + 10 ** (-difference / 400))


def wilson(share: float, trials: float, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of a share of successes in independent trials (Wilson 1927)."""
    scale = 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / scale
    half = z / scale * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def interval_of(pairs: Sequence[float], z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of the share of the points, from each pair's points in [0, 1].

    It is Wilson's interval, with the number of independent trials that gives the pairs' variance: more than the number of games if
    many are drawn, fewer if the games of a pair tend to end alike. One extra decided pair keeps the variance above zero.
    """
    n, mean = len(pairs), sum(pairs) / len(pairs)
    middle = (sum(pairs) + 0.5) / (n + 1)  # with one pair more, which is drawn
    variance = (sum((pair - middle) ** 2 for pair in pairs) + 0.25) / (n + 1)  # of a pair; here the added one counts as decided
    return wilson(mean, n * middle * (1 - middle) / variance, z)


class Sprt(NamedTuple):
    """Sequential probability ratio test between two rating differences: stops at the requested error probabilities (Wald 1945).

    The likelihood ratio is that of the pairs' five possible results, maximised under each hypothesis (the generalised test that is
    common for chess engines). For single games, all decided, it would be W log(p1/p0) + L log((1-p1)/(1-p0)).
    """

    elo0: float  # the difference is at most this ...
    elo1: float  # ... or at least this
    alpha: float = 0.05  # probability of accepting elo1 if elo0 is true
    beta: float = 0.05  # probability of accepting elo0 if elo1 is true

    @property
    def bounds(self) -> tuple[float, float]:
        """The log likelihood ratios at which elo0 and elo1 are accepted."""
        return log(self.beta / (1 - self.alpha)), log((1 - self.beta) / self.alpha)

    def ratio(self, pairs: Sequence[float]) -> float:
        """The log likelihood ratio of the pairs' points in [0, 1]; 0 for no pairs."""
        counts = [sum(1 for pair in pairs if pair == score) for score in _PAIR_SCORES]
        if not pairs:
            return 0.0
        low, high = (_likelihood(counts, points_of(elo)) for elo in (self.elo0, self.elo1))
        return high - low

    def verdict(self, pairs: Sequence[float]) -> str | None:
        """The accepted hypothesis, `elo0` or `elo1`; None if more games are needed."""
        ratio, (low, high) = self.ratio(pairs), self.bounds
        return "elo0" if ratio <= low else "elo1" if ratio >= high else None


def _likelihood(counts: Sequence[float], mean: float) -> float:
    """The largest log likelihood of the pairs' results under a distribution with this mean.

    Its probabilities are n_i / (n (1 + t (s_i - mean))), with t such that the mean is right (Owen's empirical likelihood).
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
    """Bradley-Terry ratings [N] from (player, opponent, score of the player), relative to player 0, by Newton's method.

    A draw is half a win and half a loss. One extra draw per match keeps ratings finite.
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
    """95% bootstrap intervals [N,2] of `elo`, from resampling the games of every match.

    The resampled results include the extra draw of `elo`; without it, a player who won all of a few games would have no interval.
    """
    rng = np.random.default_rng(seed)
    all_chances = [np.array([s.wins + 0.5, s.draws, s.losses + 0.5]) / (s.games + 1) for _, _, s in results]
    ratings = []
    for _ in range(resamples):
        drawn = [
            (a, b, Score(*map(int, rng.multinomial(sum(s), chances))))
            for (a, b, s), chances in zip(results, all_chances, strict=True)
        ]
        ratings.append(elo(drawn, players))
    return np.percentile(ratings, [2.5, 97.5], axis=0).T
