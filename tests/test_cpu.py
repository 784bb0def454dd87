"""Thread settings of a process."""

import subprocess
import sys

import pytest

WORKERS = """
import sys, threading, torch
from rlsuite import cpu

def tasks():
    import os
    return len(os.listdir("/proc/self/task"))

def work():
    return torch.randn(1 << 20, generator=torch.Generator().manual_seed(1)).exp().sum().item()

cpu.set_up(3)
alone = tasks()
first, busy = work(), tasks()
cpu.rest()
rested = tasks()
cpu.rest()  # with nothing to stop
again, threads = work(), torch.get_num_threads()
print(alone, busy, rested, tasks(), threads, first == again)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_rest_ends_the_workers_and_the_next_product_starts_them_again() -> None:
    done = subprocess.run([sys.executable, "-c", WORKERS], capture_output=True, text=True, check=True)
    alone, busy, rested, again, threads, same = done.stdout.split()
    assert int(busy) == int(alone) + 2
    assert (rested, again, threads, same) == (alone, busy, "3", "True")
