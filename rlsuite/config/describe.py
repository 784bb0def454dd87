"""Descriptions of a config's settings: default, allowed values and meaning of each, read from the schema."""

from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlsuite.config.loader import literal, to_yaml
from rlsuite.config.schema import AnyConfig
from rlsuite.config.section import Section

_TYPES = {bool: "true or false", int: "integer", float: "number", str: "string", dict: "mapping", list: "list"}


class Setting(NamedTuple):
    """One key of a config."""

    key: str  # dotted
    value: Any  # as in YAML
    default: Any
    required: bool  # there is no default
    allowed: str  # "integer, at least 1"
    description: str

    def comment(self) -> str:
        """The comment that `rlsuite config` writes after the value."""
        default = "required" if self.required else f"default {literal(self.default)}"
        return "; ".join(filter(None, [self.description.rstrip("."), default, self.allowed]))


def settings(section: Section, prefix: str = "") -> Iterator[Setting]:
    """All settings of a config or a section in the order of the schema, including those of nested sections."""
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), prefix + name
        if isinstance(value, Section):
            yield from settings(value, f"{key}.")
        else:
            required = field.is_required()
            default = None if required else field.get_default(call_default_factory=True)
            yield Setting(key, value, default, required, allowed(field), description(type(section), name))


def as_dict(config: AnyConfig) -> dict[str, dict[str, Any]]:
    """The settings of a config by their dotted keys, each with value, default, allowed values and description."""
    return {
        one.key: {"value": one.value, "default": one.default, "allowed": one.allowed, "description": one.description}
        for one in settings(config)
    }


def as_yaml(config: AnyConfig) -> str:
    """The whole config as YAML with a comment for every key; it loads as the same config."""
    return "\n".join(_lines(config, {one.key: one for one in settings(config)})) + "\n"


def description(section: type[BaseModel], name: str) -> str:
    """The docstring under a key, in the class itself or in a base class; "" if there is none."""
    for one in section.__mro__:
        field = getattr(one, "model_fields", {}).get(name)
        if field is not None and field.description:
            return " ".join(field.description.split())
    return ""


def allowed(field: FieldInfo) -> str:
    """The values that a field accepts, from its type and its bounds: "integer, 1 to 64, or null"."""
    kinds = [*get_args(field.annotation)] if get_origin(field.annotation) in (Union, UnionType) else [field.annotation]
    parts = [_kind(kind) for kind in kinds if kind is not type(None)]
    text = ", ".join([" or ".join(parts), *_bounds(field.metadata)])
    return f"{text}, or null" if type(None) in kinds else text


def _kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        names = [literal(value) for value in get_args(kind)]
        return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return _TYPES.get(get_origin(kind) or kind, getattr(kind, "__name__", str(kind)))


def _bounds(metadata: list[Any]) -> Iterator[str]:
    low, above, high, below = (
        next((getattr(one, name) for one in metadata if isinstance(one, kind)), None)
        for kind, name in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (Lt, "lt"))
    )
    if low is not None and high is not None:
        yield f"{low} to {high}"
        return
    for text, bound in (("at least", low), ("above", above), ("at most", high), ("below", below)):
        if bound is not None:
            yield f"{text} {bound}"


def _lines(section: Section, known: dict[str, Setting], prefix: str = "", indent: str = "") -> Iterator[str]:
    for name in type(section).model_fields:
        value, key = getattr(section, name), prefix + name
        if isinstance(value, Section):
            yield f"{indent}{name}:" + (f"  # {_title(type(value))}" if _title(type(value)) else "")
            yield from _lines(value, known, f"{key}.", indent + "  ")
        elif isinstance(value, dict) and value:
            yield f"{indent}{name}:  # {known[key].comment()}"
            yield from (f"{indent}  {line}" for line in to_yaml(value).splitlines())
        else:
            yield f"{indent}{name}: {literal(value)}  # {known[key].comment()}"


def _title(section: type[Section]) -> str:
    """The first line of a section's docstring; "" if it has none of its own."""
    return (section.__dict__.get("__doc__") or "").strip().split("\n")[0].rstrip(".")
