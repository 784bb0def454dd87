"""The skeleton of a run, with the smallest thing that can be trained: a weight that counts its updates."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import final
from pydantic import Field
from torch import Tensor, nn

from rlsuite.config.schema import AnyConfig
from rlsuite.config.section import Section
from rlsuite.core.errors import CheckpointError, RlsuiteError, UsageError
from rlsuite.learning.learner import Weights
from rlsuite.runs import checkpoint
from rlsuite.runs.callbacks import Callback, Evaluation, Run, load_callbacks
from rlsuite.runs.metrics import Outcome, read_metrics
from rlsuite.runs.progress import Progress
from rlsuite.runtime.session import Report, Session, run, take_turns
from rlsuite.runtime.signals import Stop, signals


class CountingRun(Section):
    steps: int = 100
    every: int | None = 30
    goal: float = float("inf")
    minutes: float | None = None
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 1
    log_seconds: float = 1e-9
    trackers: list[str] = Field(default_factory=list)
    callbacks: list[str] = Field(default_factory=list)

    model_config = Section.model_config | {"allow_inf_nan": True}


class CountingConfig(AnyConfig):
    name: str = "counting"
    run: CountingRun = Field(default_factory=CountingRun)


class CountingLearner:
    """Adds one to its weight in every update."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.net: nn.Module = nn.Linear(1, 1, bias=False).requires_grad_(False)
        self.net.weight.zero_()  # type: ignore[operator]
        self.steps = 0

    def step(self) -> dict[str, Tensor]:
        self.net.weight.add_(1)  # type: ignore[operator]
        self.steps += 1
        return {"losses/loss": torch.tensor(1.0 / self.steps)}

    def weights(self) -> Weights:
        return Weights(self.steps, self.net.state_dict())

    def learning_rate(self, agent_steps: int) -> float:
        return 0.1

    def check(self, metrics: dict[str, float]) -> None:
        pass

    def check_weights(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load(self, weights: dict[str, Tensor], state: dict[str, Any], where: str) -> None:
        self.net.load_state_dict(weights)
        self.steps = state["steps"]


class Counting(Session[float]):
    """Collects seven steps at a time, then makes one update; its score is the weight's distance from 8."""

    steps_key = "run.steps"
    command = ("rlsuite", "counting")
    config: CountingConfig
    learner: CountingLearner

    def __init__(self, run_dir: Path, *callbacks: Callback, **settings: Any):
        super().__init__(run_dir, CountingLearner(), callbacks=load_callbacks((), callbacks))
        self.config = CountingConfig(run=CountingRun(**settings))
        self.waiting = False
        self.scores: list[tuple[int, float]] = []
        self.stop_at: int | None = None  # sends a signal once so many steps are collected

    @property
    def settings(self) -> CountingRun:
        return self.config.run

    @property
    def total_agent_steps(self) -> int:
        return self.config.run.steps

    @property
    def evaluate_every(self) -> int | None:
        return self.config.run.every

    def describe(self) -> str:
        return "counting to eight"

    def metadata(self) -> dict[str, Any]:
        return {"config": self.config.model_dump(mode="json")}

    def measure(self, final: bool, stopped: Stop) -> float | None:
        score = -abs(float(self.learner.net.weight) - 8)
        self.scores.append((self.agent_steps, score))
        return score

    def report(self, result: float, final: bool) -> Report:
        return Report(result, {"eval/score": result}, {"score": result, "final": final})

    def good_enough(self, result: float) -> bool:
        return result >= self.config.run.goal

    def train(self, progress: Progress, stopped: Stop) -> bool:
        return take_turns(self, self._collect, self._learn, progress, stopped)

    def _collect(self) -> None:
        self.moved, self.waiting = 7, True
        self.collected += self.moved
        if self.stop_at is not None and self.collected >= self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    def _learn(self) -> dict[str, Tensor] | None:
        if not self.waiting:
            return None
        self.waiting = False
        return self.learner.step()


def trained(session: Counting, resume: bool = False) -> float | None:
    with signals() as stopped:
        return run(session, session.train, resume, stopped)


def test_periodic_evaluations_keep_the_best_weights_and_the_last_ones(tmp_path: Path) -> None:
    session = Counting(tmp_path)
    assert trained(session) == -7.0  # 15 updates
    assert session.scores == [(35, -3.0), (63, -1.0), (91, -5.0), (100, -7.0)]  # right after 30, 60 and 90, and at the end
    assert [path.name for path in checkpoint.list_complete(tmp_path)] == ["step_000000000063", "step_000000000100"]
    documents = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("checkpoints/*.evaluation.json"))]
    assert documents[1:] == [{"score": -1.0, "final": False}, {"score": -7.0, "final": True}]
    rows = read_metrics(tmp_path)
    assert [row["agent_steps"] for row in rows if "losses/loss" in row] == [*range(7, 100, 7), 100]
    assert all(row["charts/learner_SPS"] > 0 for row in rows if "losses/loss" in row)


