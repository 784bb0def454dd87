"""A report as a page of Markdown with pictures.

write(report([Path("studies/der")], "atari100k"), Path("out"))   # report.md, report.json, profiles.png, curves.png
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlsuite.core.files import atomic_write, replacing
from rlsuite.evaluation.compare import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MORE = ", or choose another --out"
_NAMES = {
    "mean": "mean",
    "median": "median",
    "iqm_over_runs": "IQM over runs",
    "iqm_of_game_means": "IQM of game means",
    "optimality_gap": "optimality gap",
    "optimality_gap_of_game_means": "optimality gap of game means",
}


def write(document: Mapping[str, Any], out: Path) -> list[Path]:
    """Writes the page, the document as JSON, and the pictures for which there is data; returns their paths."""
    pictures = {}
    profiles = {label: agent["profile"] for label, agent in document["agents"].items() if agent["profile"]}
    curves = {label: agent["curve"] for label, agent in document["agents"].items() if agent["curve"]}
    if profiles:
        pictures["profiles.png"] = _picture(out / "profiles.png", lambda axes: _profiles(axes, profiles))
    if curves:
        pictures["curves.png"] = _picture(out / "curves.png", lambda axes: _curves(axes, curves, document["normalised"]))
    page, data = out / "report.md", out / "report.json"
    atomic_write(page, markdown(document, list(pictures)), _MORE)
    atomic_write(data, json.dumps(document, indent=1, allow_nan=False) + "\n", _MORE)
    return [page, data, *pictures.values()]


def markdown(document: Mapping[str, Any], pictures: Sequence[str] = ()) -> str:
    """The report as Markdown."""
    parts = ["# Report", *_how(document)]
    agents, columns = document["agents"], document["columns"]
    if document["normalised"]:
        parts += ["## Aggregates", _aggregates(document)]
    if agents:
        parts += ["## Scores", *(_scores(label, agent) for label, agent in agents.items())]
    if agents and columns:
        parts += ["## Beside the published scores", _beside(document)]
    if document["improvement"]:
        rows = [
            [one["better"], one["than"], str(one["games"]), _with_interval(one["value"], one["interval"])]
            for one in document["improvement"]
        ]
        head = ["agent", "better than", "games", "probability of improvement"]
        parts += ["## Probability of improvement", _table(head, rows, texts=2)]
    parts += [f"![{name}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def _how(document: Mapping[str, Any]) -> list[str]:
    """Lines that explain what the numbers are and how they were measured."""
    lines = []
    if document["agents"]:
        lines.append("A run counts with the mean of its final evaluation, never with its best one.")
    if document["human_table"]:
        lines.append(
            f"Scores are human-normalised by the random and human scores of `{document['human_table']}`: 0 is random play, 1 the "
            f"human tester. {len(document['games'])} games."
        )
    else:
        lines.append("There is no human score for all of these games: scores are raw, and are not averaged over games.")
    if document["agents"]:
        lines.append(
            f"Intervals: {document['confidence']:.0%}. Of aggregates by {document['resamples']:,} stratified bootstrap resamples "
            "of the runs; none where every game has a single run. Percentile ranges are from the 10th to the 90th, between runs."
        )
    for title, protocol in (("Protocol", document["protocol"]), ("The baseline's protocol", document["baseline_protocol"])):
        if protocol:
            told = ", ".join(f"`{key}` {' and '.join(v) if isinstance(v, list) else v}" for key, v in protocol.items())
            lines.append(f"{title}: {told}.")
    if document["differs_from_baseline"]:
        lines.append(f"**Not the baseline's protocol**: {'; '.join(document['differs_from_baseline'])}.")
    if document["columns_left_out"]:
        lines.append(f"Left out, since these human scores are not theirs: {', '.join(document['columns_left_out'])}.")
    if document["unfinished"]:
        lines.append(f"**Unfinished runs, not counted: {len(document['unfinished'])}.**")
    return lines


def _aggregates(document: Mapping[str, Any]) -> str:
    names = [*_NAMES] if document["columns"] else list(_NAMES)[:-1]
    rows = []
    for label, agent in document["agents"].items():
        cells = [_with_interval(**agent["aggregates"][name]) if name in agent["aggregates"] else "-" for name in names]
        games = len(agent["games"])
        rows.append([label, str(agent["runs"]), *cells, f"{agent['games_at_or_above_human']} of {games}"])
    for name, column in document["columns"].items():
        cells = [f"{column['aggregates'][key]:.3f}" if key in column["aggregates"] else "-" for key in names]
        rows.append([f"{name} (published)", "-", *cells, f"{column['games_at_or_above_human']} of {column['games']}"])
    return _table(["agent", "runs", *(_NAMES[name] for name in names), "games at or above human"], rows)


def _scores(label: str, agent: Mapping[str, Any]) -> str:
    rows = []
    for game, one in agent["games"].items():
        interval = "-" if one["interval"] is None else "[{:,.1f}, {:,.1f}] over {}".format(*one["interval"], one["interval_over"])
        spread = "{:,.1f} to {:,.1f}".format(*one["percentile_range"])
        normalised = "-" if one["human_normalised"] is None else f"{one['human_normalised']:.3f}"
        rows.append([game, str(len(one["scores"])), f"{one['mean']:,.1f}", interval, spread, normalised])
    head = ["game", "runs", "mean score", "interval", "percentile range", "human-normalised"]
    return f"### {label}\n\n{_table(head, rows)}"


def _beside(document: Mapping[str, Any]) -> str:
    agents, columns = document["agents"], document["columns"]
    rows = []
    for game in document["games"]:
        ours = [agent["games"].get(game) for agent in agents.values()]
        theirs = [column["scores"].get(game) for column in columns.values()]
        cells = [None if one is None else one["mean"] for one in ours] + theirs
        rows.append([game, *("-" if cell is None else f"{cell:,.1f}" for cell in cells)])
    return _table(["game", *agents, *columns], rows)


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.3f}" if interval is None else "{:.3f} [{:.3f}, {:.3f}]".format(value, *interval)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table whose first `texts` columns are aligned left, the others right."""
    rule = [" --- " if column < texts else " ---: " for column in range(len(head))]
    lines = [[cell.replace("|", r"\|") for cell in row] for row in [head, *rows]]
    made = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([made[0], f"|{'|'.join(rule)}|", *made[1:]])


def _picture(path: Path, draw: "Callable[[Axes], None]") -> Path:
    # Not pyplot, which keeps every figure alive and looks for a display. Slow to import, hence here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(axes)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with replacing(path, _MORE) as beside:
        figure.savefig(beside, format="png", dpi=150)
    return path


def _profiles(axes: "Axes", profiles: Mapping[str, Any]) -> None:
    for number, (label, one) in enumerate(profiles.items()):
        axes.step(one["thresholds"], one["share_of_runs_above"], where="post", color=COLOURS[number % len(COLOURS)], label=label)
    axes.set_xlabel("human-normalised score τ")
    axes.set_ylabel("share of runs with score > τ")
    axes.set_ylim(0.0, 1.02)


def _curves(axes: "Axes", curves: Mapping[str, Any], normalised: bool) -> None:
    for number, (label, one) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            one["agent_steps"], one["iqm_over_runs"], color=colour, label=label, marker="." if len(one["agent_steps"]) < 2 else ""
        )
        if all(one["interval"]):
            low, high = zip(*one["interval"], strict=True)
            axes.fill_between(one["agent_steps"], low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel("agent steps")
    axes.set_ylabel("periodic evaluations, IQM over runs" + (" (human-normalised)" if normalised else ""))
