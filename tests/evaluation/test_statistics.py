"""Statistics against values computed by hand, and the many spellings of Atari ids."""

import json

import numpy as np
import pytest

from rlsuite.evaluation.statistics import bootstrap_interval, game_of, human_normalised, human_score, iqm, summarise


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
