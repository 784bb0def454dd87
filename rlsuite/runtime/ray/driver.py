"""The driver: asks workers, passes references on, replaces what died."""

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError, RayTaskError

from rlsuite.config.schema import Config
from rlsuite.core import registry
from rlsuite.core.agent import Agent
from rlsuite.core.errors import RlsuiteError
from rlsuite.core.types import EnvSpec
from rlsuite.factories import stream_seed
from rlsuite.replay.limiter import SamplesPerInsert
from rlsuite.runs import checkpoint
from rlsuite.runs.progress import Progress
from rlsuite.runtime.ray.cluster import REACH_SECONDS, learner_threads, object_store_bytes, resources
from rlsuite.runtime.ray.handles import Call, PickledEntry, WorkerHandle, as_own, refuse_other_versions
from rlsuite.runtime.ray.roles import CollectorsElsewhere, LearnerElsewhere, NullPolicyLag, ReplayElsewhere
from rlsuite.runtime.ray.workers import (
    Collected,
    CollectorWorker,
    EvaluatorWorker,
    Facts,
    Learned,
    LearnerWorker,
    ShardWorker,
    Stored,
)
from rlsuite.runtime.run_loop import Loop, log_losses, note_evaluation, save, status

START_SECONDS = 180.0  # for a worker to import, build its environment and say hello
CRASHES = 3  # of one worker in a row, without a result between: it will not get better
_CHOICE = 1000  # the driver's random stream


