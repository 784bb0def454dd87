"""Search trees of many games at once, as arrays: PUCT (Silver et al. 2017), each tree with its own random numbers.

Shapes: B trees, N nodes and E edges a tree, A actions, R bytes a row. A node's legal moves are edges that lie in one piece of its
tree's edges, so a position with few moves costs little (compressed sparse rows). Values are kept on edges, for the player who
moves along the edge: a player may move twice in a row. What a net says comes from outside, a leaf of every tree at a time.
"""

from collections.abc import Callable
from functools import cache
from math import cos, exp, log, pi, sqrt
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.envs.boards.game import Game, Rules
from rlsuite.envs.boards.hashing import finalise

NO_CHILD = -1


class Tree(NamedTuple):
    """B trees. Node 0 is the root. `visits` and `total` of an edge count what was backed up through it."""

    rows: NDArray[np.int8]  # [B,N,R] positions
    player: NDArray[np.int8]  # [B,N] to move
    value: NDArray[np.float32]  # [B,N] to player 0, as the rules or the net said
    over: NDArray[np.bool_]  # [B,N] the game has ended here
    first: NDArray[np.int32]  # [B,N] first edge
    fanout: NDArray[np.int32]  # [B,N] edges; 0: not expanded, or over
    action: NDArray[np.int32]  # [B,E]
    prior: NDArray[np.float32]  # [B,E]
    child: NDArray[np.int32]  # [B,E] node, or NO_CHILD
    visits: NDArray[np.int32]  # [B,E]
    total: NDArray[np.float64]  # [B,E] sum of values to the player who moves
    nodes: NDArray[np.int32]  # [B] in use
    edges: NDArray[np.int32]  # [B] in use
    path: NDArray[np.int32]  # [B,N,2] nodes left and edges taken from the root to the leaf that waits for its evaluation
    depth: NDArray[np.int32]  # [B] edges in `path`
    leaf: NDArray[np.int32]  # [B] that leaf
    done: NDArray[np.int32]  # [B] simulations since the root was set
    rng: NDArray[np.uint64]  # [B] state of every tree's own random numbers


class Puct(NamedTuple):
    """How edges are chosen. Exploration c = c_init + log((1 + n + c_base) / c_base), n visits of the node."""

    c_init: float = 1.25
    c_base: float = 19652.0
    fpu_reduction: float = 0.25  # an edge never tried is worth its node's value less this, times the root of the prior tried
    noise_fraction: float = 0.25  # of Dirichlet noise in the root's priors; 0: none
    noise_total: float = 10.0  # alpha times the number of legal moves: 10 gives chess 0.3 and Go 0.03


def make_tree(game: Game, trees: int, simulations: int, seed: int) -> Tree:
    """Room for `simulations` of each of B = `trees` games."""
    nodes, rows = simulations + 1, game.start.size
    shape, along = (trees, nodes), (trees, nodes * game.num_actions)
    streams = np.random.SeedSequence(seed).generate_state(trees, np.uint64).astype(np.uint64)
    return Tree(
        rows=np.zeros((*shape, rows), np.int8),
        player=np.zeros(shape, np.int8),
        value=np.zeros(shape, np.float32),
        over=np.zeros(shape, np.bool_),
        first=np.zeros(shape, np.int32),
        fanout=np.zeros(shape, np.int32),
        action=np.zeros(along, np.int32),
        prior=np.zeros(along, np.float32),
        child=np.full(along, NO_CHILD, np.int32),
        visits=np.zeros(along, np.int32),
        total=np.zeros(along, np.float64),
        nodes=np.zeros(trees, np.int32),
        edges=np.zeros(trees, np.int32),
        path=np.zeros((*shape, 2), np.int32),
        depth=np.zeros(trees, np.int32),
        leaf=np.zeros(trees, np.int32),
        done=np.zeros(trees, np.int32),
        rng=streams,
    )


@njit(cache=True)
def uniform(rng: NDArray[np.uint64], b: int) -> float:
    """In [0, 1), from tree b's own stream (SplitMix64, Steele et al. 2014)."""
    rng[b] += np.uint64(0x9E3779B97F4A7C15)
    return float(finalise(rng[b]) >> np.uint64(11)) * 2.0**-53


@njit(cache=True)
def gamma(rng: NDArray[np.uint64], b: int, shape: float) -> float:
    """A Gamma(shape, 1) variate (Marsaglia and Tsang 2000)."""
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


@njit(cache=True)
def choose(tree: Tree, b: int, node: int, puct: Puct) -> int:
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
def back_up(tree: Tree, b: int, value: float) -> None:
    """`value` to player 0 goes to every edge of the path, as the player who moved along it sees it."""
    for step in range(tree.depth[b]):
        node, edge = tree.path[b, step]
        tree.visits[b, edge] += 1
        tree.total[b, edge] += value if tree.player[b, node] == 0 else -value
    tree.done[b] += 1


@njit(cache=True)
def add_noise(tree: Tree, b: int, puct: Puct) -> None:
    """Dirichlet noise in the root's priors."""
    count = tree.fanout[b, 0]
    noise = np.empty(count)
    for i in range(count):
        noise[i] = gamma(tree.rng, b, puct.noise_total / count)
    total = noise.sum()
    for i in range(count):
        mixed = (1.0 - puct.noise_fraction) * tree.prior[b, i] + puct.noise_fraction * noise[i] / total
        tree.prior[b, i] = mixed


