"""Loading of configs: a shipped one or a YAML file, with overrides, checked against the schema."""

import copy
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from pydantic import BaseModel, ValidationError, create_model, model_validator

from rlsuite.config.conditions import IgnoredKeys, refuse_ignored
from rlsuite.config.schema import AgentSection, AnyConfig, Config, absolute
from rlsuite.config.section import Section
from rlsuite.config.shipped import config_names, shipped_text
from rlsuite.core import registry
from rlsuite.core.agent import agent_class
from rlsuite.core.errors import UsageError, nearest, one_line, unknown

Model = TypeVar("Model", bound=BaseModel)
Overrides = Sequence[str] | Mapping[str, Any]  # `key=value`, or dotted key -> value

# Old key -> new key, and the version that renamed it.
RENAMED = {
    "env.lanes": ("env.num_envs", "0.2"),
    "net.begin_with": ("net.init_from", "0.2"),
    "runtime.lockstep": ("runtime.synchronous", "0.2"),
}


class _Loader(yaml.SafeLoader):
    """A YAML loader that reads numbers as YAML 1.2 does and refuses duplicate keys.

    To PyYAML, 1e-4 is a string, 010 is 8, 1:30 is 90, and the last of two equal keys wins.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping. ConstructorError if a key is there twice."""
        keys = [key.value for key, _ in node.value]
        for index, (key, _) in enumerate(node.value):
            if key.value in keys[:index]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} is there twice", key.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes strings that `_Loader` would read as floats."""


