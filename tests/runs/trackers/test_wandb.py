"""W&B in offline mode, read back from the files that `wandb sync` would send."""

from pathlib import Path

import pytest
from wandb_files import kept

from rlsuite.runs.metrics import Clock, MetricLog, read_metrics
from rlsuite.runs.trackers.opening import open_trackers

wandb = pytest.importorskip("wandb")

CONFIG = {"name": "mine", "run": {"agent_steps": 30}}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account of the person who runs the tests is used."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    wandb.teardown()  # it reads the environment once


def session(run: Path, steps: list[int], resume_at: int | None = None, spec: str = "wandb(project=atari)") -> None:
    log = MetricLog(run, resume_at, open_trackers([spec], run, CONFIG, resume_at))
    for step in steps:
        log.scalars(Clock(step, 4 * step, step // 2, step / 10), {"losses/loss": float(step)})
    log.outcome = "finished"
    log.close()


def test_a_resumed_run_is_one_run_with_one_axis(tmp_path: Path) -> None:
    run = tmp_path / "run"
    session(run, [2, 4, 4, 6, 8, 10])  # and then it was killed; its checkpoint is of step 5
    session(run, [6, 8, 10, 12, 14], resume_at=5)
    ids, history = kept(run)
    assert len(ids) == 1
    assert [row["agent_steps"] for _, row in history] == [2, 4, 4, 6, 8, 10, 12, 14]  # 6, 8 and 10 were there already
    assert [step for step, _ in history] == [2, 4, 5, 6, 8, 10, 12, 14]
    assert [row["losses/loss"] for _, row in history] == [2.0, 4.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]
    assert history[0][1]["env_frames"] == 8
    assert [row["agent_steps"] for row in read_metrics(run)] == [2, 4, 4, 6, 8, 10, 12, 14]


def test_steps_that_go_back_are_kept(tmp_path: Path) -> None:
    session(tmp_path, [5, 4, 6])  # an evaluation on Ray is of earlier weights
    _, history = kept(tmp_path)
    assert [(step, row["agent_steps"]) for step, row in history] == [(5, 5), (6, 4), (7, 6)]


def test_without_an_account_the_run_is_kept_offline_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()
    session(tmp_path, [1, 2])
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlsuite: ")]
    [folder] = tmp_path.glob("wandb/offline-run-*")
    assert line == (
        "rlsuite: wandb cannot be reached (nobody is logged in: wandb login); the run goes on, kept offline; "
        f"send it later: wandb sync {folder}"
    )
    assert len(kept(tmp_path)[1]) == 2
