"""Plots the mistakes of Connect Four runs over time: every checkpoint is tested on positions with known best moves.

python scripts/mistakes.py runs/a runs/b --simulations 600 --positions 300 --out mistakes.png
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from rlsuite.evaluation.evaluate import grade
from rlsuite.runs import checkpoint
from rlsuite.runs.metrics import read_metrics


def minutes_at(run: Path, agent_steps: int) -> float:
    """Wall-clock minutes that the run took to reach `agent_steps`."""
    rows = [row for row in read_metrics(run) if row["agent_steps"] <= agent_steps]
    return float(rows[-1]["wall_seconds"]) / 60 if rows else 0.0


def main() -> None:
    """Prints a line of JSON for each checkpoint and saves the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--simulations", type=int, default=600, help="search simulations per move")
    parser.add_argument("--positions", type=int, default=1000, help="maximum number of positions of each class")
    parser.add_argument("--out", type=Path, default=Path("mistakes.png"))
    args = parser.parse_args()
    figure = Figure(figsize=(8, 4.5), dpi=120)
    axes = figure.subplots()
    for number, run in enumerate(args.runs):
        curve: dict[str, list[tuple[float, float]]] = {}
        for path in checkpoint.list_complete(run):
            steps = int(path.name.removeprefix("step_"))
            minutes = minutes_at(run, steps)
            grades = grade(path, args.simulations, args.positions)[1]
            for one in grades:
                curve.setdefault(one.name, []).append((minutes, 100 * one.mistakes))
            shown = {one.name: round(100 * one.mistakes, 1) for one in grades}
            print(json.dumps({"run": run.name, "agent_steps": steps, "minutes": round(minutes, 1), **shown}), flush=True)
        for colour, (name, points) in enumerate(curve.items()):
            style = ("-", "--", ":", "-.")[number % 4]
            axes.plot(*zip(*points, strict=True), style, color=f"C{colour}", label=name if number == 0 else None, marker=".")
    axes.set(xlabel="minutes", ylabel="mistakes, %", yscale="symlog", title=f"{args.simulations} simulations a move")
    axes.set_yticks([0, 1, 2, 5, 10, 20, 40], ["0", "1", "2", "5", "10", "20", "40"])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
