"""Search trees of many games at once, as arrays. `puct` and `gumbel` decide which edges are followed.

Shapes: B trees, N nodes and E edges per tree, A actions, R bytes a row, K leaves of one tree that may wait at once, D moves of the
longest game. A node's legal moves are a contiguous range of its tree's edges (compressed sparse rows), so positions with few moves
cost little. Values are kept on edges, for the player who moves along the edge, because a player may move twice in a row.
Leaves are evaluated by the caller; a ticket, b * K + k, is the number of a leaf that waits for its evaluation. Small functions are
inlined (`inline="always"`): passing a tree passes a hundred words, which took longer than the functions themselves.
"""

from collections.abc import Callable
from functools import cache
from math import exp, log
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.core.borrowed import borrowed
from rlsuite.core.game import Game, Rules
from rlsuite.core.kernel_cache import kernel

PerAction = NDArray[np.float64]  # [A] one number per action: probabilities or scores

NO_CHILD = -1
UNKNOWN = 2.0  # the `known` of an edge whose child is not proven; values are in [-1, 1]


# One record per node and per edge: a descent reads whole records, and each fits into one cache line. There is no padding between
# fields: its bytes would be undefined, and states are compared and saved as they are.
NODE = np.dtype(
    [
        ("value", "f4"),  # for player 0: by the rules, by the net, or proven
        ("first", "i4"),  # first edge
        ("fanout", "i4"),  # number of edges; 0: not expanded, or the game is over
        ("player", "i1"),  # to move
        ("over", "u1"),  # whether the game is over
        ("proven", "u1"),  # whether `value` is proven to be that of perfect play; only with `solve`
        ("pending", "u1"),  # whether it waits for its evaluation
    ],
    align=True,
)
EDGE = np.dtype(
    [
        ("total", "f8"),  # sum of values for the player who moves
        ("log_prior", "f4"),  # without noise
        ("prior", "f4"),
        ("known", "f4"),  # the child's value for the player who moves if it is proven, else UNKNOWN
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
        ("kept", "u1"),  # whether the root was a node of an earlier search and has kept its visits
        ("solve", "i2"),  # proven values are backed up (MCTS-Solver, Winands et al. 2008)
    ],
    align=True,
)
TICKET = np.dtype([("depth", "i4"), ("leaf", "i4")])  # number of edges in `path`, and the node that waits


class Tree(NamedTuple):
    """B trees. Node 0 is the root. An edge's `visits` and `total` are the number and the sum of the values backed up through it."""

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


@njit(inline="always", error_model="numpy")
def borrow(tree: Tree) -> Tree:
    """The same trees as `borrowed` arrays; a kernel starts with this."""
    return Tree(
        borrowed(tree.rows),
        borrowed(tree.node),
        borrowed(tree.edge),
        borrowed(tree.slot),
        borrowed(tree.path),
        borrowed(tree.ticket),
        borrowed(tree.noise),
        borrowed(tree.legal),
        borrowed(tree.scores),
        borrowed(tree.rng),
    )


Nodes = NDArray[Any]  # [N] NODE of one tree
Edges = NDArray[Any]  # [E] EDGE of one tree


@njit(inline="always", error_model="numpy")
def tries(edges: Edges, e: int) -> int:
    """Visits of an edge, including those that wait for an evaluation."""
    return edges[e].visits + edges[e].flight  # type: ignore[no-any-return]


@njit(inline="always", error_model="numpy")
def proven(edges: Edges, e: int) -> bool:
    """Whether the child of this edge is proven."""
    return edges[e].known != UNKNOWN  # type: ignore[no-any-return]


@njit(inline="always", error_model="numpy")
def to_player(nodes: Nodes, node: int, player: int) -> float:
    """A node's own value, for `player`."""
    return float(nodes[node].value) if player == 0 else -float(nodes[node].value)


