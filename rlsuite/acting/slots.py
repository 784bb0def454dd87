"""The games of self-play as arrays, one game in each slot, and the compiled functions that play them.

Shapes: L slots, n some of them, D moves of a game, A actions, R bytes a row, M positions of a table, K positions, [C,H,W] planes.
"""

from collections.abc import Callable
from functools import cache
from math import log
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.core.borrowed import borrowed
from rlsuite.core.game import Game, Owners, Row, Rules
from rlsuite.core.hashing import finalise
from rlsuite.core.kernel_cache import kernel
from rlsuite.search.evaluators import Table
from rlsuite.search.random import uniform
from rlsuite.search.tree import Method, Tree, borrow, functions

UNKNOWN_OWNER = 2  # the owner of every cell if the game was resigned
NONE = -1  # the `source` of a slot whose search waits for no evaluation
RUNS, ENDED, RESIGNED = 0, 1, 2  # values of `Slots.over`


class Slots(NamedTuple):
    """L games, and the moves that each has made after its opening."""

    rows: NDArray[np.int8]  # [L,R] the positions being searched
    first: NDArray[np.int8]  # [L,R] the positions after the opening
    plies: NDArray[np.int32]  # [L] moves since the first position of the game, those of the opening included
    length: NDArray[np.int32]  # [L] moves after the opening
    full: NDArray[np.bool_]  # [L] whether the search is full
    resigns: NDArray[np.bool_]  # [L] whether the game may be resigned
    over: NDArray[np.int8]  # [L] RUNS, ENDED or RESIGNED
    outcome: NDArray[np.float64]  # [L] for player 0, once the game is over
    checked: NDArray[np.int32]  # [L] simulations that the search had done when `visits` was last updated
    visits: NDArray[np.int32]  # [L,A] visits of the root's edges at that time, in the order of the edges
    source: NDArray[np.int32]  # [L] the evaluation that the search waits for, or NONE
    policy: NDArray[np.float32]  # [L,D,A] the policy that the search found for each move
    value: NDArray[np.float64]  # [L,D] the search's value, for the player to move
    action: NDArray[np.int32]  # [L,D]
    learned: NDArray[np.bool_]  # [L,D] whether that search was full, so that the position is learned from
    sums: NDArray[np.float64]  # [L,3] since the last diagnostics: moves, their policies' entropies, and their largest probabilities


class Plan(NamedTuple):
    """How the games are played: the settings of `SelfPlayConfig`, as compiled code reads them."""

    puct: bool  # moves are sampled; with Gumbel noise the search's best move has been sampled already
    simulations: int
    fast_simulations: int
    full_fraction: float
    temperature: float
    temperature_end: float
    temperature_halflife: float  # moves in which half of the way from `temperature` to `temperature_end` is gone; 0: none
    temperature_moves: int
    opening_fraction: float
    opening_moves: int
    resigning: float  # share of games that may be resigned
    gain: float  # a full search ends once a simulation changes the visit distribution by less than this, in nats; 0: never
    gain_simulations: int  # number of simulations over which that change is averaged


class Batch(NamedTuple):
    """Positions to evaluate, and the net's evaluations of them. Slots `begin` to `end` use the places of the same numbers."""

    planes: NDArray[np.int8]  # [L,C,H,W]
    keys: NDArray[np.uint64]  # [L] hashes
    logits: NDArray[np.float32]  # [L,A]
    values: NDArray[np.float32]  # [L] for the player to move


class Finished(NamedTuple):
    """Positions of games that have ended, game by game, with spare room at the end."""

    planes: NDArray[np.int8]  # [K,C,H,W]
    policy: NDArray[np.float32]  # [K,A]
    value: NDArray[np.float32]  # [K] of the search, for the player to move
    outcome: NDArray[np.float32]  # [K] for the player to move
    action: NDArray[np.int64]  # [K]
    first: NDArray[np.bool_]  # [K] whether it is the first move of a game
    owners: NDArray[np.int8]  # [K,H*W] at the end of the game: 1 the player to move, -1 the other, 0 nobody; or [K,0]


class Endings(NamedTuple):
    """Statistics of n games that have ended."""

    lowest: NDArray[np.float64]  # [n,2] the lowest value of each player's searches; inf for a player without a move
    error: NDArray[np.float64]  # [n] sum of the squared differences between the searches' values and the outcome
    hash: NDArray[np.uint64]  # [n] a hash of the game's moves


class SlotKernels(NamedTuple):
    """The compiled functions of a game and a method. See `slot_kernels`."""

    play: Callable[..., tuple[int, int, int, int]]
    store: Callable[[Table, Batch, int, int], None]
    harvest: Callable[..., int]
    begin: Callable[..., None]


