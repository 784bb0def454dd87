"""Measures how many collectors one driver of the Ray runtime can serve.

    python scripts/ray_scaling.py --collectors 1 2 4 8 16 32 --seconds 15

Environments only sleep, and the learner learns nothing. Real are the driver, Ray's calls and object store, and the size of unrolls
(100 Atari steps, 0.7 MB). With `--unroll-seconds 0` nothing sleeps and unrolls are small: that measures how many calls per second
the driver can handle.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray

from rlsuite.acting.collector import Episode
from rlsuite.config.loader import check, resolve
from rlsuite.config.schema import Config
from rlsuite.core.types import EnvSpec, Step, Unroll
from rlsuite.runs.metrics import MetricLog, read_metrics
from rlsuite.runtime.ray import driver as runtime
from rlsuite.runtime.ray import handles
from rlsuite.runtime.ray.cluster import connected
from rlsuite.runtime.ray.roles import RemoteLearner
from rlsuite.runtime.ray.workers import Collected, Facts, Learned, Learning, Stored, Worker
from rlsuite.runtime.run_loop import Loop

STEPS = 100
BATCHES_PER_SECOND = 19  # of Ape-X's learner


class Idle:
    """A worker that only waits."""

    def __init__(self, *args: Any) -> None:
        self.config, self.stored, self.steps = check(args[0]), 0, 0

    def hello(self) -> Facts:
        from rlsuite.runs import run_folder

        return Facts("here", 0, run_folder.versions())

    def ping(self) -> None:
        pass


class SleepingCollector(Idle):
    def collect(self, weights: Any, version: int, agent_steps: int) -> tuple[Unroll, Collected]:
        seconds, side = self.config.run.log_seconds, self.config.env.height
        time.sleep(seconds)
        leaf = np.zeros((STEPS, 1), np.float32)
        frames = np.zeros((STEPS, 1, side, side), np.uint8)
        unroll = Unroll(Step(frames, leaf, leaf > 0, leaf > 0, leaf > 0, leaf, {}))
        return unroll, Collected(STEPS, [Episode(0.0, STEPS, 0)], version, {})


class IdleShard(Idle):
    def add(self, unroll: Unroll, source: int) -> Stored:
        self.stored += len(unroll.steps.reward)
        return self.report()._replace(added=len(unroll.steps.reward))

    def sample(self, count: int, inserted: int, batches: int) -> tuple[list[bytes], Stored]:
        return [bytes(1000)] * batches, self.report()

    def update(self, priorities: Any) -> Stored:
        return self.report()

    def report(self) -> Stored:
        return Stored(self.stored, float(self.stored), 0)


class IdleLearner(Idle):
    def publish(self) -> tuple[int, Any]:
        return self.steps, {}

    def learn(self, agent_steps: int, metrics: bool, publish: bool, samples: list[bytes]) -> Learning:
        time.sleep(len(samples) / BATCHES_PER_SECOND)
        self.steps += len(samples)
        return Learned(self.steps, None), (np.zeros(0, np.int64), np.zeros(0)), {} if publish else None


class Lines:
    """A progress display that shows nothing."""

    def update(self, status: Any) -> None:
        pass


def measure(collectors: int, unroll_seconds: float, seconds: float) -> dict[str, float]:
    """Unrolls and calls per second that the driver has handled, and its share of a core."""
    small = unroll_seconds == 0
    config = resolve(
        "atari/apex",
        {
            "runtime.collectors": collectors,
            "runtime.shards": min(2, collectors),
            "env.height": 16 if small else 84,
            "run.log_seconds": unroll_seconds or 1e-9,
            "run.agent_steps": 10**12,
            "run.minutes": seconds / 60,
            "replay.min_agent_steps": 100,
            "replay.samples_per_insert": 1e-3,
        },
    )
    spec = EnvSpec((4, 84, 84), "uint8", 18, None, 4, 4)
    with tempfile.TemporaryDirectory() as folder, connected(config):
        driver = runtime.Driver(config, spec, _Agent(), None, {})  # type: ignore[arg-type]
        driver.supervisor.start()
        log = MetricLog(Path(folder))
        loop = Loop(config, Path(folder), driver, log)
        calls, call = [0], driver.supervisor.call

        def counted(*args: Any, **more: Any) -> None:
            calls[0] += 1
            call(*args, **more)

        driver.supervisor.call = counted  # type: ignore[method-assign]
        begun, cpu = time.monotonic(), time.process_time()
        driver.train(loop, Lines(), [])  # type: ignore[arg-type]
        span = time.monotonic() - begun
        log.close()
        episodes = len(read_metrics(Path(folder)))
        busy = (time.process_time() - cpu) / span
        driver.close()
    return {"unrolls/s": episodes / span, "calls/s": calls[0] / span, "driver": busy}


class _Agent:
    on_policy = False
    capabilities: frozenset[str] = frozenset()


class _Learner(RemoteLearner):
    """The learner's stand-in, without a net."""

    def __init__(self, config: Config, agent: Any, workers: list[handles.WorkerHandle]) -> None:
        self.workers, self.steps, self.published = workers, 0, (0, None)


def start(kind: type[Worker], resources: dict[str, float], *args: Any) -> Any:
    """Starts a worker that only waits in the place of a real one."""
    idle = {"CollectorWorker": SleepingCollector, "ShardWorker": IdleShard, "LearnerWorker": IdleLearner}[kind.__name__]
    return ray.remote(idle).options(**resources).remote(*args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collectors", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--unroll-seconds", type=float, default=0.25, help="seconds that a collector sleeps for an unroll")
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds of each measurement")
    given = parser.parse_args()
    handles.start, runtime.RemoteLearner = start, _Learner  # type: ignore[misc]
    print(f"{'collectors':>10} {'unrolls/s':>9} {'of ideal':>9} {'calls/s':>9} {'driver busy':>12}")
    for collectors in given.collectors:
        found = measure(collectors, given.unroll_seconds, given.seconds)
        ideal = f"{found['unrolls/s'] * given.unroll_seconds / collectors:.0%}" if given.unroll_seconds else "-"
        print(
            f"{collectors:>10} {found['unrolls/s']:>9.1f} {ideal:>9} {found['calls/s']:>9.1f} {found['driver']:>12.0%}", flush=True
        )


if __name__ == "__main__":
    main()
