"""Supervision: what dies is replaced, and where that would not help the run ends with what went wrong first."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from helpers import final
from ray_envs import DQN, GAMES, RAY, ROLLOUTS

import rlsuite
from rlsuite.core import registry
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.runs.metrics import read_metrics
from rlsuite.runtime.ray.driver import Driver
from rlsuite.runtime.ray.handles import WorkerHandle
from rlsuite.runtime.ray.supervisor import Supervisor
from rlsuite.runtime.ray.workers import Collected
from rlsuite.runtime.run_loop import Loop
from rlsuite.runtime.signals import Stop

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("own_ray")]

Plan = list[tuple[int, Callable[[Driver], WorkerHandle]]]


def killing(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> list[str]:
    """Kills the worker that each entry names as soon as so many agent steps are collected; the list names the killed."""
    killed: list[str] = []
    collected = Driver._collected

    def murderous(driver: Driver, loop: Loop, worker: WorkerHandle, unroll: ray.ObjectRef, report: Collected) -> None:
        collected(driver, loop, worker, unroll, report)
        if plan and loop.collected >= plan[0][0]:
            victim = plan[0][1](driver)
            if victim.ready:
                plan.pop(0)
                killed.append(victim.name)
                ray.kill(victim.actor)

    monkeypatch.setattr(Driver, "_collected", murderous)
    return killed


def test_whatever_is_killed_is_replaced_and_the_run_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan: Plan = [
        (500, lambda driver: driver.workers.collectors[0]),
        (1_000, lambda driver: driver.workers.learners[0]),
        (1_500, lambda driver: driver.workers.shards[1]),
        (2_500, lambda driver: driver.workers.collectors[1]),
        (3_000, lambda driver: driver.workers.learners[0]),
    ]
    killed = killing(monkeypatch, plan)
    settings = {**DQN, **RAY, "run.agent_steps": 5_000, "runtime.collectors": 2, "runtime.shards": 2, "run.log_seconds": 0.1}
    settings["replay.capacity_agent_steps"] = 20_000  # so that rings do not wrap around
    result = rlsuite.train("classic/dqn", {**settings, "run.checkpoint_minutes": 0.02}, run_dir=tmp_path / "run")
    assert killed == ["collector 0", "learner", "shard 1", "collector 1", "learner"]
    assert result.agent_steps == 5_000
    assert result.learner_steps > 300
    printed = capsys.readouterr().err
    assert printed.count("is lost") == 5
    assert "the learner continues from learner step" in printed
    rows = [row for row in read_metrics(tmp_path / "run") if "ray/workers_lost" in row]
    assert rows[-1]["ray/workers_lost"] == rows[-1]["ray/workers_replaced"] == 5
    kept = final(tmp_path / "run").state
    for ring in kept["replay"]["shards"][0]["rings"]:  # of collector 0: its streams were cut where it died
        flags = ring["flags"].T  # [N,L]
        begins = (flags & 1).astype(bool)
        assert begins[1:][(flags[:-1] & 2).astype(bool)].all()
        assert (flags[:-1] & 2).astype(bool)[begins[1:]].all()


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", [True, False])
def test_a_killed_inference_server_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: bool) -> None:
    """Its collectors wait for the successor, also where the driver waits for them."""
    killed = killing(
        monkeypatch, [(600, lambda driver: driver.workers.servers[0]), (1_200, lambda driver: driver.workers.servers[0])]
    )
    settings = {**DQN, **RAY, "run.agent_steps": 2_000, "runtime.collectors": 2, "runtime.inference": "server"}
    rlsuite.train("classic/dqn", {**settings, "runtime.synchronous": synchronous, "run.log_seconds": 0.1}, run_dir=tmp_path / "run")
    assert killed == ["inference server"] * 2
    kept = final(tmp_path / "run")
    assert kept.state["replay"]["limiter"]["inserted"] >= 2_000
    assert read_metrics(tmp_path / "run")[-2]["ray/workers_lost"] == 2


@pytest.mark.parametrize(
    ("shards", "place"),
    [
        (1, "server"),
        (2, "collector"),
        pytest.param(1, "collector", marks=pytest.mark.slow),
        pytest.param(2, "server", marks=pytest.mark.slow),
    ],
)
def test_self_play_of_many_collectors_survives_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int, place: str
) -> None:
    plan: Plan = [(300, lambda driver: driver.workers.collectors[1])]
    if place == "server":
        plan.append((600, lambda driver: driver.workers.servers[0]))
    killed = killing(monkeypatch, plan)
    settings = {**GAMES, **RAY, "runtime.collectors": 3, "runtime.shards": shards, "runtime.inference": place}
    rlsuite.train("boards/tic_tac_toe", {**settings, "run.agent_steps": 1_500}, run_dir=tmp_path / "run")
    assert killed == ["collector 1", "inference server"][: len(killed)]
    assert not plan
    before = final(tmp_path / "run").state
    rlsuite.train(None, {"run.agent_steps": 2_000}, resume=tmp_path / "run")
    after = final(tmp_path / "run").state
    assert after["learner"]["steps"] > before["learner"]["steps"] > 20
    assert [len(shard["rings"]) for shard in after["replay"]["shards"]] == [1] * shards
    assert after["replay"]["limiter"]["inserted"] > before["replay"]["limiter"]["inserted"] >= 1_400


def test_a_killed_collector_of_rollouts_changes_nothing_but_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = killing(monkeypatch, [(300, lambda driver: driver.workers.collectors[1])])
    settings = {**ROLLOUTS, **RAY, "run.agent_steps": 3_000, "runtime.collectors": 2, "learner.batch_size": 8}
    result = rlsuite.train("classic/impala", settings, run_dir=tmp_path / "run")
    assert killed == ["collector 1"]
    assert result.learner_steps > 10


@pytest.mark.parametrize("inner", [False, True])
def test_a_collector_that_raises_ends_the_run_with_its_own_traceback(
    inner: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.envs.registered, "Fire-v0", "ray_envs")
    settings = {**DQN, **RAY, "env.id": "Fire-v0", "env.steps": 2, "env.inner": inner}
    begun = time.monotonic()
    with pytest.raises(RlsuiteError, match="3 times in a row") as caught:
        rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")
    assert "ZeroDivisionError: the pole caught fire" in str(caught.value)
    assert "in failing" in caught.value.details
    if not inner:
        assert caught.value.details.splitlines()[-1] == "ZeroDivisionError: the pole caught fire"
    assert "\x1b" not in caught.value.details
    assert time.monotonic() - begun < 120


@pytest.mark.slow
def test_too_many_deaths_end_the_run_with_the_first_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.envs.registered, "Fire-v0", "ray_envs")
    settings = {**DQN, **RAY, "env.id": "Fire-v0", "env.steps": 30, "runtime.restarts": 2}
    with pytest.raises(RlsuiteError, match=r"more than runtime.restarts = 2; the first: collector 0:[\s\S]*caught fire"):
        rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")


@pytest.mark.usefixtures("hosts")
def test_an_environment_that_a_node_lacks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.envs.registered, "Fire-v0", "ray_envs")
    marker = tmp_path / "driver"
    marker.touch()
    start = Supervisor.start

    def elsewhere(supervisor: Supervisor, stopped: Stop) -> None:
        marker.unlink()
        start(supervisor, stopped)

    monkeypatch.setattr(Supervisor, "start", elsewhere)
    settings = {**DQN, **RAY, "env.id": "Fire-v0", "env.missing": True, "env.marker": str(marker)}
    with pytest.raises(UsageError, match=r"^collector 0: the package of this environment is not installed here$"):
        rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("hosts")
def test_other_versions_on_a_node_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = rlsuite.runs.run_folder.versions()
    monkeypatch.setattr("rlsuite.runs.run_folder.versions", lambda: {**own, "torch": "1.0"})
    with pytest.raises(UsageError, match=rf"learner on .* has torch {own['torch'].replace('+', '.')} \(here 1.0\)"):
        rlsuite.train("classic/dqn", {**DQN, **RAY}, run_dir=tmp_path / "run")
