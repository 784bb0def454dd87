"""Runs a command that is asked to stop when the process that started it dies: `python launch.py PARENT_PID COMMAND...`.

A sweep that is killed leaves no training behind: its trials get SIGTERM, write a checkpoint and end. Linux only; elsewhere they go
on to their end, and the next sweep waits for them. This file is run by its path, so that it starts in milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>; it survives execv


def main() -> None:
    """Takes the place of this process."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it has died meanwhile
            sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
