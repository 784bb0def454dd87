"""Leaf evaluators: logits and values of positions, for a search.

An evaluator takes rows [n,R] int8 and their hashes [n] uint64. It returns logits [n,A] f32, of which only those of legal actions
are read, and values [n] f32 in [-1, 1] for the player to move.
Shapes: n positions, A actions, R bytes a row, M slots of a cache, [C,H,W] planes.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.core.borrowed import borrowed
from rlsuite.core.game import Game, Rules
from rlsuite.core.hashing import finalise
from rlsuite.core.kernel_cache import kernel
from rlsuite.search.random import uniform

PolicyValue = tuple[NDArray[np.float32], NDArray[np.float32]]  # logits [n,A], values [n]
Evaluate = Callable[[NDArray[np.int8], NDArray[np.uint64]], PolicyValue]  # rows [n,R], hashes [n]
Planes = NDArray[np.int8]  # [n,C,H,W]


def uniform_evaluator(game: Game) -> Evaluate:
    """An evaluator without knowledge: uniform policies, values of 0."""
    return lambda rows, keys: (np.zeros((len(rows), game.num_actions), np.float32), np.zeros(len(rows), np.float32))


def rollout_evaluator(game: Game, seed: int = 0) -> Evaluate:
    """An evaluator by rollouts: uniform policies, and as value the result of one random game, given by the position and `seed`."""
    play_out, salt = _rollouts(game.rules), np.uint64(seed)

    def evaluate(rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> PolicyValue:
        values = np.empty(len(rows), np.float32)
        play_out(rows.copy(), keys + salt, np.empty(game.num_actions, np.int32), values)
        return np.zeros((len(rows), game.num_actions), np.float32), values

    return evaluate


def plane_evaluator(game: Game, net: Callable[[Planes], PolicyValue]) -> Evaluate:
    """An evaluator from a function of planes [n,C,H,W], as the player to move sees them."""
    encode = encoder(game.rules)

    def evaluate(rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> PolicyValue:
        planes = np.empty((len(rows), *game.observation_shape), np.int8)
        encode(rows, planes)
        return net(planes)

    return evaluate


class Table(NamedTuple):
    """A direct-mapped cache of the evaluations of M positions, by hash: newer positions replace older ones. M is a power of two.

    Two positions with equal 64-bit hashes would be confused.
    """

    keys: NDArray[np.uint64]  # [M]; 0: empty
    logits: NDArray[np.float32]  # [M,A]
    values: NDArray[np.float32]  # [M]

    def clear(self) -> None:
        """Empties the table; call it whenever the weights have changed."""
        self.keys[:] = 0

    def state_dict(self) -> dict[str, Any]:
        """The entries in use."""
        used = np.flatnonzero(self.keys)
        return {name: leaf[used] for name, leaf in self._asdict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, even from a table of another size."""
        self.clear()
        places = state["keys"] & np.uint64(len(self.keys) - 1)
        for name, leaf in self._asdict().items():
            leaf[places] = state[name]


def make_table(num_actions: int, positions: int) -> Table:
    """An empty table. `positions` is M, rounded up to a power of two."""
    size = 1 << max(positions - 1, 1).bit_length()
    return Table(np.zeros(size, np.uint64), np.zeros((size, num_actions), np.float32), np.zeros(size, np.float32))


