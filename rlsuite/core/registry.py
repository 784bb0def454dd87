"""Registries of parts by name: agents, environments, board games, torsos, memory cores, trackers and callbacks.

A name is looked up among the parts that `register_*` added in this process, then among those that rlsuite ships, then among the
entry points of installed packages. `path/to/file.py:Name` needs no registration: it is the member `Name` of that file.
"""

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from rlsuite.core.errors import RlsuiteError, UsageError, nearest, unknown

_IN_FILE = re.compile(r"^(.+\.py):(\w+)$")


class Registry:
    """The parts of one kind, by name. A part is an object or its import path "package.module:Name", imported on first use."""

    def __init__(self, what: str, group: str):
        """`what`: the word for a part in errors, such as "agent"; `group`: the entry-point group for parts of other packages."""
        self.what, self.group = what, group
        self.shipped: dict[str, str] = {}
        self.registered: dict[str, Any] = {}

    def ship(self, table: Mapping[str, str]) -> None:
        """Adds rlsuite's own parts: name -> import path."""
        self.shipped.update(table)

    def register(self, name: str, part: Any) -> None:
        """Adds a part in this process, replacing any of the same name."""
        self.registered[name] = part

    def names(self) -> list[str]:
        """All known names, sorted."""
        return sorted(self._table())

    def get(self, name: str) -> Any:
        """The part itself. UsageError with the nearest names if it is unknown, or if it cannot be imported."""
        if in_file := _IN_FILE.match(name):
            return member(load_file(in_file[1]), in_file[2], in_file[1])
        table = self._table()
        if name.endswith(".py") and name not in table:
            raise UsageError(f"{self.what} {name}: also name what it defines, as in {name}:Name")
        if name not in table:
            raise unknown(self.what, name, table)
        return _import(table[name])

    def is_foreign(self, name: str) -> bool:
        """Whether `get` would import third-party code that is not registered in this process. `name` may have parameters."""
        kind = name.split("(")[0].strip()
        if _IN_FILE.match(name) or _IN_FILE.match(kind):  # a path may have a parenthesis, too
            return True
        return kind in _entry_points(self.group) and kind not in {**self.shipped, **self.registered}

    def _table(self) -> dict[str, Any]:
        return {**_entry_points(self.group), **self.shipped, **self.registered}


class Environments(Registry):
    """The registry of environments by id. Some ids belong to a family that recognises them by rule, such as Gymnasium's."""

    family = ""  # import path of a function: id -> import path of the module that makes the environment, or None
    family_ids = ""  # import path of a function that lists the ids of all families
    adapter = ""  # import path of a function: an environment class -> a module-like object that makes environments of it

    def names(self) -> list[str]:
        """All known ids, sorted."""
        return sorted({*_import(self.family_ids)(), *self._table()})

    def get(self, name: str) -> Any:
        """The module that makes the environment. UsageError with the nearest ids if it is unknown."""
        if name not in self._table() and not _IN_FILE.match(name):
            found = _import(self.family)(name)
            if found is None:
                raise unknown(self.what, name, self.names())
            return _import(found)
        found = super().get(name)
        return found if hasattr(found, "Config") and hasattr(found, "make") else _import(self.adapter)(found)


agents = Registry("agent", "rlsuite.agents")
envs = Environments("env.id", "rlsuite.envs")
games = Registry("game", "rlsuite.games")
torsos = Registry("net.torso", "rlsuite.torsos")
memory_cores = Registry("net.memory", "rlsuite.memory_cores")
trackers = Registry("tracker", "rlsuite.trackers")  # like callbacks, only the process that trains has them
callbacks = Registry("callback", "rlsuite.callbacks")

ALL: dict[str, Registry] = {"agents": agents, "envs": envs, "games": games, "torsos": torsos, "memory_cores": memory_cores}


def register_agent(name: str, agent: Any) -> None:
    """Adds an agent in this process: a subclass of `rlsuite.core.agent.Agent`, or its import path "package.module:Class"."""
    agents.register(name, agent)


def register_env(env_id: str, module: Any) -> None:
    """Adds an environment in this process.

    `module`: any object with `Config` and `make(config, num_envs, threads, render)`, or its import path.
    """
    envs.register(env_id, module)


def register_game(name: str, make: Any) -> None:
    """Adds a board game in this process.

    `make`: a function of the game's parameters that returns a `Game`, or its import path "package.module:function".
    """
    games.register(name, make)


