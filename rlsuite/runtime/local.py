"""The local runtime: one process, deterministic for a seed and a number of threads.

Collector and learner take turns. Every tick steps all environments. After `collect_agent_steps` ticks, the unroll goes to the
store, and the learner makes updates for as long as the limiter allows. Except for on-policy agents, environments that can step in
the background (Atari) meanwhile take the first step of the next unroll, with actions chosen before these updates.
"""

from collections import deque
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.acting.collector import Collector
from rlsuite.config.schema import Config
from rlsuite.factories import Parts, build, resumed
from rlsuite.runs import checkpoint
from rlsuite.runs.callbacks import Callbacks
from rlsuite.runs.progress import Progress
from rlsuite.runtime.distillation import make_trained_agent
from rlsuite.runtime.run_loop import Loop, Result, run
from rlsuite.runtime.session import take_turns
from rlsuite.runtime.signals import Stop, signals

Pending = deque[tuple[NDArray[np.int64], Callable[[], NDArray[np.float64]]]]  # keys and priorities of updates, the oldest first


def run_local(config: Config, run_dir: Path | None, resume: bool = False, callbacks: Callbacks | None = None) -> Result:
    """Trains an agent to exactly `run.agent_steps`, or for `run.minutes`, then evaluates it. Ctrl-C saves a checkpoint and returns.

    `run_dir`: None creates a folder under runs/; with `resume`, the folder of the run to continue.
    """
    # Signals are handled before anything is built, so that Ctrl-C never comes too early.
    saved = checkpoint.find(run_dir, resumable=True) if resume and run_dir is not None else None
    fresh, steps = resumed(config) if resume else config, checkpoint.steps_of(saved)
    with signals() as stopped, closing(build(fresh, steps, make_trained_agent)) as parts:
        return run(config, run_dir, resume, parts, partial(train_loop, parts), stopped, callbacks)


def train_loop(parts: Parts, loop: Loop, progress: Progress, stopped: Stop) -> bool:
    """Trains until the requested steps, minutes or return are reached; True if a signal came first."""
    pending: Pending = deque()

    def collect() -> None:
        loop.count(*parts.collector.advance(loop.collected))

    def learn() -> dict[str, torch.Tensor] | None:
        run = loop.config.run
        ready = parts.collector.ready(run.collect_agent_steps) and loop.collected <= run.agent_steps
        return _learn(parts, loop, pending) if ready else None

    return take_turns(loop, collect, learn, progress, stopped)


def _learn(parts: Parts, loop: Loop, pending: Pending) -> dict[str, torch.Tensor] | None:
    """Stores the unroll, then makes as many updates as the limiter allows; returns the metrics of the last one.

    On a GPU an update is only queued: with `learner.prefetch_batches`, the next batches are drawn before its priorities are known.
    """
    replay, learner, config = parts.replay, parts.learner, loop.config
    replay.add(parts.collector.take())
    if isinstance(parts.collector, Collector) and not parts.agent.on_policy and not loop.finished:
        parts.collector.begin(loop.collected)
    metrics = None
    batch, ahead = config.learner.batch_size, config.learner.prefetch_batches
    while replay.can_sample(batch):
        on_device = learner.stage(replay.sample(batch))
        update = learner.step(on_device, loop.agent_steps, want_priority=config.replay.prioritized)
        parts.lag.follow(learner.steps)
        if update.priority is not None:
            pending.append((on_device.keys, update.priority))
        if len(pending) > ahead:
            keys, priority = pending.popleft()
            replay.update(keys, priority())
        metrics = update.metrics
    parts.collector.version = parts.lag.version
    return metrics
