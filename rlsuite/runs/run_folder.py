"""The folder of a run.

    runs/atari-pong__seed1__20260101-120000/
        config.yaml       every setting, overrides included
        run.json          versions of the packages, git commit, signature of config.yaml
        metrics.jsonl     see `metrics`; TensorBoard's event files are beside it
        checkpoints/      see `checkpoint`

This module creates it, locks it while a process trains in it, and finds it again for a resume.
"""

import json
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from rlsuite.config import loader
from rlsuite.config.schema import AnyConfig, Config
from rlsuite.core.console import command
from rlsuite.core.errors import CheckpointError, UsageError, one_line
from rlsuite.core.files import atomic_write, parse_json, writing
from rlsuite.core.types import EnvSpec, spec_of
from rlsuite.runs import checkpoint, trust
from rlsuite.runs.pretrained_agents import absent
from rlsuite.version import __version__

PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "numba", "ray")
C = TypeVar("C", bound=AnyConfig)
_ELSEWHERE = ", or choose another --run-dir"


def new_path(config: AnyConfig) -> Path:
    """Makes the default folder of a new run, `runs/<name>__seed<seed>__<time>`, with `-2` and so on appended if it exists."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{config.name.replace('/', '-')}__seed{config.seed}__{stamp}"
    with writing(Path("runs"), _ELSEWHERE):
        Path("runs").mkdir(exist_ok=True)
        for number in count(1):
            folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()  # the process that makes it owns it: runs often start in the same second
            except FileExistsError:
                continue
            return folder
    raise AssertionError


def create(config: AnyConfig, run_dir: Path) -> None:
    """Makes the folder with `config.yaml` and `run.json`. UsageError if it already holds a run."""
    if (run_dir / "config.yaml").exists() and checkpoint.list_complete(run_dir):
        try:
            checkpoint.find(run_dir, resumable=True)
        except UsageError as error:
            raise UsageError(f"{error} and another --run-dir") from error
        raise already_a_run(run_dir)
    with writing(run_dir, _ELSEWHERE):
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "metrics.jsonl").unlink(missing_ok=True)  # left by a run that died before its first checkpoint
    write_config(config, run_dir, {"versions": versions(), "git_commit": git_commit()})


def whole(run_dir: Path) -> Path:
    """The folder to pass to `--resume`: `run_dir`, or for a stage, the folder of the run that it belongs to."""
    stage = re.fullmatch(r"[1-9]_.+", run_dir.name) and (run_dir.parent / "config.yaml").exists()
    return run_dir.parent if stage else run_dir


def already_a_run(run_dir: Path) -> UsageError:
    """The error for starting a new run in the folder of another."""
    return UsageError(f"{run_dir} already holds a run: resume it with {command('--resume', run_dir)}, or choose another --run-dir")


def requested(
    load: Callable[[str | Path, Any, bool], C],
    config: str | Path | None,
    overrides: Any,
    run_dir: Path | None,
    resume: Path | None,
    example: str,
) -> tuple[C, Path | None]:
    """The config and folder of the run that a user asks for: a new one, or with `resume` one to continue.

    `load`: resolves a config with overrides, as `loader.resolve` does. `example`: the name of a shipped config. UsageError if the
    arguments contradict each other.
    """
    if resume is None:
        if config is None:
            raise UsageError(f"name a config, such as {example}, or a run to --resume")
        if run_dir == Path():  # from an empty variable in a script
            raise UsageError("--run-dir is empty or the current folder: name a folder for the run")
        admit_config(config, overrides)
        return load(config, overrides, False), run_dir
    if run_dir is not None and run_dir != resume:
        raise UsageError("--run-dir and --resume name different folders: a resumed run stays in its folder")
    if (resume / ".lock").exists():
        with lock(resume):
            pass  # checked first: otherwise a run that is being written would be reported as incomplete, not as in use
    admit(resume, overrides)
    resolved = load(config_file(resume), overrides, True)
    if config is not None and load(config, (), False).name != resolved.name:
        raise UsageError(f"{resume} is a run of {resolved.name}, not of {config}")
    return resolved, resume


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Makes the folder and locks it for this process. UsageError if another process holds the lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with writing(run_dir, _ELSEWHERE):
        run_dir.mkdir(parents=True, exist_ok=True)
        held = open(run_dir / ".lock", "a")  # noqa: SIM115 (closed below)
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{run_dir} is in use: another process is training in it") from error
        yield


def write_config(config: AnyConfig, run_dir: Path, facts: dict[str, Any] | None = None) -> None:
    """Writes or replaces `config.yaml`, and its signature in `run.json`. `facts`: new contents of `run.json`; None keeps them."""
    text = loader.dump(config)
    facts = _facts(run_dir) if facts is None else facts
    atomic_write(run_dir / "run.json", json.dumps({**facts, "signature": trust.sign(text.encode())}, indent=1), _ELSEWHERE)
    atomic_write(run_dir / "config.yaml", text, _ELSEWHERE)


def admit(run_dir: Path, overrides: loader.Overrides) -> None:
    """UsageError if `config.yaml` is not this user's and would, with these overrides, execute code: see `trust.admit`."""
    sections, changed = loader.mapping(config_file(run_dir), overrides), loader.overridden(overrides)
    trust.admit(sections, run_dir, is_own(run_dir), changed, training=True)


def admit_config(config: str | Path, overrides: loader.Overrides) -> None:
    """Calls `admit` if the config is the `config.yaml` of a run; any other is trusted, since the user names it."""
    path = Path(config)
    if path.name == "config.yaml" and ((path.parent / "checkpoints").exists() or (path.parent / "run.json").exists()):
        admit(path.parent, overrides)


def is_own(run_dir: Path) -> bool:
    """Whether `config.yaml` is as this user's rlsuite wrote it."""
    with suppress(OSError):
        return trust.is_own((run_dir / "config.yaml").read_bytes(), _facts(run_dir).get("signature"))
    return False


def _facts(run_dir: Path) -> dict[str, Any]:
    """The contents of `run.json`; empty if it is missing or damaged."""
    with suppress(OSError, ValueError):
        if isinstance(facts := parse_json((run_dir / "run.json").read_bytes()), dict):
            return facts
    return {}


def config_file(run_dir: Path) -> Path:
    """The path of a run's `config.yaml`. UsageError if the folder is not a run."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        what = absent(run_dir) if not run_dir.exists() else "is not a run folder: no config.yaml in it"
        raise UsageError(f"{run_dir} {what}")
    return path


def metadata(config: Config, spec: EnvSpec) -> dict[str, Any]:
    """The metadata of an agent's checkpoint: enough to rebuild the agent and act with it."""
    sections = loader.as_mapping(config)
    return {
        "config": sections,
        "spec": json.loads(json.dumps(spec._asdict())),  # tuples become lists
        "files": trust.fingerprints(sections),
        "versions": versions(),
    }


def spec_in(saved: checkpoint.Checkpoint) -> EnvSpec:
    """The spec in the metadata of an agent's checkpoint. CheckpointError if it is damaged."""
    try:
        fields: Any = saved.metadata["spec"]
        return spec_of(fields)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{saved.path} has damaged metadata: {one_line(error):.200}") from error


def versions() -> dict[str, str]:
    """Versions of rlsuite, Python and the packages that results depend on."""
    return {"rlsuite": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_commit() -> str | None:
    """The commit of the source tree that this package runs from; None if it was installed from a wheel."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
