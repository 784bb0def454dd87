"""A study that is killed again and again ends as one that was left alone."""

import contextlib
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from helpers import start_sweep

import rlsuite
from rlsuite.studies import results

ROOT = Path(rlsuite.__file__).resolve().parents[1]
STUDY: dict[str, Any] = {
    "config": "classic/dqn",
    "seeds": 3,
    "axes": {"learner.learning_rate": [1e-3, 3e-3]},
    "overrides": {
        "run.agent_steps": 1_500,
        "run.checkpoint_minutes": 0.01,
        "replay.min_agent_steps": 100,
        "learner.batch_size": 8,
        "net.hidden": 16,
        "eval.episodes": 3,
        "eval.every_agent_steps": 500,
        "eval.every_episodes": 2,
        "eval.stop_at_return": None,
    },
}


def finish(folder: Path, *arguments: str) -> str:
    process = start_sweep(folder, *arguments)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    return errors


def outcomes(study: Path) -> dict[str, Any]:
    """Of each trial its score and its periodic evaluations."""
    found = {path.name: results.read(path) for path in (study / "trials").iterdir()}
    return {name: one and (one.score, one.evaluations) for name, one in found.items()}


BROKEN = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv


class Fragile(CartPoleEnv):
    def __init__(self, broken: bool = False, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.broken = broken

    def step(self, action):
        if self.broken:
            raise RuntimeError("the pole is broken")
        return super().step(action)
"""


@pytest.mark.integration
def test_a_trial_that_always_fails_is_told_and_the_rest_end(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(BROKEN)
    study = {**STUDY, "seeds": 1, "games": [f"{tmp_path}/fragile.py:Fragile"], "axes": {"env.kwargs.broken": [True, False]}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    process = start_sweep(tmp_path, "--out", "out", "--jobs", "2")
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 1, errors
    assert "the pole is broken" in errors
    found = outcomes(tmp_path / "out")
    assert sorted(one is None for one in found.values()) == [False, True]


@pytest.mark.slow
def test_a_study_killed_five_times_ends_with_the_scores_of_one_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    finish(tmp_path, "--out", "alone", "--jobs", "2")
    rng = random.Random(1)
    for number in range(5):
        process = start_sweep(tmp_path, "--out", "killed", "--jobs", "2")
        time.sleep(rng.uniform(1.0, 15.0))
        trials = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        if number % 2:  # the whole machine; otherwise its trials are asked to stop, and write a checkpoint
            for trial in trials:
                with contextlib.suppress(psutil.NoSuchProcess):
                    trial.kill()
        process.communicate()
    finish(tmp_path, "--out", "killed", "--jobs", "2")
    alone = outcomes(tmp_path / "alone")
    assert len(alone) == 6
    assert None not in alone.values()
    assert outcomes(tmp_path / "killed") == alone
    assert "was finished" in finish(tmp_path, "--out", "killed")  # nothing is left to do
