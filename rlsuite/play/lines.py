"""Lines from standard input, read beside what the program does, so that it can be told to stop."""

import os
import queue
import sys
import threading

_PIECE = 65_536  # bytes


class Lines:
    """`next` waits for a line, None at the end; `waiting` says whether one has come."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """Not through `sys.stdin`, whose lock a thread that waits would hold when the program ends."""
        begun = b""
        try:
            while piece := os.read(0, _PIECE):
                *lines, begun = (begun + piece).split(b"\n")
                if len(begun) > _PIECE:  # no command is that long: it comes in pieces
                    lines, begun = [*lines, begun], b""
                for line in lines:
                    self._queue.put(line.decode("utf-8", "replace"))
        except OSError:  # closed under us
            pass
        if begun:
            self._queue.put(begun.decode("utf-8", "replace"))
        self._queue.put(None)

    def next(self) -> str | None:
        found = self._queue.get()
        if found is None:
            self._queue.put(None)
        return found

    def waiting(self) -> bool:
        return not self._queue.empty()


def write(text: str) -> bool:
    """To standard output at once; False where nobody reads any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        return False
    return True
