"""Runs trials as processes on this machine, or as tasks of a Ray cluster.

Either way, a trial is the command `rlsuite train ...` in its own process, so that a crash, a leak or a kill affects no other trial.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rlsuite.core.files import writing

_LAUNCH = Path(__file__).with_name("launch.py")


class Worker(Protocol):
    """A process that trains a trial."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def stop(self) -> None:
        """Asks it to write a checkpoint and end; a second call changes nothing."""


class Workers(Protocol):
    """A place where trials run."""

    def start(self, arguments: Sequence[str], log: Path) -> Worker:
        """Starts `rlsuite ARGUMENTS`, whose output is appended to the file `log`."""


def start_process(arguments: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    """Starts `rlsuite ARGUMENTS` in a session of its own, so that Ctrl-C reaches it only through us; it ends when we do."""
    command = [sys.executable, str(_LAUNCH), str(os.getpid()), sys.executable, "-m", "rlsuite", *arguments]
    with writing(log, ", or choose another --out"):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)


class Processes:
    """Processes on this machine."""

    def start(self, arguments: Sequence[str], log: Path) -> Worker:
        return _Process(start_process(arguments, log))


class _Process:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._stopped = False

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._process.terminate()


class RayTasks:
    """Tasks of a Ray cluster with one CPU each. The study's folder must be at the same path on all nodes."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._run = ray.remote(num_cpus=1, max_retries=0)(_run_in_task)

    def start(self, arguments: Sequence[str], log: Path) -> Worker:
        return _Task(self._ray, self._run.remote(list(arguments), str(log), os.getcwd()))


class _Task:
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference
        self._stopped = False

    def poll(self) -> int | None:
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.RayError:  # it was stopped, or its node died; its folder has the progress
            return 1

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._ray.cancel(self._reference)


def _run_in_task(arguments: list[str], log: str, folder: str) -> int:
    """The body of a Ray task: runs `rlsuite ARGUMENTS` in `folder` to its end; returns the exit code."""
    os.chdir(folder)
    process = start_process(arguments, Path(log))
    try:
        return process.wait()
    except BaseException:  # cancelled: the trial may still write its checkpoint
        process.terminate()
        process.wait()
        raise


@contextmanager
def ray_tasks(address: str) -> Iterator[RayTasks]:
    """Context with tasks of the Ray cluster at an address, such as auto. UsageError if it cannot be joined."""
    import ray

    from rlsuite.runtime.ray.cluster import joined

    with joined(address):
        yield RayTasks(ray)
