"""Aggregates against numbers worked out by hand, and against rliable."""

import numpy as np
import pytest

from rlsuite.studies import aggregates
from rlsuite.studies.aggregates import AGGREGATES, Floats

# Two games: one with runs 0 and 2, one with a single run 0.5.
UNEQUAL = [np.array([0.0, 2.0]), np.array([0.5])]


def scores_of(matrix: Floats) -> list[Floats]:
    """rliable's matrix [R,G] as ours: G times [R]."""
    return list(matrix.T)


def test_by_hand_with_different_numbers_of_runs() -> None:
    found = {name: float(statistic(UNEQUAL)) for name, statistic in AGGREGATES.items()}
    assert found == {
        "mean": 0.75,  # of 1 and 0.5
        "median": 0.75,
        "iqm_over_runs": pytest.approx(2.5 / 3),  # three runs: nothing to cut
        "iqm_of_game_means": 0.75,
        "optimality_gap": 0.5,  # of (1 + 0) / 2 and 0.5
    }


def test_iqm_over_runs_is_not_iqm_of_game_means() -> None:
    scores = [np.array([0.0, 8.0]), np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.array([3.0, 3.0])]
    assert float(aggregates.iqm_over_runs(scores)) == 2.0  # 1 2 2 3 of 0 1 1 2 2 3 3 8
    assert float(aggregates.iqm_of_game_means(scores)) == 2.5  # 2 and 3 of 1 2 3 4


def test_profile_and_improvement_by_hand() -> None:
    profile = aggregates.performance_profile(UNEQUAL, np.array([0.0, 0.5, 2.0]))
    assert profile.tolist() == [0.75, 0.25, 0.0]  # strictly above, each game counting once
    better = aggregates.probability_of_improvement([np.array([1.0, 3.0])], [np.array([2.0, 3.0])])
    assert better.value == (0 + 0 + 1 + 0.5) / 4
    assert aggregates.probability_of_improvement([np.array([1.0])], [np.array([0.0])]).interval is None


def test_intervals_are_of_resampled_runs_within_games() -> None:
    drawn = aggregates.resample([np.array([1.0, 2.0]), np.array([10.0, 20.0, 30.0])], seed=0, resamples=50)
    assert [one.shape for one in drawn] == [(50, 2), (50, 3)]
    assert set(drawn[0].ravel()) == {1.0, 2.0}
    assert set(drawn[1].ravel()) == {10.0, 20.0, 30.0}
    found = aggregates.aggregates(UNEQUAL)
    assert found["mean"].interval == (0.25, 1.25)  # the first game's mean is 0, 1 or 2
    assert aggregates.aggregates([np.array([1.0])])["mean"].interval is None
    assert found == aggregates.aggregates(UNEQUAL)  # deterministic


@pytest.mark.parametrize("scores", [[], [np.array([])], [np.array([np.nan])]])
def test_nothing_to_aggregate_is_an_error(scores: list[Floats]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        aggregates.aggregates(scores)


def test_equals_rliable() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    rng = np.random.default_rng(7)
    for runs, games in ((1, 26), (3, 5), (10, 26)):
        x, y = rng.lognormal(size=(runs, games)), rng.lognormal(size=(runs + 1, games)).round(1)
        ours = {name: float(statistic(scores_of(x))) for name, statistic in AGGREGATES.items()}
        assert ours["mean"] == pytest.approx(metrics.aggregate_mean(x), rel=1e-12)
        assert ours["median"] == pytest.approx(metrics.aggregate_median(x), rel=1e-12)
        assert ours["iqm_over_runs"] == pytest.approx(metrics.aggregate_iqm(x), rel=1e-12)
        assert ours["optimality_gap"] == pytest.approx(metrics.aggregate_optimality_gap(x), rel=1e-12)
        better = aggregates.probability_of_improvement(scores_of(x.round(1)), scores_of(y)).value
        assert better == pytest.approx(metrics.probability_of_improvement(x.round(1), y), rel=1e-12)


def test_profiles_and_intervals_equal_rliables() -> None:
    library, metrics = pytest.importorskip("rliable.library"), pytest.importorskip("rliable.metrics")
    x = np.random.default_rng(3).lognormal(size=(6, 8))
    thresholds = np.linspace(0.0, 3.0, 13)
    profiles, _ = library.create_performance_profile({"x": x}, thresholds, reps=10)
    assert aggregates.performance_profile(scores_of(x), thresholds) == pytest.approx(profiles["x"], rel=1e-12)
    np.random.seed(0)  # noqa: NPY002 (rliable draws from it)
    _, intervals = library.get_interval_estimates({"x": x}, lambda one: np.array([metrics.aggregate_iqm(one)]), reps=2000)
    ours = aggregates.aggregates(scores_of(x))["iqm_over_runs"]
    assert ours.interval == pytest.approx(intervals["x"].ravel(), rel=0.05)  # both are random