class Cached:
    """An evaluator with a cache: `evaluate` gets only positions that are not in it, and each position of a batch only once."""

    def __init__(self, evaluate: Evaluate, num_actions: int, positions: int):
        """`positions` is M, rounded up to a power of two."""
        self.evaluate, self.table = evaluate, make_table(num_actions, positions)
        self.asked = self.found = 0

    def clear(self) -> None:
        """Empties the table."""
        self.table.clear()

    def __call__(self, rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> PolicyValue:
        """Logits [n,A] and values [n] of rows [n,R] with hashes `keys` [n]."""
        n = len(rows)
        source, ask = np.empty(n, np.int32), np.empty(n, np.int32)
        logits, values = np.empty((n, self.table.logits.shape[1]), np.float32), np.empty(n, np.float32)
        asks = _look_up(*self.table, keys, source, ask, logits, values)
        self.asked, self.found = self.asked + n, self.found + n - asks
        if asks:
            ask = ask[:asks]
            _store(*self.table, keys, source, ask, *self.evaluate(rows[ask], keys[ask]), logits, values)
        return logits, values


_IN_TABLE = -1  # the source of a position that is in the table


@njit(cache=True, nogil=True, error_model="numpy")
def _look_up(table: Any, table_logits: Any, table_values: Any, keys: Any, source: Any, ask: Any, logits: Any, values: Any) -> int:
    """Copies the evaluations that are in the table; returns the number of different positions that are not.

    Those are listed in `ask` [n]; `source` [n] is each position's place in that list, or _IN_TABLE.
    """
    mask, asks = np.uint64(table.shape[0] - 1), 0
    first = np.zeros(2 * keys.shape[0] + 1, np.int32)  # a hash table of the batch with open addressing: 1 + place in `ask`
    for i in range(keys.shape[0]):
        slot = keys[i] & mask
        if table[slot] == keys[i] and keys[i] != 0:
            logits[i], values[i], source[i] = table_logits[slot], table_values[slot], _IN_TABLE
            continue
        at = np.int64(keys[i] % np.uint64(first.shape[0]))
        while first[at] > 0 and keys[ask[first[at] - 1]] != keys[i]:
            at = (at + 1) % first.shape[0]
        if first[at] == 0:
            ask[asks] = i
            asks += 1
            first[at] = asks
        source[i] = first[at] - 1
    return asks


@njit(cache=True, nogil=True, error_model="numpy")
def _store(
    table: Any,
    table_logits: Any,
    table_values: Any,
    keys: Any,
    source: Any,
    ask: Any,
    new: Any,
    new_values: Any,
    logits: Any,
    values: Any,
) -> None:
    """Stores the evaluations of the positions `ask` in the table, and copies them to all positions of the batch that need them."""
    mask = np.uint64(table.shape[0] - 1)
    for j in range(ask.shape[0]):
        slot = keys[ask[j]] & mask
        table[slot], table_logits[slot], table_values[slot] = keys[ask[j]], new[j], new_values[j]
    for i in range(keys.shape[0]):
        if source[i] != _IN_TABLE:
            logits[i], values[i] = new[source[i]], new_values[source[i]]


@cache
def encoder(rules: Rules) -> Callable[[NDArray[np.int8], Planes], None]:
    """A compiled function that encodes rows [n,R] into planes [n,C,H,W]."""
    encode = rules.encode

    @kernel(nogil=True, error_model="numpy")
    def encode_all(rows: NDArray[np.int8], planes: Planes) -> None:
        rows, planes = borrowed(rows), borrowed(planes)
        for i in range(rows.shape[0]):
            encode(rows[i], planes[i])

    return encode_all


@cache
def _rollouts(rules: Rules) -> Callable[[NDArray[np.int8], NDArray[np.uint64], NDArray[np.int32], NDArray[np.float32]], None]:
    player, legal, play, outcome = rules.player, rules.legal, rules.play, rules.outcome

    @kernel(nogil=True, error_model="numpy")
    def play_out(
        rows: NDArray[np.int8], streams: NDArray[np.uint64], actions: NDArray[np.int32], values: NDArray[np.float32]
    ) -> None:
        """Plays random games from rows [n,R], in place, and writes their values [n] for the players to move at the start.

        `actions` [A] is scratch space.
        """
        rows, actions = borrowed(rows), borrowed(actions)
        for i in range(rows.shape[0]):
            mover = player(rows[i])
            streams[i] = finalise(streams[i] + np.uint64(0x9E3779B97F4A7C15))
            over, value = outcome(rows[i])
            while not over:
                count = legal(rows[i], actions)
                play(rows[i], actions[int(uniform(streams, i) * count)])
                over, value = outcome(rows[i])
            values[i] = value if mover == 0 else -value

    return play_out
