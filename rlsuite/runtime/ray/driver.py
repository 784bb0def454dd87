"""The driver of a run on Ray: carries out the scheduler's decisions, and passes references from worker to worker."""

import contextlib
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayError

from rlsuite.config.schema import Config
from rlsuite.core.agent import Agent
from rlsuite.core.errors import RlsuiteError
from rlsuite.core.types import EnvSpec
from rlsuite.evaluation.statistics import Summary
from rlsuite.runs.metrics import Clock
from rlsuite.runs.progress import Progress
from rlsuite.runtime.ray.cluster import object_store_bytes
from rlsuite.runtime.ray.environments import Packed
from rlsuite.runtime.ray.handles import WorkerHandle, WorkerSet
from rlsuite.runtime.ray.roles import NullPolicyLag, RemoteCollectors, RemoteLearner, RemoteReplay, as_tensors
from rlsuite.runtime.ray.scheduler import Scheduler, Snapshot
from rlsuite.runtime.ray.supervisor import Supervisor
from rlsuite.runtime.ray.workers import Collected, Learned, Stored
from rlsuite.runtime.run_loop import Loop
from rlsuite.runtime.signals import Stop

COLLECTORS_SECONDS, TRAINERS_SECONDS = 5.0, 60.0  # to wait for calls under way, when a run is stopped


