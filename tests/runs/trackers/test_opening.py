"""Trackers by name: what is refused, what a run remembers of them, and one of the user's own."""

import json
from pathlib import Path

import pytest

import rlsuite
from rlsuite.core.errors import UsageError
from rlsuite.runs.metrics import Clock, MetricLog
from rlsuite.runs.trackers import opening
from rlsuite.runs.trackers.opening import check_trackers, open_trackers

OWN = """
class Own:
    def __init__(self, run, color="red"):
        self.run, self.color = run, color
        run.keep(run.run_id or "id-1")
        with open(run.run_dir / "own.txt", "a") as file:
            print("made", color, run.run_id, run.last_step, run.config["run.agent_steps"], file=file)

    def write(self, rows):
        with open(self.run.run_dir / "own.txt", "a") as file:
            for clock, values in rows:
                print(clock.agent_steps, *values, file=file)

    def flush(self):
        pass

    def close(self, outcome):
        with open(self.run.run_dir / "own.txt", "a") as file:
            print(outcome, file=file)
"""
CONFIG = {"run": {"agent_steps": 30}}


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path}/own.py:Own(color=blue)"


def session(run: Path, spec: str, steps: list[int], resume_at: int | None = None, mine: bool = True) -> list[str]:
    """Logs the steps; -> what the tracker has written in this session."""
    path = run / "own.txt"
    path.unlink(missing_ok=True)
    log = MetricLog(run, resume_at, open_trackers([spec], run, CONFIG, resume_at, mine))
    for step in steps:
        log.scalars(Clock(step, step, 0, 0.0), {"losses/loss": 1.0})
    log.outcome = "finished"
    log.close()
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["wanb"], r"unknown tracker 'wanb'; did you mean wandb\?"),
        (["wandb(projct=a)"], r"unknown parameter of tracker wandb 'projct'; did you mean project\?"),
        (["mlflow", "mlflow"], "run.trackers names mlflow twice"),
        (["own.py:Own"], "own.py does not exist"),
        (["wandb(project"], "names no tracker"),
    ],
)
def test_what_cannot_be_a_tracker_is_refused(specs: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_installed", lambda package: True)
    with pytest.raises(UsageError, match=message):
        check_trackers(specs)


def test_a_missing_package_is_refused_before_there_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_installed", lambda package: False)
    with pytest.raises(UsageError, match=r"run.trackers: mlflow is not installed: pip install 'rlsuite\[mlflow\]'"):
        rlsuite.train("classic/dqn", {"run.trackers": ["mlflow"]}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_folder_of_runs").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not opening._installed("a_folder_of_runs")
    assert not opening._installed("no_such_package")
    assert opening._installed("torch")


def test_one_of_your_own_is_told_of_the_run_and_goes_on(tmp_path: Path, own: str) -> None:
    run = tmp_path / "run"
    check_trackers([own])
    assert session(run, own, [2, 4]) == ["made blue None -1 30", "2 losses/loss", "4 losses/loss", "finished"]
    assert json.loads((run / "trackers.json").read_text()) == {own: {"run_id": "id-1", "sent": {"losses/loss": 4}}}
    assert session(run, own, [5], resume_at=4) == ["made blue id-1 4 30", "5 losses/loss", "finished"]


def test_rows_after_the_checkpoint_are_not_sent_again_however_often_it_resumes(tmp_path: Path, own: str) -> None:
    run = tmp_path / "run"
    session(run, own, [2, 4, 6, 8])
    (run / "own.txt").unlink()
    MetricLog(run, 3, open_trackers([own], run, CONFIG, 3)).close()  # killed before it got that far
    lines = session(run, own, [4, 6, 10], resume_at=3)
    assert lines == ["made blue id-1 8 30", "10 losses/loss", "finished"]
    assert session(run, own, [12], resume_at=10)[1:] == ["12 losses/loss", "finished"]


def test_what_a_tracker_has_missed_it_gets_at_the_resume(tmp_path: Path, own: str) -> None:
    run = tmp_path / "run"
    log = MetricLog(run)
    for step in (2, 4, 6):
        log.scalars(Clock(step, step, 0, 0.0), {"losses/loss": 1.0, "eval/score": float("inf")})
    log.close()
    lines = session(run, own, [5, 7], resume_at=4)  # a tracker that the run did not have before
    assert [line.split()[0] for line in lines] == ["made", "2", "4", "5", "7", "finished"]


def test_new_runs_and_runs_of_others_begin_anew(tmp_path: Path, own: str) -> None:
    run = tmp_path / "run"
    session(run, own, [2, 4])
    assert session(run, own, [4], resume_at=2, mine=False)[0] == "made blue None -1 30"
    assert session(run, own, [1])[0] == "made blue None -1 30"
    assert session(run, own.replace("blue", "red"), [4], resume_at=2)[0] == "made red None -1 30"


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"run_id": "x", "sent": {"losses/loss": "y"}}}'])
def test_a_damaged_memory_is_said(tmp_path: Path, own: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trackers.json").write_text(text)
    assert session(tmp_path, own, [4], resume_at=2)[0] == "made blue None -1 30"
    assert "trackers.json is damaged: trackers begin new runs" in capsys.readouterr().err
