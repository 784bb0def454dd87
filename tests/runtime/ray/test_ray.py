"""The Ray runtime: synchronously it equals the local one; what dies is replaced; what cannot work is refused in one line."""

import contextlib
import importlib.util
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import ray_envs
import torch
from helpers import SEQUENCES, differences, final

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.factories import build
from rlsuite.runs import checkpoint
from rlsuite.runs.metrics import read_metrics
from rlsuite.runtime.ray.cluster import own_cluster
from rlsuite.runtime.ray.driver import Driver
from rlsuite.runtime.ray.handles import PickledEntry, WorkerHandle
from rlsuite.runtime.run_loop import Loop

DQN: dict[str, Any] = {
    "run.threads": 1,
    "run.collect_agent_steps": 4,
    "replay.capacity_agent_steps": 4_000,
    "replay.min_agent_steps": 128,
    "replay.prioritized": True,
    "replay.samples_per_insert": 4,
    "learner.batch_size": 16,
    "learner.learning_rate_end": None,
    "agent.n_steps": 3,
    "net.hidden": 32,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}
ROLLOUTS: dict[str, Any] = {
    "run.threads": 1,
    "run.collect_agent_steps": 16,
    "env.num_envs": 4,
    "learner.batch_size": 4,
    "learner.learning_rate_end": None,
    "net.hidden": 16,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}
GAMES: dict[str, Any] = {
    "run.threads": 1,
    "run.collect_agent_steps": 2,
    "env.num_envs": 8,
    "env.opponent": "random",
    "agent.simulations": 6,
    "agent.eval_simulations": 6,
    "net.torso": "tower(width=8,depth=1)",
    "replay.min_agent_steps": 100,
    "replay.capacity_agent_steps": 2_000,
    "learner.batch_size": 32,
    "learner.learning_rate_end": None,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}
