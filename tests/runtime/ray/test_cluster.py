"""Connecting to Ray: a cluster at an address, one of our own, and refusals where it cannot serve a run."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from helpers import final
from ray_envs import DQN, RAY

import rlsuite
from rlsuite.core import limits
from rlsuite.core.errors import UsageError
from rlsuite.runtime.ray import cluster

pytestmark = pytest.mark.integration


@pytest.mark.usefixtures("own_ray")
def test_a_cluster_without_what_is_asked_is_refused_in_seconds(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(UsageError, match="ask for 1 GPUs, the cluster has 0"):
        rlsuite.train("classic/dqn", {**DQN, **RAY, "runtime.learner_gpus": 1.0}, run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match="100 collectors and the learner ask for 101 CPUs, the cluster has 6"):
        rlsuite.train("classic/dqn", {**DQN, **RAY, "runtime.collectors": 100}, run_dir=tmp_path / "run")
    assert time.monotonic() - begun < 60
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nowhere", "give auto, ray://host:10001, or host:6379"),
        ("127.0.0.1:9", "nothing answers there"),
        ("ray://127.0.0.1:9", "nothing answers there"),
    ],
)
def test_a_wrong_address_is_one_line(address: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # whatever other tests have started
    with pytest.raises(UsageError, match=says):
        rlsuite.train("classic/dqn", {**DQN, **RAY, "runtime.address": address}, run_dir=tmp_path / "run")


@contextlib.contextmanager
def training(run: Path, environment: dict[str, str] | None = None, address: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A tiny run on Ray by the command line: a process that has joined no Ray."""
    settings: dict[str, Any] = {**DQN, **RAY, "run.agent_steps": 300, "runtime.address": address}
    given = [f"{name}={'null' if value is None else value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "rlsuite", "train", "classic/dqn", *given, "--run-dir", str(run)]
    path = os.pathsep.join(path or os.getcwd() for path in sys.path)
    with open(run.parent / "errors", "w") as errors:
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path, **(environment or {})}, stderr=errors)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_run_finds_the_cluster_at_its_address_and_leaves_it_running(tmp_path: Path, own_ray: str) -> None:
    with training(tmp_path / "run", address=own_ray) as process:
        assert process.wait(timeout=300) == 0, (tmp_path / "errors").read_text()
    assert final(tmp_path / "run").state["learner"]["steps"] > 0
    assert [node["Alive"] for node in ray.nodes()] == [True]


def test_a_run_starts_and_ends_its_own_ray_on_this_machine_alone(tmp_path: Path) -> None:
    family: set[psutil.Process] = set()
    addresses: set[str] = set()
    with training(tmp_path / "run", {"RAY_ADDRESS": "127.0.0.1:1"}) as process:  # runtime.address alone says where
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                family.update(psutil.Process(process.pid).children(recursive=True))
            addresses.update(*map(listening, family))
            time.sleep(0.5)
    assert process.returncode == 0, (tmp_path / "errors").read_text()
    assert final(tmp_path / "run").state["learner"]["steps"] > 0
    assert len(family) > 5
    assert addresses == {"127.0.0.1"}
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def listening(process: psutil.Process) -> set[str]:
    """Addresses that a process listens at."""
    with contextlib.suppress(psutil.Error):
        connections = process.net_connections()
        return {c.laddr.ip.removeprefix("::ffff:") for c in connections if c.status == psutil.CONN_LISTEN}
    return set()


@pytest.mark.parametrize(
    ("given", "groups", "machine", "store"),
    [
        (2.0, 900, 8000, 2000),  # as the user says
        (None, None, 8000, None),  # no limit: Ray decides
        (None, 9000, 8000, None),  # a limit that does not bind
        (None, 1000, 8000, 300),
        (None, 100, 8000, 78.6432),  # Ray's least
        (None, 90_000, 500_000, 10_000),  # larger ones must fit into /dev/shm
    ],
)
def test_the_object_store_fits_into_the_containers_memory(
    given: float | None, groups: int | None, machine: int, store: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in megabytes but the first, which is in gigabytes."""
    monkeypatch.setattr(limits, "free_in_groups", lambda: None if groups is None else groups * 10**6)
    monkeypatch.setattr(limits, "free_in_machine", lambda: machine * 10**6)
    assert cluster._store_bytes(given) == (None if store is None else round(store * 1e6))


def test_more_than_the_machine_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "free_in_machine", lambda: 8 * 10**9)
    with pytest.raises(UsageError, match=r"runtime\.object_store_gb = 1e\+09: 8\.0 GB of memory are free here"):
        cluster._store_bytes(1e9)


def test_a_folder_too_long_for_sockets_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/short")
    assert cluster._short_folder() is None
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "long" * 20)
    assert cluster._short_folder() == "/tmp/ray"
    assert "too long for the paths of Ray's sockets, so Ray keeps its files in /tmp/ray" in capsys.readouterr().err


def test_what_ray_wants_of_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with cluster._environment(RAY_AUTH_TOKEN="0123456789abcdef" * 2):
        assert os.environ["RAY_AUTH_TOKEN"].startswith("0123")
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.parametrize(
    ("mode", "token", "ours"),
    [
        (None, None, True),
        ("token", None, True),  # Ray's own doing, in a process that has run Ray before
        ("token", "0123456789abcdef" * 2, False),
        ("disabled", None, False),
    ],
)
def test_a_token_of_our_own_unless_the_environment_says(
    mode: str | None, token: str | None, ours: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Never one that Ray makes: that would stay in ~/.ray."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("RAY_AUTH_MODE", mode), ("RAY_AUTH_TOKEN", token)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    cluster._read_environment_again()
    try:
        with cluster.own_token():
            assert (os.environ.get("RAY_AUTH_TOKEN") not in (None, token)) == ours
    finally:
        monkeypatch.undo()
        cluster._read_environment_again()
