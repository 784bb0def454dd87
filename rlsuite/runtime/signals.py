"""Signals that end a run: Ctrl-C, SIGTERM, and the SIGHUP of a closed terminal.

The first signal asks the run to stop: it finishes the current update, writes a checkpoint and ends. For some seconds, further
signals change nothing, since launchers often forward a signal that their children have already received. After that, another signal
interrupts whatever the run waits for, such as an environment that hangs, but never an update or a checkpoint.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rlsuite.core.console import mute_closed_terminals

PATIENCE_SECONDS = 10.0  # after the first signal, during which further ones change nothing
_SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]


class Stop(list[int]):
    """The signals that have asked a run to stop: empty, and so false, before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first_at = 0.0  # time of the first signal
        self.held = 0  # number of open `finishing` contexts
        self.numbers: list[int] = []  # numbers of the signals that it handles

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Context that no signal interrupts, for an update or a checkpoint."""
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    def arm(self) -> None:
        """Installs the handlers of its signals; call it again if other code may have replaced them."""
        for number in self.numbers:
            signal.signal(number, self.note)

    def note(self, number: int, _: Any) -> None:
        """Handles a signal. KeyboardInterrupt if the first came `PATIENCE_SECONDS` ago or more and no `finishing` is open."""
        self.append(number)
        if number == getattr(signal, "SIGHUP", None):
            mute_closed_terminals()
        if len(self) == 1:
            self.first_at = time.monotonic()
            _tell(f"stopping ({signal.Signals(number).name}): writing a checkpoint")
        elif self.held or time.monotonic() - self.first_at < PATIENCE_SECONDS:
            _tell("still stopping")
        else:
            raise KeyboardInterrupt


@contextmanager
def signals() -> Iterator[Stop]:
    """Context with a `Stop` that records signals. Only the main thread can receive them.

    A process started by nohup continues to ignore SIGHUP.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    hangup = getattr(signal, "SIGHUP", None)
    stop.numbers = [number for number in _SIGNALS if number != hangup or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in stop.numbers}
    stop.arm()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was installed from C


def _tell(line: str) -> None:
    """Prints a line to stderr in a way that is safe in a signal handler, which may interrupt code that is printing."""
    with suppress(OSError):
        os.write(2, f"rlsuite: {line}\n".encode())
