"""Compares runs: a plot of their learning curves, and a table with one row for each group of seeds.

    rows = compare([Path("runs/dqn-1"), Path("runs/dqn-2"), Path("runs/rainbow-1")], Path("curves.png"))
    print(format_table(rows))

Shapes: n logged values of a run, G points of a grid, R runs of a group.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.files import reading, replacing
from rlsuite.evaluation.statistics import describe_mean, game_of, human_score
from rlsuite.runs.config_changes import changes
from rlsuite.runs.metrics import Clock, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

EVALUATION = "eval/episodic_return"
_GRID = 1000  # points of a line, more than the plot has pixels
# Okabe and Ito's colours, which colour-blind readers can distinguish, without the pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
_DASHES = ("-", "--", "-.", ":")  # one style for each round of colours
_MOST_CHANGES = 3  # maximum number of differences in a label
_GREY = "#555555"
_NOT_COMPARED = ("seed", "run", "eval")  # how long a run trains and how it is evaluated do not make it another one


@dataclass(frozen=True)
class Row:
    """A group of runs that differ only in their seed. Averages are over runs, each run counting once."""

    label: str
    seeds: tuple[int | None, ...]  # of each run; None where a run has no config.yaml
    agent_steps: int  # mean
    minutes: float  # mean wall-clock time
    last_mean: float  # mean over runs of each run's mean of its last `window` logged values
    last_std: float | None  # sample standard deviation of these over runs; None for a single run
    best_evaluation: float | None  # best evaluation of any run; None without evaluations
    steps_per_second: float | None  # agent steps a second over all runs; None if no time was measured
    best_interval: float | None = None  # half the width of the best evaluation's 95% interval; None if unknown
    best_games: tuple[int, int] | None = None  # its games, and how many are different; None if they were not logged


@dataclass(frozen=True)
class _Curve:
    """The logged values of one tag of a run."""

    steps: Floats  # [n] agent steps
    minutes: Floats  # [n] wall-clock
    values: Floats  # [n]


@dataclass(frozen=True)
class _Run:
    """The parts of a run that are compared."""

    path: Path
    config: dict[str, Any]  # the settings that all runs of a group share; a run with {} is a group by itself
    label: str
    env_id: str | None
    seed: int | None
    agent_steps: int
    minutes: float
    curve: _Curve  # as logged
    evaluations: _Curve
    best: dict[str, Any]  # the row of the best evaluation; {} without evaluations


def compare(runs: Sequence[Path], out: Path, metric: str = "charts/episodic_return", window: int = 100) -> list[Row]:
    """Plots the runs into the PNG file `out` (making its folders) and returns a row for each group, in the order given.

    Runs whose config.yaml differs in nothing but seed, `run.*` and `eval.*` form a group; a seed that a group already has
    starts another one. A run without a config.yaml stands alone, under its folder's name. Lines show the mean of the
    last `window` logged values of `metric` (of episodes, for the default metric).

    UsageError for a folder that is not a run, a metric that a run has not logged, or an `out` that is not a .png;
    RlsuiteError if the plot cannot be written.
    """
    if not runs:
        raise UsageError("nothing to compare: give at least one run folder")
    if out.suffix.lower() != ".png":
        raise UsageError(f"the plot is a PNG: name it {out.with_suffix('.png').name!r}, not {out.name!r}")
    if window < 1:
        raise UsageError(f"window must be at least 1 episode, got {window}")
    distinct = {path.resolve(): path for path in runs}  # a folder that is given twice is one run, not two seeds
    groups = _groups([_read(path, metric) for path in distinct.values()])
    figure = _draw(groups, metric, window)
    with replacing(out) as beside:
        figure.savefig(beside, format="png", dpi=150)
    return [_row(label, members, window) for label, members in groups.items()]


def format_table(rows: Sequence[Row]) -> str:
    """The rows as an aligned plain-text table."""
    head = ["label", "seeds", "agent steps", "minutes", "last mean ± std", "best eval", "steps/s"]
    cells = [
        [
            row.label,
            str(len(row.seeds)),
            f"{row.agent_steps:,}",
            f"{row.minutes:,.1f}",
            f"{row.last_mean:,.2f}" + ("" if row.last_std is None else f" ± {row.last_std:,.2f}"),
            _best(row),
            "-" if row.steps_per_second is None else f"{row.steps_per_second:,.0f}",
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *cells]) for column in range(len(head))]

    def line(texts: list[str]) -> str:
        label, *numbers = (
            text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(texts, widths, strict=True))
        )
        return "  ".join([label, *numbers])

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *map(line, cells)])


def _best(row: Row) -> str:
    if row.best_evaluation is None:
        return "-"
    return (
        f"{row.best_evaluation:,.2f}"
        if row.best_games is None
        else describe_mean(row.best_evaluation, row.best_interval, *row.best_games)
    )


def smooth(values: Floats, window: int) -> Floats:
    """The trailing mean over `window` values, or over fewer where fewer precede: f64[n] -> f64[n]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])  # [n+1]
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: Floats = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _read(path: Path, metric: str) -> _Run:
    rows = read_metrics(path)
    curve = _curve(rows, metric)
    if not len(curve.values):
        tags = {tag for row in rows for tag in row} - set(Clock._fields)
        if metric in tags or not tags:
            raise UsageError(f"{path} has logged no {metric} yet: wait until it has, or leave the run out")
        raise unknown(f"metric of {path}", metric, tags)
    config = _config(path)
    name, agent, env_id = config.get("name"), _field(config, "agent", "name"), _field(config, "env", "id")
    parts = [str(part) for part in (agent, env_id) if part is not None]
    seed = config.get("seed")
    return _Run(
        path=path,
        config={key: value for key, value in config.items() if key not in _NOT_COMPARED} if name or parts else {},
        label=str(name) if name else " on ".join(parts) or path.resolve().name,
        env_id=None if env_id is None else str(env_id),
        seed=seed if isinstance(seed, int) else None,
        agent_steps=max(row["agent_steps"] for row in rows),
        minutes=max(row["wall_seconds"] for row in rows) / 60.0,
        curve=curve,
        evaluations=_curve(rows, EVALUATION),
        best=max((row for row in rows if row.get(EVALUATION) is not None), key=lambda row: row[EVALUATION], default={}),
    )


