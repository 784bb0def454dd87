"""The progress display: rates appear once enough time has passed, and nothing is cut off."""

import io

import pytest
from rich.console import Console

from rlsuite.runs import progress
from rlsuite.runs.progress import Counter, Progress, Status


def status(steps: int) -> Status:
    return Status(steps, 1000, 4 * steps, steps // 10, 0.5, 1.25, 10.0, None)


def test_rates_need_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    shown = Progress(out, plain_seconds=0.0)
    shown.update(status(10))
    shown.close(status(12))
    assert "steps/s -  learner/s -" in out.getvalue()
    clock[0] += 2.0
    shown.update(status(210))
    line = out.getvalue().splitlines()[-1]
    assert "steps/s 100" in line
    assert "learner/s 10.0" in line
    assert "left 0:07" in line
    assert "replay 50%" in line


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_name_or_value_is_cut_off_in_a_narrow_terminal(width: int) -> None:
    facts = {f"name {i}": f"{10**i:,}" for i in range(10)}
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(progress._table(facts, width))
    text = out.getvalue()
    assert all(name in text and value in text for name, value in facts.items())
    assert max(map(len, text.splitlines())) <= width
    assert (len(text.splitlines()) == 2) == (width == 200)


def test_a_counter_prints_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    with Counter("games", out) as show:
        for seconds in range(25):
            clock[0] = 100.0 + seconds
            show(seconds, 1000, 1000 * seconds)
    assert out.getvalue() == "10 of 1,000 games, 10,000 steps  elapsed 0:10\n20 of 1,000 games, 20,000 steps  elapsed 0:20\n"


def test_a_counter_is_a_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with Counter("pictures", out) as show:
        clock[0] += 1.0
        show(5, 70)
    assert "5 of 70 pictures  elapsed 0:01" in out.getvalue()
    assert out.getvalue().count("5 of 70") >= 1
