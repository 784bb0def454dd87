"""Exact play in Othello's endgames, on boards of up to 8 x 8 cells: alpha-beta over bitboards, with a table of positions.

The score of a position is the difference of discs at the end of the game under best play, for the player to move; empty cells count
for nobody. Bit y * 8 + x is the cell in row y and column x, also on smaller boards, whose other cells stay empty. Moves that leave
the opponent few replies are tried first, since few replies are quick to search; corners and odd regions are preferred.
Shapes: A actions, R bytes per row, D depths, M moves of a position, K entries of the table.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError
from rlsuite.core.game import Row

LARGEST = 8  # cells per side
MOST_EMPTY = 14
_HEAD = 8  # bytes of a row before the cells
_BITS = 16  # of the table's index
_TABLE_FROM = 5  # positions with fewer empty cells are faster to search than to look up
_SORT_FROM = 4  # positions with fewer empty cells are faster to search than to sort
_DEPTHS = 2 * MOST_EMPTY + 4  # a move and a pass for each empty cell, and some to spare
_MOVES = 34  # no position has more
_ONE, _NONE = np.uint64(1), np.uint64(0)
_INNER = np.uint64(0x7E7E7E7E7E7E7E7E)  # all columns but the first and the last
_CORNERS = np.uint64(0x8100000000000081)
_QUARTERS = (np.uint64(0x0F0F0F0F), np.uint64(0xF0F0F0F0), np.uint64(0x0F0F0F0F00000000), np.uint64(0xF0F0F0F000000000))


@njit(cache=True, inline="always")
def _count(bits: np.uint64) -> int:
    """The number of bits that are set."""
    bits = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))  # type: ignore[return-value]


@njit(cache=True)
def _places(own: np.uint64, other: np.uint64) -> np.uint64:
    """The cells behind lines of opposing discs, seen from own discs; those that are empty are legal moves."""
    found = _NONE
    for shift, along in ((1, other & _INNER), (8, other), (7, other & _INNER), (9, other & _INNER)):
        by = np.uint64(shift)
        up, down = along & (own << by), along & (own >> by)
        for _ in range(5):
            up |= along & (up << by)
            down |= along & (down >> by)
        found |= (up << by) | (down >> by)
    return found


@njit(cache=True)
def _turned(own: np.uint64, other: np.uint64, move: np.uint64) -> np.uint64:
    """The discs that a disc of `own` on the bit `move` turns over."""
    found = _NONE
    for shift, along in ((1, other & _INNER), (8, other), (7, other & _INNER), (9, other & _INNER)):
        by = np.uint64(shift)
        up, down = along & (move << by), along & (move >> by)
        for _ in range(5):
            up |= along & (up << by)
            down |= along & (down >> by)
        if (up << by) & own:
            found |= up
        if (down >> by) & own:
            found |= down
    return found


@njit(cache=True)
def _slot(own: np.uint64, other: np.uint64) -> int:
    """The index of a position in the table."""
    mixed = own * np.uint64(0x9E3779B97F4A7C15) ^ (other * np.uint64(0xC2B2AE3D27D4EB4F) >> np.uint64(7))
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.int64(mixed >> np.uint64(64 - _BITS))  # type: ignore[return-value]


@njit(cache=True)
def _order(
    own: np.uint64,
    other: np.uint64,
    places: np.uint64,
    cells: np.uint64,
    corners: np.uint64,
    moves: NDArray[np.uint64],
    flips: NDArray[np.uint64],
    ranks: NDArray[np.int64],
) -> int:
    """Writes the legal moves [M] and what they turn over [M], the most promising first; returns how many there are."""
    empty = cells & ~(own | other)
    sort, found = _count(empty) >= _SORT_FROM, 0
    while places:
        move = places & (~places + _ONE)
        places ^= move
        turned, rank = _turned(own, other, move), 0
        if sort:
            after = own | move | turned
            rank = 4 * _count(_places(other & ~turned, after) & (empty ^ move)) - 6 * (move & corners != _NONE)
        for quarter in _QUARTERS:
            if quarter & move:
                rank -= _count(quarter & empty) & 1  # in an odd region one is likely to move last
        at = found
        while at and ranks[at - 1] > rank:
            moves[at], flips[at], ranks[at] = moves[at - 1], flips[at - 1], ranks[at - 1]
            at -= 1
        moves[at], flips[at], ranks[at] = move, turned, rank
        found += 1
    return found


@njit(cache=True)
def solve(
    own: np.uint64,
    other: np.uint64,
    cells: np.uint64,
    corners: np.uint64,
    keys: NDArray[np.uint64],
    bounds: NDArray[np.int8],
) -> int:
    """The exact score of a position for the player to move, whose discs are `own`.

    `cells` and `corners` are those of the board. `keys` uint64 [K,2] and `bounds` int8 [K,2] are the table: zeros at first, and
    reusable only for the same board.
    """
    owns, others = np.empty(_DEPTHS, np.uint64), np.empty(_DEPTHS, np.uint64)
    moves, flips = np.empty((_DEPTHS, _MOVES), np.uint64), np.empty((_DEPTHS, _MOVES), np.uint64)
    ranks = np.empty(_MOVES, np.int64)
    count, at = np.zeros(_DEPTHS, np.int64), np.zeros(_DEPTHS, np.int64)
    alpha, beta, floor = np.empty(_DEPTHS, np.int64), np.empty(_DEPTHS, np.int64), np.empty(_DEPTHS, np.int64)
    best, slots = np.empty(_DEPTHS, np.int64), np.empty(_DEPTHS, np.int64)
    depth, value, entering = 0, 0, True
    owns[0], others[0], alpha[0], beta[0] = own, other, -LARGEST * LARGEST, LARGEST * LARGEST
    while True:
        if entering:
            own, other = owns[depth], others[depth]
            empty = cells & ~(own | other)
            places = _places(own, other) & empty
            done, slots[depth], floor[depth] = False, -1, alpha[depth]
            if places == _NONE:
                if empty == _NONE or _places(other, own) & empty == _NONE:
                    value, done = _count(own) - _count(other), True
                else:  # a pass
                    moves[depth, 0], flips[depth, 0], count[depth] = _NONE, _NONE, 1
            else:
                if _count(empty) >= _TABLE_FROM:
                    slot = _slot(own, other)
                    slots[depth] = slot
                    if keys[slot, 0] == own and keys[slot, 1] == other:
                        low, high = int(bounds[slot, 0]), int(bounds[slot, 1])
                        if low >= beta[depth] or low == high:
                            value, done = low, True
                        elif high <= alpha[depth]:
                            value, done = high, True
                        else:
                            alpha[depth], beta[depth] = max(alpha[depth], low), min(beta[depth], high)
                            floor[depth] = alpha[depth]
                if not done:
                    count[depth] = _order(own, other, places, cells, corners, moves[depth], flips[depth], ranks)
            at[depth], best[depth] = 0, -LARGEST * LARGEST - 1
        else:  # `value` is that of the last move tried here
            done = False
            best[depth] = max(best[depth], value)
            alpha[depth] = max(alpha[depth], value)
            at[depth] += 1
            if alpha[depth] >= beta[depth] or at[depth] == count[depth]:
                value, done = best[depth], True
                slot = slots[depth]
                if slot >= 0:
                    keys[slot, 0], keys[slot, 1] = owns[depth], others[depth]
                    bounds[slot, 0] = value if value > floor[depth] else -LARGEST * LARGEST
                    bounds[slot, 1] = value if value < beta[depth] else LARGEST * LARGEST
        if done:
            if depth == 0:
                return value
            depth, value, entering = depth - 1, -value, False
            continue
        move, turned = moves[depth, at[depth]], flips[depth, at[depth]]
        owns[depth + 1], others[depth + 1] = others[depth] & ~turned, owns[depth] | move | turned
        alpha[depth + 1], beta[depth + 1] = -beta[depth], -alpha[depth]
        depth, entering = depth + 1, True


@njit(cache=True)
def _scores(row: Row, found: NDArray[np.float64], keys: NDArray[np.uint64], bounds: NDArray[np.int8]) -> None:
    """Writes the exact score of every legal action into `found` [A], nan for the others."""
    n, me = int(row[0]), row[1] + 1
    own, other, cells = _NONE, _NONE, _NONE
    for cell in range(n * n):
        bit = _ONE << np.uint64(cell // n * 8 + cell % n)
        cells |= bit
        if row[_HEAD + cell] == me:
            own |= bit
        elif row[_HEAD + cell] != 0:
            other |= bit
    corners = _ONE | _ONE << np.uint64(n - 1) | _ONE << np.uint64(8 * (n - 1)) | _ONE << np.uint64(9 * (n - 1))
    places = _places(own, other) & cells & ~(own | other)
    found[:] = np.nan
    if places == _NONE:
        found[n * n] = -solve(other, own, cells, corners, keys, bounds)
        return
    for cell in range(n * n):
        move = _ONE << np.uint64(cell // n * 8 + cell % n)
        if places & move:
            turned = _turned(own, other, move)
            found[cell] = -solve(other & ~turned, own | move | turned, cells, corners, keys, bounds)


def scores(row: Row) -> NDArray[np.float64]:
    """The exact score of every action [A] for the player to move, nan for illegal ones.

    The game in `row` [R] must not be over. UsageError for more than `MOST_EMPTY` empty cells.
    """
    if (count := empty(row)) > MOST_EMPTY:
        raise UsageError(f"othello: {count} cells are empty; endgames are solved with at most {MOST_EMPTY}")
    n = int(row[0])
    found = np.empty(n * n + 1)
    _scores(row, found, np.zeros((1 << _BITS, 2), np.uint64), np.zeros((1 << _BITS, 2), np.int8))
    return found


def empty(row: Row) -> int:
    """The number of empty cells."""
    n = int(row[0])
    return int((row[_HEAD : _HEAD + n * n] == 0).sum())