RAY: dict[str, Any] = {"runtime.kind": "ray"}
SLOW = pytest.mark.slow  # every run here starts processes that import torch


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One for all tests here; a run without one starts its own (test_a_run_starts_and_ends_its_own_ray)."""
    start()
    yield
    ray.shutdown()


def start() -> None:
    with own_cluster():
        ray.init(address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level="error")


# ----------------------------------------------------------------------------------------------------------- synchronous


@pytest.mark.parametrize(
    ("config", "settings", "steps"),
    [
        ("classic/dqn", DQN, 1_024),
        ("classic/dqn", {**DQN, "replay.initial_priority": "td", "agent.epsilon_ladder": True, "learner.precision": "bf16"}, 1_024),
        pytest.param("classic/rainbow", {**DQN, "agent.atoms": 11}, 512, marks=SLOW),
        ("classic/ppo", {**ROLLOUTS, "agent.minibatches": 2}, 640),
        pytest.param(
            "classic/impala",
            {**ROLLOUTS, "net.memory": "lstm", "net.memory_size": 8, "net.separate_value": False},
            1_920,
            marks=SLOW,
        ),
        ("boards/tic_tac_toe", GAMES, 600),
        ("classic/recall_r2d2", {**SEQUENCES, "run.collect_agent_steps": 4, "replay.initial_priority": "td"}, 1_000),
    ],
    ids=["dqn", "apex-bf16", "rainbow", "ppo", "impala-lstm", "alphazero", "r2d2"],
)
def test_one_collector_in_lockstep_equals_the_local_runtime(
    tmp_path: Path, config: str, settings: dict[str, Any], steps: int
) -> None:
    rlsuite.train(config, {**settings, **RAY, "run.agent_steps": steps, "runtime.synchronous": True}, run_dir=tmp_path / "ray")
    there = final(tmp_path / "ray")  # it ends behind a whole unroll
    rlsuite.train(config, {**settings, "run.agent_steps": there.state["loop"]["collected"]}, run_dir=tmp_path / "local")
    local = final(tmp_path / "local")
    assert local.state["learner"]["steps"] > (20 if config == "boards/tic_tac_toe" or settings is not DQN else 200)
    assert differences(local.weights, there.weights, "weights") == []
    assert differences(local.state["learner"], there.state["learner"], "learner") == []
    if "shards" in there.state["replay"] and there.state["replay"]["shards"]:
        assert differences(local.state["replay"], there.state["replay"]["shards"][0], "replay") == []
    assert local.state["loop"]["returns"] == there.state["loop"]["returns"]


@pytest.mark.parametrize(
    ("config", "settings"),
    [("classic/dqn", DQN), pytest.param("classic/impala", {**ROLLOUTS, "learner.batch_size": 8}, marks=SLOW)],
)
def test_two_learners_learn_what_one_learns_from_the_same_batches(tmp_path: Path, config: str, settings: dict[str, Any]) -> None:
    """torch.distributed with gloo: halves of every batch, gradients averaged."""
    # Few updates: sums in another order differ in the last bits, and after hundreds of updates somebody acts differently.
    settings = {**settings, **RAY, "run.agent_steps": 192 if settings is DQN else 512, "runtime.synchronous": True}
    untrained = build(resolve(config, {name: value for name, value in settings.items() if "runtime" not in name})).learner.weights()
    rlsuite.train(config, settings, run_dir=tmp_path / "one")
    rlsuite.train(config, {**settings, "runtime.learners": 2}, run_dir=tmp_path / "two")
    one, two = final(tmp_path / "one"), final(tmp_path / "two")
    assert one.state["learner"]["steps"] == two.state["learner"]["steps"] >= 4
    for name, weight in one.weights.items():
        torch.testing.assert_close(two.weights[name], weight, rtol=1e-3, atol=5e-5)
        assert (untrained.tensors[name] - weight).abs().max() > 1e-3


def losses(run: Path) -> list[float]:
    return [row["losses/loss"] for row in read_metrics(run) if "losses/loss" in row]


@SLOW
def test_losses_in_lockstep_are_those_of_the_local_runtime(tmp_path: Path) -> None:
    settings = {**DQN, "run.agent_steps": 640, "run.log_seconds": 1e-6}
    rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "local")
    rlsuite.train("classic/dqn", {**settings, **RAY, "runtime.synchronous": True}, run_dir=tmp_path / "ray")
    local, there = losses(tmp_path / "local"), losses(tmp_path / "ray")  # the local one tells the last update of a visit
    assert len(there) >= 200
    assert set(local) <= set(there)


# ----------------------------------------------------------------------------------------------------------- flowing


def test_collectors_and_shards_flow_within_their_limits(tmp_path: Path) -> None:
    settings = {**DQN, **RAY, "run.agent_steps": 3_000, "runtime.collectors": 3, "runtime.shards": 2, "run.log_seconds": 0.01}
    rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")
    kept = final(tmp_path / "run")
    limiter, shards = kept.state["replay"]["limiter"], kept.state["replay"]["shards"]
    assert [len(shard["rings"]) for shard in shards] == [2, 1]  # collectors 0 and 2, collector 1
    stored = sum(ring["head"] * 8 for shard in shards for ring in shard["rings"])
    assert stored == limiter["inserted"] >= 3_000
    assert limiter["sampled"] == kept.state["learner"]["steps"] * 16
    ratio = limiter["ratio"]
    allowed = ratio * (limiter["inserted"] - 128)
    round_steps = 3 * 8 * 4
    assert allowed - ratio * 5 * round_steps <= limiter["sampled"] <= allowed + 16
    rows = [row for row in read_metrics(tmp_path / "run") if "ray/collect_per_second" in row]
    assert rows[-1]["charts/policy_lag"] >= 0
    assert rows[-1]["ray/object_store_bytes"] >= 0
    assert rows[-1]["ray/workers_lost"] == 0


def test_a_run_on_ray_goes_on_where_its_checkpoint_was(tmp_path: Path) -> None:
    settings = {**DQN, **RAY, "runtime.collectors": 2, "runtime.shards": 2}
    rlsuite.train("classic/dqn", {**settings, "run.agent_steps": 1_000}, run_dir=tmp_path / "run")
    before = final(tmp_path / "run")
    rlsuite.train(None, {"run.agent_steps": 1_600}, resume=tmp_path / "run")
    after = final(tmp_path / "run")
    old, new = before.state["replay"], after.state["replay"]
    assert new["limiter"]["inserted"] > old["limiter"]["inserted"]
    for was, now in zip(old["shards"], new["shards"], strict=True):
        head = was["rings"][0]["head"]
        assert np.array_equal(was["rings"][0]["reward"], now["rings"][0]["reward"][:, :head])
        assert (now["rings"][0]["flags"][:, head - 1] & 2).all()  # no sequence crosses the resume
        assert now["rings"][0]["flags"][:, head].all()  # a first record follows
    assert after.state["learner"]["steps"] > before.state["learner"]["steps"]
    with pytest.raises(RlsuiteError, match=r"has 2 shards, runtime.shards = 1"):
        rlsuite.train(None, {"run.agent_steps": 2_000, "runtime.shards": 1}, resume=tmp_path / "run")
    assert final(tmp_path / "run").agent_steps == after.agent_steps


def test_an_evaluation_on_the_way_keeps_the_weights_that_played(tmp_path: Path) -> None:
    settings = {**DQN, **RAY, "run.agent_steps": 2_000, "eval.every_agent_steps": 500, "eval.every_episodes": 1}
    settings["runtime.synchronous"] = True  # else a run of seconds is over before the evaluator has started
    rlsuite.train("classic/dqn", {**settings, "run.keep_checkpoints": 9}, run_dir=tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if "eval/episodic_return" in row]
    assert len(rows) >= 2
    assert len(checkpoint.list_complete(tmp_path / "run")) >= 2


@pytest.mark.parametrize("synchronous", [True, False])
def test_a_run_that_stops_at_a_return_ends_with_the_weights_that_reached_it(tmp_path: Path, synchronous: bool) -> None:
    settings = {**DQN, **RAY, "run.agent_steps": 200_000, "runtime.synchronous": synchronous, "run.keep_checkpoints": 9}
    settings |= {"eval.every_agent_steps": 256, "eval.every_episodes": 1, "eval.stop_at_return": 5}  # the first one reaches it
    result = rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if "eval/episodic_return" in row]
    assert result.agent_steps < 200_000
    # The last evaluation on the way is of the step at which the run ends; behind it stands the one at the end.
    assert [row["agent_steps"] for row in rows[-2:]] == [result.agent_steps] * 2
    assert rows[-2]["learner_steps"] == result.learner_steps
    if synchronous:
        assert len(rows) == 2


# ----------------------------------------------------------------------------------------------------------- deaths


def killing(monkeypatch: pytest.MonkeyPatch, plan: list[tuple[int, Callable[[Driver], WorkerHandle]]]) -> list[str]:
    """Kills the member that each entry names as soon as so many agent steps are collected; the list names the killed."""
    killed: list[str] = []
    wait = Driver._wait

    def murderous(driver: Driver, loop: Loop, seconds: float) -> None:
        if plan and loop.collected >= plan[0][0]:
            worker = plan[0][1](driver)
            if worker.ready:
                plan.pop(0)
                killed.append(worker.name)
                ray.kill(worker.actor)
        wait(driver, loop, seconds)

    monkeypatch.setattr(Driver, "_wait", murderous)
    return killed


def test_whatever_is_killed_is_replaced_and_the_run_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan: list[tuple[int, Callable[[Driver], WorkerHandle]]] = [
        (500, lambda driver: driver.collectors[0]),
        (1_000, lambda driver: driver.the_learner),
        (1_500, lambda driver: driver.shards[1]),
        (2_500, lambda driver: driver.collectors[1]),
        (3_000, lambda driver: driver.the_learner),
    ]
    killed = killing(monkeypatch, plan)
    settings = {**DQN, **RAY, "run.agent_steps": 5_000, "runtime.collectors": 2, "runtime.shards": 2, "run.log_seconds": 0.1}
    settings["replay.capacity_agent_steps"] = 20_000  # so that rings do not wrap around
    result = rlsuite.train("classic/dqn", {**settings, "run.checkpoint_minutes": 0.02}, run_dir=tmp_path / "run")
    assert killed == ["collector 0", "learner", "shard 1", "collector 1", "learner"]
    assert result.agent_steps == 5_000
    assert result.learner_steps > 300
    told = capsys.readouterr().err
    assert told.count("is lost") == 5
    assert "the learner goes on from learner step" in told
    rows = [row for row in read_metrics(tmp_path / "run") if "ray/workers_lost" in row]
    assert rows[-1]["ray/workers_lost"] == rows[-1]["ray/workers_replaced"] == 5
    kept = final(tmp_path / "run").state
    for ring in kept["replay"]["shards"][0]["rings"]:  # of collector 0: its streams were cut where it died
        flags = ring["flags"].T  # [N,L]
        begins = (flags & 1).astype(bool)
        assert begins[1:][(flags[:-1] & 2).astype(bool)].all()
        assert (flags[:-1] & 2).astype(bool)[begins[1:]].all()


@SLOW
def test_a_killed_collector_of_rollouts_changes_nothing_but_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = killing(monkeypatch, [(300, lambda driver: driver.collectors[1])])
    settings = {**ROLLOUTS, **RAY, "run.agent_steps": 3_000, "runtime.collectors": 2, "learner.batch_size": 8}
    result = rlsuite.train("classic/impala", settings, run_dir=tmp_path / "run")
    assert killed == ["collector 1"]
    assert result.learner_steps > 10


def test_a_collector_that_raises_ends_the_run_with_its_own_traceback(tmp_path: Path) -> None:
    rlsuite.register_env("Fire-v0", "ray_envs")
    settings = {**DQN, **RAY, "env.id": "Fire-v0", "env.steps": 2}
    begun = time.monotonic()
    with pytest.raises(RlsuiteError, match="3 times in a row") as caught:
        rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")
    assert "ZeroDivisionError: the pole caught fire" in str(caught.value)
    assert "in failing" in str(caught.value)
    assert time.monotonic() - begun < 120


@SLOW
def test_too_many_deaths_end_the_run_with_the_first_cause(tmp_path: Path) -> None:
    rlsuite.register_env("Fire-v0", "ray_envs")
    settings = {**DQN, **RAY, "env.id": "Fire-v0", "env.steps": 30, "runtime.restarts": 2}
    with pytest.raises(RlsuiteError, match=r"more than runtime.restarts = 2; the first: collector 0:[\s\S]*caught fire"):
        rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")


def test_an_environment_that_a_node_lacks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rlsuite.register_env("Fire-v0", "ray_envs")
    marker = tmp_path / "driver"
    marker.touch()
    make = Driver._make_workers

    def elsewhere(driver: Driver) -> None:
        marker.unlink()
        make(driver)

    monkeypatch.setattr(Driver, "_make_members", elsewhere)
    settings = {**DQN, **RAY, "env.id": "Fire-v0", "env.missing": True, "env.marker": str(marker)}
    with pytest.raises(UsageError, match=r"^collector 0: the package of this environment is not installed here$"):
        rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_was_registered_travels_if_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As itself from a script or a package; from a file that only this process loaded, as the name of what is missed."""
    (tmp_path / "elsewhere_only.py").write_text("class Game: pass\n")
    spec = importlib.util.spec_from_file_location("elsewhere_only", tmp_path / "elsewhere_only.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "elsewhere_only", module)
    spec.loader.exec_module(module)
    game = module.Game()
    for told in ("ray_envs", ray_envs, Driver, "elsewhere_only:Game"):
        assert pickle.loads(pickle.dumps(PickledEntry(told))) == told
    assert pickle.loads(pickle.dumps(PickledEntry(lambda: 7)))() == 7
    assert pickle.loads(pickle.dumps(PickledEntry(threading.Lock()))) == "_thread:lock"  # what cannot be packed at all
    sent = [pickle.dumps(PickledEntry(told)) for told in (module, module.Game, lambda: game)]
    monkeypatch.delitem(sys.modules, "elsewhere_only")
    there = [pickle.loads(packed) for packed in sent]
    assert there[:2] == ["elsewhere_only", "elsewhere_only:Game"]
    rlsuite.register_game("elsewhere", there[0])
    with pytest.raises(UsageError, match=r"elsewhere_only is registered but cannot be imported: No module named"):
        rlsuite.make_game("elsewhere")


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"runtime.collectors": 0}, "runtime.collectors = 0: must be greater than or equal to 1"),
        ({"runtime.shards": 0}, "runtime.shards = 0"),
        ({"runtime.shards": 2}, "shards 2 is more than collectors 1"),
        ({"runtime.colectors": 2}, "collectors"),
        ({"run.policy_lag_learner_steps": 3}, r"run\.policy_lag_learner_steps: on Ray"),
        ({"runtime.learners": 3}, r"learner\.batch_size = 64 is no multiple of runtime\.learners = 3"),
        ({"learner.prefetch_batches": 1}, r"learner\.prefetch_batches: on Ray it is runtime\.batch_calls_in_flight"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_starts(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve("classic/dqn", {**RAY, **settings})


def test_settings_of_ray_without_ray_are_refused() -> None:
    with pytest.raises(UsageError, match=r"collectors: only for kind ray, and this run is local \(runtime.kind=ray\)"):
        resolve("classic/dqn", {"runtime.collectors": 4})


def test_a_cluster_without_what_is_asked_is_refused_in_seconds(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(UsageError, match="ask for 1 GPUs, the cluster has 0"):
        rlsuite.train("classic/dqn", {**DQN, **RAY, "runtime.learner_gpus": 1.0}, run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match="100 collectors and the learner ask for 101 CPUs, the cluster has 6"):
        rlsuite.train("classic/dqn", {**DQN, **RAY, "runtime.collectors": 100}, run_dir=tmp_path / "run")
    assert time.monotonic() - begun < 60
    assert not (tmp_path / "run").exists()


def test_other_versions_on_a_node_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = rlsuite.runs.run_folder.versions()
    monkeypatch.setattr("rlsuite.runs.run_folder.versions", lambda: {**own, "torch": "1.0"})
    with pytest.raises(UsageError, match=rf"learner on .* has torch {own['torch'].replace('+', '.')} \(here 1.0\)"):
        rlsuite.train("classic/dqn", {**DQN, **RAY}, run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nowhere", "give auto, ray://host:10001, or host:6379"),
        ("127.0.0.1:9", "nothing answers there"),
        ("ray://127.0.0.1:9", "nothing answers there"),
    ],
)
def test_a_wrong_address_is_one_line(address: str, says: str, tmp_path: Path) -> None:
    ray.shutdown()
    try:
        with pytest.raises(UsageError, match=says):
            rlsuite.train("classic/dqn", {**DQN, **RAY, "runtime.address": address}, run_dir=tmp_path / "run")
    finally:
        start()


def test_a_run_starts_and_ends_its_own_ray_on_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.shutdown()
    seen: list[str] = []
    train = Driver.train

    def looking(driver: Driver, *args: Any) -> bool:
        seen.extend(node["NodeManagerAddress"] for node in ray.nodes())
        seen.extend(listening())
        return train(driver, *args)

    monkeypatch.setattr(Driver, "train", looking)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # runtime.address alone says where
    try:
        rlsuite.train("classic/dqn", {**DQN, **RAY, "run.agent_steps": 300}, run_dir=tmp_path / "run")
        assert not ray.is_initialized()
        assert len(seen) > 4
        assert set(seen) == {"127.0.0.1"}
    finally:
        start()


def listening() -> list[str]:
    """Addresses that processes of Ray listen at."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(name in " ".join(process.cmdline()) for name in ("gcs_server", "raylet", "ray::")):
                for connection in process.net_connections():
                    if connection.status == psutil.CONN_LISTEN:
                        found.append(connection.laddr.ip.removeprefix("::ffff:"))
    return found


@SLOW
def test_weights_keep_their_values_on_the_way(tmp_path: Path) -> None:
    """Through the object store and back: what is saved is what the learner has."""
    rlsuite.train("classic/dqn", {**DQN, **RAY, "run.agent_steps": 400}, run_dir=tmp_path / "run")
    kept = final(tmp_path / "run")
    assert all(torch.isfinite(tensor).all() for tensor in kept.weights.values())
    agent = rlsuite.load(tmp_path / "run")
    actions, _ = agent.act(np.zeros((3, 4), np.float32))
    assert actions.shape == (3,)


def test_collectors_go_on_until_the_first_slice_is_whole(tmp_path: Path) -> None:
    """Four collectors with sequences so long that all that may be inserted before learning would not complete one."""
    settings = {
        **SEQUENCES,
        **RAY,
        "agent.unroll": 40,
        "replay.capacity_agent_steps": 4_000,
        "replay.min_agent_steps": 10,
        "runtime.collectors": 4,
        "run.collect_agent_steps": 2,
        "env.num_envs": 4,
        "run.agent_steps": 1_500,
    }
    result = rlsuite.train("classic/recall_r2d2", settings, run_dir=tmp_path / "run")
    assert result.learner_steps > 10