_INT = re.compile(r"^[-+]?(?:0|[1-9][\d_]*|0x[\da-fA-F]+)$")
_FLOAT = re.compile(r"^[-+]?(?:(?:0|[1-9][\d_]*)(?:\.[\d_]*)?|\.\d+)(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf)$|^\.(?:nan|NaN)$")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag.rpartition(":")[2] not in ("int", "float", "timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
# An integer matches the dumper's floats as well; the first to match wins, so integers come first.
for _resolvers in _Dumper.yaml_implicit_resolvers.values():
    _resolvers.sort(key=lambda pair: pair[0] == "tag:yaml.org,2002:float")


def resolve(config: str | Path, overrides: Overrides = (), saved: bool = False) -> Config:
    """The checked config from a shipped name or a YAML file, with overrides.

    UsageError for an unknown name, a file that is not a mapping, and everything that the schema refuses. If an override switches
    something off (`replay.prioritized=false`), keys of the file that depend on it return to their defaults. With `saved`, for a
    file written by a run, so do all other keys of the file without effect.
    """
    return check(mapping(config, overrides), overridden(overrides), file_name(config), saved)


def file_name(config: str | Path) -> str:
    """The name of a config in error messages: a file's path, or "" for a shipped config, whose own settings are valid."""
    return str(config) if _is_file(Path(config)) else ""


def mapping(config: str | Path, overrides: Overrides = ()) -> dict[str, Any]:
    """The sections of a config with overrides, not yet checked."""
    name, text = _read(str(config))
    try:
        data = yaml.load(text, _Loader)
        json.dumps(data, default=str)
    except yaml.YAMLError as error:
        raise UsageError(f"{config} is not YAML: {' '.join(str(error).split())}") from error
    except (ValueError, TypeError, RecursionError) as error:  # nested too deep, or in itself; a number too long
        raise UsageError(f"{config} cannot be read: {one_line(error)}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{config} must hold a mapping of sections, not {type(data).__name__}")
    data.setdefault("name", name)
    for key, value in _pairs(overrides):
        _set(data, key, value)
    return data


def overridden(overrides: Overrides) -> set[str]:
    """The dotted keys that overrides set."""
    return {key for key, _ in _pairs(overrides)}


def check(data: dict[str, Any], overridden: Collection[str] = (), where: str = "", saved: bool = False) -> Config:
    """Checks a mapping of sections and returns it as a config, whose `agent` and `env` are those of its agent and env family.

    `overridden`, `where` and `saved`: see `validate`.
    """
    refuse_vision(data)
    _refuse_set_by_stages(data, overridden)
    try:
        agent, env = _plug_in(data, "agent", "name"), _plug_in(data, "env", "id")
        kind, module = agent_class(agent), registry.envs.get(env)
    except UsageError as error:
        if not where or "agent.name" in overridden or "env.id" in overridden:
            raise
        raise UsageError(f"{where}: {error}") from error
    if not issubclass(kind.Config, AgentSection):
        raise UsageError(f"agent.name = {agent}: {kind.__name__}.Config must be a subclass of rlsuite.config.schema.AgentSection")

    def suits_agent(config: Config) -> Config:
        asked = "ignores"
        try:
            refuse_ignored(config, kind.ignores(config))
            asked = "validate"
            kind.validate(config)
        except (ValueError, UsageError):
            raise
        except Exception as error:  # a plug-in's own
            raise UsageError(f"agent.name = {agent}, {kind.__name__}.{asked} failed: {type(error).__name__}: {error}") from error
        return config

    last: Any = model_validator(mode="after")(suits_agent)
    sections: Any = {"agent": (kind.Config, ...), "env": (module.Config, ...)}
    schema = create_model("Config", __base__=Config, __validators__={"suits_agent": last}, **sections)
    named = {"agent": {**data["agent"], "name": agent}, "env": {**data["env"], "id": env}}
    return validate(schema, {**data, **named}, overridden, where, saved)


def _refuse_set_by_stages(data: dict[str, Any], overridden: Collection[str]) -> None:
    """UsageError if an override sets a key for the whole run that every stage of the config sets, too: it would have no effect."""
    stages = data.get("stages")
    if not isinstance(stages, dict) or not stages or "stages" in overridden:
        return
    for one in overridden:
        section, _, key = one.partition(".")
        of_stages = [values.get(section) for values in stages.values() if isinstance(values, dict)]
        if len(of_stages) == len(stages) and all(isinstance(found, dict) and key.partition(".")[0] in found for found in of_stages):
            raise UsageError(
                f"{one} has no effect: the stages {', '.join(stages)} set it; override stages.{next(iter(stages))}.{one}"
            )


def refuse_vision(data: dict[str, Any]) -> None:
    """UsageError if a mapping is the config of a vision model."""
    if "data" in data and "agent" not in data:
        raise UsageError(f"{data.get('name')} is the config of a vision model: rlsuite vision train {data.get('name')}")


def validate(
    schema: type[Model], data: dict[str, Any], overridden: Collection[str] = (), where: str = "", saved: bool = False
) -> Model:
    """Validates a mapping and returns it as an instance of `schema`. UsageError that lists everything wrong with it.

    `where`: the file or run that the mapping comes from, named first in errors that no override can have caused. `overridden`:
    dotted keys set by overrides. Keys without effect are refused, except those that an override has switched off: these return to
    their defaults. With `saved`, for a config written by a run, so do all keys without effect that are not overridden.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        errors: list[dict[str, Any]] = [dict(item) for item in error.errors()]
    off = set(_switched_off(errors, overridden, saved))
    if off:
        return validate(schema, _without(data, off), overridden, where, saved)
    known = all(item["loc"] and item["type"] != "value_error" for item in errors)  # others may be about several keys
    keys = [".".join(str(part) for part in error["loc"]) for error in errors]
    own = known and not any(_touches(key, overridden) for key in keys)
    source = f"{where}: " if where and (own or not overridden) else ""
    raise UsageError(source + "; ".join(_explain(schema, item) for item in errors))


def as_mapping(config: AnyConfig) -> dict[str, Any]:
    """A config as a mapping: every section with all its keys, also those of the agent, environment family or data source."""
    data = config.model_dump(mode="json")
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Section):
            data[name] = value.model_dump(mode="json")
    return data


def dump(config: AnyConfig) -> str:
    """A config as YAML; `resolve` reads the same config back."""
    return to_yaml(as_mapping(config))


def to_yaml(value: Any, flow: bool = False) -> str:
    """A value as YAML that `mapping` reads back: as blocks or, with `flow`, in braces and brackets."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31, default_flow_style=flow)


def literal(value: Any) -> str:
    """A value as YAML on a single line."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value)
    return to_yaml(value, flow=True).removesuffix("\n").removesuffix("\n...")


def _read(config: str) -> tuple[str, str]:
    """The name of a config and the text of its file."""
    path = Path(config)
    if _is_file(path):
        try:
            return path.stem, path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise UsageError(f"cannot read config {config}: {reason}") from error
    names = config_names()
    if config not in names:
        raise unknown("config", config, names)
    return config, shipped_text(config)


def _is_file(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml") or path.is_file()


def _pairs(overrides: Overrides) -> Iterator[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        yield from ((key, plain(value)) for key, value in overrides.items())
    else:
        yield from map(parse_override, overrides)


def plain(value: Any) -> Any:
    """A Python value in the form that YAML would load: NumPy scalars and arrays become numbers and lists, paths become strings.

    Inside lists and mappings, only NumPy integers, bools and float64, which have exact Python equivalents, are converted; the
    schema judges the rest.
    """
    match value:
        case np.generic() | np.ndarray():
            return value.tolist()
        case os.PathLike():
            return os.fspath(value)
    return _plain_inside(value)


def _plain_inside(value: Any) -> Any:
    match value:
        case np.integer() | np.bool_() | np.float64():
            return value.item()
        case dict():
            return {key: _plain_inside(inner) for key, inner in value.items()}
        case list():
            return [_plain_inside(inner) for inner in value]
    return value


def parse_override(text: str) -> tuple[str, Any]:
    """The key and the value of an override `key=value`, whose value is YAML. UsageError for any other text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"override {text!r} must read key=value, such as learner.batch_size=64")
    try:
        return key, yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"override {text!r}: the value is not YAML") from error


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = data.setdefault(section, {})
        if not isinstance(inner, dict):
            inner = data[section] = {"kind": inner} if section == "runtime" else {}
        data = inner
    data[last] = value


