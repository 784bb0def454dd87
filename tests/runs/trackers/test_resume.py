"""A run that is killed and resumed is one run in its trackers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from wandb_files import kept

import rlsuite
from rlsuite.runs import checkpoint
from rlsuite.runs.metrics import read_metrics

pytest.importorskip("wandb")
mlflow = pytest.importorskip("mlflow")
SETTINGS = {
    "run.agent_steps": 100_000_000,
    "run.threads": 1,
    "run.log_seconds": 0.05,
    "run.checkpoint_minutes": 0.03,
    "replay.min_agent_steps": 100,
    "learner.learning_rate_end": None,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
    "eval.episodes": 1,
    "net.hidden": 16,
}


def both_have_rows(run: Path) -> bool:
    path = run / "trackers.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    return len(known) == 2 and all(one["sent"] for one in known.values())


def is_past_its_checkpoint(run: Path) -> bool:
    """Whether the log of a run that stands still goes on after its newest checkpoint."""
    return len(checkpoint.list_complete(run)) > 1 and read_metrics(run)[-1]["agent_steps"] > checkpoint.steps_of(
        checkpoint.find(run)
    )


@pytest.mark.integration
def test_a_kill_and_a_resume_leave_one_run_with_one_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, store = tmp_path / "run", str(tmp_path / "mlruns")
    for name, value in {"WANDB_MODE": "offline", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path or os.getcwd() for path in sys.path))
    settings = SETTINGS | {"run.trackers": ["wandb(project=atari)", f"mlflow(experiment=atari,uri={store})"]}
    given = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    process = subprocess.Popen([sys.executable, "-m", "rlsuite", "train", "classic/dqn", *given, "--run-dir", str(run)])
    deadline = time.monotonic() + 120
    while not both_have_rows(run):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.5)  # a kill may lose the rows that are on their way, and the first ones are looked at
    while True:
        assert time.monotonic() < deadline
        process.send_signal(signal.SIGSTOP)
        if is_past_its_checkpoint(run):
            break
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = next(row["agent_steps"] for row in read_metrics(run) if "losses/loss" in row)
    before = read_metrics(run)[-1]["agent_steps"]
    resumed_at = checkpoint.load(checkpoint.find(run, resumable=True)).agent_steps
    assert resumed_at < before
    rlsuite.train(None, {"run.agent_steps": before + 500}, resume=run)

    client = mlflow.MlflowClient(tracking_uri=store)
    [one] = client.search_runs([client.get_experiment_by_name("atari").experiment_id])
    steps = [point.step for point in client.get_metric_history(one.info.run_id, "losses/loss")]
    assert steps == sorted(set(steps))
    assert steps[0] == first
    assert resumed_at < steps[-1] <= before + 500
    ids, history = kept(run)
    assert len(ids) == 1
    assert [step for step, _ in history] == sorted({step for step, _ in history})
    axis = [row["agent_steps"] for _, row in history]
    assert axis == sorted(axis)
    assert axis[-1] == before + 500
    losses = [row["agent_steps"] for _, row in history if "losses/loss" in row]
    assert losses == sorted(set(losses))
    assert losses[0] == first
