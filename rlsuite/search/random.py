"""Random numbers with one stream per tree, so that a tree's draws do not depend on the rest of the batch."""

from math import cos, log, pi, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.core.hashing import finalise


@njit(cache=True, error_model="numpy")
def uniform(rng: NDArray[np.uint64], b: int) -> float:
    """A uniform variate in [0, 1) from stream b (SplitMix64, Steele et al. 2014)."""
    rng[b] += np.uint64(0x9E3779B97F4A7C15)
    return float(finalise(rng[b]) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, error_model="numpy")
def gamma(rng: NDArray[np.uint64], b: int, shape: float) -> float:
    """A Gamma(shape, 1) variate from stream b (Marsaglia and Tsang 2000)."""
    boost = 1.0
    if shape < 1.0:
        boost = (1.0 - uniform(rng, b)) ** (1.0 / shape)
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / sqrt(9.0 * d)
    while True:
        x = sqrt(-2.0 * log(1.0 - uniform(rng, b))) * cos(2.0 * pi * uniform(rng, b))
        v = (1.0 + c * x) ** 3
        if v > 0.0 and log(1.0 - uniform(rng, b)) < 0.5 * x * x + d - d * v + d * log(v):
            return d * v * boost


@njit(cache=True, error_model="numpy")
def gumbel(rng: NDArray[np.uint64], b: int) -> float:
    """A standard Gumbel variate from stream b."""
    return -log(-log(1.0 - uniform(rng, b) * (1.0 - 2.0**-53) - 2.0**-54))
