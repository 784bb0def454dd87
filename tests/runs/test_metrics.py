"""The metrics of a run, and what is left of them after a resume, a kill and a full disk."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.runs.metrics import Clock, MetricLog, RollingMean, read_metrics

TAG = "charts/episodic_return"


def at(step: int) -> Clock:
    return Clock(agent_steps=step, env_frames=4 * step, learner_steps=step // 4, wall_seconds=step / 100)


def written(run: Path, steps: range, resume_at: int | None = None) -> None:
    log = MetricLog(run, resume_at)
    for step in steps:
        log.scalars(at(step), {TAG: float(step)})
    log.close()


def logged(run: Path) -> list[int]:
    return [row["agent_steps"] for row in read_metrics(run)]


def board(run: Path, tag: str = TAG) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_rows_and_tensorboard_hold_the_same(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "new" / "run")
    log.scalars(at(8), {TAG: 1.5, "losses/loss": 0.25})
    log.scalars(at(16), {TAG: -2.0})
    log.close()
    log.close()
    assert read_metrics(tmp_path / "new" / "run") == [
        {"agent_steps": 8, "env_frames": 32, "learner_steps": 2, "wall_seconds": 0.08, TAG: 1.5, "losses/loss": 0.25},
        {"agent_steps": 16, "env_frames": 64, "learner_steps": 4, "wall_seconds": 0.16, TAG: -2.0},
    ]
    assert board(tmp_path / "new" / "run") == [(8, 1.5), (16, -2.0)]
    assert board(tmp_path / "new" / "run", "losses/loss") == [(8, 0.25)]


def test_rows_are_readable_while_the_run_goes_on(tmp_path: Path) -> None:
    log = MetricLog(tmp_path)
    log.scalars(at(1), {TAG: 1.0})
    assert logged(tmp_path) == [1]  # no flush, no close: what a kill -9 would leave
    log.flush()
    assert board(tmp_path) == [(1, 1.0)]
    log.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(tmp_path: Path, value: float) -> None:
    log = MetricLog(tmp_path)
    log.scalars(at(1), {TAG: value})
    log.close()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert row[TAG] is None
    [(_, seen)] = board(tmp_path)
    assert seen == value or (math.isnan(seen) and math.isnan(value))


def test_resume_drops_later_rows_in_both(tmp_path: Path) -> None:
    written(tmp_path, range(1, 11))
    written(tmp_path, range(7, 9), resume_at=6)
    assert logged(tmp_path) == list(range(1, 9))
    assert board(tmp_path) == [(step, float(step)) for step in range(1, 9)]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_session_that_begins_in_the_second_of_the_one_before_is_read_after_it(tmp_path: Path) -> None:
    while time.time() % 1 > 0.5:  # so that both sessions begin in one second, if the later one does not wait
        time.sleep(0.01)
    written(tmp_path, range(1, 11))
    written(tmp_path, range(7, 9), resume_at=6)
    first, second = (path.name.split(".") for path in sorted(tmp_path.glob("events.*")))
    assert first[3] < second[3]  # the seconds; after them comes a count, in which "10" is before "9"


def test_resume_after_a_kill_cut_the_event_file(tmp_path: Path) -> None:
    written(tmp_path, range(1, 6))
    [events] = tmp_path.glob("events.out.tfevents.*")
    events.write_bytes(events.read_bytes()[:-5])
    written(tmp_path, range(4, 8), resume_at=3)
    assert board(tmp_path) == [(step, float(step)) for step in range(1, 8)]


@pytest.mark.parametrize("resume_at", [None, 3, 100])
@pytest.mark.parametrize("torn", [b'{"agent_steps": 4, "env_fr', b'{"agent_steps": 4}', b"\0\0\0\0", b"12", b"\xff"])
def test_a_truncated_last_line_is_dropped(tmp_path: Path, torn: bytes, resume_at: int | None) -> None:
    written(tmp_path, range(1, 4))
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(torn)
    assert logged(tmp_path) == [1, 2, 3]
    written(tmp_path, range(4, 6), resume_at)
    assert logged(tmp_path) == [1, 2, 3, 4, 5]


def test_a_last_line_that_only_lacks_its_newline_is_kept(tmp_path: Path) -> None:
    written(tmp_path, range(1, 4))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    written(tmp_path, range(4, 5))
    assert logged(tmp_path) == [1, 2, 3, 4]


def test_resume_without_earlier_metrics(tmp_path: Path) -> None:
    written(tmp_path, range(7, 9), resume_at=6)
    assert logged(tmp_path) == [7, 8]


def test_damage_before_the_last_line_is_reported(tmp_path: Path) -> None:
    written(tmp_path, range(1, 4))
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"{oops", *lines[2:]]))
    with pytest.raises(RlsuiteError, match="line 2"):
        read_metrics(tmp_path)


@pytest.mark.parametrize(("folder", "message"), [("empty", "is not a run"), ("absent", "does not exist")])
def test_a_folder_that_is_not_a_run(tmp_path: Path, folder: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        read_metrics(tmp_path / folder)


def test_a_tag_may_not_hide_the_clock(tmp_path: Path) -> None:
    log = MetricLog(tmp_path)
    with pytest.raises(ValueError, match="env_frames"):
        log.scalars(at(1), {"env_frames": 1.0})
    log.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always-full device")
def test_a_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    log = MetricLog(tmp_path)
    lines: Any = log._trackers[0]
    lines._file.close()
    with open("/dev/full", "ab", buffering=0) as lines._file:
        with pytest.raises(RlsuiteError, match=r"cannot write .*metrics\.jsonl: No space left on device; ") as caught:
            log.scalars(at(1), {TAG: 1.0})
        assert "\n" not in str(caught.value)
        assert not isinstance(caught.value, UsageError)
    log.close()


def test_a_line_that_a_full_disk_cut_leaves_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Filling:
        """Takes ten bytes of a line, then nothing more."""

        def __init__(self, file: object) -> None:
            self.file, self.full = file, False

        def fileno(self) -> int:
            return self.file.fileno()  # type: ignore[attr-defined, no-any-return]

        def close(self) -> None:
            self.file.close()  # type: ignore[attr-defined]

        def write(self, data: memoryview) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            self.full = True
            return self.file.write(data[:10])  # type: ignore[attr-defined, no-any-return]

    log = MetricLog(tmp_path)
    log.scalars(at(1), {TAG: 1.0})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    lines: Any = log._trackers[0]
    monkeypatch.setattr(lines, "_file", Filling(lines._file))
    with pytest.raises(RlsuiteError, match="No space left"):
        log.scalars(at(2), {TAG: 2.0})
    log.close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_rolling_mean() -> None:
    rolling = RollingMean(window=3)
    assert math.isnan(rolling.mean)
    means = []
    for value in (1.0, 2.0, 6.0, 10.0):
        rolling.add(value)
        means.append(rolling.mean)
    assert means == [1.0, 1.5, 3.0, 6.0]
    assert len(rolling) == 3


def test_rolling_mean_resumes_bit_for_bit() -> None:
    values = [0.1 * number**3 for number in range(250)]
    whole, first = RollingMean(), RollingMean()
    for value in values[:170]:
        whole.add(value)
        first.add(value)
    second = RollingMean()
    second.add(1e9)  # what was there goes
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for value in values[170:]:
        whole.add(value)
        second.add(value)
    assert second.mean == whole.mean
    assert second.state_dict() == whole.state_dict()