def test_a_score_that_is_good_enough_ends_the_run(tmp_path: Path) -> None:
    session = Counting(tmp_path, goal=-2.0)
    assert trained(session) == -1.0
    assert session.agent_steps == 63


def test_halves_make_a_whole_and_a_finished_run_can_be_extended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, half, rest = Counting(tmp_path / "whole"), Counting(tmp_path / "halves", steps=30), Counting(tmp_path / "halves")
    trained(whole)
    trained(half)
    capsys.readouterr()
    trained(rest, resume=True)
    assert capsys.readouterr().err.splitlines()[:3] == [
        "changed: run.steps 30 -> 100",
        "counting to eight",
        f"run folder {tmp_path / 'halves'}, resumed at step 35",
    ]
    assert rest.scores == whole.scores
    assert rest.learner.steps == whole.learner.steps
    with pytest.raises(UsageError, match=r"run\.steps = 99: .*halves is already trained to 100 steps; raise run\.steps$"):
        trained(Counting(tmp_path / "halves", steps=99), resume=True)


def test_a_signal_saves_and_skips_the_final_evaluation(tmp_path: Path) -> None:
    session = Counting(tmp_path, every=None)
    session.stop_at = 50
    assert trained(session) is None
    assert session.scores == []
    assert checkpoint.load(checkpoint.find(tmp_path, resumable=True)).state["loop"]["collected"] == 56


def test_minutes_count_earlier_sessions(tmp_path: Path) -> None:
    first = Counting(tmp_path, steps=30)
    first.wall_before = 3600.0
    trained(first)
    second = Counting(tmp_path, minutes=60.0)
    trained(second, resume=True)
    assert second.agent_steps == 35


def test_a_state_that_does_not_fit_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(Counting(tmp_path))

    def refuse(*_: Any) -> None:
        raise ValueError("it is of another net\nwith many layers")

    monkeypatch.setattr(CountingLearner, "load", refuse)
    with pytest.raises(
        CheckpointError, match=r"does not fit this config: it is of another net; change only run\.\*, eval\.\* and runtime\.\*$"
    ):
        trained(Counting(tmp_path), resume=True)


def test_a_damaged_older_checkpoint_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = Counting(tmp_path, every=None)
    checkpoint.save(tmp_path, 3, {}, {}, {})
    (tmp_path / "checkpoints" / "step_000000000003" / "COMPLETE").write_text("{")
    trained(session)
    assert "is damaged" in capsys.readouterr().err
    assert session.full_at == 100


def test_what_raises_leaves_a_checkpoint_and_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(session: Counting) -> None:
        session.collected += 7
        session.waiting = True
        if session.collected > 50:
            raise SystemExit("the program ends itself")

    run_dir = tmp_path / "my run"
    with monkeypatch.context() as patch:
        patch.setattr(Counting, "_collect", failing)
        with pytest.raises(SystemExit):
            trained(Counting(run_dir, every=None))
    said = f"rlsuite: stopped at step 56 by an error; continue from step 56 with: rlsuite counting train --resume '{run_dir}'"
    assert capsys.readouterr().err.splitlines()[-1] == said
    again = Counting(run_dir, every=None)
    trained(again, resume=True)
    assert again.learner.steps == 7 + 7  # the update of the step that raised was not made


