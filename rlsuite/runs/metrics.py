"""What a run writes while it trains: `metrics.jsonl`, one JSON object a line, and the same scalars for TensorBoard.

A row holds the clock (agent_steps, env_frames, learner_steps, wall_seconds), then tag -> number, with tags such as
"charts/episodic_return", "losses/loss", "eval/episodic_return". A number that is not finite is null there, since JSON
has no other word for it.
"""

import json
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rlsuite.core.errors import RlsuiteError, UsageError

FILE = "metrics.jsonl"


class Clock(NamedTuple):
    """How far a run has come, counted over all its sessions."""

    agent_steps: int
    env_frames: int
    learner_steps: int
    wall_seconds: float


class MetricLog:
    """Appends rows to `<run>/metrics.jsonl` and scalars (step axis: agent_steps) to TensorBoard events beside it.

    `resume_at=N` first drops what a previous session logged after the checkpoint at agent step N, in both. Every row is
    with the operating system when `scalars` returns, so a kill -9 loses none; `flush` brings it to the disk.
    A write that fails raises RlsuiteError.
    """

    def __init__(self, run_dir: Path, resume_at: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

        self._path = run_dir / FILE
        with _writing(self._path):
            run_dir.mkdir(parents=True, exist_ok=True)
            # Without resume_at too: a row appended to a torn line would make both unreadable.
            if self._path.exists():
                _keep_until(self._path, math.inf if resume_at is None else resume_at)
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 (closed in close)
        with _writing(run_dir):
            purge_step = None if resume_at is None else resume_at + 1
            self._board = SummaryWriter(str(run_dir), purge_step=purge_step)

    def scalars(self, clock: Clock, values: Mapping[str, float]) -> None:
        """One row. Raises ValueError if a tag bears the name of a clock field."""
        if clash := values.keys() & set(Clock._fields):
            raise ValueError(f"tags must not be called {', '.join(sorted(clash))}: those are the clock's")
        numbers = {tag: float(value) for tag, value in values.items()}
        row = clock._asdict() | {tag: number if math.isfinite(number) else None for tag, number in numbers.items()}
        with _writing(self._path):
            self._append(json.dumps(row, allow_nan=False).encode() + b"\n")
        with _writing(self._path.parent):
            for tag, number in numbers.items():
                self._board.add_scalar(tag, number, clock.agent_steps)

    def flush(self) -> None:
        """Bring everything logged so far to the disk."""
        with _writing(self._path):
            os.fsync(self._file.fileno())
        with _writing(self._path.parent):
            self._board.flush()

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        self._file.close()
        with _writing(self._path.parent):
            self._board.close()

    def _append(self, line: bytes) -> None:
        end = os.fstat(self._file.fileno()).st_size
        rest = memoryview(line)
        try:
            while rest:  # a disk that fills up first takes a part of the line, and refuses the next part
                rest = rest[self._file.write(rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), end)
            raise


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of a run, in the order they were written; a last line torn by a kill is left out.

    Raises UsageError if the folder is no run, RlsuiteError if a line before the last cannot be read.
    """
    path = run_dir / FILE
    if not path.is_file():
        what = "is no run (it holds no metrics.jsonl)" if run_dir.is_dir() else "does not exist"
        raise UsageError(f"{run_dir} {what}; give the folder of a run, such as runs/<name>")
    return [row for _, row in _parse(path)]


class RollingMean:
    """Mean of the last `window` values."""

    def __init__(self, window: int = 100) -> None:
        self._values: deque[float] = deque(maxlen=window)

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: float) -> None:
        self._values.append(float(value))

    @property
    def mean(self) -> float:
        """NaN while there are no values."""
        # Summed anew: a running sum would drift, and differ in the last bits after a resume.
        return math.fsum(self._values) / len(self._values) if self._values else math.nan

    def state_dict(self) -> dict[str, list[float]]:
        return {"values": list(self._values)}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self._values.clear()
        self._values.extend(float(value) for value in state["values"])


def _parse(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Lines and their rows. What follows the last newline is nothing, or a torn line."""
    lines = path.read_bytes().split(b"\n")
    parsed = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            Clock(*(row[field] + 0 for field in Clock._fields))
        except (ValueError, TypeError, KeyError):
            if number < len(lines):
                raise RlsuiteError(f"{path} is damaged: line {number} is not a row of metrics; remove it") from None
        else:
            parsed.append((line, row))
    return parsed


def _keep_until(path: Path, agent_steps: float) -> None:
    """Rewrite the file without later rows, so that a kill at any moment leaves the old file or the new one."""
    kept = [line + b"\n" for line, row in _parse(path) if row["agent_steps"] <= agent_steps]
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RlsuiteError(f"could not write {path}: {reason}; put that right, then resume the run") from error