def register_torso(name: str, make: Any) -> None:
    """Adds a torso in this process: a function `make(spec, hidden, **parameters) -> Torso`, or its import path."""
    torsos.register(name, make)


def register_memory_core(name: str, make: Any) -> None:
    """Adds a memory core in this process: a function `make(features, size, **parameters) -> Core`, or its import path."""
    memory_cores.register(name, make)


def registered() -> dict[str, dict[str, Any]]:
    """All parts that `register_*` added in this process: kind -> name -> part."""
    return {kind: dict(one.registered) for kind, one in ALL.items()}


def restore(tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Registers the parts that `registered` returned in another process."""
    for kind, table in tables.items():
        ALL[kind].registered.update(table)


def file_of(name: str) -> tuple[str, str] | None:
    """`file.py:Name` -> (absolute path, "Name"); None for any other name."""
    found = _IN_FILE.match(name)
    return None if found is None else (str(Path(found[1]).resolve()), found[2])


def absolute(name: str) -> str:
    """`file.py:Name` with the file's absolute path, as saved in runs; any other name unchanged."""
    found = file_of(name)
    return name if found is None else ":".join(found)


def load_file(path: str) -> ModuleType:
    """The module in a .py file, executed once for each version of the file. UsageError if it cannot be read or loaded.

    Like a script, it can import files in the same folder.
    """
    place = Path(path).resolve()
    try:
        changed = place.stat().st_mtime_ns
        place.open().close()
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return _load_file(str(place), changed)


@cache
def _load_file(path: str, changed: int) -> ModuleType:
    name = f"rlsuite_file_{Path(path).stem}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # numba and dataclasses look modules up there
    if (folder := str(Path(path).parent)) not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path} cannot be loaded: {described(error)}") from error
    return module


@contextmanager
def third_party(what: str, kind: type[RlsuiteError] = UsageError) -> Iterator[None]:
    """Turns any exception from third-party code into an error of `kind`: `what` failed, why, and the file and line."""
    try:
        yield
    except RlsuiteError:
        raise
    except (Exception, SystemExit) as error:
        raise kind(f"{what} failed: {described(error)}") from error


def make_env(section: Any, num_envs: int, threads: int, render: bool = False) -> Any:
    """The vector environment of an `env` section. UsageError for any exception from a third-party family."""
    module = envs.get(section.id)
    if str(getattr(module, "__name__", "")).startswith("rlsuite."):
        return module.make(section, num_envs, threads=threads, render=render)
    with third_party(f"env.id = {section.id}, make"):
        return module.make(section, num_envs, threads=threads, render=render)


def described(error: BaseException) -> str:
    """An exception from third-party code as one line: type, message, and file and line if known."""
    reason = " ".join(str(error).split())
    return f"{type(error).__name__}: {reason}{_place(error)}"


def _place(error: BaseException) -> str:
    """Where an error arose, as ` (file.py, line 3)`: the last line outside rlsuite and packages, else in a package, else ""."""
    frames = traceback.extract_tb(error.__traceback__)
    package = Path(__file__).resolve().parents[1]
    ours = (*(str(package / room) for room in ("", "agents", "envs")), sys.prefix, sys.base_prefix)
    ours += tuple(str((package / room).resolve()) for room in ("agents", "envs"))  # links in a checkout
    own = [at for at in frames if not at.filename.startswith((*ours, "<"))]
    installed = [at for at in frames if "site-packages" in at.filename]
    return next((f" ({found[-1].filename}, line {found[-1].lineno})" for found in (own, installed) if found), "")


def member(module: ModuleType, name: str, where: str) -> Any:
    """The attribute `name` of a module. UsageError with the nearest names if it has none."""
    if not hasattr(module, name):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        close = nearest(name, own)
        hint = f"; did you mean {close[0]}?" if close else f" (it defines {', '.join(own) or 'nothing'})"
        raise UsageError(f"{where} has no {name}{hint}")
    return getattr(module, name)


@cache
def _entry_points(group: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=group)}


def _import(part: Any) -> Any:
    if not isinstance(part, str):
        return part
    module, _, attribute = part.partition(":")
    try:
        loaded = importlib.import_module(module)
        return getattr(loaded, attribute) if attribute else loaded
    except RlsuiteError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{part} is registered but cannot be imported: {described(error)}") from error
