"""The local runtime: one process, deterministic for a seed on one thread.

Collector and learner take turns. Every tick steps all environments; after `collect_agent_steps` ticks the unroll goes to the store, then
the learner runs as long as the limiter allows.
"""

import time
from collections import deque
from functools import partial
from pathlib import Path

import torch

from rlsuite.config.schema import Config
from rlsuite.factories import Parts, build, resumed
from rlsuite.learning.learner import DeviceBatch
from rlsuite.runs.progress import Progress
from rlsuite.runtime.run_loop import Loop, Result, evaluate, log_losses, run, save, signals, status


def run_local(config: Config, run_dir: Path | None, resume: bool = False) -> Result:
    """Trains until `run.agent_steps` (exactly) or `run.minutes`, then evaluates. Ctrl-C writes a checkpoint and returns.

    `run_dir`: None makes a new folder under runs/; with `resume` the folder of the run to go on with.
    """
    with signals() as stopped:  # first of all, so that Ctrl-C is never too early
        parts = build(resumed(config) if resume else config)
        return run(config, run_dir, resume, parts, partial(train_loop, parts), stopped)


def train_loop(parts: Parts, loop: Loop, progress: Progress, stopped: list[int]) -> bool:
    """Until the steps, the minutes or the return asked for are reached; True if a signal came before."""
    config, run = loop.config, loop.config.run
    queue = deque[DeviceBatch]()  # prefetched batches
    collector = parts.collector
    next_log = next_checkpoint = time.monotonic()
    next_checkpoint += run.checkpoint_minutes * 60
    every = config.eval.every_agent_steps
    while True:
        if collector.ready(run.collect_agent_steps) and loop.collected <= run.agent_steps:
            metrics = _learn(parts, loop, queue)
            now = time.monotonic()
            if metrics and now >= next_log:
                log_losses(loop, metrics)
                next_log = now + run.log_seconds
        if stopped:
            return True
        if loop.collected >= run.agent_steps:
            return False
        if run.minutes is not None and loop.seconds >= run.minutes * 60:
            return False
        if time.monotonic() >= next_checkpoint:
            save(loop, full=True)
            next_checkpoint = time.monotonic() + run.checkpoint_minutes * 60
        if every and loop.collected // every > (loop.collected - loop.moved) // every:
            summary = evaluate(loop, config.eval.every_episodes, stopped)
            if summary is None:
                return True
            if config.eval.stop_at_return is not None and summary.mean >= config.eval.stop_at_return:
                return False
        loop.moved, episodes = collector.advance(loop.collected)
        loop.collected += loop.moved
        for episode in episodes:
            loop.returns.add(episode.episodic_return)
            values = {
                "charts/episodic_return": episode.episodic_return,
                "charts/episodic_length": float(episode.length),
            }
            loop.log.scalars(loop.clock(), values)
        progress.update(status(loop))


def _learn(parts: Parts, loop: Loop, queue: deque[DeviceBatch]) -> dict[str, torch.Tensor] | None:
    """The unroll goes to the store; then as many updates as the limiter allows. Metrics of the last one."""
    replay, learner, config = parts.replay, parts.learner, loop.config
    replay.add(parts.collector.take())
    metrics = None
    batch, ahead = config.learner.batch_size, config.learner.prefetch_batches
    while replay.can_sample(batch):
        queue.append(learner.stage(replay.sample(batch)))
        if len(queue) <= ahead:
            continue
        on_device = queue.popleft()
        update = learner.step(on_device, loop.agent_steps, want_priority=config.replay.prioritized)
        parts.lag.follow(learner.steps)
        if update.priority is not None:
            replay.update(on_device.keys, update.priority)
        metrics = update.metrics
    parts.collector.version = parts.lag.version
    return metrics
