"""Metrics of a run: rows for `metrics.jsonl`, TensorBoard and other trackers, and the results of evaluations beside checkpoints.

    {"agent_steps": 400, "env_frames": 1600, "learner_steps": 20, "wall_seconds": 3.1, "losses/loss": 0.25}

A row of `metrics.jsonl` is a JSON object with the clock and then tag -> number, with tags such as "charts/episodic_return",
"losses/loss" and "eval/episodic_return". The row of the final evaluation also has "eval/final". A number that is not finite is
null, since JSON cannot express it.
"""

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.files import atomic_write, parse_json, reading, writing
from rlsuite.runs.pretrained_agents import absent

FILE = "metrics.jsonl"
_THEN = ", then resume the run"


class Clock(NamedTuple):
    """The progress of a run, summed over all its sessions."""

    agent_steps: int
    env_frames: int
    learner_steps: int
    wall_seconds: float


class Row(NamedTuple):
    """The values that a run logs at one moment."""

    clock: Clock
    values: dict[str, float]  # tag -> number


Outcome = Literal["finished", "interrupted", "failed"]  # how a run ends: by itself, by a signal, by an error


class TrackedRun(NamedTuple):
    """Facts about a run for its trackers: the first argument that a tracker is created with."""

    run_dir: Path
    name: str
    config: dict[str, Any]  # dotted key -> value
    run_id: str | None  # the tracker's id of the run to continue, if an earlier session has kept one
    last_step: int  # the largest agent step that the tracker may already have; -1 for none
    keep: Callable[[str], None]  # keeps the tracker's id in the run folder for later sessions


class Tracker(Protocol):
    """A destination for rows of metrics. The step axis is `clock.agent_steps`; it may go back slightly (evaluations on Ray)."""

    def write(self, rows: Sequence[Row]) -> None:
        """Logs the next rows."""

    def flush(self) -> None:
        """Called with every checkpoint."""

    def close(self, outcome: Outcome) -> None:
        """Called at the end of the session: the run has ended, or will be continued later in another process."""


