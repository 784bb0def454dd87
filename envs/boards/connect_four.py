"""Connect Four on 7 columns of 6, as bitboards. An action is a column.

Row: two 64-bit words, the stones of players 0 and 1 (bit column * 7 + height; the seventh bit of a column stays empty, so that
shifts do not leak into the next column), then two bytes: the number of stones and the result (0 none yet, 1 or 2 that player's win,
3 a draw).
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numba import njit

from rlsuite.core.errors import UsageError
from rlsuite.core.game import ALL_AROUND, Actions, Game, Planes, Presentation, Row, Rules, read_grid
from rlsuite.core.hashing import finalise

WIDTH, HEIGHT = 7, 6
_COLUMN = HEIGHT + 1
_ONE = np.uint64(1)


@njit(cache=True)
def init(row: Row) -> None:
    """Does nothing: an empty board is all zeros."""


@njit(cache=True)
def player(row: Row) -> int:
    """The player to move."""
    return row[16] & 1  # type: ignore[no-any-return]


@njit(cache=True)
def legal(row: Row, actions: Actions) -> int:
    """The columns that are not full."""
    if row[17] != 0:
        return 0
    words = row.view(np.uint64)
    taken = words[0] | words[1]
    found = 0
    for column in range(WIDTH):
        if (taken >> np.uint64(column * _COLUMN + HEIGHT - 1)) & _ONE == 0:
            actions[found] = column
            found += 1
    return found


@njit(cache=True)
def play(row: Row, action: int) -> None:
    """Drops a stone into a column."""
    words = row.view(np.uint64)
    mover = row[16] & 1
    taken = words[0] | words[1]
    bottom = _ONE << np.uint64(action * _COLUMN)
    column = ((_ONE << np.uint64(HEIGHT)) - _ONE) << np.uint64(action * _COLUMN)
    words[mover] |= (taken + bottom) & column  # the carry of the addition stops at the lowest empty cell
    row[16] += 1
    if four(words[mover]):
        row[17] = mover + 1
    elif row[16] == WIDTH * HEIGHT:
        row[17] = 3


@njit(cache=True)
def four(stones: np.uint64) -> bool:
    """Whether four of these stones are in a line: vertical, horizontal or diagonal."""
    for shift in (1, _COLUMN, _COLUMN - 1, _COLUMN + 1):
        pairs = stones & (stones >> np.uint64(shift))
        if pairs & (pairs >> np.uint64(2 * shift)):
            return True
    return False


@njit(cache=True)
def outcome(row: Row) -> tuple[bool, float]:
    """Over with the first four in a line, or on a full board."""
    result = row[17]
    return result != 0, 1.0 if result == 1 else -1.0 if result == 2 else 0.0


@njit(cache=True)
def encode(row: Row, planes: Planes) -> None:
    """Planes: own stones, opposing stones."""
    words = row.view(np.uint64)
    mover = row[16] & 1
    own, other = words[mover], words[1 - mover]
    for y in range(HEIGHT):
        for x in range(WIDTH):
            bit = np.uint64(x * _COLUMN + HEIGHT - 1 - y)
            planes[0, y, x] = (own >> bit) & _ONE
            planes[1, y, x] = (other >> bit) & _ONE


@njit(cache=True)
def position_hash(row: Row) -> np.uint64:
    """A hash of the stones and the player to move."""
    words = row.view(np.uint64)
    mover = row[16] & 1
    return finalise(finalise(words[mover] + np.uint64(0x9E3779B97F4A7C15)) ^ words[1 - mover])


def set_player(row: Row, player: int) -> None:
    """Makes `player` the one to move: sets the lowest bit of the number of stones, which decides who moves."""
    row[16] = (row[16] & ~1) | player


RULES = Rules(init, player, legal, play, outcome, encode, position_hash)


def connect_four() -> Game:
    """The game Connect Four."""
    mirror = np.arange(WIDTH * HEIGHT, dtype=np.int32).reshape(HEIGHT, WIDTH)[:, ::-1].reshape(-1)
    columns = np.arange(WIDTH, dtype=np.int32)
    return Game(
        name="connect_four",
        rules=RULES,
        start=np.zeros(24, np.int8),
        num_actions=WIDTH,
        observation_shape=(2, HEIGHT, WIDTH),
        max_moves=WIDTH * HEIGHT,
        cell_maps=np.stack([np.arange(WIDTH * HEIGHT, dtype=np.int32), mirror]),
        action_maps=np.stack([columns, columns[::-1]]),
        neighbours=ALL_AROUND,
        action_text=lambda action: "abcdefg"[action],
        board_text=_board_text,
        parse=_parse,
        presentation=Presentation(sides=("Red", "Yellow"), board="columns"),
        set_player=set_player,
        graded_positions=Path(__file__).with_name("connect_four_positions.csv"),
    )


def _board_text(row: Row) -> str:
    first, second = (int(word) for word in row.view(np.uint64)[:2])
    lines = []
    for y in range(HEIGHT):
        bits = [x * _COLUMN + HEIGHT - 1 - y for x in range(WIDTH)]
        lines.append("".join("x" if first >> bit & 1 else "o" if second >> bit & 1 else "." for bit in bits))
    return "\n".join(lines)


def _parse(text: str) -> Row:
    grid = read_grid(text, "connect_four", WIDTH, HEIGHT, ".xo")
    columns = [[grid[HEIGHT - 1 - height][x] for height in range(HEIGHT)] for x in range(WIDTH)]  # from the bottom
    for x, column in enumerate(columns):
        if any(low == 0 and high != 0 for low, high in pairwise(column)):
            raise UsageError(f"connect_four: a stone floats in column {'abcdefg'[x]}")
    stacks = [[stone for stone in column if stone] for column in columns]
    moves = _order(stacks)
    if moves is None:
        raise UsageError(
            "connect_four: this board cannot arise: no order of moves, x first and in turn, leads to it without an earlier win"
        )
    row = np.zeros(24, np.int8)
    for move in moves:
        play(row, move)
    return row


def _order(stacks: list[list[int]]) -> list[int] | None:
    """Moves that lead to these columns (bottom first, 1 or 2 each) with no win before the last one; None if there are none."""
    first, second = (sum(stack.count(stone) for stack in stacks) for stone in (1, 2))
    if first - second not in (0, 1):
        return None
    full = tuple(len(stack) for stack in stacks)
    dead: set[tuple[int, ...]] = set()

    def stones(heights: tuple[int, ...], stone: int) -> np.uint64:
        bits = [x * _COLUMN + y for x in range(WIDTH) for y in range(heights[x]) if stacks[x][y] == stone]
        return np.uint64(sum(1 << bit for bit in bits))

    # Backwards from the given board: remove a top stone of whoever moved last. A board without a line keeps none.
    moves: list[int] = []

    def back(heights: tuple[int, ...]) -> bool:
        count = sum(heights)
        if count == 0:
            return True
        if heights in dead:
            return False
        mover = 1 if count % 2 else 2
        for x in range(WIDTH):
            if heights[x] and stacks[x][heights[x] - 1] == mover:
                before = (*heights[:x], heights[x] - 1, *heights[x + 1 :])
                if count == first + second and (four(stones(before, 1)) or four(stones(before, 2))):
                    continue
                moves.append(x)
                if back(before):
                    return True
                moves.pop()
        dead.add(heights)
        return False

    return moves[::-1] if back(full) else None
