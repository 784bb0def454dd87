"""What a process asks of the CPU: how many cores it keeps busy, and that freed memory stays with it."""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_OMP_PAUSE_SOFT = 1  # OpenMP 5.0, 3.2.46: threads end, settings stay
_KEPT_BYTES, _LARGEST_BYTES = 512 << 20, 32 << 20  # the second is the most that glibc takes


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up(threads: int) -> None:
    """`threads` for torch in this process, and no page faults in every update.

    An update's batch and activations are megabytes that live for milliseconds. glibc gives such blocks back to the system and
    gets them again page by page, which costs a seventh of a small net's update. Elsewhere than on glibc nothing happens.
    """
    torch.set_num_threads(threads)
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def rest() -> None:
    """Torch's worker threads give their cores back, before emulators or anything else outside torch wants them.

    After their work they wait for more by spinning, milliseconds long: Atari emulators on all cores take a third longer behind
    a net's forward. OpenMP starts them again when torch needs them, which takes a tenth of a millisecond. Without libgomp
    (which torch's Linux builds bring), or with a single thread, nothing happens.
    """
    if torch.get_num_threads() > 1 and (openmp := _libgomp()) is not None:
        openmp.omp_pause_resource_all(_OMP_PAUSE_SOFT)


@cache
def _libgomp() -> Any | None:
    """The one that torch has loaded, not another version that the system may have."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    try:
        library = ctypes.CDLL(str(found[0])) if found else None
    except OSError:
        return None
    return library if hasattr(library, "omp_pause_resource_all") else None
