"""Summaries of episode returns: robust statistics, and human-normalised Atari scores.

The interquartile mean and its bootstrap interval follow Agarwal et al. 2021 (Deep RL at the edge of the statistical
precipice, `rliable`). Random and human scores of 57 games are in `data/atari57.csv`, whose header names their source.

Shapes: n episodes.
"""

import csv
import importlib.resources
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlsuite.runs.metrics import write_evaluation

Statistic = Callable[..., Any]  # called as statistic(samples [...,n], axis=-1) -> [...]: iqm, np.mean, np.median

# Ids as people write them: "ALE/Pong-v5", "ale_py:ALE/Pong-v5", "Pong-ramNoFrameskip-v4", "PongDeterministic-v4", "pong".
# Another namespace is another environment, whose scores mean something else.
_ID = re.compile(r"(?:\w+:)?(?:(?:ale|atari)/)?(?P<game>\w+?)(?:-ram)?(?:NoFrameskip|Deterministic)?(?:-v\d+)?", re.I)


@overload
def iqm(returns: ArrayLike) -> float: ...
@overload
def iqm(returns: ArrayLike, axis: int) -> NDArray[np.float64]: ...
def iqm(returns: ArrayLike, axis: int | None = None) -> float | NDArray[np.float64]:
    """The interquartile mean: the mean of what is left after cutting int(n/4) values at either end.

    Takes f64[n] and returns a float; with `axis`, reduces that axis of an array. Equals scipy.stats.trim_mean(0.25).
    ValueError for no values, or for one that is not finite (it could be trimmed away unnoticed).
    """
    values = np.asarray(returns, dtype=np.float64)
    if axis is None:
        values = values.reshape(-1)
    along = -1 if axis is None else axis
    n = values.shape[along]
    if n == 0 or not np.isfinite(values).all():
        raise ValueError(f"a statistic of returns needs at least one value, all finite; got {n} values")
    cut = n // 4
    kept = np.take(np.sort(values, axis=along), range(cut, n - cut), axis=along)
    mean: NDArray[np.float64] = kept.mean(axis=along)
    return float(mean) if axis is None else mean


def bootstrap_interval(
    returns: ArrayLike,
    statistic: Statistic = iqm,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval (low, high) of a statistic of f64[n]; deterministic for a seed.

    `statistic(samples [r,n], axis=-1) -> [r]` takes many resamples at once. ValueError for no or non-finite values, a
    confidence outside (0, 1), or no resamples.
    """
    values = np.asarray(returns, dtype=np.float64).reshape(-1)  # [n]
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"an interval needs at least one return, all finite; got {values.size}")
    if not 0.0 < confidence < 1.0 or resamples < 1:
        raise ValueError(f"confidence must lie in (0, 1) and resamples be >= 1; got {confidence} and {resamples}")
    rng = np.random.default_rng(seed)
    block = max(1, 2**22 // values.size)  # resamples at a time: 32 MiB, for any number of episodes
    statistics = np.concatenate(
        [
            statistic(values[rng.integers(values.size, size=(min(block, resamples - start), values.size))], axis=-1)
            for start in range(0, resamples, block)
        ]
    )  # [resamples]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(statistics, [tail, 1.0 - tail])
    return float(low), float(high)


@cache
def _table() -> dict[str, tuple[str, float, float]]:
    """Game name without underscores -> (snake_case name, random score, human score)."""
    text = (importlib.resources.files("rlsuite") / "data" / "atari57.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["game"].replace("_", ""): (row["game"], float(row["random"]), float(row["human"])) for row in rows}


def _entry(env_id: str) -> tuple[str, float, float] | None:
    match = _ID.fullmatch(env_id.strip())
    # Spellings that a camel-to-snake rule would get wrong (Riverraid, UpNDown) agree without underscores and case.
    return _table().get(match["game"].replace("_", "").lower()) if match else None


def game_of(env_id: str) -> str | None:
    """The snake_case Atari game of an environment id ("ALE/MsPacman-v5" -> "ms_pacman"); None if it is not in the table."""
    entry = _entry(env_id)
    return entry[0] if entry else None


def human_score(env_id: str) -> float | None:
    """The human tester's score in points a game; None if the game is not in the table."""
    entry = _entry(env_id)
    return entry[2] if entry else None


def human_normalised(env_id: str, score: float) -> float | None:
    """(score - random) / (human - random): 0 is random play, 1 the human tester; None if the game is not in the table."""
    entry = _entry(env_id)
    if entry is None:
        return None
    _, random, human = entry
    return (score - random) / (human - random)


@dataclass(frozen=True)
class Summary:
    """Returns (unclipped, one per episode) and lengths (agent steps) of finished episodes, with their statistics."""

    mean: float
    median: float
    iqm: float
    iqm_interval: tuple[float, float]  # 95 % percentile bootstrap over the episodes
    episodes: int
    min: float
    max: float
    std: float  # of these episodes (divides by n)
    human_normalised: float | None  # of the mean; None if the game is not in the table
    returns: list[float]
    lengths: list[int]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: plain numbers, strings, lists and None."""
        return {**asdict(self), "iqm_interval": list(self.iqm_interval)}


def summarise(returns: Sequence[float], lengths: Sequence[int], env_id: str) -> Summary:
    """The `Summary` of n episodes. ValueError for n = 0, returns that are not finite, or unequal counts."""
    if len(returns) != len(lengths):
        raise ValueError(f"one length per episode: got {len(returns)} returns and {len(lengths)} lengths")
    interval = bootstrap_interval(returns)
    values = np.asarray(returns, dtype=np.float64)  # [n]
    mean = float(values.mean())
    return Summary(
        mean=mean,
        median=float(np.median(values)),
        iqm=iqm(values),
        iqm_interval=interval,
        episodes=len(values),
        min=float(values.min()),
        max=float(values.max()),
        std=float(values.std()),
        human_normalised=human_normalised(env_id, mean),
        returns=values.tolist(),
        lengths=[int(length) for length in lengths],
    )


def write_summary(checkpoint: Path, summary: Summary, seed: int) -> None:
    """Writes `<checkpoint>.evaluation.json`: the summary, and the seed of its episodes."""
    write_evaluation(checkpoint, summary_document(summary, seed))


def summary_document(summary: Summary, seed: int) -> dict[str, Any]:
    """The content of an agent's `evaluation.json`."""
    return {"seed": seed, **summary.as_dict()}
