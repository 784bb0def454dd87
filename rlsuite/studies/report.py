"""Reports on studies or runs: scores per game, aggregates over games, and probabilities that one agent is better than another.

    document = report([Path("studies/der")], baseline="atari100k")
    print(document["agents"]["der"]["aggregates"]["iqm_over_runs"])

`rlsuite report --json` prints the document; `rlsuite.studies.pages` turns it into Markdown and pictures.

A run's score is the mean of its final evaluation, never its best one. Scores are human-normalised if the table of human scores has
all games. The name of each aggregate says what it averages, since the two kinds of IQM differ.

Shapes: G games, R_g runs of a game.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from rlsuite.core.errors import UsageError, nearest
from rlsuite.evaluation.statistics import mean_interval
from rlsuite.studies import aggregates, baselines, results
from rlsuite.studies.aggregates import Floats
from rlsuite.studies.baselines import Baseline
from rlsuite.studies.results import RunResult
from rlsuite.studies.study import is_study, run_folders

THRESHOLDS = np.linspace(0.0, 2.0, 41)  # of performance profiles, in human-normalised scores
_CURVE_POINTS = 100
# The aggregates that one published number per game allows: the mean over runs is known, but not their spread.
_OF_MEANS = ("mean", "median", "iqm_of_game_means")


def report(
    folders: str | Path | Sequence[str | Path] = (), baseline: str | None = None, mixed_protocols: bool = False
) -> dict[str, Any]:
    """The report on runs and studies beside a baseline's columns, ready for JSON; without runs, on the columns alone.

    UsageError for a folder that is neither a run nor a study or has no finished run, for a game without a row in the baseline, and
    for runs with different protocols unless `mixed_protocols`.
    """
    given = [Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)]
    if not given and baseline is None:
        raise UsageError("nothing to report on: name a study, runs, or a --baseline")
    runs, unfinished = _read(given)
    table = _table(baseline, runs)
    if not mixed_protocols:
        results.refuse_mixed_protocols(runs)
    agents = {label: _agent(members, table) for label, members in results.by_agent(runs).items()}
    games = sorted({run.game for run in runs}) or list(table.human if table is not None else ())
    protocol = {key: sorted({str(run.protocol[key]) for run in runs if key in run.protocol}) for key in results.PROTOCOL}
    return {
        "baseline": baseline,
        "human_table": None if table is None else table.name,
        "normalised": table is not None,
        "games": games,
        "protocol": {key: values for key, values in protocol.items() if values},
        "baseline_protocol": {} if table is None else dict(table.protocol),
        "differs_from_baseline": [] if table is None else _differences(protocol, table),
        "confidence": aggregates.CONFIDENCE,
        "resamples": aggregates.RESAMPLES,
        "unfinished": [str(path) for path in unfinished],
        "agents": agents,
        "columns": {} if table is None or baseline is None else _columns(table, games),
        "columns_left_out": list(table.left_out) if table is not None and baseline is not None else [],
        "improvement": _improvement(results.by_agent(runs), table),
    }


def _read(folders: Sequence[Path]) -> tuple[list[RunResult], list[Path]]:
    """Finished runs, each once, and the folders of unfinished ones. UsageError if a run that is named itself is unfinished."""
    found: dict[Path, RunResult] = {}
    unfinished = []
    for folder in folders:
        of_study = is_study(folder)
        paths = run_folders(folder) if of_study else [folder]
        for path in paths:
            result = results.read(path) if (path / "config.yaml").is_file() or not of_study else None
            if result is not None:
                found[path.resolve()] = result
            elif of_study:
                unfinished.append(path)
            else:
                raise UsageError(f"{path} has no final evaluation yet: wait until it is finished, or continue it with --resume")
    if folders and not found:
        raise UsageError(f"{folders[0]} holds no finished run yet: nothing to report on")
    return list(found.values()), unfinished


def _table(baseline: str | None, runs: Sequence[RunResult]) -> Baseline | None:
    """The table to normalise by; None if no baseline is given and no shipped table has all games."""
    games = sorted({run.game for run in runs})
    if baseline is None:
        table = baselines.load("atari57")
        return table if all(game in table.human for game in games) else None
    table = baselines.load(baseline)
    missing = [game for game in games if game not in table.human]
    if missing:
        close = nearest(missing[0], table.human, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"baseline {baseline} has no row for {', '.join(missing)}{hint}")
    return table


def _agent(runs: Sequence[RunResult], table: Baseline | None) -> dict[str, Any]:
    scores = _scores(runs)
    normalised = _normalised(scores, table)
    return {
        "runs": len(runs),
        "seeds": sorted({run.seed for run in runs}),
        "games": {game: _game(game, [run for run in runs if run.game == game], table) for game in scores},
        "aggregates": None if normalised is None else _estimates(aggregates.aggregates(list(normalised.values()))),
        "games_at_or_above_human": None if normalised is None else _at_human(normalised),
        "profile": None
        if normalised is None
        else {
            "thresholds": THRESHOLDS.round(6).tolist(),
            "share_of_runs_above": aggregates.performance_profile(list(normalised.values()), THRESHOLDS).tolist(),
        },
        "curve": _curve(runs, table),
    }


def _game(game: str, runs: Sequence[RunResult], table: Baseline | None) -> dict[str, Any]:
    """The scores of an agent in a game. The interval of the mean is over runs, or over episodes if there is only one run."""
    values = np.array([run.score for run in runs])
    mean = float(values.mean())
    return {
        "env_id": runs[0].env_id,
        "scores": values.tolist(),
        "seeds": [run.seed for run in runs],
        "episodes": [run.episodes for run in runs],
        "mean": mean,
        "interval": mean_interval(values, len(runs)) if len(runs) > 1 else runs[0].interval,
        "interval_over": "runs" if len(runs) > 1 else "episodes",
        "percentile_range": aggregates.percentile_range(values),
        "human_normalised": None if table is None else table.normalise(game, mean),
    }


def _columns(table: Baseline, games: Sequence[str]) -> dict[str, Any]:
    """The baseline's published scores of these games, aggregated over those that it has."""
    found = {}
    for name, column in table.columns.items():
        normalised = {game: np.array([table.normalise(game, column[game])]) for game in games if game in column}
        if normalised:
            estimates = aggregates.aggregates(list(normalised.values()))
            found[name] = {
                "games": len(normalised),
                "missing_games": [game for game in games if game not in column],
                "aggregates": {key: estimates[key].value for key in _OF_MEANS}
                | {"optimality_gap_of_game_means": estimates["optimality_gap"].value},
                "games_at_or_above_human": _at_human(normalised),
                "scores": {game: column[game] for game in games if game in column},
            }
    return found


