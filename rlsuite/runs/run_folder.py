"""A run is a folder: config as resolved, versions, metrics, checkpoints."""

import json
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlsuite.config import loader
from rlsuite.config.schema import AnyConfig, Config
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.types import EnvSpec
from rlsuite.runs import checkpoint

PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "numba", "ray")


def named(config: AnyConfig) -> Path:
    """A new folder's name under runs/."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.name.replace('/', '-')}__seed{config.seed}__{stamp}"


def create(config: AnyConfig, run_dir: Path) -> None:
    """Makes the folder, with `config.yaml` and `run.json` in it. UsageError if it holds a run already."""
    if (run_dir / "config.yaml").exists() and checkpoint.list_complete(run_dir):
        raise UsageError(f"{run_dir} holds a run already: go on with --resume {run_dir}, or choose another --run-dir")
    with _writing(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "metrics.jsonl").unlink(missing_ok=True)  # of a run that died before its first checkpoint
        (run_dir / "run.json").write_text(json.dumps({"versions": versions(), "git_commit": git_commit()}, indent=1))
        write_config(config, run_dir)


@contextmanager
def _writing(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RlsuiteError(f"cannot write the run folder {run_dir}: {error.strerror}; choose another --run-dir") from error


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Makes the folder and holds it for this process, as long as it lives. UsageError if another one has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with _writing(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        held = open(run_dir / ".lock", "a")  # noqa: SIM115 (closed below)
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{run_dir} is in use: another process trains in it") from error
        yield


def write_config(config: AnyConfig, run_dir: Path) -> None:
    """Replaced in one step: a kill leaves the old file or the new one."""
    beside = run_dir / "config.yaml.tmp"
    beside.write_text(loader.dump(config))
    beside.replace(run_dir / "config.yaml")


def config_of(run_dir: Path, overrides: Any = ()) -> Config:
    """The config of an agent's run, with overrides. UsageError if the folder is no run."""
    return loader.resolve(config_file(run_dir), overrides)


def config_file(run_dir: Path) -> Path:
    """UsageError if the folder is no run."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        what = "does not exist" if not run_dir.exists() else "is not a run folder: no config.yaml in it"
        raise UsageError(f"{run_dir} {what}")
    return path


def metadata(config: Config, spec: EnvSpec) -> dict[str, Any]:
    """What a checkpoint tells by itself, enough to act with it alone."""
    return {
        "config": loader.as_mapping(config),
        "spec": {**spec._asdict(), "observation_shape": list(spec.observation_shape)},
        "versions": versions(),
    }


def changes(before: dict[str, Any], config: AnyConfig) -> list[str]:
    """`section.key old -> new` where a config differs from what was written `before`."""

    def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in tree.items():
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return found

    was, now = flat(before), flat(loader.as_mapping(config))
    return [f"{key} {was[key]} -> {now[key]}" for key in now if key in was and was[key] != now[key]]


def versions() -> dict[str, str]:
    from rlsuite.version import __version__

    return {"rlsuite": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_commit() -> str | None:
    """Of the source tree that this package runs from; None if it was installed from a wheel."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
