"""Trust in saved runs: signs the user's own, and keeps other people's from running code that their configs name.

rlsuite signs `config.yaml` and the manifest of each checkpoint, which has the hashes of its other files. The key is in the user's
configuration folder (`$XDG_CONFIG_HOME/rlsuite/key`, by default `~/.config/rlsuite/key`). A run without a valid signature may still
be read, since its files hold only data. If its config names a Python file, a module, an entry point, a command or a Ray cluster, it
is refused, unless the user allows it (`--trust`, `trust=True`) or overrides the value. docs/security.md has the whole model.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from rlsuite.boardgames.games import own_game
from rlsuite.core import registry
from rlsuite.core.console import say
from rlsuite.core.errors import UsageError

_KEY_BYTES = 32
_GYMNASIUM = ("gymnasium.envs.classic_control", "gymnasium.envs.toy_text", "gymnasium.envs.box2d", "rlsuite.")
_OPPONENTS = ("random", "mcts")  # opponents that are not external programs
_allowed: ContextVar[bool] = ContextVar("allowed", default=False)


def allow(wanted: bool = True) -> None:
    """From now on in this context, lets other people's runs execute the code and commands that they name."""
    _allowed.set(wanted)


@contextmanager
def allowing(wanted: bool) -> Iterator[None]:
    """Within the block, lets other people's runs execute the code and commands that they name, if `wanted`."""
    token = _allowed.set(_allowed.get() or wanted)
    try:
        yield
    finally:
        _allowed.reset(token)


def sign(data: bytes) -> str | None:
    """This user's signature of the data; None if no key can be kept, for example without a writable home folder."""
    key = _key(make=True)
    return None if key is None else hmac.new(key, data, hashlib.sha256).hexdigest()


def is_own(data: bytes, signature: Any) -> bool:
    """Whether `signature` is the one that `sign` made for the data with this user's key."""
    key = _key(make=False)
    if key is None or not isinstance(signature, str):
        return False
    return hmac.compare_digest(hmac.new(key, data, hashlib.sha256).hexdigest().encode(), signature.encode(errors="replace"))


def admit(
    sections: Mapping[str, Any],
    where: Path,
    own: bool,
    overridden: Collection[str] = (),
    game: str | None = None,
    training: bool = False,
) -> None:
    """Checks the raw config of a saved run before anything that it names is imported or started.

    `own`: whether this user signed the run. `overridden`: dotted keys that the user has set. `game`: the board game, according to
    the run. `training`: whether callbacks and trackers would be started, too. UsageError, with what would be executed, if the run
    is not this user's and has not been allowed.
    """
    if own or _allowed.get():
        return
    refuse_links(_run_folder(where.absolute()))
    found = executed(sections, game) | (watching(sections) if training else {})
    named = [f"{key} = {value}" for key, value in found.items() if key not in overridden]
    if named:
        raise UsageError(
            f"{where} is not signed by you (it is somebody else's, or was edited), and would run {' and '.join(named)}: "
            "allow that with --trust (in Python, trust=True), or name another value yourself"
        )


def _run_folder(where: Path) -> Path:
    """The run folder of a checkpoint, since commands also read what lies beside and above it; any other folder as it is."""
    return where.parents[1] if where.parent.name == "checkpoints" else where


def refuse_links(folder: Path) -> None:
    """UsageError if another user's folder has links that lead out of it, since commands write into run folders."""
    inside = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise UsageError(
                f"{folder} is not signed by you (it is somebody else's, or was edited), and {path.relative_to(folder)} links to "
                f"{path.resolve()}: remove the link, or allow it with --trust (in Python, trust=True)"
            )


