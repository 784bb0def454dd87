"""What a driver knows of its workers, and how it tells what they died of."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from ray import cloudpickle
from ray.exceptions import RayActorError

from rlsuite import run_folder
from rlsuite.errors import RlsuiteError, UsageError
from rlsuite.runtime.ray.workers import Facts


class Told:
    """What was registered here, on its way to another process. There it is itself, or, where that process cannot have it (a file
    that was loaded here defines it), the name of what is missed: only who asks for it hears of that."""

    def __init__(self, told: Any):
        self.told = told

    def __reduce__(self) -> tuple[Any, ...]:
        told = self.told
        if isinstance(told, str):
            return str, (told,)
        kind = told if hasattr(told, "__qualname__") else type(told)
        name = told.__name__ if isinstance(told, ModuleType) else f"{kind.__module__}:{kind.__qualname__}"
        try:
            return _unpacked, (name, cloudpickle.dumps(told))  # type: ignore[no-untyped-call]
        except Exception:  # whatever its parts raise
            return str, (name,)


def _unpacked(name: str, packed: bytes) -> Any:
    try:
        return cloudpickle.loads(packed)
    except Exception:
        return name


@dataclass
class Member:
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
    asked: int = 0  # chunks, ever

    @property
    def name(self) -> str:
        return (
            self.kind if self.kind == "evaluator" or (self.kind == "learner" and self.index == 0) else f"{self.kind} {self.index}"
        )


class Call(NamedTuple):
    """One in flight, by the reference that tells its end."""

    what: str
    member: Member
    restart: int  # of the member when it was made: an answer of one that was replaced is dropped
    data: Any = None  # references of the other results
    more: Any = None


def refuse_other_versions(member: Member, facts: Facts) -> None:
    own = run_folder.versions()
    other = {name: facts.versions.get(name) for name in ("rlsuite", "python", "torch") if facts.versions.get(name) != own[name]}
    if other:
        told = ", ".join(f"{name} {version} (here {own[name]})" for name, version in other.items())
        raise UsageError(f"{member.name} on {facts.host} has {told}: nodes of a cluster must agree")


def as_own(member: Member, error: BaseException) -> RlsuiteError:
    """What a worker's own code raised, as an error of the run."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, RlsuiteError):
        return type(cause)(f"{member.name}: {cause}")
    if isinstance(error, RayActorError):  # it could not even be made: a module that is missing there
        return RlsuiteError(f"{member.name} cannot start: {str(error).strip().splitlines()[-1]}")
    return RlsuiteError(f"{member.name} failed:\n{error}")
