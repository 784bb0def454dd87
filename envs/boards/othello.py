"""Othello on n x n cells, n even. Actions are cells, row * n + column, and n * n to pass, which is legal only if nothing else is.

Row: n, the player to move, over (0 or 1), 5 free bytes, then the cells (0 empty, 1 player 0, 2 player 1). The game ends when
neither player can move; more discs win.
"""

import numpy as np
from numba import njit

from rlsuite.core.errors import UsageError
from rlsuite.core.game import (
    DIAGONALS,
    Actions,
    Endgames,
    Game,
    GtpDialect,
    Owners,
    Planes,
    Presentation,
    Row,
    Rules,
    cell_name,
    read_grid,
    square_maps,
)
from rlsuite.core.hashing import mix
from rlsuite.envs.boards import othello_endgames

_ENDGAMES = Endgames(othello_endgames.empty, 12, othello_endgames.scores, "discs")
_HEAD = 8
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (-1, -1), (-1, 1))


@njit(cache=True)
def init(row: Row) -> None:
    """Places the four discs in the middle if they are missing; these cells are never empty once the game has begun."""
    n = int(row[0])
    half = n // 2
    if row[_HEAD + half * n + half] != 0:
        return
    row[_HEAD + (half - 1) * n + half] = 1  # player 0, black, as in OpenSpiel
    row[_HEAD + half * n + half - 1] = 1
    row[_HEAD + (half - 1) * n + half - 1] = 2
    row[_HEAD + half * n + half] = 2


@njit(cache=True)
def player(row: Row) -> int:
    """The player to move."""
    return row[1]  # type: ignore[no-any-return]


@njit(cache=True)
def _captures(row: Row, cell: int, dy: int, dx: int, own: int) -> int:
    """The number of opposing discs between `cell` and the next disc of `own` in one direction; 0 if there is no such disc."""
    n = int(row[0])
    y, x = cell // n + dy, cell % n + dx
    count = 0
    while 0 <= y < n and 0 <= x < n and row[_HEAD + y * n + x] == 3 - own:
        count += 1
        y += dy
        x += dx
    if count and 0 <= y < n and 0 <= x < n and row[_HEAD + y * n + x] == own:
        return count
    return 0


@njit(cache=True)
def _can_go(row: Row, cell: int, own: int) -> bool:
    """Whether a disc of `own` on `cell` would turn any over."""
    if row[_HEAD + cell] != 0:
        return False
    for dy, dx in _DIRECTIONS:
        if _captures(row, cell, dy, dx, own):
            return True
    return False


@njit(cache=True)
def _can_move(row: Row, own: int) -> bool:
    """Whether `own` has a move other than a pass."""
    for cell in range(int(row[0]) * int(row[0])):
        if _can_go(row, cell, own):
            return True
    return False


@njit(cache=True)
def legal(row: Row, actions: Actions) -> int:
    """The cells where a disc turns others over; the pass if there are none."""
    if row[2]:
        return 0
    cells = int(row[0]) * int(row[0])
    own = row[1] + 1
    found = 0
    for cell in range(cells):
        if _can_go(row, cell, own):
            actions[found] = cell
            found += 1
    if found == 0:
        actions[0] = cells
        found = 1
    return found


@njit(cache=True)
def play(row: Row, action: int) -> None:
    """Puts down a disc and turns over those that it captures, or passes."""
    n = int(row[0])
    own = row[1] + 1
    if action < n * n:
        for dy, dx in _DIRECTIONS:
            for step in range(1, _captures(row, action, dy, dx, own) + 1):
                row[_HEAD + action + step * (dy * n + dx)] = own
        row[_HEAD + action] = own
        row[2] = not _can_move(row, 3 - own) and not _can_move(row, own)
    row[1] = 1 - row[1]


@njit(cache=True)
def outcome(row: Row) -> tuple[bool, float]:
    """Over when neither player can move; more discs win."""
    if row[2] == 0:
        return False, 0.0
    lead = 0
    for cell in range(int(row[0]) * int(row[0])):
        stone = row[_HEAD + cell]
        lead += (stone == 1) - (stone == 2)
    return True, 1.0 if lead > 0 else -1.0 if lead < 0 else 0.0


