"""A sum tree in numba: leaves are weights, and sampling picks a leaf with probability leaf / total.

Every node has 8 children, one cache line of float64, and is always recomputed from all of them in one fixed order. So the tree is a
pure function of its leaves: rounding errors do not accumulate, and a tree rebuilt from saved leaves is identical bit for bit,
whatever the history of updates. Batches go through the tree one level at a time: the cache misses of all queries on a level
overlap, whereas queries one after the other would wait for each miss in turn.

Layout: `leaves [rows, 8]` holds the leaves. `sums` and `maxima [inner rows, 8]` hold, level above level, one entry per row of the
level below; `starts [levels + 1]` is the first inner row of each level. The last row is the root.
"""

import math

import numpy as np
import numpy.typing as npt
from numba import njit

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_SHIFT = 3
_WIDTH = 1 << _SHIFT
_MASK = _WIDTH - 1
_LINE = 64  # bytes of a cache line


@njit(cache=True, nogil=True)
def _row_sum(rows: Floats, row: int) -> float:
    # Written out, so that no compiler setting can choose another order; in pairs, so that the additions overlap.
    even = (rows[row, 0] + rows[row, 4]) + (rows[row, 2] + rows[row, 6])
    odd = (rows[row, 1] + rows[row, 5]) + (rows[row, 3] + rows[row, 7])
    return even + odd  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _row_max(rows: Floats, row: int) -> float:
    largest = rows[row, 0]
    for child in range(1, _WIDTH):
        value = rows[row, child]
        largest = value if value > largest else largest
    return largest  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _pick(rows: Floats, row: int, point: float) -> tuple[int, float]:
    """The child of `row` that contains `point` on the scale of cumulative weights, and the position of `point` within it.

    The loop has no branches, because they would be mispredicted.
    """
    child, end, below = 0, 0.0, 0.0
    for j in range(_WIDTH):
        end += rows[row, j]
        passed = end <= point
        child += 1 if passed else 0
        below = end if passed else below
    if child == _WIDTH:
        # The running sum may be rounded to less than the row's sum, with `point` in between (or at the total itself): take the end
        # of the last positive child. There is one, since only rows with a positive sum are entered.
        child = _MASK
        while rows[row, child] == 0.0:
            child -= 1
        return child, rows[row, child]
    return child, point - below  # the first child that ends above `point`, so its weight is positive


@njit(cache=True, nogil=True)
def _total(sums: Floats) -> float:
    return _row_sum(sums, sums.shape[0] - 1)


@njit(cache=True, nogil=True)
def _largest(maxima: Floats) -> float:
    return _row_max(maxima, maxima.shape[0] - 1)


@njit(cache=True, nogil=True)
def _first_outside(capacity: int, indices: Ids) -> int:
    for q in range(indices.size):
        if indices[q] < 0 or indices[q] >= capacity:
            return q
    return -1


@njit(cache=True, nogil=True)
def _first_bad_weight(values: Floats) -> int:
    for q in range(values.size):
        if not (values[q] >= 0.0 and values[q] < np.inf):
            return q
    return -1


@njit(cache=True, nogil=True)
def _refresh(leaves: Floats, sums: Floats, maxima: Floats, starts: Ids, touched: Ids) -> None:
    """Recomputes everything above the leaf rows `touched`, level by level. Overwrites `touched`."""
    below_sums, below_maxima, first = leaves, leaves, 0
    count = touched.size
    for level in range(starts.size - 1):
        start = starts[level]
        for q in range(count):
            row = touched[q]
            sums[start + (row >> _SHIFT), row & _MASK] = _row_sum(below_sums, first + row)
            maxima[start + (row >> _SHIFT), row & _MASK] = _row_max(below_maxima, first + row)
        below_sums, below_maxima, first = sums, maxima, start
        width = starts[level + 1] - start
        if count >= width:  # recomputing the whole level once is cheaper than rows repeatedly
            count = width
            for row in range(width):
                touched[row] = row
        else:  # consecutive rows with the same parent (as in an unroll of new items) need it only once
            kept, last = 0, -1
            for q in range(count):
                row = touched[q] >> _SHIFT
                touched[kept] = row
                kept += 1 if row != last else 0
                last = row
            count = kept


@njit(cache=True, nogil=True)
def _set(leaves: Floats, sums: Floats, maxima: Floats, starts: Ids, indices: Ids, values: Floats) -> int:
    """Writes checked leaves and refreshes the nodes above; returns the change in the number of positive leaves."""
    gained = 0
    touched = np.empty(indices.size, np.int64)
    for q in range(indices.size):
        row, child = indices[q] >> _SHIFT, indices[q] & _MASK
        gained += (1 if values[q] > 0.0 else 0) - (1 if leaves[row, child] > 0.0 else 0)
        leaves[row, child] = values[q]
        touched[q] = row
    _refresh(leaves, sums, maxima, starts, touched)
    return gained


