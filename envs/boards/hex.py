"""Hex on n x n cells: player 0 connects the top row to the bottom row, player 1 the left column to the right. No swap rule.

Actions are cells, row * n + column; the neighbours of (y, x) are (y, x±1), (y±1, x), (y-1, x+1), (y+1, x-1).

Row: n, the player to move, the result (0 none yet, 1 or 2 that player's win), then the cells: 0 empty, 1 or 2 a stone, plus 4 if
the stone is connected to its player's first edge, plus 8 if to the last one.
"""

import numpy as np
from numba import njit

from rlsuite.core.errors import UsageError
from rlsuite.core.game import (
    HALF_TURN,
    Actions,
    Endgames,
    Game,
    GtpDialect,
    Planes,
    Presentation,
    Row,
    Rules,
    cell_name,
    player_in_turn,
    read_grid,
    square_maps,
)
from rlsuite.core.hashing import mix
from rlsuite.envs.boards import hex_endgames

_ENDGAMES = Endgames(hex_endgames.empty, 18, hex_endgames.scores)
_HEAD = 8
_LARGEST = 19
_NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0), (-1, 1), (1, -1))
_FIRST, _LAST, _STONE = 4, 8, 3


@njit(cache=True)
def init(row: Row) -> None:
    """Does nothing: an empty board is all zeros."""


@njit(cache=True)
def player(row: Row) -> int:
    """The player to move."""
    return row[1]  # type: ignore[no-any-return]


@njit(cache=True)
def legal(row: Row, actions: Actions) -> int:
    """The empty cells."""
    if row[2]:
        return 0
    found = 0
    for cell in range(int(row[0]) * int(row[0])):
        if row[_HEAD + cell] == 0:
            actions[found] = cell
            found += 1
    return found


@njit(cache=True)
def play(row: Row, action: int) -> None:
    """Puts down a stone and updates which stones are connected to the edges."""
    n, stone = int(row[0]), row[1] + 1
    y, x = action // n, action % n
    along = y if stone == 1 else x
    edges = (_FIRST if along == 0 else 0) | (_LAST if along == n - 1 else 0)
    for dy, dx in _NEIGHBOURS:
        r, c = y + dy, x + dx
        if 0 <= r < n and 0 <= c < n and row[_HEAD + r * n + c] & _STONE == stone:
            edges |= row[_HEAD + r * n + c] & (_FIRST | _LAST)
    row[_HEAD + action] = stone
    if edges:
        _mark(row, action, stone, edges)
    if edges == _FIRST | _LAST:
        row[2] = stone
    row[1] = 1 - row[1]


@njit(cache=True)
def _mark(row: Row, cell: int, stone: int, edges: int) -> None:
    """Marks all stones connected to `cell` with these edges; stones that have the marks are not visited again."""
    n = int(row[0])
    todo = np.empty(_LARGEST * _LARGEST, np.int32)
    todo[0] = cell
    row[_HEAD + cell] |= edges
    left = 1
    while left:
        left -= 1
        y, x = todo[left] // n, todo[left] % n
        for dy, dx in _NEIGHBOURS:
            r, c = y + dy, x + dx
            if 0 <= r < n and 0 <= c < n:
                near = row[_HEAD + r * n + c]
                if near & _STONE == stone and near & edges != edges:
                    row[_HEAD + r * n + c] |= edges
                    todo[left] = r * n + c
                    left += 1


@njit(cache=True)
def outcome(row: Row) -> tuple[bool, float]:
    """Over once a player has connected its edges."""
    return row[2] != 0, 1.0 if row[2] == 1 else -1.0


@njit(cache=True)
def encode(row: Row, planes: Planes) -> None:
    """Planes: own stones, opposing stones, whether player 0 is to move."""
    n, own = int(row[0]), row[1] + 1
    for y in range(n):
        for x in range(n):
            stone = row[_HEAD + y * n + x] & _STONE
            planes[0, y, x] = stone == own
            planes[1, y, x] = stone == 3 - own
            planes[2, y, x] = own == 1  # the players connect different edges


@njit(cache=True)
def position_hash(row: Row) -> np.uint64:
    """A hash of the stones, the player to move and n."""
    return mix(row[1:], np.uint64(row[0]))


def set_player(row: Row, player: int) -> None:
    """Makes `player` the one to move."""
    row[1] = player


RULES = Rules(init, player, legal, play, outcome, encode, position_hash)


def hex_game(size: int = 11) -> Game:
    """The game Hex on size x size cells. UsageError for a size that is not allowed."""
    if not 2 <= size <= _LARGEST:
        raise UsageError(f"hex: size {size}; allowed are 2 to {_LARGEST}")
    name = f"hex(size={size})"
    start = np.zeros(-(-(_HEAD + size * size) // 8) * 8, np.int8)
    start[0] = size
    cell_maps, action_maps = square_maps(size, symmetries=HALF_TURN)

    def board_text(row: Row) -> str:
        cells = (row[_HEAD : _HEAD + size * size] & _STONE).reshape(size, size)
        return "\n".join(" " * y + " ".join(".xo"[stone] for stone in line) for y, line in enumerate(cells))

    def parse(text: str) -> Row:
        cells = np.array(read_grid(text, name, size, size, ".xo"), np.int8).reshape(-1)
        turn = player_in_turn(cells, name)
        mover = 2 - turn  # the stone that was placed last
        row = _replayed(start, cells)
        if row[2] and (
            row[2] != mover
            or not any(_replayed(start, _without(cells, c))[2] == 0 for c in np.flatnonzero(cells == mover).tolist())
        ):
            raise UsageError(f"{name}: this board cannot arise: it goes on after {'xo'[row[2] - 1]} has won")
        row[1] = turn
        return row

    return Game(
        name=name,
        rules=RULES,
        start=start,
        num_actions=size * size,
        observation_shape=(3, size, size),
        max_moves=size * size,
        cell_maps=cell_maps,
        action_maps=action_maps,
        neighbours=_NEIGHBOURS,
        action_text=cell_name(size),
        board_text=board_text,
        parse=parse,
        has_draws=False,
        parameters={"size": size},
        make=hex_game,
        set_player=set_player,
        endgames=_ENDGAMES,
        presentation=Presentation(sides=("Red", "Blue"), board="hexes", sgf=11, gtp=GtpDialect()),
    )


def _replayed(start: Row, cells: Row) -> Row:
    """The row after placing these stones one by one; the caller must set the player to move."""
    row = start.copy()
    won = 0
    for cell in np.flatnonzero(cells).tolist():
        row[1] = cells[cell] - 1
        play(row, cell)
        won = won or int(row[2])
    row[2] = won
    return row


def _without(cells: Row, cell: int) -> Row:
    """A copy of the cells with one of them emptied."""
    fewer = cells.copy()
    fewer[cell] = 0
    return fewer
