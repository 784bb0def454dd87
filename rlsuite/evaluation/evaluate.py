"""Scores of saved agents, and the mistakes of board agents where perfect play is known."""

from pathlib import Path
from typing import Any

from rlsuite.acting.board_agent import BoardAgent
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.solver_accuracy import Grade
from rlsuite.boardgames.solver_accuracy import grade as grade_positions
from rlsuite.core import cpu
from rlsuite.core.errors import UsageError
from rlsuite.evaluation.episodes import play_episodes
from rlsuite.evaluation.saved_agent import Saved, board_evaluator
from rlsuite.evaluation.statistics import Summary, write_summary
from rlsuite.factories import evaluation_seed, threads_of


def evaluate(
    path: Path,
    episodes: int | None,
    seed: int | None,
    video: Path | None,
    opponent: str | None = None,
    simulations: int | None = None,
) -> tuple[Summary, list[Path]]:
    """Scores a saved agent, writes `evaluation.json` beside the checkpoint, and videos into `video` if given.

    `opponent` and `simulations` a move: of a board game, instead of what the config says.
    """
    saved = Saved(path, device="auto", changes=_changes(opponent, simulations))
    cpu.set_up(threads_of(saved.config))
    if video is not None and saved.spec.game is not None:
        raise UsageError(f"{saved.spec.game} has no pictures to film")
    seed = evaluation_seed(saved.config.seed) if seed is None else seed
    count = episodes or saved.config.eval.episodes
    summary = play_episodes(saved.config, saved.agent, saved.net, count, seed, saved.device)
    assert summary is not None  # nothing asked it to stop
    if opponent is None and simulations is None:  # else it is no score of the run as it was configured
        write_summary(saved.path, summary, seed)
    videos = []
    if video is not None:
        from rlsuite.evaluation.video import record

        videos = [record(saved, video, seed)]
    return summary, videos


def grade(path: Path, simulations: int | None = None, positions: int | None = None) -> tuple[int, list[Grade]]:
    """Mistakes of a saved board agent where perfect play is known -> simulations a move, a grade for each class of positions.

    `positions`: at most so many of a class. UsageError for a game that is not solved here.
    """
    saved = Saved(path, device="auto")
    cpu.set_up(threads_of(saved.config))
    if saved.spec.game is None:
        raise UsageError(f"{path} plays {saved.config.env.id}, which is no board game")
    agent = saved.agent
    assert isinstance(agent, BoardAgent)  # no other plays games
    count = agent.config.eval_simulations if simulations is None else simulations
    evaluate, method = board_evaluator(saved, make_game(saved.spec.game))
    return count, grade_positions(evaluate, saved.spec.game, count, method, agent.config.solve, positions)


def _changes(opponent: str | None, simulations: int | None) -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {"env": {}, "agent": {}}
    if opponent is not None:
        changes["env"]["opponent"] = opponent
    if simulations is not None:
        changes["agent"]["eval_simulations"] = simulations
    return changes
