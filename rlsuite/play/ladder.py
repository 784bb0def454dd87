"""`rlsuite ladder`: Elo of a board run's checkpoints from matches between them and against others, as a table and a plot."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlsuite.boardgames.games import make_game
from rlsuite.core import cpu
from rlsuite.core.errors import UsageError
from rlsuite.core.files import replacing
from rlsuite.core.game import Game
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.play.players import make_seat
from rlsuite.play.tournament import Entrant, meet_pairs, rate
from rlsuite.runs import checkpoint, pretrained_agents


class Rung(NamedTuple):
    """A player of the ladder and its rating."""

    agent_steps: int | None  # of a checkpoint; None for another player
    elo: float  # relative to the first of the other players, or else to the oldest checkpoint
    interval: tuple[float, float]  # 95%, bootstrap
    player: str  # the checkpoint's folder, or the other player's name
    failures: int  # games it lost by a crash, a time-out or an illegal move


def climb(
    run: Path,
    games: int,
    simulations: int,
    opening_moves: int,
    most: int,
    seed: int = 0,
    against: Sequence[str] = (),
    parallel: int = 2,
) -> list[Rung]:
    """Rates up to `most` evenly spaced checkpoints, oldest first, from `games` games between every two.

    Each player of `against` also plays each checkpoint, with its own settings, and is listed after them; the first of these players
    is then 0 Elo. `parallel` copies of a program play at once. UsageError, before any game is played, for a run with too few
    checkpoints or without a board game, and for a player that does not exist, does not play the game or is named twice.
    """
    paths = checkpoint.list_complete(pretrained_agents.located(run))
    if len(paths) < (1 if against else 2):
        needs = "one" if against else "two"
        raise UsageError(
            f"{run} has {len(paths)} checkpoints, a ladder needs {needs}: see run.keep_checkpoints and run.checkpoint_minutes"
        )
    chosen = [paths[i] for i in sorted({round(i) for i in np.linspace(0, len(paths) - 1, min(most, len(paths)))})]
    saved = Saved(chosen[0])
    if saved.spec.game is None:
        raise UsageError(f"{run} plays {saved.config.env.id}, which is no board game")
    cpu.set_up(saved.config.run.threads)
    game = make_game(saved.spec.game)
    _check(against, game)
    rungs, others = [Entrant(str(path), simulations) for path in chosen], [Entrant(name) for name in against]
    pairs = [(other, rung) for other in others for rung in rungs] + list(combinations(rungs, 2))
    meetings = meet_pairs(pairs, game, games, opening_moves, seed, parallel)
    failures = dict.fromkeys((one.name for one in (*others, *rungs)), 0)
    for meeting in meetings:
        failures[meeting.first] += meeting.failures[0]
        failures[meeting.second] += meeting.failures[1]
    ratings = {rating.player: rating for rating in rate(list(failures), meetings, seed)}
    steps = {rung.name: int(path.name.rpartition("_")[2]) for rung, path in zip(rungs, chosen, strict=True)}
    return [
        Rung(steps.get(one.name), ratings[one.name].elo, ratings[one.name].interval, one.name, failures[one.name])
        for one in (*rungs, *others)
    ]


def _check(against: Sequence[str], game: Game) -> None:
    """UsageError for players that cannot take part, OpponentError for a program that does not answer."""
    if len(set(against)) < len(against):
        raise UsageError("a player of --against is named twice")
    for name in against:
        make_seat(name, game, None, 1, 0).close()


def zero(rungs: Sequence[Rung]) -> str:
    """The name of the player with 0 Elo: the first other player, or the oldest checkpoint."""
    return next((rung.player for rung in rungs if rung.agent_steps is None), "oldest checkpoint")


def draw(rungs: Sequence[Rung], title: str, out: Path) -> None:
    """Plots the checkpoints' ratings over the agent steps into a PNG file, and a horizontal line for every other player."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    checkpoints, others = ([rung for rung in rungs if (rung.agent_steps is None) == other] for other in (False, True))
    spread: Any = [[rung.elo - rung.interval[0] for rung in checkpoints], [rung.interval[1] - rung.elo for rung in checkpoints]]
    steps: Any = [rung.agent_steps for rung in checkpoints]
    axes.errorbar(steps, [rung.elo for rung in checkpoints], yerr=spread, marker="o", capsize=3)
    for number, rung in enumerate(others, 1):
        axes.axhline(rung.elo, color=f"C{number}", linestyle="--", label=_shortened(rung.player))
        axes.axhspan(*rung.interval, color=f"C{number}", alpha=0.15)
    if others:
        axes.legend(fontsize="small")
    axes.set(xlabel="moves of self-play", ylabel=f"Elo ({_shortened(zero(rungs))} = 0)", title=title)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    with replacing(out) as beside:
        figure.savefig(beside, format="png")


def _shortened(name: str) -> str:
    """A player's name for the plot."""
    return name if len(name) <= 40 else f"{name[:39]}…"