def make_slots(game: Game, count: int, moves: int) -> Slots:
    """L = `count` slots, with room for D = `moves` moves."""
    shape, row = (count, moves), game.start.size
    return Slots(
        rows=np.zeros((count, row), np.int8),
        first=np.zeros((count, row), np.int8),
        plies=np.zeros(count, np.int32),
        length=np.zeros(count, np.int32),
        full=np.zeros(count, bool),
        resigns=np.zeros(count, bool),
        over=np.zeros(count, np.int8),
        outcome=np.zeros(count, np.float64),
        checked=np.zeros(count, np.int32),
        visits=np.zeros((count, game.num_actions), np.int32),
        source=np.full(count, NONE, np.int32),
        policy=np.zeros((*shape, game.num_actions), np.float32),
        value=np.zeros(shape, np.float64),
        action=np.zeros(shape, np.int32),
        learned=np.zeros(shape, bool),
        sums=np.zeros((count, 3), np.float64),
    )


def make_batch(game: Game, count: int) -> Batch:
    """A batch with L = `count` places."""
    planes, logits = (count, *game.observation_shape), (count, game.num_actions)
    return Batch(np.zeros(planes, np.int8), np.zeros(count, np.uint64), np.zeros(logits, np.float32), np.zeros(count, np.float32))


def make_finished(game: Game, count: int, owners: bool = False) -> Finished:
    """Room for K = `count` positions; `owners`: whether to include the cells' owners."""
    cells = game.observation_shape[1] * game.observation_shape[2] if owners else 0
    return Finished(
        planes=np.zeros((count, *game.observation_shape), np.int8),
        policy=np.zeros((count, game.num_actions), np.float32),
        value=np.zeros(count, np.float32),
        outcome=np.zeros(count, np.float32),
        action=np.zeros(count, np.int64),
        first=np.zeros(count, bool),
        owners=np.zeros((count, cells), np.int8),
    )


def make_endings(count: int) -> Endings:
    """Room for n = `count` games."""
    return Endings(np.full((count, 2), np.inf), np.zeros(count), np.zeros(count, np.uint64))


@njit(inline="always", error_model="numpy")
def _borrow(slots: Slots) -> Slots:
    return Slots(
        borrowed(slots.rows),
        borrowed(slots.first),
        borrowed(slots.plies),
        borrowed(slots.length),
        borrowed(slots.full),
        borrowed(slots.resigns),
        borrowed(slots.over),
        borrowed(slots.outcome),
        borrowed(slots.checked),
        borrowed(slots.visits),
        borrowed(slots.source),
        borrowed(slots.policy),
        borrowed(slots.value),
        borrowed(slots.action),
        borrowed(slots.learned),
        borrowed(slots.sums),
    )


@njit(inline="always", error_model="numpy")
def _drawn(tree: Tree, b: int, policy: NDArray[np.float64], temperature: float) -> int:
    """Samples an action with probability proportional to policy [A] to the power of 1 / temperature."""
    total, largest, chosen = 0.0, 0.0, 0
    for action in range(policy.shape[0]):
        largest = max(largest, policy[action])  # dividing by it keeps one power at 1 where low temperatures take all others to 0
    for action in range(policy.shape[0]):
        total += (policy[action] / largest) ** (1.0 / temperature)
    left = uniform(tree.rng, b) * total
    for action in range(policy.shape[0]):
        if policy[action] > 0.0:
            chosen = action
            left -= (policy[action] / largest) ** (1.0 / temperature)
            if left < 0.0:
                break
    return chosen


@njit(inline="always", error_model="numpy")
def _gain(tree: Tree, b: int, before: NDArray[np.int32]) -> float:
    """KL(before, now), in nats, of the root's visit distribution since the visits `before` [A], which it updates.

    Infinite if `before` has no visits.
    """
    edges, then, now, gain = tree.edge[b], 0, 0, 0.0
    for e in range(tree.node[b, 0].fanout):
        then += before[e]
        now += edges[e].visits
    for e in range(tree.node[b, 0].fanout):
        if before[e] > 0:
            share = before[e] / then
            gain += share * log(share * now / edges[e].visits)
        before[e] = edges[e].visits
    return gain if then > 0 else np.inf


@njit(error_model="numpy")
def _no_owners(row: Row, owned: Owners) -> None:
    """Stands in for `Rules.owners` where a game has none."""


