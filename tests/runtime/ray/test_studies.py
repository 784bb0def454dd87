"""Trials of a study as Ray tasks: `rlsuite.studies.workers.RayTasks`."""

import contextlib
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
import yaml
from helpers import start_sweep

import rlsuite
from rlsuite.studies import results

pytestmark = pytest.mark.integration
ROOT = Path(rlsuite.__file__).resolve().parents[1]
STUDY = {
    "config": "classic/dqn",
    "seeds": 2,
    "overrides": {
        "run.agent_steps": 1_000,
        "run.checkpoint_minutes": 0.01,
        "replay.min_agent_steps": 100,
        "learner.batch_size": 8,
        "net.hidden": 16,
        "eval.episodes": 2,
        "eval.every_agent_steps": 500,
        "eval.every_episodes": 2,
        "eval.stop_at_return": None,
    },
}


def outcomes(study: Path) -> dict[str, float | None]:
    found = {path.name: results.read(path) for path in (study / "trials").iterdir()}
    return {name: one and one.score for name, one in found.items()}


def kill_a_worker(study: Path) -> None:
    """Kills -9 a Ray worker in which a trial of the study runs, as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                parent = process.parent()
                ours = "train" in process.cmdline() and process.cwd() == str(study.parent)
                if ours and parent is not None and "ray::" in " ".join([parent.name(), *parent.cmdline()]):
                    parent.kill()
                    return
        time.sleep(0.1)
    pytest.fail("no trial ran in a worker of Ray")


def test_a_study_on_ray_that_is_killed_ends_with_the_scores_of_a_local_one(tmp_path: Path, own_ray: str) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    local = start_sweep(tmp_path, "--jobs", "2", "--out", "local")
    _, errors = local.communicate(timeout=300)
    assert local.returncode == 0, errors
    killed = start_sweep(tmp_path, "--jobs", "2", "--out", "ray", "--address", own_ray)
    kill_a_worker(tmp_path / "ray")  # its trial is tried again
    time.sleep(random.Random(1).uniform(4.0, 12.0))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    last = start_sweep(tmp_path, "--jobs", "2", "--out", "ray", "--address", own_ray)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert outcomes(tmp_path / "ray") == outcomes(tmp_path / "local")
    assert None not in outcomes(tmp_path / "local").values()
