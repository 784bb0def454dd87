"""Makes a node of a searched tree its new root. Shapes: as in `tree`."""

import numpy as np
from numba import njit

from rlsuite.search.tree import NO_CHILD, Tree


@njit(cache=True, error_model="numpy")
def keep_below(tree: Tree, b: int, root: int) -> None:
    """Makes an expanded node the root of tree b, and keeps everything below it. No leaf may be waiting for its evaluation."""
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