@njit(inline="always", error_model="numpy")
def worth(edges: Edges, e: int) -> float:
    """Q of an edge that was tried, for the player who moves along it: the proven value, or the mean of the values backed up."""
    if proven(edges, e):
        return float(edges[e].known)
    return (edges[e].total - edges[e].flight) / tries(edges, e)  # type: ignore[no-any-return]


@njit(inline="always", error_model="numpy")
def proven_optimal(nodes: Nodes, edges: Edges, e: int) -> bool:
    """Whether the root and this edge of it are proven, and the edge keeps the root's value."""
    return nodes[0].proven != 0 and float(edges[e].known) == to_player(nodes, 0, nodes[0].player)


@njit(inline="always", error_model="numpy")
def proven_lost(nodes: Nodes, edges: Edges, e: int) -> bool:
    """Whether this edge of the root is proven lost while the root itself is not proven."""
    return nodes[0].proven == 0 and edges[e].known <= -1.0  # type: ignore[no-any-return]


@njit(inline="always", error_model="numpy")
def prove(nodes: Nodes, edges: Edges, node: int) -> bool:
    """Proves a node if it has a winning move or all of its moves are proven; returns whether it is."""
    first = nodes[node].first
    best, all_known = -1.0, True
    for e in range(first, first + nodes[node].fanout):
        if proven(edges, e):
            best = max(best, float(edges[e].known))
        else:
            all_known = False
    if best < 1.0 and not all_known:
        return False
    nodes[node].proven = 1
    nodes[node].value = best if nodes[node].player == 0 else -best
    return True


@njit(inline="always", error_model="numpy")
def back_up(tree: Tree, b: int, k: int, value: float) -> None:
    """Adds `value`, which is for player 0, to every edge of a ticket's path, with the sign of the player who moved there."""
    nodes, edges, path = tree.node[b], tree.edge[b], tree.path[b, k]
    below = tree.ticket[b, k].leaf
    going = nodes[below].proven != 0
    for step in range(tree.ticket[b, k].depth - 1, -1, -1):
        node, e = path[step, 0], path[step, 1]
        player = nodes[node].player
        if going:
            edges[e].known = to_player(nodes, below, player)
            going = prove(nodes, edges, node)
            below = node
        edges[e].visits += 1
        edges[e].total += value if player == 0 else -value
    tree.slot[b].done += 1


class Method(NamedTuple):
    """A search method: functions compiled by numba, each with the method's settings as an argument."""

    begin: Callable[[Tree, int, Any], None]  # (tree, b, settings): called once the root of tree b has its edges
    choose: Callable[[Tree, int, int, int, Any], int]  # (tree, b, node, simulations begun, settings) -> the edge to follow
    conclude: Callable[[Tree, int, Any, PerAction], int]  # writes the policy [A] into zeros, returns the action to play
    value: Callable[[Tree, int, Any], float]  # (tree, b, settings) -> the root's value, not proven, for the player to move


@njit(cache=True, error_model="numpy")
def mean_value(tree: Tree, b: int) -> float:
    """The mean of the values backed up to the root, for the player to move; without any, its own value."""
    nodes, edges = tree.node[b], tree.edge[b]
    total, visits = 0.0, 0
    for e in range(nodes[0].fanout):
        total += edges[e].total
        visits += edges[e].visits
    return total / visits if visits > 0 else to_player(nodes, 0, nodes[0].player)


class Functions(NamedTuple):
    """Functions on one tree of a game, inlined into the compiled code that calls them. See `functions`."""

    set_root: Callable[[Tree, int, NDArray[np.int8]], None]  # (tree, b, row)
    simulate: Callable[[Tree, int, Any], int]  # (tree, b, settings) -> number of tickets that wait; 0: the search is done
    # (tree, b, k, logits [A], value for the player to move, settings): expands the leaf of ticket k and backs up its value
    expand: Callable[[Tree, int, int, NDArray[np.float32], float, Any], None]
    root_value: Callable[[Tree, int, Any], float]  # (tree, b, settings) -> value found by a finished search, for the player to move