def _curve(rows: list[dict[str, Any]], tag: str) -> _Curve:
    logged = [(row["agent_steps"], row["wall_seconds"] / 60.0, row[tag]) for row in rows if row.get(tag) is not None]
    steps, minutes, values = np.array(logged, dtype=np.float64).reshape(-1, 3).T
    return _Curve(steps, minutes, values)


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.yaml"
    if not file.is_file():
        return {}
    try:
        with reading(file):
            config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    return config if isinstance(config, dict) else {}


def _field(config: dict[str, Any], section: str, field: str) -> Any:
    values = config.get(section)
    return values.get(field) if isinstance(values, dict) else None


def _groups(runs: list[_Run]) -> dict[str, list[_Run]]:
    """Label -> runs of a group. If two groups have the same name, the differing settings or a folder are added to the label."""
    groups: list[list[_Run]] = []
    for run in runs:
        for group in groups:
            if run.config and group[0].config == run.config and run.seed not in {member.seed for member in group}:
                group.append(run)
                break
        else:
            groups.append([run])
    labelled: dict[str, list[_Run]] = {}
    for group in groups:
        label = group[0].label
        if label in labelled:
            label_and_changes = f"{label} ({_changes(labelled[label][0], group[0])})"
            label = f"{label} ({group[0].path})" if label_and_changes in labelled else label_and_changes
        labelled[label] = group
    return labelled


def _changes(first: _Run, run: _Run) -> str:
    """The settings of `run` that differ from `first`, e.g. `net.weights=pong`; its folder instead if there are none or too many."""
    found = [f"{key}={Path(str(value)).name}" for key, (_, value) in changes(first.config, run.config).items()]
    return ", ".join(found) if 0 < len(found) <= _MOST_CHANGES else str(run.path)


def _row(label: str, runs: list[_Run], window: int) -> Row:
    last = np.array([run.curve.values[-window:].mean() for run in runs])  # [R]
    best = max((run.best for run in runs), key=lambda row: row.get(EVALUATION, -math.inf))
    games = best.get("eval/games"), best.get("eval/different_games")
    seconds = 60.0 * sum(run.minutes for run in runs)
    return Row(
        label=label,
        seeds=tuple(run.seed for run in runs),
        agent_steps=round(float(np.mean([run.agent_steps for run in runs]))),
        minutes=float(np.mean([run.minutes for run in runs])),
        last_mean=float(last.mean()),
        last_std=float(last.std(ddof=1)) if len(last) > 1 else None,
        best_evaluation=best.get(EVALUATION),
        steps_per_second=sum(run.agent_steps for run in runs) / seconds if seconds > 0 else None,
        best_interval=best.get("eval/interval"),
        best_games=None if games[0] is None or games[1] is None else (int(games[0]), int(games[1])),
    )


