"""The Ray runtime: collectors, shards of the replay memory and the learner are processes, on one machine or many.

A driver moves references only. Unrolls go from collectors to shards, batches from shards to the learner, priorities back, weights
from the learner to collectors, all through Ray's object store. Everything is bounded: calls in flight to a collector, batches in
flight to the learner, and by the samples-per-insert limiter how far either may run ahead.

What dies is replaced, and what it died of is told: a collector begins new episodes, a shard comes back from the last checkpoint
or empty, the learner goes back to the last checkpoint. The run ends, with the first real error on top, where that does not help.
"""

import contextlib
from pathlib import Path

from rlsuite.config.schema import Config
from rlsuite.factories import make_agent, make_spec, resumed
from rlsuite.runs import checkpoint
from rlsuite.runtime.ray.cluster import connected
from rlsuite.runtime.ray.driver import Driver
from rlsuite.runtime.run_loop import Result, run, signals


def run_ray(config: Config, run_dir: Path | None, resume: bool = False) -> Result:
    """As `run_local`, on Ray."""
    with signals() as stopped:
        spec = make_spec(config)
        agent = make_agent(config, spec)
        saved = checkpoint.find(run_dir, resumable=True) if resume and run_dir is not None else None
        with (
            connected(config),
            contextlib.closing(Driver(resumed(config) if resume else config, spec, agent, None, saved)) as driver,
        ):
            return run(config, run_dir, resume, driver, driver.train, stopped)
