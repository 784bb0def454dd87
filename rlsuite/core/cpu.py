"""Thread count and malloc tuning of a process.

The best number of threads depends on the work and on what else runs: two threads speed up the update of a small net by half, but
take ten times as long as one if another process keeps a core busy, because each waits for the other at the end of every layer.
So torch's threads are chosen by measurement, for each kind of work:

    cpu.set_up(threads=None)  # a number would fix the number of threads
    with cpu.working("updates"):
        ...  # the same amount of work every time
"""

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

from rlsuite.core import limits
from rlsuite.core.console import say
from rlsuite.core.threads import ThreadChoice

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc
_KEPT_BYTES = 512 << 20


class _Threads:
    """The threads of this process: a fixed number, or a choice for each kind of work."""

    def __init__(self) -> None:
        self.fixed = True
        self.candidates = [1]
        self.choices: dict[str, ThreadChoice] = {}

    @contextmanager
    def measured(self, work: str) -> Iterator[None]:
        choice = self.choices.setdefault(work, ThreadChoice(self.candidates))
        if torch.get_num_threads() != choice.now:
            torch.set_num_threads(choice.now)
        begun = time.perf_counter()
        yield
        ended = time.perf_counter()
        if choice.took(ended - begun, ended):
            say(f"rlsuite: {work} with {choice.threads} of {self.candidates[-1]} threads from now on, which is faster here")


_threads = _Threads()


def set_up(threads: int | None, most: int | None = None) -> None:
    """Sets the number of torch's threads in this process, and tunes malloc to avoid page faults in every update.

    `threads`: a fixed number, for results that are the same bit for bit; None: the fastest number up to `most` (None: one per core)
    for each kind of work (`working`), which depends on the machine and on what else runs on it.

    The batch and activations of an update are megabytes that live for milliseconds. By default glibc returns such blocks to the
    system and gets them back page by page, which costs a seventh of a small net's update and a fifth of R2D2's at paper size. So
    all blocks come from the heap, which keeps up to half a gigabyte of freed memory (M_MMAP_THRESHOLD would not be enough: its
    maximum is 32 MB). Without glibc, only the threads are set.
    """
    most = most or limits.cores()
    _threads.fixed = threads is not None or most == 1
    _threads.candidates = sorted({most, *(2**power for power in range(most.bit_length()))})
    _threads.choices = {}
    torch.set_num_threads(threads or 1)
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


@cache
def has_bf16() -> bool:
    """Whether the processor supports bf16. If not, torch emulates it, several times slower than fp32."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]


def working(work: str) -> AbstractContextManager[None]:
    """A context for one piece of work, which is timed to choose the number of threads for its kind.

    `work`: the kind, such as "updates"; every piece must be the same amount of work. No effect if `set_up` has fixed the number.
    """
    return nullcontext() if _threads.fixed else _threads.measured(work)


def steady() -> None:
    """Returns to the fixed number of threads or, without one, to one thread, until the next `working`.

    For work that is not timed. On one thread a busy neighbour cannot slow it down tenfold, and an evaluation plays the same games
    after training as later.
    """
    if not _threads.fixed:
        torch.set_num_threads(1)


def threads_for(work: str) -> int:
    """The number of threads chosen for a kind of work."""
    choice = _threads.choices.get(work)
    return torch.get_num_threads() if choice is None else choice.threads