def test_a_failure_of_the_checkpoint_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(session: Counting) -> None:
        session.collected += 7
        if session.collected > 50:
            raise ZeroDivisionError("the first error")

    def full(*_: Any, **__: Any) -> None:
        raise CheckpointError("the disk is full")

    monkeypatch.setattr(Counting, "_collect", failing)
    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(ZeroDivisionError, match="the first error"):
        trained(Counting(tmp_path, every=None))
    said = "no checkpoint of step 56 could be written (the disk is full); there is no checkpoint to continue from"
    assert said in capsys.readouterr().err


def test_a_final_evaluation_that_fails_comes_after_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any) -> None:
        raise ZeroDivisionError("no evaluation")

    monkeypatch.setattr(Counting, "measure", failing)
    with pytest.raises(ZeroDivisionError):
        trained(Counting(tmp_path, every=None))
    assert "stopped at step 100 by an error; continue from step 100 with" in capsys.readouterr().err


def test_signals_while_a_checkpoint_is_written_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlsuite.runtime.signals.PATIENCE_SECONDS", 0.0)
    save = checkpoint.save

    def slow(*given: Any, **named: Any) -> Path:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        return save(*given, **named)

    monkeypatch.setattr(checkpoint, "save", slow)
    session = Counting(tmp_path, every=None)
    session.stop_at = 50
    assert trained(session) is None
    assert checkpoint.find(tmp_path, resumable=True).name == "step_000000000056"


# ------------------------------------------------------------------------------------------------------------- callbacks


class Diary(Callback):
    """Writes down what it is called with; does `at` what is asked for, the first time."""

    def __init__(self, **at: Callable[[Run], None]) -> None:
        self.lines: list[str] = []
        self.at = at

    def note(self, run: Run, what: str, more: str = "") -> None:
        self.lines.append(f"{run.clock().agent_steps} {what} {more}".rstrip())
        if what in self.at:
            self.at.pop(what)(run)

    def start(self, run: Run) -> None:
        self.note(run, "start", run.config.name)

    def metrics(self, run: Run, values: Mapping[str, float]) -> None:
        self.note(run, "metrics", str("losses/loss" in values))

    def evaluation(self, run: Run, result: Evaluation) -> None:
        self.note(run, "evaluation", f"{result.score} {result.clock.agent_steps} {dict(result.scalars)} {result.final}")

    def checkpoint(self, run: Run, path: Path) -> None:
        self.note(run, "checkpoint", path.name if path.is_dir() else "missing")

    def end(self, run: Run, outcome: Outcome) -> None:
        self.note(run, "end", outcome)


def enough(run: Run) -> None:
    run.stop("that is enough")


def broken(run: Run) -> None:
    raise ZeroDivisionError("division\nby zero")


def test_a_callback_sees_the_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diary = Diary(end=enough)  # nothing is left to be ended then
    trained(Counting(tmp_path, diary, steps=40))
    assert "a callback ends" not in capsys.readouterr().err
    assert diary.lines == [
        "0 start counting",
        *(f"{step} metrics True" for step in range(7, 36, 7)),
        "35 checkpoint step_000000000035",  # the best until now
        "35 evaluation -3.0 35 {'eval/score': -3.0} False",
        "40 metrics True",
        "40 checkpoint step_000000000040",
        "40 evaluation -2.0 40 {'eval/score': -2.0} True",
        "40 end finished",
    ]


