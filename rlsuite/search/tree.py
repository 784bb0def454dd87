"""Search trees of many games at once, as arrays. How edges are chosen is the business of `puct` and `gumbel`.

Shapes: B trees, N nodes and E edges a tree, A actions, R bytes a row. A node's legal moves are edges that lie in one piece of its
tree's edges, so a position with few moves costs little (compressed sparse rows). Values are kept on edges, for the player who
moves along the edge: a player may move twice in a row. What a net says comes from outside, a leaf of every tree at a time.
"""

from collections.abc import Callable
from functools import cache
from math import exp
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.envs.boards.game import Game, Rules

Policy = NDArray[np.float64]  # [A] probabilities of a root's moves

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
    noise: NDArray[np.float64]  # [B,A] of the root's edges
    rng: NDArray[np.uint64]  # [B] state of every tree's own random numbers


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
        noise=np.zeros((trees, game.num_actions), np.float64),
        rng=streams,
    )


@njit(cache=True)
def back_up(tree: Tree, b: int, value: float) -> None:
    """`value` to player 0 goes to every edge of the path, as the player who moved along it sees it."""
    for step in range(tree.depth[b]):
        node, edge = tree.path[b, step]
        tree.visits[b, edge] += 1
        tree.total[b, edge] += value if tree.player[b, node] == 0 else -value
    tree.done[b] += 1


class Method(NamedTuple):
    """How a search explores; `config` is the method's own named tuple. Functions that numba compiles."""

    begin: Callable[[Tree, int, Any], None]  # when tree b's root has its edges
    choose: Callable[[Tree, int, int, int, Any], int]  # the edge to follow from a node, of so many simulations in all
    conclude: Callable[[Tree, int, Any, Policy], int]  # writes the root's policy [A] into zeros, returns the action to play


class Kernels(NamedTuple):
    """Functions of a tree that call a game's rules, compiled for that game and method."""

    set_roots: Callable[[Tree, NDArray[np.int32], NDArray[np.int8]], None]
    step: Callable[[Tree, NDArray[np.int32], int, Any, NDArray[np.int32]], int]
    gather: Callable[[Tree, NDArray[np.int32], NDArray[np.int8]], None]
    expand: Callable[[Tree, NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], Any], None]
    conclude: Callable[[Tree, Any, NDArray[np.float64], NDArray[np.int64]], None]


@cache
def kernels(rules: Rules, method: Method) -> Kernels:
    """Compiled when first called: some seconds a game."""
    begin, choose, conclude = method
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
    def step_one(tree: Tree, b: int, simulations: int, config: Any) -> bool:
        if tree.over[b, 0]:
            return False
        if tree.fanout[b, 0] == 0:
            tree.depth[b], tree.leaf[b] = 0, 0
            return True
        while tree.done[b] < simulations:
            node, depth = 0, 0
            while tree.fanout[b, node] > 0:
                edge = choose(tree, b, node, simulations, config)
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
    def step(tree: Tree, trees: NDArray[np.int32], simulations: int, config: Any, waiting: NDArray[np.int32]) -> int:
        """Simulates in each of `trees` [n] until a leaf waits for the net or `simulations` are done; ends of games need no net.

        Writes the trees whose leaves wait into `waiting` [n] and returns how many they are.
        """
        found = 0
        for i in range(trees.shape[0]):
            if step_one(tree, trees[i], simulations, config):
                waiting[found] = trees[i]
                found += 1
        return found

    @njit(nogil=True)
    def expand_one(tree: Tree, b: int, logits: NDArray[np.float32], value: float, config: Any) -> None:
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
        else:
            begin(tree, b, config)

    @njit(nogil=True)
    def gather(tree: Tree, trees: NDArray[np.int32], planes: NDArray[np.int8]) -> None:
        """What the net shall see: the leaves of `trees` [n] into planes [n,C,H,W]."""
        for i in range(trees.shape[0]):
            b = trees[i]
            encode(tree.rows[b, tree.leaf[b]], planes[i])

    @njit(nogil=True)
    def expand(tree: Tree, trees: NDArray[np.int32], logits: NDArray[np.float32], values: NDArray[np.float32], config: Any) -> None:
        """Gives the leaves of `trees` [n] their edges and values, and backs these up.

        `logits` [n,A] of the net, of which those of legal moves count; `values` [n] to the players who move there.
        """
        for i in range(trees.shape[0]):
            expand_one(tree, trees[i], logits[i], values[i], config)

    @njit(nogil=True)
    def conclude_all(tree: Tree, config: Any, policies: NDArray[np.float64], actions: NDArray[np.int64]) -> None:
        """Policies [B,A], into zeros, and the actions [B] to play, of all trees."""
        for b in range(actions.shape[0]):
            actions[b] = conclude(tree, b, config, policies[b])

    return Kernels(set_roots, step, gather, expand, conclude_all)
