"""PUCT: follow the largest Q + U, explore the root by Dirichlet noise (Silver et al. 2017, 2018)."""

from math import log, sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

from rlsuite.search.random import gamma
from rlsuite.search.tree import Method, Policy, Tree


class Puct(NamedTuple):
    """How edges are chosen. Exploration c = c_init + log((1 + n + c_base) / c_base), n visits of the node."""

    c_init: float = 1.25
    c_base: float = 19652.0
    fpu_reduction: float = 0.25  # an edge never tried is worth its node's value less this, times the root of the prior tried
    noise_fraction: float = 0.25  # of Dirichlet noise in the root's priors; 0: none
    noise_total: float = 10.0  # alpha times the number of legal moves: 10 gives chess 0.3 and Go 0.03


@njit(cache=True)
def choose(tree: Tree, b: int, node: int, simulations: int, puct: Puct) -> int:
    """The edge to follow: the largest Q + c P sqrt(n) / (1 + visits), the first of equals."""
    first, count = tree.first[b, node], tree.fanout[b, node]
    visits, worth, tried = 0, 0.0, 0.0
    for e in range(first, first + count):
        visits += tree.visits[b, e]
        worth += tree.total[b, e]
        if tree.visits[b, e] > 0:
            tried += tree.prior[b, e]
    own = tree.value[b, node] if tree.player[b, node] == 0 else -tree.value[b, node]
    unknown = (own + worth) / (1 + visits) - puct.fpu_reduction * sqrt(tried)
    scale = (puct.c_init + log((1.0 + visits + puct.c_base) / puct.c_base)) * sqrt(max(visits, 1))
    best, best_score = first, -np.inf
    for e in range(first, first + count):
        n = tree.visits[b, e]
        q = tree.total[b, e] / n if n > 0 else unknown
        score = q + scale * tree.prior[b, e] / (1 + n)
        if score > best_score:
            best, best_score = e, score
    return best  # type: ignore[no-any-return]


@njit(cache=True)
def begin(tree: Tree, b: int, puct: Puct) -> None:
    """When the root has its edges: Dirichlet noise in their priors."""
    if puct.noise_fraction == 0.0:
        return
    count = tree.fanout[b, 0]
    noise = np.empty(count)
    for i in range(count):
        noise[i] = gamma(tree.rng, b, puct.noise_total / count)
    total = noise.sum()
    for i in range(count):
        mixed = (1.0 - puct.noise_fraction) * tree.prior[b, i] + puct.noise_fraction * noise[i] / total
        tree.prior[b, i] = mixed


@njit(cache=True)
def conclude(tree: Tree, b: int, puct: Puct, policy: Policy) -> int:
    """Writes the policy [A], visits as probabilities, and returns the action that was visited most."""
    best, visits = 0, 0
    for e in range(tree.fanout[b, 0]):
        visits += tree.visits[b, e]
        if tree.visits[b, e] > tree.visits[b, best]:
            best = e
    for e in range(tree.fanout[b, 0]):
        policy[tree.action[b, e]] = tree.visits[b, e] / visits
    return tree.action[b, best]  # type: ignore[no-any-return]


PUCT = Method(begin, choose, conclude)
