"""Searches a batch of positions in one call. Shapes: B positions, A actions, R bytes a row, n leaves in a batch for the net."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.core.kernel_cache import is_compiled
from rlsuite.search.evaluators import Evaluate
from rlsuite.search.gumbel import GUMBEL, Gumbel
from rlsuite.search.puct import PUCT, Puct
from rlsuite.search.tree import Kernels, Tree, kernels, make_tree

METHODS = {Puct: PUCT, Gumbel: GUMBEL}


class SearchResult(NamedTuple):
    """The results of a search of B positions."""

    action: NDArray[np.int64]  # [B] the action to play
    policy: NDArray[np.float64]  # [B,A] PUCT: visits as probabilities; Gumbel: the improved policy
    visits: NDArray[np.int32]  # [B,A] of the root's actions; their sum is the number of simulations, or less where `proven`
    value: NDArray[np.float64]  # [B] for the player to move: proven; or PUCT: the mean of all simulations; Gumbel: of the policy
    proven: NDArray[np.bool_]  # [B] with `solve`: whether the value is proven to be that of perfect play
    prior: NDArray[np.float32]  # [B,A] of the root, including noise
    variations: list[list[int]]  # B principal variations: the most visited actions


def search(
    game: Game,
    states: Sequence[BoardState],
    evaluate: Evaluate,
    simulations: int,
    method: Puct | Gumbel = Puct(noise_fraction=0.0),  # noqa: B008  (a tuple)
    seed: int = 0,
    leaves: int = 1,
    solve: bool = False,
) -> SearchResult:
    """Searches each of B `states` in its own tree; `evaluate` gets the leaves of all trees in one batch.

    The result for a position does not depend on the rest of the batch, as long as `evaluate` does not either.
    `leaves`: how many leaves of one tree may wait at once, with virtual losses; more than 1 makes larger batches of few states.
    `solve`: values proven by the rules are backed up, and a proven position gets no more simulations.
    UsageError for a position where the game is over, or for fewer than one simulation or leaf.
    """
    check(simulations, leaves)
    for state in states:
        check_position(game, state)
    return search_rows(game, np.stack([state.row for state in states]), evaluate, simulations, method, seed, leaves, solve)


def check(simulations: int, leaves: int) -> None:
    """UsageError for fewer than one simulation or leaf."""
    if simulations < 1:
        raise UsageError(f"simulations = {simulations}: a search needs at least 1")
    if leaves < 1:
        raise UsageError(f"leaves = {leaves}: a search needs at least 1 leaf of a tree at once")


def check_position(game: Game, state: BoardState) -> None:
    """UsageError for a position of another game, or one where the game is over."""
    if state.game.name != game.name:
        raise UsageError(f"a position of {state.game.name} in a search of {game.name}")
    if state.is_terminal():
        raise UsageError(f"{game.name}: the game is over, there is nothing to search:\n{state}")


def search_rows(
    game: Game,
    rows: NDArray[np.int8],
    evaluate: Evaluate,
    simulations: int,
    method: Puct | Gumbel,
    seed: int = 0,
    leaves: int = 1,
    solve: bool = False,
) -> SearchResult:
    """`search` of rows [B,R], which must be positions of unfinished games."""
    tree, run = make_tree(game, len(rows), simulations, seed, leaves, solve), kernels(game.rules, METHODS[type(method)])
    trees = np.arange(len(rows), dtype=np.int32)
    run.set_roots(tree, trees, rows)
    finish(tree, run, evaluate, method)
    return read(tree, run, method)


def choose_actions(
    game: Game,
    rows: NDArray[np.int8],
    evaluate: Evaluate,
    simulations: int,
    method: Puct | Gumbel,
    seed: int = 0,
    solve: bool = False,
) -> NDArray[np.int64]:
    """The actions [B] to play in rows [B,R] of unfinished games: by a search, or without one if `simulations` is 0."""
    if simulations == 0:
        return without_search(game, rows, evaluate)
    return search_rows(game, rows, evaluate, simulations, method, seed, solve=solve).action


def without_search(game: Game, rows: NDArray[np.int8], evaluate: Evaluate) -> NDArray[np.int64]:
    """The legal actions [B] with the largest logits in rows [B,R] of unfinished games."""
    legal = np.empty(game.num_actions, np.int32)
    keys = np.array([game.rules.hash(row) for row in rows], np.uint64)
    logits: NDArray[np.float32] = evaluate(rows, keys)[0].copy()
    for b, row in enumerate(rows):
        allowed = legal[: game.rules.legal(row, legal)]
        logits[b, np.setdiff1d(np.arange(game.num_actions), allowed)] = -np.inf
    best: NDArray[np.int64] = logits.argmax(1)
    return best


def finish(tree: Tree, run: Kernels, evaluate: Evaluate, method: Puct | Gumbel) -> None:
    """Runs simulations until every tree has used up its budget."""
    running, evaluated = np.arange(len(tree.slot), dtype=np.int32), _nothing(tree)
    while running.size:
        tickets, rows, keys = _step(tree, run, method, evaluated, running)
        evaluated = (tickets, *evaluate(rows, keys)) if tickets.size else _nothing(tree)
        leaves = tree.ticket.shape[1]
        running = np.unique(tickets // np.int32(leaves)) if leaves > 1 else tickets


def advance(tree: Tree, run: Kernels, evaluate: Evaluate, method: Puct | Gumbel) -> None:
    """Runs simulations in every tree until leaves wait or its budget is used up, and evaluates the leaves, in one batch."""
    tickets, rows, keys = _step(tree, run, method, _nothing(tree), np.arange(len(tree.slot), dtype=np.int32))
    if tickets.size:
        _step(tree, run, method, (tickets, *evaluate(rows, keys)), np.empty(0, np.int32))


# Tickets [m] of leaves that waited, with their logits [m,A] and values [m]
Evaluated = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]


def _nothing(tree: Tree) -> Evaluated:
    return np.empty(0, np.int32), np.empty((0, tree.legal.shape[1]), np.float32), np.empty(0, np.float32)


def _step(
    tree: Tree, run: Kernels, method: Puct | Gumbel, evaluated: Evaluated, running: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.uint64]]:
    """Expands the leaves that were evaluated, then runs simulations -> tickets [n] that wait, their rows [n,R] and hashes [n]."""
    size = len(running) * tree.ticket.shape[1]
    waiting, rows, keys = np.empty(size, np.int32), np.empty((size, tree.rows.shape[2]), np.int8), np.empty(size, np.uint64)
    found = run.step(tree, method, *evaluated, running, waiting, rows, keys)
    return waiting[:found], rows[:found], keys[:found]


def compiled(game: Game, method: type[Puct | Gumbel]) -> bool:
    """Whether a search of the game needs no compiler, because one has been compiled in this process or is on disk."""
    run, tree = kernels(game.rules, METHODS[method]), make_tree(game, 1, 1, 0)
    tickets, logits, values = _nothing(tree)
    return is_compiled(run.step, tree, method(), tickets, logits, values, tickets, tickets, tree.rows[0], tree.rng)


def read(tree: Tree, run: Kernels, method: Puct | Gumbel) -> SearchResult:
    """The results of finished trees."""
    size, num_actions = tree.legal.shape
    policy, action, value = np.zeros((size, num_actions)), np.zeros(size, np.int64), np.zeros(size)
    visits, prior = np.zeros((size, num_actions), np.int32), np.zeros((size, num_actions), np.float32)
    lines, lengths = np.zeros((size, tree.path.shape[2]), np.int32), np.zeros(size, np.int32)
    run.read(tree, method, action, policy, visits, value, prior, lines, lengths)
    variations = [line[:length] for line, length in zip(lines.tolist(), lengths.tolist(), strict=True)]
    return SearchResult(action, policy, visits, value, tree.node["proven"][:, 0] != 0, prior, variations)
