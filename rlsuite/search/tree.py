"""Search trees of many games at once, as arrays. `puct` and `gumbel` decide which edges are followed.

Shapes: B trees, N nodes and E edges per tree, A actions, R bytes a row, K leaves of one tree that may wait at once, D moves of the
longest game. A node's legal moves are a contiguous range of its tree's edges (compressed sparse rows), so positions with few moves
cost little. Values are kept on edges, for the player who moves along the edge, because a player may move twice in a row.
Leaves are evaluated outside; a ticket, b * K + k, names a leaf that waits for its evaluation. Small functions are inlined
(`inline="always"`): passing a tree passes a hundred words, which took longer than the functions themselves.
"""

from collections.abc import Callable
from functools import cache
from math import exp, log
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.core.game import Game, Rules
from rlsuite.core.kernel_cache import kernel

PerAction = NDArray[np.float64]  # [A] one number per action: probabilities or scores

NO_CHILD = -1


# One record per node and per edge: a descent reads whole records, and each fits into one cache line.
NODE = np.dtype(
    [
        ("value", "f4"),  # for player 0: by the rules, by the net, or proven
        ("first", "i4"),  # first edge
        ("fanout", "i2"),  # number of edges; 0: not expanded, or the game is over
        ("player", "i1"),  # to move
        ("over", "u1"),  # the game is over
        ("proven", "u1"),  # `value` is that of perfect play; only with `solve`
        ("pending", "u1"),  # waits for its evaluation
    ],
    align=True,
)
EDGE = np.dtype(
    [
        ("total", "f8"),  # sum of values for the player who moves
        ("log_prior", "f8"),  # without noise
        ("prior", "f4"),
        ("child", "i4"),  # node, or NO_CHILD
        ("visits", "i4"),
        ("action", "i2"),
        ("flight", "i2"),  # waiting leaves below this edge: each counts as a visit that was lost (a virtual loss)
    ],
    align=True,
)
SLOT = np.dtype(
    [
        ("nodes", "i4"),  # in use
        ("edges", "i4"),  # in use
        ("done", "i4"),  # simulations since the root was set
        ("budget", "i4"),  # simulations to run
        ("planned", "i4"),  # simulations that sequential halving divides among the root's edges
        ("no_root_noise", "u1"),
        ("kept", "u1"),  # the root was a node of an earlier search and has kept its visits
        ("solve", "u1"),  # proven values are backed up (MCTS-Solver, Winands et al. 2008)
    ],
    align=True,
)
TICKET = np.dtype([("depth", "i4"), ("leaf", "i4")])  # number of edges in `path`, and the node that waits


class Tree(NamedTuple):
    """B trees. Node 0 is the root. `visits` and `total` of an edge count what was backed up through it."""

    rows: NDArray[np.int8]  # [B,N,R] positions
    node: NDArray[Any]  # [B,N] NODE
    edge: NDArray[Any]  # [B,E] EDGE
    slot: NDArray[Any]  # [B] SLOT
    path: NDArray[np.int32]  # [B,K,D,2] (node, edge taken) from the root to a waiting leaf
    ticket: NDArray[Any]  # [B,K] TICKET
    noise: NDArray[np.float64]  # [B,A] of the root's edges
    legal: NDArray[np.int32]  # [B,A] scratch space for legal actions
    scores: NDArray[np.float64]  # [B,A] scratch space for the scores of actions
    rng: NDArray[np.uint64]  # [B] state of each tree's random stream


def make_tree(game: Game, trees: int, simulations: int, seed: int, leaves: int = 1, solve: bool = False) -> Tree:
    """B = `trees` trees with room for `simulations` simulations each, of which K = `leaves` may wait at once."""
    nodes, num_actions = simulations + 1, game.num_actions
    slot = np.zeros(trees, SLOT)
    slot["budget"], slot["planned"], slot["solve"] = simulations, simulations, solve
    return Tree(
        rows=np.zeros((trees, nodes, game.start.size), np.int8),
        node=np.zeros((trees, nodes), NODE),
        edge=np.zeros((trees, nodes * num_actions), EDGE),
        slot=slot,
        path=np.zeros((trees, leaves, min(nodes, game.max_moves + 1), 2), np.int32),
        ticket=np.zeros((trees, leaves), TICKET),
        noise=np.zeros((trees, num_actions), np.float64),
        legal=np.zeros((trees, num_actions), np.int32),
        scores=np.zeros((trees, num_actions), np.float64),
        rng=np.random.SeedSequence(seed).generate_state(trees, np.uint64).astype(np.uint64),
    )


