"""Selectors, which decide which slots of a replay are sampled. They know slot numbers and priorities, but no data."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numba import njit

from rlsuite.core.errors import CheckpointError
from rlsuite.replay.sum_tree import Floats, Ids, SumTree, as_ids

State = dict[str, npt.NDArray[Any] | int | float]


class Selector(Protocol):
    """The interface of selectors. Slots are integers in [0, capacity); methods raise IndexError for others."""

    def add(self, ids: npt.ArrayLike, priority: npt.ArrayLike | None = None) -> None:
        """Makes the slots `ids` int64 [n] sampleable, or gives them a new `priority` float64 [n] if they already are."""
        ...

    def remove(self, ids: npt.ArrayLike) -> None:
        """Stops sampling the slots `ids` int64 [n]; those not present are ignored."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ids, Floats]:
        """Draws n slots int64 [n] with replacement, and returns the probability float64 [n] of each. ValueError if empty."""
        ...

    def update(self, ids: npt.ArrayLike, priority: npt.ArrayLike) -> None:
        """Sets a new `priority` float64 [n] for the slots `ids` int64 [n]; those not present are ignored."""
        ...

    def __len__(self) -> int:
        """Number of sampleable slots."""
        ...

    def total_weight(self) -> float:
        """The sum of all weights; the probability of a slot is its share of it."""
        ...

    def state_dict(self) -> State:
        """Arrays and numbers from which `load_state_dict` continues with the same samples, bit for bit."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned. CheckpointError if it does not fit."""
        ...


@njit(cache=True, nogil=True)
def _insert(dense: npt.NDArray[np.int32], position: npt.NDArray[np.int32], count: int, ids: Ids) -> int:
    for slot in ids:
        if position[slot] < 0:
            dense[count] = slot
            position[slot] = count
            count += 1
    return count


@njit(cache=True, nogil=True)
def _swap_remove(dense: npt.NDArray[np.int32], position: npt.NDArray[np.int32], count: int, ids: Ids) -> int:
    for slot in ids:
        hole = position[slot]
        if hole >= 0:
            count -= 1
            moved = dense[count]
            dense[hole] = moved
            position[moved] = hole
            position[slot] = -1
    return count


