"""Trains on a Ray cluster of several nodes, all on this machine, in which something is killed every few seconds.

    python scripts/ray_chaos.py --minutes 30 --every 8

Kills collectors, shards, the learner, and sometimes a whole node, at random. Prints how processes, memory, file handles and the
object store develop meanwhile, and the score of the run.
"""

import argparse
import contextlib
import json
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
from ray.cluster_utils import Cluster

import rlsuite
from rlsuite.runs.metrics import read_metrics
from rlsuite.runtime.ray.cluster import object_store_bytes, on_loopback
from rlsuite.runtime.ray.driver import Driver


class Usage(NamedTuple):
    """What the run takes of this machine at a moment."""

    seconds: float
    processes: int  # of the workers
    worker_mb: float  # largest resident memory of a worker
    driver_mb: float
    driver_handles: int
    store_mb: float
    kills: int


def usage(begun: float, kills: int) -> Usage:
    """The usage now, `begun` being the time of the start."""
    own = psutil.Process()
    family = [process for process in psutil.process_iter(["name", "cmdline"]) if "ray::" in " ".join(process.info["cmdline"] or [])]
    memory = [0.0]
    for process in family:
        with contextlib.suppress(psutil.Error):
            memory.append(process.memory_info().rss / 1e6)
    store = object_store_bytes() or 0.0
    return Usage(
        time.monotonic() - begun,
        len(family),
        max(memory),
        own.memory_info().rss / 1e6,
        own.num_fds(),
        store / 1e6,
        kills,
    )


class Killer(threading.Thread):
    """Kills a worker every few seconds, and every tenth time a node."""

    def __init__(self, cluster: Cluster, every: float, seed: int):
        super().__init__(daemon=True)
        self.cluster, self.every, self.rng = cluster, every, random.Random(seed)
        self.driver: Driver | None = None
        self.stop = threading.Event()
        self.nodes = [cluster.add_node(num_cpus=3) for _ in range(2)]
        self.kills: dict[str, int] = {}
        self.begun = time.monotonic()
        self.seen: list[Usage] = []
        self.failed: Exception | None = None  # what ended the thread

    def run(self) -> None:
        try:
            self._kill()
        except Exception as error:
            self.failed = error
            print(f"nothing is killed any more: {error!r}", flush=True)

    def _kill(self) -> None:
        rounds = 0
        while not self.stop.wait(self.every * self.rng.uniform(0.5, 1.5)):
            if self.driver is None:
                continue
            rounds += 1
            if rounds % 10 == 0:
                self._count("node")
                self.cluster.remove_node(self.nodes.pop(self.rng.randrange(2)), allow_graceful=False)
                self.nodes.append(self.cluster.add_node(num_cpus=3))
            else:
                alive = [worker for worker in self.driver.workers.core if worker.ready and worker.actor is not None]
                if alive:
                    worker = self.rng.choice(alive)
                    self._count(worker.kind)
                    with contextlib.suppress(Exception):
                        ray.kill(worker.actor)
            self.seen.append(usage(self.begun, sum(self.kills.values())))
            print(json.dumps({name: round(value, 1) for name, value in self.seen[-1]._asdict().items()}), flush=True)

    def _count(self, what: str) -> None:
        self.kills[what] = self.kills.get(what, 0) + 1


def chaos(minutes: float, every: float, seed: int, run_dir: Path, overrides: dict[str, Any] | None = None) -> tuple[Any, Killer]:
    """Trains CartPole meanwhile; returns the run's result and the killer, with its counts."""
    with on_loopback():
        # Nodes that clean up by themselves set signal handlers, which only the main thread may: here `finally` ends them.
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2}, shutdown_at_exit=False)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    killer = Killer(cluster, every, seed)
    train = Driver.train

    def watched(driver: Driver, *args: Any) -> bool:
        killer.driver = driver
        try:
            return train(driver, *args)
        finally:
            killer.driver = None

    Driver.train = watched  # type: ignore[method-assign]
    killer.start()
    try:
        settings: dict[str, Any] = {
            "runtime.kind": "ray",
            "runtime.collectors": 3,
            "runtime.shards": 2,
            "runtime.restarts": 100_000,
            "run.minutes": minutes,
            "run.agent_steps": 10**9,
            "learner.learning_rate_anneal_agent_steps": 100_000,
            "run.checkpoint_minutes": 0.25,
            "run.collect_agent_steps": 16,
            "eval.every_agent_steps": None,
            "eval.stop_at_return": None,
            "seed": seed,
        }
        result = rlsuite.train("classic/dqn", settings | (overrides or {}), run_dir=run_dir)
    finally:
        Driver.train = train  # type: ignore[method-assign]
        killer.stop.set()
        killer.join(timeout=60)
        ray.shutdown()
        cluster.shutdown()
    if killer.failed is not None:
        raise killer.failed
    return result, killer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=8.0, help="mean seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run-dir", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = given.run_dir or Path(folder) / "run"
        result, killer = chaos(given.minutes, given.every, given.seed, run_dir)
        rows = [row for row in read_metrics(run_dir) if "ray/workers_lost" in row]
    print(f"killed: {killer.kills}; lost {rows[-1]['ray/workers_lost']:.0f}, replaced {rows[-1]['ray/workers_replaced']:.0f}")
    print(f"{result.agent_steps:,} agent steps, {result.learner_steps:,} updates, score {result.evaluation.mean:.1f}")


if __name__ == "__main__":
    main()
