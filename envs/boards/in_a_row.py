"""k in a row on an n x n board: tic-tac-toe (n = k = 3) and freestyle Gomoku (longer rows win too).

Actions are cells, row * n + column. Row: n, k, the player to move, the result (0 none yet, 1 or 2 that player's win, 3 a draw), the
number of stones (16 bits), then the cells (0 empty, 1 player 0, 2 player 1).
"""

from collections.abc import Callable

import numpy as np
from numba import njit

from rlsuite.core.errors import UsageError
from rlsuite.core.game import (
    ALL_AROUND,
    Actions,
    Game,
    Planes,
    Presentation,
    Row,
    Rules,
    cell_name,
    go_point,
    player_in_turn,
    read_grid,
    square_maps,
)
from rlsuite.core.hashing import mix

_HEAD = 8


@njit(cache=True)
def init(row: Row) -> None:
    """Does nothing: an empty board is all zeros."""


@njit(cache=True)
def player(row: Row) -> int:
    """The player to move."""
    return row[2]  # type: ignore[no-any-return]


@njit(cache=True)
def legal(row: Row, actions: Actions) -> int:
    """The empty cells."""
    if row[3] != 0:
        return 0
    found = 0
    for cell in range(int(row[0]) * row[0]):
        if row[_HEAD + cell] == 0:
            actions[found] = cell
            found += 1
    return found


@njit(cache=True)
def play(row: Row, action: int) -> None:
    """Puts down a stone."""
    n, stone = int(row[0]), row[2] + 1
    row[_HEAD + action] = stone
    stones = row[:_HEAD].view(np.int16)
    stones[2] += 1
    if _wins(row, action):
        row[3] = stone
    elif stones[2] == n * n:
        row[3] = 3
    row[2] = 1 - row[2]


@njit(cache=True)
def _wins(row: Row, action: int) -> bool:
    """Whether the stone on `action` is part of a row of k or more of its colour."""
    n, k, stone = int(row[0]), int(row[1]), row[_HEAD + action]
    y, x = action // n, action % n
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        length = 1
        for sign in (-1, 1):
            r, c = y + sign * dy, x + sign * dx
            while 0 <= r < n and 0 <= c < n and row[_HEAD + r * n + c] == stone:
                length += 1
                r += sign * dy
                c += sign * dx
        if length >= k:
            return True
    return False


@njit(cache=True)
def outcome(row: Row) -> tuple[bool, float]:
    """Over with the first row of k, or on a full board."""
    result = row[3]
    return result != 0, 1.0 if result == 1 else -1.0 if result == 2 else 0.0


@njit(cache=True)
def encode(row: Row, planes: Planes) -> None:
    """Planes: own stones, opposing stones."""
    n, own = int(row[0]), row[2] + 1
    for y in range(n):
        for x in range(n):
            stone = row[_HEAD + y * n + x]
            planes[0, y, x] = stone == own
            planes[1, y, x] = stone == 3 - own


@njit(cache=True)
def position_hash(row: Row) -> np.uint64:
    """A hash of the stones and the player to move."""
    return mix(row[2:], np.uint64(0))


def set_player(row: Row, player: int) -> None:
    """Makes `player` the one to move."""
    row[2] = player


RULES = Rules(init, player, legal, play, outcome, encode, position_hash)


def _game(
    name: str,
    size: int,
    connect: int,
    parameters: dict[str, int],
    point: Callable[[int], Callable[[int], str]],
    presentation: Presentation,
) -> Game:
    if not 3 <= size <= 19 or not 3 <= connect <= size:
        raise UsageError(f"gomoku: size {size}, connect {connect}; allowed are sizes 3 to 19, and 3 to size in a row")
    row_size = -(-(_HEAD + size * size) // 8) * 8
    start = np.zeros(row_size, np.int8)
    start[0], start[1] = size, connect
    cell_maps, action_maps = square_maps(size)

    def board_text(row: Row) -> str:
        cells = row[_HEAD : _HEAD + size * size].reshape(size, size)
        return "\n".join("".join(".xo"[stone] for stone in line) for line in cells)

    def parse(text: str) -> Row:
        cells = np.array(read_grid(text, name, size, size, ".xo"), np.int8).reshape(-1)
        row = start.copy()
        init(row)
        turn = player_in_turn(cells, name)
        mover = 2 - turn  # the stone that was placed last
        row[_HEAD : _HEAD + size * size] = cells
        winning = [cell for cell in np.flatnonzero(cells).tolist() if _wins(row, cell)]
        if winning:
            if {int(cells[cell]) for cell in winning} != {mover}:
                raise UsageError(f"{name}: this board cannot arise: it goes on after {'xo'[2 - mover]} has won")
            if not any(_was_last(row, cell) for cell in winning):
                raise UsageError(f"{name}: this board cannot arise: no single move made all these rows of {connect}")
        stones = int(np.count_nonzero(cells))
        row[2] = turn
        row[:_HEAD].view(np.int16)[2] = stones
        row[3] = mover if winning else 3 if stones == size * size else 0
        return row

    return Game(
        name=name,
        rules=RULES,
        start=start,
        num_actions=size * size,
        observation_shape=(2, size, size),
        max_moves=size * size,
        cell_maps=cell_maps,
        action_maps=action_maps,
        neighbours=ALL_AROUND,
        action_text=point(size),
        board_text=board_text,
        parse=parse,
        parameters=parameters,
        make=gomoku if parameters else None,
        set_player=set_player,
        presentation=presentation,
    )


def _was_last(row: Row, cell: int) -> bool:
    """Whether the stone on `cell` may have been placed last: without it, nobody has won."""
    before = row.copy()
    before[_HEAD + cell] = 0
    return not any(_wins(before, other) for other in range(int(row[0]) ** 2) if before[_HEAD + other])


def tic_tac_toe() -> Game:
    """The game tic-tac-toe."""
    return _game("tic_tac_toe", 3, 3, {}, cell_name, Presentation())


def gomoku(size: int = 15, connect: int = 5) -> Game:
    """The game freestyle Gomoku: `connect` or more in a row win on size x size cells. UsageError for numbers out of range."""
    parameters = {"size": size, "connect": connect}
    presentation = Presentation(sides=("Black", "White"), board="points", sgf=4)
    return _game(f"gomoku(size={size},connect={connect})", size, connect, parameters, go_point, presentation)
