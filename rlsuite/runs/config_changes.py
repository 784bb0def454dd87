"""Configs as flat mappings, and the differences between two, such as those of a run before and after a resume."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlsuite.core.errors import CheckpointError, UsageError

_FREE = ("run", "eval", "runtime")  # sections that a resume may change


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value before, value after), for every key that both configs have with different values.

    `changes({"env": {"num_envs": 8}}, {"env": {"num_envs": 4}, "seed": 2})` is `{"env.num_envs": (8, 4)}`.
    """
    old, new = flat(before), flat(after)
    return {key: (old[key], new[key]) for key in new if key in old and old[key] != new[key]}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one dict with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


@contextmanager
def naming_changes(checkpoint: Path, changed: Mapping[str, tuple[Any, Any]]) -> Iterator[None]:
    """Context that turns a CheckpointError into a UsageError with the settings that a resume changes, if one may be the cause."""
    try:
        yield
    except CheckpointError as error:
        found = [f"{key} {old} -> {new}" for key, (old, new) in changed.items() if key.partition(".")[0] not in _FREE]
        if not found:
            raise
        raise UsageError(f"changed since {checkpoint.name} was written: {', '.join(found)}; {error}") from error
