"""PUCT: follow the edge with the largest Q + U, with Dirichlet noise at the root (Silver et al. 2017, 2018)."""

from math import ceil, floor, log, sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

from rlsuite.search.random import gamma
from rlsuite.search.tree import Method, PerAction, Tree, mean_value, proven, proven_lost, proven_optimal, to_player, tries, worth


class Puct(NamedTuple):
    """Settings of PUCT. The exploration constant is c = c_init + log((1 + n + c_base) / c_base) for n visits of the node."""

    c_init: float = 1.25
    c_base: float = 19652.0
    fpu_reduction: float = 0.25  # Q of an untried edge: its node's value - fpu_reduction * sqrt(prior of the tried edges)
    noise_fraction: float = 0.25  # share of Dirichlet noise in the root's priors; 0: none
    noise_total: float = 10.0  # alpha times the number of legal moves: 10 gives 0.3 in chess and 0.03 in Go
    forced: float = 0.0  # k: an edge of a noisy root that was tried gets sqrt(k * prior * visits) tries at least (Wu 2019, 3.2)


@njit(inline="always", error_model="numpy")
def _scale(puct: Puct, visits: int) -> float:
    """The weight of a prior against Q at a node with that many visits: c sqrt(n)."""
    return (puct.c_init + log((1.0 + visits + puct.c_base) / puct.c_base)) * sqrt(max(visits, 1))


@njit(cache=True, error_model="numpy")
def choose(tree: Tree, b: int, node: int, begun: int, puct: Puct) -> int:
    """The edge to follow: the first with the largest Q + c P sqrt(n) / (1 + visits) that is not proven lost."""
    nodes, edges = tree.node[b], tree.edge[b]
    first, count, mover = nodes[node].first, nodes[node].fanout, nodes[node].player
    visits, total, tried = 0, 0.0, 0.0
    for e in range(first, first + count):
        n = tries(edges, e)
        visits += n
        total += edges[e].total - edges[e].flight
        if n > 0:
            tried += edges[e].prior
    if node == 0 and puct.forced > 0.0 and tree.slot[b].no_root_noise == 0:
        for e in range(count):
            if 0 < tries(edges, e) < sqrt(puct.forced * edges[e].prior * visits) and not proven_lost(nodes, edges, e):
                return e
    unknown = (to_player(nodes, node, mover) + total) / (1 + visits) - puct.fpu_reduction * sqrt(tried)
    scale = _scale(puct, visits)
    best, best_score = first, -np.inf
    for e in range(first, first + count):
        n = tries(edges, e)
        q = worth(edges, e) if n > 0 else unknown
        if q <= -1.0 and proven(edges, e):
            continue
        score = q + scale * edges[e].prior / (1 + n)
        if score > best_score:
            best, best_score = e, score
    return best  # type: ignore[no-any-return]


@njit(cache=True, error_model="numpy")
def begin(tree: Tree, b: int, puct: Puct) -> None:
    """Mixes Dirichlet noise into the priors of the root's edges; called once the root has edges."""
    if puct.noise_fraction == 0.0 or tree.slot[b].no_root_noise != 0:
        return
    edges, count = tree.edge[b], tree.node[b, 0].fanout
    noise = np.empty(count)
    for e in range(count):
        noise[e] = gamma(tree.rng, b, puct.noise_total / count)
    total = noise.sum()
    for e in range(count):
        edges[e].prior = (1.0 - puct.noise_fraction) * edges[e].prior + puct.noise_fraction * noise[e] / total


@njit(cache=True, error_model="numpy")
def conclude(tree: Tree, b: int, puct: Puct, policy: PerAction) -> int:
    """Writes the policy [A], visits as probabilities, and returns the most visited action.

    If the root is proven, only moves that keep its value count, and they share the policy evenly. Otherwise, moves that are proven
    lost do not count, nor do forced visits, unless they made a move look as good as the best one.
    """
    nodes, edges = tree.node[b], tree.edge[b]
    visits, keep = 0, 0
    for e in range(nodes[0].fanout):
        if not proven_lost(nodes, edges, e):
            visits += edges[e].visits
        keep += proven_optimal(nodes, edges, e)
    if puct.forced > 0.0 and keep == 0 and visits > 0 and tree.slot[b].no_root_noise == 0:
        return _pruned(tree, b, puct, policy)
    best, most = 0, -1
    for e in range(nodes[0].fanout):
        if (keep > 0 and not proven_optimal(nodes, edges, e)) or proven_lost(nodes, edges, e):
            continue
        if keep > 0:
            policy[edges[e].action] = 1.0 / keep
        else:
            policy[edges[e].action] = edges[e].visits / visits if visits > 0 else edges[e].prior
        if edges[e].visits > most:
            best, most = e, edges[e].visits
    return edges[best].action  # type: ignore[no-any-return]


@njit(cache=True, error_model="numpy")
def _pruned(tree: Tree, b: int, puct: Puct, policy: PerAction) -> int:
    """Writes the visits without the forced ones as probabilities, and returns the most visited action (Wu 2019, section 3.2).

    An edge keeps as many visits as PUCT needs to prefer the best edge to it; a single visit that is left does not count.
    """
    nodes, edges = tree.node[b], tree.edge[b]
    visits, best = 0, -1
    for e in range(nodes[0].fanout):
        visits += edges[e].visits
        if not proven_lost(nodes, edges, e) and (best < 0 or edges[e].visits > edges[best].visits):
            best = e
    scale, total = _scale(puct, visits), 0.0
    most = worth(edges, best) + scale * edges[best].prior / (1 + edges[best].visits)
    for e in range(nodes[0].fanout):
        kept = float(edges[e].visits)
        if proven_lost(nodes, edges, e):
            kept = 0.0
        elif e != best and kept > 0.0:
            forced, above = floor(sqrt(puct.forced * edges[e].prior * visits)), most - worth(edges, e)
            needed = ceil(scale * edges[e].prior / above - 1.0) if above > 0.0 else kept
            kept = min(kept, max(kept - forced, needed))
            if kept <= 1.0:
                kept = 0.0
        policy[edges[e].action] = kept
        total += kept
    for e in range(nodes[0].fanout):
        policy[edges[e].action] /= total
    return edges[best].action  # type: ignore[no-any-return]


@njit(cache=True, error_model="numpy")
def value(tree: Tree, b: int, puct: Puct) -> float:
    """The mean of the values backed up."""
    return mean_value(tree, b)


PUCT = Method(begin, choose, conclude, value)
