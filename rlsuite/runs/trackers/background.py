"""A tracker's work in a thread of its own, so that training never waits for a server."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice

from rlsuite.core.console import say
from rlsuite.core.errors import RlsuiteError, UsageError, one_line
from rlsuite.runs.metrics import Outcome, Row, Tracker

CAPACITY = 100_000  # rows that wait for a server, at most; later ones are in metrics.jsonl only
BATCH = 200  # rows sent at once, at most
PAUSE_SECONDS = 1.0  # between two batches, unless more than one waits
RETRY_SECONDS = 30.0  # between two attempts
CLOSE_SECONDS = 30.0  # that the end of a run waits for the last rows to be sent


class Background:
    """Makes a tracker at the first row and gives it all rows, in a thread.

    Where that fails it says so once, keeps the rows and tries again later: the run goes on. A tracker that raises UsageError, or
    cannot be imported, gets nothing more.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], sent: Mapping[str, int], note: Callable[[dict[str, int]], None]):
        """`sent`: tag -> the last agent step that an earlier session has sent; up to there nothing is sent again.

        `note` takes what `sent` is to be in the next session: before each batch, so that a kill may lose one, but repeats none.
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
        """Hands the rows over."""
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
        """Does nothing: a checkpoint does not wait for a server."""

    def close(self, outcome: Outcome) -> None:
        """Waits for the last rows to be sent, for `CLOSE_SECONDS` at most."""
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
            except Exception as error:
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
    """`sent` after a batch."""
    found = dict(sent)
    for clock, values in batch:
        found |= {tag: max(found.get(tag, -1), clock.agent_steps) for tag in values}
    return found
