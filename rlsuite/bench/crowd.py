"""crowd: the quick start while other processes keep half of the cores busy, against the quick start alone."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rlsuite.bench.measure import BenchSettings, Row, Target, Work, alternate, say
from rlsuite.bench.train import QUICK_START, Ours, as_shipped
from rlsuite.core import cpu
from rlsuite.core.limits import cores

TICKS = 8  # of all environments in a round


def bench_crowd(settings: BenchSettings) -> list[Row]:
    """Agent steps per second of the quick start as shipped, which finds its number of threads by itself."""
    shipped = as_shipped(settings)
    shipped = shipped.model_copy(update={"run": shipped.run.model_copy(update={"threads": None})})
    neighbours = max(1, cores() // 2)
    with ExitStack() as stack:
        say(f"crowd: collecting the first {settings.train_start:,} steps")
        ours = Ours(shipped, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(cpu.set_up, settings.threads)
        stack.callback(ours.close)
        ours.advance(settings.train_start)

        def work(rounds: int) -> int:
            return ours.advance(rounds * TICKS * shipped.env.num_envs * shipped.run.collect_agent_steps)

        rates = alternate("crowd", {"alone": work, "crowded": _beside(neighbours, work)}, settings)
    what = (
        f"{QUICK_START} as shipped (run.threads = null) beside {neighbours} of {cores()} cores kept busy by other processes, "
        "against the same alone; once learning has begun"
    )
    return [Row("crowd", what, "agent steps/s", rates["crowded"], rates["alone"], Target("ratio", ">=", 0.45))]


def _beside(neighbours: int, work: Work) -> Work:
    def crowded(rounds: int) -> int:
        with _busy(neighbours):
            return work(rounds)

    return crowded


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Context in which `count` other processes each keep a core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
