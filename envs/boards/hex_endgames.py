"""Exact play in Hex where few cells are empty, on boards of any size: a proof search with a table of positions.

Stones never leave the board, so only the empty cells matter: for each player, which of them touch each other, directly or through
the player's stones, and which touch the player's two edges. A position of the search is then two sets of these cells, as bits: the
cells that each player has taken. Shapes: A actions, R bytes per row, E empty cells, D depths (E + 2), K entries of the table.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError
from rlsuite.core.game import Row

MOST_EMPTY = 20  # a position and its proof are then 63 bits
_HEAD, _STONE, _FIRST, _LAST = 8, 3, 4, 8  # of a row, as rlsuite.envs.boards.hex has them
_NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0), (-1, 1), (1, -1))
_BITS = 18  # of the table's index


@njit(cache=True)
def _links(row: Row, cells: NDArray[np.int64], stone: int) -> tuple[NDArray[np.int64], int, int]:
    """A player's links, as bits: the empty cells that touch each empty cell [E], and those that touch the first and last edge."""
    n, count = int(row[0]), len(cells)
    number = np.full(n * n, -1, np.int64)  # of the empty cells
    number[cells] = np.arange(count)
    touching, first, last = np.zeros(count, np.int64), 0, 0
    seen, todo = np.zeros(n * n, np.bool_), np.empty(n * n, np.int64)
    for i in range(count):
        along = cells[i] // n if stone == 1 else cells[i] % n
        first |= (along == 0) << i
        last |= (along == n - 1) << i
    for cell in range(n * n):
        if number[cell] < 0 and (seen[cell] or row[_HEAD + cell] & _STONE != stone):
            continue
        border, left, marks = 0, 1, 0  # for an empty cell, or for a group of the player's stones
        todo[0], seen[cell] = cell, True
        while left:
            left -= 1
            at = todo[left]
            marks |= row[_HEAD + at] & (_FIRST | _LAST)
            for dy, dx in _NEIGHBOURS:
                y, x = at // n + dy, at % n + dx
                if not (0 <= y < n and 0 <= x < n):
                    continue
                near = y * n + x
                if number[near] >= 0:
                    border |= 1 << number[near]
                elif number[cell] < 0 and not seen[near] and row[_HEAD + near] & _STONE == stone:
                    seen[near] = True
                    todo[left] = near
                    left += 1
        if number[cell] >= 0:
            touching[number[cell]] |= border
            continue
        for i in range(count):
            if border >> i & 1:
                touching[i] |= border
        if marks & _FIRST:
            first |= border
        if marks & _LAST:
            last |= border
    return touching, first, last


@njit(cache=True)
def _connects(cells: int, touching: NDArray[np.int64], first: int, last: int) -> bool:
    """Whether a player who holds these empty cells has connected its edges."""
    reached = new = cells & first
    while new:
        if reached & last:
            return True
        more = 0
        for i in range(len(touching)):
            if new >> i & 1:
                more |= touching[i]
        new = more & cells & ~reached
        reached |= new
    return False


@njit(cache=True)
def _wins(
    mine: int,
    theirs: int,
    me: int,
    touching: NDArray[np.int64],
    edges: NDArray[np.int64],
    table: NDArray[np.int64],
) -> bool:
    """Whether the player to move, `me`, who holds `mine` of the empty cells, wins.

    `touching` int64 [2,E] and `edges` int64 [2,2] are the links of both players. `table` int64 [K] holds proven positions, zeros at
    first. Every proof includes the set of empty cells that the winner needs. If the opponent refutes a move, any other move outside
    the cells needed for this loses too, so it is not tried.
    """
    count = touching.shape[1]
    every = (1 << count) - 1
    held, other = np.zeros(count + 2, np.int64), np.zeros(count + 2, np.int64)  # [D] of the player to move, and of the opponent
    left, slot = np.zeros(count + 2, np.int64), np.zeros(count + 2, np.int64)  # [D] moves to try
    move, used = np.zeros(count + 2, np.int64), np.zeros(count + 2, np.int64)  # [D] the last one, and what the opponent needs
    held[0], other[0] = mine, theirs
    depth, won, needs, entering = 0, False, np.int64(0), True
    while True:
        player = me ^ (depth & 1)
        done, key = False, held[depth] | other[depth] << MOST_EMPTY | player << 2 * MOST_EMPTY | 1 << 2 * MOST_EMPTY + 1
        if entering:
            slot[depth] = ((key * 0x9E3779B97F4A7C1) >> 40 ^ key) & (1 << _BITS) - 1
            found = table[slot[depth]]
            if found >> MOST_EMPTY + 1 == key:
                won, needs, done = found & 1 != 0, found >> 1 & (1 << MOST_EMPTY) - 1, True
            else:
                left[depth], used[depth] = every & ~(held[depth] | other[depth]), 0
                if not _connects(held[depth] | left[depth], touching[player], edges[player, 0], edges[player, 1]):
                    won, needs, done = False, np.int64(0), True  # cut off for good
            move[depth] = 0
        elif not won:  # the last move leaves the opponent a lost position
            won, needs, done = True, needs | move[depth], True
        else:
            used[depth] |= needs
            left[depth] &= needs
            if left[depth] == 0:
                won, needs, done = False, used[depth], True
        if done:
            table[slot[depth]] = key << MOST_EMPTY + 1 | needs << 1 | won
            if depth == 0:
                return won
            depth, entering = depth - 1, False
            continue
        answer = 0 if entering else left[depth] & move[depth + 1]  # where the opponent would win is a good place
        move[depth] = answer if answer else left[depth] & -left[depth]
        left[depth] ^= move[depth]
        held[depth + 1], other[depth + 1] = other[depth], held[depth] | move[depth]
        depth, entering = depth + 1, True


@njit(cache=True)
def _scores(row: Row, cells: NDArray[np.int64], table: NDArray[np.int64], found: NDArray[np.float64]) -> None:
    """Writes 1 for every winning move and -1 for every losing move into `found` [A]."""
    touching, edges = np.empty((2, len(cells)), np.int64), np.empty((2, 2), np.int64)
    for again in range(2):
        for player in range(2):
            touching[player], edges[player, 0], edges[player, 1] = _links(row, cells, player + 1)
        if not again:  # moves are tried in this order: first the cells that touch many others
            ways = np.zeros(len(cells), np.int64)
            for i in range(len(cells)):
                for j in range(len(cells)):
                    ways[i] += (touching[0, i] >> j & 1) + (touching[1, i] >> j & 1)
            cells = cells[np.argsort(-ways, kind="mergesort")]
    me = int(row[1])
    for i in range(len(cells)):
        found[cells[i]] = -1.0 if _wins(0, 1 << i, 1 - me, touching, edges, table) else 1.0


def scores(row: Row) -> NDArray[np.float64]:
    """The result of every action [A] under best play: 1 if it wins, -1 if it loses, nan if it is illegal.

    The game in `row` [R] must not be over. UsageError for more than `MOST_EMPTY` empty cells.
    """
    n = int(row[0])
    cells = np.flatnonzero(row[_HEAD : _HEAD + n * n] == 0)
    if len(cells) > MOST_EMPTY:
        raise UsageError(f"hex: {len(cells)} cells are empty; endgames are solved with at most {MOST_EMPTY}")
    found = np.full(n * n, np.nan)
    _scores(row, cells, np.zeros(1 << _BITS, np.int64), found)
    return found


def empty(row: Row) -> int:
    """The number of empty cells."""
    n = int(row[0])
    return int((row[_HEAD : _HEAD + n * n] == 0).sum())