@cache
def slot_kernels(rules: Rules, method: Method) -> SlotKernels:
    """The compiled functions for a game and a search method. The random numbers of slot b come from stream b of the tree."""
    set_root, simulate, expand, root_value = functions(rules, method)
    conclude = method.conclude
    player, legal, play_move, outcome_of, encode, position_hash = rules[1:7]
    owners_of = rules.owners or _no_owners

    @njit(inline="always", error_model="numpy")
    def begin_search(tree: Tree, slots: Slots, plan: Plan, b: int) -> None:
        full = uniform(tree.rng, b) < plan.full_fraction
        late = slots.plies[b] >= plan.temperature_moves
        slots.full[b] = full
        tree.slot[b].budget = tree.slot[b].planned = plan.simulations if full else plan.fast_simulations
        tree.slot[b].no_root_noise = late or (plan.puct and not full)
        slots.checked[b] = 0
        for action in range(slots.visits.shape[1]):
            slots.visits[b, action] = 0
        set_root(tree, b, slots.rows[b])

    @njit(inline="always", error_model="numpy")
    def move(tree: Tree, slots: Slots, config: Any, plan: Plan, threshold: float, b: int, policy: NDArray[np.float64]) -> None:
        """Makes the move of a finished search, and begins the next search if the game continues. `policy` [A] is scratch space."""
        num_actions = policy.shape[0]
        for action in range(num_actions):
            policy[action] = 0.0
        action, value, at = conclude(tree, b, config, policy), root_value(tree, b, config), slots.length[b]
        if plan.puct and slots.plies[b] < plan.temperature_moves:
            temperature = plan.temperature
            if plan.temperature_halflife > 0.0:
                left = 0.5 ** (slots.plies[b] / plan.temperature_halflife)
                temperature = plan.temperature_end + (temperature - plan.temperature_end) * left
            action = _drawn(tree, b, policy, temperature)
        entropy, largest = 0.0, 0.0
        for i in range(num_actions):
            share = policy[i]
            slots.policy[b, at, i] = share
            if share > 0.0:
                entropy -= share * log(share)
                largest = max(largest, share)
        slots.sums[b, 0] += 1.0
        slots.sums[b, 1] += entropy
        slots.sums[b, 2] += largest
        slots.value[b, at], slots.action[b, at], slots.learned[b, at] = value, action, slots.full[b]
        slots.length[b] += 1
        slots.plies[b] += 1
        mover = player(slots.rows[b])
        play_move(slots.rows[b], action)
        over, outcome = outcome_of(slots.rows[b])
        if over:
            slots.over[b], slots.outcome[b] = ENDED, outcome
        elif slots.resigns[b] and value < threshold:
            slots.over[b], slots.outcome[b] = RESIGNED, -1.0 if mover == 0 else 1.0
        else:
            begin_search(tree, slots, plan, b)

    @kernel(nogil=True, error_model="numpy")
    def play(
        tree: Tree,
        slots: Slots,
        table: Table,
        batch: Batch,
        config: Any,
        plan: Plan,
        threshold: float,
        begin: int,
        end: int,
        policy: NDArray[np.float64],
        places: NDArray[np.int32],
    ) -> tuple[int, int, int, int]:
        """Continues the games in the slots `begin` to `end`, each with the evaluation that it was waiting for.

        A slot runs until its search needs an evaluation that is not in the table, the game is over, or a second move would be due.
        The positions to evaluate are written into the batch from place `begin` on, each once. Returns their number, the moves made,
        the leaves reached, and how many of these needed no place. `policy` [A], `places` [2 (end - begin) + 1]: scratch space.
        """
        tree, slots, logits = borrow(tree), _borrow(slots), borrowed(batch.logits)
        planes, known, policy = borrowed(batch.planes), borrowed(table.logits), borrowed(policy)
        asks, moved, reached, found = 0, 0, 0, 0
        mask, size = np.uint64(table.keys.shape[0] - 1), np.uint64(2 * (end - begin) + 1)
        for i in range(2 * (end - begin) + 1):  # a hash table of the batch with open addressing: 1 + place, 0 is empty
            places[i] = 0
        for b in range(begin, end):
            ready = slots.source[b] != NONE
            place = max(slots.source[b], 0)
            chances, value = logits[place], batch.values[place]
            slots.source[b] = NONE
            may_move = True
            while True:
                if ready:
                    expand(tree, b, 0, chances, value, config)
                if plan.gain > 0.0 and slots.full[b] and tree.slot[b].done >= slots.checked[b] + plan.gain_simulations:
                    since = tree.slot[b].done - slots.checked[b]
                    slots.checked[b] = tree.slot[b].done
                    if _gain(tree, b, slots.visits[b]) < plan.gain * since:
                        tree.slot[b].budget = tree.slot[b].done
                if simulate(tree, b, config) == 0:
                    if not may_move:
                        break
                    move(tree, slots, config, plan, threshold, b, policy)
                    moved += 1
                    if slots.over[b] != RUNS:
                        break
                    ready = may_move = False
                    continue
                leaf = tree.ticket[b, 0].leaf
                key = position_hash(tree.rows[b, leaf])
                entry: Any = np.int64(key & mask)
                reached += 1
                if table.keys[entry] == key and key != 0:
                    chances, value = known[entry], table.values[entry]
                    ready = True
                    found += 1
                    continue
                at: Any = np.int64(key % size)
                while places[at] > 0 and batch.keys[begin + places[at] - 1] != key:
                    at = (at + 1) % np.int64(size)
                if places[at] == 0:
                    batch.keys[begin + asks] = key
                    encode(tree.rows[b, leaf], planes[begin + asks])
                    asks += 1
                    places[at] = asks
                else:
                    found += 1
                slots.source[b] = begin + places[at] - 1
                break
        return asks, moved, reached, found

    @kernel(nogil=True, error_model="numpy")
    def store(table: Table, batch: Batch, begin: int, count: int) -> None:
        """Copies `count` evaluations of the batch, from place `begin` on, into the table."""
        mask, known, logits = np.uint64(table.keys.shape[0] - 1), borrowed(table.logits), borrowed(batch.logits)
        for place in range(begin, begin + count):
            entry = np.int64(batch.keys[place] & mask)
            table.keys[entry], table.values[entry] = batch.keys[place], batch.values[place]
            for action in range(known.shape[1]):
                known[entry, action] = logits[place, action]

    @kernel(nogil=True, error_model="numpy")
    def harvest(slots: Slots, ended: NDArray[np.int32], finished: Finished, count: int, endings: Endings) -> int:
        """Appends the positions to learn from, of the games in slots `ended` [n], to the first `count`; returns the new count.

        The games are replayed from their moves, which is cheaper than keeping the planes of every position.
        """
        slots, planes, policy = _borrow(slots), borrowed(finished.planes), borrowed(finished.policy)
        owners = borrowed(finished.owners)
        owned = np.zeros(owners.shape[1], np.int8)
        for i in range(ended.shape[0]):
            b = ended[i]
            if owned.shape[0] > 0:
                owners_of(slots.rows[b], owned)
            row, moves = slots.first[b], np.uint64(slots.length[b])
            for at in range(slots.length[b]):
                mover, value, action = player(row), slots.value[b, at], slots.action[b, at]
                outcome = slots.outcome[b] if mover == 0 else -slots.outcome[b]
                endings.error[i] += (value - outcome) ** 2
                endings.lowest[i, mover] = min(endings.lowest[i, mover], value)
                moves = finalise(moves ^ np.uint64(action))
                if slots.learned[b, at]:
                    encode(row, planes[count])
                    for a in range(policy.shape[1]):
                        policy[count, a] = slots.policy[b, at, a]
                    finished.value[count], finished.outcome[count] = value, outcome
                    finished.action[count], finished.first[count] = action, at == 0
                    for cell in range(owned.shape[0]):
                        owner = owned[cell] if mover == 0 else -owned[cell]
                        owners[count, cell] = UNKNOWN_OWNER if slots.over[b] == RESIGNED else owner
                    count += 1
                play_move(row, action)
            endings.hash[i] = moves
        return count

    @kernel(nogil=True, error_model="numpy")
    def begin(tree: Tree, slots: Slots, plan: Plan, which: NDArray[np.int32], start: NDArray[np.int8]) -> None:
        """Begins new games in the slots `which` [n] from position `start` [R], a share of them with random opening moves."""
        tree, slots, start = borrow(tree), _borrow(slots), borrowed(start)
        for i in range(which.shape[0]):
            b = which[i]
            row, after = slots.rows[b], slots.first[b]
            for byte in range(start.shape[0]):
                row[byte] = after[byte] = start[byte]
            plies, moves = 0, 0
            if uniform(tree.rng, b) < plan.opening_fraction:
                moves = 1 + int(uniform(tree.rng, b) * plan.opening_moves)
            while plies < moves:
                count = legal(row, tree.legal[b])
                play_move(after, tree.legal[b, int(uniform(tree.rng, b) * count)])
                if outcome_of(after)[0]:
                    break  # the opening ends before a move that would end the game
                for byte in range(start.shape[0]):
                    row[byte] = after[byte]
                plies += 1
            for byte in range(start.shape[0]):
                after[byte] = row[byte]
            slots.plies[b], slots.length[b], slots.over[b], slots.source[b] = plies, 0, RUNS, NONE
            slots.resigns[b] = uniform(tree.rng, b) < plan.resigning
            begin_search(tree, slots, plan, b)

    return SlotKernels(play, store, harvest, begin)
