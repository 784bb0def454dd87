"""Copies environments that a program has registered with Gymnasium to the workers of its runs, whose own registries lack them."""

from collections.abc import Mapping

import gymnasium
from ray import cloudpickle

from rlsuite.core.errors import UsageError, one_line

_EVERYWHERE = ("gymnasium.", "ale_py.", "rlsuite.")  # packages whose environments are registered in every process

Packed = Mapping[str, bytes]  # id -> the spec as Ray's own serialization packs it, including code of a script


def packed(needed: str) -> Packed:
    """The environments that this process has registered. UsageError if `needed` is one of them and cannot be sent."""
    found: dict[str, bytes] = {}
    for name, spec in gymnasium.registry.items():
        if isinstance(spec.entry_point, str) and spec.entry_point.startswith(_EVERYWHERE):
            continue
        try:
            found[name] = cloudpickle.dumps(spec)  # type: ignore[no-untyped-call]
        except Exception as error:
            if name == needed:
                raise UsageError(
                    f"env.id = {name}: this program has registered it with something that Ray cannot send to its workers: "
                    f"{one_line(error)}; use runtime.kind = local, or define it in a module that they can import"
                ) from error
    return found


def register(environments: Packed, needed: str) -> None:
    """Registers the environments that a worker's process lacks. UsageError if `needed` is one of them and cannot be loaded."""
    for name, spec in environments.items():
        if name in gymnasium.registry:
            continue
        try:
            gymnasium.registry[name] = cloudpickle.loads(spec)
        except Exception as error:
            if name == needed:
                raise UsageError(
                    f"env.id = {name}: the program that started the run has registered it, with code that this node cannot import: "
                    f"{one_line(error)}; install it on all nodes"
                ) from error
