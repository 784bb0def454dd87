"""A run on a cluster of three nodes in which something dies every few seconds still solves its task."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import ray

pytestmark = [pytest.mark.slow, pytest.mark.integration]  # minutes, and processes on every core

SCRIPT = Path(__file__).parents[3] / "scripts" / "ray_chaos.py"


@pytest.fixture
def script() -> Any:
    spec = importlib.util.spec_from_file_location("ray_chaos", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_solves_cartpole_while_its_workers_are_killed(script: Any, tmp_path: Path) -> None:
    ray.shutdown()
    ends = {"run.agent_steps": 400_000, "eval.every_agent_steps": 5_000, "eval.stop_at_return": 475}
    result, killer = script.chaos(minutes=20, every=6, seed=1, run_dir=tmp_path / "run", overrides=ends)
    assert sum(killer.kills.values()) >= 5
    assert {"collector", "shard", "learner"} & set(killer.kills)
    assert result.evaluation is not None
    assert result.evaluation.mean >= 450
