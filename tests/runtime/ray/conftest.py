"""One Ray for all tests here: every run of this process finds it, uses it and leaves it alone, as in a user's own program."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError
from ray_envs import Host

from rlsuite.runtime.ray import handles, supervisor
from rlsuite.runtime.ray.cluster import on_loopback, own_token
from rlsuite.runtime.ray.workers import Worker

idle: list[Any] = []  # hosts of the one Ray


@pytest.fixture(scope="session")
def ended_with_the_session() -> Iterator[None]:
    with own_token():
        yield
        ray.shutdown()


@pytest.fixture
def own_ray(ended_with_the_session: None) -> str:
    """Address of the one Ray, which is started again after a test that has ended it."""
    if not ray.is_initialized():
        idle.clear()
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
        with on_loopback():  # and no worker is ended because something else fills this machine's memory
            ray.init(address="local", num_cpus=6, _system_config={"memory_monitor_refresh_ms": 0}, **quiet)
    address: str = ray.get_runtime_context().gcs_address
    return address


@pytest.fixture
def hosts(own_ray: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers run in processes that earlier runs have left, since starting processes is most of the cost of a tiny run."""

    def start(kind: type[Worker], resources: dict[str, float], *args: Any) -> Any:
        while idle:
            host = idle.pop()
            with contextlib.suppress(RayActorError):  # it has died: the next one
                ray.get(host.become.remote(kind, *args))
                return host
        host = ray.remote(Host).options(num_cpus=0).remote()
        host.become.remote(kind, *args)
        return host

    monkeypatch.setattr(handles, "start", start)
    monkeypatch.setattr(supervisor, "end", idle.append)
