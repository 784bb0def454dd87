"""Creates the trackers named in `run.trackers`, and keeps what later sessions of the run need to know about them.

    trackers.json   {"wandb(project=atari)": {"run_id": "3f9c", "sent": {"losses/loss": 1900}}}

A resumed run continues the tracker's own run, whose id is kept in the run folder under the tracker's spec. Trackers cannot delete
rows. So rows from after the checkpoint stay in the tracker, and the resumed run sends only later ones (`sent`: the last agent step
of each tag): the tracker has every step once, while `metrics.jsonl` has the rows that led to the current weights. Rows that a
tracker has missed are sent again from `metrics.jsonl`.
"""

import importlib.util
import json
import math
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rlsuite.config.spec_string import check_keywords, parse_call
from rlsuite.core import registry
from rlsuite.core.console import say
from rlsuite.core.errors import UsageError
from rlsuite.core.files import atomic_write, parse_json, reading
from rlsuite.runs import metrics
from rlsuite.runs.config_changes import flat
from rlsuite.runs.metrics import Clock, Row, TrackedRun, Tracker, read_metrics
from rlsuite.runs.trackers import TRACKERS
from rlsuite.runs.trackers.background import Background

FILE = "trackers.json"


def check_trackers(specs: Sequence[str]) -> None:
    """UsageError if a tracker or one of its parameters does not exist, or if its package is missing."""
    for number, spec in enumerate(specs):
        name, make, parameters = _parsed(spec)
        if spec in specs[:number]:
            raise UsageError(f"run.trackers names {spec} twice")
        if name in TRACKERS and not _installed(name):
            raise UsageError(f"run.trackers: {name} is not installed: pip install 'rlsuite[{name}]'")
        check_keywords(f"tracker {name}", make, parameters, skip=1)


def open_trackers(
    specs: Sequence[str], run_dir: Path, config: Mapping[str, Any], resume_at: int | None = None, own: bool = True
) -> list[Tracker]:
    """The trackers of a run that is new, or resumes at agent step `resume_at`. They connect at the first row.

    Call this before a `MetricLog` drops rows. `own`: whether the run is this user's; tracker runs of other users are not continued.
    """
    memory = _Memory(run_dir, _remembered(run_dir) if resume_at is not None and own else {})
    name, settings = run_dir.resolve().name, flat(config)

    def make(spec: str, last_step: int) -> Tracker:
        _, kind, parameters = _parsed(spec)
        run_id = memory.known[spec].run_id if spec in memory.known else None
        run = TrackedRun(run_dir, name, settings, run_id, last_step, partial(memory.keep, spec))
        return kind(run, **parameters)  # type: ignore[no-any-return]

    rows = _rows_until(run_dir, resume_at) if specs and resume_at is not None else []
    trackers: list[Tracker] = []
    for spec in specs:
        sent = memory.known[spec].sent if spec in memory.known else {}
        tracker = Background(spec, partial(make, spec, max(sent.values(), default=-1)), sent, partial(memory.note, spec))
        tracker.write(rows)
        trackers.append(tracker)
    return trackers


class _Known(NamedTuple):
    """What a tracker already has of the run."""

    run_id: str | None
    sent: dict[str, int]  # tag -> the last agent step that the tracker has


class _Memory:
    """The file `trackers.json` of a run, which trackers update from their own threads."""

    def __init__(self, run_dir: Path, known: dict[str, _Known]):
        """`known`: by spec."""
        self.known, self._path, self._lock = known, run_dir / FILE, threading.Lock()
        if self._path.exists():
            self._write()

    def keep(self, spec: str, run_id: str) -> None:
        """Saves the tracker's id of the run."""
        with self._lock:
            self.known[spec] = _Known(run_id, self.known[spec].sent if spec in self.known else {})
            self._write()

    def note(self, spec: str, sent: dict[str, int]) -> None:
        """Saves the last agent step that the tracker has of each tag."""
        with self._lock:
            self.known[spec] = _Known(self.known[spec].run_id if spec in self.known else None, sent)
            self._write()

    def _write(self) -> None:
        document = {spec: one._asdict() for spec, one in self.known.items()}
        atomic_write(self._path, json.dumps(document, indent=1) + "\n", ", then resume the run")


def _remembered(run_dir: Path) -> dict[str, _Known]:
    """The trackers that earlier sessions have saved, by spec."""
    path = run_dir / FILE
    if not path.exists():
        return {}
    with reading(path):
        data = path.read_bytes()
    try:
        known = {spec: _Known(one["run_id"], {**one["sent"]}) for spec, one in parse_json(data).items()}
        steps = [step for one in known.values() for step in one.sent.values()]
        if all(isinstance(one.run_id, str | None) for one in known.values()) and all(isinstance(step, int) for step in steps):
            return known
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    say(f"rlsuite: {path} is damaged: trackers begin new runs")
    return {}


def _rows_until(run_dir: Path, agent_steps: int) -> list[Row]:
    """The rows of `metrics.jsonl` up to a checkpoint."""
    found = []
    for row in read_metrics(run_dir) if (run_dir / metrics.FILE).exists() else ():
        if row["agent_steps"] <= agent_steps:
            clock = Clock(*(row.pop(field) for field in Clock._fields))
            found.append(Row(clock, {tag: math.nan if value is None else float(value) for tag, value in row.items()}))
    return found


def _parsed(spec: str) -> tuple[str, Any, dict[str, Any]]:
    """The name, the class and the parameters of a tracker."""
    name, parameters = parse_call("tracker", spec)
    return name, registry.trackers.get(name), parameters


def _installed(package: str) -> bool:
    """Whether a package is installed. A plain folder of its name does not count: W&B makes `wandb/` wherever it runs."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None