class Driver:
    """The driver's view of a run on Ray, and the stand-ins (`Roles`) for what the run asks of its parts."""

    def __init__(self, config: Config, spec: EnvSpec, agent: Agent, env: Any, saved: Path | None = None):
        """`saved`: the checkpoint that the run goes on from; its collectors get other random streams."""
        self.saved_at = saved  # the last checkpoint, for what has to come back
        self.resumed_at = int(saved.name.rpartition("_")[2]) if saved is not None else 0
        self.config, self.spec, self.agent, self.env = config, spec, agent, env
        self.runtime = config.runtime
        self.synchronous = self.runtime.synchronous
        if self.synchronous is None:
            self.synchronous = agent.on_policy and "old weights" not in agent.capabilities
        self.pending: dict[Any, Call] = {}
        self.stored = [Stored(0, 0.0, 0)] * self.runtime.shards
        self.rng = np.random.default_rng(stream_seed(config.seed, _CHOICE))
        self.round_steps = self.runtime.collectors * config.env.num_envs * config.run.collect_agent_steps  # an unroll of everybody
        self.limiter = SamplesPerInsert(
            config.replay.samples_per_insert,
            config.replay.min_agent_steps,
            tolerance=None if self.synchronous else float(self.runtime.insert_tolerance_agent_steps or 4 * self.round_steps),
        )
        self.rollouts: deque[Any] = deque()  # references of unrolls that wait for the learner
        self.learner_steps = 0
        self.asked_updates = 0
        self.published: tuple[int, Any] = (0, None)  # version and reference of the newest weights
        self.reached = False  # the return that the run shall stop at
        self.next_log = self.progressed = self.last_rates = time.monotonic()
        self.seen: dict[str, float] = {}  # the last rates
        self.deaths: deque[float] = deque()  # when workers died, of the last hour
        self.first_error: str | None = None
        self.lost = self.replaced = 0
        self.counts = {"collect": 0, "insert": 0, "sample": 0}
        self.lags: deque[int] = deque(maxlen=1000)
        self.diagnostics: dict[str, float] = {}
        self.evaluating: Any = None
        self._make_workers()
        self.learner, self.replay = LearnerElsewhere(self), ReplayElsewhere(self)
        self.collector, self.lag = CollectorsElsewhere(self), NullPolicyLag()

    # -------------------------------------------------------------------------------------------------- members and deaths

    def _make_workers(self) -> None:
        config, spec, runtime = self.config, self.spec, self.runtime
        tables = {
            kind: {name: PickledEntry(result) for name, result in table.items()} for kind, table in registry.registered().items()
        }
        gpus = runtime.learner_gpus
        if gpus is None:
            gpus = float(config.run.device != "cpu" and resources().get("GPU", 0) >= runtime.learners)

        def collector(index: int) -> Callable[[int], Any]:
            kind = ray.remote(CollectorWorker).options(num_cpus=runtime.collector_threads, num_gpus=runtime.collector_gpus)
            return lambda restart: kind.remote(config, index, self.resumed_at + restart, tables)

        def shard(index: int) -> Callable[[int], Any]:
            return lambda restart: ray.remote(ShardWorker).options(num_cpus=0).remote(config, spec, index, tables)

        def learner(rank: int) -> Callable[[int], Any]:
            kind = ray.remote(LearnerWorker).options(num_cpus=1, num_gpus=gpus)
            return lambda restart: kind.remote(config, spec, rank, learner_threads(config), tables)

        self.learners = [WorkerHandle("learner", rank, learner(rank)) for rank in range(runtime.learners)]
        self.the_learner = self.learners[0]  # who tells and publishes; all have the same weights
        self.shards = [] if self.agent.on_policy else [WorkerHandle("shard", i, shard(i)) for i in range(runtime.shards)]
        self.collectors = [WorkerHandle("collector", i, collector(i)) for i in range(runtime.collectors)]
        self.evaluator = WorkerHandle(
            "evaluator", 0, lambda restart: ray.remote(EvaluatorWorker).options(num_cpus=0).remote(config, spec, tables)
        )
        workers = self._core()
        for worker in workers:
            worker.actor = worker.make(0)
        greetings = {worker.actor.hello.remote(): worker for worker in workers}
        deadline = time.monotonic() + START_SECONDS
        for ref, worker in greetings.items():
            try:
                facts: Facts = ray.get(ref, timeout=max(deadline - time.monotonic(), 1.0))
            except GetTimeoutError as error:
                raise RlsuiteError(f"{worker.name} did not start within {START_SECONDS:.0f} s: is there room for it?") from error
            except RayError as error:
                raise as_own(worker, error) from error
            refuse_other_versions(worker, facts)
            worker.greeted = worker.ready = True
        self._meet()
        self._fetch_weights()

    def _core(self) -> list[WorkerHandle]:
        """All that a run cannot do without."""
        return [*self.learners, *self.shards, *self.collectors]

    def _meet(self) -> None:
        """Learners that share batches find each other."""
        if len(self.learners) > 1:
            place = ray.get(self.the_learner.actor.meeting_place.remote("127.0.0.1" if self.runtime.address is None else None))
            ray.get([worker.actor.meet.remote(place) for worker in self.learners], timeout=START_SECONDS)

    def close(self) -> None:
        for worker in (*self._core(), self.evaluator):
            if worker.actor is not None:
                with contextlib.suppress(Exception):
                    ray.kill(worker.actor)
                worker.actor = None

    def _died(self, worker: WorkerHandle, error: BaseException, loop: Loop) -> None:
        """Tells, remembers, and starts the successor; raises where there must be none."""
        if worker.actor is None:
            return  # several calls tell of one death
        if worker is self.evaluator:
            self.evaluating = None
        own = error.cause if isinstance(error, RayTaskError) and isinstance(error.cause, Exception) else None
        if own is not None and isinstance(own, RayError):
            own = None
        reason = str(error) if own is not None else (str(error).splitlines() or [type(error).__name__])[0]
        self.first_error = self.first_error or f"{worker.name}: {reason}"
        print(f"rlsuite: {worker.name} is lost: {reason}", file=sys.stderr, flush=True)
        if own is not None and (isinstance(own, RlsuiteError) or worker.kind != "collector"):
            raise as_own(worker, error) from error  # its code cannot go on, and a second try would end as this one
        now = time.monotonic()
        self.lost += 1
        self.deaths.append(now)
        while self.deaths[0] < now - 3600:
            self.deaths.popleft()
        worker.crashes += 1
        if own is not None and worker.crashes >= CRASHES:
            raise RlsuiteError(f"{worker.name} failed {CRASHES} times in a row:\n{reason}") from error
        if len(self.deaths) > self.runtime.restarts:
            raise RlsuiteError(
                f"{len(self.deaths)} workers died within an hour, more than runtime.restarts = {self.runtime.restarts}; "
                f"the first: {self.first_error}"
            )
        worker.not_before = now + (min(2.0 ** (worker.crashes - 1), 30.0) if worker.crashes > 1 else 0.0)
        for lost in self.learners if worker.kind == "learner" else [worker]:  # learners share gradients: they go together
            self._forget(lost)

    def _forget(self, worker: WorkerHandle) -> None:
        """Ends a worker and what was asked of it."""
        if worker.actor is not None:
            with contextlib.suppress(Exception):
                ray.kill(worker.actor)
        worker.actor, worker.greeted, worker.ready, worker.calls, worker.version = None, False, False, 0, -1
        for ref in [ref for ref, call in self.pending.items() if call.worker is worker]:
            del self.pending[ref]

    def _revive(self, loop: Loop) -> None:
        """Starts successors whose time has come. They take part once they have said hello."""
        for worker in self._core():
            if worker.actor is not None or time.monotonic() < worker.not_before:
                continue
            worker.restarts += 1
            self.replaced += 1
            worker.actor = worker.make(worker.restarts)
            self._call(worker, "hello", worker.actor.hello.remote())

    def _greeted(self, worker: WorkerHandle, facts: Facts, loop: Loop) -> None:
        refuse_other_versions(worker, facts)
        if worker.kind == "collector" and self.shards:
            shard, source = self._home(worker)
            if shard.ready:  # nothing may be learned across the gap
                self._call(shard, "stored", shard.actor.end_streams.remote(source))
        elif worker.kind == "shard":
            saved = self._last_checkpoint()
            self.stored[worker.index] = Stored(0, 0.0, 0)
            if saved is not None:
                self._call(worker, "stored", worker.actor.load.remote(saved.state["replay"]["shards"][worker.index]))
                self._call(worker, "stored", worker.actor.end_streams.remote(None))
        worker.greeted = True
        if worker.kind != "learner":
            worker.ready = True
        elif all(learner.greeted for learner in self.learners):
            try:
                self._learners_are_back()
            except RayError as error:  # gone again
                self._died(worker, error, loop)

    def _learners_are_back(self) -> None:
        self._meet()
        saved = self._last_checkpoint()
        if saved is not None:
            self.load_learners(saved.weights, saved.state["learner"], str(saved.path))
        else:
            self.learner_steps = 0
        print(f"rlsuite: the learner goes on from learner step {self.learner_steps:,}", file=sys.stderr, flush=True)
        self._fetch_weights()
        for worker in self.learners:
            worker.ready = True

    def load_learners(self, weights: dict[str, torch.Tensor], state: dict[str, Any], where: str) -> None:
        self.learner_steps = ray.get([worker.actor.load.remote(weights, state, where) for worker in self.learners])[0]

    def _last_checkpoint(self) -> checkpoint.Checkpoint | None:
        return None if self.saved_at is None else checkpoint.load(self.saved_at)

    def _call(self, worker: WorkerHandle, what: str, ref: Any, data: Any = None, more: Any = None) -> None:
        self.pending[ref] = Call(what, worker, worker.restarts, data, more)

    def _home(self, collector: WorkerHandle) -> tuple[WorkerHandle, int]:
        """The shard of a collector, and which of its sources that is."""
        return self.shards[collector.index % len(self.shards)], collector.index // len(self.shards)

    # ---------------------------------------------------------------------------------------------------------- what flows

    def _fetch_weights(self) -> None:
        """Makes the learner's weights of now those that collectors get next."""
        version, ref = self.the_learner.actor.publish.options(num_returns=2).remote()
        self.published = (ray.get(version), ref)

    def _ask(self, worker: WorkerHandle, agent_steps: int) -> None:
        """One more unroll of a collector."""
        version, ref = self.published
        weights = None if worker.version == version else ref
        worker.version, worker.calls, worker.asked = version, worker.calls + 1, worker.asked + 1
        unroll, report = worker.actor.collect.options(num_returns=2).remote(weights, version, agent_steps)
        self._call(worker, "collected", report, unroll)

    def _store(self, worker: WorkerHandle, unroll: Any, steps: int) -> None:
        shard, source = self._home(worker)
        if shard.ready:  # else it is lost: so is the memory
            self._call(shard, "added", shard.actor.add.remote(unroll, source), steps, unroll)
        else:
            self.limiter.did_insert(steps)

    def _learn(self, agent_steps: int, want_metrics: bool) -> None:
        """Batches of one shard, drawn by mass, go to the learner: as many as are due."""
        runtime, count = self.runtime, self.config.learner.batch_size
        weights = np.array(
            [stored.total_weight if shard.ready else 0.0 for shard, stored in zip(self.shards, self.stored, strict=True)]
        )
        index = 0 if len(weights) == 1 else int(self.rng.choice(len(weights), p=weights / weights.sum()))
        batches, most = 0, 1 if self.synchronous else runtime.batches_per_call
        while batches < most and self.limiter.can_sample(count):
            self.limiter.did_sample(count)
            batches += 1
        self.counts["sample"] += count * batches
        shard, before = self.shards[index], self.asked_updates
        self.asked_updates += batches
        publish = self.synchronous or self.asked_updates // runtime.publish_learner_steps > before // runtime.publish_learner_steps
        samples, seen = shard.actor.sample.options(num_returns=2).remote(count, self.limiter.inserted, batches)
        self._call(shard, "stored", seen)
        for worker in self.learners:
            first = worker is self.the_learner
            worker.calls += 1
            call = worker.actor.learn.options(num_returns=3)
            report, priority, weights = call.remote(samples, agent_steps, want_metrics and first, publish and first)
            self._call(worker, "learned", report, weights if publish and first else None, (shard, priority))

    def _learn_rollouts(self, agent_steps: int, want_metrics: bool) -> None:
        learner, count = self.the_learner, self.config.learner.batch_size // self.config.env.num_envs
        unrolls = [self.rollouts.popleft() for _ in range(count)]
        self.counts["sample"] += self.config.learner.batch_size
        for worker in self.learners:
            worker.calls += 1
            call = worker.actor.learn_rollouts.options(num_returns=3)
            report, _, weights = call.remote(agent_steps, want_metrics and worker is learner, *unrolls)
            self._call(worker, "learned", report, weights if worker is learner else None)

    def can_learn(self) -> bool:
        if not all(worker.ready for worker in self.learners):
            return False
        if self.agent.on_policy:
            return len(self.rollouts) * self.config.env.num_envs >= self.config.learner.batch_size
        there = [stored for shard, stored in zip(self.shards, self.stored, strict=True) if shard.ready]
        enough = sum(stored.stored for stored in there) >= min(self.config.replay.min_agent_steps, self.limiter.inserted)
        return (
            enough and any(stored.total_weight > 0 for stored in there) and self.limiter.can_sample(self.config.learner.batch_size)
        )

    def learn_more(self, loop: Loop) -> None:
        now = time.monotonic()
        want = now >= self.next_log
        if want:
            self.next_log = now + self.config.run.log_seconds
        if self.agent.on_policy:
            self._learn_rollouts(loop.agent_steps, want)
        else:
            self._learn(loop.agent_steps, want)

    def handle(self, ref: Any, call: Call, loop: Loop) -> None:
        """A call has ended."""
        worker = call.worker
        if call.restart != worker.restarts or worker.actor is None:
            return
        if call.what in ("collected", "learned", "evaluated"):
            worker.calls -= 1
        try:
            result = ray.get(ref)
            worker.crashes = worker.crashes if call.what == "hello" else 0
            getattr(self, f"_{call.what}")(call, result, loop)
            return
        except ActorUnavailableError as error:
            self._died(worker, error, loop)
        except RayActorError as error:
            self._blame(call, error, loop)
        except RayTaskError as error:
            if isinstance(error.cause, RayError) or isinstance(error, RayActorError):
                self._blame(call, error, loop)
            else:
                self._died(worker, error, loop)
        except RayError as error:  # a lost object: of a node that is gone
            self._blame(call, error, loop)
        if call.what == "collected":
            worker.version = -1  # if the weights were what was lost

    def _blame(self, call: Call, error: BaseException, loop: Loop) -> None:
        """A call failed: did its worker die, or the one that it had its arguments from?"""
        worker = call.worker
        try:
            ray.get(worker.actor.ping.remote(), timeout=REACH_SECONDS)
        except GetTimeoutError:
            pass  # busy, not dead
        except RayError:
            self._died(worker, error, loop)

    # ------------------------------------------------------------------------------------------------------- what calls end in

    def _hello(self, call: Call, facts: Facts, loop: Loop) -> None:
        self._greeted(call.worker, facts, loop)

    def _collected(self, call: Call, result: Collected, loop: Loop) -> None:
        loop.moved = result.steps
        loop.collected += result.steps
        self.counts["collect"] += result.steps
        self.diagnostics |= result.diagnostics
        for episode in result.episodes:
            loop.returns.add(episode.episodic_return)
            values = {"charts/episodic_return": episode.episodic_return, "charts/episodic_length": float(episode.length)}
            loop.log.scalars(loop.clock(), values)
        self.lags.append(self.learner_steps - result.version)
        if self.agent.on_policy or self.limiter.inserted <= self.config.replay.min_agent_steps:
            self.progressed = time.monotonic()  # on the way to the first update, or to the next
        if self.agent.on_policy:
            self.rollouts.append(call.data)
            self.counts["insert"] += result.steps
        else:
            self._store(call.worker, call.data, result.steps)

    def _added(self, call: Call, result: Stored, loop: Loop) -> None:
        self.limiter.did_insert(result.added)  # of self-play only the games that have ended
        self.counts["insert"] += result.added
        self.stored[call.worker.index] = result

    def _pinged(self, call: Call, result: bool, loop: Loop) -> None:
        pass

    def _stored(self, call: Call, result: Stored, loop: Loop) -> None:
        self.stored[call.worker.index] = result

    def _learned(self, call: Call, result: Learned, loop: Loop) -> None:
        if call.worker is self.the_learner:
            self.learner_steps = result.steps
            self.progressed = time.monotonic()
        if call.data is not None:
            self.published = (result.steps, call.data)
        if call.more is not None and self.config.replay.prioritized:
            shard, priority = call.more
            if shard.ready:
                self._call(shard, "stored", shard.actor.update.remote(priority))
        if result.metrics is not None:
            log_losses(loop, {name: torch.tensor(value) for name, value in result.metrics.items()}, self.rates(loop))

    def _evaluated(self, call: Call, result: Any, loop: Loop) -> None:
        clock, weights = call.data
        self.evaluating = None
        with contextlib.suppress(RayError):  # a worker that is lost meanwhile is noticed elsewhere; then nothing is kept
            note_evaluation(loop, result, clock, weights=lambda: self._tensors(weights))
        stop = self.config.eval.stop_at_return
        self.reached = stop is not None and result.mean >= stop

    def _tensors(self, ref: Any) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array.copy()) for name, array in ray.get(ref).items()}

    # ------------------------------------------------------------------------------------------------------------ the run

    def train(self, loop: Loop, progress: Progress, stopped: list[int]) -> bool:
        """Until the steps, the minutes or the return asked for are reached; True if a signal came before."""
        run = self.config.run
        self.next_log = self.progressed = self.last_rates = time.monotonic()
        next_shown = 0.0
        next_checkpoint = time.monotonic() + run.checkpoint_minutes * 60
        step = self._round if self.synchronous else self._flow
        while True:
            self._revive(loop)
            before = loop.collected
            step(loop)
            if stopped:
                self.settle(loop)
                return True
            if loop.collected >= run.agent_steps:
                break
            if run.minutes is not None and loop.seconds >= run.minutes * 60:
                break
            if time.monotonic() >= next_checkpoint and self.save_whole(loop):
                next_checkpoint = time.monotonic() + run.checkpoint_minutes * 60
            if not self.reached:
                self._evaluate_on_the_way(loop, before, stopped)
            if self.reached and self._still_reached(loop, stopped):
                break
            self._refuse_to_stall()
            if time.monotonic() >= next_shown:
                progress.update(status(loop, self.facts()))
                next_shown = time.monotonic() + 0.5
        self.settle(loop)
        return False

    def save_whole(self, loop: Loop) -> bool:
        """A checkpoint to resume from; False if a worker is lost now or is lost meanwhile."""
        self.drain(loop)
        if not all(worker.ready for worker in (*self.learners, *self.shards)):
            return False
        try:
            self.saved_at = save(loop, full=True)
        except RayError:
            for worker in (*self.learners, *self.shards):
                self._call(worker, "pinged", worker.actor.ping.remote())
            return False
        return True

    def settle(self, loop: Loop) -> None:
        """Until nothing is in flight, and the learner and all shards are there: for the last checkpoint."""
        self.drain(loop)
        while not all(worker.ready for worker in (*self.learners, *self.shards)):
            self._revive(loop)
            self._wait(loop, 0.5)
            self._refuse_to_stall()

    def _round(self, loop: Loop) -> None:
        """Everybody collects with the newest weights; then the learner learns all that it may."""
        alive = [worker for worker in self.collectors if worker.ready]
        for worker in alive:
            self._ask(worker, loop.collected)
        self.drain(loop)
        while self.can_learn():
            self.learn_more(loop)
            self.drain(loop)
        if not alive:
            self._wait(loop, 0.5)

    def _flow(self, loop: Loop) -> None:
        """Everybody does what limits allow; then waits for the next thing to end."""
        runtime = self.runtime
        ahead = sum(worker.calls for worker in self.collectors)
        expected = self.round_steps // runtime.collectors
        for worker in sorted(self.collectors, key=lambda worker: (worker.calls, worker.asked)):  # each in its turn
            if not worker.ready or worker.calls >= runtime.calls_in_flight or not self._may_collect(ahead, expected):
                continue
            self._ask(worker, loop.collected)
            ahead += 1
        while self.the_learner.calls < runtime.batch_calls_in_flight and self.can_learn():
            self.learn_more(loop)
        self._wait(loop, 0.5)

    def _may_collect(self, ahead: int, expected: int) -> bool:
        """Back pressure: unrolls that wait, or steps that the learner is behind."""
        if self.agent.on_policy:
            batch = self.config.learner.batch_size // self.config.env.num_envs
            return len(self.rollouts) + ahead < 2 * batch + len(self.collectors)
        unstored = sum(call.data for call in self.pending.values() if call.what == "added")
        waiting = unstored + (ahead + 1) * expected
        assert self.limiter.tolerance is not None
        if waiting > max(self.limiter.tolerance, expected):
            return False
        # Before the first sequence is whole there is nothing to learn from, however many steps are stored.
        return not any(stored.total_weight > 0 for stored in self.stored) or self.limiter.can_insert(waiting)

    def _wait(self, loop: Loop, seconds: float) -> None:
        """For a call to end; handles all that have."""
        if not self.pending:
            time.sleep(min(seconds, 0.1))
            return
        refs = list(self.pending)
        ready, _ = ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
        if ready:
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in ready:
            call = self.pending.pop(ref, None)  # gone if its worker died meanwhile
            if call is not None:
                self.handle(ref, call, loop)

    def drain(self, loop: Loop) -> None:
        """Until nothing is in flight but evaluations and greetings."""
        while any(call.what not in ("evaluated", "hello") for call in self.pending.values()):
            self._wait(loop, 1.0)
            self._refuse_to_stall()

    def _evaluate_on_the_way(self, loop: Loop, before: int, stopped: list[int]) -> None:
        every = self.config.eval.every_agent_steps
        if not every or loop.collected // every <= before // every or self.evaluating is not None:
            return
        self._evaluate(loop)
        if self.synchronous:
            self._await_evaluation(loop, stopped)

    def _still_reached(self, loop: Loop, stopped: list[int]) -> bool:
        """Whether the weights of now do what those that were evaluated did: training went on meanwhile, unless synchronously."""
        if not self.synchronous:
            self.settle(loop)
            self._fetch_weights()
            self.reached = False  # should the evaluator die meanwhile
            self._evaluate(loop)
            self._await_evaluation(loop, stopped)
        return self.reached

    def _await_evaluation(self, loop: Loop, stopped: list[int]) -> None:
        while self.evaluating is not None and not stopped:
            self._wait(loop, 1.0)
            self.progressed = time.monotonic()  # nothing is to be learned meanwhile

    def _evaluate(self, loop: Loop) -> None:
        if self.evaluator.actor is None:
            self.evaluator.actor = self.evaluator.make(0)
            self.evaluator.actor.hello.remote()
        self.evaluating = self.published[1]
        self.evaluator.calls += 1
        call = self.evaluator.actor.evaluate.remote(self.published[1], self.config.eval.every_episodes)
        self._call(self.evaluator, "evaluated", call, (loop.clock(), self.published[1]))

    def _refuse_to_stall(self) -> None:
        minutes = (time.monotonic() - self.progressed) / 60
        if minutes > self.runtime.stall_minutes:
            raise RlsuiteError(
                f"nothing was learned for {minutes:.0f} minutes (runtime.stall_minutes); "
                f"the first error: {self.first_error or 'none was told'}"
            )

    # ---------------------------------------------------------------------------------------------------------- what is seen

    def rates(self, loop: Loop) -> dict[str, float]:
        """Scalars since the last call."""
        now = time.monotonic()
        span = max(now - self.last_rates, 1e-9)
        found = {f"ray/{name}_per_second": count / span for name, count in self.counts.items()}
        self.counts = dict.fromkeys(self.counts, 0)
        self.last_rates = now
        if self.lags:
            found["charts/policy_lag"] = float(np.mean(self.lags))
        if self.limiter.inserted and not self.agent.on_policy:
            found["ray/samples_per_insert"] = self.limiter.sampled / self.limiter.inserted
        found |= {"ray/workers_lost": float(self.lost), "ray/workers_replaced": float(self.replaced)}
        used = object_store_bytes()
        if used is not None:
            found["ray/object_store_bytes"] = used
        self.seen = found
        return found

    def facts(self) -> dict[str, str]:
        """What the live table shows besides what every run does."""
        seen = self.seen
        shown = {
            "collect/s": ("ray/collect_per_second", "{:,.0f}"),
            "insert/s": ("ray/insert_per_second", "{:,.0f}"),
            "sample/s": ("ray/sample_per_second", "{:,.0f}"),
            "lag": ("charts/policy_lag", "{:,.0f}"),
            "store": ("ray/object_store_bytes", "{:,.0f} B"),
        }
        found = {name: text.format(seen[tag]) for name, (tag, text) in shown.items() if tag in seen}
        if "store" in found:
            found["store"] = f"{seen['ray/object_store_bytes'] / 1e6:,.0f} MB"
        alive = sum(worker.ready for worker in self.collectors)
        return {**found, "collectors": f"{alive}/{len(self.collectors)}", "lost": f"{self.lost}", "replaced": f"{self.replaced}"}
