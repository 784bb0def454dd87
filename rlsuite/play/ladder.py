"""`rlsuite ladder`: Elo ratings of a board run's checkpoints from matches between them, as a table and a plot."""

import sys
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.matches import play_match, searcher
from rlsuite.boardgames.ratings import elo, elo_intervals
from rlsuite.core import cpu
from rlsuite.core.errors import UsageError
from rlsuite.core.files import replacing
from rlsuite.evaluation.saved_agent import Saved, board_evaluator
from rlsuite.runs import checkpoint


class Rung(NamedTuple):
    """A checkpoint and its rating."""

    agent_steps: int
    elo: float  # relative to the oldest checkpoint
    interval: tuple[float, float]  # 95%, bootstrap


def climb(run: Path, games: int, simulations: int, opening_moves: int, most: int, seed: int = 0) -> list[Rung]:
    """Rates up to `most` evenly spaced checkpoints by `games` games between every two.

    UsageError for a run with fewer than two checkpoints, and for one that plays no board game.
    """
    paths = checkpoint.list_complete(run)
    if len(paths) < 2:
        raise UsageError(
            f"{run} has {len(paths)} checkpoints, a ladder needs two: see run.keep_checkpoints and run.checkpoint_minutes"
        )
    chosen = sorted({round(i) for i in np.linspace(0, len(paths) - 1, min(most, len(paths)))})
    saved = [Saved(paths[i], device="auto") for i in chosen]
    name = saved[0].spec.game
    if name is None:
        raise UsageError(f"{run} plays {saved[0].config.env.id}, which is no board game")
    cpu.set_up(saved[0].config.run.threads)
    game = make_game(name)
    agents: list[Any] = [one.agent for one in saved]
    movers = [
        searcher(game, *board_evaluator(one, game), simulations, agent.config.solve)
        for one, agent in zip(saved, agents, strict=True)
    ]
    results = []
    for a, b in combinations(range(len(movers)), 2):
        results.append((a, b, play_match(game, movers[a], movers[b], games, opening_moves, seed)))
        print(
            f"{saved[a].agent_steps:,} against {saved[b].agent_steps:,}: {results[-1][2].points:.2f}", file=sys.stderr, flush=True
        )
    ratings, intervals = elo(results, len(saved)), elo_intervals(results, len(saved), seed)
    return [
        Rung(one.agent_steps, float(rating), (float(low), float(high)))
        for one, rating, (low, high) in zip(saved, ratings, intervals, strict=True)
    ]


def draw(rungs: list[Rung], title: str, out: Path) -> None:
    """Plots the ratings over the agent steps into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = [rung.agent_steps for rung in rungs]
    spread: Any = [[rung.elo - rung.interval[0] for rung in rungs], [rung.interval[1] - rung.elo for rung in rungs]]
    axes.errorbar(steps, [rung.elo for rung in rungs], yerr=spread, marker="o", capsize=3)
    axes.set(xlabel="moves of self-play", ylabel="Elo (oldest checkpoint = 0)", title=title)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    with replacing(out) as beside:
        figure.savefig(beside, format="png")
