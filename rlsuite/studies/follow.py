"""Reads the log of a run while another process writes it."""

import os
from collections import deque
from pathlib import Path
from typing import Any

from rlsuite.core.files import parse_json
from rlsuite.runs import metrics
from rlsuite.studies.results import periodic_evaluations

_RATE_ROWS = 20  # rows that the rate is measured over


class Follower:
    """Follows a run in its log: its steps, its rate, and its periodic evaluations so far."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / metrics.FILE
        self._file = (0, 0)  # inode and offset: a resumed run replaces its log
        self._past: deque[tuple[int, float]] = deque(maxlen=_RATE_ROWS)  # agent steps and seconds
        self.agent_steps = 0
        self.last_return: float | None = None
        self.evaluations: list[tuple[int, float]] = []

    @property
    def rate(self) -> float | None:
        """Agent steps per second over the last rows; None while unknown."""
        if len(self._past) < 2 or self._past[-1][1] <= self._past[0][1]:
            return None
        return (self._past[-1][0] - self._past[0][0]) / (self._past[-1][1] - self._past[0][1])

    def look(self) -> bool:
        """Reads new rows; True if there is a periodic evaluation among them."""
        rows = self._new_rows()
        for row in rows:
            self.agent_steps = row["agent_steps"]
            self._past.append((row["agent_steps"], row["wall_seconds"]))
            self.last_return = row.get("charts/episodic_return", self.last_return)
        found = periodic_evaluations(rows)
        self.evaluations += found
        return bool(found)

    def _new_rows(self) -> list[dict[str, Any]]:
        try:
            with open(self._path, "rb") as file:
                status = os.fstat(file.fileno())
                inode, offset = self._file
                if inode != status.st_ino or status.st_size < offset:
                    offset = 0
                    self.evaluations.clear()
                    self._past.clear()
                file.seek(offset)
                whole, newline, _ = file.read().rpartition(b"\n")
                self._file = status.st_ino, offset + len(whole) + len(newline)
        except OSError:
            return []
        rows = []
        for line in whole.splitlines():
            try:
                row = parse_json(line)
                metrics.Clock(*(row[name] + 0 for name in metrics.Clock._fields))
            except (ValueError, TypeError, KeyError):
                continue  # `read_metrics` says so when the run is read
            rows.append(row)
        return rows
