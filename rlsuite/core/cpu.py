"""What a process asks of the CPU: how many cores it keeps busy, and that freed memory stays with it."""

import ctypes
import os
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc
_KEPT_BYTES = 512 << 20


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up(threads: int) -> None:
    """`threads` for torch in this process, and no page faults in every update.

    An update's batch and activations are megabytes that live for milliseconds. glibc gives such blocks back to the system and
    gets them again page by page, which costs a seventh of a small net's update and a fifth of R2D2's of paper size. So all blocks
    come from the heap (a threshold for those that do not ends at 32 MB), of which half a gigabyte stays when it is free. Elsewhere
    than on glibc nothing happens.
    """
    torch.set_num_threads(threads)
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
