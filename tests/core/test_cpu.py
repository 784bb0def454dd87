"""OpenMP's idle threads, and large blocks of memory."""

import os
import platform
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("before", "after"), [(None, "30000"), ("7", "7")])
def test_idle_workers_soon_sleep_unless_the_user_sets_the_variable(before: str | None, after: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if before:
        environment["GOMP_SPINCOUNT"] = before
    code = "import sys, rlsuite, os; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [after, "False"]  # libgomp reads it when torch loads


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is tuned")
def test_large_blocks_are_not_faulted_in_again() -> None:
    code = """
import resource, torch
from rlsuite.core import cpu
cpu.set_up(1)
for _ in range(30):  # after a few rounds the next block fits into freed memory
    torch.empty(40 << 20, dtype=torch.uint8).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.empty(40 << 20, dtype=torch.uint8).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # 50,000 pages of 4 kB otherwise
