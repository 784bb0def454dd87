"""Benchmarks: all of them run, turns alternate, and rows describe what was measured. No figure is judged here."""

import io
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlsuite import bench
from rlsuite.bench import BenchSettings, acting, learner, measure, replay, train, vision
from rlsuite.bench.measure import Row, Target
from rlsuite.cli import bench as bench_cli
from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.replay.sum_tree import SumTree

QUICK = BenchSettings(quick=True, threads=1, device="cpu")
KEYS = ["name", "what", "ours", "reference", "unit", "ratio", "target", "met"]
ROWS = {  # benchmark -> row -> packages that its reference needs; None: the row has no reference
    "env": {"env": ("cv2",)},
    "inference": {"inference": ()},
    "collect": {"collect": ()},
    "replay": {"replay/cpprb": ("cpprb",), "replay/numpy": (), "replay/sample": None, "replay/bytes": None},
    "learner": {"learner/plain": (), "learner/dueling": ()},
    "train": dict.fromkeys(
        ["train/same", "train/same fp32", "train/environments", "train/atari/pong"], ("stable_baselines3", "cv2")
    ),
    "crowd": {"crowd": ()},
    "ppo": {"ppo/sb3": ("stable_baselines3", "cv2"), "ppo/plain": (), "ppo/recurrent": ()},
    "sequences": {"sequences/plain": (), "sequences/steps": (), "sequences/bytes": None, "sequences/sample": ()},
    "search": {
        "search/connect_four": ("pyspiel",),
        "search/go(size=9,komi=7.5)": ("pyspiel",),
        "search/selfplay": (),
        "search/games": None,
        "search/cache": None,
        "search/tree": None,
    },
    "selfplay": {"selfplay": ()},
    "start": dict.fromkeys(["start/help", "start/play", "start/gtp", "start/selfplay", "start/learner"], ()),
    "torsos": {"torsos/nature": None, **dict.fromkeys([f"torsos/{name}" for name in vision.TORSOS[1:]], ())},
    "vision": {"vision/unet": (), "vision/anchor_free": ()},
}
TARGETS = {
    "collect": "ratio >= 0.85",
    "replay/cpprb": "ratio >= 3",
    "replay/bytes": "ours <= 7600",
    "learner/plain": "ratio >= 2.2",
    "learner/dueling": "ratio >= 2.2",
    "train/same": "ratio >= 2",
    "train/atari/pong": "ratio >= 4",
    "crowd": "ratio >= 0.45",
    "ppo/sb3": "ratio >= 2.2",
    "ppo/plain": "ratio >= 1.5",
    "ppo/recurrent": "ratio >= 0.5",
    "sequences/plain": "ratio >= 5",
    "sequences/bytes": "ours <= 7700",
    "search/connect_four": "ratio >= 10",
    "search/tree": "ours <= 0.25",
    "selfplay": "ratio >= 0.9",
    "start/help": "ours <= 0.5",
    "start/play": "ours <= 3",
    "start/gtp": "ours <= 3",
    "start/selfplay": "ours <= 5",
    "start/learner": "ours <= 10",
}


