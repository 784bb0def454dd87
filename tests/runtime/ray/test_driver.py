"""Runs on Ray: synchronously one equals the local run; unlimited by turns, collectors and learner keep within their limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SEQUENCES, differences, final
from ray_envs import DQN, GAMES, KINDS, RAY, ROLLOUTS

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.factories import build
from rlsuite.runs import checkpoint
from rlsuite.runs.metrics import read_metrics
from rlsuite.runs.progress import Progress

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("hosts")]
SERVER = {"runtime.inference": "server"}
SLOW = pytest.mark.slow  # every run here starts processes that import torch


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
        ("classic/dqn", {**DQN, **SERVER, "learner.precision": "bf16"}, 1_024),
        pytest.param("classic/ppo", {**ROLLOUTS, **SERVER}, 640, marks=SLOW),
        ("boards/tic_tac_toe", {**GAMES, **SERVER}, 600),
        pytest.param("classic/recall_r2d2", {**SEQUENCES, **SERVER, "run.collect_agent_steps": 4}, 1_000, marks=SLOW),
    ],
    ids=["dqn", "apex-bf16", "rainbow", "ppo", "impala-lstm", "alphazero", "r2d2"]
    + [f"{kind}-server" for kind in ("dqn", "ppo", "alphazero", "r2d2")],
)
def test_one_synchronous_collector_equals_the_local_runtime(
    tmp_path: Path, config: str, settings: dict[str, Any], steps: int
) -> None:
    rlsuite.train(config, {**settings, **RAY, "run.agent_steps": steps, "runtime.synchronous": True}, run_dir=tmp_path / "ray")
    there = final(tmp_path / "ray")  # it ends after a whole unroll
    plain = {name: value for name, value in settings.items() if name not in SERVER}
    rlsuite.train(config, {**plain, "run.agent_steps": there.state["loop"]["collected"]}, run_dir=tmp_path / "local")
    local = final(tmp_path / "local")
    assert local.state["learner"]["steps"] > (20 if config == "boards/tic_tac_toe" or settings is not DQN else 200)
    assert differences(local.weights, there.weights, "weights") == []
    assert differences(local.state["learner"], there.state["learner"], "learner") == []
    if "shards" in there.state["replay"] and there.state["replay"]["shards"]:
        shard, limiter = there.state["replay"]["shards"][0], there.state["replay"]["limiter"]
        assert shard["limiter"] == {}  # the run has one, the scheduler's
        assert differences(local.state["replay"], {**shard, "limiter": limiter}, "replay") == []
    assert local.state["loop"]["returns"] == there.state["loop"]["returns"]


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ("classic/dqn", DQN),
        # No episode ends here: IMPALA's loss is a mean over the valid steps, which halves may have different numbers of.
        pytest.param("classic/impala", {**ROLLOUTS, "learner.batch_size": 8, "env.id": "MountainCar-v0"}, marks=SLOW),
    ],
)
def test_two_learners_learn_what_one_learns_from_the_same_batches(tmp_path: Path, config: str, settings: dict[str, Any]) -> None:
    """torch.distributed with gloo: halves of every batch, gradients averaged."""
    # Few updates: sums in another order differ in the last bits, and after hundreds of updates somebody acts differently.
    settings = {**settings, **RAY, "run.agent_steps": 192 if config == "classic/dqn" else 512, "runtime.synchronous": True}
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
def test_synchronous_losses_are_those_of_the_local_runtime(tmp_path: Path) -> None:
    settings = {**DQN, "run.agent_steps": 1_024, "run.log_seconds": 1e-6}
    rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "local")
    rlsuite.train("classic/dqn", {**settings, **RAY, "runtime.synchronous": True}, run_dir=tmp_path / "ray")
    local, there = losses(tmp_path / "local"), losses(tmp_path / "ray")  # the local one logs the last update of a visit
    assert len(there) >= 200
    assert set(local) <= set(there)


# ---------------------------------------------------------------------------------------------------------- asynchronous


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


@pytest.mark.parametrize(
    "kind", ["dqn", "ppo", pytest.param("r2d2", marks=pytest.mark.slow), pytest.param("alphazero", marks=pytest.mark.slow)]
)
def test_a_run_moves_to_ray_and_back_and_goes_on_learning(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    config, settings = KINDS[kind]
    run, many = tmp_path / "run", {"runtime.collectors": 3, "runtime.shards": 2 if kind != "ppo" else 1}
    rlsuite.train(config, {**settings, "run.agent_steps": 1_000}, run_dir=run)
    there = {"runtime.kind": "ray", **many, "learner.batch_size": settings["learner.batch_size"]}
    learned = [final(run).state["learner"]["steps"]]
    for steps, moved in (
        (2_000, there),
        (3_000, {"runtime.collectors": 2, "runtime.shards": 1}),
        (4_000, {"runtime.kind": "local"}),
    ):
        rlsuite.train(None, {**moved, "run.agent_steps": steps}, resume=run)
        learned.append(final(run).state["learner"]["steps"])
        said = capsys.readouterr().err
        assert "not kept as it was: the running episodes" in said
        if kind == "ppo":
            assert ("rollouts that had not been learned from" in said) == (steps > 2_000)  # a local run saves them
        elif kind != "alphazero":  # whose shard has one ring, whoever plays
            assert "the replay (" in said
    assert np.diff(learned).min() > 5
    assert {row["agent_steps"] for row in read_metrics(run) if row["agent_steps"] > 3_000}


def test_collectors_go_on_until_the_first_sequence_is_whole(tmp_path: Path) -> None:
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


@SLOW
def test_weights_keep_their_values_between_processes(tmp_path: Path) -> None:
    """Through the object store and back: what is saved is what the learner has."""
    rlsuite.train("classic/dqn", {**DQN, **RAY, "run.agent_steps": 400}, run_dir=tmp_path / "run")
    kept = final(tmp_path / "run")
    assert all(torch.isfinite(tensor).all() for tensor in kept.weights.values())
    agent = rlsuite.load(tmp_path / "run")
    actions, _ = agent.act(np.zeros((3, 4), np.float32))
    assert actions.shape == (3,)


# ----------------------------------------------------------------------------------------------------------- evaluations


def test_a_periodic_evaluation_keeps_the_weights_that_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: set[str | None] = set()
    monkeypatch.setattr(Progress, "update", lambda self, status: shown.add(status.more.get("evaluation")))
    settings = {**DQN, **RAY, "run.agent_steps": 2_000, "eval.every_agent_steps": 500, "eval.every_episodes": 1}
    settings["runtime.synchronous"] = True  # else a run of seconds is over before the evaluator has started
    rlsuite.train("classic/dqn", {**settings, "run.keep_checkpoints": 9}, run_dir=tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if "eval/episodic_return" in row]
    assert len(rows) >= 2
    assert {None, "under way"} <= shown
    assert len(checkpoint.list_complete(tmp_path / "run")) >= 2


@pytest.mark.parametrize("synchronous", [True, False])
def test_a_run_that_stops_at_a_return_ends_with_the_weights_that_reached_it(tmp_path: Path, synchronous: bool) -> None:
    settings = {**DQN, **RAY, "run.agent_steps": 200_000, "runtime.synchronous": synchronous, "run.keep_checkpoints": 9}
    settings |= {"eval.every_agent_steps": 256, "eval.every_episodes": 1, "eval.stop_at_return": 5}  # the first one reaches it
    result = rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if "eval/episodic_return" in row]
    assert result.agent_steps < 200_000
    # The last periodic evaluation is of the step at which the run ends; the one at the end follows it.
    assert [row["agent_steps"] for row in rows[-2:]] == [result.agent_steps] * 2
    assert rows[-2]["learner_steps"] == result.learner_steps
    if synchronous:
        assert len(rows) == 2
