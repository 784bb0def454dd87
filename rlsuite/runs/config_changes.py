"""What differs between two configs, e.g. of a run before and after it was resumed."""

from collections.abc import Mapping
from typing import Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value before, value after) of every key that both configs have with different values.

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
