"""Runs that move between the runtimes, and between numbers of collectors and shards."""

from pathlib import Path

import numpy as np
import pytest
from helpers import final
from ray_envs import KINDS

import rlsuite
from rlsuite.runs.metrics import read_metrics

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("hosts")]


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
        assert ("rollouts that had not been learned from" in said) if kind == "ppo" else ("of its " in said or kind == "alphazero")
    assert np.diff(learned).min() > 5
    assert {row["agent_steps"] for row in read_metrics(run) if row["agent_steps"] > 3_000}
