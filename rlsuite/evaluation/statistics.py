"""Summaries of episode returns: robust statistics, and human-normalised Atari scores.

The interquartile mean and its bootstrap interval follow Agarwal et al. 2021 (Deep RL at the edge of the statistical
precipice, `rliable`). Random and human scores of 57 games are in `data/atari57.csv`, whose header names their source.

Intervals count only different games. An agent that plays nearly deterministically repeats the same few games, and a game that is
played twice gives no more information than once. With a single different game, the intervals are unknown.

Shapes: n episodes.
"""

import csv
import importlib.resources
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlsuite.runs.metrics import write_evaluation

TRACE_BYTES = 4  # bytes per step of a trace, see `count_different`
Statistic = Callable[..., Any]  # called as statistic(samples [...,n], axis=-1) -> [...]: iqm, np.mean, np.median

# Ids as people write them: "ALE/Pong-v5", "ale_py:ALE/Pong-v5", "Pong-ramNoFrameskip-v4", "PongDeterministic-v4", "pong".
# Ids in other namespaces are other environments, whose scores are not comparable.
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
    different: int | None = None,
) -> tuple[float, float]:
    """The percentile bootstrap interval (low, high) of a statistic of f64[n]; deterministic for a seed.

    `statistic(samples [r,m], axis=-1) -> [r]` takes many resamples at once; each is of m = `different` values, None: n.
    ValueError for no or non-finite values, a confidence outside (0, 1), or no resamples.
    """
    values = np.asarray(returns, dtype=np.float64).reshape(-1)  # [n]
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"an interval needs at least one return, all finite; got {values.size}")
    if not 0.0 < confidence < 1.0 or resamples < 1:
        raise ValueError(f"confidence must lie in (0, 1) and resamples be >= 1; got {confidence} and {resamples}")
    rng = np.random.default_rng(seed)
    drawn = different or values.size
    block = max(1, 2**22 // drawn)  # resamples at a time: 32 MiB, for any number of episodes
    statistics = np.concatenate(
        [
            statistic(values[rng.integers(values.size, size=(min(block, resamples - start), drawn))], axis=-1)
            for start in range(0, resamples, block)
        ]
    )  # [resamples]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(statistics, [tail, 1.0 - tail])
    return float(low), float(high)


def mean_interval(returns: ArrayLike, different: int) -> tuple[float, float] | None:
    """The 95% t-interval (low, high) of the mean of f64[n] from `different` different games; None if there is only one."""
    values = np.asarray(returns, dtype=np.float64)
    if different < 2:
        return None
    half = _t975(different - 1) * float(values.std(ddof=1)) / math.sqrt(different)
    return float(values.mean()) - half, float(values.mean()) + half


def _t975(freedom: int) -> float:
    """The 97.5% quantile of Student's t with so many degrees of freedom, to 0.2%."""
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return 0.95 / math.sqrt(2 * 0.975 * 0.025)
    z = 1.959963984540054  # of the normal distribution, and four terms of Cornish and Fisher's series
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))


def count_different(returns: Sequence[float], traces: Sequence[bytes]) -> int:
    """The number of different games among n episodes.

    `traces`: for each episode, `TRACE_BYTES` per step, a hash of observation, action and reward. Two episodes are the same game if
    they have the same return and agree over the second half of the longer one. Comparing from the first step would miss most
    repetitions: no-ops at the start of an Atari game only delay a nearly deterministic agent, which then plays the same game a few
    steps later.
    """
    games: dict[tuple[float, bytes], list[bytes]] = {}  # return and last step -> traces of different games
    for episodic_return, trace in zip(returns, traces, strict=True):
        alike = games.setdefault((episodic_return, trace[-TRACE_BYTES:]), [])
        if not any(_same(trace, other) for other in alike):
            alike.append(trace)
    return sum(map(len, games.values()))


def _same(a: bytes, b: bytes) -> bool:
    steps = max(len(a), len(b)) // TRACE_BYTES
    half = TRACE_BYTES * (steps - steps // 2)
    return a[-half:] == b[-half:]  # of unequal lengths, and so different, if one is shorter than that


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
    """The human tester's score in points per game; None if the game is not in the table."""
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
    mean_interval: tuple[float, float] | None  # 95%, t; None with a single different game
    median: float
    iqm: float
    iqm_interval: tuple[float, float] | None  # 95% percentile bootstrap; None with a single different game
    episodes: int
    different_games: int  # see `count_different`
    min: float
    max: float
    std: float  # of these episodes (divides by n)
    human_normalised: float | None  # the mean, normalised; None if the game is not in the table
    returns: list[float]
    lengths: list[int]
    by_game: dict[str, float] | None = None  # mean return of each game; None if there is only one

    def as_dict(self) -> dict[str, Any]:
        """The summary as a dict that can be written as JSON: plain numbers, strings, lists and None."""
        intervals = {"mean_interval": self.mean_interval, "iqm_interval": self.iqm_interval}
        return {**asdict(self), **{name: pair and list(pair) for name, pair in intervals.items()}}

    def scalars(self) -> dict[str, float]:
        """Tag -> number, for a run's log; `eval/interval` is half the width of `mean_interval`."""
        found = {
            "eval/episodic_return": self.mean,
            "eval/median": self.median,
            "eval/iqm": self.iqm,
            "eval/games": float(self.episodes),
            "eval/different_games": float(self.different_games),
        }
        if self.mean_interval is not None:
            found["eval/interval"] = self.mean_interval[1] - self.mean
        if self.human_normalised is not None:
            found["eval/human_normalised"] = self.human_normalised
        for game, mean in (self.by_game or {}).items():
            found[f"eval/episodic_return/{game}"] = mean
        return found

    @property
    def warning(self) -> str | None:
        """A warning if fewer than half of the games are different; None otherwise."""
        if 2 * self.different_games >= self.episodes:
            return None
        count = f"only {self.different_games} of {self.episodes} games {'is' if self.different_games == 1 else 'are'} different"
        known = "is unknown" if self.mean_interval is None else f"counts {self.different_games}"
        advice = "more games hardly help, more chance does (Atari: env.protocol=sticky; boards: env.opening_moves)"
        return f"{count}, so the interval {known}; {advice}"


def describe_mean(mean: float, half_width: float | None, games: int, different: int) -> str:
    """A mean with its interval, in the form that is printed for every evaluation: `20.10 ± 0.94 over 30 games, 12 different`."""
    interval = "unknown" if half_width is None else f"{half_width:,.2f}"
    return f"{mean:,.2f} ± {interval} over {games} game{'s' if games > 1 else ''}, {different} different"


def summarise(returns: Sequence[float], lengths: Sequence[int], env_id: str, traces: Sequence[bytes] | None = None) -> Summary:
    """The `Summary` of n episodes.

    `traces`: see `count_different`; without them, games with equal returns and lengths count as the same. ValueError for n = 0,
    returns that are not finite, or unequal counts.
    """
    if len(returns) != len(lengths):
        raise ValueError(f"one length per episode: got {len(returns)} returns and {len(lengths)} lengths")
    values = np.asarray(returns, dtype=np.float64)  # [n]
    middle = iqm(values)
    traces = [length.to_bytes(TRACE_BYTES, "little") for length in map(int, lengths)] if traces is None else traces
    different = count_different(values.tolist(), traces)
    mean = float(values.mean())
    return Summary(
        mean=mean,
        mean_interval=mean_interval(values, different),
        median=float(np.median(values)),
        iqm=middle,
        iqm_interval=None if different == 1 else bootstrap_interval(values, different=different),
        episodes=len(values),
        different_games=different,
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