def name_in(data: dict[str, Any], section: str, key: str) -> str:
    """The string at `section.key` of unchecked data. UsageError if there is none."""
    part = data.get(section)
    if not isinstance(part, dict) or not isinstance(part.get(key), str):
        given = part.get(key) if isinstance(part, dict) else part
        raise UsageError(f"{section}.{key} must be a string, got {given!r}")
    return str(part[key])


def _plug_in(data: dict[str, Any], section: str, key: str) -> str:
    """The agent or environment at `section.key`; a file's path is made absolute. UsageError if the file is missing."""
    name = name_in(data, section, key)
    found = registry.file_of(name)
    file = name if found is None else found[0]
    if not file.endswith(".py"):
        return name
    if not Path(file).exists():
        raise UsageError(f"{section}.{key}: {file} does not exist")
    return registry.absolute(name) if found is not None else str(absolute(name))  # a board game's file names no member


def _explain(schema: type[BaseModel], error: dict[str, Any]) -> str:
    """One of pydantic's errors as `key = value: what is allowed`."""
    place = [str(part) for part in error["loc"]]
    key = ".".join(place)
    if error["type"] == "extra_forbidden":
        return _unknown_key(schema, place, key)
    if (ignored := _ignored(error)) is not None:
        return "; ".join(_without_effect(f"{key}." if key else "", ignored))
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("a valid ")
    if error["type"] == "value_error":
        return f"{key}: {message}" if key else str(message)
    if error["type"] == "missing":
        return f"{key} is missing"
    return f"{key} = {error['input']!r}: must be {message}"


def _without_effect(prefix: str, ignored: IgnoredKeys) -> Iterator[str]:
    """Yields one sentence for each condition, about all the keys that need it."""
    for needs in dict.fromkeys(one.needs for one in ignored.keys.values()):
        keys = {name: one for name, one in ignored.keys.items() if one.needs == needs}
        given = " and ".join(f"{prefix}{name} = {literal(one.value)}" for name, one in keys.items())
        has, default = ("has", "default") if len(keys) == 1 else ("have", "defaults")
        defaults = ", ".join(literal(one.default) for one in keys.values())
        yield f"{given} {has} no effect without {prefix}{needs} ({default}: {defaults})"


def _unknown_key(schema: type[BaseModel], place: list[str], key: str) -> str:
    if key in RENAMED:
        new, since = RENAMED[key]
        return f"{key} was renamed to {new} in {since}"
    close = nearest(place[-1], _fields(schema, place[:-1]))
    everywhere = [path for path in _paths(schema) if path.endswith("." + place[-1])]
    hint = everywhere[0] if everywhere else ".".join([*place[:-1], close[0]]) if close else None
    return f"unknown key {key}" + (f"; did you mean {hint}?" if hint else f" (known: {', '.join(_fields(schema, place[:-1]))})")


def _ignored(error: dict[str, Any]) -> IgnoredKeys | None:
    cause = error.get("ctx", {}).get("error")
    return cause if isinstance(cause, IgnoredKeys) else None


def _switched_off(errors: list[dict[str, Any]], overridden: Collection[str], saved: bool) -> Iterator[str]:
    """Yields the dotted keys without effect that are not overridden: those that an override has switched off; if `saved`, all."""

    for error in errors:
        if (ignored := _ignored(error)) is not None:
            prefix = "".join(f"{part}." for part in error["loc"])
            for name, (_, _, needs) in ignored.keys.items():
                switched_off = saved or any(_touches(prefix + word, overridden) for word in needs.split())
                if switched_off and not _touches(prefix + name, overridden):
                    yield prefix + name


def _touches(key: str, overridden: Collection[str]) -> bool:
    """Whether an override has set this dotted key or a section that contains it."""
    return any(key == one or key.startswith(one + ".") for one in overridden)


def _without(data: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """A copy of the data without these dotted keys."""
    rest = copy.deepcopy(data)
    for key in keys:
        *sections, last = key.split(".")
        inner = rest
        for section in sections:
            inner = inner[section]
        del inner[last]
    return rest


def _fields(schema: Any, place: list[str]) -> list[str]:
    for part in place:
        schema = schema.model_fields[part].annotation
    return list(schema.model_fields)


def _paths(schema: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a schema."""
    found = []
    for name, field in schema.model_fields.items():
        found.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _paths(field.annotation, f"{prefix}{name}.")
    return found
