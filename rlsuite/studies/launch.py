"""Runs a command so that it gets SIGTERM when the process that started it dies: `python launch.py PARENT_PID COMMAND...`.

A sweep that is killed therefore leaves no training processes: its trials write a checkpoint and end. This works on Linux only;
elsewhere they run to their end, and the next sweep waits for them. The file is run by its path, so that it starts in milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>; it survives execv


def main() -> None:
    """Replaces this process by the command."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # the parent has died meanwhile
            sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