def _draw(groups: dict[str, list[_Run]], metric: str, window: int) -> "Figure":
    # Not pyplot, which keeps every figure alive and looks for a display. Slow to import, hence here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    by_steps, by_minutes = figure.subplots(1, 2, sharey=True)
    is_return = metric.endswith("episodic_return")
    env_ids = {run.env_id for runs in groups.values() for run in runs}
    _lines(by_steps, groups, window, is_return, lambda curve: curve.steps)
    _lines(by_minutes, groups, window, is_return, lambda curve: curve.minutes)

    games = {env_id and game_of(env_id) for env_id in env_ids}
    human = human_score(games.pop() or "") if is_return and len(games) == 1 else None
    if human is not None:
        _human_level([by_steps, by_minutes], human)

    by_steps.set_xlabel("agent steps")
    by_steps.xaxis.set_major_formatter(EngFormatter(sep=""))
    what = "episode return" if is_return else metric
    unit = "evaluations" if metric == EVALUATION else "episodes" if is_return else "values"
    by_steps.set_ylabel(f"{what}, mean of the last {window} {unit}")
    by_minutes.set_xlabel("wall-clock time (minutes)")
    for axes in (by_steps, by_minutes):
        axes.set_xlim(left=0.0)
        axes.grid(color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    title = next(iter(env_ids)) if len(env_ids) == 1 else None
    figure.suptitle(title or metric, fontsize=13)
    handles, labels = by_steps.get_legend_handles_labels()
    columns = max(1, min(4, len(labels), 125 // (max(map(len, labels)) + 8)))  # about 125 characters fit across
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    figure.set_size_inches(12.0, 5.0 + 0.22 * math.ceil(len(labels) / columns))
    return figure


def _lines(axes: "Axes", groups: dict[str, list[_Run]], window: int, evaluations: bool, x_of: Callable[[_Curve], Floats]) -> None:
    """Draws each group's mean, the range of its seeds (where all of them have data), and each seed as a faint line."""
    for number, (label, runs) in enumerate(groups.items()):
        label = legible(label)
        colour = COLOURS[number % len(COLOURS)]
        dash = _DASHES[number // len(COLOURS) % len(_DASHES)]
        xs = [x_of(run.curve) for run in runs]
        smoothed = [smooth(run.curve.values, window) for run in runs]
        first, last = max(x.min() for x in xs), min(x.max() for x in xs)
        grid = np.linspace(first, last, _GRID) if first <= last else np.empty(0)  # [G]
        lines = np.stack([_at(grid, x, y) for x, y in zip(xs, smoothed, strict=True)])  # [R,G]
        if len(runs) > 1:
            label = f"{label} (mean of {len(runs)} seeds)"
            axes.fill_between(grid, lines.min(axis=0), lines.max(axis=0), color=colour, alpha=0.18, linewidth=0)
            for x, y in zip(xs, smoothed, strict=True):
                own = np.linspace(x.min(), x.max(), _GRID)
                axes.plot(own, _at(own, x, y), color=colour, linewidth=0.7, alpha=0.4)
        # A single value would be an invisible line, so it is drawn as a dot.
        dot = "." if first == last else ""
        axes.plot(grid, lines.mean(axis=0), color=colour, linestyle=dash, linewidth=2.0, marker=dot, label=label)
        for run in runs if evaluations else []:
            axes.plot(
                x_of(run.evaluations), run.evaluations.values, "o", color=colour, markersize=5.5,
                markeredgecolor="white", markeredgewidth=0.8, alpha=0.9, zorder=3,
            )  # fmt: skip
    if any(len(runs) > 1 for runs in groups.values()):
        axes.fill_between([], [], color=_GREY, alpha=0.25, linewidth=0, label="range over seeds")
    if evaluations and any(len(run.evaluations.values) for runs in groups.values() for run in runs):
        axes.plot([], [], "o", color=_GREY, markersize=5.5, label="evaluation")


def legible(label: str) -> str:
    """The label escaped for matplotlib, which reads dollars as mathematics and hides entries with a leading underscore."""
    label = label if len(label) <= 100 else f"{label[:60]}...{label[-37:]}"
    return (f" {label}" if label.startswith("_") else label).replace("$", r"\$")


def _at(grid: Floats, x: Floats, y: Floats) -> Floats:
    """y interpolated at a grid. Of values at the same x (parallel environments), the last counts: its mean includes the others."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    kept = np.append(np.diff(x) > 0, True)
    interpolated: Floats = np.interp(grid, x[kept], y[kept])
    return interpolated


def _human_level(panels: list["Axes"], human: float) -> None:
    """Draws a dashed line at the human score, or only a legend entry if the line is so far off that it would flatten the curves."""
    low, high = panels[0].get_ylim()
    seen = abs(human - (low + high) / 2.0) <= 1.5 * (high - low)
    for axes in panels:
        label = f"human ({human:,.1f})" if seen else f"human ({human:,.1f}, off the scale)"
        if seen:
            axes.axhline(human, color=_GREY, linestyle=(0, (5, 4)), linewidth=1.0, label=label)
        else:
            axes.plot([], [], color=_GREY, linestyle=(0, (5, 4)), linewidth=1.0, label=label)