Nodes = NDArray[Any]  # [N] NODE of one tree
Edges = NDArray[Any]  # [E] EDGE of one tree


@njit(inline="always", error_model="numpy")
def tries(edges: Edges, e: int) -> int:
    """Visits of an edge, including those that wait for an evaluation."""
    return edges[e].visits + edges[e].flight  # type: ignore[no-any-return]


@njit(inline="always", error_model="numpy")
def proven(nodes: Nodes, edges: Edges, e: int) -> bool:
    """Whether the child of this edge is proven."""
    child = edges[e].child
    return child != NO_CHILD and nodes[child].proven != 0  # type: ignore[no-any-return]


@njit(inline="always", error_model="numpy")
def to_player(nodes: Nodes, node: int, player: int) -> float:
    """A node's own value, for `player`."""
    return float(nodes[node].value) if player == 0 else -float(nodes[node].value)


@njit(inline="always", error_model="numpy")
def worth(nodes: Nodes, edges: Edges, e: int, player: int) -> float:
    """Q of an edge that was tried, for the player who moves along it: the proven value, or the mean of the values backed up."""
    if proven(nodes, edges, e):
        return to_player(nodes, edges[e].child, player)
    return (edges[e].total - edges[e].flight) / tries(edges, e)  # type: ignore[no-any-return]


@njit(inline="always", error_model="numpy")
def proven_optimal(nodes: Nodes, edges: Edges, e: int) -> bool:
    """Whether the root and this edge of it are proven, and the edge keeps the root's value."""
    return nodes[0].proven != 0 and proven(nodes, edges, e) and nodes[edges[e].child].value == nodes[0].value


@njit(inline="always", error_model="numpy")
def proven_lost(nodes: Nodes, edges: Edges, e: int) -> bool:
    """Whether this edge of the root is proven lost while the root itself is not proven."""
    return nodes[0].proven == 0 and proven(nodes, edges, e) and to_player(nodes, edges[e].child, nodes[0].player) <= -1.0


@njit(inline="always", error_model="numpy")
def prove(nodes: Nodes, edges: Edges, node: int) -> bool:
    """Proves a node if it has a winning move or all of its moves are proven; returns whether it is."""
    player, first = nodes[node].player, nodes[node].first
    best, all_known = -1.0, True
    for e in range(first, first + nodes[node].fanout):
        if proven(nodes, edges, e):
            best = max(best, to_player(nodes, edges[e].child, player))
        else:
            all_known = False
    if best < 1.0 and not all_known:
        return False
    nodes[node].proven = 1
    nodes[node].value = best if player == 0 else -best
    return True


@njit(inline="always", error_model="numpy")
def back_up(tree: Tree, b: int, k: int, value: float) -> None:
    """Adds `value`, which is for player 0, to every edge of a ticket's path, with the sign of the player who moved there."""
    nodes, edges, path = tree.node[b], tree.edge[b], tree.path[b, k]
    going = nodes[tree.ticket[b, k].leaf].proven != 0
    for step in range(tree.ticket[b, k].depth - 1, -1, -1):
        node, e = path[step, 0], path[step, 1]
        if going:
            going = prove(nodes, edges, node)
        edges[e].visits += 1
        edges[e].total += value if nodes[node].player == 0 else -value
    tree.slot[b].done += 1


@njit(cache=True, error_model="numpy")
def keep_below(tree: Tree, b: int, root: int) -> None:
    """Makes an expanded node the root of tree b and keeps everything below it. No leaf may be waiting."""
    count = tree.slot[b].nodes
    place = np.zeros(count, np.int32)  # 0: dropped, otherwise 1 + the node's new place
    old = tree.edge[b, : tree.slot[b].edges].copy()
    place[root] = 1
    for node in range(root, count):  # a child comes after its parent
        if place[node] > 0:
            first = tree.node[b, node].first
            for e in range(first, first + tree.node[b, node].fanout):
                if old[e].child != NO_CHILD:
                    place[old[e].child] = 1
    nodes, edges = 0, 0
    for node in range(root, count):
        if place[node] > 0:
            nodes += 1
            place[node] = nodes
    for node in range(root, count):
        if place[node] == 0:
            continue
        at, first = place[node] - 1, tree.node[b, node].first
        tree.rows[b, at] = tree.rows[b, node]
        tree.node[b, at] = tree.node[b, node]
        tree.node[b, at].first = edges
        for e in range(first, first + tree.node[b, at].fanout):
            tree.edge[b, edges] = old[e]
            if old[e].child != NO_CHILD:
                tree.edge[b, edges].child = place[old[e].child] - 1
            edges += 1
    done = 0
    for e in range(tree.node[b, 0].fanout):
        done += tree.edge[b, e].visits
        tree.noise[b, e] = 0.0
    tree.slot[b].nodes, tree.slot[b].edges, tree.slot[b].done, tree.slot[b].kept = nodes, edges, done, 1


