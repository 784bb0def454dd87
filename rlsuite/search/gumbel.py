"""Gumbel AlphaZero's search (Danihelka et al. 2022): a policy improvement at any number of simulations.

The root draws `considered` actions without replacement by Gumbel-top-k and shares its simulations among them by sequential
halving; below it the visits follow the improved policy. Values q are taken from [-1, 1] to [0, 1].
"""

from math import ceil, exp, log2
from typing import NamedTuple

import numpy as np
from numba import njit

from rlsuite.search.random import gumbel
from rlsuite.search.tree import Edges, Method, Nodes, Policy, Tree, proven_lost, proven_optimal, to_player, tries, worth


class Gumbel(NamedTuple):
    considered: int = 16  # actions at the root
    c_visit: float = 50.0  # sigma(q) = (c_visit + most visits of an edge) c_scale q
    c_scale: float = 1.0
    noise: float = 1.0  # scale of the Gumbel variates; 0: the best move as it is known, for play


@njit(cache=True, error_model="numpy")
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


@njit(cache=True, error_model="numpy")
def _score(nodes: Nodes, edges: Edges, node: int, config: Gumbel, scores: Policy) -> int:
    """log prior + sigma(completed q) of every edge into `scores`; an edge never tried is worth the node's mixed value (eq. 33).

    Returns the visits of all edges.
    """
    first, count, mover = nodes[node].first, nodes[node].fanout, nodes[node].player
    visits, most, tried, total = 0, 0, 0.0, 0.0
    for e in range(first, first + count):
        n = tries(edges, e)
        if n > 0:
            visits += n
            most = max(most, n)
            tried += edges[e].prior
            total += edges[e].prior * worth(nodes, edges, e, mover)
    own = to_player(nodes, node, mover)
    mixed = (own + visits * total / tried) / (1 + visits) if visits > 0 and tried > 0.0 else own
    scale = (config.c_visit + most) * config.c_scale
    for i in range(count):
        e = first + i
        q = worth(nodes, edges, e, mover) if tries(edges, e) > 0 else mixed
        scores[i] = edges[e].log_prior + scale * (q + 1.0) / 2.0
    return visits


@njit(cache=True, error_model="numpy")
def _softmax(scores: Policy, count: int) -> None:
    largest, total = -np.inf, 0.0
    for i in range(count):
        largest = max(largest, scores[i])
    for i in range(count):
        scores[i] = exp(scores[i] - largest)
        total += scores[i]
    for i in range(count):
        scores[i] /= total


@njit(cache=True, error_model="numpy")
def begin(tree: Tree, b: int, config: Gumbel) -> None:
    """When the root has its edges: their Gumbel variates."""
    for e in range(tree.node[b, 0].fanout):
        tree.noise[b, e] = config.noise * gumbel(tree.rng, b) if config.noise > 0.0 and tree.slot[b].no_root_noise == 0 else 0.0


@njit(cache=True, error_model="numpy")
def choose(tree: Tree, b: int, node: int, begun: int, config: Gumbel) -> int:
    """The edge to follow. At the root: the best by Gumbel score of those whose turn it is. Below, and at a root that has visits of
    an earlier search: where visits lag behind the improved policy most (eq. 14)."""
    nodes, edges, scores = tree.node[b], tree.edge[b], tree.scores[b]
    first, count = nodes[node].first, nodes[node].fanout
    visits = _score(nodes, edges, node, config, scores)
    best, best_score = first, -np.inf
    if node == 0 and tree.slot[b].kept == 0:
        due = considered_visits(min(config.considered, count), tree.slot[b].budget, begun)
        for i in range(count):
            if tries(edges, i) == due and scores[i] + tree.noise[b, i] > best_score:
                best, best_score = i, scores[i] + tree.noise[b, i]
        return best  # type: ignore[no-any-return]
    _softmax(scores, count)
    for i in range(count):
        score = scores[i] - tries(edges, first + i) / (1.0 + visits)
        if score > best_score:
            best, best_score = first + i, score
    return best  # type: ignore[no-any-return]


@njit(cache=True, error_model="numpy")
def conclude(tree: Tree, b: int, config: Gumbel, policy: Policy) -> int:
    """Writes the improved policy [A], softmax of log prior + sigma(completed q), and returns the action to play: the best by
    Gumbel score of those visited most. Where the root is proven, only moves that keep its value count; a move proven lost
    never does while others are open."""
    nodes, edges, scores = tree.node[b], tree.edge[b], tree.scores[b]
    count = nodes[0].fanout
    _score(nodes, edges, 0, config, scores)
    most, keep = 0, 0
    for e in range(count):
        if not proven_lost(nodes, edges, e):
            most = max(most, edges[e].visits)
        keep += proven_optimal(nodes, edges, e)
    best, best_score = 0, -np.inf
    for e in range(count):
        lost = proven_lost(nodes, edges, e)
        chosen = proven_optimal(nodes, edges, e) if keep > 0 else edges[e].visits == most and not lost
        if chosen and scores[e] + tree.noise[b, e] > best_score:
            best, best_score = e, scores[e] + tree.noise[b, e]
        if lost or (keep > 0 and not chosen):
            scores[e] = -np.inf
    _softmax(scores, count)
    for e in range(count):
        policy[edges[e].action] = scores[e]
    return edges[best].action  # type: ignore[no-any-return]


GUMBEL = Method(begin, choose, conclude)
