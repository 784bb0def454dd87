"""Shows a study's progress on stderr: a live table on a terminal; elsewhere a line for each trial that ends, and one a minute."""

import math
import sys
import time
from contextlib import suppress
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlsuite.core.console import say
from rlsuite.runs.progress import duration
from rlsuite.studies.scheduler import Job, Scheduler

_PLAIN_SECONDS = 60.0


class StudyTable:
    """The progress display of a study. Call it with the scheduler as often as you like."""

    def __init__(self, total: int, out: TextIO | None = None) -> None:
        """`total`: number of trials in the study. `out`: None for the current `sys.stderr`."""
        self._total, self._out = total, out or sys.stderr
        self._seen = 0  # number of ended trials that were reported
        self._last_line = time.monotonic()
        self._live: Live | None = None
        if self._out.isatty():
            self._live = Live(console=Console(file=self._out), refresh_per_second=2, transient=True)
            self._live.start()

    def __call__(self, scheduler: Scheduler) -> None:
        for number, job in enumerate(scheduler.ended[self._seen :], self._seen + 1):
            line = f"[{number}/{self._total}] {job.trial.name} {_outcome(job)}"
            if self._live is not None:
                self._live.console.print(line, markup=False, highlight=False)
            else:
                say(line, self._out)
        self._seen = len(scheduler.ended)
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._table(scheduler))
        elif now - self._last_line >= _PLAIN_SECONDS:
            self._last_line = now
            rows = "; ".join("  ".join(_row(job)) for job in scheduler.running)
            say(f"{self._summary(scheduler)}  {rows}", self._out)

    def close(self) -> None:
        """Ends the live table."""
        if self._live is not None:
            with suppress(OSError):  # the terminal is closed
                self._live.stop()

    def _summary(self, scheduler: Scheduler) -> str:
        counts = {state: sum(job.state == state for job in scheduler.ended) for state in ("finished", "pruned", "failed")}
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        rate = sum(job.follower.rate or 0.0 for job in scheduler.running)
        done = [job.total_agent_steps for job in scheduler.ended] + [job.total_agent_steps for job in scheduler.running]
        typical = sum(done) / len(done) if done else math.nan
        left = sum(max(job.total_agent_steps - job.follower.agent_steps, 0) for job in scheduler.running)
        left += round(typical * max(self._total - len(done), 0)) if done else 0
        time_left = duration(left / rate if rate else math.nan)
        running = f"{len(scheduler.running)} running"
        return f"{', '.join(filter(None, [told, running]))} of {self._total} trials  {rate:,.0f} steps/s  left {time_left}"

    def _table(self, scheduler: Scheduler) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("trial", "steps", "steps/s", "return", "left"):
            table.add_column(name, justify="left" if name == "trial" else "right", no_wrap=True)
        for job in scheduler.running:
            table.add_row(*map(Text, _row(job)))
        return Group(table, Text(self._summary(scheduler)))


def _outcome(job: Job) -> str:
    if job.state == "finished":
        return f"{'was finished' if job.skipped else 'finished'}: {job.score:,.2f}"
    return f"failed: {job.error}" if job.state == "failed" else job.state


def _row(job: Job) -> list[str]:
    follower = job.follower
    rate, last = follower.rate, follower.last_return
    left = math.nan if not rate else (job.total_agent_steps - follower.agent_steps) / rate
    return [
        job.trial.name,
        f"{follower.agent_steps:,}/{job.total_agent_steps:,}",
        "-" if rate is None else f"{rate:,.0f}",
        "-" if last is None else f"{last:,.2f}",
        duration(left),
    ]