class Method(NamedTuple):
    """How a search explores: functions compiled by numba, whose last argument but one or last is the method's settings."""

    begin: Callable[[Tree, int, Any], None]  # (tree, b, settings): called once the root of tree b has its edges
    choose: Callable[[Tree, int, int, int, Any], int]  # (tree, b, node, simulations begun, settings) -> the edge to follow
    conclude: Callable[[Tree, int, Any, PerAction], int]  # writes the policy [A] into zeros, returns the action to play


class Kernels(NamedTuple):
    """The functions of a tree that need a game's rules, compiled for one game and method. See `kernels`."""

    set_roots: Callable[[Tree, NDArray[np.int32], NDArray[np.int8]], None]
    step: Callable[[Tree, NDArray[np.int32], Any, NDArray[np.int32], NDArray[np.int32]], tuple[int, int]]
    gather: Callable[[Tree, NDArray[np.int32], NDArray[np.int8], NDArray[np.uint64]], None]
    expand: Callable[[Tree, NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], Any], None]
    conclude: Callable[[Tree, NDArray[np.int32], Any, NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]], None]


@cache
def kernels(rules: Rules, method: Method) -> Kernels:
    """The kernels of a game and method. They are compiled when they are first called, which takes some seconds per game."""
    begin, choose, conclude = method
    player, legal, play, outcome, position_hash = rules.player, rules.legal, rules.play, rules.outcome, rules.hash

    @njit(nogil=True, error_model="numpy", inline="always")
    def place(tree: Tree, b: int, node: int) -> None:
        row, nodes = tree.rows[b, node], tree.node[b]
        over, value = outcome(row)
        nodes[node].over = over
        nodes[node].proven = over and tree.slot[b].solve != 0
        nodes[node].pending = 0
        nodes[node].value = value if over else 0.0
        nodes[node].player = player(row)
        nodes[node].fanout = 0

    @kernel(nogil=True, error_model="numpy")
    def set_roots(tree: Tree, trees: NDArray[np.int32], rows: NDArray[np.int8]) -> None:
        """Replaces `trees` [n] by new ones with roots `rows` [n,R]."""
        for i in range(trees.shape[0]):
            b = trees[i]
            for byte in range(rows.shape[1]):  # a loop, because a slice takes numba a second to compile
                tree.rows[b, 0, byte] = rows[i, byte]
            tree.slot[b].nodes, tree.slot[b].edges, tree.slot[b].done, tree.slot[b].kept = 1, 0, 0, 0
            place(tree, b, 0)

    @njit(nogil=True, error_model="numpy", inline="always")
    def descend(tree: Tree, b: int, k: int, begun: int, config: Any) -> int:
        """Goes down to a leaf, which it returns, and writes the path of ticket k."""
        nodes, edges, path = tree.node[b], tree.edge[b], tree.path[b, k]
        node, depth = 0, 0
        while nodes[node].fanout > 0 and nodes[node].proven == 0:
            e = choose(tree, b, node, begun, config)
            path[depth, 0], path[depth, 1] = node, e
            depth += 1
            if edges[e].child == NO_CHILD:
                new = tree.slot[b].nodes
                tree.slot[b].nodes = new + 1
                edges[e].child = new
                for byte in range(tree.rows.shape[2]):  # a loop, because numba is slow at assigning slices
                    tree.rows[b, new, byte] = tree.rows[b, node, byte]
                play(tree.rows[b, new], edges[e].action)
                place(tree, b, new)
            node = edges[e].child
        tree.ticket[b, k].depth, tree.ticket[b, k].leaf = depth, node
        return node

    @njit(nogil=True, error_model="numpy", inline="always")
    def step_one(tree: Tree, b: int, config: Any) -> int:
        """Runs simulations of tree b until leaves wait; returns how many, 0 if the search is done."""
        if tree.node[b, 0].fanout == 0:
            tree.ticket[b, 0].depth, tree.ticket[b, 0].leaf = 0, 0
            return 1
        out = 0
        while out < tree.ticket.shape[1] and tree.slot[b].done + out < tree.slot[b].budget and tree.node[b, 0].proven == 0:
            node = descend(tree, b, out, tree.slot[b].done + out, config)
            if tree.node[b, node].pending != 0:
                break  # the descent led to a leaf that is waiting already
            if tree.node[b, node].over != 0 or tree.node[b, node].proven != 0:
                back_up(tree, b, out, tree.node[b, node].value)
                continue
            tree.node[b, node].pending = 1
            for step in range(tree.ticket[b, out].depth):
                tree.edge[b, tree.path[b, out, step, 1]].flight += 1
            out += 1
        return out

    @kernel(nogil=True, error_model="numpy")
    def step(
        tree: Tree, trees: NDArray[np.int32], config: Any, waiting: NDArray[np.int32], finished: NDArray[np.int32]
    ) -> tuple[int, int]:
        """Simulates in each of `trees` [n] until K leaves wait or the search is done; ends of games need no evaluation.

        Writes the waiting tickets into `waiting` [n*K] and the trees that are done into `finished` [n], and returns their numbers.
        """
        found, ended, leaves = 0, 0, tree.ticket.shape[1]
        for i in range(trees.shape[0]):
            out = step_one(tree, trees[i], config)
            for k in range(out):
                waiting[found] = trees[i] * leaves + k
                found += 1
            if out == 0:
                finished[ended] = trees[i]
                ended += 1
        return found, ended

    @njit(nogil=True, error_model="numpy", inline="always")
    def expand_one(tree: Tree, b: int, k: int, logits: NDArray[np.float32], value: float, config: Any) -> None:
        leaf, first = tree.ticket[b, k].leaf, tree.slot[b].edges
        nodes, edges, actions = tree.node[b], tree.edge[b], tree.legal[b]
        count = legal(tree.rows[b, leaf], actions)
        largest = -np.inf
        for i in range(count):
            largest = max(largest, float(logits[actions[i]]))
        total = 0.0
        for i in range(count):
            e, above = first + i, float(logits[actions[i]]) - largest
            edges[e].action = actions[i]
            edges[e].log_prior = above
            edges[e].prior = exp(above)
            total += exp(above)
        log_total = log(total)
        for i in range(count):
            e = first + i
            edges[e].prior /= total
            edges[e].log_prior -= log_total
            edges[e].child = NO_CHILD
            edges[e].visits = 0
            edges[e].total = 0.0
            edges[e].flight = 0
        nodes[leaf].first, nodes[leaf].fanout = first, count
        tree.slot[b].edges = first + count
        nodes[leaf].pending = 0
        nodes[leaf].value = value if nodes[leaf].player == 0 else -value
        if leaf > 0:
            for step in range(tree.ticket[b, k].depth):
                edges[tree.path[b, k, step, 1]].flight -= 1
            back_up(tree, b, k, nodes[leaf].value)
        else:
            begin(tree, b, config)

    @kernel(nogil=True, error_model="numpy")
    def gather(tree: Tree, tickets: NDArray[np.int32], rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> None:
        """Writes the positions of waiting leaves: rows [n,R] and their hashes [n]."""
        leaves = tree.ticket.shape[1]
        for i in range(tickets.shape[0]):
            b, leaf = tickets[i] // leaves, tree.ticket[tickets[i] // leaves, tickets[i] % leaves].leaf
            for byte in range(rows.shape[1]):
                rows[i, byte] = tree.rows[b, leaf, byte]
            keys[i] = position_hash(rows[i])

    @kernel(nogil=True, error_model="numpy")
    def expand(
        tree: Tree, tickets: NDArray[np.int32], logits: NDArray[np.float32], values: NDArray[np.float32], config: Any
    ) -> None:
        """Expands the leaves of `tickets` [n] with their logits [n,A], and backs up their values [n] for the players to move."""
        leaves = tree.ticket.shape[1]
        for i in range(tickets.shape[0]):
            expand_one(tree, tickets[i] // leaves, tickets[i] % leaves, logits[i], values[i], config)

    @kernel(nogil=True, error_model="numpy")
    def conclude_all(
        tree: Tree,
        trees: NDArray[np.int32],
        config: Any,
        policies: NDArray[np.float64],
        actions: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> None:
        """Writes the policies [n,A] (into zeros), the actions [n] to play and the roots' values [n] for the players to move."""
        for i in range(trees.shape[0]):
            b = trees[i]
            actions[i] = conclude(tree, b, config, policies[i])
            nodes, edges = tree.node[b], tree.edge[b]
            if nodes[0].proven != 0:
                values[i] = to_player(nodes, 0, nodes[0].player)
                continue
            total, visits = 0.0, 0
            for e in range(nodes[0].fanout):
                total += edges[e].total
                visits += edges[e].visits
            values[i] = total / visits if visits > 0 else to_player(nodes, 0, nodes[0].player)

    return Kernels(set_roots, step, gather, expand, conclude_all)
