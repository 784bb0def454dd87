"""Runs the trials of a study in parallel, and retries those that fail.

The folders are the only state: a finished trial has its final evaluation, an interrupted one its checkpoints. So a study can be
killed at any moment, and the same command continues it.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rlsuite.config import loader
from rlsuite.core.errors import RlsuiteError, UsageError, one_line
from rlsuite.core.files import writing
from rlsuite.runs import checkpoint, run_folder
from rlsuite.runtime.signals import Stop
from rlsuite.studies import results
from rlsuite.studies.follow import Follower
from rlsuite.studies.study import Trial, refuse_changed
from rlsuite.studies.workers import Worker, Workers

_POLL_SECONDS = 0.2


@dataclass(eq=False)
class Job:
    """A trial and its progress."""

    trial: Trial
    folder: Path  # its run folder
    log: Path
    total_agent_steps: int
    state: str = "waiting"  # waiting, running, finished, failed, pruned
    skipped: bool = False  # whether an earlier sweep had finished it
    attempts: int = 0
    error: str | None = None  # error of its first failed attempt
    score: float | None = None  # mean of the final evaluation
    worker: Worker | None = None
    follower: Follower = field(init=False)

    def __post_init__(self) -> None:
        self.follower = Follower(self.folder)


class Source(Protocol):
    """A source of jobs: a list, or a search."""

    def next(self) -> Job | None:
        """The next job to run; None if there is none now."""

    def evaluated(self, job: Job) -> list[Job]:
        """Called after new periodic evaluations of a running job; returns the jobs to stop early."""

    def ended(self, job: Job) -> None:
        """Called when a job is finished or has failed for good."""


class Grid:
    """The jobs of a study without search, in order."""

    def __init__(self, jobs: list[Job]) -> None:
        self._left = list(reversed(jobs))

    def next(self) -> Job | None:
        return self._left.pop() if self._left else None

    def evaluated(self, job: Job) -> list[Job]:
        return []

    def ended(self, job: Job) -> None:
        pass


def job_of(trial: Trial, study_dir: Path) -> Job:
    """The job of a trial, with its run folder in the study's folder."""
    steps = trial.resolve().run.agent_steps
    return Job(trial, study_dir / "trials" / trial.name, study_dir / "logs" / f"{trial.name}.log", steps)


class Scheduler:
    """Runs the jobs of a source, `slots` at a time, with at most `attempts` attempts each."""

    def __init__(self, source: Source, workers: Workers, slots: int, attempts: int, show: Callable[["Scheduler"], None]) -> None:
        """`show` is called a few times a second, and after each job that has ended."""
        self._source, self._workers, self._slots, self._attempts, self._show = source, workers, slots, attempts, show
        self.running: list[Job] = []
        self.ended: list[Job] = []
        self._stopping = False
        self._again: list[Job] = []  # jobs to retry, or whose folder another process is still using

    def run(self, stopped: Stop) -> None:
        """Runs until there are no more jobs or, after a signal, until the running ones have written their checkpoints."""
        while True:
            for job in list(self.running):
                self._look_at(job)
            if stopped:
                self._stopping = True
                for job in self.running:
                    self._stop(job)
            else:
                self._fill()
            if not self.running and (stopped or not self._again):
                return
            self._show(self)
            time.sleep(_POLL_SECONDS)

    def _fill(self) -> None:
        busy = []
        while len(self.running) < self._slots:
            job = self._again.pop(0) if self._again else self._source.next()
            if job is None:
                break
            if _in_use(job.folder):
                busy.append(job)
            else:
                self._begin(job)
        self._again += busy

    def _begin(self, job: Job) -> None:
        try:
            refuse_changed(job.trial, job.folder)
            if self._is_finished(job):
                job.skipped = job.attempts == 0
                self._end(job, "finished")
                return
            arguments = _arguments(job)
        except RlsuiteError as error:  # another attempt would not help
            job.error = one_line(error)
            self._end(job, "failed")
            return
        job.attempts += 1
        job.state = "running"
        job.worker = self._workers.start(arguments, job.log)
        self.running.append(job)

    def _look_at(self, job: Job) -> None:
        assert job.worker is not None
        code = job.worker.poll()
        if job.follower.look() and job.state == "running":
            for one in self._source.evaluated(job):
                one.state = "pruned"
                self._stop(one)
        if code is None:
            return
        self.running.remove(job)
        job.worker = None
        if job.state == "pruned":
            self._end(job, "pruned")
            return
        if self._stopping and code != 0:
            job.state = "waiting"
            return
        try:
            if code == 0 and self._is_finished(job):
                for path in checkpoint.list_complete(job.folder):
                    checkpoint.drop_arrays(path)  # a replay may take a gigabyte, and a finished trial is never resumed
                self._end(job, "finished")
                return
            error = f"killed by signal {-code}" if code < 0 else _last_error(job.log) or f"exit code {code}"
        except RlsuiteError as damaged:
            error = one_line(damaged)
        job.error = job.error or error
        job.state = "waiting"
        if job.attempts < self._attempts:
            self._again.append(job)
        else:
            self._end(job, "failed")

    def _is_finished(self, job: Job) -> bool:
        evaluation = results.final_evaluation(job.folder, int(job.trial.overrides["seed"]))
        job.score = None if evaluation is None else float(evaluation["mean"])
        return evaluation is not None

    def _end(self, job: Job, state: str) -> None:
        job.state = state
        self.ended.append(job)
        if state != "pruned":
            self._source.ended(job)
        self._show(self)

    def _stop(self, job: Job) -> None:
        if job.worker is not None:
            job.worker.stop()


def _arguments(job: Job) -> list[str]:
    """The arguments of the command that starts or continues a trial. RlsuiteError if its folder is damaged."""
    if job.folder.is_dir():
        if checkpoint.list_complete(job.folder):
            try:
                checkpoint.find(job.folder, resumable=True)
            except UsageError:  # it was killed after an evaluation, before its first checkpoint
                pass
            else:
                return ["train", "--resume", str(job.folder)]
        with writing(job.folder, action="delete"):
            shutil.rmtree(job.folder)
    overrides = [f"{key}={loader.literal(value)}" for key, value in job.trial.overrides.items()]
    return ["train", job.trial.config, *overrides, "--run-dir", str(job.folder)]


def _in_use(folder: Path) -> bool:
    """Whether a process is training in the folder, for example one of a sweep that was killed a moment ago."""
    if not folder.is_dir():
        return False
    try:
        with run_folder.lock(folder):
            return False
    except UsageError:
        return True


def _last_error(log: Path) -> str | None:
    """The last line that is not empty in the log of a process; None if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.strip().removeprefix("rlsuite: ") for line in reversed(lines) if line.strip()), None)
