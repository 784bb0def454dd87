"""Searches by Optuna: the objective, pruning, and going on after a kill; without training anything."""

import math
from pathlib import Path
from typing import Any

import pytest
from fake_workers import FakeWorkers

from rlsuite.core.errors import UsageError
from rlsuite.runtime.signals import Stop
from rlsuite.studies import scheduler as scheduling
from rlsuite.studies import search as searching
from rlsuite.studies import study as studies
from rlsuite.studies.scheduler import Scheduler
from rlsuite.studies.search import JOURNAL, Search

pytest.importorskip("optuna")
STUDY: dict[str, Any] = {
    "config": "classic/dqn",
    "seeds": 2,
    "axes": {"learner.learning_rate": {"low": 1e-6, "high": 1.0, "log": True}, "net.torso": ["mlp"]},
    "search": {"trials": 9, "startup_trials": 5, "last_evaluations": 2},
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_POLL_SECONDS", 0.0)


def peak(overrides: dict[str, Any]) -> list[float]:
    """Best at a learning rate of 1e-3; the best evaluation, in the middle, says nothing about it."""
    value = -abs(math.log10(overrides["learner.learning_rate"]) + 3)
    return [value - 1, 1_000.0 - overrides["learner.learning_rate"], value - overrides["seed"], value + overrides["seed"]]


def run(folder: Path, study: dict[str, Any], outcome: Any = peak, slots: int = 1) -> tuple[Search, FakeWorkers]:
    folder.mkdir(exist_ok=True)
    workers = FakeWorkers(outcome)
    search = Search(studies.load(study), folder)
    Scheduler(search, workers, slots, 1, lambda _: None).run(Stop())
    return search, workers


def trials(count: int, **more: Any) -> dict[str, Any]:
    return {**STUDY, "search": {**STUDY["search"], "trials": count, **more}}


def test_tpe_comes_near_the_peak_and_the_storage_resumes(tmp_path: Path) -> None:
    search, workers = run(tmp_path / "a", STUDY)
    tried = search.tried()
    assert len(tried) == 9
    assert len(workers.started) == 18
    best = max(tried, key=lambda one: float(one["objective"]))
    assert 1e-4 < best["setting"]["learner.learning_rate"] < 1e-2
    value = -abs(math.log10(best["setting"]["learner.learning_rate"]) + 3)
    assert best["objective"] == pytest.approx(value)  # of both seeds the mean of the last two evaluations, not the best one
    search, workers = run(tmp_path / "a", trials(10))
    assert len(workers.started) == 2
    assert search.tried()[:9] == tried
    assert run(tmp_path / "b", trials(10))[0].tried() == search.tried()  # as if it had not been interrupted
    again = Scheduler(Search(studies.load(trials(10)), tmp_path / "a"), FakeWorkers(peak), 1, 1, lambda _: None)
    again.run(Stop())
    assert [job.skipped for job in again.ended] == [True] * 20  # what was finished before counts


def test_a_setting_under_way_is_taken_up_again(tmp_path: Path) -> None:
    """A kill between the two runs of a setting leaves it running in the journal, and its first run finished."""
    tmp_path.mkdir(exist_ok=True)
    search = Search(studies.load(trials(2)), tmp_path)
    job = search.next()
    assert job is not None
    with (tmp_path / JOURNAL).open("a") as journal:
        journal.write('{"op_code": 4, "wor')  # the kill came while a line was written
    search, workers = run(tmp_path, trials(2))
    assert str(job.folder) in workers.started[0]
    assert [one["state"] for one in search.tried()] == ["complete", "complete"]
    assert len(workers.started) == 4


def test_a_setting_that_fails_does_not_end_the_search(tmp_path: Path) -> None:
    search, _ = run(
        tmp_path, trials(3), lambda one: None if one["seed"] == 1 and not list(tmp_path.glob("trials/*")) else peak(one)
    )
    assert [one["state"] for one in search.tried()] == ["fail", "complete", "complete"]


def test_the_median_pruner_ends_a_bad_setting(tmp_path: Path) -> None:
    study = trials(6, pruner="median", startup_trials=2, last_evaluations=1, sampler="random")

    def outcome(overrides: dict[str, Any]) -> list[float]:
        good = len(list(tmp_path.glob("trials/*seed1"))) < 3
        return [1.0] * 4 if good else [-1.0] * 4

    search, workers = run(tmp_path, study, outcome)
    states = [one["state"] for one in search.tried()]
    assert states[:3] == ["complete"] * 3
    assert set(states[3:]) == {"pruned"}
    assert len(workers.started) == 3 * 2 + 3  # the second seed of those is not begun


def test_the_journal_of_another_study_is_refused(tmp_path: Path) -> None:
    run(tmp_path, trials(1))
    with pytest.raises(UsageError, match=f"{JOURNAL} is the storage of another study"):
        Search(studies.load({**trials(1), "seeds": 1}), tmp_path)
    (tmp_path / JOURNAL).write_text("not a journal\nat all\n")
    with pytest.raises(UsageError, match="is not a journal of Optuna's, or is damaged"):
        Search(studies.load(trials(1)), tmp_path)


def test_optuna_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'rlsuite\[sweep\]'"):
        searching.Search(studies.load(trials(1)), tmp_path)
