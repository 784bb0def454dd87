"""A 64-bit hash of bytes, for numba."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def mix(row: NDArray[np.int8], seed: np.uint64) -> np.uint64:
    """The hash of bytes int8 [N]: every 64-bit word goes through SplitMix64's finaliser (Steele et al. 2014)."""
    value = seed + np.uint64(0x9E3779B97F4A7C15)
    word = np.uint64(0)
    for i in range(row.shape[0]):
        word = (word << np.uint64(8)) | np.uint64(np.uint8(row[i]))
        if i % 8 == 7 or i == row.shape[0] - 1:
            value = finalise(value ^ word) + np.uint64(0x9E3779B97F4A7C15)
            word = np.uint64(0)
    return value


@njit(cache=True)
def row_hash(row: NDArray[np.int8]) -> np.uint64:
    """The hash of a whole row, for games whose `encode` depends on all of it."""
    return mix(row, np.uint64(0))


@njit(cache=True)
def finalise(value: np.uint64) -> np.uint64:
    """SplitMix64's finaliser: a bijection that mixes all bits."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
