"""Handles on the workers of a run, and errors that name the worker they come from."""

import contextlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayError, RayTaskError

from rlsuite.acting.inference import socket_of
from rlsuite.config import loader
from rlsuite.config.schema import Config
from rlsuite.core import registry
from rlsuite.core.errors import RlsuiteError, UsageError, one_line
from rlsuite.core.types import EnvSpec
from rlsuite.runs import checkpoint, run_folder
from rlsuite.runtime.ray.cluster import learner_threads, resources
from rlsuite.runtime.ray.environments import Packed
from rlsuite.runtime.ray.workers import (
    CollectorWorker,
    EvaluatorWorker,
    Facts,
    InferenceWorker,
    LearnerWorker,
    Registered,
    ShardWorker,
    Worker,
    sources_of,
)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class PickledEntry:
    """A registry entry, pickled for another process.

    It is unpickled as the entry or, if the other process cannot load it (for example because only this process has loaded the file
    that defines it), as its name, so that only code that looks it up fails.
    """

    def __init__(self, entry: Any):
        self.entry = entry

    def __reduce__(self) -> tuple[Any, ...]:
        entry = self.entry
        if isinstance(entry, str):
            return str, (entry,)
        kind = entry if hasattr(entry, "__qualname__") else type(entry)
        name = entry.__name__ if isinstance(entry, ModuleType) else f"{kind.__module__}:{kind.__qualname__}"
        try:
            return _unpacked, (name, cloudpickle.dumps(entry))  # type: ignore[no-untyped-call]
        except Exception:  # anything that pickling its parts may raise
            return str, (name,)


def _unpacked(name: str, packed: bytes) -> Any:
    try:
        return cloudpickle.loads(packed)
    except Exception:
        return name


def start(kind: type[Worker], resources: dict[str, float], *args: Any) -> Any:
    """Starts a worker as a Ray actor, in a process of its own."""
    return ray.remote(kind).options(**resources).remote(*args)


def end(actor: Any) -> None:
    """Ends an actor's process at once."""
    with contextlib.suppress(Exception):
        ray.kill(actor)


@dataclass(eq=False)
class WorkerHandle:
    """One worker of a run: how to start it, its current process, and its history."""

    kind: str
    index: int
    make: Callable[[int, int], Any]  # index, restarts so far -> actor
    actor: Any = None  # None: not started, or dead
    restarts: int = 0
    crashes: int = 0  # in a row
    not_before: float = 0.0  # earliest time of the next start, after a crash
    greeted: bool = False  # whether it is built and has the same versions as the driver
    ready: bool = False  # whether it takes part in the run
    version: int = -1  # version of the weights that it has
    card: str | None = None  # a learner's GPU

    @property
    def name(self) -> str:
        """Its name in messages, such as "collector 3"."""
        alone = self.kind in ("evaluator", "inference server") or (self.kind == "learner" and self.index == 0)
        return self.kind if alone else f"{self.kind} {self.index}"


