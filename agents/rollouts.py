"""Shared parts of agents that learn from rollouts, without a replay: checks and minibatches. Shapes: T time, B environments."""

from collections.abc import Iterator

import torch

from rlsuite.config import schema
from rlsuite.core.types import Trajectory, take_columns


def refuse_bad_rollouts(config: schema.Config) -> None:
    """ValueError for rollouts of fewer than two steps, and for batches that are not a whole number of unrolls."""
    name, num_envs, steps, batch = (
        config.agent.name,
        config.env.num_envs,
        config.run.collect_agent_steps,
        config.learner.batch_size,
    )
    if steps < 2:
        raise ValueError(f"run.collect_agent_steps = {steps}: a rollout of {name} needs at least 2 steps")
    if batch % num_envs:
        near = max(1, round(batch / num_envs)) * num_envs
        raise ValueError(
            f"learner.batch_size = {batch}: {name} collects rollouts from {num_envs} environments at once, "
            f"so it must be a multiple of that; try {near}"
        )


def refuse_uneven_minibatches(config: schema.Config, minibatches: int) -> None:
    """ValueError if a batch does not divide into this many minibatches."""
    if config.learner.batch_size % minibatches:
        raise ValueError(f"agent.minibatches = {minibatches} does not divide learner.batch_size = {config.learner.batch_size}")


def ignored_without_replay(config: schema.Config, old_weights: bool, recorded: bool = False) -> dict[str, str]:
    """The keys that an agent without a replay ignores, in the form that `Agent.ignores` returns.

    `old_weights`: the agent can learn from rollouts of older weights. `recorded`: its rollouts come with recorded steps.
    """
    replay = f"agent.name = an agent that has a replay; {config.agent.name} learns from every rollout once"
    keys = ["shards", "publish_learner_steps", "batches_per_call", "insert_tolerance_agent_steps"]
    stored = [f"replay.{key}" for key in type(config.replay).model_fields if not (recorded and key == "demonstrations")]
    ignored = dict.fromkeys([*stored, "learner.prefetch_batches", *(f"runtime.{key}" for key in keys)], replay)
    if not old_weights and config.runtime.synchronous is not False:  # it collects and learns in turn
        ignored |= dict.fromkeys(["runtime.calls_in_flight", "runtime.batch_calls_in_flight"], "runtime.synchronous = false")
    return ignored


def minibatches(batch: Trajectory, epochs: int, count: int, rng: torch.Generator) -> Iterator[Trajectory]:
    """Yields `count` minibatches of shuffled sequences in each of `epochs` passes over a batch [T,B,...].

    Sequences that consist only of final observations are dealt out evenly. At most every second step is one, so each minibatch of
    two or more sequences has a step to learn from. The host need not check this, which would make it wait for the GPU.
    """
    empty = batch.steps.last.all(0)  # [B]
    for _ in range(epochs):
        order = torch.randperm(len(empty), generator=rng, device=rng.device)
        order = order[empty[order].to(torch.uint8).argsort(stable=True)]
        for number in range(count):
            yield take_columns(batch, order[number::count])
