"""trackio's local database."""

from pathlib import Path

import pytest

from rlsuite.runs.metrics import Clock, MetricLog
from rlsuite.runs.trackers.opening import open_trackers

trackio = pytest.importorskip("trackio")


def session(run: Path, steps: list[int], resume_at: int | None = None) -> None:
    log = MetricLog(run, resume_at, open_trackers(["trackio(project=atari)"], run, {"name": "mine"}, resume_at))
    for step in steps:
        log.scalars(Clock(step, 4 * step, step // 2, step / 10), {"losses/loss": float(step)})
    log.outcome = "finished"
    log.close()


def test_a_resumed_run_is_one_run_with_one_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trackio import sqlite_storage, utils

    for module in (utils, sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    session(tmp_path / "run", [2, 4, 4, 6, 8, 10])
    session(tmp_path / "run", [6, 8, 10, 12, 14], resume_at=5)
    [name] = sqlite_storage.SQLiteStorage.get_runs("atari")
    assert name.startswith("run-")
    rows = sqlite_storage.SQLiteStorage.get_logs("atari", name)
    assert [(row["step"], row["agent_steps"]) for row in rows] == [
        *((2, 2), (4, 4), (5, 4), (6, 6), (8, 8), (10, 10)),
        *((12, 12), (14, 14)),
    ]
    assert capsys.readouterr().out == ""
