"""Plots the last evaluation of runs over their `replay.demonstration_ratio`, with a dot for each seed.

python scripts/ratio_sweep.py runs/kd_* --out docs/results/key-door.png
"""

import argparse
from collections import defaultdict
from pathlib import Path

import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rlsuite.runs.metrics import read_metrics


def main() -> None:
    """Prints the scores for each ratio and saves the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("ratio.png"))
    given = parser.parse_args()
    scores: dict[float, list[float]] = defaultdict(list)
    for run in given.runs:
        config = yaml.safe_load((run / "config.yaml").read_text())
        evaluations = [row["eval/episodic_return"] for row in read_metrics(run) if "eval/episodic_return" in row]
        scores[config["replay"]["demonstration_ratio"]].append(evaluations[-1])
    ratios = sorted(scores)
    figure = Figure(figsize=(7, 4), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, ratio in enumerate(ratios):
        axes.plot([place] * len(scores[ratio]), scores[ratio], "o", color="#1d5fbf", alpha=0.7)
        print(f"{ratio:<10g} {' '.join(f'{score:.2f}' for score in scores[ratio])}")
    axes.plot(range(len(ratios)), [sum(scores[ratio]) / len(scores[ratio]) for ratio in ratios], color="#1d5fbf", linewidth=1)
    axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    axes.set(xlabel="demonstration ratio", ylabel="return at the end (1: the goal is found)", ylim=(-0.05, 1.05))
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(given.out, format="png")


if __name__ == "__main__":
    main()
