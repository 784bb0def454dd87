"""Training never waits for a tracker, and a tracker misses no row while it is away."""

import threading
import time
from collections.abc import Sequence

import pytest

from rlsuite.core.errors import UsageError
from rlsuite.runs.metrics import Clock, Outcome, Row
from rlsuite.runs.trackers import background
from rlsuite.runs.trackers.background import Background


class Recorder:
    """Keeps what it gets; raises `errors` first, one for each attempt."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.rows, self.outcome = list(errors), list[Row](), ""
        self.open, self.made = threading.Event(), 0
        self.open.set()

    def make(self) -> "Recorder":
        self.made += 1
        return self

    def write(self, rows: Sequence[Row]) -> None:
        self.open.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        self.rows += rows

    def flush(self) -> None: ...

    def close(self, outcome: Outcome) -> None:
        self.outcome = outcome


def background_of(recorder: Recorder, sent: dict[str, int] | None = None, notes: list[dict[str, int]] | None = None) -> Background:
    return Background("mine", lambda: recorder.make(), sent or {}, ([] if notes is None else notes).append)


def row(step: int, *tags: str) -> Row:
    return Row(Clock(step, step, 0, 0.0), dict.fromkeys(tags or ("losses/loss",), float(step)))


def test_rows_arrive_in_order_and_nobody_waits() -> None:
    recorder = Recorder()
    recorder.open.clear()
    tracker = background_of(recorder)
    for step in range(2_500):
        tracker.write([row(step)])  # the tracker takes none of them yet
    tracker.flush()
    recorder.open.set()
    tracker.close("finished")
    assert recorder.rows == [row(step) for step in range(2_500)]
    assert (recorder.made, recorder.outcome) == (1, "finished")


def test_what_an_earlier_session_has_sent_is_not_sent_again() -> None:
    recorder = Recorder()
    tracker = background_of(recorder, {"losses/loss": 5, "charts/SPS": 3})
    for step in range(7):
        tracker.write([row(step, "losses/loss", "charts/SPS", "eval/score")])
    tracker.close("finished")
    assert [list(one.values) for one in recorder.rows[4:]] == [["charts/SPS", "eval/score"]] * 2 + [
        ["losses/loss", "charts/SPS", "eval/score"]
    ]
    assert [list(one.values) for one in recorder.rows[:4]] == [["eval/score"]] * 4


def test_failures_are_said_once_and_the_rows_sent_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.001)
    recorder, notes = Recorder(ConnectionError("no route"), TimeoutError("too slow")), list[dict[str, int]]()
    tracker = background_of(recorder, {"eval/score": 7}, notes)
    tracker.write([row(step) for step in range(3)])
    while recorder.errors:
        time.sleep(0.001)
    tracker.close("finished")
    assert recorder.rows == [row(step) for step in range(3)]
    before, after = {"eval/score": 7}, {"eval/score": 7, "losses/loss": 2}
    assert notes == [after, before, after, before, after]  # what a kill would leave at each moment
    assert capsys.readouterr().err == (
        "rlsuite: mine does not answer (ConnectionError: no route); the run goes on: rows are sent once it does, "
        "and metrics.jsonl has them all\n"
    )


def test_a_tracker_that_refuses_gets_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(UsageError("no such project"))
    tracker = background_of(recorder)
    tracker.write([row(1)])
    tracker.close("finished")
    tracker.write([row(2)])
    assert recorder.rows == []
    assert capsys.readouterr().err == (
        "rlsuite: mine: no such project; the run goes on without it, and metrics.jsonl has all rows\n"
    )


def test_a_tracker_that_exits_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.001)
    recorder = Recorder(SystemExit(3))
    tracker = background_of(recorder)
    tracker.write([row(1)])
    while recorder.errors:
        time.sleep(0.001)
    tracker.close("finished")
    assert recorder.rows == [row(1)]
    assert "mine does not answer (SystemExit: 3); the run goes on" in capsys.readouterr().err


def test_the_end_of_a_run_waits_for_a_while_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(background, "CLOSE_SECONDS", 0.01)
    recorder = Recorder()
    recorder.open.clear()
    tracker = background_of(recorder)
    tracker.write([row(1)])
    tracker.close("finished")
    recorder.open.set()
    assert "mine does not answer (it takes longer than 0.01 s to take the last rows)" in capsys.readouterr().err


def test_a_run_without_rows_makes_no_tracker() -> None:
    recorder = Recorder()
    background_of(recorder).close("failed")
    assert recorder.made == 0
