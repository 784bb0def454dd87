"""What gives a search its opinions. Shapes: n positions, A actions, R bytes a row, M slots of a cache, [C,H,W] planes.

An evaluator takes rows [n,R] int8 and their hashes [n] uint64, and says logits [n,A] f32, of which only those of legal moves are
read, and values [n] f32 in [-1, 1] to the player to move.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.core.game import Game, Rules
from rlsuite.core.hashing import finalise
from rlsuite.search.random import uniform

PolicyValue = tuple[NDArray[np.float32], NDArray[np.float32]]
Evaluate = Callable[[NDArray[np.int8], NDArray[np.uint64]], PolicyValue]
Planes = NDArray[np.int8]  # [n,C,H,W]


def uniform_evaluator(game: Game) -> Evaluate:
    """Knows nothing: all moves alike, every position even."""
    return lambda rows, keys: (np.zeros((len(rows), game.num_actions), np.float32), np.zeros(len(rows), np.float32))


def rollout_evaluator(game: Game, seed: int = 0) -> Evaluate:
    """All moves alike; a position is worth what one random game from it brings. Draws depend on the position and `seed` alone."""
    play_out, salt = _rollouts(game.rules), np.uint64(seed)

    def evaluate(rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> PolicyValue:
        values = np.empty(len(rows), np.float32)
        play_out(rows.copy(), keys + salt, game.num_actions, values)
        return np.zeros((len(rows), game.num_actions), np.float32), values

    return evaluate


def plane_evaluator(game: Game, net: Callable[[Planes], PolicyValue]) -> Evaluate:
    """`net` sees planes as the player to move sees them."""
    encode = encoder(game.rules)

    def evaluate(rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> PolicyValue:
        planes = np.empty((len(rows), *game.observation_shape), np.int8)
        encode(rows, planes)
        return net(planes)

    return evaluate


class Cached:
    """Asks `evaluate` only for positions that it has not met since `clear`, and for every position of a batch once.

    A direct-mapped table: a newer position displaces an older one. Two positions with one hash of 64 bits would be confused.
    """

    def __init__(self, evaluate: Evaluate, num_actions: int, positions: int):
        """`positions`: M, rounded up to a power of two."""
        self.evaluate, size = evaluate, 1 << max(positions - 1, 1).bit_length()
        self.keys = np.zeros(size, np.uint64)  # [M]; 0: empty
        self.logits = np.zeros((size, num_actions), np.float32)  # [M,A]
        self.values = np.zeros(size, np.float32)  # [M]
        self.asked = self.found = 0

    def clear(self) -> None:
        """When the weights have changed."""
        self.keys[:] = 0

    def __call__(self, rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> PolicyValue:
        n = len(rows)
        source, ask = np.empty(n, np.int32), np.empty(n, np.int32)
        logits, values = np.empty((n, self.logits.shape[1]), np.float32), np.empty(n, np.float32)
        asks = _look_up(self.keys, self.logits, self.values, keys, source, ask, logits, values)
        self.asked, self.found = self.asked + n, self.found + n - asks
        if asks:
            ask = ask[:asks]
            _store(self.keys, self.logits, self.values, keys, source, ask, *self.evaluate(rows[ask], keys[ask]), logits, values)
        return logits, values

    def state_dict(self) -> dict[str, Any]:
        used = np.flatnonzero(self.keys)
        return {
            "keys": self.keys[used],
            "logits": self.logits[used],
            "values": self.values[used],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.clear()
        slots = state["keys"] & np.uint64(len(self.keys) - 1)  # of this table, which may be of another size
        for name in ("keys", "logits", "values"):
            getattr(self, name)[slots] = state[name]


_HERE = -1  # the opinion stands in the table


@njit(cache=True, nogil=True, error_model="numpy")
def _look_up(table: Any, table_logits: Any, table_values: Any, keys: Any, source: Any, ask: Any, logits: Any, values: Any) -> int:
    """Copies what is known; of the rest `ask` [n] lists one position each and `source` [n] says which of these it is."""
    mask, asks = np.uint64(table.shape[0] - 1), 0
    first = np.zeros(2 * keys.shape[0] + 1, np.int32)  # an open table of this batch: 1 + number of the question
    for i in range(keys.shape[0]):
        slot = keys[i] & mask
        if table[slot] == keys[i] and keys[i] != 0:
            logits[i], values[i], source[i] = table_logits[slot], table_values[slot], _HERE
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
    mask = np.uint64(table.shape[0] - 1)
    for j in range(ask.shape[0]):
        slot = keys[ask[j]] & mask
        table[slot], table_logits[slot], table_values[slot] = keys[ask[j]], new[j], new_values[j]
    for i in range(keys.shape[0]):
        if source[i] != _HERE:
            logits[i], values[i] = new[source[i]], new_values[source[i]]


@cache
def encoder(rules: Rules) -> Callable[[NDArray[np.int8], Planes], None]:
    """Rows [n,R] into planes [n,C,H,W]."""
    encode = rules.encode

    @njit(nogil=True, error_model="numpy")
    def encode_all(rows: NDArray[np.int8], planes: Planes) -> None:
        for i in range(rows.shape[0]):
            encode(rows[i], planes[i])

    return encode_all


@cache
def _rollouts(rules: Rules) -> Callable[[NDArray[np.int8], NDArray[np.uint64], int, NDArray[np.float32]], None]:
    player, legal, play, outcome = rules.player, rules.legal, rules.play, rules.outcome

    @njit(nogil=True, error_model="numpy")
    def play_out(rows: NDArray[np.int8], streams: NDArray[np.uint64], num_actions: int, values: NDArray[np.float32]) -> None:
        """Random games from rows [n,R], which they change, to values [n] for the players who move there."""
        actions = np.empty(num_actions, np.int32)
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