class WorkerSet:
    """The handles of a run's workers. `supervisor` starts the workers."""

    def __init__(self, config: Config, spec: EnvSpec, shards: int, saved: Path | None, environments: Packed):
        """`saved`: the checkpoint to resume from, or None; its agent steps give collectors new random streams."""
        self.config, runtime, resumed_at = config, config.runtime, checkpoint.steps_of(saved)
        tables = {
            kind: {name: PickledEntry(entry) for name, entry in table.items()} for kind, table in registry.registered().items()
        }
        of_all = (loader.as_mapping(config), Registered(tables, environments))
        gpus = runtime.learner_gpus
        if gpus is None:
            gpus = float(config.run.device != "cpu" and resources().get("GPU", 0) >= runtime.learners)

        self.socket = socket_of(uuid.uuid4().hex[:12]) if runtime.inference == "server" else None

        def collector(index: int, restart: int) -> Any:
            resources = {"num_cpus": runtime.collector_threads, "num_gpus": runtime.collector_gpus}
            return start(CollectorWorker, resources, *of_all, index, resumed_at + restart, self.socket)

        def server(index: int, restart: int) -> Any:
            resources = {"num_cpus": runtime.collector_threads, "num_gpus": runtime.inference_gpus}
            return start(InferenceWorker, resources, *of_all, spec, self.socket)

        def shard(index: int, restart: int) -> Any:
            return start(ShardWorker, {"num_cpus": 0}, *of_all, spec, index)

        def learner(rank: int, restart: int) -> Any:
            return start(LearnerWorker, {"num_cpus": 1, "num_gpus": gpus}, *of_all, spec, rank, learner_threads(config))

        def evaluator(index: int, restart: int) -> Any:
            return start(EvaluatorWorker, {"num_cpus": 0}, *of_all, spec)

        self.learners = [WorkerHandle("learner", rank, learner) for rank in range(runtime.learners)]
        self.shards = [WorkerHandle("shard", index, shard) for index in range(shards)]
        self.collectors = [WorkerHandle("collector", index, collector) for index in range(runtime.collectors)]
        self.servers = [WorkerHandle("inference server", 0, server)] if self.socket else []
        self.evaluator = WorkerHandle("evaluator", 0, evaluator)  # started for the first periodic evaluation

    @property
    def trainers(self) -> list[WorkerHandle]:
        """The workers whose state a checkpoint saves."""
        return [*self.learners, *self.shards]

    @property
    def core(self) -> list[WorkerHandle]:
        """The workers that a run cannot do without."""
        return [*self.trainers, *self.servers, *self.collectors]

    def shard_of(self, collector: WorkerHandle) -> tuple[WorkerHandle, int]:
        """The shard that stores a collector's unrolls, and the collector's index among the shard's sources."""
        shard = self.shards[collector.index % len(self.shards)]
        return shard, collector.index // len(self.shards) % sources_of(self.config, shard.index)


def refuse_other_versions(worker: WorkerHandle, facts: Facts) -> None:
    """UsageError if a worker's node has a different version of rlsuite, Python or torch than the driver."""
    own = run_folder.versions()
    other = {name: facts.versions.get(name) for name in ("rlsuite", "python", "torch") if facts.versions.get(name) != own[name]}
    if other:
        found = ", ".join(f"{name} {version} (here {own[name]})" for name, version in other.items())
        raise UsageError(f"{worker.name} on {facts.host} has {found}: nodes of a cluster must agree")


def actor_of(worker: WorkerHandle) -> Any:
    """The process of a worker. RlsuiteError if it has died."""
    if worker.actor is None:
        raise RlsuiteError(f"{worker.name} is lost, and what it held")
    return worker.actor


def as_own(worker: WorkerHandle, error: BaseException) -> RlsuiteError:
    """The run's error for an exception in a worker's own code: its text in one line, its traceback in `details`."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, RlsuiteError):
        found = type(cause)(f"{worker.name}: {cause}")
        found.details = cause.details
        return found
    if isinstance(error, RayActorError):  # it could not even be created: a module is missing on its node
        found = RlsuiteError(f"{worker.name} cannot start: {traceback_of(error).splitlines()[-1]}")
    else:
        found = RlsuiteError(f"{worker.name} failed: {reason_of(error)}")
    found.details = traceback_of(error)
    return found


def failed_on_ray(error: RayError) -> RlsuiteError:
    """The run's error for an error of Ray itself."""
    found = RlsuiteError(f"Ray failed: {reason_of(error)}")
    found.details = traceback_of(error)
    return found


def reason_of(error: BaseException) -> str:
    """The cause of an error in one line: the exception of the worker's own code, or Ray's message."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception) and not isinstance(cause, RayError):
        return one_line(cause)
    lines = traceback_of(error).splitlines() or [type(error).__name__]
    return lines[-1] if isinstance(error, RayTaskError) else lines[0]


def traceback_of(error: BaseException) -> str:
    """The text of an error that came through Ray, without terminal colours."""
    return _COLOUR.sub("", str(error)).strip()
