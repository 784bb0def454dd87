"""The search of Gumbel AlphaZero (Danihelka et al. 2022): a policy improvement with any number of simulations.

At the root, Gumbel-top-k samples `considered` actions without replacement, and sequential halving divides the simulations among
them. Below the root, visits follow the improved policy. Values q are mapped from [-1, 1] to [0, 1].
"""

from math import ceil, exp, log2
from typing import NamedTuple

import numpy as np
from numba import njit

from rlsuite.search.random import gumbel
from rlsuite.search.tree import Edges, Method, Nodes, PerAction, Tree, proven_lost, proven_optimal, to_player, tries, worth


class Gumbel(NamedTuple):
    """Settings of the Gumbel search."""

    considered: int = 16  # actions at the root
    c_visit: float = 50.0  # sigma(q) = (c_visit + visits of the most visited edge) * c_scale * q
    c_scale: float = 1.0
    noise: float = 1.0  # scale of the Gumbel variates; 0 for play: the best move as far as the search knows


@njit(cache=True, error_model="numpy")
def considered_visits(considered: int, simulations: int, at: int) -> int:
    """The schedule of sequential halving: the number of visits that an edge must have to be tried by simulation `at` (from 0).

    `considered` edges share the simulations in ceil(log2(considered)) phases. After each phase, half of the edges remain, at least
    two.
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
def _score(nodes: Nodes, edges: Edges, node: int, config: Gumbel, scores: PerAction) -> int:
    """Writes log prior + sigma(completed q) of every edge of a node into `scores`, and returns the sum of their visits.

    The q of an edge that was never tried is the node's mixed value (eq. 33).
    """
    first, count, mover = nodes[node].first, nodes[node].fanout, nodes[node].player
    visits, most, tried, total = 0, 0, 0.0, 0.0
    for i in range(count):
        e = first + i
        n = tries(edges, e)
        if n > 0:
            visits += n
            most = max(most, n)
            tried += edges[e].prior
            scores[i] = worth(edges, e)
            total += edges[e].prior * scores[i]
    own = to_player(nodes, node, mover)
    mixed = (own + visits * total / tried) / (1 + visits) if visits > 0 and tried > 0.0 else own
    scale = (config.c_visit + most) * config.c_scale
    for i in range(count):
        e = first + i
        q = scores[i] if tries(edges, e) > 0 else mixed
        scores[i] = edges[e].log_prior + scale * (q + 1.0) / 2.0
    return visits


@njit(cache=True, error_model="numpy")
def _softmax(scores: PerAction, count: int) -> None:
    """Softmax of the first `count` scores, in place."""
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
    """Draws the Gumbel variates of the root's edges; called once the root has edges."""
    for e in range(tree.node[b, 0].fanout):
        tree.noise[b, e] = config.noise * gumbel(tree.rng, b) if config.noise > 0.0 and tree.slot[b].no_root_noise == 0 else 0.0


@njit(cache=True, error_model="numpy")
def choose(tree: Tree, b: int, node: int, begun: int, config: Gumbel) -> int:
    """The edge to follow.

    At the root, it has the best Gumbel score among the edges that sequential halving tries now. Below the root, at a root with
    visits from an earlier search, and after the planned number of simulations, its visits are the furthest below the improved
    policy (eq. 14).
    """
    nodes, edges, scores = tree.node[b], tree.edge[b], tree.scores[b]
    first, count = nodes[node].first, nodes[node].fanout
    visits = _score(nodes, edges, node, config, scores)
    best, best_score = first, -np.inf
    if node == 0 and tree.slot[b].kept == 0 and begun < tree.slot[b].planned:
        due = considered_visits(min(config.considered, count), tree.slot[b].planned, begun)
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
def conclude(tree: Tree, b: int, config: Gumbel, policy: PerAction) -> int:
    """Writes the improved policy [A], softmax(log prior + sigma(completed q)), and returns the action to play.

    The action has the best Gumbel score among the most visited edges. If the root is proven, only moves that keep its value are
    considered; if not, moves that are proven lost are left out.
    """
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


@njit(cache=True, error_model="numpy")
def value(tree: Tree, b: int, config: Gumbel) -> float:
    """The expectation of q under the improved policy, over the actions that were tried.

    The mean of the values backed up would be too low, because sequential halving also gives visits to bad moves.
    """
    nodes, edges, scores = tree.node[b], tree.edge[b], tree.scores[b]
    count, mover = nodes[0].fanout, nodes[0].player
    _score(nodes, edges, 0, config, scores)
    _softmax(scores, count)
    total, tried = 0.0, 0.0
    for e in range(count):
        if tries(edges, e) > 0:
            total += scores[e] * worth(edges, e)
            tried += scores[e]
    return total / tried if tried > 0.0 else to_player(nodes, 0, mover)


GUMBEL = Method(begin, choose, conclude, value)