@pytest.mark.integration
@pytest.mark.parametrize("name", ROWS)
def test_every_benchmark_runs_and_reports(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = bench.run([name], QUICK)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"bench {name}" in err
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert list(report) == ["machine", "settings", "results"]
    assert list(report["machine"]) == ["cpu", "cores", "gpu", "torch", "threads", "bf16", "load"]
    assert report["machine"]["threads"] == 1
    assert [row["name"] for row in report["results"]] == list(ROWS[name])
    table = bench.format_report(report)
    for row in report["results"]:
        needs = ROWS[name][row["name"]]
        installed = needs is not None and all(find_spec(package) for package in needs)
        assert list(row) == KEYS
        assert row["ours"] > 0
        assert (row["reference"] is not None) == installed
        assert ("not installed" in row["what"]) == (needs is not None and not installed)
        assert row["ratio"] == (row["ours"] / row["reference"] if installed else None)
        assert row["target"] == TARGETS.get(row["name"])
        assert row["met"] is None  # a smoke test judges nothing
        assert row["name"] in table


@pytest.mark.integration
@pytest.mark.parametrize(("name", "module"), [("env", acting), ("replay", replay), ("train", train)])
def test_a_missing_reference_is_reported(name: str, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "lacking", lambda packages: True)
    row = bench.run([name], QUICK)["results"][0]
    assert "not installed: pip install rlsuite[bench]" in row["what"]
    assert (row["reference"], row["ratio"], row["met"]) == (None, None, None)
    assert row["ours"] > 0


def test_benchmarks_run_in_a_fixed_order_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(name: str) -> Callable[[BenchSettings], list[Row]]:
        target = Target("ours", ">=", 1.0)
        return lambda settings: [Row(name, f"{torch.get_num_threads()} threads", "steps/s", 1.0, None, target)]

    monkeypatch.setattr(bench, "BENCHMARKS", {name: fake(name) for name in bench.BENCHMARKS})
    ran = [row["name"] for row in bench.run(["all"], QUICK)["results"]]
    assert ran == list(bench.BENCHMARKS)
    assert [row["name"] for row in bench.run(["train", "env", "train"], QUICK)["results"]] == ["env", "train"]
    report = bench.run(["env"], BenchSettings(threads=2, device="cpu"))
    assert report["results"][0]["what"] == "2 threads"
    assert report["results"][0]["met"] is True
    assert torch.get_num_threads() == 1  # as before
    assert report["settings"]["repeats"] == 5  # not shrunk without `quick`
    with pytest.raises(UsageError, match=r"unknown benchmark 'replya'; did you mean replay"):
        bench.run(["env", "replya"], QUICK)
    assert (*bench.BENCHMARKS, "all") == bench_cli.BENCHES
    with pytest.raises(UsageError, match="name a benchmark"):
        bench.run([], QUICK)


@pytest.mark.parametrize(
    "bad", [{"repeats": 0}, {"seconds": 0.0}, {"seconds": float("nan")}, {"threads": 0}, {"batch": -1}, {"device": "tpu"}]
)
def test_impossible_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        BenchSettings(**bad)


def test_quick_never_enlarges_a_setting() -> None:
    assert BenchSettings(quick=True, num_envs=2, seconds=0.01).as_run().num_envs == 2
    assert BenchSettings(quick=True).as_run().replay_size < BenchSettings().replay_size


def test_contenders_take_turns_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now, turns = 0.0, []

    def contender(name: str, cost: float, slow_turn: int | None = None) -> Callable[[int], int]:
        def work(rounds: int) -> int:
            nonlocal now
            turns.append((name, rounds))
            slow = slow_turn is not None and len(turns) == slow_turn
            now += rounds * cost * (10 if slow else 1)
            return rounds * 4

        return work

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now)
    settings = BenchSettings(repeats=3, seconds=2.0)
    warm_ups = 2 * 2 + 5 + 1  # compiled, then a: 1, 2, 4, 8, 16, 32 rounds until half a second, b: 1 round
    rates = measure.alternate("x", {"a": contender("a", 1 / 64, warm_ups - 1 + 3), "b": contender("b", 0.5)}, settings)
    assert turns[-6:] == [("a", 128), ("b", 4)] * 3
    assert rates == {"a": 256.0, "b": 8.0}


@pytest.mark.parametrize(
    ("ours", "reference", "target", "ratio", "met"),
    [
        (6.0, 2.0, Target("ratio", ">=", 3.0), 3.0, True),
        (5.9, 2.0, Target("ratio", ">=", 3.0), 2.95, False),
        (5.9, None, Target("ratio", ">=", 3.0), None, None),
        (7600.0, None, Target("ours", "<=", 7600), None, True),
        (7601.0, None, Target("ours", "<=", 7600), None, False),
        (None, 2.0, Target("ours", ">=", 200), None, None),
        (5.0, 2.0, None, 2.5, None),
    ],
)
def test_targets(ours: float | None, reference: float | None, target: Target | None, ratio: float | None, met: bool | None) -> None:
    row = Row("x", "", "steps/s", ours, reference, target)
    assert row.ratio == ratio
    assert row.met is met


def test_the_table_says_what_was_compared() -> None:
    rows = [
        Row("a", "not installed: pip install rlsuite[bench]", "steps/s", 12345.6),
        Row("b", "short", "bytes", 7601.0, 2.5, Target("ours", "<=", 7600)),
    ]
    facts = {"cpu": "a cpu", "cores": 2, "gpu": None, "torch": "2", "threads": 2, "bf16": False, "load": 1.5}
    report = {"machine": facts, "settings": {"repeats": 5, "seconds": 2.0, "quick": False}, "results": [r.as_dict() for r in rows]}
    table = bench.format_report(report, width=160)
    assert "rlsuite[bench]" in table  # brackets are text, not markup
    assert "12,346" in table
    assert "ours <= 7600: missed" in table
    assert "load 1.50 on 2 cores: something else was running" in table
    assert "rows that name it compute in fp32" in table
    facts |= {"load": 1.0, "bf16": True}
    quiet = bench.format_report(report)
    assert "something else" not in quiet
    assert "compute in fp32" not in quiet