@pytest.mark.parametrize(("when", "steps"), [("start", 0), ("metrics", 7), ("checkpoint", 35), ("evaluation", 35)])
def test_a_callback_can_end_the_training(tmp_path: Path, when: str, steps: int, capsys: pytest.CaptureFixture[str]) -> None:
    diary = Diary(**{when: enough})
    session = Counting(tmp_path, diary)
    assert trained(session) is not None  # the final evaluation follows
    assert session.agent_steps == steps == final(tmp_path).agent_steps
    assert diary.lines[-1] == f"{steps} end finished"
    assert f"a callback ends the training at step {steps}: that is enough\n" in capsys.readouterr().err
    trained(again := Counting(tmp_path, steps=60), resume=True)
    assert again.agent_steps == 60


@pytest.mark.parametrize(("when", "steps"), [("metrics", 7), ("checkpoint", 35), ("evaluation", 35)])
def test_a_callback_that_raises_ends_the_run_with_its_name_and_loses_nothing(
    tmp_path: Path, when: str, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    diary, other = Diary(**{when: broken}), Diary()
    with pytest.raises(
        RlsuiteError, match=rf"^callback Diary, {when}: ZeroDivisionError: division by zero \(.*test_session.py, line \d+\)$"
    ) as caught:
        trained(Counting(tmp_path / "run", diary, other))
    assert not isinstance(caught.value, UsageError)
    saved = final(tmp_path / "run")
    assert saved.state["loop"]["collected"] in (steps, steps + 7)  # the update under way is finished
    assert f"stopped at step {saved.agent_steps} by an error; continue from step {saved.agent_steps}" in capsys.readouterr().err
    for one in (diary, other):
        assert one.lines[-1] == f"{saved.agent_steps} end failed"
    assert sum(when in line for line in diary.lines) == 1  # nobody is called again
    trained(rest := Counting(tmp_path / "run"), resume=True)
    trained(whole := Counting(tmp_path / "whole"))
    assert rest.learner.steps == whole.learner.steps


def test_a_callback_that_raises_at_either_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RlsuiteError, match="callback Diary, start: ZeroDivisionError"):
        trained(Counting(tmp_path / "a", Diary(start=broken)))
    with pytest.raises(RlsuiteError, match="callback Diary, end: ZeroDivisionError"):
        trained(Counting(tmp_path / "b", Diary(end=broken), other := Diary()))
    assert final(tmp_path / "b").agent_steps == 100
    assert other.lines[-1] == "100 end finished"
    capsys.readouterr()
    with pytest.raises(RlsuiteError, match="callback Diary, metrics: ZeroDivisionError"):  # the first error
        trained(Counting(tmp_path / "c", Diary(metrics=broken, end=broken)))
    assert "rlsuite: callback Diary, end: ZeroDivisionError" in capsys.readouterr().err


def test_a_signal_is_told_to_callbacks(tmp_path: Path) -> None:
    session = Counting(tmp_path, diary := Diary(), every=None)
    session.stop_at = 50
    trained(session)
    assert diary.lines[-2:] == ["56 checkpoint step_000000000056", "56 end interrupted"]


OWN_TRACKER = """
class Own:
    def __init__(self, run):
        self.run = run
        run.keep("mine")

    def write(self, rows):
        with open(self.run.run_dir / "rows", "a") as file:
            print(*(clock.agent_steps for clock, _ in rows), file=file)

    def flush(self):
        pass

    def close(self, outcome):
        with open(self.run.run_dir / "rows", "a") as file:
            print(self.run.run_id, outcome, file=file)
"""


def test_trackers_get_every_row_once_and_the_outcome(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_TRACKER)
    run, trackers = tmp_path / "run", [f"{tmp_path}/own.py:Own"]
    first = Counting(run, every=None, trackers=trackers)
    first.stop_at = 50
    trained(first)
    with pytest.raises(RlsuiteError):
        trained(Counting(run, Diary(metrics=broken), every=None, trackers=trackers), resume=True)
    trained(Counting(run, every=None, trackers=trackers), resume=True)
    words = (run / "rows").read_text().split()
    assert [word for word in words if word.isalpha()] == ["None", "interrupted", "mine", "failed", "mine", "finished"]
    assert [int(word) for word in words if word.isdigit()] == [*range(7, 100, 7), 100, 100]  # the last one is an evaluation
