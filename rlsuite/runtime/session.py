"""A training run of any kind of model: its folder, lock, resume, checkpoints, evaluations, progress and signals.

    with signals() as stopped:  # of `runtime.signals`
        session = Training(config, run_dir, ...)             # a subclass of `Session`
        result = run(session, session.train, resume, stopped)

`Session` has what all runs share. Subclasses add what differs: state, evaluation and description (`runtime.run_loop.Loop` for
agents, `vision.train.Training` for vision models). `take_turns` is the training loop of a single process; runtimes with several
processes have their own.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import nn

from rlsuite.config import loader
from rlsuite.config.schema import AnyConfig, TrainingConfig
from rlsuite.core.console import command, say
from rlsuite.core.errors import CheckpointError, NotFiniteError, UsageError, one_line
from rlsuite.learning.learner import Weights
from rlsuite.runs import checkpoint, run_folder, trust
from rlsuite.runs.callbacks import Callbacks, Evaluation
from rlsuite.runs.config_changes import changes, naming_changes
from rlsuite.runs.metrics import Clock, MetricLog, write_evaluation
from rlsuite.runs.progress import Progress, Status
from rlsuite.runs.trackers.opening import open_trackers
from rlsuite.runtime.signals import Stop

R = TypeVar("R")  # the result of an evaluation
Train = Callable[[Progress, Stop], bool]  # trains to the end; True if a signal came first


class LearnerRole(Protocol):
    """The interface that a run needs from its learner, in whatever process it is."""

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


class Report(NamedTuple):
    """The result of an evaluation, in the forms that a run uses."""

    score: float  # decides which weights are best
    scalars: dict[str, float]  # tag -> number, for the log
    document: dict[str, Any]  # for the JSON file beside the checkpoint
    warning: str | None = None  # for the user


class Session(ABC, Generic[R]):
    """A training run in progress: counters, clock, log and checkpoints.

    Its clock counts agent steps; for a vision model, these are the pictures that it has learned from.
    """

    steps_key: ClassVar[str]  # the config key of `total_agent_steps`
    command: ClassVar[tuple[str, ...]]  # the command that trains and evaluates such runs, such as ("rlsuite",)
    config: AnyConfig
    log: MetricLog  # `run` opens it
    progress: Progress | None = None  # shows evaluations; `run` sets it

    def __init__(self, run_dir: Path, learner: LearnerRole, frames_per_step: int = 1, callbacks: Callbacks | None = None):
        self.run_dir, self.learner, self.frames_per_step = run_dir, learner, frames_per_step
        self.callbacks = callbacks or Callbacks()
        self.ended_by_callback = False
        self.collected = 0  # steps of all environments; may exceed the total by less than one step of each
        self.moved = 0  # steps of the last tick
        self.wall_before = 0.0  # seconds of earlier sessions
        self.started = time.monotonic()
        self.best = -float("inf")  # score of the best periodic evaluation
        self.best_path: Path | None = None  # and its checkpoint
        self.full_at = -1  # agent steps at the last checkpoint to resume from
        self.logged = (0, 0.0, 0)  # agent steps, seconds, learner steps at the last row of losses
        self.stopped = Stop()  # `run` replaces it with its own
        self.collecting = False  # whether the environments are in the middle of a step

    # ------------------------------------------------------------------------------------------- what a kind of run supplies

    @property
    @abstractmethod
    def settings(self) -> TrainingConfig:
        """The `run` section of the config."""

    @property
    @abstractmethod
    def total_agent_steps(self) -> int:
        """Steps to train for."""

    @property
    @abstractmethod
    def evaluate_every(self) -> int | None:
        """Agent steps between two periodic evaluations; None if there are no periodic evaluations."""

    @abstractmethod
    def describe(self) -> str:
        """A description of the model and its data or environment, for the first lines on stderr."""

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """The metadata of a checkpoint; together with the weights, it is enough to use the model."""

    @abstractmethod
    def measure(self, final: bool, stopped: Stop) -> R | None:
        """Evaluates the current weights; None if a signal came meanwhile."""

    @abstractmethod
    def report(self, result: R, final: bool) -> Report:
        """A result in the forms to log, write and compare."""

    def good_enough(self, result: R) -> bool:
        """Whether a periodic evaluation ends the run early."""
        return False

    def check_resume(self, saved: checkpoint.Checkpoint) -> None:
        """UsageError if the checkpoint is not of this kind of run."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs besides the weights; subclasses add to it."""
        counters = {
            "collected": self.collected,
            "moved": self.moved,
            "seconds": self.seconds,
            "best": self.best,
            "best_path": self.best_path.name if self.best_path else None,
        }
        return {"learner": self.learner.state_dict(), "loop": counters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores everything but the learner, which `restore` loads together with its weights."""
        counters = state["loop"]
        self.collected, self.moved = counters["collected"], counters["moved"]
        self.wall_before, self.best = counters["seconds"], counters["best"]
        self.best_path = self.run_dir / "checkpoints" / counters["best_path"] if counters["best_path"] else None

    # --------------------------------------------------------------------------------------------------------------- clock

    @property
    def agent_steps(self) -> int:
        """Agent steps so far, at most the total."""
        return min(self.collected, self.total_agent_steps)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds over all sessions."""
        return self.wall_before + time.monotonic() - self.started

    @property
    def finished(self) -> bool:
        """Whether the steps or the minutes are used up, or a callback has ended the training."""
        minutes = self.settings.minutes
        used_up = self.collected >= self.total_agent_steps or (minutes is not None and self.seconds >= minutes * 60)
        return used_up or self.ended_by_callback

    def stop(self, reason: str) -> None:
        """Ends the training as if its steps were used up, for callbacks. Does nothing if it is finished already."""
        if not self.finished:
            say(f"a callback ends the training at step {self.agent_steps:,}: {reason}")
            self.ended_by_callback = True

    def clock(self) -> Clock:
        """The current steps and seconds, for a row of the log."""
        steps = self.agent_steps
        return Clock(steps, steps * self.frames_per_step, self.learner.steps, round(self.seconds, 3))

    def status(self, more: dict[str, str] | None = None) -> Status:
        """The values for the progress display; `more` is shown after the rest."""
        return Status(
            agent_steps=self.agent_steps,
            total_agent_steps=self.total_agent_steps,
            env_frames=None,
            learner_steps=self.learner.steps,
            replay_fill=None,
            mean_return=None,
            seconds=self.seconds,
            minutes_limit=self.settings.minutes,
            more=more or {},
        )

    def show_evaluation(self, how_far: str) -> None:
        """Shows the progress of the current evaluation."""
        if self.progress is not None:
            self.progress.update(self.status({"evaluation": how_far}))

    # --------------------------------------------------------------------------------------------- log, evaluations, checkpoints

    def log_losses(self, metrics: dict[str, torch.Tensor], more: dict[str, float] | None = None) -> None:
        """Logs a row with losses, rates and `more`. RlsuiteError if a loss is not finite."""
        values = {name: float(value) for name, value in metrics.items()}
        self.learner.check(values)
        steps, seconds, updates = self.logged
        self.logged = self.agent_steps, self.seconds, self.learner.steps
        span = max(self.logged[1] - seconds, 1e-9)
        values["charts/SPS"] = (self.logged[0] - steps) / span
        values["charts/learner_SPS"] = (self.logged[2] - updates) / span
        values["charts/learning_rate"] = self.learner.learning_rate(self.agent_steps)
        values |= more or {}
        self.log.scalars(self.clock(), values)
        self.callbacks.metrics(self, values)

    def evaluate(self, stopped: Stop, final: bool = False) -> R | None:
        """Evaluates the current weights and logs the result; None if a signal came meanwhile."""
        result = self.measure(final, stopped)
        if result is not None:
            self.note_evaluation(result, self.clock(), final)
        return result

    def note_evaluation(
        self, result: R, clock: Clock, final: bool = False, weights: Callable[[], dict[str, torch.Tensor]] | None = None
    ) -> None:
        """Logs a result; if it is the best periodic one so far, saves the weights: `weights()`, or the learner's current ones."""
        report = self.report(result, final)
        self.log.scalars(clock, report.scalars | ({"eval/final": 1.0} if final else {}))
        if not final and report.score > self.best:
            self.best = report.score
            self.best_path = self.save(full=False, weights=weights and weights())
            write_evaluation(self.best_path, report.document)
        self.callbacks.evaluation(self, Evaluation(clock, report.score, report.scalars, final))

    def save(self, full: bool, weights: dict[str, torch.Tensor] | None = None) -> Path:
        """Writes a checkpoint, with `weights` or the learner's current ones: a `full` one to resume from, or one to evaluate."""
        if not full and weights is None and self.full_at == self.agent_steps:
            return self.run_dir / "checkpoints" / f"step_{self.agent_steps:012d}"  # the full one already has these weights
        with self.stopped.finishing():
            state = self.state_dict() if full else {}
            self.learner.check_weights()
            kept = self.learner.weights().tensors if weights is None else weights
            path = checkpoint.save(self.run_dir, self.agent_steps, kept, state, self.metadata(), with_arrays=full)
            if full:
                self.full_at = self.agent_steps
                self._tidy(path)
            self.log.flush()
        self.callbacks.checkpoint(self, path)
        return path

    def rescue(self, error: BaseException) -> str:
        """After `error`, saves the progress since the last checkpoint if it is sound; returns a sentence on how to continue."""
        unsound = isinstance(error, NotFiniteError | CheckpointError)
        failure = ""
        if not unsound and self.collected and self.full_at != self.agent_steps:
            try:
                self.save(full=True)
            except Exception as second:  # the first error is the one to report
                failure = f"no checkpoint of step {self.agent_steps:,} could be written ({one_line(second).split(';')[0]}); "
        if self.full_at < 0:
            return f"{failure}there is no checkpoint to continue from"
        return f"{failure}continue from step {self.full_at:,} with: {self.resume_command}"

    @property
    def resume_command(self) -> str:
        """The command that continues the run."""
        return command(*self.command, "train", "--resume", run_folder.whole(self.run_dir))

    def _tidy(self, newest: Path) -> None:
        """Prunes checkpoints; the gigabytes of replay stay in the newest only, since the others are kept for evaluation."""
        try:
            for older in checkpoint.list_complete(self.run_dir):
                if older != newest:
                    checkpoint.drop_arrays(older)
            keep = {newest} if self.best_path is None else {newest, self.best_path}
            checkpoint.prune(self.run_dir, self.settings.keep_checkpoints, keep)
        except CheckpointError as error:  # an old one is damaged; the new one is written, so training continues
            say(f"rlsuite: {error}")

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Continues from a checkpoint. CheckpointError if it does not fit the config."""
        try:
            self.learner.load(saved.weights, saved.state["learner"], str(saved.path))
            # Games and environments restore their state unchecked, so those of another user's run begin new episodes instead.
            self.load_state_dict(saved.state if saved.own else {**saved.state, "collector": {}})
            self.seconds + 0.0, self.collected + 0, self.moved + 0  # TypeError
        except (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise CheckpointError(
                f"{saved.path} does not fit this config: {reason}; change only run.*, eval.* and runtime.*"
            ) from error
        self.logged = self.agent_steps, self.seconds, self.learner.steps
        self.full_at = saved.agent_steps
        checkpoint.forget_after(self.run_dir, saved.agent_steps)


def run(session: Session[R], train: Train, resume: bool, stopped: Stop) -> R | None:
    """Creates or restores the run, trains it, saves it and evaluates it. Returns None if a signal came first.

    `stopped` fills when a signal arrives (see `signals`). An error during training is raised once everything possible is saved.
    """
    config, run_dir = session.config, session.run_dir
    session.stopped = stopped
    with run_folder.lock(run_dir):
        saved = checkpoint.load(checkpoint.find(run_dir, resumable=True)) if resume else None
        if saved is None:
            run_folder.create(config, run_dir)
        else:
            session.check_resume(saved)
            if session.total_agent_steps < saved.agent_steps:
                raise UsageError(
                    f"{session.steps_key} = {session.total_agent_steps}: {run_dir} is already trained to {saved.agent_steps} "
                    f"steps; raise {session.steps_key}"
                )
        settings, resume_at = session.settings, saved.agent_steps if saved else None
        own = saved is None or saved.own
        trackers = open_trackers(settings.trackers, run_dir, loader.as_mapping(config), resume_at, own)
        with closing(MetricLog(run_dir, resume_at, trackers)) as session.log:
            if saved is not None:
                before: Any = saved.metadata.get("config")
                before = before if isinstance(before, dict) else {}
                with naming_changes(saved.path, changes(before, loader.as_mapping(config))):
                    session.restore(saved)
                for line in _changes(session, before, loader.as_mapping(config)):
                    say(f"changed: {line}")
                trust.tell_changes(saved.metadata.get("files"), loader.as_mapping(config), run_dir)
                saved = None  # frees its copy of the replay, which takes gigabytes
                run_folder.write_config(config, run_dir)  # so that the next resume has the overrides of this one
            resumed = f", resumed at step {session.agent_steps:,}" if session.collected else ""
            say(f"{session.describe()}\nrun folder {run_dir}{resumed}")
            try:
                result = _train_and_evaluate(session, train, stopped)
            except BaseException:
                session.callbacks.end(session, "failed")
                raise
            session.log.outcome = "interrupted" if result is None else "finished"
            session.callbacks.end(session, session.log.outcome)
            return result


def _changes(session: Session[Any], before: Any, after: Any) -> list[str]:
    """Lines on what a resume changes: settings, and a learning-rate schedule that changes implicitly."""
    found = changes(before, after)
    lines = [f"{key} {old} -> {new}" for key, (old, new) in found.items()]
    end = after["learner"]["learning_rate_end"] if "learner" in after else None
    if session.steps_key in found and end is not None and after["learner"]["learning_rate_anneal_agent_steps"] is None:
        old, new = found[session.steps_key]
        lines.append(
            f"the learning rate reaches {end:g} at step {new:,}, not {old:,} as before: "
            f"learner.learning_rate_anneal_agent_steps={old} keeps its schedule"
        )
    return lines


def _train_and_evaluate(session: Session[R], train: Train, stopped: Stop) -> R | None:
    progress = session.progress = Progress()
    try:
        session.callbacks.start(session)
        session.callbacks.check()
        interrupted = train(progress, stopped)
        progress.close(session.status())
        path = session.save(full=True)
        session.callbacks.check()
        result = None if interrupted else _evaluate_at_the_end(session, stopped)
        report = None if result is None else session.report(result, final=True)
        if report is not None:
            write_evaluation(path, report.document)
        session.callbacks.check()
    except BaseException as error:  # also a program that calls sys.exit
        progress.close()
        say(f"rlsuite: stopped at step {session.agent_steps:,} by {_cause(error)}; {session.rescue(error)}")
        raise
    if report is not None and report.warning is not None:
        say(f"rlsuite: {report.warning}")
    if not interrupted and session.learner.steps == 0:
        say(f"rlsuite: nothing was learned: no learner step in {session.agent_steps:,} agent steps")
    return result


def _evaluate_at_the_end(session: Session[R], stopped: Stop) -> R | None:
    """The final evaluation. It may take minutes, so its progress is shown from the start."""
    say("final evaluation")
    session.progress = Progress(plain_seconds=10.0)
    try:
        return session.evaluate(stopped, final=True)
    finally:
        session.progress.close()


def _cause(error: BaseException) -> str:
    return "a second signal" if isinstance(error, KeyboardInterrupt) else "an error"


def take_turns(
    session: Session[Any],
    collect: Callable[[], None],
    learn: Callable[[], dict[str, torch.Tensor] | None],
    progress: Progress,
    stopped: Stop,
) -> bool:
    """The training loop of a single process: learns and collects in turn until the run is finished; True if a signal came first.

    `collect` advances the clock: it sets `session.moved` and `session.collected`. `learn` learns from what has been collected, if
    that is enough, and returns the metrics of its last update.
    """
    settings, every = session.settings, session.evaluate_every
    next_log = time.monotonic()
    next_checkpoint = next_log + settings.checkpoint_minutes * 60
    while True:
        with session.stopped.finishing():
            metrics = learn()
        if metrics and time.monotonic() >= next_log:
            session.log_losses(metrics)
            next_log = time.monotonic() + settings.log_seconds
        session.callbacks.check()
        if stopped:
            return True
        if session.finished:
            return False
        if time.monotonic() >= next_checkpoint:
            session.save(full=True)
            next_checkpoint = time.monotonic() + settings.checkpoint_minutes * 60
        if every and session.collected // every > (session.collected - session.moved) // every:
            result = session.evaluate(stopped)
            if result is None:
                return True
            if session.good_enough(result) or session.finished:
                return False
        session.collecting = True
        collect()
        session.collecting = False
        progress.update(session.status())
