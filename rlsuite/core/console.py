"""Lines for the person at the terminal, who may have closed it."""

import os
import shlex
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO


def say(line: str, out: TextIO | None = None) -> None:
    """Prints a line to `out`, or stderr. If the reader is gone, the line is dropped: a run must not end because of it."""
    out = out or sys.stderr
    try:
        print(line, file=out, flush=True)
    except (OSError, ValueError):  # a reader that is gone, such as `tee` after Ctrl-C; a closed file
        with suppress(OSError, ValueError):
            _mute(out.fileno())


def mute_closed_terminals() -> None:
    """Redirects stdout and stderr to the null device if they are a terminal that has been closed."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                _mute(descriptor)


def _mute(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def command(*words: str | Path) -> str:
    """A command to copy into a shell, with its words quoted where needed."""
    return shlex.join(map(str, words))
