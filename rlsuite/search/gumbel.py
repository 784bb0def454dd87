"""Gumbel AlphaZero's search (Danihelka et al. 2022): a policy improvement at any number of simulations.

The root draws `considered` actions without replacement by Gumbel-top-k and shares its simulations among them by sequential
halving; below it the visits follow the improved policy. Values q are taken from [-1, 1] to [0, 1].
"""

from math import ceil, exp, log, log2
from typing import NamedTuple

import numpy as np
from numba import njit

from rlsuite.search.random import gumbel
from rlsuite.search.tree import Method, Policy, Tree

_TINY = 1e-38  # of a prior, whose logarithm is taken


class Gumbel(NamedTuple):
    considered: int = 16  # actions at the root
    c_visit: float = 50.0  # sigma(q) = (c_visit + most visits of an edge) c_scale q
    c_scale: float = 1.0
    noise: float = 1.0  # scale of the Gumbel variates; 0: the best move as it is known, for play


@njit(cache=True)
def considered_visits(considered: int, simulations: int, at: int) -> int:
    """Sequential halving as a schedule: how many visits an edge must have to be tried by simulation `at` (0-based).

    `considered` edges share the simulations in ceil(log2) phases; half of them stay in the next phase, never fewer than two.
    """
    if considered <= 1:
        return at
    phases = ceil(log2(considered))
    left, passed, visits = considered, 0, 0
    while True:
        extra = max(1, simulations // (phases * left))
        if at < passed + extra * left:
            return visits + (at - passed) // left
        passed += extra * left
        visits += extra
        left = max(2, left // 2)


@njit(cache=True)
def _scores(tree: Tree, b: int, node: int, config: Gumbel, scores: Policy) -> None:
    """log prior + sigma(completed q) of every edge; an edge never tried is worth the node's mixed value (eq. 33)."""
    first, count = tree.first[b, node], tree.fanout[b, node]
    visits, most, tried, worth = 0, 0, 0.0, 0.0
    for e in range(first, first + count):
        n = tree.visits[b, e]
        if n > 0:
            visits += n
            most = max(most, n)
            tried += tree.prior[b, e]
            worth += tree.prior[b, e] * tree.total[b, e] / n
    own = tree.value[b, node] if tree.player[b, node] == 0 else -tree.value[b, node]
    mixed = (own + visits * worth / tried) / (1 + visits) if visits > 0 and tried > 0.0 else own
    scale = (config.c_visit + most) * config.c_scale
    for i in range(count):
        e = first + i
        q = tree.total[b, e] / tree.visits[b, e] if tree.visits[b, e] > 0 else mixed
        scores[i] = log(max(tree.prior[b, e], _TINY)) + scale * (q + 1.0) / 2.0


@njit(cache=True)
def _softmax(scores: Policy) -> None:
    largest = scores.max()
    for i in range(scores.shape[0]):
        scores[i] = exp(scores[i] - largest)
    scores /= scores.sum()


@njit(cache=True)
def begin(tree: Tree, b: int, config: Gumbel) -> None:
    """When the root has its edges: their Gumbel variates."""
    for e in range(tree.fanout[b, 0]):
        tree.noise[b, e] = config.noise * gumbel(tree.rng, b) if config.noise > 0.0 else 0.0


@njit(cache=True)
def choose(tree: Tree, b: int, node: int, simulations: int, config: Gumbel) -> int:
    """The edge to follow. At the root: the best by Gumbel score of those whose turn it is. Below: where visits lag behind the
    improved policy most (eq. 14)."""
    first, count = tree.first[b, node], tree.fanout[b, node]
    scores = np.empty(count)
    _scores(tree, b, node, config, scores)
    best, best_score = first, -np.inf
    if node == 0:
        due = considered_visits(min(config.considered, count), simulations, tree.done[b])
        for i in range(count):
            if tree.visits[b, i] == due and scores[i] + tree.noise[b, i] > best_score:
                best, best_score = i, scores[i] + tree.noise[b, i]
        return best  # type: ignore[no-any-return]
    _softmax(scores)
    visits = 0
    for e in range(first, first + count):
        visits += tree.visits[b, e]
    for i in range(count):
        score = scores[i] - tree.visits[b, first + i] / (1.0 + visits)
        if score > best_score:
            best, best_score = first + i, score
    return best  # type: ignore[no-any-return]


@njit(cache=True)
def conclude(tree: Tree, b: int, config: Gumbel, policy: Policy) -> int:
    """Writes the improved policy [A], softmax of log prior + sigma(completed q), and returns the action to play: the best by
    Gumbel score of those visited most."""
    count = tree.fanout[b, 0]
    scores = np.empty(count)
    _scores(tree, b, 0, config, scores)
    most = 0
    for e in range(count):
        most = max(most, tree.visits[b, e])
    best, best_score = 0, -np.inf
    for e in range(count):
        if tree.visits[b, e] == most and scores[e] + tree.noise[b, e] > best_score:
            best, best_score = e, scores[e] + tree.noise[b, e]
    _softmax(scores)
    for e in range(count):
        policy[tree.action[b, e]] = scores[e]
    return tree.action[b, best]  # type: ignore[no-any-return]


GUMBEL = Method(begin, choose, conclude)
