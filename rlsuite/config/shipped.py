"""The shipped configs: their names, texts and tasks, and the facts in the comments at their heads."""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rlsuite.core.errors import UsageError

_FIELDS = ("command", "hardware", "cost", "score")
_FIELD = re.compile(rf"# ({'|'.join(_FIELDS)}): (.+)")


class Head(NamedTuple):
    """The facts in the head of a config: `# Title`, then lines `# command: ...`, `# hardware: ...`, `# cost: ...`, `# score: ...`.

    A line that begins with `#   ` continues the field before it; any other comment is for readers of the file only.
    """

    title: str
    commands: tuple[str, ...]  # to be run one after the other, or alternatives
    hardware: str
    cost: str  # steps and wall time
    score: str  # as measured, or "not measured"


class Shipped(NamedTuple):
    """A shipped config as `rlsuite list configs` lists it."""

    name: str
    task: str  # "dqn on ALE/Pong-v5"
    head: Head

    def as_dict(self) -> dict[str, Any]:
        """The config's facts as plain values for JSON."""
        return {"name": self.name, "task": self.task, **self.head._asdict()}


def _folder() -> Path:
    return (Path(str(files("rlsuite"))) / "configs").resolve()  # a link in a checkout; rglob follows none


def config_names() -> list[str]:
    """Sorted names such as `atari/dqn`, without the files in cluster/, which are for Ray, Kubernetes and Slurm."""
    root = _folder()
    paths = [path.relative_to(root).with_suffix("") for path in root.rglob("*.yaml")]
    return sorted(path.as_posix() for path in paths if path.parts[0] != "cluster")


def shipped_text(name: str) -> str:
    """The YAML of a shipped config, comments included."""
    return (_folder() / f"{name}.yaml").read_text()


def shipped(name: str) -> Shipped:
    """A shipped config's name, task and head."""
    text = shipped_text(name)
    return Shipped(name, _task(yaml.safe_load(text)), parse_head(text, name))


def parse_head(text: str, name: str) -> Head:
    """The head of a config's text. UsageError that names what is missing from it."""
    title, found, last = "", {field: [] for field in _FIELDS}, None  # type: str, dict[str, list[str]], str | None
    for number, line in enumerate(text.splitlines()):
        if not line.startswith("#"):
            break
        if match := _FIELD.fullmatch(line):
            last = match[1]
            found[last].append(match[2].strip())
        elif last is not None and line.startswith("#   "):
            found[last][-1] += " " + line[1:].strip()
        else:
            last = None
            title = line[1:].strip() if number == 0 else title
    missing = [field for field, values in found.items() if not values]
    if not title or missing:
        raise UsageError(
            f"config {name}: no {', '.join(missing or ['title'])} in its head (# title, # {': ..., # '.join(_FIELDS)}: ...)"
        )
    commands = tuple(re.sub(r"\s*\\\s+", " ", command) for command in found["command"])
    return Head(title, commands, *("; ".join(found[field]) for field in _FIELDS[1:]))


def _task(data: dict[str, Any]) -> str:
    """`agent on environment`, or `backbone with head on data` for a vision model."""
    if "agent" in data:
        return f"{data['agent']['name']} on {data['env']['id']}"
    model, source = data["model"], data["data"]
    backbone, head = (model[part].partition("(")[0] for part in ("backbone", "head"))
    return f"{backbone} with {head} on {source.get('id', source['name'])}"


def table(configs: Sequence[Shipped]) -> str:
    """A plain-text table with name, task, cost and score of each config, under a line of titles."""
    rows = [("config", "task", "cost", "score"), *((one.name, one.task, one.head.cost, one.head.score) for one in configs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows)
