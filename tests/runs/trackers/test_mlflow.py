"""MLflow in a folder, its file store, and where there is no server."""

import json
import socket
from pathlib import Path

import pytest

from rlsuite.runs.metrics import Clock, MetricLog, Outcome, read_metrics
from rlsuite.runs.trackers import background
from rlsuite.runs.trackers.opening import open_trackers

mlflow = pytest.importorskip("mlflow")

CONFIG = {"name": "mine", "run": {"agent_steps": 30}}


def session(run: Path, spec: str, steps: list[int], resume_at: int | None = None, outcome: Outcome = "finished") -> None:
    log = MetricLog(run, resume_at, open_trackers([spec], run, CONFIG, resume_at))
    for step in steps:
        log.scalars(Clock(step, 4 * step, step // 2, step / 10), {"losses/loss": float(step), "own tag (%)": 1.0})
    log.outcome = outcome
    log.close()


def test_a_resumed_run_is_one_run_with_one_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run, store = tmp_path / "run", tmp_path / "mlruns"
    spec = f"mlflow(experiment=atari,uri={store})"
    session(run, spec, [2, 4, 4, 6, 8, 10], outcome="interrupted")
    client = mlflow.MlflowClient(tracking_uri=str(store))
    experiment = client.get_experiment_by_name("atari")
    [one] = client.search_runs([experiment.experiment_id])
    assert one.info.status == "KILLED"
    session(run, spec, [6, 8, 10, 12, 14], resume_at=5)
    [one] = client.search_runs([experiment.experiment_id])
    assert one.info.status == "FINISHED"
    assert one.info.run_name == "run"
    assert one.data.params == {"name": "mine", "run.agent_steps": "30"}
    history = [(point.step, point.value) for point in client.get_metric_history(one.info.run_id, "losses/loss")]
    assert history == [(step, float(step)) for step in (2, 4, 4, 6, 8, 10, 12, 14)]  # 6, 8 and 10 were there already
    assert len(client.get_metric_history(one.info.run_id, "own tag ___")) == len(history)
    assert [row["agent_steps"] for row in read_metrics(run)] == [2, 4, 4, 6, 8, 10, 12, 14]


def test_a_run_that_the_store_no_longer_has_is_said_and_done_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, spec = tmp_path / "run", f"mlflow(uri={tmp_path / 'mlruns'})"
    session(run, spec, [2])
    client = mlflow.MlflowClient(tracking_uri=str(tmp_path / "mlruns"))
    client.delete_run(json.loads((run / "trackers.json").read_text())[spec]["run_id"])
    session(run, spec, [4], resume_at=3)
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlsuite: ")]
    assert "must be in 'active' lifecycle_stage" in line
    assert line.endswith("; the run goes on without it, and metrics.jsonl has all rows")
    assert len(read_metrics(run)) == 2


def test_a_server_that_does_not_answer_is_said_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    session(tmp_path, f"mlflow(uri=http://127.0.0.1:{port})", list(range(20)))
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlsuite: ")]
    assert line.startswith(f"rlsuite: mlflow(uri=http://127.0.0.1:{port}) does not answer (MlflowException: ")
    assert line.endswith("the run goes on: rows are sent once it does, and metrics.jsonl has them all")
    assert len(read_metrics(tmp_path)) == 20
