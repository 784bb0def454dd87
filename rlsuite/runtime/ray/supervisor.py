"""Supervision: starts the workers of a run, waits for their calls, detects workers that have died, and replaces them."""

import shutil
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from rlsuite.config.schema import Config
from rlsuite.core.console import say
from rlsuite.core.errors import EnvError, RlsuiteError
from rlsuite.replay.moves import SavedReplay
from rlsuite.runs import checkpoint
from rlsuite.runtime.ray.cluster import REACH_SECONDS
from rlsuite.runtime.ray.handles import WorkerHandle, WorkerSet, as_own, end, reason_of, refuse_other_versions, traceback_of
from rlsuite.runtime.ray.roles import RemoteLearner, RemoteReplay
from rlsuite.runtime.ray.workers import Facts, Stored
from rlsuite.runtime.signals import Stop

START_SECONDS = 180.0  # for a worker to import rlsuite, build its environment and answer the greeting
CRASHES = 3  # of one worker in a row without a result in between: another restart would not help


class Call(NamedTuple):
    """A call in flight; the supervisor stores it by the reference of its result."""

    worker: WorkerHandle
    done: Callable[[Any], None]  # called with the result
    awaited: bool  # whether `busy` counts it
    storing: int  # agent steps that it adds to a shard


class Supervisor:
    """Keeps track of the calls in flight, and starts, watches and replaces the workers that receive them.

    The calls of a worker that dies are dropped; its successor takes part once it has answered the greeting. A new collector begins
    new episodes, a new shard is restored from the last checkpoint or empty, and all learners go back to the last checkpoint.
    """

    def __init__(self, config: Config, workers: WorkerSet, learner: RemoteLearner, replay: RemoteReplay, saved_at: Path | None):
        """`saved_at`: the checkpoint to resume from, or None."""
        self.runtime, self.workers, self.learner, self.replay = config.runtime, workers, learner, replay
        self.saved_at = saved_at  # the last checkpoint, from which replaced workers are restored
        self.pending: dict[Any, Call] = {}
        self.deaths: deque[float] = deque()  # times of workers' deaths within the last hour
        self.first_error: str | None = None
        self.first_details = ""  # its traceback
        self.lost = self.replaced = 0

    def start(self, stopped: Stop) -> None:
        """Starts all workers that the run cannot do without; RlsuiteError for the first that cannot start.

        KeyboardInterrupt if a signal comes meanwhile, since training has not begun yet.
        """
        for worker in self.workers.core:
            worker.actor = worker.make(worker.index, 0)
        greetings = {worker.actor.hello.remote(): worker for worker in self.workers.core}
        deadline = time.monotonic() + START_SECONDS
        for ref, worker in greetings.items():
            try:
                while not ray.wait([ref], timeout=0.5)[0] and time.monotonic() < deadline:
                    if stopped:
                        raise KeyboardInterrupt
                facts: Facts = ray.get(ref, timeout=max(deadline - time.monotonic(), 1.0))
            except GetTimeoutError as error:
                raise RlsuiteError(f"{worker.name} did not start within {START_SECONDS:.0f} s: is there room for it?") from error
            except RayError as error:
                raise as_own(worker, error) from error
            refuse_other_versions(worker, facts)
            worker.greeted, worker.ready, worker.card = True, True, facts.card
        self._connect_learners()
        self.learner.publish()

    def serve(self) -> None:
        """Sends the last published weights to the inference server, if there is one and it lacks them."""
        version, weights = self.learner.published
        for worker in self.workers.servers:
            if worker.ready and worker.version != version:
                worker.version = version
                self.call(worker, worker.actor.load.remote(weights), lambda _: None)

    def start_one(self, worker: WorkerHandle) -> None:
        """Starts a worker during the run, without waiting for it."""
        worker.actor = worker.make(worker.index, worker.restarts)
        self.call(worker, worker.actor.hello.remote(), partial(self._greeted, worker), awaited=False)

    def _connect_learners(self) -> None:
        """Connects the learners to each other, if there are several."""
        if len(self.workers.learners) > 1:
            cards = sorted({str(worker.card) for worker in self.workers.learners})
            if len(cards) > 1:
                say(f"rlsuite: the learners have different GPUs ({', '.join(cards)}): all wait for the slowest")
            host = "127.0.0.1" if self.runtime.address is None else None
            place = ray.get(self.learner.first.actor.meeting_place.remote(host))
            ray.get([worker.actor.meet.remote(place) for worker in self.workers.learners], timeout=START_SECONDS)

    def close(self) -> None:
        """Ends all workers."""
        for worker in (*self.workers.core, self.workers.evaluator):
            self._forget(worker)
        if self.workers.socket is not None:
            shutil.rmtree(self.workers.socket.parent, ignore_errors=True)

    def call(self, worker: WorkerHandle, ref: Any, done: Callable[[Any], None], *, awaited: bool = True, storing: int = 0) -> None:
        """Registers a call that was made to a worker: `done` is called with its result, unless the worker dies first."""
        self.pending[ref] = Call(worker, done, awaited, storing)

    def in_flight(self) -> Counter[WorkerHandle]:
        """The number of calls in flight to each worker."""
        return Counter(call.worker for call in self.pending.values())

    def storing(self) -> int:
        """The number of agent steps that calls in flight will add to shards."""
        return sum(call.storing for call in self.pending.values())

    def busy(self, worker: WorkerHandle | None = None) -> bool:
        """Whether calls are in flight, to one worker or to any, other than evaluations and greetings."""
        return any(call.awaited and worker in (None, call.worker) for call in self.pending.values())

    def wait(self, seconds: float) -> None:
        """Waits up to `seconds` for a call to end, and handles all calls that have ended."""
        if not self.pending:
            time.sleep(min(seconds, 0.1))
            return
        refs = list(self.pending)
        ended, _ = ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
        if ended:
            ended, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in ended:
            call = self.pending.pop(ref, None)  # gone if its worker died meanwhile
            if call is not None:
                self._finish(ref, call)

    def _finish(self, ref: Any, call: Call) -> None:
        worker = call.worker
        try:
            result = ray.get(ref)
            if worker.greeted:
                worker.crashes = 0
            call.done(result)
            return
        except RayError as error:
            if isinstance(error, ActorUnavailableError) or _raised(error) is not None:
                self.died(worker, error)
            else:  # a dead actor, or an object that was lost with its node
                self._blame(worker, error)
        worker.version = -1  # in case the lost object was its weights

    def check(self, workers: list[WorkerHandle]) -> None:
        """Pings workers: `wait` then notices those that have died."""
        for worker in workers:
            self.call(worker, worker.actor.ping.remote(), lambda _: None)

    def _blame(self, worker: WorkerHandle, error: RayError) -> None:
        """Finds out, after a failed call, whether its worker died, or only the one that its arguments came from."""
        try:
            ray.get(worker.actor.ping.remote(), timeout=REACH_SECONDS)
        except GetTimeoutError:
            pass  # busy, not dead
        except RayError:
            self.died(worker, error)

    def died(self, worker: WorkerHandle, error: RayError) -> None:
        """Reports a worker's death and schedules its successor; RlsuiteError if a successor would not help."""
        if worker.actor is None:
            return  # several calls report one death
        own, reason = _raised(error), reason_of(error)
        if self.first_error is None:
            self.first_error, self.first_details = f"{worker.name}: {reason}", traceback_of(error) if own is not None else ""
        say(f"rlsuite: {worker.name} is lost: {reason}")
        again = worker.kind == "collector" and not (isinstance(own, RlsuiteError) and not isinstance(own, EnvError))
        if own is not None and not again:
            raise as_own(worker, error) from error  # its code cannot go on, and a second try would end the same way
        now = time.monotonic()
        self.lost += 1
        worker.crashes += 1
        self.deaths.append(now)
        while self.deaths[0] < now - 3600:
            self.deaths.popleft()
        if own is not None and worker.crashes >= CRASHES:
            raise self._with_details(f"{worker.name} failed {CRASHES} times in a row: {reason}") from error
        if len(self.deaths) > self.runtime.restarts:
            raise self._with_details(
                f"{len(self.deaths)} workers died within an hour, more than runtime.restarts = {self.runtime.restarts}; "
                f"the first: {self.first_error}"
            )
        worker.not_before = now + (min(2.0 ** (worker.crashes - 1), 30.0) if worker.crashes > 1 else 0.0)
        for lost in self.workers.learners if worker.kind == "learner" else [worker]:  # learners share gradients: all are replaced
            self._forget(lost)

    def _with_details(self, message: str) -> RlsuiteError:
        """An error with the traceback of the first error of the run."""
        found = RlsuiteError(message)
        found.details = self.first_details
        return found

    def _forget(self, worker: WorkerHandle) -> None:
        """Ends a worker, if it is alive, and drops its calls."""
        if worker.actor is not None:
            end(worker.actor)
        worker.actor, worker.greeted, worker.ready, worker.version = None, False, False, -1
        self.pending = {ref: call for ref, call in self.pending.items() if call.worker is not worker}

    def revive(self, workers: list[WorkerHandle] | None = None) -> None:
        """Starts the successors that are due: of `workers`, or of all workers that the run cannot do without."""
        for worker in self.workers.core if workers is None else workers:
            if worker.actor is None and time.monotonic() >= worker.not_before:
                worker.restarts += 1
                self.replaced += 1
                self.start_one(worker)

    def _greeted(self, worker: WorkerHandle, facts: Facts) -> None:
        """Called when a worker that was started during the run is built: restores its state, then lets it take part."""
        refuse_other_versions(worker, facts)
        if worker.kind == "collector" and self.workers.shards:
            shard, source = self.workers.shard_of(worker)
            if shard.ready:  # so that no sequence spans the gap
                self.call(shard, shard.actor.end_streams.remote(source), partial(self.replay.note, shard))
        elif worker.kind == "shard":
            saved = self._last_checkpoint()
            self.replay.note(worker, Stored(0, 0.0, 0))
            if saved is not None:
                refs = self.replay.restoring(worker, SavedReplay.of(saved.state["replay"]))
                for ref in (*refs, worker.actor.end_streams.remote(None)):
                    self.call(worker, ref, partial(self.replay.note, worker))
        worker.greeted, worker.card = True, facts.card
        if worker.kind != "learner":
            worker.ready = True
            self.serve()
        elif all(learner.greeted for learner in self.workers.learners):
            try:
                self._restore_learners()
            except RayError as error:  # it has died again
                self.died(worker, error)

    def _restore_learners(self) -> None:
        self._connect_learners()
        saved = self._last_checkpoint()
        if saved is not None:
            self.learner.restore(saved.weights, saved.state["learner"], str(saved.path))
        else:
            self.learner.steps = 0
        say(f"rlsuite: the learner continues from learner step {self.learner.steps:,}")
        self.learner.publish()
        for worker in self.workers.learners:
            worker.ready = True

    def _last_checkpoint(self) -> checkpoint.Checkpoint | None:
        return None if self.saved_at is None else checkpoint.load(self.saved_at)


def _raised(error: RayError) -> Exception | None:
    """The exception that the worker's own code raised; None if Ray has lost a process or an object."""
    own = error.cause if isinstance(error, RayTaskError) else None
    return own if isinstance(own, Exception) and not isinstance(own, RayError) else None