@njit(cache=True)
def owners(row: Row, owned: Owners) -> None:
    """Writes the owners of all cells [n*n]."""
    for cell in range(owned.size):
        stone = row[_HEAD + cell]
        owned[cell] = 1 if stone == 1 else -1 if stone == 2 else 0


@njit(cache=True)
def encode(row: Row, planes: Planes) -> None:
    """Planes: own discs, opposing discs."""
    n, own = int(row[0]), row[1] + 1
    for y in range(n):
        for x in range(n):
            stone = row[_HEAD + y * n + x]
            planes[0, y, x] = stone == own
            planes[1, y, x] = stone == 3 - own


@njit(cache=True)
def position_hash(row: Row) -> np.uint64:
    """A hash of the discs, the player to move and n."""
    return mix(row[1:], np.uint64(row[0]))


def set_player(row: Row, player: int) -> None:
    """Makes `player` the one to move."""
    row[1] = player


RULES = Rules(init, player, legal, play, outcome, encode, position_hash, owners)


def othello(size: int = 8) -> Game:
    """The game Othello on size x size cells. UsageError for a size that is not allowed."""
    if size % 2 or not 4 <= size <= 16:
        raise UsageError(f"othello: size {size}; allowed are even sizes from 4 to 16")
    name = f"othello(size={size})"
    start = np.zeros(-(-(_HEAD + size * size) // 8) * 8, np.int8)
    start[0] = size
    cell_maps, action_maps = square_maps(size, extra_actions=1, symmetries=DIAGONALS)

    def board_text(row: Row) -> str:
        cells = row[_HEAD : _HEAD + size * size].reshape(size, size)
        turn = "over" if row[2] else f"{'xo'[row[1]]} to play"
        return "\n".join("".join(".xo"[stone] for stone in line) for line in cells) + f"\n{turn}"

    def parse(text: str) -> Row:
        lines = text.strip().splitlines()
        turns = {"x to play": (0, 0), "o to play": (1, 0), "over": (0, 1)}
        if not lines or lines[-1].strip() not in turns:
            raise UsageError(f"{name}: the last line of a board text is one of {', '.join(turns)}")
        cells = np.array(read_grid("\n".join(lines[:-1]), name, size, size, ".xo"), np.int8)
        half = size // 2
        if (cells[half - 1 : half + 1, half - 1 : half + 1] == 0).any():
            raise UsageError(f"{name}: this board cannot arise: the four cells in the middle are never empty")
        if not _connected(cells):
            raise UsageError(f"{name}: this board cannot arise: all discs are connected, each next to another")
        row = start.copy()
        row[_HEAD : _HEAD + size * size] = cells.reshape(-1)
        row[1], over = turns[lines[-1].strip()]
        row[2] = not _can_move(row, 1) and not _can_move(row, 2)
        if bool(row[2]) != bool(over):
            raise UsageError(
                f"{name}: the game is {'over' if row[2] else 'not over'} on this board, but its text says {lines[-1].strip()!r}"
            )
        return row

    return Game(
        name=name,
        rules=RULES,
        start=start,
        num_actions=size * size + 1,
        observation_shape=(2, size, size),
        max_moves=2 * size * size,
        cell_maps=cell_maps,
        action_maps=action_maps,
        neighbours=_DIRECTIONS,
        action_text=cell_name(size),
        board_text=board_text,
        parse=parse,
        parameters={"size": size},
        make=othello,
        set_player=set_player,
        endgames=_ENDGAMES if size <= othello_endgames.LARGEST else None,
        presentation=Presentation(sides=("Black", "White"), board="felt", sgf=2, gtp=GtpDialect()),
    )


def _connected(cells: Row) -> bool:
    """Whether all discs are connected, also diagonally, as they must be: discs are only ever placed next to others."""
    todo = {(int(y), int(x)) for y, x in zip(*np.nonzero(cells), strict=True)}
    group = [todo.pop()]
    while group:
        y, x = group.pop()
        near = {(y + dy, x + dx) for dy, dx in _DIRECTIONS} & todo
        todo -= near
        group += near
    return not todo
