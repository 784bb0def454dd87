"""The scheduler: skips, resumes, tries again and stops, without training anything."""

import signal
from pathlib import Path
from typing import Any

import pytest
from fake_workers import FakeWorkers, Outcome

from rlsuite.core.errors import UsageError
from rlsuite.runs import checkpoint, run_folder
from rlsuite.runtime.signals import Stop
from rlsuite.studies import scheduler as scheduling
from rlsuite.studies import study as studies
from rlsuite.studies.scheduler import Grid, Job, Scheduler, job_of

STUDY = {"config": "classic/dqn", "seeds": 2, "axes": {"net.hidden": [8, 16, 32]}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_POLL_SECONDS", 0.0)


def run(folder: Path, outcome: Outcome, slots: int = 2) -> tuple[dict[str, Job], FakeWorkers]:
    workers = FakeWorkers(outcome)
    jobs = [job_of(trial, folder) for trial in studies.grid(studies.load(STUDY))]
    Scheduler(Grid(jobs), workers, slots, 2, lambda _: None).run(Stop())
    return {job.trial.name: job for job in jobs}, workers


def hidden(overrides: dict[str, Any]) -> list[float]:
    return [float(overrides["net.hidden"])]


def test_all_run_side_by_side_and_are_skipped_afterwards(tmp_path: Path) -> None:
    jobs, workers = run(tmp_path, hidden)
    assert {job.state for job in jobs.values()} == {"finished"}
    assert jobs["hidden=16__seed2"].score == 16.0
    assert (len(workers.started), workers.most) == (6, 2)
    command = workers.started[0]
    assert command[:2] == ["train", "classic/dqn"]
    assert command[2:] == ["run.threads=1", "net.hidden=8", "seed=1", "--run-dir", str(tmp_path / "trials" / "hidden=8__seed1")]
    saved = checkpoint.load(checkpoint.find(tmp_path / "trials" / "hidden=8__seed1"), weights_only=True)
    assert saved.agent_steps > 0
    with pytest.raises(UsageError):  # its replay is gone
        checkpoint.find(tmp_path / "trials" / "hidden=8__seed1", resumable=True)
    jobs, workers = run(tmp_path, hidden)
    assert workers.started == []
    assert all(job.skipped and job.score for job in jobs.values())


def test_one_that_always_fails_is_told_with_its_first_error_and_the_rest_end(tmp_path: Path) -> None:
    jobs, workers = run(tmp_path, lambda one: None if one["net.hidden"] == 16 and one["seed"] == 1 else [1.0], slots=1)
    bad = jobs.pop("hidden=16__seed1")
    assert (bad.state, bad.attempts, bad.error) == ("failed", 2, "attempt 2 broke")  # the second trial, at its first attempt
    assert {job.state for job in jobs.values()} == {"finished"}
    jobs, workers = run(tmp_path, hidden)  # the next sweep tries it again
    assert len(workers.started) == 1
    assert jobs["hidden=16__seed1"].state == "finished"


def test_an_interrupted_trial_goes_on_and_one_without_a_full_checkpoint_begins_anew(tmp_path: Path) -> None:
    [job, *_] = [job_of(trial, tmp_path) for trial in studies.grid(studies.load(STUDY))]
    run_folder.create(job.trial.resolve(), job.folder)
    checkpoint.save(job.folder, 10, {}, {}, {}, with_arrays=False)  # of the best weights so far, before the first full one
    assert scheduling._arguments(job)[-2:] == ["--run-dir", str(job.folder)]
    assert not job.folder.exists()
    run_folder.create(job.trial.resolve(), job.folder)
    checkpoint.save(job.folder, 20, {}, {}, {})
    assert scheduling._arguments(job) == ["train", "--resume", str(job.folder)]


def test_a_trial_that_was_tampered_with_is_told_and_left_alone(tmp_path: Path) -> None:
    run(tmp_path, hidden)
    folder = tmp_path / "trials" / "hidden=8__seed1"
    config, evaluation = folder / "config.yaml", next((folder.parent / "hidden=8__seed2").glob("checkpoints/*.json"))
    config.write_text(config.read_text().replace("hidden: 8", "hidden: 9"))
    evaluation.write_text(evaluation.read_text().replace('"mean": 8.0', '"mean": 80.0'))
    jobs, workers = run(tmp_path, hidden)
    assert workers.started == []
    assert "was changed: net.hidden = 9, the study's is 8" in str(jobs["hidden=8__seed1"].error)
    assert "was edited" in str(jobs["hidden=8__seed2"].error)
    assert sum(job.state == "finished" for job in jobs.values()) == 4


def test_a_trial_whose_folder_is_in_use_waits(tmp_path: Path) -> None:
    """That of a sweep that was killed a moment ago, which is writing its checkpoint."""
    folder = tmp_path / "trials" / "hidden=8__seed1"
    with run_folder.lock(folder):
        assert scheduling._in_use(folder)
    assert not scheduling._in_use(folder)


def test_a_signal_stops_the_running_ones_and_begins_no_others(tmp_path: Path) -> None:
    stopped = Stop()
    workers = FakeWorkers(hidden)
    jobs = [job_of(trial, tmp_path) for trial in studies.grid(studies.load(STUDY))]
    Scheduler(Grid(jobs), workers, 2, 1, lambda _: stopped.append(signal.SIGTERM)).run(stopped)
    assert len(workers.started) == 2
    assert {job.state for job in jobs} == {"waiting"}  # to go on with: stopped is not failed
