"""OpenMP's idle threads, and large blocks of memory."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from rlsuite.core import cpu


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


@pytest.fixture
def threads_put_back() -> Iterator[None]:
    yield
    cpu.set_up(1)


@pytest.mark.usefixtures("threads_put_back")
def test_a_number_of_threads_stays_whatever_the_work() -> None:
    cpu.set_up(3)
    for _ in range(50):
        with cpu.working("updates"):
            assert torch.get_num_threads() == 3
    assert cpu.threads_for("updates") == 3


@pytest.mark.usefixtures("threads_put_back")
def test_every_kind_of_work_gets_the_threads_that_it_is_fastest_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(cpu.time, "perf_counter", lambda: now)
    cpu.set_up(None, most=2)
    for _ in range(50):
        for kind, seconds in (("updates", {1: 0.008, 2: 0.005}), ("acting", {1: 0.001, 2: 0.002})):
            with cpu.working(kind):
                now += seconds[torch.get_num_threads()]
    assert (cpu.threads_for("updates"), cpu.threads_for("acting")) == (2, 1)
    assert capsys.readouterr().err == "rlsuite: updates with 2 of 2 threads from now on, which is faster here\n"


@pytest.mark.usefixtures("threads_put_back")
def test_work_that_is_not_timed_gets_one_thread_or_the_fixed_number() -> None:
    cpu.set_up(None, most=2)
    torch.set_num_threads(2)  # as after an update
    cpu.steady()
    assert torch.get_num_threads() == 1
    cpu.set_up(2)
    cpu.steady()
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("threads_put_back")
def test_work_that_fails_decides_nothing() -> None:
    cpu.set_up(None, most=2)
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), cpu.working("updates"):
            1 / 0  # noqa: B018
    assert cpu.threads_for("updates") == 1
