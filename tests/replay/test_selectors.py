"""Selectors: presence, frequencies, priorities and exact state."""

import numpy as np
import pytest

from rlsuite.core.errors import CheckpointError
from rlsuite.replay.selectors import Prioritized, Selector, Uniform, importance_weights

BOTH = pytest.mark.parametrize("kind", ["uniform", "prioritized", "stratified"])


def build(kind: str, capacity: int) -> Selector:
    if kind == "uniform":
        return Uniform(capacity)
    return Prioritized(capacity, exponent=0.6, stratified=kind == "stratified")


def chi_square_in_sigmas(counts: np.ndarray, probability: np.ndarray) -> float:
    """Deviation of Pearson's statistic from its mean, in its standard deviations."""
    expected = counts.sum() * probability
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@BOTH
@pytest.mark.parametrize("capacity", [1, 10, 300])
def test_presence_equals_a_set(kind: str, capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    selector, present = build(kind, capacity), set[int]()
    for _ in range(300):
        ids = rng.integers(capacity, size=int(rng.integers(0, 12)))  # with repetitions and slots already present
        if rng.random() < 0.5:
            selector.add(ids, rng.random(ids.size) + 0.1 if rng.random() < 0.5 else None)
            present |= set(ids.tolist())
        else:
            selector.remove(ids)
            present -= set(ids.tolist())
        selector.update(ids, rng.random(ids.size) + 0.1)
        assert len(selector) == len(present)
        if present:
            sampled, probability = selector.sample(20, rng)
            assert set(sampled.tolist()) <= present
            assert sampled.dtype == np.int64
            assert probability.dtype == np.float64
            assert (probability > 0).all()


@BOTH
def test_empty_raises(kind: str) -> None:
    selector = build(kind, 5)
    with pytest.raises(ValueError, match="nothing to sample"):
        selector.sample(1, np.random.default_rng(0))
    selector.add([2])
    selector.remove([2])
    with pytest.raises(ValueError, match="nothing to sample"):
        selector.sample(1, np.random.default_rng(0))


@BOTH
@pytest.mark.parametrize("index", [-1, 5])
def test_slot_out_of_range(kind: str, index: int) -> None:
    selector = build(kind, 5)
    for call in (selector.add, selector.remove, lambda ids: selector.update(ids, np.ones(2))):
        with pytest.raises(IndexError, match=str(index)):
            call(np.array([1, index]))
    assert len(selector) == 0


def test_uniform_frequencies() -> None:
    selector = Uniform(50)
    selector.add(np.arange(50))
    selector.remove(np.arange(0, 50, 3))
    ids, probability = selector.sample(100_000, np.random.default_rng(0))
    counts = np.bincount(ids, minlength=50)
    assert counts[::3].sum() == 0
    present = np.delete(counts, np.arange(0, 50, 3))
    assert abs(chi_square_in_sigmas(present, np.full(33, 1 / 33))) < 4
    assert (probability == 1 / 33).all()


def test_prioritized_frequencies_and_probabilities() -> None:
    selector, priority = Prioritized(40, exponent=0.5), np.arange(1.0, 41.0)
    selector.add(np.arange(40), priority)
    expected = np.sqrt(priority) / np.sqrt(priority).sum()
    ids, probability = selector.sample(100_000, np.random.default_rng(0))
    assert abs(chi_square_in_sigmas(np.bincount(ids, minlength=40), expected)) < 4
    np.testing.assert_allclose(probability, expected[ids], rtol=1e-12)


def test_stratified_has_one_sample_in_each_segment_and_the_right_frequencies() -> None:
    selector, priority = Prioritized(40, exponent=1.0, stratified=True), np.arange(1.0, 41.0)
    selector.add(np.arange(40), priority)
    share, n = priority / priority.sum(), 64
    ends = np.cumsum(share)
    rng = np.random.default_rng(0)
    counts, batches = np.zeros(40), 2000
    for _ in range(batches):
        ids, _ = selector.sample(n, rng)
        segment = np.arange(n)
        assert (ends[ids] >= segment / n - 1e-12).all()
        assert (ends[ids] - share[ids] <= (segment + 1) / n + 1e-12).all()
        counts += np.bincount(ids, minlength=40)
    expected = batches * n * share
    # Counts in a batch differ from their mean by less than 2, so they vary less than independent draws do.
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < 39
    np.testing.assert_allclose(counts, expected, atol=4 * np.sqrt(batches / 2))


def test_new_slots_get_the_largest_priority_present() -> None:
    selector = Prioritized(10, exponent=2.0)
    leaves = lambda: selector.state_dict()["leaves"]  # noqa: E731
    selector.add([0])
    assert leaves()[0] == 1.0
    selector.update([0], [0.5])
    selector.add([1])
    assert leaves()[:2].tolist() == [0.25, 0.25]
    selector.update([1], [3.0])
    selector.add([2, 3])
    assert leaves()[:4].tolist() == [0.25, 9.0, 9.0, 9.0]
    selector.remove([1, 2, 3])
    selector.add([4])  # the largest priority is gone with the slots that had it
    assert leaves()[4] == 0.25
    selector.remove([0, 4])
    selector.add([5])
    assert leaves()[5] == 1.0


def test_update_of_an_absent_slot_changes_nothing() -> None:
    selector = Prioritized(10, exponent=1.0)
    selector.add([1, 2], [1.0, 2.0])
    selector.update([3, 2, 4], [9.0, 5.0, 9.0])
    assert len(selector) == 2
    assert selector.state_dict()["leaves"].tolist() == [0, 1, 5, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_bad_priority_is_named_and_changes_nothing(value: float) -> None:
    selector = Prioritized(4, exponent=0.5)
    selector.add([0], [2.0])
    before = selector.state_dict()["leaves"].tolist()
    with pytest.raises(ValueError, match=f"got {value}"):
        selector.add([1, 2], [1.0, value])
    with pytest.raises(ValueError, match=f"got {value}"):
        selector.update([0, 3], [1.0, value])
    assert selector.state_dict()["leaves"].tolist() == before


@pytest.mark.parametrize("exponent", [-0.1, np.nan, np.inf])
def test_bad_exponent(exponent: float) -> None:
    with pytest.raises(ValueError, match="exponent"):
        Prioritized(4, exponent)


def test_shape_of_priority_is_checked() -> None:
    selector = Prioritized(4, exponent=1.0)
    with pytest.raises(ValueError, match="shape"):
        selector.add([0, 1], [1.0])
    with pytest.raises(ValueError, match="shape"):
        selector.update([0, 1], [1.0])


def test_a_tiny_priority_stays_present() -> None:
    selector = Prioritized(4, exponent=4.0)
    selector.add([0], [1e-200])
    assert len(selector) == 1
    assert selector.sample(3, np.random.default_rng(0))[0].tolist() == [0, 0, 0]


@BOTH
def test_state_round_trip_gives_the_same_samples(kind: str) -> None:
    rng = np.random.default_rng(3)
    selector = build(kind, 500)
    for _ in range(50):
        selector.add(rng.integers(500, size=30), rng.random(30) + 0.01)
        selector.remove(rng.integers(500, size=10))
    restored = build(kind, 500)
    restored.add(np.arange(100))
    state = selector.state_dict()
    restored.load_state_dict(state)
    assert len(restored) == len(selector)
    for seed in range(20):  # also after further changes
        pair = [s.sample(64, np.random.default_rng(seed)) for s in (selector, restored)]
        np.testing.assert_array_equal(pair[0][0], pair[1][0])
        np.testing.assert_array_equal(pair[0][1], pair[1][1])
        for s in (selector, restored):
            s.update(pair[0][0], np.linspace(0.1, 3.0, 64) * (seed + 1))
            s.remove(pair[0][0][:3])
            s.add([seed])


@BOTH
def test_state_is_a_copy(kind: str) -> None:
    selector = build(kind, 5)
    selector.add([3, 1])
    state = selector.state_dict()
    selector.remove([3])
    selector.add([0, 2])
    restored = build(kind, 5)
    restored.load_state_dict(state)
    assert set(restored.sample(100, np.random.default_rng(0))[0].tolist()) == {1, 3}


@BOTH
def test_state_of_another_capacity_is_refused(kind: str) -> None:
    with pytest.raises(CheckpointError, match="capacity 500, the config has 501"):
        build(kind, 501).load_state_dict(build(kind, 500).state_dict())


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("uniform", {"ids": np.array([1, 1])}),
        ("uniform", {"ids": np.array([5])}),
        ("uniform", {"ids": np.array([0.5])}),
        ("prioritized", {"leaves": np.ones(4)}),
        ("prioritized", {"leaves": np.full(5, -1.0)}),
    ],
)
def test_broken_state_is_refused(kind: str, change: dict[str, np.ndarray]) -> None:
    selector = build(kind, 5)
    selector.add([2])
    with pytest.raises(CheckpointError):
        selector.load_state_dict(selector.state_dict() | change)
    assert len(selector) == 1
    key = next(iter(change))
    with pytest.raises(CheckpointError, match=key):
        selector.load_state_dict({k: v for k, v in selector.state_dict().items() if k != key})


@pytest.mark.parametrize(("old", "new"), [(0.5, 1.0), (1.0, 0.5), (0.6, 0.0), (0.0, 0.6)])
def test_a_changed_exponent_applies_to_loaded_priorities(old: float, new: float) -> None:
    priority = np.array([0.1, 1.0, 4.0])
    before, after = Prioritized(5, old), Prioritized(5, new)
    before.add([0, 1, 3], priority)
    after.load_state_dict(before.state_dict())
    assert len(after) == 3
    expected = priority**new if old > 0 else np.ones(3)
    np.testing.assert_allclose(after.state_dict()["leaves"][[0, 1, 3]], expected, rtol=1e-12)


def test_importance_weights_by_hand() -> None:
    probability = np.array([0.5, 0.25, 0.125])
    weights = importance_weights(probability, size=4, beta=1.0)
    assert weights.dtype == np.float32
    assert weights.tolist() == [0.5, 1.0, 2.0]
    np.testing.assert_allclose(importance_weights(probability, 4, 0.5), np.sqrt([0.5, 1.0, 2.0]), rtol=1e-6)
    assert importance_weights(probability, 4, 0.0).tolist() == [1.0, 1.0, 1.0]
