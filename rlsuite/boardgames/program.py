"""Runs another program and talks to it line by line over its standard input and output, with a time limit for its answers."""

import contextlib
import os
import queue
import shlex
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from rlsuite.core.errors import OpponentError, UsageError

_SECONDS = 2.0  # for the program to exit, before it is killed
_LONGEST = 65_536  # characters of a line; a longer line is cut into several


class Program:
    """A running program: `say` writes a line, `line` waits for one. OpponentError if it has ended or is too slow."""

    def __init__(self, kind: str, command: str, seconds: float):
        """`kind`: its name in errors. `seconds`: the limit for every answer. UsageError for a command that cannot be started."""
        if not command.strip():
            raise UsageError(f"{kind} needs a program: {kind}(command=...)")
        if not (isinstance(seconds, int | float) and 0 < seconds < float("inf")):
            raise UsageError(f"{kind}: seconds = {seconds}; allowed are numbers above 0")
        self.kind, self.command, self.seconds = kind, command, seconds
        words = command_words(kind, command)
        try:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C does not reach it, and whatever it starts can be killed with it
            )
        except OSError as error:
            raise UsageError(f"{kind}: {command!r} cannot be started: {error.strerror}") from error
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline(_LONGEST):
            self._lines.put(line.rstrip("\r\n"))
        self._lines.put(None)

    def say(self, line: str) -> None:
        """Writes a line."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError) as error:  # ValueError: closed
            raise OpponentError(f"{self.kind}: {self.command!r} has ended") from error

    def line(self, deadline: float, asked: str) -> str:
        """The next line that the program writes before time.monotonic() reaches `deadline`; `asked`: the command, for errors."""
        try:
            found = self._lines.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty as error:
            self.close()
            raise OpponentError(f"{self.kind}: {self.command!r} did not answer {asked!r} within {self.seconds:g} s") from error
        if found is None:
            self._lines.put(None)
            raise OpponentError(f"{self.kind}: {self.command!r} has ended at {asked!r}")
        return found

    def deadline(self) -> float:
        """The time, by time.monotonic(), by which the answer to a command sent now must be complete."""
        return time.monotonic() + self.seconds

    def close(self) -> None:
        """Ends the program and whatever it has started."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_SECONDS)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def command_words(kind: str, command: str) -> list[str]:
    """A command line, split into words as a shell does. UsageError if that is impossible or the program is not installed."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"{kind}: {command!r} is not a command: {error}") from error
    if words and shutil.which(words[0]) is None:
        raise UsageError(f"{kind}: {command!r} cannot be started: no program {words[0]!r}")
    return words


def located(command: str) -> str:
    """A command line with relative paths of the program and of files made absolute, since a run may be resumed in another folder.

    ValueError if it cannot be split into words.
    """
    words = shlex.split(command)
    found = [
        str(Path(word).absolute()) if not Path(word).is_absolute() and ("/" in word or place) and Path(word).is_file() else word
        for place, word in enumerate(words)
    ]
    return command if found == words else shlex.join(found)
