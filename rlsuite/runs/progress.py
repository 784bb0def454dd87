"""Progress of a run on stderr: a live table on a terminal, one plain line a minute elsewhere."""

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlsuite.core.console import say


class Status(NamedTuple):
    """The values shown for a run at one moment. None leaves a value out."""

    agent_steps: int
    total_agent_steps: int
    env_frames: int | None
    learner_steps: int
    replay_fill: float | None  # share of the capacity
    mean_return: float | None  # unclipped, over the last 100 episodes; nan before the first
    seconds: float  # wall-clock time of all sessions
    minutes_limit: float | None
    more: Mapping[str, str] = MappingProxyType({})  # name -> value, shown after the others


class Progress:
    """Shows a run's `Status`. Rates are over the last 30 seconds, so they and the time left follow the current speed."""

    def __init__(self, out: TextIO | None = None, plain_seconds: float = 60.0):
        """`out`: None for the current `sys.stderr`."""
        out = out or sys.stderr
        self._out, self._plain_seconds = out, plain_seconds
        self._live: Live | None = None
        if out.isatty():
            self._live = Live(console=Console(file=out), refresh_per_second=4, transient=True)
            self._live.start()
        self._last_line = -float("inf")
        self._past: list[tuple[float, int, int]] = []  # (time, agent steps, learner steps)
        self._next = 0.0

    def update(self, status: Status) -> None:
        """Shows a new status. Call it as often as you like: it refreshes at most twice a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 0.5
        self._past = [past for past in self._past if now - past[0] < 30.0] or self._past[-1:]
        self._past.append((now, status.agent_steps, status.learner_steps))
        if self._live is not None:
            self._live.update(_table(self._facts(status), self._live.console.width))
        elif now - self._last_line >= self._plain_seconds:
            if self._last_line > 0 or len(self._past) > 1:
                self._line(status)
            self._last_line = now

    def _line(self, status: Status) -> None:
        say("  ".join(f"{name} {value}" for name, value in self._facts(status).items()), self._out)

    def close(self, status: Status | None = None) -> None:
        """Ends the live table; prints a last line if there is a `status`."""
        if self._live is not None:
            with suppress(OSError):  # the terminal is closed
                self._live.stop()
            self._live = None
        if status is not None:
            self._line(status)

    def _facts(self, s: Status) -> dict[str, str]:
        then, agent, learner = self._past[0] if self._past else (0.0, s.agent_steps, s.learner_steps)
        span = self._past[-1][0] - then if self._past else 0.0
        known = span >= 0.4  # anything shorter is too noisy for a rate
        rate, learner_rate = ((s.agent_steps - agent) / span, (s.learner_steps - learner) / span) if known else (0.0, 0.0)
        left = (s.total_agent_steps - s.agent_steps) / rate if rate > 0 else float("nan")
        if s.minutes_limit is not None:
            left = min(left, s.minutes_limit * 60 - s.seconds) if left == left else s.minutes_limit * 60 - s.seconds
        return {
            "steps": f"{s.agent_steps:,}/{s.total_agent_steps:,}",
            **({} if s.env_frames is None else {"frames": f"{s.env_frames:,}"}),
            "steps/s": f"{rate:,.0f}" if known else "-",
            "learner/s": f"{learner_rate:,.1f}" if known else "-",
            **({} if s.replay_fill is None else {"replay": f"{s.replay_fill:.0%}"}),
            **(
                {} if s.mean_return is None else {"return(100)": "-" if s.mean_return != s.mean_return else f"{s.mean_return:,.2f}"}
            ),
            "elapsed": duration(s.seconds),
            "left": duration(left),
            **s.more,
        }


class Counter:
    """Shows the progress of an evaluation on stderr: a live line on a terminal, one line every 10 seconds elsewhere.

    with Counter("games") as show:
        show(3, 30, 5_120)  # as often as you like
    """

    def __init__(self, what: str, out: TextIO | None = None, plain_seconds: float = 10.0):
        """`what`: the name of the things counted. `out`: None for the current `sys.stderr`."""
        self._what, self._out, self._plain_seconds = what, out or sys.stderr, plain_seconds
        self._live: Live | None = None
        self._begun = self._shown = time.monotonic()

    def __enter__(self) -> "Counter":
        if self._out.isatty():
            self._live = Live(console=Console(file=self._out), refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            with suppress(OSError):  # the terminal may have gone
                self._live.stop()

    def __call__(self, done: int, of: int, steps: int | None = None) -> None:
        """Shows that `done` of `of` are done, after `steps` agent steps."""
        now = time.monotonic()
        if now - self._shown < (0.25 if self._live else self._plain_seconds):
            return
        self._shown = now
        line = f"{how_far(done, of, self._what, steps)}  elapsed {duration(now - self._begun)}"
        if self._live is not None:
            self._live.update(Text(line))
        else:
            say(line, self._out)


def how_far(done: int, of: int, what: str, steps: int | None = None) -> str:
    """Progress as text: `3 of 30 games, 5,120 steps`. Games that are played in parallel end late, but their steps advance."""
    return f"{done:,} of {of:,} {what}" + ("" if steps is None else f", {steps:,} steps")


def duration(seconds: float) -> str:
    """A duration as text: `1:02:03`, `2:03`, or `-` if unknown."""
    if seconds != seconds or seconds == float("inf"):
        return "-"
    minutes, second = divmod(int(max(seconds, 0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _table(facts: dict[str, str], width: int) -> Group:
    """Names above values, in as many rows as the terminal's `width` needs."""
    lines: list[dict[str, str]] = [{}]
    room = width
    for name, value in facts.items():
        takes = max(len(name), len(value)) + 2
        if takes > room and lines[-1]:
            lines.append({})
            room = width
        lines[-1][name] = value
        room -= takes
    tables = []
    for line in lines:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in line:
            table.add_column(name, justify="right", style="bold", no_wrap=True)
        table.add_row(*line.values())
        tables.append(table)
    return Group(*tables)
