"""What ends a run from outside: Ctrl-C, SIGTERM, and the SIGHUP of a closed terminal.

The first signal asks the run to stop: it finishes the update under way, writes a checkpoint and ends. Another one changes nothing
at first, since launchers often pass a signal on that their children have received too. Later it ends whatever the run waits for, an
environment that hangs, say; but never an update or a checkpoint.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rlsuite.core.console import mute_closed_terminals

PATIENCE_SECONDS = 10.0  # from the first signal until another one no longer waits
_SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]


class Stop(list[int]):
    """The signals that have asked a run to stop: empty, and so false, before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first_at = 0.0  # time of the first
        self.held = 0  # contexts of `finishing` that are open
        self.numbers: list[int] = []  # of the signals that it handles

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Context that no signal ends: an update, or a checkpoint."""
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    def arm(self) -> None:
        """Handles its signals, also where something has replaced the handlers since."""
        for number in self.numbers:
            signal.signal(number, self.note)

    def note(self, number: int, _: Any) -> None:
        """Handles a signal. KeyboardInterrupt if one came before, and whatever has been waited for since is not worth it."""
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
    """A `Stop` that notes signals for the length of the context. Only the main thread can receive them.

    A process started by nohup goes on ignoring SIGHUP.
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
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: installed from C


def _tell(line: str) -> None:
    """Writes to stderr as a signal handler may: the code that it interrupts may be printing, too."""
    with suppress(OSError):
        os.write(2, f"rlsuite: {line}\n".encode())
