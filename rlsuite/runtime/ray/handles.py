"""What a driver knows of its workers, and how it tells what they died of."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from ray import cloudpickle
from ray.exceptions import RayActorError

from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.runs import run_folder
from rlsuite.runtime.ray.workers import Facts


class PickledEntry:
    """What was registered here, on its way to another process. There it is itself, or, where that process cannot have it (a file
    that was loaded here defines it), the name of what is missed: only who asks for it hears of that."""

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
        except Exception:  # whatever its parts raise
            return str, (name,)


def _unpacked(name: str, packed: bytes) -> Any:
    try:
        return cloudpickle.loads(packed)
    except Exception:
        return name


@dataclass
class WorkerHandle:
    """A worker and its history."""

    kind: str
    index: int
    make: Callable[[int], Any]  # restarts so far -> actor handle
    actor: Any = None
    restarts: int = 0
    crashes: int = 0  # in a row
    not_before: float = 0.0  # of the next start, after a crash
    greeted: bool = False  # has said hello
    ready: bool = False  # and takes part
    calls: int = 0  # in flight
    version: int = -1  # of the weights that it has
    asked: int = 0  # unrolls, ever

    @property
    def name(self) -> str:
        return (
            self.kind if self.kind == "evaluator" or (self.kind == "learner" and self.index == 0) else f"{self.kind} {self.index}"
        )


class Call(NamedTuple):
    """One in flight, by the reference that tells its end."""

    what: str
    worker: WorkerHandle
    restart: int  # of the member when it was made: an answer of one that was replaced is dropped
    data: Any = None  # references of the other results
    more: Any = None


def refuse_other_versions(worker: WorkerHandle, facts: Facts) -> None:
    own = run_folder.versions()
    other = {name: facts.versions.get(name) for name in ("rlsuite", "python", "torch") if facts.versions.get(name) != own[name]}
    if other:
        entry = ", ".join(f"{name} {version} (here {own[name]})" for name, version in other.items())
        raise UsageError(f"{worker.name} on {facts.host} has {entry}: nodes of a cluster must agree")


def as_own(worker: WorkerHandle, error: BaseException) -> RlsuiteError:
    """What a worker's own code raised, as an error of the run."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, RlsuiteError):
        return type(cause)(f"{worker.name}: {cause}")
    if isinstance(error, RayActorError):  # it could not even be made: a module that is missing there
        return RlsuiteError(f"{worker.name} cannot start: {str(error).strip().splitlines()[-1]}")
    return RlsuiteError(f"{worker.name} failed:\n{error}")
