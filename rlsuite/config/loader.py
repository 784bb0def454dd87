"""From a name or a YAML file, and overrides, to a checked `Config`."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError, create_model

from rlsuite.config.schema import AnyConfig, Config, Section
from rlsuite.core import registry
from rlsuite.core.errors import UsageError, nearest, unknown

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML alone reads 1e-4 as a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d+)(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf)$|^\.(?:nan|NaN)$"),
    list("-+0123456789."),
)
# An integer matches the pattern above as well; the one added first wins, so integers come first.
for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    _resolvers.sort(key=lambda pair: pair[0] == "tag:yaml.org,2002:float")


def config_names() -> list[str]:
    """The shipped configs, such as `atari/dqn`. What lies in cluster/ is for Ray, Kubernetes and Slurm."""
    root = (Path(str(files("rlsuite"))) / "configs").resolve()  # a link in a checkout; rglob follows none
    paths = [path.relative_to(root).with_suffix("") for path in root.rglob("*.yaml")]
    return sorted(str(path) for path in paths if path.parts[0] != "cluster")


def resolve(config: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Config:
    """`config`: a shipped name or a YAML path. `overrides`: `key=value` texts, or dotted key -> value.

    UsageError for an unknown name, a file that is no mapping, and everything that the schema refuses.
    """
    return check(mapping(config, overrides))


def mapping(config: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> dict[str, Any]:
    """The sections of a config with its overrides, not checked yet."""
    name, text = _read(str(config))
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{config} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{config} must hold a mapping of sections, not {type(data).__name__}")
    data.setdefault("name", name)
    pairs = overrides.items() if isinstance(overrides, Mapping) else (_parse(text) for text in overrides)
    for key, value in pairs:
        _set(data, key, value)
    return data


def check(data: dict[str, Any]) -> Config:
    """A mapping of sections -> Config, with the sections of the agent and the environment family that it names."""
    if "data" in data and "agent" not in data:
        raise UsageError(f"{data.get('name')} is the config of a vision model: rlsuite vision train {data.get('name')}")
    agent = name_in(data, "agent", "name")
    env = name_in(data, "env", "id")
    agent_section = registry.agents.get(agent).Config
    env_section = registry.envs.get(env).Config
    schema = create_model("Config", __base__=Config, agent=(agent_section, ...), env=(env_section, ...))
    return validate(schema, data)


def validate(schema: type[Model], data: dict[str, Any]) -> Model:
    """UsageError that tells everything that is wrong."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise UsageError("; ".join(_tell(schema, dict(item)) for item in error.errors())) from None


def as_mapping(config: AnyConfig) -> dict[str, Any]:
    """Every section with all its keys, those of the agent, the environment family or the data source too."""
    data = config.model_dump(mode="json")
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Section):
            data[name] = value.model_dump(mode="json")
    return data


def dump(config: AnyConfig) -> str:
    """YAML that `mapping` reads back, for the same config."""
    return yaml.safe_dump(as_mapping(config), sort_keys=False)


def _read(config: str) -> tuple[str, str]:
    """-> the run's config name, the file's text."""
    path = Path(config)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return path.stem, path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise UsageError(f"cannot read config {config}: {reason}") from error
    names = config_names()
    if config not in names:
        raise unknown("config", config, names)
    return config, (files("rlsuite") / "configs" / f"{config}.yaml").read_text()


def _parse(text: str) -> tuple[str, Any]:
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
    part = data.get(section)
    if not isinstance(part, dict) or not isinstance(part.get(key), str):
        given = part.get(key) if isinstance(part, dict) else part
        raise UsageError(f"{section}.{key} must be a text, got {given!r}")
    return str(part[key])


def _tell(schema: type[BaseModel], error: dict[str, Any]) -> str:
    """One pydantic error as `key = value: what is allowed`."""
    place = [str(part) for part in error["loc"]]
    key = ".".join(place)
    if error["type"] == "extra_forbidden":
        close = nearest(place[-1], _fields(schema, place[:-1]))
        everywhere = [path for path in _paths(schema) if path.endswith("." + place[-1])]
        hint = everywhere[0] if everywhere else ".".join([*place[:-1], close[0]]) if close else None
        return f"unknown key {key}" + (f"; did you mean {hint}?" if hint else f" (known: {', '.join(_fields(schema, place[:-1]))})")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("a valid ")
    if error["type"] == "value_error":
        return f"{key}: {message}" if key else str(message)
    if error["type"] == "missing":
        return f"{key} is missing"
    return f"{key} = {error['input']!r}: must be {message}"


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
