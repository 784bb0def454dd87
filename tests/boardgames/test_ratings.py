"""Points, Elo, intervals and the sequential test: by hand, and on simulated players of known strength."""

from math import inf, log

import numpy as np
import pytest

from rlsuite.boardgames.ratings import Score, Sprt, elo, elo_intervals, elo_of, interval_of, points_of, wilson


def test_elo_and_points_by_hand() -> None:
    assert elo_of(0.5) == 0
    assert elo_of(10 / 11) == pytest.approx(400)
    assert points_of(-400) == pytest.approx(1 / 11)
    assert (elo_of(0.0), elo_of(1.0)) == (-inf, inf)
    assert Score(3, 2, 5).points == 0.4


def test_a_player_who_lost_all_games_has_an_interval() -> None:
    results = [(0, 1, Score(10, 0, 0)), (0, 2, Score(1000, 0, 0))]
    few, many = elo_intervals(results, 3, seed=0)[1:]
    assert few[1] - few[0] > 100
    assert many[1] < few[1]
    assert few[0] == pytest.approx(elo(results, 3)[1])


def test_wilson_by_hand() -> None:
    assert wilson(8 / 100, 100) == pytest.approx((0.0411, 0.1500), abs=1e-4)
    assert wilson(0, 50)[0] == 0


def test_decided_single_games_give_walds_ratio() -> None:
    """W log(p1/p0) + L log((1-p1)/(1-p0)) with 12 wins and 8 losses."""
    sprt = Sprt(0, 100)
    p0, p1 = 0.5, points_of(100)
    assert sprt.ratio([1.0] * 12 + [0.0] * 8) == pytest.approx(12 * log(p1 / p0) + 8 * log((1 - p1) / (1 - p0)), abs=0.02)
    assert sprt.bounds == pytest.approx((log(0.05 / 0.95), log(0.95 / 0.05)))
    assert sprt.ratio([]) == 0


def test_pairs_of_three_results_by_hand() -> None:
    """With mean m the likeliest shares of points s are p / (1 + t (s - m)): t found on a grid."""
    pairs = [0.0] * 2 + [0.5] * 6 + [1.0] * 4
    m = points_of(50)
    ts = np.linspace(-1 / (1 - m) + 1e-6, 1 / m - 1e-6, 2_000_001)
    share = {0.0: 2 / 12, 0.25: 1e-3 / 12, 0.5: 6 / 12, 0.75: 1e-3 / 12, 1.0: 4 / 12}
    zero = sum(p * (s - m) / (1 + ts * (s - m)) for s, p in share.items())
    t = ts[np.abs(zero).argmin()]
    high = sum(12 * p * log(p / (1 + t * (s - m))) for s, p in share.items())
    zero = sum(p * (s - 0.5) / (1 + ts * (s - 0.5)) for s, p in share.items())
    t = ts[np.abs(zero).argmin()]
    low = sum(12 * p * log(p / (1 + t * (s - 0.5))) for s, p in share.items())
    assert Sprt(0, 50).ratio(pairs) == pytest.approx(high - low, abs=0.01)


@pytest.mark.parametrize("pairs", [[1.0] * 30, [0.0] * 30, [0.5] * 30, [0.75] * 3, [1.0] * 37 + [0.5]])
def test_one_kind_of_result_is_no_trouble(pairs: list[float]) -> None:
    ratio = Sprt(0, 50).ratio(pairs)
    assert np.isfinite(ratio)
    assert (ratio > 0) == (pairs[0] > points_of(25))
    low, high = interval_of(pairs)
    assert 0 <= low < high <= 1
    assert low <= sum(pairs) / len(pairs) <= high


def pairs_of(rng: np.random.Generator, difference: float, draws: float, count: int) -> list[float]:
    """Simulated pairs: an opening favours one side by up to 100 Elo, which cancels within a pair."""
    found = []
    for _ in range(count):
        favour, points = rng.normal(0, 100), 0.0
        for side in (1, -1):
            p = points_of(difference + side * favour)
            even = draws * 2 * min(p, 1 - p)
            points += rng.choice([1, 0.5, 0], p=[p - even / 2, even, 1 - p - even / 2]) / 2
        found.append(points)
    return found


@pytest.mark.parametrize(("difference", "draws", "count"), [(0, 0.0, 20), (150, 0.3, 50), (300, 0.0, 100), (0, 0.8, 50)])
def test_intervals_cover_the_truth_as_they_should(difference: float, draws: float, count: int) -> None:
    rng = np.random.default_rng(1)
    truth = np.mean(pairs_of(np.random.default_rng(0), difference, draws, 20_000))
    hits = widths = 0.0
    for _ in range(400):
        pairs = pairs_of(rng, difference, draws, count)
        low, high = interval_of(pairs)
        hits += low <= truth <= high
        widths += (high - low) / (2 * 1.96 * np.std(pairs) / np.sqrt(count) + 1e-9)
    assert 0.92 <= hits / 400 <= 0.99
    assert widths / 400 < 1.35  # no wider than it must be


@pytest.mark.parametrize(("difference", "wrong"), [(0.0, "elo1"), (60.0, "elo0")])
def test_the_sequential_test_errs_as_rarely_as_asked(difference: float, wrong: str) -> None:
    rng, sprt, errors, games = np.random.default_rng(2), Sprt(0, 60), 0, 0
    for _ in range(100):
        pairs: list[float] = []
        while (verdict := sprt.verdict(pairs)) is None:
            pairs += pairs_of(rng, difference, 0.2, 5)
        errors += verdict == wrong
        games += 2 * len(pairs)
    assert errors <= 11  # 5 expected; more than 11 of 100 has a chance of 0.4%
    assert games / 100 < 600


def test_a_pool_of_known_strengths_is_found_and_covered() -> None:
    rng, strengths = np.random.default_rng(3), np.array([0.0, 120.0, 60.0, 260.0])
    inside = total = 0
    for trial in range(30):
        results = []
        for a in range(4):
            for b in range(a):
                wins = int(rng.binomial(60, points_of(strengths[a] - strengths[b])))
                results.append((a, b, Score(wins, 0, 60 - wins)))
        found, intervals = elo(results, 4), elo_intervals(results, 4, seed=trial, resamples=80)
        assert np.abs(found - strengths).max() < 160
        inside += int(((intervals[1:, 0] <= strengths[1:]) & (strengths[1:] <= intervals[1:, 1])).sum())
        total += 3
    assert 0.86 <= inside / total <= 1.0