class Kernels(NamedTuple):
    """The functions of a tree that need a game's rules, compiled for one game and method. See `kernels`."""

    set_roots: Callable[[Tree, NDArray[np.int32], NDArray[np.int8]], None]
    step: Callable[..., int]
    read: Callable[..., None]


@cache
def functions(rules: Rules, method: Method) -> Functions:
    """The functions of a game and method, for use in kernels."""
    begin, choose, value_of = method.begin, method.choose, method.value
    player, legal, play, outcome = rules.player, rules.legal, rules.play, rules.outcome

    @njit(error_model="numpy", inline="always")
    def place(tree: Tree, b: int, node: int) -> None:
        row, nodes = tree.rows[b, node], tree.node[b]
        over, value = outcome(row)
        nodes[node].over = over
        nodes[node].proven = over and tree.slot[b].solve != 0
        nodes[node].pending = 0
        nodes[node].value = value if over else 0.0
        nodes[node].player = player(row)
        nodes[node].fanout = 0

    @njit(error_model="numpy", inline="always")
    def set_root(tree: Tree, b: int, row: NDArray[np.int8]) -> None:
        for byte in range(row.shape[0]):  # a loop, because a slice takes numba a second to compile
            tree.rows[b, 0, byte] = row[byte]
        tree.slot[b].nodes, tree.slot[b].edges, tree.slot[b].done, tree.slot[b].kept = 1, 0, 0, 0
        place(tree, b, 0)

    @njit(error_model="numpy", inline="always")
    def descend(tree: Tree, b: int, k: int, begun: int, config: Any) -> int:
        """Descends to a leaf and returns it; writes the path of ticket k."""
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

    @njit(error_model="numpy", inline="always")
    def simulate(tree: Tree, b: int, config: Any) -> int:
        if tree.node[b, 0].fanout == 0:
            tree.ticket[b, 0].depth, tree.ticket[b, 0].leaf = 0, 0
            return 1
        out = 0
        while out < tree.ticket.shape[1] and tree.slot[b].done + out < tree.slot[b].budget and tree.node[b, 0].proven == 0:
            node = descend(tree, b, out, tree.slot[b].done + out, config)
            if tree.node[b, node].pending != 0:
                break  # the descent led to a leaf that is already waiting
            if tree.node[b, node].over != 0 or tree.node[b, node].proven != 0:
                back_up(tree, b, out, tree.node[b, node].value)
                continue
            tree.node[b, node].pending = 1
            for step in range(tree.ticket[b, out].depth):
                tree.edge[b, tree.path[b, out, step, 1]].flight += 1
            out += 1
        return out

    @njit(error_model="numpy", inline="always")
    def expand(tree: Tree, b: int, k: int, logits: NDArray[np.float32], value: float, config: Any) -> None:
        leaf, first = tree.ticket[b, k].leaf, tree.slot[b].edges
        nodes, edges, actions = tree.node[b], tree.edge[b], tree.legal[b]
        count = legal(tree.rows[b, leaf], actions)
        largest = -np.inf
        for i in range(count):
            largest = max(largest, float(logits[actions[i]]))
        total = 0.0
        for i in range(count):
            e, above = first + i, float(logits[actions[i]]) - largest
            share = exp(above)
            edges[e].action = actions[i]
            edges[e].prior = share
            total += share
        log_total = log(total)
        for i in range(count):
            e = first + i
            edges[e].prior /= total
            edges[e].log_prior = float(logits[actions[i]]) - largest - log_total
            edges[e].known = UNKNOWN
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

    @njit(error_model="numpy", inline="always")
    def root_value(tree: Tree, b: int, config: Any) -> float:
        nodes = tree.node[b]
        if nodes[0].proven != 0:
            return to_player(nodes, 0, nodes[0].player)
        return value_of(tree, b, config)

    return Functions(set_root, simulate, expand, root_value)


