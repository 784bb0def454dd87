"""Aggregates over games and runs, with stratified bootstrap intervals (Agarwal et al. 2021, `rliable`).

Scores are a list with an f64[R_g] for each game: its runs' scores, normalised if games are mixed. If all games have the same number
of runs, the aggregates equal rliable's for the matrix [R,G]. rliable accepts nothing else, but an unfinished study has gaps.

Shapes: G games, R_g runs of game g, B resamples, N = sum of R_g.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlsuite.evaluation.statistics import iqm

Floats = NDArray[np.float64]
Scores = Sequence[Floats]  # G arrays [R_g]; for resamples, G arrays [B,R_g]
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval, which is None if no game has two runs."""

    value: float
    interval: tuple[float, float] | None = None


def mean(scores: Scores) -> Floats:
    """The mean over games of each game's mean."""
    return _of_means(scores, lambda means: means.mean(axis=-1))


def median(scores: Scores) -> Floats:
    """The median over games of each game's mean."""
    return _of_means(scores, lambda means: np.asarray(np.median(means, axis=-1)))


def iqm_of_game_means(scores: Scores) -> Floats:
    """The interquartile mean of the games' means: the middle half of the games."""
    return _of_means(scores, lambda means: np.asarray(iqm(means, axis=-1)))


def iqm_over_runs(scores: Scores) -> Floats:
    """The interquartile mean of all runs of all games: rliable's IQM, which differs from the IQM of game means by up to 0.12."""
    return np.asarray(iqm(np.concatenate(scores, axis=-1), axis=-1))


def optimality_gap(scores: Scores) -> Floats:
    """The mean shortfall of scores below 1; scores above 1 count as 1."""
    return _of_means([1.0 - np.minimum(game, 1.0) for game in scores], lambda means: means.mean(axis=-1))


AGGREGATES: dict[str, Callable[[Scores], Floats]] = {
    "mean": mean,
    "median": median,
    "iqm_over_runs": iqm_over_runs,
    "iqm_of_game_means": iqm_of_game_means,
    "optimality_gap": optimality_gap,
}


def aggregates(scores: Scores, seed: int = 0) -> dict[str, Estimate]:
    """Each of `AGGREGATES` with its interval. ValueError for a game without runs, or a score that is not finite."""
    if not scores or any(len(game) == 0 or not np.isfinite(game).all() for game in scores):
        raise ValueError("aggregates need at least one game, and of each at least one run with a finite score")
    drawn = resample(scores, seed) if any(len(game) > 1 for game in scores) else None
    found = {}
    for name, statistic in AGGREGATES.items():
        found[name] = Estimate(float(statistic(scores)), None if drawn is None else percentile_interval(statistic(drawn)))
    return found


def resample(scores: Scores, seed: int, resamples: int = RESAMPLES) -> list[Floats]:
    """Stratified bootstrap: draws each game's runs with replacement. G arrays [R_g] -> G arrays [B,R_g]."""
    rng = np.random.default_rng(seed)
    return [game[rng.integers(len(game), size=(resamples, len(game)))] for game in scores]


def percentile_interval(values: Floats) -> tuple[float, float]:
    """The middle 95% of [B] resampled values."""
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def probability_of_improvement(a: Scores, b: Scores, seed: int = 0) -> Estimate:
    """The probability that a run of `a` beats one of `b` on the same game, averaged over games; a tie counts half.

    `a` and `b` must have the same games in the same order.
    """
    value = float(_improvement(a, b))
    if all(len(game) < 2 for game in [*a, *b]):
        return Estimate(value)
    return Estimate(value, percentile_interval(_improvement(resample(a, seed), resample(b, seed + 1))))


def _improvement(a: Scores, b: Scores) -> Floats:
    games = []
    for ours, theirs in zip(a, b, strict=True):
        x, y = ours[..., :, None], theirs[..., None, :]
        games.append(((x > y) + 0.5 * (x == y)).mean(axis=(-2, -1)))
    return np.asarray(np.mean(games, axis=0))


def performance_profile(scores: Scores, thresholds: Floats) -> Floats:
    """The share of runs above each threshold, averaged over games: [K] -> [K]."""
    return np.asarray(np.mean([(game[None, :] > thresholds[:, None]).mean(axis=1) for game in scores], axis=0))


def percentile_range(runs: Floats) -> tuple[float, float]:
    """The 10th and the 90th percentile of the runs [R] of a game."""
    low, high = np.percentile(runs, [10, 90])
    return float(low), float(high)


def _of_means(scores: Scores, statistic: Callable[[Floats], Floats]) -> Floats:
    return np.asarray(statistic(np.stack([game.mean(axis=-1) for game in scores], axis=-1)))  # of [...,G]
