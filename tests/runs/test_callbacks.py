"""Callbacks by name and in code: what is refused, and what they see of an agent's run."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import differences, final

import rlsuite
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.runs import checkpoint
from rlsuite.runs.callbacks import Callback, Evaluation, Run, load_callbacks

MINE = """
from rlsuite import Callback


class Mine(Callback):
    def __init__(self, patience=3):
        if patience < 0:
            raise ValueError("patience must not be negative")
        self.patience = patience

    def episode(self, run, episodic_return, length):
        with open(run.run_dir / "episodes", "a") as file:
            print(run.clock().agent_steps, episodic_return, length, file=file)
        if len((run.run_dir / "episodes").read_text().splitlines()) == self.patience:
            run.stop("enough episodes")


def function():
    pass
"""
TINY = {
    "run.agent_steps": 2_000,
    "run.threads": 1,
    "replay.min_agent_steps": 100,
    "learner.batch_size": 8,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "net.hidden": 16,
}


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path}/mine.py:Mine"


def test_a_callback_in_a_file_sees_episodes_and_ends_the_training(mine: str, tmp_path: Path) -> None:
    result = rlsuite.train("classic/dqn", {**TINY, "run.callbacks": f"{mine}(patience=5)"}, run_dir=tmp_path / "run")
    lines = [line.split() for line in (result.run / "episodes").read_text().splitlines()]
    assert len(lines) >= 5
    assert int(lines[4][0]) == result.agent_steps < 300
    assert all(float(score) == int(length) for _, score, length in lines)  # CartPole pays one for each step
    assert result.evaluation is not None
    resumed = rlsuite.train(None, {"run.agent_steps": 300}, resume=result.run)  # the config has kept the absolute path
    assert resumed.agent_steps == 300


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py:Mine", "mine.py does not exist"),
        ("{mine}e", r"mine.py has no Minee; did you mean Mine\?"),
        ("{mine}(patient=1)", r"unknown parameter of callback .*:Mine 'patient'; did you mean patience\?"),
        ("{mine}(patience=-1)", r"Mine\(patience=-1\) failed: ValueError: patience must not be negative \(.*mine.py, line 8\)"),
        ("{folder}/mine.py:function", "function is not a subclass of rlsuite.Callback"),
        ("nobodys", "unknown callback 'nobodys'"),
    ],
)
def test_what_cannot_be_a_callback_is_refused_before_there_is_a_run(mine: str, tmp_path: Path, name: str, message: str) -> None:
    name = name.format(mine=mine, folder=tmp_path)
    with pytest.raises(UsageError, match=message):
        rlsuite.train("classic/dqn", {**TINY, "run.callbacks": [name]}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("given", "hint"), [(Callback, r"; make one: Callback\(\)"), (print, "$")])
def test_classes_and_other_things_are_no_callbacks(given: Any, hint: str) -> None:
    with pytest.raises(UsageError, match=rf"callbacks: .* is not an instance of a subclass of rlsuite.Callback{hint}"):
        load_callbacks((), [given])


def test_a_callback_is_named_once(mine: str) -> None:
    with pytest.raises(UsageError, match=r"run\.callbacks names .*mine\.py:Mine twice"):
        load_callbacks([mine, mine])
    load_callbacks([mine, f"{mine}(patience=1)"], [Callback(), Callback()])  # others of the same kind are fine


class FailsAtTheEvaluation(Callback):
    def evaluation(self, run: Run, found: Evaluation) -> None:
        raise ValueError("it is not good enough")


def test_an_evaluation_is_kept_whatever_a_callback_makes_of_it(tmp_path: Path) -> None:
    with pytest.raises(RlsuiteError, match="callback FailsAtTheEvaluation, evaluation: ValueError: it is not good enough"):
        rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 200}, run_dir=tmp_path / "a", callbacks=[FailsAtTheEvaluation()])
    newest = checkpoint.find(tmp_path / "a")
    assert "mean" in json.loads(newest.with_name(f"{newest.name}.evaluation.json").read_text())


class Failing(Callback):
    def episode(self, run: Run, episodic_return: float, length: int) -> None:
        if run.clock().agent_steps > 300:
            raise UsageError("it cannot be used like this")


def test_a_run_that_a_callback_has_ended_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Also where it raises within a step: the step is finished first."""
    with pytest.raises(RlsuiteError, match=r"^callback Failing, episode: UsageError: it cannot be used like this"):
        rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 700}, run_dir=tmp_path / "a", callbacks=[Callback(), Failing()])
    a = rlsuite.train(None, resume=tmp_path / "a")
    b = rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 700}, run_dir=tmp_path / "b")
    assert differences(final(a.run).weights, final(b.run).weights) == []
    assert differences(final(a.run).state["replay"], final(b.run).state["replay"]) == []


class Outcomes(Callback):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def end(self, run: Run, outcome: str) -> None:
        self.seen.append(f"{run.run_dir.name} {outcome}")


def test_every_stage_is_a_run_to_a_callback(mine: str, tmp_path: Path) -> None:
    stages = {"first": {"run": {"agent_steps": 150}}, "second": {"run": {"callbacks": [f"{mine}(patience=1)"]}}}
    outcomes = Outcomes()
    result = rlsuite.train("classic/dqn", {**TINY, "stages": stages}, run_dir=tmp_path / "run", callbacks=[outcomes])
    assert outcomes.seen == ["1_first finished", "2_second finished"]
    assert result.agent_steps < 150  # the second stage has a callback of its own
