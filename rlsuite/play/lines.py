"""Standard input and output line by line. A thread reads the input, so that a running search can notice a new line."""

import os
import queue
import sys
import threading

_PIECE = 65_536  # bytes


class Lines:
    """The lines of standard input."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """Reads the file descriptor itself: a thread that waits in `sys.stdin` would hold its lock when the program exits."""
        begun = b""
        try:
            while piece := os.read(0, _PIECE):
                *lines, begun = (begun + piece).split(b"\n")
                if len(begun) > _PIECE:  # no command is that long: pass it on in pieces
                    lines, begun = [*lines, begun], b""
                for line in lines:
                    self._queue.put(line.decode("utf-8", "replace"))
        except OSError:  # standard input was closed
            pass
        if begun:
            self._queue.put(begun.decode("utf-8", "replace"))
        self._queue.put(None)

    def next(self) -> str | None:
        """Waits for the next line; None at the end of the input."""
        found = self._queue.get()
        if found is None:
            self._queue.put(None)
        return found

    def waiting(self) -> bool:
        """Whether a line, or the end of the input, has arrived."""
        return not self._queue.empty()


def write(text: str) -> bool:
    """Writes to standard output and flushes it; False if nobody reads it any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        return False
    return True
