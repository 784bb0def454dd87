"""Comparison of small synthetic runs: groups, table and plot."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.evaluation.compare import Row, compare, format_table, smooth

RETURN, EVALUATION = "charts/episodic_return", "eval/episodic_return"


def make_run(
    path: Path,
    returns: list[float | None],
    evaluations: tuple[float, ...] = (),
    seconds: float = 10.0,
    env_id: str = "ALE/Pong-v5",
    **config: Any,
) -> Path:
    """Writes a run with a row every 100 agent steps and `seconds`, then its evaluations; without `config` no config.yaml."""
    path.mkdir(parents=True)
    rows = [clock(i + 1, seconds) | {RETURN: value} for i, value in enumerate(returns)]
    rows += [clock(len(returns), seconds) | {EVALUATION: value} for value in evaluations]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if config:
        full = {"agent": {"name": "dqn"}, "env": {"id": env_id}, **config}
        (path / "config.yaml").write_text(json.dumps(full))  # JSON is YAML
    return path


def clock(rows: int, seconds: float) -> dict[str, float]:
    return {"agent_steps": 100 * rows, "env_frames": 400 * rows, "learner_steps": 0, "wall_seconds": seconds * rows}


def picture(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert path.read_bytes().startswith(b"\x89PNG")
    return np.asarray(imread(path))


def coloured(image: np.ndarray[Any, np.dtype[np.float32]]) -> int:
    """Number of coloured pixels, those of the lines: axes, text and background are grey."""
    return int((np.ptp(image[..., :3], axis=-1) > 0.2).sum())


def test_seeds_form_groups_with_the_right_numbers(tmp_path: Path) -> None:
    a1 = make_run(tmp_path / "a1", [0.0, 2.0, 4.0], (3.0, 9.0), seed=1)
    a2 = make_run(tmp_path / "a2", [0.0, 6.0, 8.0, 10.0], (5.0,), seed=2, seconds=5.0)
    b = make_run(tmp_path / "b", [1.0, 1.0], seed=1, name="other")
    out = tmp_path / "new" / "curves.png"
    first, second = compare([a1, b, a2], out, window=2)
    assert first == Row(
        label="dqn on ALE/Pong-v5",
        seeds=(1, 2),
        agent_steps=350,
        minutes=pytest.approx(25 / 60),
        last_mean=6.0,  # of 3 and 9
        last_std=pytest.approx(18**0.5),
        best_evaluation=9.0,
        steps_per_second=pytest.approx(700 / 50),
    )
    assert second == Row("other", (1,), 200, pytest.approx(1 / 3), 1.0, None, None, pytest.approx(10.0))
    image = picture(out)
    assert image.shape[0] > 600
    assert image.shape[1] > 1200
    assert coloured(image) > 1000


def test_a_run_without_config_is_a_group_named_after_its_folder(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, [1.0, 2.0]) for name in ("first", "_second")]
    rows = compare(runs, tmp_path / "c.png")
    assert [(row.label, row.seeds) for row in rows] == [("first", (None,)), ("_second", (None,))]


def test_runs_that_differ_in_more_than_the_seed_are_separate_groups(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "0", [1.0], seed=0),
        make_run(tmp_path / "1", [1.0], seed=1, agent={"name": "qr"}),
        make_run(tmp_path / "2", [1.0], seed=2, env_id="ALE/Breakout-v5"),
        make_run(tmp_path / "3", [1.0], seed=3, name="named"),
        make_run(tmp_path / "4", [1.0], seed=4, name="named", agent={"name": "qr"}),
    ]
    rows = compare(runs, tmp_path / "c.png")
    assert [row.seeds for row in rows] == [(0,), (1,), (2,), (3,), (4,)]
    assert len({row.label for row in rows}) == 5
    assert rows[4].label == "named (agent.name=qr)"


def test_a_group_has_each_seed_once(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(i), [float(i)], seed=i % 2) for i in range(4)]
    rows = compare([*runs, runs[0], tmp_path / "." / "1"], tmp_path / "c.png")
    assert [(row.seeds, row.last_mean) for row in rows] == [((0, 1), 0.5), ((0, 1), 2.5)]
    assert str(runs[2]) in rows[1].label


def test_rows_without_a_value_are_skipped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [None, 3.0, None, 5.0], seed=0)
    [row] = compare([run], tmp_path / "c.png")
    assert row.last_mean == 4.0
    assert row.agent_steps == 400


def test_seeds_without_common_steps_and_a_single_value_are_drawn(tmp_path: Path) -> None:
    short = make_run(tmp_path / "a", [1.0], seed=0)
    long = make_run(tmp_path / "b", [None, None, 1.0, 2.0], seed=1)
    compare([short, long], tmp_path / "c.png")
    compare([short], tmp_path / "d.png")
    for name in ("c.png", "d.png"):
        assert coloured(picture(tmp_path / name)) > 300


def drawn(runs: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The figure that `compare` saves."""
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig

    def kept(figure: Figure, *args: Any, **more: Any) -> None:
        figures.append(figure)
        save(figure, *args, **more)

    monkeypatch.setattr(Figure, "savefig", kept)
    compare(runs, out)
    return figures[0]