class Uniform:
    """Samples all present slots with equal probability, ignoring priorities. Adding and removing cost O(1) per slot."""

    def __init__(self, capacity: int) -> None:
        if not 1 <= capacity < 2**31:
            raise ValueError(f"capacity must be in [1, 2^31), got {capacity}")
        self.capacity = capacity
        self._dense = np.zeros(capacity, np.int32)  # the present slots in the first `_count` places, in any order
        self._position = np.full(capacity, -1, np.int32)  # index of a slot in `_dense`; -1 if absent
        self._count = 0

    def add(self, ids: npt.ArrayLike, priority: npt.ArrayLike | None = None) -> None:
        self._count = int(_insert(self._dense, self._position, self._count, as_ids(ids, self.capacity)))

    def remove(self, ids: npt.ArrayLike) -> None:
        self._count = int(_swap_remove(self._dense, self._position, self._count, as_ids(ids, self.capacity)))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ids, Floats]:
        if self._count == 0:
            raise ValueError("nothing to sample: the selector is empty")
        ids = self._dense[rng.integers(self._count, size=n)].astype(np.int64)
        return ids, np.full(n, 1.0 / self._count)

    def update(self, ids: npt.ArrayLike, priority: npt.ArrayLike) -> None:
        as_ids(ids, self.capacity)

    def __len__(self) -> int:
        return self._count

    def total_weight(self) -> float:
        """See `Selector`; every present slot has weight 1."""
        return float(self._count)

    def state_dict(self) -> State:
        # In the same order, so that the same random numbers give the same slots.
        return {"capacity": self.capacity, "ids": self._dense[: self._count].copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        _check_capacity(state, self.capacity)
        try:
            ids = as_ids(state["ids"], self.capacity)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CheckpointError(f"selector state: bad 'ids': {error}") from error
        if np.unique(ids).size != ids.size:
            raise CheckpointError("selector state: a slot is present twice")
        self._position[:] = -1
        self._count = int(_insert(self._dense, self._position, 0, ids))


class Prioritized:
    """Proportional prioritization: P(i) = p_i^exponent / sum_k p_k^exponent (Schaul et al. 2016, equation 1).

    `stratified` draws one sample from each of n equal segments of the total weight, as the paper does (appendix B.2.1): expected
    counts stay the same, their variance is lower, and samples come in the order of their slots.
    """

    def __init__(self, capacity: int, exponent: float, stratified: bool = False) -> None:
        if not 0.0 <= exponent < np.inf:
            raise ValueError(f"exponent must be finite and not negative, got {exponent}")
        self.capacity, self.exponent, self.stratified = capacity, float(exponent), stratified
        self._tree = SumTree(capacity)

    def add(self, ids: npt.ArrayLike, priority: npt.ArrayLike | None = None) -> None:
        """See `Selector`. Without `priority`, the slots get the largest priority present, or 1.0 if there is none.

        ValueError for a priority that is not finite and > 0.
        """
        slots = as_ids(ids, self.capacity)
        if priority is None:
            self._tree.set(slots, np.full(slots.size, self._tree.max if len(self) else 1.0))
        else:
            self._tree.set(slots, self._weights(priority))

    def remove(self, ids: npt.ArrayLike) -> None:
        slots = as_ids(ids, self.capacity)
        self._tree.set(slots, np.zeros(slots.size))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ids, Floats]:
        uniforms = rng.random(n)
        if self.stratified:
            uniforms = (np.arange(n) + uniforms) / n
        ids = self._tree.sample(uniforms)
        return ids, self._tree.get(ids) / self._tree.total

    def update(self, ids: npt.ArrayLike, priority: npt.ArrayLike) -> None:
        """See `Selector`. ValueError for a priority that is not finite and > 0, even if its slot is not present."""
        slots, weights = as_ids(ids, self.capacity), self._weights(priority)
        if weights.shape != slots.shape:
            raise ValueError(f"{slots.size} slots but priority of shape {list(weights.shape)}")
        present = self._tree.get(slots) > 0.0
        self._tree.set(slots[present], weights[present])

    def __len__(self) -> int:
        return self._tree.positive

    def total_weight(self) -> float:
        return float(self._tree.total)

    def state_dict(self) -> State:
        return {"capacity": self.capacity, "exponent": self.exponent, "leaves": self._tree.leaves()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Selector`. If the exponent in the config has changed, the new one is applied to the saved priorities.

        A saved exponent of 0 does not preserve priorities: they all come back equal.
        """
        _check_capacity(state, self.capacity)
        try:
            leaves, saved = np.array(state["leaves"], np.float64), float(state["exponent"])
            if saved != self.exponent and saved > 0.0:
                present = leaves > 0.0
                leaves[present] = _power(leaves[present], self.exponent / saved)
            self._tree.load_leaves(leaves)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"selector state: bad 'leaves' or 'exponent': {error}") from error

    def _weights(self, priority: npt.ArrayLike) -> Floats:
        values: Floats = np.asarray(priority, np.float64)
        good = (values > 0.0) & (values < np.inf)
        if not good.all():
            raise ValueError(f"priorities must be finite and > 0, got {values[~good].flat[0]}")
        return _power(values, self.exponent)


def importance_weights(probability: Floats, size: int, beta: float) -> npt.NDArray[np.float32]:
    """Importance weights (size * probability)^-beta, float32 [n] (Schaul et al. 2016, section 3.4).

    `probability`: float64 [n], of each sample. `size`: number of sampleable slots. `beta` >= 0; 1 corrects the bias fully.
    """
    weights: npt.NDArray[np.float32] = ((size * probability) ** -beta).astype(np.float32)
    return weights


def _power(priority: Floats, exponent: float) -> Floats:
    # A weight that underflows to zero would make the slot absent.
    weights: Floats = np.maximum(priority**exponent, np.finfo(np.float64).tiny)
    return weights


def _check_capacity(state: Mapping[str, Any], capacity: int) -> None:
    saved = state.get("capacity")
    if saved != capacity:
        raise CheckpointError(f"selector state was saved with capacity {saved}, the config has {capacity}")