@cache
def kernels(rules: Rules, method: Method) -> Kernels:
    """The kernels of a game and method. They are compiled when they are first called, which takes some seconds per game."""
    set_root, simulate, expand, root_value = functions(rules, method)
    conclude, position_hash = method.conclude, rules.hash

    @kernel(nogil=True, error_model="numpy")
    def set_roots(tree: Tree, trees: NDArray[np.int32], rows: NDArray[np.int8]) -> None:
        """Replaces `trees` [n] by new ones with roots `rows` [n,R]."""
        tree, rows = borrow(tree), borrowed(rows)
        for i in range(trees.shape[0]):
            set_root(tree, trees[i], rows[i])

    @kernel(nogil=True, error_model="numpy")
    def step(
        tree: Tree,
        config: Any,
        tickets: NDArray[np.int32],
        logits: NDArray[np.float32],
        values: NDArray[np.float32],
        trees: NDArray[np.int32],
        waiting: NDArray[np.int32],
        rows: NDArray[np.int8],
        keys: NDArray[np.uint64],
    ) -> int:
        """Expands leaves that waited, and simulates in each of `trees` [n] until K leaves wait or the search is done.

        `tickets` [m], in the order of their trees, waited; `logits` [m,A] and `values` [m], for the players to move, evaluate them.
        The tickets that wait now are written into `waiting` [n*K], their positions into `rows` [n*K,R] with their hashes `keys`
        [n*K]; returns their number. Positions where the game is over need no evaluation.
        """
        tree, logits, rows = borrow(tree), borrowed(logits), borrowed(rows)
        found, expanded, leaves = 0, 0, tree.ticket.shape[1]
        for i in range(trees.shape[0] + 1):
            b = int(trees[i]) if i < trees.shape[0] else tree.slot.shape[0]
            while expanded < tickets.shape[0] and tickets[expanded] // leaves <= b:  # here, where the tree is in the CPU's cache
                at = int(tickets[expanded])
                expand(tree, at // leaves, at % leaves, logits[expanded], values[expanded], config)
                expanded += 1
            if i == trees.shape[0]:
                break
            for k in range(simulate(tree, b, config)):
                leaf = tree.ticket[b, k].leaf
                waiting[found] = b * leaves + k
                for byte in range(rows.shape[1]):
                    rows[found, byte] = tree.rows[b, leaf, byte]
                keys[found] = position_hash(tree.rows[b, leaf])
                found += 1
        return found

    @kernel(nogil=True, error_model="numpy")
    def read(
        tree: Tree,
        config: Any,
        actions: NDArray[np.int64],
        policies: NDArray[np.float64],
        visits: NDArray[np.int32],
        values: NDArray[np.float64],
        priors: NDArray[np.float32],
        lines: NDArray[np.int32],
        lengths: NDArray[np.int32],
    ) -> None:
        """Writes the results of the searches of all trees into arrays of zeros.

        These are the actions [B] to play, the policies and visits [B,A], the roots' values [B] for the players to move, the priors
        [B,A], and the principal variations [B,D] with their lengths [B]: the action, then the most visited ones.
        """
        tree, policies = borrow(tree), borrowed(policies)
        for b in range(tree.slot.shape[0]):
            actions[b] = conclude(tree, b, config, policies[b])
            values[b] = root_value(tree, b, config)
            nodes, edges, node, depth = tree.node[b], tree.edge[b], 0, 0
            for e in range(nodes[0].fanout):
                visits[b, edges[e].action], priors[b, edges[e].action] = edges[e].visits, edges[e].prior
            while nodes[node].fanout > 0:
                best, most = -1, 0
                for e in range(nodes[node].first, nodes[node].first + nodes[node].fanout):
                    if edges[e].visits > most and (depth > 0 or edges[e].action == actions[b]):
                        best, most = e, edges[e].visits
                if best < 0:
                    break
                lines[b, depth] = edges[best].action
                depth += 1
                node = edges[best].child
            lengths[b] = depth

    return Kernels(set_roots, step, read)
