"""The Ray runtime: collectors, shards of the replay and the learner are processes, on one machine or many.

The driver handles only references. Unrolls go from collectors to shards, batches from shards to the learner, priorities back, and
weights from the learner to collectors, all through Ray's object store.

    scheduler    decides what to do next, from counts: who collects, when to learn, from which shard; bounds what is in flight
    supervisor   starts workers, waits for their calls, and replaces workers that die
    driver       the run: carries out the scheduler's decisions with the supervisor's workers
    roles        the learner, replay and collectors that `run_loop` sees
    handles      the driver's record of each worker
    workers      the code that runs in the worker processes
    environments sends environments that the program has registered with Gymnasium to the workers
    cluster      connects to Ray
"""

import contextlib
from pathlib import Path

from ray.exceptions import RayError

from rlsuite.config.schema import Config
from rlsuite.core import cpu
from rlsuite.core.errors import UsageError
from rlsuite.factories import make_spec, refuse_short_sequences, resumed
from rlsuite.runs import checkpoint
from rlsuite.runs.callbacks import Callbacks
from rlsuite.runtime.distillation import make_trained_agent
from rlsuite.runtime.ray.cluster import connected
from rlsuite.runtime.ray.driver import Driver
from rlsuite.runtime.ray.environments import packed
from rlsuite.runtime.ray.handles import failed_on_ray
from rlsuite.runtime.run_loop import Result, run
from rlsuite.runtime.signals import signals


def run_ray(config: Config, run_dir: Path | None, resume: bool = False, callbacks: Callbacks | None = None) -> Result:
    """Trains an agent like `run_local`, but on Ray."""
    with signals() as stopped:
        cpu.set_up(config.run.threads)
        spec = make_spec(config)
        agent = make_trained_agent(config, spec)
        if config.runtime.learners > 1 and agent.makes_minibatches:
            of, name = config.runtime.learners, config.agent.name
            raise UsageError(f"runtime.learners = {of}: agent.name={name} makes minibatches of its own, use 1")
        if not resume:
            refuse_short_sequences(agent, config)
        saved = checkpoint.find(run_dir, resumable=True) if resume and run_dir is not None else None
        environments = packed(config.env.id)
        fresh = resumed(config) if resume else config
        with connected(config), contextlib.closing(Driver(fresh, spec, agent, saved, environments)) as driver:
            stopped.arm()  # Ray's core has a handler of its own, which aborts the process
            try:
                driver.supervisor.start(stopped)
                return run(config, run_dir, resume, driver, driver.train, stopped, callbacks)
            except RayError as error:  # Ray itself has failed, or a worker died at the wrong moment
                raise failed_on_ray(error) from error
