"""Runs a tracker in a background thread, so that training never waits for a server."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice

from rlsuite.core.console import say
from rlsuite.core.errors import RlsuiteError, UsageError, one_line
from rlsuite.runs.metrics import Outcome, Row, Tracker

CAPACITY = 100_000  # maximum number of queued rows; rows beyond that are in metrics.jsonl only
BATCH = 200  # maximum number of rows sent at once
PAUSE_SECONDS = 1.0  # between two batches, unless a whole batch is queued
RETRY_SECONDS = 30.0  # between two attempts
CLOSE_SECONDS = 30.0  # maximum wait for the last rows at the end of a run


class Background:
    """Creates a tracker at the first row and passes it all rows, in a background thread.

    If the tracker fails, this prints the error once, keeps the rows and tries again later, while the run continues. A tracker that
    raises UsageError or cannot be imported gets no more rows.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], sent: Mapping[str, int], note: Callable[[dict[str, int]], None]):
        """`sent`: tag -> the last agent step that an earlier session sent; values up to that step are not sent again.

        `note`: saves the new `sent` for the next session. It is called before each batch, so a kill may lose a batch but never
        repeats one.
        """
        self.name = name
        self._make, self._sent, self._note = make, dict(sent), note
        self._rows: deque[Row] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._outcome: Outcome = "failed"
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._said = self._over = False

    def write(self, rows: Sequence[Row]) -> None:
        """Queues the rows for the thread."""
        new = []
        for clock, values in rows:
            if kept := {tag: value for tag, value in values.items() if clock.agent_steps > self._sent.get(tag, -1)}:
                new.append(Row(clock, kept))
        if not new or self._over:
            return
        with self._changed:
            self._rows.extend(new[: CAPACITY - len(self._rows)])
            self._changed.notify()
        if not self._thread.ident:
            self._thread.start()

    def flush(self) -> None:
        """Does nothing, so that a checkpoint does not wait for a server."""

    def close(self, outcome: Outcome) -> None:
        """Waits at most `CLOSE_SECONDS` for the last rows to be sent."""
        with self._changed:
            self._outcome = outcome
            self._closing.set()
            self._changed.notify()
        if self._thread.ident:
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                self._say(f"it takes longer than {CLOSE_SECONDS:g} s to take the last rows")

    def _work(self) -> None:
        tracker: Tracker | None = None
        sent = self._sent
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._rows or self._closing.is_set())
                batch, last = list(islice(self._rows, BATCH)), self._closing.is_set()
            try:
                tracker = tracker or self._make()
                if not batch:
                    tracker.close(self._outcome)
                    return
                self._note(after := _with(sent, batch))
                tracker.write(batch)
            except (UsageError, ImportError) as error:
                say(f"rlsuite: {self.name}: {one_line(error)}; the run goes on without it, and metrics.jsonl has all rows")
                self._over = True
                return
            except (Exception, SystemExit) as error:
                self._say(one_line(error))
                with suppress(RlsuiteError):  # the disk is full
                    self._note(sent)
                if last:
                    return
                self._closing.wait(RETRY_SECONDS)
                continue
            sent = after
            with self._changed:
                for _ in batch:
                    self._rows.popleft()
            if len(self._rows) < BATCH:
                self._closing.wait(PAUSE_SECONDS)

    def _say(self, reason: str) -> None:
        if not self._said:
            say(
                f"rlsuite: {self.name} does not answer ({reason:.300}); the run goes on: rows are sent once it does, "
                "and metrics.jsonl has them all"
            )
        self._said = True


def _with(sent: Mapping[str, int], batch: Sequence[Row]) -> dict[str, int]:
    """The new `sent` after a batch."""
    found = dict(sent)
    for clock, values in batch:
        found |= {tag: max(found.get(tag, -1), clock.agent_steps) for tag in values}
    return found
