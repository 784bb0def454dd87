"""One call that searches a batch of positions. Shapes: B positions, A actions, n leaves of a batch for the net."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.envs.boards.game import BoardState, Game
from rlsuite.errors import UsageError
from rlsuite.search.gumbel import GUMBEL, Gumbel
from rlsuite.search.puct import PUCT, Puct
from rlsuite.search.tree import Tree, kernels, make_tree

METHODS = {Puct: PUCT, Gumbel: GUMBEL}

# planes [n,C,H,W] int8 -> policy logits [n,A] f32, of which only those of legal moves are read, and values [n] f32 in [-1, 1]
# to the player to move.
Evaluate = Callable[[NDArray[np.int8]], tuple[NDArray[np.float32], NDArray[np.float32]]]


class SearchResult(NamedTuple):
    action: NDArray[np.int64]  # [B] to play
    policy: NDArray[np.float64]  # [B,A] PUCT: visits as probabilities; Gumbel: the improved policy
    visits: NDArray[np.int32]  # [B,A] of the root's moves; their sum is the number of simulations
    value: NDArray[np.float64]  # [B] to the player to move: mean over all simulations
    prior: NDArray[np.float32]  # [B,A] of the root, noise included
    variations: list[list[int]]  # B principal variations: the most visited actions


def uniform_evaluator(game: Game) -> Evaluate:
    """Knows nothing: all moves alike, every position even."""
    return lambda planes: (np.zeros((len(planes), game.num_actions), np.float32), np.zeros(len(planes), np.float32))


def search(
    game: Game,
    states: Sequence[BoardState],
    evaluate: Evaluate,
    simulations: int,
    method: Puct | Gumbel = Puct(noise_fraction=0.0),  # noqa: B008  (a tuple)
    seed: int = 0,
) -> SearchResult:
    """Searches every one of B `states` by itself, all their leaves in one batch for `evaluate`.

    The batch changes nothing: position b gets the same result beside any others, as long as `evaluate` does not depend on them.
    UsageError for a game that is over and for fewer than one simulation.
    """
    if simulations < 1:
        raise UsageError(f"simulations = {simulations}: a search needs at least 1")
    for state in states:
        if state.game.name != game.name:
            raise UsageError(f"a position of {state.game.name} in a search of {game.name}")
        if state.is_terminal():
            raise UsageError(f"{game.name}: the game is over, there is nothing to search:\n{state}")
    tree, run = make_tree(game, len(states), simulations, seed), kernels(game.rules, METHODS[type(method)])
    running = np.arange(len(states), dtype=np.int32)
    run.set_roots(tree, running, np.stack([state.row for state in states]))
    out = np.empty_like(running)
    while len(running := out[: run.step(tree, running, simulations, method, out)].copy()):
        planes = np.empty((len(running), *game.observation_shape), np.int8)
        run.gather(tree, running, planes)
        run.expand(tree, running, *evaluate(planes), method)
    policy, action = np.zeros((len(states), game.num_actions)), np.zeros(len(states), np.int64)
    run.conclude(tree, method, policy, action)
    return SearchResult(action, policy, *_statistics(game, tree))


def _statistics(game: Game, tree: Tree) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float32], list[list[int]]]:
    size = len(tree.nodes)
    visits, prior = np.zeros((size, game.num_actions), np.int32), np.zeros((size, game.num_actions), np.float32)
    value = np.zeros(size)
    for b in range(size):
        root = slice(0, tree.fanout[b, 0])
        actions = tree.action[b, root]
        visits[b, actions], prior[b, actions] = tree.visits[b, root], tree.prior[b, root]
        value[b] = tree.total[b, root].sum() / tree.visits[b, root].sum()
    return visits, value, prior, [_variation(tree, b) for b in range(size)]


def _variation(tree: Tree, b: int) -> list[int]:
    node, actions = 0, []
    while tree.fanout[b, node]:
        edges = slice(tree.first[b, node], tree.first[b, node] + tree.fanout[b, node])
        best = int(tree.visits[b, edges].argmax()) + edges.start
        if tree.visits[b, best] == 0:
            break
        actions.append(int(tree.action[b, best]))
        node = int(tree.child[b, best])
    return actions
