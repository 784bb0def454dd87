"""The sum tree against a naive one, an array whose cumulative sum is searched."""

import numpy as np
import pytest

from rlsuite.replay.sum_tree import SumTree

CAPACITIES = [1, 2, 7, 8, 9, 63, 64, 65, 100, 512, 513, 5000]


def inner_bytes(tree: SumTree) -> bytes:
    return tree._sums.tobytes() + tree._maxima.tobytes()


def naive_sample(leaves: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(leaves), uniforms * leaves.sum(), side="right")


def filled(capacity: int, seed: int = 0, zeros: float = 0.3) -> SumTree:
    rng = np.random.default_rng(seed)
    tree = SumTree(capacity)
    tree.set(np.arange(capacity), rng.random(capacity) * (rng.random(capacity) >= zeros))
    return tree


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_random_operations_equal_the_naive_tree(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    tree, naive = SumTree(capacity), np.zeros(capacity)
    for _ in range(400):
        n = int(rng.integers(0, 40))
        ids = rng.integers(capacity, size=n)
        if rng.random() < 0.3:  # an unroll of consecutive slots, as a ring writes it
            ids = (int(rng.integers(capacity)) + np.arange(n)) % capacity
        values = rng.integers(0, 5, size=n) * 0.25  # sums of quarters are exact, so points on a boundary are compared too
        tree.set(ids, values)
        for index, value in zip(ids, values, strict=True):
            naive[index] = value

        assert tree.total == naive.sum()
        assert tree.max == naive.max()
        assert tree.positive == np.count_nonzero(naive)
        np.testing.assert_array_equal(tree.get(ids), naive[ids])
        if naive.any():
            uniforms = rng.integers(0, 64, size=16) / 64
            np.testing.assert_array_equal(tree.sample(uniforms), naive_sample(naive, uniforms))
    np.testing.assert_array_equal(tree.leaves(), naive)


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_nodes_depend_on_the_leaves_alone(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    tree = SumTree(capacity)
    for _ in range(200):
        ids = rng.integers(capacity, size=int(rng.integers(1, 100)))
        tree.set(ids, rng.random(ids.size) * 10.0 ** rng.integers(-12, 12, size=ids.size))
    rebuilt, one_by_one = SumTree(capacity), SumTree(capacity)
    rebuilt.set(rng.integers(capacity, size=30), rng.random(30))  # earlier contents must not matter
    rebuilt.load_leaves(tree.leaves())
    for index in rng.permutation(capacity):
        one_by_one.set([index], tree.get([index]))

    assert inner_bytes(rebuilt) == inner_bytes(tree) == inner_bytes(one_by_one)
    assert (rebuilt.total, rebuilt.max, rebuilt.positive) == (tree.total, tree.max, tree.positive)
    assert tree.total == pytest.approx(tree.leaves().sum(), rel=1e-12)
    uniforms = rng.random(1000)
    np.testing.assert_array_equal(rebuilt.sample(uniforms), tree.sample(uniforms))


def test_random_weights_are_sampled_as_by_the_naive_tree() -> None:
    tree = filled(3000)
    uniforms = np.random.default_rng(1).random(20_000)
    np.testing.assert_array_equal(tree.sample(uniforms), naive_sample(tree.leaves(), uniforms))


def test_sampling_frequencies() -> None:
    tree, n = filled(100), 200_000
    leaves = tree.leaves()
    present = leaves > 0
    counts = np.bincount(tree.sample(np.random.default_rng(2).random(n)), minlength=100)
    assert counts[~present].sum() == 0
    expected = n * leaves[present] / leaves.sum()
    chi_square = ((counts[present] - expected) ** 2 / expected).sum()
    freedom = present.sum() - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)  # four standard deviations, both ways


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_points_on_boundaries_never_give_a_zero_leaf(capacity: int) -> None:
    edges = [0.0, np.nextafter(0.0, 1.0), 0.5, np.nextafter(1.0, 0.0), 1.0]
    for seed in range(50):
        tree = filled(capacity, seed, zeros=0.8)
        if tree.positive == 0:
            continue
        leaves = tree.leaves()
        boundaries = np.clip(np.cumsum(leaves) / tree.total, 0.0, 1.0)
        uniforms = np.concatenate([edges, boundaries, np.nextafter(boundaries, 0.0)])
        assert (leaves[tree.sample(uniforms)] > 0).all()
        present = np.flatnonzero(leaves)
        assert tree.sample([0.0, 1.0]).tolist() == [present[0], present[-1]]


def test_maximum_is_exact_when_it_is_overwritten() -> None:
    tree = SumTree(1000)
    tree.set(np.arange(1000), np.arange(1000))
    for largest in range(999, 990, -1):
        assert tree.max == largest
        tree.set([largest], [0.0])
    tree.set(np.arange(1000), np.zeros(1000))
    assert (tree.max, tree.total, tree.positive) == (0.0, 0.0, 0)


def test_last_of_equal_indices_counts() -> None:
    tree = SumTree(20)
    tree.set([3, 17, 3, 17, 3], [1.0, 2.0, 3.0, 0.0, 0.5])
    assert tree.leaves()[[3, 17]].tolist() == [0.5, 0.0]
    assert (tree.total, tree.max, tree.positive) == (0.5, 0.5, 1)


@pytest.mark.parametrize("capacity", [1, 8, 1000])
def test_empty_tree(capacity: int) -> None:
    tree = SumTree(capacity)
    assert (tree.total, tree.max, tree.positive, tree.capacity) == (0.0, 0.0, 0, capacity)
    with pytest.raises(ValueError, match="all leaves are zero"):
        tree.sample([0.5])
    tree.set([capacity - 1], [2.0])
    assert tree.sample(np.empty(0)).size == 0
    assert tree.sample([0.0, 0.99]).tolist() == [capacity - 1] * 2


@pytest.mark.parametrize("value", [-1.0, -1e-300, np.nan, np.inf, -np.inf])
def test_bad_value_is_named_and_changes_nothing(value: float) -> None:
    tree = filled(100)
    before = inner_bytes(tree) + tree.leaves().tobytes()
    with pytest.raises(ValueError, match=str(value)):
        tree.set([1, 2, 3], [0.5, value, 0.5])
    with pytest.raises(ValueError, match=str(value)):
        tree.load_leaves(np.full(100, value))
    assert inner_bytes(tree) + tree.leaves().tobytes() == before


@pytest.mark.parametrize("index", [-1, 100, 104, 2**40])
def test_index_out_of_range(index: int) -> None:
    tree = filled(100)  # 104 slots of room: the padding is out of range too
    before = inner_bytes(tree) + tree.leaves().tobytes()
    with pytest.raises(IndexError, match=str(index)):
        tree.set([5, index], [9.0, 9.0])
    with pytest.raises(IndexError, match=str(index)):
        tree.get([index])
    assert inner_bytes(tree) + tree.leaves().tobytes() == before


def test_other_bad_arguments() -> None:
    with pytest.raises(ValueError, match="capacity"):
        SumTree(0)
    tree = filled(10)
    with pytest.raises(TypeError, match="integers"):
        tree.set([1.5], [1.0])
    with pytest.raises(ValueError, match="shape"):
        tree.set([1, 2], [1.0])
    with pytest.raises(ValueError, match="shape"):
        tree.load_leaves(np.ones(9))
    for uniforms in ([-0.1], [1.1], [np.nan]):
        with pytest.raises(ValueError, match="uniforms"):
            tree.sample(uniforms)
    tree.set([0, 1], [1e308, 1e308])
    with pytest.raises(ValueError, match="overflows"):
        tree.sample([0.5])


def test_read_only_and_strided_input() -> None:
    ids, values = np.arange(20)[::2], np.ones(10, np.float32)
    ids.setflags(write=False)
    values.setflags(write=False)
    tree = SumTree(20)
    tree.set(ids, values)
    assert tree.leaves().tolist() == [1.0, 0.0] * 10
