"""Config keys that have an effect only under a condition, and the error for setting one while its condition is not met.

    class ReplayConfig(Section):
        prioritized: bool = False
        priority_exponent: Annotated[float, OnlyIf("prioritized = true")] = Field(0.6, ge=0, le=1)

`Section` applies the conditions of its keys. An agent's method `ignores` lists the keys of other sections that it ignores.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel


class Ignored(NamedTuple):
    """A key that is set but has no effect."""

    value: Any
    default: Any
    needs: str  # the condition under which it has one, beginning with the key tested: "prioritized = true"


class IgnoredKeys(ValueError):
    """The error for keys that are set but have no effect; `rlsuite.config.loader` reports them by their full names."""

    def __init__(self, keys: dict[str, Ignored]):
        super().__init__("; ".join(f"{name} has no effect without {one.needs}" for name, one in keys.items()))
        self.keys = keys


class OnlyIf:
    """Annotation for a key that has an effect only if another key of its section meets a condition.

    Conditions: "key = value", "key other than value", "key < number", "key > number", and "key", which must not be null. The value
    may be the name of a third key.
    """

    _FORM = re.compile(r"(\w+)(?: (=|other than|<|>) (.+))?")

    def __init__(self, condition: str):
        found = self._FORM.fullmatch(condition)
        assert found is not None, condition
        self.condition = condition
        self.key, self.relation, self.wanted = found.groups()

    def holds(self, section: BaseModel) -> bool:
        """Whether the condition is met."""
        value = getattr(section, self.key)
        if self.relation is None:
            return value is not None
        named = self.wanted in type(section).model_fields
        wanted: Any = getattr(section, self.wanted) if named else yaml.safe_load(self.wanted)
        match self.relation:
            case "=":
                return bool(value == wanted)
            case "other than":
                return bool(value != wanted)
            case "<":
                return bool(value < wanted)
            case _:
                return bool(value > wanted)


def refuse_without_effect(section: BaseModel, of_all: OnlyIf | None) -> None:
    """Raises IgnoredKeys for keys that differ from their defaults and whose condition is not met.

    `of_all`: a condition on every key except the one that it tests.
    """
    needs = {}
    for name, field in type(section).model_fields.items():
        conditions = [of_all] if of_all is not None and name != of_all.key else []
        conditions += [one for one in field.metadata if isinstance(one, OnlyIf)]
        unmet = [one for one in conditions if not one.holds(section)]
        if unmet:
            needs[name] = unmet[0].condition
    refuse_ignored(section, needs)


def refuse_ignored(section: BaseModel, needs: Mapping[str, str]) -> None:
    """Raises IgnoredKeys for the keys of `needs` that differ from their defaults.

    `needs` maps dotted keys, relative to the section, to the conditions that they need (see `Ignored`). A key that names a section
    stands for all keys in it.
    """
    given = {name: Ignored(value, default, what) for key, what in needs.items() for name, value, default in _set(section, key)}
    if given:
        raise IgnoredKeys(given)


def _set(section: BaseModel, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yields (dotted key, value, default) for a key, or for each key of a section, if it differs from its default."""
    owner: Any = section
    *parents, last = key.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    value, field = getattr(owner, last), type(owner).model_fields[last]
    default = field.get_default(call_default_factory=True)
    if value == default:
        return
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _set(section, f"{key}.{name}")
    else:
        yield key, value, default