class Driver:
    """A run on Ray. It implements the `Roles` that `run_loop` needs; `supervisor.start` starts its workers."""

    def __init__(self, config: Config, spec: EnvSpec, agent: Agent, saved: Path | None, environments: Packed):
        """`saved`: the checkpoint to resume from, or None; collectors of a resumed run get new random streams."""
        self.config, self.spec, self.agent, self.on_policy = config, spec, agent, agent.on_policy
        synchronous = config.runtime.synchronous
        if synchronous is None:
            synchronous = agent.on_policy and "old weights" not in agent.capabilities
        self.synchronous = synchronous
        self.scheduler = Scheduler(config, on_policy=agent.on_policy, synchronous=synchronous)
        self.workers = WorkerSet(config, spec, 0 if agent.on_policy else config.runtime.shards, saved, environments)
        self.learner = RemoteLearner(config, agent, self.workers.learners)
        self.replay = RemoteReplay(config, agent, self.workers.shards, self.scheduler)
        self.collector, self.lag = RemoteCollectors(), NullPolicyLag()
        self.supervisor = Supervisor(config, self.workers, self.learner, self.replay, saved)
        self.rollouts: deque[Any] = deque()  # references of unrolls that wait for an on-policy learner
        self.reached = False  # whether an evaluation has reached the return to stop at
        self.next_log = self.last_rates = time.monotonic()
        self.counts = {"collect": 0, "insert": 0, "sample": 0}  # since the last rates
        self.lags: deque[int] = deque(maxlen=1000)
        self.seen: dict[str, float] = {}  # scalars of the last `_rates`

    def close(self) -> None:
        """Ends all workers."""
        self.supervisor.close()

    def train(self, loop: Loop, progress: Progress, stopped: Stop) -> bool:
        """Trains until the requested steps, minutes or return are reached; True if a signal came first."""
        try:
            return self._train(loop, progress, stopped)
        except BaseException:
            with loop.stopped.finishing():
                self._let_end()
            raise

    def _train(self, loop: Loop, progress: Progress, stopped: Stop) -> bool:
        run = self.config.run
        self.scheduler.did_progress()
        self.next_log = self.last_rates = time.monotonic()
        next_shown = 0.0
        next_checkpoint = time.monotonic() + run.checkpoint_minutes * 60
        while True:
            self.supervisor.revive()
            before = loop.collected
            self._round(loop)
            loop.callbacks.check()
            if stopped:
                self._let_end()
                return True
            if loop.finished:
                break
            if time.monotonic() >= next_checkpoint and self._save(loop):
                next_checkpoint = time.monotonic() + run.checkpoint_minutes * 60
            if not self.reached and self.scheduler.evaluation_due(before, loop.collected) and not self._evaluating():
                self._evaluate(loop)
                if self.synchronous:
                    self._await_evaluation(loop, stopped)
            if self.reached and self._still_reached(loop, stopped):
                break
            self._refuse_to_stall()
            if time.monotonic() >= next_shown:
                progress.update(loop.status(self._facts()))
                next_shown = time.monotonic() + 0.5
        self._settle()
        return False

    def _round(self, loop: Loop) -> None:
        """Makes all calls to collectors and learner that the scheduler allows, then waits for one to end.

        In synchronous runs each step ends before the next begins: first the unrolls of all collectors, with the newest weights,
        then one update after the other.
        """
        self.supervisor.serve()
        if self.synchronous:
            self._drain()
        asked = self.scheduler.collectors_to_ask(self._snapshot())
        for index in asked:
            self._collect(loop, self.workers.collectors[index])
        if self.synchronous:
            self._drain()
        while self.scheduler.may_learn(self._snapshot()):
            self._learn(loop)
            if self.synchronous:
                self._drain()
        if not self.synchronous or not asked:
            self.supervisor.wait(0.5)

    def _snapshot(self) -> Snapshot:
        in_flight = self.supervisor.in_flight()
        return Snapshot(
            collectors={worker.index: in_flight[worker] for worker in self.workers.collectors if worker.ready},
            shards=[worker.ready for worker in self.workers.shards],
            learners=self.learner.ready,
            learner_calls=in_flight[self.learner.first],
            storing=self.supervisor.storing(),
            rollouts=len(self.rollouts),
        )

    def _drain(self) -> None:
        """Waits until no calls are in flight other than evaluations and greetings."""
        while self.supervisor.busy():
            self.supervisor.revive(self.workers.servers)  # collectors wait for the inference server
            self.supervisor.wait(1.0)
            self._refuse_to_stall()

    def _let_end(self) -> None:
        """Waits for the calls in flight, so that a checkpoint holds everything that is counted; ignores errors meanwhile.

        Collectors, whose environments may hang, get only a few seconds; after that their unrolls are given up.
        """
        begun = time.monotonic()
        while time.monotonic() < begun + TRAINERS_SECONDS:
            collecting = time.monotonic() < begun + COLLECTORS_SECONDS
            if not any(self.supervisor.busy(worker) for worker in (self.workers.core if collecting else self.workers.trainers)):
                return
            with contextlib.suppress(RlsuiteError, RayError):
                self.supervisor.wait(0.5)

    def _settle(self) -> None:
        """Waits until no calls are in flight, and the learners and all shards are ready for a checkpoint."""
        self._drain()
        while not self._whole():
            self.supervisor.revive()
            self.supervisor.wait(0.5)
            self._refuse_to_stall()

    def _whole(self) -> bool:
        """Whether all workers are ready whose state a checkpoint saves."""
        return all(worker.ready for worker in self.workers.trainers)

    def _save(self, loop: Loop) -> bool:
        """Writes a checkpoint to resume from; False if a worker is missing or dies meanwhile."""
        self._drain()
        if not self._whole():
            return False
        try:
            self.supervisor.saved_at = loop.save(full=True)
        except RayError:
            self.supervisor.check(self.workers.trainers)
            return False
        return True

    def _refuse_to_stall(self) -> None:
        self.scheduler.refuse_to_stall(self.supervisor.first_error)

    def _collect(self, loop: Loop, worker: WorkerHandle) -> None:
        """Asks a collector for one more unroll."""
        version, ref = self.learner.published
        if self.workers.servers:
            version, weights = max(self.workers.servers[0].version, 0), None
        else:
            weights, worker.version = None if worker.version == version else ref, version
        unroll, report = worker.actor.collect.options(num_returns=2).remote(weights, version, loop.collected)
        self.supervisor.call(worker, report, partial(self._collected, loop, worker, unroll))

    def _collected(self, loop: Loop, worker: WorkerHandle, unroll: Any, report: Collected) -> None:
        loop.count(report.steps, report.episodes)
        self.counts["collect"] += report.steps
        self.collector.reported |= report.diagnostics
        self.lags.append(self.learner.steps - report.version)
        self.scheduler.did_collect()
        if self.on_policy:
            self.rollouts.append(unroll)
            self.counts["insert"] += report.steps
            return
        shard, source = self.workers.shard_of(worker)
        if shard.ready:
            added = shard.actor.add.remote(unroll, source)
            self.supervisor.call(shard, added, partial(self._added, shard), storing=report.steps)
        else:  # the shard is lost, and this unroll with it
            self.scheduler.limiter.did_insert(report.steps)

    def _added(self, shard: WorkerHandle, report: Stored) -> None:
        self.scheduler.limiter.did_insert(report.added)  # in self-play, only games that have ended
        self.counts["insert"] += report.added
        self.replay.note(shard, report)

    def _learn(self, loop: Loop) -> None:
        """Calls the learners to make the updates that are due, from rollouts or from batches of one shard."""
        log, shard, publish = time.monotonic() >= self.next_log, None, True
        if log:
            self.next_log = time.monotonic() + self.config.run.log_seconds
        if self.on_policy:
            data = [self.rollouts.popleft() for _ in range(self.scheduler.rollouts_per_batch)]
            self.counts["sample"] += self.config.learner.batch_size
        else:
            draw, count = self.scheduler.next_draw(self._snapshot()), self.config.learner.batch_size
            shard, publish = self.workers.shards[draw.shard], draw.publish
            samples, stored = shard.actor.sample.options(num_returns=2).remote(count, self.scheduler.limiter.inserted, draw.batches)
            self.supervisor.call(shard, stored, partial(self.replay.note, shard))
            data = [samples]
            self.counts["sample"] += count * draw.batches
        for worker in self.workers.learners:
            first = worker is self.learner.first
            learn = worker.actor.learn_rollouts if self.on_policy else worker.actor.learn
            args = loop.agent_steps, log and first, publish and first, *data
            report, priorities, weights = learn.options(num_returns=3).remote(*args)
            done = partial(self._learned, loop, worker, shard, priorities, weights if publish and first else None)
            self.supervisor.call(worker, report, done)

    def _learned(
        self, loop: Loop, worker: WorkerHandle, shard: WorkerHandle | None, priorities: Any, weights: Any, report: Learned
    ) -> None:
        """Handles a learner's report. `priorities`, `weights`: references; `weights` is None if they are not published."""
        if worker is self.learner.first:
            self.learner.steps = report.steps
            self.scheduler.did_progress()
        if weights is not None:
            self.learner.published = (report.steps, weights)
        if shard is not None and shard.ready and self.config.replay.prioritized:
            self.supervisor.call(shard, shard.actor.update.remote(priorities), partial(self.replay.note, shard))
        if report.metrics is not None:
            loop.log_losses({name: torch.tensor(value) for name, value in report.metrics.items()}, self._rates())

    def _evaluating(self) -> bool:
        return self.supervisor.in_flight()[self.workers.evaluator] > 0

    def _evaluate(self, loop: Loop) -> None:
        """Sends the last published weights to the evaluator."""
        worker, weights = self.workers.evaluator, self.learner.published[1]
        if worker.actor is None:
            self.supervisor.start_one(worker)
        ref = worker.actor.evaluate.remote(weights, self.config.eval.every_episodes)
        self.supervisor.call(worker, ref, partial(self._evaluated, loop, loop.clock(), weights), awaited=False)

    def _evaluated(self, loop: Loop, clock: Clock, weights: Any, summary: Summary) -> None:
        with contextlib.suppress(RayError):  # a worker that dies meanwhile is noticed elsewhere; the weights are not kept then
            loop.note_evaluation(summary, clock, weights=lambda: as_tensors(ray.get(weights)))
        self.reached = loop.good_enough(summary)

    def _await_evaluation(self, loop: Loop, stopped: Stop) -> None:
        while self._evaluating() and not stopped:
            loop.show_evaluation("under way")
            self.supervisor.wait(1.0)
            self.scheduler.did_progress()  # nothing is supposed to be learned meanwhile

    def _still_reached(self, loop: Loop, stopped: Stop) -> bool:
        """Whether the current weights, too, reach the return to stop at: asynchronous training went on during the evaluation."""
        if not self.synchronous:
            self._settle()
            self.learner.publish()
            self.reached = False  # in case the evaluator dies meanwhile
            self._evaluate(loop)
            self._await_evaluation(loop, stopped)
        return self.reached

    def _rates(self) -> dict[str, float]:
        """Scalars for the log; rates are over the time since the last call."""
        now, limiter = time.monotonic(), self.scheduler.limiter
        span = max(now - self.last_rates, 1e-9)
        found = {f"ray/{name}_per_second": count / span for name, count in self.counts.items()}
        self.counts = dict.fromkeys(self.counts, 0)
        self.last_rates = now
        if self.lags:
            found["charts/policy_lag"] = float(np.mean(self.lags))
        if limiter.inserted and not self.on_policy:
            found["ray/samples_per_insert"] = limiter.sampled / limiter.inserted
        found["ray/workers_lost"] = float(self.supervisor.lost)
        found["ray/workers_replaced"] = float(self.supervisor.replaced)
        used = object_store_bytes()
        if used is not None:
            found["ray/object_store_bytes"] = used
        self.seen = found
        return found

    def _facts(self) -> dict[str, str]:
        """Values that the live table shows in addition to those of every run."""
        shown = {
            "collect/s": ("ray/collect_per_second", 1.0, ""),
            "insert/s": ("ray/insert_per_second", 1.0, ""),
            "sample/s": ("ray/sample_per_second", 1.0, ""),
            "lag": ("charts/policy_lag", 1.0, ""),
            "store": ("ray/object_store_bytes", 1e6, " MB"),
        }
        found = {name: f"{self.seen[tag] / per:,.0f}{unit}" for name, (tag, per, unit) in shown.items() if tag in self.seen}
        alive = sum(worker.ready for worker in self.workers.collectors)
        lost, replaced = self.supervisor.lost, self.supervisor.replaced
        if self._evaluating():
            found["evaluation"] = "under way"
        return {**found, "collectors": f"{alive}/{len(self.workers.collectors)}", "lost": f"{lost}", "replaced": f"{replaced}"}
