"""Every field of every config section is read by some code: an option that nobody reads is a promise that nobody keeps.

The source is scanned for `<receiver>.<field>`, where the receiver is called as a section or a config is called in this project
(see `RECEIVERS`): `path.name` says nothing about `agent.name`. Reads inside the section's own class count only where they serve a
property that is itself read from outside; a validator's do not.
"""

import ast
import importlib
import inspect
import os
import pkgutil
import sys
from pathlib import Path

import pytest

from rlsuite import agents, envs, factories, vision
from rlsuite.agents import AGENTS
from rlsuite.config import schema
from rlsuite.config.loader import resolve
from rlsuite.config.schema import Section

ROOT = Path(__file__).resolve().parents[2]
RECEIVERS = {
    "config",
    "c",
    "cfg",
    "agent",
    "env",
    "net",
    "replay",
    "learner",
    "run",
    "eval",
    "runtime",
    "net_config",
    "data",
    "model",
}


def sections() -> list[type[Section]]:
    """All subclasses of Section that the package defines."""
    for package in (agents, envs, vision):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found: list[type[Section]] = []
    queue: list[type[Section]] = [Section]
    while queue:
        for child in queue.pop().__subclasses__():
            written = getattr(sys.modules[child.__module__], child.__name__, None) is child  # not put together by `resolve`
            if child.__module__.startswith("rlsuite.") and written and child not in found:
                found.append(child)
                queue.append(child)
    return sorted(found, key=lambda one: (one.__module__, one.__name__))


def own_fields() -> list[tuple[str, str, str]]:
    """(module, class, field) of every field, where it is defined."""
    return [(one.__module__, one.__name__, name) for one in sections() for name in one.__annotations__ if name != "model_config"]


def receiver(node: ast.Attribute) -> str | None:
    """`a.b.field` -> b, `b.field` -> b."""
    value = node.value
    if isinstance(value, ast.Attribute):
        return value.attr
    return value.id if isinstance(value, ast.Name) else None


def loads(tree: ast.AST, names: set[str] | None) -> set[str]:
    """Attributes that are read off a receiver called one of `names` (any, if None)."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and (names is None or receiver(node) in names)
    }


def is_validator(function: ast.FunctionDef) -> bool:
    return any("validator" in ast.unparse(decorator) for decorator in function.decorator_list)


def read_fields(sources: dict[str, str], known: set[str]) -> set[str]:
    """Names of fields read outside the sections, and by the sections' own properties that are read outside."""
    outside: set[str] = set()
    properties: dict[str, set[str]] = {}  # property or method -> fields of self that it reads
    for text in sources.values():
        tree = ast.parse(text)
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name in known]
        for node in classes:
            for function in node.body:
                if isinstance(function, ast.FunctionDef) and not is_validator(function):
                    properties.setdefault(function.name, set()).update(loads(function, {"self"}))
            node.body = [ast.Pass()]
        outside |= loads(tree, RECEIVERS)
    for name, inner in properties.items():
        if name in outside:
            outside |= inner
    return outside


def all_sources() -> dict[str, str]:
    """rlsuite/ with agents/ and envs/, which stand beside it."""
    paths = [path for folder in ("rlsuite", "agents", "envs") for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


READ = read_fields(all_sources(), {one.__name__ for one in sections()})


@pytest.mark.parametrize(("module", "section", "field"), own_fields())
def test_every_field_is_read(module: str, section: str, field: str) -> None:
    assert field in READ, (
        f"{module}.{section}.{field} is read nowhere: use it or remove it (reads count off {', '.join(sorted(RECEIVERS))})"
    )


def test_the_scan_finds_all_sections() -> None:
    names = {one.__name__ for one in sections()}
    direct = {name for name, one in vars(schema).items() if inspect.isclass(one) and issubclass(one, Section)}
    assert direct - {"Section"} <= names
    assert {"ValueConfig", "C51Config", "QRDQNConfig", "IQNConfig"} <= names
    assert {one.__module__ for one in sections()} >= {"rlsuite.envs.atari", "rlsuite.envs.classic", "rlsuite.envs.recall"}
    assert len(own_fields()) > 60
    for target in AGENTS.values():
        module, _, name = target.partition(":")
        assert getattr(importlib.import_module(module), name).Config in sections()


SAMPLE = """
class ReplayConfig(Section):
    used: int = 1
    validated: int = 2
    through: int = 3
    lost: int = 4
    behind: int = 5

    @model_validator(mode="after")
    def _check(self):
        return self.validated

    @property
    def derived(self):
        return self.through

    @property
    def unread(self):
        return self.behind

def f(config, path):
    config.replay.lost = 3
    path.lost
    return config.replay.used + config.derived
"""


def test_the_scan_tells_reads_from_what_only_looks_like_them() -> None:
    """So that it can fail: a write, a validator, another receiver and a property that nobody reads are no reads."""
    read = read_fields({"sample": SAMPLE}, {"ReplayConfig"})
    assert {"used", "through"} <= read
    assert not {"validated", "lost", "behind"} & read


def test_the_thread_count_is_used_where_the_system_tells_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    one = resolve("classic/dqn", ["run.threads=3"])
    assert factories.threads_of(one) == 3
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert factories.threads_of(one) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert factories.threads_of(resolve("classic/dqn", ["run.threads=null"])) == 5
