"""What every runtime does around its training: folder, resume, signals, checkpoints, evaluations, rates."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from rlsuite.config.schema import Config
from rlsuite.core.agent import Agent
from rlsuite.core.errors import CheckpointError, OpponentError, UsageError
from rlsuite.core.types import describe
from rlsuite.evaluation.episodes import play_episodes
from rlsuite.evaluation.statistics import Summary, write_summary
from rlsuite.evaluation.video import has_pictures
from rlsuite.factories import evaluation_seed, restart_seed
from rlsuite.learning.learner import Weights
from rlsuite.replay.replay import predicted_bytes
from rlsuite.runs import checkpoint, run_folder
from rlsuite.runs.metrics import Clock, MetricLog, RollingMean
from rlsuite.runs.progress import Progress, Status


class LearnerRole(Protocol):
    """What is asked of a learner, wherever it runs."""

    @property
    def steps(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def net(self) -> nn.Module: ...

    def weights(self) -> Weights: ...

    def learning_rate(self, agent_steps: int) -> float: ...

    def check(self, metrics: dict[str, float]) -> None: ...

    def check_weights(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load(self, weights: dict[str, torch.Tensor], state: dict[str, Any], where: str) -> None: ...


class CollectorRole(Protocol):
    env: Any

    def diagnostics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool: ...

    def ready(self, steps: int) -> bool: ...


class ReplayRole(Protocol):
    @property
    def dropped_updates(self) -> int: ...

    @property
    def capacity_steps(self) -> int: ...

    def __len__(self) -> int: ...

    def end_streams(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class LagRole(Protocol):
    def diagnostics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Roles(Protocol):
    """Of a run: `build.Parts`, or stand-ins for what runs elsewhere."""

    @property
    def env(self) -> Any: ...

    @property
    def agent(self) -> Agent: ...

    @property
    def learner(self) -> LearnerRole: ...

    @property
    def lag(self) -> LagRole: ...

    @property
    def collector(self) -> CollectorRole: ...

    @property
    def replay(self) -> ReplayRole: ...


@dataclass
class Result:
    run: Path
    agent_steps: int
    learner_steps: int
    wall_seconds: float
    evaluation: Summary | None  # None if the run was interrupted
    interrupted: bool = False
    board_game: bool = False
    pictures: bool = False  # a game can be filmed

    def as_dict(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "run": str(self.run),
            "agent_steps": self.agent_steps,
            "learner_steps": self.learner_steps,
            "wall_seconds": round(self.wall_seconds, 2),
            "eval": None if self.evaluation is None else self.evaluation.as_dict(),
        }
        return {**facts, "interrupted": True} if self.interrupted else facts


@dataclass
class Loop:
    """What a run is beside its roles."""

    config: Config
    run_dir: Path
    parts: Roles
    log: MetricLog
    collected: int = 0  # records of all environments; may be up to L - 1 ahead of the steps that count
    moved: int = 0  # steps of the last tick
    returns: RollingMean = field(default_factory=RollingMean)
    wall_before: float = 0.0  # seconds of earlier sessions
    started: float = field(default_factory=time.monotonic)
    best: float = -float("inf")
    best_path: Path | None = None
    full_at: int = -1  # agent steps at the last checkpoint to resume from
    logged: tuple[int, float, int] = (0, 0.0, 0)  # agent steps, seconds, learner steps at the last row of losses

    @property
    def agent_steps(self) -> int:
        return min(self.collected, self.config.run.agent_steps)

    @property
    def seconds(self) -> float:
        return self.wall_before + time.monotonic() - self.started

    def clock(self) -> Clock:
        per_step = self.parts.collector.env.metadata.get("frames_per_step", 1)
        return Clock(self.agent_steps, self.agent_steps * per_step, self.parts.learner.steps, round(self.seconds, 3))


Train = Callable[["Loop", Progress, list[int]], bool]  # runs the loop; True if a signal stopped it


def run(config: Config, run_dir: Path | None, resume: bool, parts: Roles, train: Train, stopped: list[int]) -> Result:
    """Makes or restores a run, trains it, evaluates it. `stopped` fills when a signal comes (see `signals`).

    `run_dir`: None makes a new folder under runs/; with `resume` the folder of the run to go on with.
    """
    assert run_dir is not None or not resume
    run_dir = run_dir or run_folder.named(config)
    with run_folder.lock(run_dir), closing(parts.env):
        saved = None
        if resume:
            saved = checkpoint.load(checkpoint.find(run_dir, resumable=True))
            was, now = saved.metadata["spec"].get("game"), describe(parts.env).game
            if was != now:
                raise UsageError(f"{run_dir} is a run of {was or 'no board game'}, not of {now or config.env.id}")
            if config.run.agent_steps < saved.agent_steps:
                raise UsageError(
                    f"run.agent_steps = {config.run.agent_steps}: {run_dir} has come to {saved.agent_steps} already; ask for more"
                )
        else:
            run_folder.create(config, run_dir)
        with closing(MetricLog(run_dir, resume_at=saved.agent_steps if saved else None)) as log:
            loop = Loop(config, run_dir, parts, log)
            if saved:
                _restore(loop, saved)
                for change in run_folder.changes(saved.metadata["config"], config):
                    print(f"changed: {change}", file=sys.stderr)
                saved = None  # its copy of the replay memory is gigabytes
                run_folder.write_config(config, run_dir)  # so that the next resume knows the overrides of this one
            _announce(loop)
            return _to_the_end(loop, train, stopped)


def _to_the_end(loop: Loop, train: Train, stopped: list[int]) -> Result:
    config, learner = loop.config, loop.parts.learner
    progress = Progress()
    try:
        interrupted = train(loop, progress, stopped)
    except OpponentError:
        save(loop, full=True)  # an evaluation could not be played: nothing that was learned is lost
        raise
    finally:
        progress.close(status(loop))
    path = save(loop, full=True)
    summary = None if interrupted else evaluate(loop, config.eval.episodes, stopped, final=True)
    if summary is not None:
        write_summary(path, summary, evaluation_seed(config.seed))
    if not interrupted and learner.steps == 0:
        print(f"rlsuite: nothing was learned: {loop.agent_steps:,} agent steps brought no update", file=sys.stderr, flush=True)
    game = describe(loop.parts.env).game is not None
    figures = loop.agent_steps, learner.steps, loop.seconds
    return Result(loop.run_dir, *figures, summary, summary is None, game, has_pictures(config.env.id, loop.parts.env))


def log_losses(loop: Loop, metrics: dict[str, torch.Tensor], more: dict[str, float] | None = None) -> None:
    """A row of losses and rates, and what else the runtime has to tell."""
    learner, replay = loop.parts.learner, loop.parts.replay
    values = {name: float(value) for name, value in metrics.items()}
    learner.check(values)
    values["charts/SPS"] = (loop.agent_steps - loop.logged[0]) / max(loop.seconds - loop.logged[1], 1e-9)
    values["charts/learner_SPS"] = (learner.steps - loop.logged[2]) / max(loop.seconds - loop.logged[1], 1e-9)
    values["charts/learning_rate"] = learner.learning_rate(loop.agent_steps)
    if not loop.config.agent.on_policy:
        values["charts/replay_steps"] = float(len(replay))
        values["charts/dropped_updates"] = float(replay.dropped_updates)
    values |= loop.parts.collector.diagnostics() | loop.parts.lag.diagnostics()
    values |= more or {}
    if len(loop.returns):
        values["charts/mean_return_100"] = loop.returns.mean
    loop.logged = (loop.agent_steps, loop.seconds, learner.steps)
    loop.log.scalars(loop.clock(), values)


def evaluate(loop: Loop, episodes: int, stopped: list[int], final: bool = False) -> Summary | None:
    """Plays with the weights of now; on the way keeps them if they are the best so far. None if a signal came meanwhile."""
    config, learner = loop.config, loop.parts.learner
    seed = evaluation_seed(config.seed, final)
    summary = play_episodes(
        config,
        loop.parts.agent,
        learner.net,
        episodes,
        seed,
        learner.device,
        stop=lambda: bool(stopped),
    )
    if summary is None:
        return None
    note_evaluation(loop, summary, loop.clock(), final)
    return summary


def note_evaluation(
    loop: Loop,
    summary: Summary,
    clock: Clock,
    final: bool = False,
    weights: Callable[[], dict[str, torch.Tensor]] | None = None,
) -> None:
    """Logs it; one on the way that is the best so far keeps the weights that played, the newest or `weights`."""
    values = {"eval/episodic_return": summary.mean, "eval/median": summary.median, "eval/iqm": summary.iqm}
    if summary.human_normalised is not None:
        values["eval/human_normalised"] = summary.human_normalised
    loop.log.scalars(clock, values)
    if summary.mean > loop.best and not final:
        loop.best = summary.mean
        loop.best_path = save(loop, full=False, weights=weights and weights())
        write_summary(loop.best_path, summary, evaluation_seed(loop.config.seed, final))


def save(loop: Loop, full: bool, weights: dict[str, torch.Tensor] | None = None) -> Path:
    """`full`: with the replay memory, to resume from. Otherwise for evaluation only: the best weights so far.

    `weights`: others than the learner's of now, for evaluation only.
    """
    parts, keep = loop.parts, loop.config.run.keep_checkpoints
    if not full and weights is None and loop.full_at == loop.agent_steps:
        return loop.run_dir / "checkpoints" / f"step_{loop.agent_steps:012d}"  # it holds these weights already, and more
    state = {
        # What is kept to be evaluated is not resumed from.
        "learner": parts.learner.state_dict() if full else {},
        "collector": parts.collector.state_dict() if full else {},
        "replay": parts.replay.state_dict() if full else {},
        "loop": {
            "collected": loop.collected,
            "moved": loop.moved,
            "lag": parts.lag.state_dict(),
            "returns": loop.returns.state_dict(),
            "seconds": loop.seconds,
            "best": loop.best,
            "best_path": loop.best_path.name if loop.best_path else None,
        },
    }
    parts.learner.check_weights()
    facts = run_folder.metadata(loop.config, describe(parts.env))
    kept = parts.learner.weights().tensors if weights is None else weights
    path = checkpoint.save(loop.run_dir, loop.agent_steps, kept, state, facts, with_arrays=full)
    best = {loop.best_path} if loop.best_path else set()
    if full:
        # Gigabytes of replay in the newest only: the others are there to be evaluated.
        loop.full_at = loop.agent_steps
        try:
            for older in checkpoint.list_complete(loop.run_dir):
                if older != path:
                    checkpoint.drop_arrays(older)
            checkpoint.prune(loop.run_dir, keep, best | {path})
        except CheckpointError as error:  # an old one is damaged: the new one is written, so training goes on
            print(f"rlsuite: {error}", file=sys.stderr, flush=True)
    loop.log.flush()
    return path


def _restore(loop: Loop, saved: checkpoint.Checkpoint) -> None:
    parts, state = loop.parts, saved.state
    try:
        parts.learner.load(saved.weights, state["learner"], str(saved.path))
        parts.replay.load_state_dict(state["replay"])
        inner = state["loop"]
        loop.collected, loop.moved = inner["collected"], inner["moved"]
        parts.lag.load_state_dict(inner["lag"])
        loop.returns.load_state_dict(inner["returns"])
        loop.wall_before, loop.best = inner["seconds"], inner["best"]
        loop.best_path = loop.run_dir / "checkpoints" / inner["best_path"] if inner["best_path"] else None
        goes_on = parts.collector.load_state_dict(state["collector"], reseed=restart_seed(loop.config.seed, loop.collected))
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{saved.path} does not fit this config: {reason}; change only run.* and eval.*") from error
    if not goes_on and not parts.collector.ready(1):
        parts.replay.end_streams()  # the newest records lie in the store already
    loop.logged = (loop.agent_steps, loop.seconds, parts.learner.steps)
    loop.full_at = saved.agent_steps
    checkpoint.forget_after(loop.run_dir, saved.agent_steps)


def status(loop: Loop, more: dict[str, str] | None = None) -> Status:
    clock, run, replay = loop.clock(), loop.config.run, loop.parts.replay
    return Status(
        clock.agent_steps,
        run.agent_steps,
        clock.env_frames,
        clock.learner_steps,
        None if loop.config.agent.on_policy else len(replay) / replay.capacity_steps,
        loop.returns.mean,
        loop.seconds,
        run.minutes,
        more or {},
    )


def _announce(loop: Loop) -> None:
    config, spec = loop.config, describe(loop.parts.env)
    parameters = sum(p.numel() for p in loop.parts.learner.net.parameters())
    steps = loop.parts.replay.capacity_steps
    shown = config.replay.demonstrations is not None
    memory = f"rollouts of {config.run.collect_agent_steps} steps"
    if not config.agent.on_policy:
        memory = (
            f"replay {steps:,} steps = {predicted_bytes(spec, config.replay, loop.parts.agent.sequence) / 1e9:.2f} GB when full"
        )
    print(
        f"{config.name}: {config.agent.name} on {config.env.id}, seed {config.seed}, {config.env.num_envs} environments, "
        f"{loop.parts.learner.device.type}, {torch.get_num_threads()} threads, {parameters:,} parameters, "
        f"{memory}\n"
        + (f"demonstrations {config.replay.demonstrations}, ratio {config.replay.demonstration_ratio}\n" if shown else "")
        + f"run folder {loop.run_dir}"
        + (f", resumed at step {loop.agent_steps:,}" if loop.collected else ""),
        file=sys.stderr,
        flush=True,
    )


@contextmanager
def signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM fill the list; a second one stops at once."""
    got: list[int] = []

    def note(number: int, _: Any) -> None:
        if got:
            raise KeyboardInterrupt
        got.append(number)
        print("stopping: writing a checkpoint (once more to stop at once)", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield got  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
