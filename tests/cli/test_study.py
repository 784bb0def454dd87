"""`rlsuite sweep` and `rlsuite report` as a user meets them."""

import json
import sys
from pathlib import Path

import pytest
from fake_workers import FakeWorkers

from rlsuite.cli import main
from rlsuite.studies import scheduler, sweep


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["rlsuite", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main.main()
    return int(stop.value.code or 0)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose trial with 16 units fails."""
    workers = FakeWorkers(lambda one: None if one["net.hidden"] == 16 else [5.0])
    monkeypatch.setattr(sweep, "Processes", lambda: workers)
    monkeypatch.setattr(scheduler, "_POLL_SECONDS", 0.0)
    (tmp_path / "study.yaml").write_text("config: classic/dqn\nseeds: 1\naxes: {net.hidden: [8, 16]}\n")
    return tmp_path / "study.yaml"


def test_sweep_and_report(study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = study.parent / "out"
    assert call(monkeypatch, "sweep", study, "--out", out) == 1
    captured = capsys.readouterr()
    assert "1 finished, 1 failed of 2 trials" in captured.out
    assert "[1/2] hidden=8__seed1 finished: 5.00" in captured.err
    assert "failed: hidden=16__seed1: attempt 2 broke" in captured.err
    assert call(monkeypatch, "sweep", study, "--out", out, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["finished"], found["failed"], found["scores"]) == (1, 1, {"hidden=8__seed1": 5.0})
    assert call(monkeypatch, "report", out, "--out", study.parent / "report") == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == ["report.md", "report.json", "curves.png"]
    assert call(monkeypatch, "report", out, "--baseline", "atari100k") == 2
    assert "has no row for CartPole-v1" in capsys.readouterr().err


def test_a_bad_study_is_told_in_one_line(study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    study.write_text("config: classic/dqn\nseeds: 1\naxes: {net.hiden: [8]}\n")
    assert call(monkeypatch, "sweep", study, "--out", study.parent / "out") == 2
    assert capsys.readouterr().err.strip() == f"rlsuite: {study}: unknown key net.hiden; did you mean net.hidden?"
    assert not (study.parent / "out").exists()
    assert call(monkeypatch, "sweep", study.parent / "none.yaml", "--out", study.parent / "out") == 2
    assert "does not exist: name the YAML file of a study" in capsys.readouterr().err


def test_report_on_the_published_columns_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "report", "--baseline", "atari100k") == 0
    assert "| SPR (published) | - | 0.616 | 0.396 | - | 0.415 |" in capsys.readouterr().out
    assert call(monkeypatch, "report", "--baseline", "atari100k", "--json") == 0
    assert json.loads(capsys.readouterr().out)["columns"]["CURL"]["aggregates"]["median"] == pytest.approx(0.092, abs=5e-4)