def _improvement(agents: Mapping[str, Sequence[RunResult]], table: Baseline | None) -> list[dict[str, Any]]:
    """The probability, for each ordered pair of agents, that a run of the first beats one of the second, over common games."""
    found = []
    scores = {label: _scores(runs) for label, runs in agents.items()}
    for a, b in permutations(scores, 2):
        games = [game for game in scores[a] if game in scores[b]]
        if games:
            estimate = aggregates.probability_of_improvement([scores[a][g] for g in games], [scores[b][g] for g in games])
            found.append({"better": a, "than": b, "games": len(games), **_plain(estimate)})
    return found


def _curve(runs: Sequence[RunResult], table: Baseline | None) -> dict[str, Any] | None:
    """The learning curve: the IQM over runs of periodic evaluations, with its interval; None unless every run has some.

    Scores are human-normalised, or raw if the agent plays a single game without a human score.
    """
    if (table is None and len({run.game for run in runs}) > 1) or not all(run.evaluations for run in runs):
        return None
    steps = sorted({step for run in runs for step, _ in run.evaluations})
    first, last = max(run.evaluations[0][0] for run in runs), min(run.evaluations[-1][0] for run in runs)
    grid = np.array([step for step in steps if first <= step <= last])
    if not len(grid):
        return None
    grid = grid[np.unique(np.linspace(0, len(grid) - 1, min(len(grid), _CURVE_POINTS)).round().astype(int))]
    by_game: dict[str, list[Floats]] = {}
    for run in runs:
        at, values = (np.array(one) for one in zip(*run.evaluations, strict=True))
        latest = values[np.searchsorted(at, grid, side="right") - 1]  # the last evaluation so far
        by_game.setdefault(run.game, []).append(latest if table is None else _normalise(table, run.game, latest))
    columns = [np.stack(lines, axis=-1) for lines in by_game.values()]  # G times [points,R_g]
    estimates = [_iqm([column[point] for column in columns]) for point in range(len(grid))]
    return {
        "agent_steps": grid.tolist(),
        "iqm_over_runs": [estimate.value for estimate in estimates],
        "interval": [estimate.interval for estimate in estimates],
    }


def _iqm(scores: Sequence[Floats]) -> aggregates.Estimate:
    value = float(aggregates.iqm_over_runs(scores))
    if all(len(game) < 2 for game in scores):
        return aggregates.Estimate(value)
    drawn = aggregates.resample(scores, seed=0, resamples=500)
    return aggregates.Estimate(value, aggregates.percentile_interval(aggregates.iqm_over_runs(drawn)))


def _scores(runs: Sequence[RunResult]) -> dict[str, Floats]:
    """Game -> f64[R_g] raw scores, with games in order."""
    return {game: np.array([run.score for run in runs if run.game == game]) for game in sorted({run.game for run in runs})}


def _normalised(scores: Mapping[str, Floats], table: Baseline | None) -> dict[str, Floats] | None:
    return None if table is None else {game: _normalise(table, game, values) for game, values in scores.items()}


def _normalise(table: Baseline, game: str, values: Floats) -> Floats:
    return np.array([table.normalise(game, value) for value in values])


def _at_human(normalised: Mapping[str, Floats]) -> int:
    return sum(bool(values.mean() >= 1.0) for values in normalised.values())


def _differences(protocol: Mapping[str, Sequence[str]], table: Baseline) -> list[str]:
    """Settings of the runs that differ from the baseline's protocol, in words."""
    return [
        f"{key} = {' and '.join(protocol[key])}, the baseline's is {value}"
        for key, value in table.protocol.items()
        if protocol.get(key) and list(protocol[key]) != [str(value)]
    ]


def _estimates(found: Mapping[str, aggregates.Estimate]) -> dict[str, Any]:
    return {name: _plain(estimate) for name, estimate in found.items()}


def _plain(estimate: aggregates.Estimate) -> dict[str, Any]:
    return asdict(estimate)