class JsonLines:
    """The tracker that appends rows to `<run>/metrics.jsonl`.

    Every row has reached the operating system when `write` returns, so a kill -9 loses none. `flush` syncs to disk.
    """

    def __init__(self, run_dir: Path, resume_at: int | None) -> None:
        """See `MetricLog`."""
        self._path = run_dir / FILE
        with writing(self._path, _THEN):
            run_dir.mkdir(parents=True, exist_ok=True)
            # Without resume_at too: a row appended to a torn line would make both unreadable.
            if self._path.exists():
                _keep_until(self._path, math.inf if resume_at is None else resume_at)
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 (closed in close)

    def write(self, rows: Sequence[Row]) -> None:
        """Appends a line for each row."""
        for clock, values in rows:
            line = clock._asdict() | {tag: number if math.isfinite(number) else None for tag, number in values.items()}
            with writing(self._path, _THEN):
                self._append(json.dumps(line, allow_nan=False).encode() + b"\n")

    def flush(self) -> None:
        """Syncs to disk."""
        with writing(self._path, _THEN):
            os.fsync(self._file.fileno())

    def close(self, outcome: Outcome) -> None:
        """Closes the file."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        end = os.fstat(self._file.fileno()).st_size
        rest = memoryview(line)
        try:
            while rest:  # a disk that fills up takes part of a line, then refuses the rest
                rest = rest[self._file.write(rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), end)
            raise


class TensorBoard:
    """The tracker that writes TensorBoard's event files into the run folder."""

    def __init__(self, run_dir: Path, resume_at: int | None) -> None:
        """See `MetricLog`."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

        self._folder = run_dir
        # TensorBoard reads a folder's files in the order of their names, which begin with the second they were made in.
        while any(path.name.split(".")[3] == f"{int(time.time()):010}" for path in run_dir.glob("events.out.tfevents.*")):
            time.sleep(0.05)
        with writing(run_dir, _THEN):
            self._board = SummaryWriter(str(run_dir), purge_step=None if resume_at is None else resume_at + 1)

    def write(self, rows: Sequence[Row]) -> None:
        """Adds a scalar for each value."""
        with writing(self._folder, _THEN):
            for clock, values in rows:
                for tag, number in values.items():
                    self._board.add_scalar(tag, number, clock.agent_steps)

    def picture(self, clock: Clock, tag: str, picture: NDArray[np.uint8]) -> None:
        """Adds a picture [H,W,3]."""
        with writing(self._folder, _THEN):
            self._board.add_image(tag, picture, clock.agent_steps, dataformats="HWC")

    def flush(self) -> None:
        """Writes what is buffered."""
        with writing(self._folder, _THEN):
            self._board.flush()

    def close(self, outcome: Outcome) -> None:
        """Flushes and closes."""
        with writing(self._folder, _THEN):
            self._board.close()


class MetricLog:
    """Writes every row of a run to `metrics.jsonl`, to TensorBoard, and to the trackers that the config names.

    `resume_at=N` first drops the rows that an earlier session logged after the checkpoint at agent step N, from `metrics.jsonl` and
    TensorBoard. RlsuiteError if a write fails; `trackers` handle their own failures.
    """

    outcome: Outcome = "failed"  # passed to the trackers at the end; the session sets it

    def __init__(self, run_dir: Path, resume_at: int | None = None, trackers: Sequence[Tracker] = ()) -> None:
        self._board = TensorBoard(run_dir, resume_at)
        self._trackers: list[Tracker] = [JsonLines(run_dir, resume_at), self._board, *trackers]

    def scalars(self, clock: Clock, values: Mapping[str, float]) -> None:
        """Logs one row. ValueError if a tag has the name of a clock field."""
        if clash := values.keys() & set(Clock._fields):
            raise ValueError(f"tags must not be named {', '.join(sorted(clash))}: those are fields of the clock")
        row = Row(clock, {tag: float(value) for tag, value in values.items()})
        for tracker in self._trackers:
            tracker.write([row])

    def picture(self, clock: Clock, tag: str, picture: NDArray[np.uint8]) -> None:
        """Adds a picture [H,W,3] to TensorBoard; other trackers take rows only."""
        self._board.picture(clock, tag, picture)

    def flush(self) -> None:
        """Syncs everything logged so far to disk."""
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        """Flushes and closes; a second call does nothing."""
        while self._trackers:
            self._trackers.pop().close(self.outcome)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of a run in the order they were written, without a last line that a kill cut short.

    UsageError if the folder is not a run, RlsuiteError if a line before the last one is damaged.
    """
    path = run_dir / FILE
    if not path.is_file():
        what = "is not a run (no metrics.jsonl in it)" if run_dir.is_dir() else absent(run_dir)
        raise UsageError(f"{run_dir} {what}; give the folder of a run, such as runs/<name>")
    return [row for _, row in _parse(path)]


def write_evaluation(checkpoint: Path, evaluation: Mapping[str, Any]) -> None:
    """Writes `<checkpoint>.evaluation.json` beside the checkpoint folder, which itself never changes."""
    target = checkpoint.with_name(checkpoint.name.lstrip(".") + ".evaluation.json")
    atomic_write(target, json.dumps(evaluation, indent=1) + "\n")


class RollingMean:
    """The mean of the last `window` values."""

    def __init__(self, window: int = 100) -> None:
        self._values: deque[float] = deque(maxlen=window)

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: float) -> None:
        self._values.append(float(value))

    @property
    def mean(self) -> float:
        """NaN while there are no values."""
        # Summed from scratch: a running sum would drift, and differ in its last bits after a resume.
        return math.fsum(self._values) / len(self._values) if self._values else math.nan

    def state_dict(self) -> dict[str, list[float]]:
        return {"values": list(self._values)}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self._values.clear()
        self._values.extend(float(value) for value in state["values"])


def _parse(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines of the file, each with its row, without a last line that was cut short."""
    with reading(path):
        lines = path.read_bytes().split(b"\n")
    parsed = []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line)
            Clock(*(row[field] + 0 for field in Clock._fields))
        except (ValueError, TypeError, KeyError):
            if number < len(lines):
                raise RlsuiteError(f"{path} is damaged: line {number} is not a row of metrics; remove it") from None
        else:
            parsed.append((line, row))
    return parsed


def _keep_until(path: Path, agent_steps: float) -> None:
    """Rewrites the file without rows later than `agent_steps`."""
    kept = [line + b"\n" for line, row in _parse(path) if row["agent_steps"] <= agent_steps]
    atomic_write(path, b"".join(kept), _THEN)
