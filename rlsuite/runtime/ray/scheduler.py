"""Scheduling: decides what a run on Ray does next, from counts alone. Nothing here uses Ray.

A decision counts as carried out once it is returned: the counts that it changes are updated here and nowhere else.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlsuite.config.schema import Config
from rlsuite.core.errors import RlsuiteError
from rlsuite.factories import stream_seed
from rlsuite.replay.limiter import SamplesPerInsert
from rlsuite.runtime.ray.workers import Stored

_SHARD_CHOICE = 1000  # number of the scheduler's random stream


class Snapshot(NamedTuple):
    """The workers that are ready, and the calls in flight to them, at the moment of a decision."""

    collectors: Mapping[int, int]  # index of each ready collector -> unrolls that were requested and are still to come
    shards: Sequence[bool]  # whether each is ready
    learners: bool  # whether all are ready
    learner_calls: int = 0  # in flight
    storing: int = 0  # agent steps on their way into shards
    rollouts: int = 0  # unrolls that wait for an on-policy learner


class Draw(NamedTuple):
    """One call to the learner: a number of batches, all from one shard."""

    shard: int
    batches: int
    publish: bool  # whether to publish the weights after them


class Scheduler:
    """Paces collectors and learner, distributes batches over shards, and notices when learning stalls.

    It has the only limiter of the run: shards store and sample whenever they are asked to (see `limiter.Unlimited`).
    """

    def __init__(self, config: Config, *, on_policy: bool, synchronous: bool, clock: Callable[[], float] = time.monotonic):
        """`clock` returns seconds."""
        self.config, self.runtime = config, config.runtime
        self.on_policy, self.synchronous, self.clock = on_policy, synchronous, clock
        self.unroll_steps = config.env.num_envs * config.run.collect_agent_steps
        default = 4 * self.runtime.collectors * self.unroll_steps
        self.tolerance = float(self.runtime.insert_tolerance_agent_steps or default)
        self.limiter = SamplesPerInsert(
            config.replay.samples_per_insert,
            config.replay.min_agent_steps,
            tolerance=None if synchronous else self.tolerance,
        )
        self.rng = np.random.default_rng(stream_seed(config.seed, _SHARD_CHOICE))
        self.stored = [Stored(0, 0.0, 0)] * self.runtime.shards  # last report of each shard
        self.asked = [0] * self.runtime.collectors  # unrolls requested from each collector so far
        self.batches = 0  # batches drawn so far
        self.progressed_at = clock()

    def collectors_to_ask(self, now: Snapshot) -> list[int]:
        """Indices of the collectors to ask for one more unroll each.

        In synchronous runs, these are all that are ready; otherwise as many as back pressure allows, least busy first and in turn.
        """
        if self.synchronous:
            return list(now.collectors)
        chosen: list[int] = []
        in_flight = sum(now.collectors.values())
        for index in sorted(now.collectors, key=lambda index: (now.collectors[index], self.asked[index])):
            full = now.collectors[index] >= self.runtime.calls_in_flight
            if full or not self._may_collect(in_flight + len(chosen), now):
                break
            self.asked[index] += 1
            chosen.append(index)
        return chosen

    def _may_collect(self, in_flight: int, now: Snapshot) -> bool:
        """Back pressure: whether another unroll may be requested while `in_flight` unrolls are still to come."""
        if self.on_policy:
            return now.rollouts + in_flight < 2 * self.rollouts_per_batch + self.runtime.collectors
        waiting = now.storing + (in_flight + 1) * self.unroll_steps
        if waiting > max(self.tolerance, self.unroll_steps):
            return False
        filling = any(now.shards) and not self._learnable(now)
        return filling or self.limiter.can_insert(waiting)

    def did_collect(self) -> None:
        """Called when an unroll arrives; it counts as progress while the learner has to wait for unrolls."""
        if self.on_policy or self.limiter.inserted <= self.config.replay.min_agent_steps:
            self.did_progress()

    @property
    def rollouts_per_batch(self) -> int:
        """The number of unrolls in a batch of an on-policy learner."""
        return self.config.learner.batch_size // self.config.env.num_envs

    def may_learn(self, now: Snapshot) -> bool:
        """Whether the learner may be called for another update."""
        if not now.learners or now.learner_calls >= self.runtime.batch_calls_in_flight:
            return False
        if self.on_policy:
            return now.rollouts >= self.rollouts_per_batch
        return self._learnable(now) and self.limiter.can_sample(self.config.learner.batch_size)

    def _learnable(self, now: Snapshot) -> bool:
        """Whether the ready shards hold at least one whole sequence and enough steps; inserted steps may have been lost since."""
        there = [stored for ready, stored in zip(now.shards, self.stored, strict=True) if ready]
        enough = sum(stored.stored for stored in there) >= min(self.config.replay.min_agent_steps, self.limiter.inserted)
        return enough and any(stored.total_weight > 0 for stored in there)

    def next_draw(self, now: Snapshot) -> Draw:
        """The next call to the learner, for use when `may_learn` is true: the batches that are due, all from one shard.

        The shard is drawn in proportion to its total weight, so that every sequence has the same chance as in a single replay.
        """
        count, before = self.config.learner.batch_size, self.batches
        weights = np.array(
            [stored.total_weight if ready else 0.0 for ready, stored in zip(now.shards, self.stored, strict=True)]
        )  # [shards]
        shard = 0 if len(weights) == 1 else int(self.rng.choice(len(weights), p=weights / weights.sum()))
        most = 1 if self.synchronous else self.runtime.batches_per_call
        while self.batches - before < most and self.limiter.can_sample(count):
            self.limiter.did_sample(count)
            self.batches += 1
        every = self.runtime.publish_learner_steps
        return Draw(shard, self.batches - before, self.synchronous or self.batches // every > before // every)

    def evaluation_due(self, before: int, collected: int) -> bool:
        """Whether a periodic evaluation falls between two counts of agent steps."""
        every = self.config.eval.every_agent_steps
        return every is not None and collected // every > before // every

    def did_progress(self) -> None:
        """Restarts the clock that `refuse_to_stall` reads."""
        self.progressed_at = self.clock()

    def refuse_to_stall(self, first_error: str | None) -> None:
        """RlsuiteError if nothing has been learned for `runtime.stall_minutes`."""
        minutes = (self.clock() - self.progressed_at) / 60
        if minutes > self.runtime.stall_minutes:
            raise RlsuiteError(
                f"nothing was learned for {minutes:.0f} minutes (runtime.stall_minutes); "
                f"the first error: {first_error or 'none was reported'}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue with the same decisions, once the shards have reported again."""
        return {"limiter": self.limiter.state_dict(), "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; a local run's state lacks the random state, since it does not choose shards."""
        if "limiter" in state:
            self.limiter.load_state_dict(state["limiter"])
        if "rng" in state:
            self.rng.bit_generator.state = state["rng"]