@pytest.mark.parametrize("capacity", [1, 2, 7, 8, 9, 1000])
def test_the_numpy_sum_tree_equals_ours(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    theirs, ours = replay.NumpySumTree(capacity), SumTree(capacity)
    for _ in range(30):
        ids = rng.integers(capacity, size=20)  # with repetitions
        weights = rng.integers(0, 9, size=20).astype(np.float64) + (ids == 0)  # whole numbers: sums are exact in any order
        theirs.set(ids, weights)
        ours.set(ids, weights)
        if ours.total == 0:
            continue
        assert theirs.nodes[1] == ours.total
        uniforms = rng.random(200)
        picked, probability = theirs.sample(uniforms)
        assert picked.tolist() == ours.sample(uniforms).tolist()
        assert np.array_equal(probability, ours.get(picked) / ours.total)


def test_a_small_replay_predicts_the_bytes_of_a_large_one() -> None:
    small, large = replay.filled_store(1_024), replay.filled_store(8_192)
    ring, tree = large.rings[0], large.selector._tree  # type: ignore[attr-defined]
    parts = [ring.observation, ring.reward, ring.flags, ring.action, tree._leaves, tree._sums, tree._maxima, tree._starts]
    counted = sum(part.nbytes for part in parts) / len(large.selector)
    assert replay.bytes_per_transition(large, len(large)) == pytest.approx(counted, rel=1e-9)
    assert replay.bytes_per_transition(small, len(large)) == pytest.approx(counted, rel=2e-3)


@pytest.mark.parametrize("nchw", [False, True])
def test_learner_batches_have_the_layout_that_the_row_names(nchw: bool) -> None:
    sample = learner.random_sample(3, 4, nchw, seed=0)
    planes = torch.from_numpy(sample.trajectory.steps.observation).flatten(0, 1)
    assert list(planes.shape) == [6, 4, 84, 84]
    assert planes.is_contiguous() == nchw
    assert planes.is_contiguous(memory_format=torch.channels_last) != nchw
    assert sample.trajectory.steps.reward.shape == (4, 3)


def test_the_quick_start_is_measured_as_shipped() -> None:
    """Except for the start of learning, evaluations and checkpoints."""
    shipped, measured = resolve("atari/pong"), train.as_shipped(BenchSettings(train_start=64, threads=1, device="cpu"))
    for section in ("agent", "env", "net", "learner"):
        assert getattr(measured, section) == getattr(shipped, section)
    assert measured.replay == shipped.replay.model_copy(update={"min_agent_steps": 64})


@pytest.mark.parametrize(("num_envs", "unroll", "batch"), [(1, 4, 32), (4, 1, 32)])
def test_our_training_learns_as_often_as_the_reference(num_envs: int, unroll: int, batch: int, tmp_path: Path) -> None:
    settings = BenchSettings(train_start=64, threads=1, device="cpu")
    ours = train.Ours(train.setup_of(settings, num_envs, unroll, batch, "bf16"), tmp_path)
    ours.advance(64)
    before = ours.loop.parts.learner.steps
    assert ours.advance(56) == 56
    assert ours.advance(8) == 8
    assert (ours.loop.parts.learner.steps - before) * batch == 8 * 16 * 4
    ours.close()
    assert isinstance(ours.progress._out, io.StringIO)  # the live line does not reach the terminal


def test_a_gpu_mode_that_fails_is_reported_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def updates(settings: BenchSettings, agent: Any, batch: int, *, compile: bool = False, **switches: Any) -> measure.Work:
        if compile:
            raise RuntimeError("no C compiler\nhere")
        return measure.repeated(lambda: None, batch)

    monkeypatch.setattr(learner, "updates", updates)
    eager, compiled, graphs = learner._gpu(QUICK.as_run())
    assert eager.ours is not None
    assert eager.unit == "batches/s"
    assert (compiled.ours, graphs.ours, graphs.met) == (None, None, None)
    assert "failed: no C compiler here" in graphs.what
