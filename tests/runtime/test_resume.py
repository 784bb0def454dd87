"""N steps + save + load + N steps equals 2N steps, bit for bit; and a run survives being killed at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import SEQUENCES, differences, final

import rlsuite
from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.runs import checkpoint

param, integration = pytest.param, pytest.mark.integration

TINY = {
    "run.threads": 1,
    "replay.prioritized": True,
    "replay.capacity_agent_steps": 600,  # so small that the ring wraps around
    "replay.min_agent_steps": 100,
    "replay.samples_per_insert": 8,
    "learner.batch_size": 16,
    "agent.n_steps": 3,
    "agent.epsilon_decay_agent_steps": 1_000,
    "net.hidden": 32,
    "eval.episodes": 1,
}


ROLLOUTS = {"run.threads": 1, "run.collect_agent_steps": 16, "net.hidden": 16, "eval.episodes": 1, "eval.every_agent_steps": None}
ROLLOUTS |= {"eval.stop_at_return": None, "env.num_envs": 4, "learner.batch_size": 4, "learner.learning_rate_end": None}


@pytest.mark.parametrize(
    ("config", "extra"),
    [
        param("classic/ppo", {}, marks=integration),
        ("classic/ppo", {"net.memory": "lstm", "net.memory_size": 8}),
        ("classic/a2c", {"learner.batch_size": 8}),  # an unroll waits in the queue
        ("classic/impala", {"run.policy_lag_learner_steps": 3, "learner.precision": "bf16"}),
        ("classic/ppo", {"agent.novelty": "rnd(width=8)", "net.auxiliary": "reconstruct(latent=2)", "learner.precision": "bf16"}),
        param("classic/a2c", {"agent.novelty": "reconstruction(width=8)", "learner.batch_size": 8}, marks=integration),
        param("classic/pendulum_ppo", {}, marks=integration),
        param("classic/reinforce", {"net.memory": "gru", "net.separate_value": False}, marks=integration),
    ],
    ids=["ppo", "ppo-lstm", "a2c-two-unrolls", "impala-lag-bf16", "ppo-novelty", "a2c-novelty", "pendulum", "reinforce-gru"],
)
def test_resumed_rollouts_equal_uninterrupted_ones_bit_for_bit(tmp_path: Path, config: str, extra: dict[str, Any]) -> None:
    n = 1_000  # in the middle of a rollout
    settings = {**ROLLOUTS, **extra}
    if config == "classic/pendulum_ppo":
        settings |= {"agent.minibatches": 2}
    rlsuite.train(config, {**settings, "run.agent_steps": 2 * n}, run_dir=tmp_path / "whole")
    rlsuite.train(config, {**settings, "run.agent_steps": n}, run_dir=tmp_path / "halves")
    rlsuite.train(None, {"run.agent_steps": 2 * n}, resume=tmp_path / "halves")
    whole, halves = final(tmp_path / "whole"), final(tmp_path / "halves")
    assert whole.state["learner"]["steps"] > 10
    assert differences(whole.weights, halves.weights, "weights") == []
    for role in ("learner", "replay", "collector"):
        assert differences(whole.state[role], halves.state[role], role) == []
    for name in ("collected", "returns", "lag"):
        assert differences(whole.state["loop"][name], halves.state["loop"][name], name) == []


@pytest.mark.parametrize(
    "extra",
    [
        {},
        param(
            {"net.memory": "attention(window=6,heads=2)", "replay.initial_priority": "td", "learner.precision": "bf16"},
            marks=integration,
        ),
        {"net.memory": "gru", "agent.cross_episodes": False, "net.last_action_reward": False, "replay.prioritized": False},
        param({"agent.stored_state": False, "agent.burn_in": 0}, marks=integration),
    ],
    ids=["lstm", "attention-td-bf16", "gru-no-crossing", "zero-state"],
)
def test_resumed_sequences_equal_uninterrupted_ones_bit_for_bit(tmp_path: Path, extra: dict[str, Any]) -> None:
    n = 1_001
    settings = {**SEQUENCES, **extra}
    rlsuite.train("classic/recall_r2d2", {**settings, "run.agent_steps": 2 * n}, run_dir=tmp_path / "whole")
    rlsuite.train("classic/recall_r2d2", {**settings, "run.agent_steps": n}, run_dir=tmp_path / "halves")
    rlsuite.train(None, {"run.agent_steps": 2 * n}, resume=tmp_path / "halves")
    whole, halves = final(tmp_path / "whole"), final(tmp_path / "halves")
    assert whole.state["learner"]["steps"] > 50
    assert differences(whole.weights, halves.weights, "weights") == []
    for role in ("learner", "replay", "collector"):
        assert differences(whole.state[role], halves.state[role], role) == []


def test_a_resume_lists_the_changed_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rlsuite.train("classic/recall_r2d2", {**SEQUENCES, "run.agent_steps": 100}, run_dir=tmp_path)
    assert "nothing was learned: no learner step in 100 agent steps" in capsys.readouterr().err
    rlsuite.train(None, {"run.agent_steps": 300, "env.length": 12, "learner.learning_rate": 2e-3}, resume=tmp_path)
    changes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("changed: ")]
    assert changes == [
        "changed: env.length 10 -> 12",
        "changed: learner.learning_rate 0.001 -> 0.002",
        "changed: run.agent_steps 100 -> 300",
    ]


def test_unrolls_of_another_length_are_refused_where_collectors_compute_priorities(tmp_path: Path) -> None:
    settings = {**SEQUENCES, "replay.initial_priority": "td", "run.agent_steps": 300}
    rlsuite.train("classic/recall_r2d2", settings, run_dir=tmp_path)
    with pytest.raises(CheckpointError, match=r"run\.collect_agent_steps or the length of sequences has changed, which"):
        rlsuite.train(None, {"run.agent_steps": 600, "run.collect_agent_steps": 4}, resume=tmp_path)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"env.num_envs": 3, "run.collect_agent_steps": 5},  # N falls into the middle of a tick and of an unroll
        param({"agent.noisy": True, "agent.dueling": True, "agent.double": True, "learner.target_ema": 0.01}, marks=integration),
        param({"replay.prioritized": False, "env.id": "Acrobot-v1", "learner.optimizer": "rmsprop"}, marks=integration),
        param({"env.id": "rlsuite/Recall-v0", "learner.optimizer": "sgd", "learner.learning_rate_end": None}, marks=integration),
        {
            "learner.resets.every_agent_steps": 300,
            "agent.novelty": "rnd(width=8)",
            "net.auxiliary": "reconstruct(latent=2)",
            "learner.target_period_learner_steps": 1,
            "learner.target_ema": 0.01,
            "learner.act_with_target": True,
            "learner.optimizer": "adamw(weight_decay=0.1)",
            "agent.n_steps": 5,
            "agent.n_steps_end": 2,
            "agent.discount_end": 0.9,
            "agent.anneal_learner_steps": 50,
        },
    ],
    ids=["dqn", "odd-unrolls", "noisy-dueling", "acrobot-rmsprop", "recall-sgd", "resets-annealing-ema-novelty"],
)
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, extra: dict[str, Any]) -> None:
    n = 1_000
    settings = {**TINY, "learner.learning_rate_end": None, **extra}
    rlsuite.train("classic/dqn", {**settings, "run.agent_steps": 2 * n}, run_dir=tmp_path / "whole")
    first = rlsuite.train("classic/dqn", {**settings, "run.agent_steps": n}, run_dir=tmp_path / "halves")
    assert first.agent_steps == n
    second = rlsuite.train(None, {"run.agent_steps": 2 * n}, resume=tmp_path / "halves")
    assert second.agent_steps == 2 * n
    whole, halves = final(tmp_path / "whole"), final(tmp_path / "halves")
    assert differences(whole.weights, halves.weights, "weights") == []
    for role in ("learner", "replay", "collector"):
        assert differences(whole.state[role], halves.state[role], role) == []
    assert whole.state["loop"]["collected"] == halves.state["loop"]["collected"]
    assert whole.state["loop"]["returns"] == halves.state["loop"]["returns"]
    assert whole.state["learner"]["steps"] > 100


def test_same_seed_same_run_and_another_seed_another(tmp_path: Path) -> None:
    runs = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 600, "seed": seed}, run_dir=tmp_path / name)
        runs[name] = final(tmp_path / name)
    assert differences(runs["a"].weights, runs["b"].weights) == []
    assert differences(runs["a"].weights, runs["c"].weights) != []


def test_resume_refuses_a_config_that_does_not_fit(tmp_path: Path) -> None:
    rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 300}, run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match=r"net\.hidden \d+ -> 16; .*another net.*shape"):
        rlsuite.train(None, {"net.hidden": 16}, resume=tmp_path / "run")
    with pytest.raises(UsageError, match=r"env\.num_envs \d+ -> 2; .*does not fit"):
        rlsuite.train(None, {"env.num_envs": 2}, resume=tmp_path / "run")
    with pytest.raises(UsageError, match=r"already holds a run.*--resume"):
        rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 300}, run_dir=tmp_path / "run")


def test_a_resume_remembers_its_overrides_and_never_goes_back(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 300}, run_dir=run)
    rlsuite.train(None, {"run.agent_steps": 400, "learner.learning_rate": 1e-5, "learner.learning_rate_end": None}, resume=run)
    assert rlsuite.train(None, {}, resume=run).agent_steps == 400
    (group,) = final(run).state["learner"]["optimizer"]["param_groups"]
    assert group["lr"] == 1e-5
    with pytest.raises(UsageError, match=r"is already trained to 400 steps; raise run\.agent_steps"):
        rlsuite.train(None, {"run.agent_steps": 350}, resume=run)
    assert final(run).agent_steps == 400


def test_an_evaluation_right_after_a_resume_leaves_something_to_resume_from(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = {**TINY, "env.num_envs": 4, "eval.every_agent_steps": 100, "eval.every_episodes": 1}
    rlsuite.train("classic/dqn", {**settings, "run.agent_steps": 400}, run_dir=run)
    rlsuite.train(None, {"run.agent_steps": 404}, resume=run)
    assert checkpoint.find(run, resumable=True).name == "step_000000000404"


def test_checkpoints_of_an_abandoned_future_are_forgotten(tmp_path: Path) -> None:
    """After a kill -9 the best weights can be newer than the checkpoint that a resume starts from."""
    run = tmp_path / "run"
    rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 300}, run_dir=run)
    saved = final(run)
    for steps in (350, 360):
        checkpoint.save(run, steps, saved.weights, saved.state, saved.metadata, with_arrays=False)
    rlsuite.train(None, {"run.agent_steps": 320}, resume=run)
    assert [path.name for path in checkpoint.list_complete(run)] == ["step_000000000300", "step_000000000320"]
    assert final(run).agent_steps == 320


def test_the_log_continues_at_the_checkpoint(tmp_path: Path) -> None:
    from rlsuite.runs.metrics import read_metrics

    run = tmp_path / "run"
    rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 500}, run_dir=run)
    with open(run / "metrics.jsonl", "a") as file:  # rows of a session that was killed before its checkpoint
        clock = {"agent_steps": 700, "env_frames": 700, "learner_steps": 9, "wall_seconds": 1.0}
        file.write(json.dumps({**clock, "charts/episodic_return": 5.0}) + "\n")
    rlsuite.train(None, {"run.agent_steps": 600}, resume=run)
    steps = [row["agent_steps"] for row in read_metrics(run)]
    assert max(steps) == 600
    assert steps == sorted(steps)


@pytest.mark.integration
def test_ctrl_c_writes_a_checkpoint_and_exits_130(tmp_path: Path) -> None:
    process = start(tmp_path / "run")
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    result = json.loads(out)
    assert result["interrupted"] is True
    assert result["eval"] is None
    assert final(tmp_path / "run").agent_steps == result["agent_steps"]


@pytest.mark.integration
def test_two_processes_in_one_run_folder_are_refused(tmp_path: Path) -> None:
    process = start(tmp_path / "run")
    try:
        wait_for(tmp_path / "run" / "checkpoints", process)
        with pytest.raises(UsageError, match="is in use: another process is training in it"):
            rlsuite.train(None, {}, resume=tmp_path / "run")
        with pytest.raises(UsageError, match="is in use: another process is training in it"):
            rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 200}, run_dir=tmp_path / "run")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


BOARD = {
    "env.opponent": "random",
    "agent.simulations": 4,
    "agent.eval_simulations": 4,
    "net.torso": "tower(width=8,depth=1)",
    "replay.capacity_agent_steps": 600,
    "replay.min_agent_steps": 100,
    "learner.batch_size": 16,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
    "run.threads": 1,
}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("config", "kills"), [("classic/dqn", 3), ("boards/tic_tac_toe", 2), pytest.param("classic/dqn", 20, marks=pytest.mark.slow)]
)
def test_kill_9_never_leaves_a_run_that_cannot_resume(tmp_path: Path, config: str, kills: int) -> None:
    rng = random.Random(kills)
    run = tmp_path / "run"
    reached = 0
    for attempt in range(kills):
        process = start(run, resume=attempt > 0, config=config)
        wait_for(run / "checkpoints", process)
        time.sleep(rng.uniform(0.0, 1.5))
        process.kill()
        process.wait()
        deadline = time.monotonic() + 60
        while not checkpoint.list_complete(run) and attempt == 0 and time.monotonic() < deadline:
            process = start(run, fresh=True, config=config)  # killed before its first checkpoint: nothing to lose yet
            time.sleep(5)
            process.kill()
            process.wait()
        steps = final(run).agent_steps
        assert steps >= reached
        reached = steps
    goal = reached + 200
    done = rlsuite.train(None, {"run.agent_steps": goal, "run.checkpoint_minutes": 10.0}, resume=run)
    assert done.agent_steps == goal


def start(run: Path, resume: bool = False, fresh: bool = False, config: str = "classic/dqn") -> "subprocess.Popen[str]":
    if fresh:
        (run / "config.yaml").unlink(missing_ok=True)
    endless = {**(TINY if config == "classic/dqn" else BOARD), "run.agent_steps": 100_000_000, "run.checkpoint_minutes": 0.001}
    overrides = [f"{key}={json.dumps(value)}" for key, value in endless.items()]
    where = ["--resume", str(run)] if resume else [config, *overrides, "--run-dir", str(run)]
    return subprocess.Popen(
        [sys.executable, "-m", "rlsuite", "train", *where, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(path: Path, process: "subprocess.Popen[str]", seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the training ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 200}, run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match=r"optimizer.*'sgd'"):
        rlsuite.train(None, {"run.agent_steps": 400, "learner.optimizer": "sgd"}, resume=tmp_path / "run")