@pytest.mark.parametrize(
    ("envs", "returns", "expected"),
    [
        (["ALE/Pong-v5"], [-20.0, 20.0], "human (14.6)"),
        (["ALE/Pong-v5", "PongNoFrameskip-v4"], [-20.0, 20.0], "human (14.6)"),
        (["ALE/MontezumaRevenge-v5"], [0.0, 1.0], "human (4,753.3, off the scale)"),
        (["ALE/Pong-v5", "ALE/Breakout-v5"], [0.0, 20.0], None),
        (["CartPole-v1"], [0.0, 20.0], None),
    ],
)
def test_the_human_level_is_drawn_for_one_game_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, envs: list[str], returns: list[float | None], expected: str | None
) -> None:
    runs = [make_run(tmp_path / str(i), returns, env_id=env_id, seed=0) for i, env_id in enumerate(envs)]
    figure = drawn(runs, tmp_path / "c.png", monkeypatch)
    [legend] = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert [label for label in labels if label.startswith("human")] == ([expected] if expected else [])
    low, high = figure.axes[0].get_ylim()
    assert high - low < 100  # a level far off does not flatten the curves


def test_the_mean_line_ends_where_the_shortest_seed_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        make_run(tmp_path / "0", [0.0, 0.0, 0.0], seed=0),
        make_run(tmp_path / "1", [2.0, 2.0, 2.0, 2.0, 2.0], seed=1),
    ]
    steps, minutes = drawn(runs, tmp_path / "c.png", monkeypatch).axes
    for axes, first, last in ((steps, 100.0, 300.0), (minutes, 10 / 60, 30 / 60)):
        [mean] = [line for line in axes.get_lines() if line.get_label().startswith("dqn on")]
        np.testing.assert_allclose(mean.get_xdata()[[0, -1]], [first, last])
        np.testing.assert_allclose(mean.get_ydata(), 1.0)


def test_smoothing_equals_values_by_hand() -> None:
    np.testing.assert_allclose(smooth(np.array([1.0, 3.0, 5.0, 9.0]), 2), [1.0, 2.0, 4.0, 7.0])
    np.testing.assert_allclose(smooth(np.array([1.0, 3.0]), 100), [1.0, 2.0])


def test_the_table_is_aligned_and_marks_missing_values() -> None:
    rows = [
        Row("dqn", (0, 1), 1_000_000, 61.25, 18.5, 0.75, 20.0, 272.1),
        Row("a longer label", (None,), 5, 0.0, -3.0, None, None, None),
    ]
    heading, rule, dqn, longer = format_table(rows).split("\n")
    assert " ".join(heading.split()) == "label seeds agent steps minutes last mean ± std best eval steps/s"
    assert dqn.split() == ["dqn", "2", "1,000,000", "61.2", "18.50", "±", "0.75", "20.00", "272"]
    assert longer.split() == ["a", "longer", "label", "1", "5", "0.0", "-3.00", "-", "-"]
    assert len({len(line) for line in (heading, rule, dqn, longer)}) == 1


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run"):
        compare([tmp_path], tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize(
    ("metric", "message"),
    [("charts/episodic_retrun", "did you mean charts/episodic_return"), (RETURN, "yet")],
)
def test_a_metric_that_was_not_logged_is_refused(tmp_path: Path, metric: str, message: str) -> None:
    run = make_run(tmp_path / "a", [1.0 if metric != RETURN else None], seed=0)
    with pytest.raises(UsageError, match=message):
        compare([run], tmp_path / "c.png", metric)


def test_impossible_comparisons_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [1.0], seed=0)
    with pytest.raises(UsageError, match="at least one"):
        compare([], tmp_path / "c.png")
    with pytest.raises(UsageError, match=r"'c\.png'"):
        compare([run], tmp_path / "c.pdf")
    with pytest.raises(UsageError, match="window"):
        compare([run], tmp_path / "c.png", window=0)
    with pytest.raises(RlsuiteError, match=r"cannot write .*c\.png"):
        compare([run], run / "config.yaml" / "c.png")
    (run / "config.yaml").write_text("a: [1")
    with pytest.raises(UsageError, match="not YAML"):
        compare([run], tmp_path / "c.png")