@njit(cache=True, nogil=True)
def _sample(leaves: Floats, sums: Floats, starts: Ids, uniforms: Floats, total: float) -> Ids:
    node = np.zeros(uniforms.size, np.int64)
    point = uniforms * total
    for level in range(starts.size - 2, -1, -1):
        start = starts[level]
        for q in range(node.size):
            child, left = _pick(sums, start + node[q], point[q])
            node[q] = (node[q] << _SHIFT) + child
            point[q] = left
    for q in range(node.size):
        child, _ = _pick(leaves, node[q], point[q])
        node[q] = (node[q] << _SHIFT) + child
    return node


def _zeros(rows: int) -> Floats:
    """Zeros float64 [rows, 8], each row aligned to one cache line."""
    room = np.zeros(rows * _WIDTH * 8 + _LINE, np.uint8)
    skip = -room.ctypes.data % _LINE
    return room[skip : skip + rows * _WIDTH * 8].view(np.float64).reshape(rows, _WIDTH)


def as_ids(ids: npt.ArrayLike, capacity: int) -> Ids:
    """`ids` as a contiguous int64 [n]. IndexError for one outside [0, capacity), TypeError if they are not integers."""
    array = np.asarray(ids)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"slots must be integers, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"slots must have shape [n], got {list(array.shape)}")
    checked: Ids = np.ascontiguousarray(array, np.int64)
    bad = _first_outside(capacity, checked)
    if bad >= 0:
        raise IndexError(f"slot {array[bad]} is outside [0, {capacity})")
    return checked


class SumTree:
    """Weights float64 [capacity], all zero at first, from which indices are sampled in proportion. Not thread-safe."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        starts, entries = [0], -(-capacity // _WIDTH)
        self._leaves = _zeros(entries)
        while len(starts) == 1 or entries > 1:
            entries = -(-entries // _WIDTH)
            starts.append(starts[-1] + entries)
        self._starts = np.array(starts, np.int64)
        self._sums, self._maxima = _zeros(starts[-1]), _zeros(starts[-1])
        self._positive = 0

    @property
    def total(self) -> float:
        """Sum of all leaves."""
        return float(_total(self._sums))

    @property
    def max(self) -> float:
        """Largest leaf; 0.0 in an empty tree."""
        return float(_largest(self._maxima))

    @property
    def positive(self) -> int:
        """Number of leaves above zero."""
        return self._positive

    def set(self, indices: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Overwrites the leaves `indices` int64 [n] with `values` float64 [n]; for repeated indices, the last value counts.

        IndexError for an index out of range, ValueError for a value that is negative, infinite or nan; the tree is then unchanged.
        """
        ids = as_ids(indices, self.capacity)
        weights = self._weights(values, ids.shape)
        self._positive += int(_set(self._leaves, self._sums, self._maxima, self._starts, ids, weights))

    def get(self, indices: npt.ArrayLike) -> Floats:
        """The leaves `indices` int64 [n], as float64 [n]. IndexError for an index out of range."""
        return self._flat()[as_ids(indices, self.capacity)]

    def sample(self, uniforms: npt.ArrayLike) -> Ids:
        """Indices int64 [n] of the leaves that contain `u * total` on the scale of cumulative weights, for u in `uniforms`.

        `uniforms`: float64 [n] in [0, 1). 1.0 is accepted too, because `(n - 1 + u) / n` may be rounded to it, and gives the last
        positive leaf. A zero leaf is never returned. ValueError if all leaves are zero, if their sum overflows, or for a uniform
        out of range.
        """
        points: Floats = np.ascontiguousarray(uniforms, np.float64)
        total = self.total
        if not 0.0 < total < math.inf:
            raise ValueError("nothing to sample: all leaves are zero" if total == 0.0 else "the leaves' sum overflows")
        if points.ndim != 1:
            raise ValueError(f"uniforms must have shape [n], got {list(points.shape)}")
        if points.size and not (points.min() >= 0.0 and points.max() <= 1.0):
            raise ValueError(f"uniforms must be in [0, 1), got {points.min()} to {points.max()}")
        sampled: Ids = _sample(self._leaves, self._sums, self._starts, points, total)
        return sampled

    def leaves(self) -> Floats:
        """A copy of all leaves, float64 [capacity]; nothing else has to be saved."""
        return self._flat().copy()

    def load_leaves(self, array: npt.ArrayLike) -> None:
        """Replaces all leaves by `array` float64 [capacity]. ValueError for another shape or a value that `set` would refuse."""
        weights = self._weights(array, (self.capacity,))
        self._flat()[:] = weights
        self._positive = int(np.count_nonzero(weights))
        rows = np.arange(self._leaves.shape[0])
        _refresh(self._leaves, self._sums, self._maxima, self._starts, rows)

    def _flat(self) -> Floats:
        return self._leaves.reshape(-1)[: self.capacity]

    @staticmethod
    def _weights(values: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
        weights: Floats = np.ascontiguousarray(values, np.float64)
        if weights.shape != shape:
            raise ValueError(f"values have shape {list(weights.shape)}, expected {list(shape)}")
        bad = _first_bad_weight(weights)
        if bad >= 0:
            raise ValueError(f"leaf values must be finite and not negative, got {weights[bad]}")
        return weights