class Kernels(NamedTuple):
    """Functions of a tree that call a game's rules, compiled for that game."""

    set_roots: Callable[[Tree, NDArray[np.int32], NDArray[np.int8]], None]
    step: Callable[[Tree, NDArray[np.int32], int, Puct, NDArray[np.int32]], int]
    gather: Callable[[Tree, NDArray[np.int32], NDArray[np.int8]], None]
    expand: Callable[[Tree, NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], Puct], None]


@cache
def kernels(rules: Rules) -> Kernels:
    """Compiled when first called: about two seconds a game."""
    player, legal, play, outcome, encode = rules.player, rules.legal, rules.play, rules.outcome, rules.encode

    @njit(nogil=True)
    def place(tree: Tree, b: int, node: int) -> None:
        row = tree.rows[b, node]
        over, value = outcome(row)
        tree.over[b, node] = over
        tree.value[b, node] = value if over else 0.0
        tree.player[b, node] = player(row)
        tree.fanout[b, node] = 0

    @njit(nogil=True)
    def set_roots(tree: Tree, trees: NDArray[np.int32], rows: NDArray[np.int8]) -> None:
        """Forgets `trees` [n] and begins new ones at `rows` [n,R]."""
        for i in range(trees.shape[0]):
            b = trees[i]
            tree.rows[b, 0] = rows[i]
            tree.nodes[b], tree.edges[b], tree.depth[b], tree.leaf[b], tree.done[b] = 1, 0, 0, 0, 0
            place(tree, b, 0)

    @njit(nogil=True)
    def step_one(tree: Tree, b: int, simulations: int, puct: Puct) -> bool:
        if tree.over[b, 0]:
            return False
        if tree.fanout[b, 0] == 0:
            tree.depth[b], tree.leaf[b] = 0, 0
            return True
        while tree.done[b] < simulations:
            node, depth = 0, 0
            while tree.fanout[b, node] > 0:
                edge = choose(tree, b, node, puct)
                tree.path[b, depth, 0], tree.path[b, depth, 1] = node, edge
                depth += 1
                if tree.child[b, edge] == NO_CHILD:
                    new = tree.nodes[b]
                    tree.nodes[b] = new + 1
                    tree.child[b, edge] = new
                    tree.rows[b, new] = tree.rows[b, node]
                    play(tree.rows[b, new], tree.action[b, edge])
                    place(tree, b, new)
                node = tree.child[b, edge]
            tree.depth[b], tree.leaf[b] = depth, node
            if not tree.over[b, node]:
                return True
            back_up(tree, b, tree.value[b, node])
        return False

    @njit(nogil=True)
    def step(tree: Tree, trees: NDArray[np.int32], simulations: int, puct: Puct, waiting: NDArray[np.int32]) -> int:
        """Simulates in each of `trees` [n] until a leaf waits for the net or `simulations` are done; ends of games need no net.

        Writes the trees whose leaves wait into `waiting` [n] and returns how many they are.
        """
        found = 0
        for i in range(trees.shape[0]):
            if step_one(tree, trees[i], simulations, puct):
                waiting[found] = trees[i]
                found += 1
        return found

    @njit(nogil=True)
    def expand_one(tree: Tree, b: int, logits: NDArray[np.float32], value: float, puct: Puct) -> None:
        leaf = tree.leaf[b]
        first = tree.edges[b]
        actions = tree.action[b, first : first + logits.shape[0]]
        count = legal(tree.rows[b, leaf], actions)
        largest = -np.inf
        for i in range(count):
            largest = max(largest, float(logits[actions[i]]))
        total = 0.0
        for i in range(count):
            total += exp(logits[actions[i]] - largest)
        for i in range(count):
            edge = first + i
            tree.prior[b, edge] = exp(logits[actions[i]] - largest) / total
            tree.child[b, edge] = NO_CHILD
            tree.visits[b, edge] = 0
            tree.total[b, edge] = 0.0
        tree.first[b, leaf], tree.fanout[b, leaf] = first, count
        tree.edges[b] = first + count
        tree.value[b, leaf] = value if tree.player[b, leaf] == 0 else -value
        if leaf > 0:
            back_up(tree, b, tree.value[b, leaf])
        elif puct.noise_fraction > 0:
            add_noise(tree, b, puct)

    @njit(nogil=True)
    def gather(tree: Tree, trees: NDArray[np.int32], planes: NDArray[np.int8]) -> None:
        """What the net shall see: the leaves of `trees` [n] into planes [n,C,H,W]."""
        for i in range(trees.shape[0]):
            b = trees[i]
            encode(tree.rows[b, tree.leaf[b]], planes[i])

    @njit(nogil=True)
    def expand(tree: Tree, trees: NDArray[np.int32], logits: NDArray[np.float32], values: NDArray[np.float32], puct: Puct) -> None:
        """Gives the leaves of `trees` [n] their edges and values, and backs these up.

        `logits` [n,A] of the net, of which those of legal moves count; `values` [n] to the players who move there.
        """
        for i in range(trees.shape[0]):
            expand_one(tree, trees[i], logits[i], values[i], puct)

    return Kernels(set_roots, step, gather, expand)
