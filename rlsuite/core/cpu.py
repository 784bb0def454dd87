"""Thread count and malloc tuning of a process."""

import ctypes
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc
_KEPT_BYTES = 512 << 20


def set_up(threads: int) -> None:
    """Gives torch `threads` threads in this process, and avoids page faults in every update.

    The batch and activations of an update are megabytes that live for milliseconds. By default glibc returns such blocks to the
    system and gets them back page by page, which costs a seventh of a small net's update and a fifth of R2D2's at paper size. So
    all blocks come from the heap (M_MMAP_THRESHOLD would not do, it ends at 32 MB), which keeps up to half a gigabyte of freed
    memory. Without glibc only the threads are set.
    """
    torch.set_num_threads(threads)
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
