"""Statistics against values computed by hand, and the many spellings of Atari ids."""

import json

import numpy as np
import pytest

from rlsuite.cli.evaluate import describe_score
from rlsuite.evaluation.statistics import (
    bootstrap_interval,
    count_different,
    describe_mean,
    game_of,
    human_normalised,
    human_score,
    iqm,
    mean_interval,
    summarise,
)


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 6.0], 3.0),  # int(3/4) = 0: nothing is cut
        ([100.0, 1.0, 3.0, -50.0], 2.0),
        ([0.0, 1.0, 2.0, 3.0, 1000.0], 2.0),
        ([-9.0, 8.0, 1.0, 2.0, 3.0, 4.0, -9.0, 99.0], 2.5),
    ],
)
def test_iqm_equals_values_by_hand(returns: list[float], expected: float) -> None:
    assert iqm(returns) == pytest.approx(expected)
    assert isinstance(iqm(returns), float)


def test_iqm_along_an_axis() -> None:
    values = np.random.default_rng(0).normal(size=(3, 10))
    np.testing.assert_allclose(iqm(values, axis=-1), [iqm(row) for row in values])
    np.testing.assert_allclose(iqm(values.T, axis=0), [iqm(row) for row in values])


@pytest.mark.parametrize("returns", [[], [1.0, float("nan")], [1.0, 2.0, 3.0, float("inf")]])
def test_no_or_non_finite_returns_are_refused(returns: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        iqm(returns)
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval(returns)


def test_interval_is_deterministic_and_depends_on_the_seed() -> None:
    returns = np.random.default_rng(1).normal(size=30)
    assert bootstrap_interval(returns) == bootstrap_interval(returns)
    assert bootstrap_interval(returns) != bootstrap_interval(returns, seed=1)


def test_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    samples = np.random.default_rng(2).normal(loc=7.0, size=(200, 40))
    intervals = [bootstrap_interval(sample, np.mean, confidence=0.9, resamples=400) for sample in samples]
    covered = np.mean([low <= 7.0 <= high for low, high in intervals])
    assert 0.83 <= covered <= 0.95


def test_interval_grows_with_confidence_and_holds_the_statistic() -> None:
    returns = np.random.default_rng(3).exponential(size=50)
    narrow, wide = (bootstrap_interval(returns, confidence=c) for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < iqm(returns) < narrow[1] < wide[1]


def test_interval_of_many_episodes_is_drawn_in_blocks() -> None:
    low, high = bootstrap_interval(np.full(2**21, 3.0), np.mean, resamples=3)  # two resamples a block, then one
    assert (low, high) == (3.0, 3.0)


@pytest.mark.parametrize("bad", [{"confidence": 1.0}, {"confidence": 0.0}, {"resamples": 0}])
def test_impossible_intervals_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval([1.0, 2.0], **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("env_id", "game"),
    [
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("ale_py:ALE/MsPacman-v5", "ms_pacman"),
        ("MsPacmanNoFrameskip-v4", "ms_pacman"),
        ("PongDeterministic-v4", "pong"),
        ("Pong-v0", "pong"),
        ("Pong-ram-v4", "pong"),
        ("Pong-ramNoFrameskip-v4", "pong"),
        ("pong", "pong"),
        ("ms_pacman", "ms_pacman"),
        ("ALE/UpNDown-v5", "up_n_down"),
        ("ALE/Riverraid-v5", "riverraid"),
        ("KungFuMasterNoFrameskip-v4", "kung_fu_master"),
        ("CartPole-v1", None),
        ("ALE/NoSuchGame-v5", None),
        ("other/Pong-v0", None),  # some other package's Pong, with scores of its own
        ("", None),
    ],
)
def test_ids_name_their_game(env_id: str, game: str | None) -> None:
    assert game_of(env_id) == game


def test_the_human_scale_of_pong_equals_values_by_hand() -> None:
    # Random play scores -20.7, the human 14.6.
    assert human_normalised("ALE/Pong-v5", -20.7) == pytest.approx(0.0)
    assert human_normalised("PongNoFrameskip-v4", 14.6) == pytest.approx(1.0)
    assert human_normalised("pong", 21.0) == pytest.approx(41.7 / 35.3)
    assert human_score("pong") == 14.6
    assert human_normalised("CartPole-v1", 500.0) is None
    assert human_score("CartPole-v1") is None


def test_a_summary_equals_values_by_hand() -> None:
    summary = summarise([21.0, 19.0, 20.0, -20.0], [10, 11, 12, 13], "ALE/Pong-v5")
    assert (summary.mean, summary.median, summary.iqm) == (10.0, 19.5, 19.5)
    assert (summary.min, summary.max, summary.episodes) == (-20.0, 21.0, 4)
    assert summary.std == pytest.approx(np.sqrt((11**2 + 9**2 + 10**2 + 30**2) / 4))
    assert summary.human_normalised == pytest.approx(30.7 / 35.3)
    assert summary.iqm_interval == bootstrap_interval([21.0, 19.0, 20.0, -20.0])
    assert json.loads(json.dumps(summary.as_dict(), allow_nan=False)) == summary.as_dict()
    assert summarise([1.0], [1], "CartPole-v1").human_normalised is None


def test_summary_refuses_unequal_counts() -> None:
    with pytest.raises(ValueError, match="2 returns and 1 lengths"):
        summarise([1.0, 2.0], [1], "pong")


@pytest.mark.parametrize(
    ("different", "quantile"),  # of Student's t, from a printed table
    [(2, 12.706), (3, 4.303), (4, 3.182), (5, 2.776), (12, 2.201), (30, 2.045), (1001, 1.962)],
)
def test_the_interval_of_a_mean_equals_values_by_hand(different: int, quantile: float) -> None:
    interval = mean_interval([1.0, 2.0, 3.0, 4.0], different)  # mean 2.5, sample variance 5/3
    assert interval is not None
    half = quantile * (5 / 3) ** 0.5 / different**0.5
    assert interval[1] - 2.5 == pytest.approx(2.5 - interval[0]) == pytest.approx(half, rel=2e-3)


def test_a_single_different_game_has_no_interval() -> None:
    assert mean_interval([5.0] * 30, 1) is None
    summary = summarise([5.0] * 30, [10] * 30, "CartPole-v1")
    assert (summary.episodes, summary.different_games) == (30, 1)
    assert (summary.mean, summary.mean_interval, summary.iqm_interval) == (5.0, None, None)
    assert summary.warning is not None
    assert summary.warning.startswith("only 1 of 30 games is different, so the interval is unknown")
    assert json.loads(json.dumps(summary.as_dict()))["iqm_interval"] is None
    assert "eval/interval" not in summary.scalars()
    assert describe_score(summary).startswith("return 5.00 ± unknown over 30 games, 1 different  std 0.00")


def test_games_that_repeat_widen_both_intervals() -> None:
    returns = [18.0, 19.0, 20.0, 21.0] * 6
    all_different = summarise(returns, list(range(24)), "ALE/Pong-v5")
    half = summarise(returns, [1, 1, 1, 1] * 3 + [2, 3, 2, 2] * 3, "ALE/Pong-v5")
    assert (all_different.different_games, half.different_games) == (24, 8)
    for summary, quantile in ((all_different, 2.069), (half, 2.365)):
        assert summary.mean == 19.5
        assert summary.mean_interval is not None
        width = quantile * (24 * 1.25 / 23) ** 0.5 / summary.different_games**0.5
        assert summary.mean_interval[1] - 19.5 == pytest.approx(width, rel=1e-3)
    assert all_different.iqm_interval == bootstrap_interval(returns)
    assert half.iqm_interval == bootstrap_interval(returns, different=8)
    (low, high), (lower, higher) = all_different.iqm_interval or (0, 0), half.iqm_interval or (0, 0)
    assert lower < low < high < higher


@pytest.mark.parametrize(("different", "warns"), [(15, False), (14, True), (1, True)])
def test_fewer_different_games_than_half_are_warned_of(different: int, warns: bool) -> None:
    lengths = [min(i, different - 1) for i in range(30)]
    summary = summarise([1.0] * 30, lengths, "pong")
    assert summary.different_games == different
    assert (summary.warning is not None) == warns


@pytest.mark.parametrize(
    ("half_width", "games", "different", "text"),
    [
        (0.94, 30, 12, "20.10 ± 0.94 over 30 games, 12 different"),
        (None, 30, 1, "20.10 ± unknown over 30 games, 1 different"),
        (None, 1, 1, "20.10 ± unknown over 1 game, 1 different"),
    ],
)
def test_a_mean_is_written_with_its_interval_and_its_games(half_width: float | None, games: int, different: int, text: str) -> None:
    assert describe_mean(20.1, half_width, games, different) == text


def trace(*steps: int) -> bytes:
    return b"".join(step.to_bytes(4, "little") for step in steps)


@pytest.mark.parametrize(
    ("traces", "different"),
    [
        ([trace(1, 2, 3, 4), trace(1, 2, 3, 4)], 1),
        ([trace(1, 2, 3, 4), trace(9, 8, 3, 4)], 1),  # the second half decides
        ([trace(1, 2, 3, 4), trace(9, 9, 9, 1, 2, 3, 4)], 1),  # it only began later
        ([trace(1, 2, 3, 4), trace(1, 2, 9, 4)], 2),
        ([trace(1, 2, 3, 4), trace(1, 2, 3, 9)], 2),
        ([trace(3, 4), trace(1, 2, 3, 4), trace(1, 2, 9, 4)], 2),
        ([trace(3, 4), trace(1, 2, 3, 4, 3, 4)], 2),  # of a game three times as long
        ([trace(1), trace(1), trace(2)], 2),
        ([trace(1, 2, 3), trace(7, 2, 3), trace(7, 8, 3)], 2),  # of three steps the last two
    ],
)
def test_games_are_compared_over_the_second_half_of_the_longer_one(traces: list[bytes], different: int) -> None:
    assert count_different([1.0] * len(traces), traces) == different
    assert count_different([float(i) for i in range(len(traces))], traces) == len(traces)  # another return is another game