def executed(sections: Mapping[str, Any], game: str | None = None) -> dict[str, str]:
    """Dotted key -> value of every setting that would run code other than rlsuite's own.

    These are files, modules, entry points, commands, and the address of a Ray cluster.
    """
    found: dict[str, str] = {}
    for key, runs_code in (
        ("agent.name", registry.agents.is_foreign),
        ("env.id", _foreign_env),
        ("env.opponent", _is_program),
        ("net.torso", registry.torsos.is_foreign),
        ("net.memory", registry.memory_cores.is_foreign),
        ("runtime.address", lambda address: True),  # this process unpickles the answers of a cluster
    ):
        section, _, name = key.partition(".")
        value = part.get(name) if isinstance(part := sections.get(section), Mapping) else None
        if isinstance(value, str) and runs_code(value):
            found[key] = value
    env = part if isinstance(part := sections.get("env"), Mapping) else {}
    if str(env.get("id")).startswith("rlsuite/") and env.get("kwargs"):  # they may include a game or an opponent
        found["env.kwargs"] = str(env["kwargs"])
    if game is not None and _foreign_env(str(game)):
        found["game"] = str(game)
    stages = sections.get("stages")
    for stage, inner in stages.items() if isinstance(stages, Mapping) else ():
        if isinstance(inner, Mapping):
            found |= {f"stages.{stage}.{key}": value for key, value in executed(inner).items()}
    return found


def watching(sections: Mapping[str, Any]) -> dict[str, str]:
    """Dotted key -> value of the callbacks and trackers in a config: callbacks run code, trackers send data to other machines."""
    run = part if isinstance(part := sections.get("run"), Mapping) else {}
    found = {f"run.{key}": str(value) for key in ("callbacks", "trackers") if (value := run.get(key))}
    stages = sections.get("stages")
    for stage, inner in stages.items() if isinstance(stages, Mapping) else ():
        if isinstance(inner, Mapping):
            found |= {f"stages.{stage}.{key}": value for key, value in watching(inner).items()}
    return found


def fingerprints(sections: Mapping[str, Any]) -> dict[str, str]:
    """Absolute path -> sha256 of every Python file that a config names and that can be read."""
    found: dict[str, str] = {}
    for name in executed(sections).values():
        path = Path(name if (in_file := registry.file_of(name.split("(")[0])) is None else in_file[0])
        with suppress(OSError):
            if path.suffix == ".py":
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def tell_changes(before: Any, sections: Mapping[str, Any], where: Path) -> None:
    """Reports on stderr which of the files have changed since their earlier `fingerprints` (`before`) were taken."""
    now = fingerprints(sections)
    for path, digest in before.items() if isinstance(before, Mapping) else ():
        if path in now and now[path] != digest:
            say(f"rlsuite: {path} has changed since {where} was trained with it")


def _is_program(opponent: str) -> bool:
    return opponent.split("(")[0].strip() not in _OPPONENTS


def _foreign_env(name: str) -> bool:
    """Whether an environment or a game is code other than rlsuite's. Unknown ids are refused later, as unknown."""
    if own_game(name) is not None or registry.file_of(name) is not None or ":" in name.split("(")[0]:
        return True
    if name.strip().startswith("openspiel(") and "filename" in name:  # OpenSpiel would print what it cannot parse
        return True
    if registry.envs.is_foreign(name) or registry.games.is_foreign(name):
        return True
    import gymnasium

    spec = gymnasium.registry.get(name)
    return spec is not None and not str(spec.entry_point or spec.vector_entry_point).startswith((*_GYMNASIUM, "ale_py"))


def _key(make: bool) -> bytes | None:
    """The user's key; with `make`, a new one is created if there is none yet. None without a key, or if none can be kept."""
    try:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        path = Path(home) / "rlsuite" / "key"
        with suppress(FileNotFoundError):
            return _valid(path.read_bytes())
        if not make:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".key.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        with suppress(FileExistsError):
            os.link(fresh, path)  # the complete file appears at once, and only if no other process was first
        fresh.unlink()
        return _valid(path.read_bytes())
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None


def _valid(key: bytes) -> bytes | None:
    return key if len(key) == _KEY_BYTES else None
