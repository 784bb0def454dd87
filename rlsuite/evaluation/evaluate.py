"""Scores saved agents by whole episodes, and board agents also by positions where the best moves are known."""

from pathlib import Path
from typing import Any, NamedTuple

from rlsuite.acting.board_agent import BoardAgent
from rlsuite.boardgames import endgames, graded_positions
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.graded_positions import Graded
from rlsuite.core import cpu
from rlsuite.core.console import say
from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.game import Game
from rlsuite.envs import atari
from rlsuite.envs.atari_colours import change_of
from rlsuite.evaluation import grading
from rlsuite.evaluation.episodes import play_episodes
from rlsuite.evaluation.export.acting_net import Size, size_of
from rlsuite.evaluation.grading import Grade
from rlsuite.evaluation.saved_agent import Saved, board_evaluator
from rlsuite.evaluation.statistics import Summary, write_summary
from rlsuite.factories import evaluation_seed
from rlsuite.runs import pretrained_agents
from rlsuite.runs.progress import Counter

PRECISIONS = ("fp32", "bf16", "int8")
OWN_COLOURS = "none"


class Evaluated(NamedTuple):
    """The score of a saved agent, the videos that were recorded, and the size of the net that played."""

    summary: Summary
    videos: list[Path]
    size: Size


def evaluate(
    path: Path,
    episodes: int | None,
    seed: int | None,
    video: Path | None,
    opponent: str | None = None,
    simulations: int | None = None,
    precision: str | None = None,
    settings: dict[str, Any] | None = None,
    recolour: str | None = None,
) -> Evaluated:
    """Scores a saved agent over whole episodes.

    Writes the summary beside the checkpoint, and a video of one episode into the folder `video`, if given. `opponent` and
    `simulations` per move replace those of a board game's config; the summary is not written then. `precision`: fp32, bf16 or int8
    instead of the training precision. `settings`: values of the config's `agent` section to replace. `recolour`: an Atari game's
    colours, see `rlsuite.envs.atari_colours`; "none": the game's own.
    """
    if precision not in (None, *PRECISIONS):
        raise unknown("precision", str(precision), PRECISIONS)
    changes = _changes(opponent, simulations)
    if settings:
        changes["agent"] = {**settings, **changes.get("agent", {})}
    if precision is not None:
        changes["learner"] = {"precision": "bf16" if precision == "bf16" else "fp32"}
    saved = Saved(path, device="cpu" if precision == "int8" else "auto", changes=changes)
    if recolour is not None:
        _recolour(saved, recolour)
    if video is not None and saved.spec.game is not None:
        raise UsageError(f"{saved.spec.game} is a board game, which cannot be drawn: leave --video out")
    agent, net = saved.agent, saved.net
    if precision == "int8":
        if video is not None:
            raise UsageError("--precision int8 records no video: leave one of them out")
        from rlsuite.evaluation.export.onnx_player import in_int8

        agent, net = in_int8(saved)
    cpu.set_up(saved.config.run.threads)
    seed = evaluation_seed(saved.config.seed) if seed is None else seed
    count = saved.config.eval.episodes if episodes is None else episodes
    with Counter("games") as show:
        summary = play_episodes(saved.config, agent, net, count, seed, saved.device, show=show)
    assert summary is not None  # it is None only if the evaluation is stopped
    if summary.warning is not None:
        say(f"rlsuite: {summary.warning}")
    as_configured = opponent is None and simulations is None and precision is None and not settings and recolour is None
    if as_configured and not pretrained_agents.is_name(path):  # an agent in the package has a card instead
        write_summary(saved.path, summary, seed)
    videos = []
    if video is not None:
        from rlsuite.evaluation.video import record

        videos = [record(saved, video, seed, "" if recolour is None else f"-{recolour}")]
    return Evaluated(summary, videos, size_of(saved.agent, saved.spec))


def _recolour(saved: Saved, recolour: str) -> None:
    """Changes the colours of a saved agent's environment. UsageError if it is not an Atari game, or for unknown colours."""
    env = saved.config.env
    if not isinstance(env, atari.Config):
        raise UsageError(f"--recolour changes the screen of an Atari game, and {saved.path} plays {env.id}; leave it out")
    check_colours(recolour)
    changed = env.model_copy(update={"recolour": None if recolour == OWN_COLOURS else recolour})
    saved.config = saved.config.model_copy(update={"env": changed})


def check_colours(text: str) -> None:
    """UsageError if `text` is neither a change of colours nor "none"."""
    if text != OWN_COLOURS:
        change_of(text, also=(OWN_COLOURS,))


def grade(
    path: Path, simulations: int | None = None, positions: int | None = None, file: Path | None = None
) -> tuple[int, list[Grade]]:
    """Grades a saved board agent on positions with known best moves; returns simulations per move and a grade for each class.

    `file`: the positions (`rlsuite.boardgames.graded_positions`), with a last grade for all of them; None: the game's own file.
    `positions`: the maximum per class. UsageError for an agent that plays no board game, a file that cannot be read, or a game
    without graded positions.
    """
    saved, game = _board_agent(path)
    read = graded_positions.own_positions(game, positions) if file is None else graded_positions.read(file, game, positions)
    return _grade(saved, game, read, simulations, total=file is not None)


def grade_endgames(path: Path, simulations: int | None, positions: int, seed: int) -> tuple[int, list[Grade]]:
    """Grades a saved board agent on `positions` solved endgames (`rlsuite.boardgames.endgames`), which depend only on the seed.

    Returns simulations per move and a grade for won, drawn and lost positions, and for all of them. UsageError for an agent that
    plays no board game, or a game without a solver.
    """
    saved, game = _board_agent(path)
    with Counter("endgames") as show:
        drawn = endgames.draw(game, positions, seed, show)
    return _grade(saved, game, drawn, simulations, total=True)


def _board_agent(path: Path) -> tuple[Saved, Game]:
    """A saved agent and the board game that it plays. UsageError if it plays none."""
    saved = Saved(path, device="auto")
    cpu.set_up(saved.config.run.threads)
    if saved.spec.game is None:
        raise UsageError(f"{path} plays {saved.config.env.id}, which is not a board game")
    return saved, make_game(saved.spec.game)


def _grade(saved: Saved, game: Game, classes: list[Graded], simulations: int | None, total: bool) -> tuple[int, list[Grade]]:
    agent = saved.agent
    assert isinstance(agent, BoardAgent)  # no other agent plays board games
    count = agent.config.eval_simulations if simulations is None else simulations
    evaluate, method = board_evaluator(saved, game)
    with Counter("positions") as show:
        return count, grading.grade(evaluate, game, classes, count, method, agent.config.solve, total=total, show=show)


def _changes(opponent: str | None, simulations: int | None) -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {"env": {}, "agent": {}}
    if opponent is not None:
        changes["env"]["opponent"] = opponent
    if simulations is not None:
        changes["agent"]["eval_simulations"] = simulations
    return changes
