"""Go on n x n points: positional superko, no suicide, area scoring, komi; two passes end the game.

Actions are points, row * n + column with row 0 at the top, and n * n to pass. Superko (Tromp-Taylor rule 6): a move must not bring
back the arrangement of stones of any earlier position of the game, whoever was to move. A game also ends after `max_moves` actions
and is scored as it is.

Observations: with `planes=chains`, the position with the chains in atari marked; with `planes=stones`, as in AlphaGo Zero (Silver
et al. 2017, Methods), the stones of the last `history` positions, and whose turn it is.

Row: n, the player to move, the number of passes in a row, over (0 or 1); then two 16-bit numbers, twice the komi and the actions
played; then H, the number of earlier positions that are kept for the planes, whether these are of stones alone (0 or 1), and 6
bytes of padding; then 64-bit words: the number of arrangements so far, their hashes, and the hashes of the H earlier positions, the
latest first; then the points, 0 empty, 1 black (player 0) or 2 white; then those of the H earlier positions.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.game import (
    Actions,
    Game,
    GtpDialect,
    Owners,
    Planes,
    Presentation,
    Row,
    Rules,
    go_point,
    read_grid,
    square_maps,
)
from rlsuite.core.hashing import finalise

Words = NDArray[np.uint64]

_HEAD = 16
_NUMBERS = 8  # bytes of the row that hold its first numbers
_LARGEST = 19
_MOST_HISTORY = 16
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


@njit(cache=True)
def _moves(n: int) -> int:
    """The maximum number of moves in a game. Random play on 9x9 takes about 120 moves, ordinary games n * n * 2/3."""
    return 2 * n * n


@njit(cache=True)
def past_of(row: Row) -> Words:
    """A view of the arrangements so far as uint64: their number, then their hashes."""
    return row[_HEAD : _HEAD + 8 * (_moves(int(row[0])) + 2)].view(np.uint64)


@njit(cache=True)
def points_of(row: Row) -> Row:
    """A view of the points [n*n]."""
    n = int(row[0])
    begin = _HEAD + 8 * (_moves(n) + 2 + row[8])
    return row[begin : begin + n * n]


@njit(cache=True)
def _earlier_hashes(row: Row) -> Words:
    """A view of the hashes [H] of earlier positions."""
    begin = _HEAD + 8 * (_moves(int(row[0])) + 2)
    return row[begin : begin + 8 * row[8]].view(np.uint64)


@njit(cache=True)
def _earlier(row: Row) -> Row:
    """A view of the points [H*n*n] of earlier positions."""
    n = int(row[0])
    begin = _HEAD + 8 * (_moves(n) + 2 + row[8]) + n * n
    return row[begin : begin + row[8] * n * n]


@njit(cache=True)
def stone_hash(point: int, stone: int) -> np.uint64:
    """The Zobrist hash of a stone (1 or 2) on a point; the hash of an arrangement is the XOR of its stones' hashes."""
    return finalise(np.uint64(point * 2 + stone) * np.uint64(0x9E3779B97F4A7C15))


@njit(cache=True)
def init(row: Row) -> None:
    """Records the stones on the board (usually none) as the first arrangement."""
    past, points = past_of(row), points_of(row)
    past[0] = 1
    past[1] = 0
    for point in range(points.size):
        if points[point] != 0:
            past[1] ^= stone_hash(point, points[point])


@njit(cache=True)
def player(row: Row) -> int:
    """The player to move."""
    return row[1]  # type: ignore[no-any-return]


@njit(cache=True)
def _chain(points: Row, n: int, start: int, chain: Actions) -> tuple[int, int]:
    """Writes the chain of the stone on `start` into `chain` -> (its size, its liberties: 0, 1, or 2 for two or more).

    Marks the chain's stones by adding 4 to them; the caller removes the marks.
    """
    stone = points[start]
    size, liberty, liberties = 1, -1, 0
    chain[0] = start
    points[start] += 4
    at = 0
    while at < size:
        y, x = chain[at] // n, chain[at] % n
        at += 1
        for dy, dx in STEPS:
            r, c = y + dy, x + dx
            if 0 <= r < n and 0 <= c < n:
                point = r * n + c
                if points[point] == 0:
                    if liberties == 0 or (liberties == 1 and point != liberty):
                        liberty = point
                        liberties += 1
                elif points[point] == stone:
                    points[point] += 4
                    chain[size] = point
                    size += 1
    return size, liberties


@njit(cache=True)
def survey(points: Row, n: int, head: Actions, liberties: Actions, hashes: Words) -> None:
    """Writes every stone's `head`, the first point of its chain, and at that point the chain's liberties (0, 1, 2) and hash."""
    chain = np.empty(_LARGEST * _LARGEST, np.int32)
    for point in range(n * n):
        head[point] = -1
    for point in range(n * n):
        if points[point] in (1, 2):
            stone = points[point]
            size, free = _chain(points, n, point, chain)
            value = np.uint64(0)
            for i in range(size):
                head[chain[i]] = point
                value ^= stone_hash(chain[i], stone)
            liberties[point], hashes[point] = free, value
    for point in range(n * n):
        points[point] &= 3


@njit(cache=True, error_model="numpy")  # without checks for division by zero, a third faster
def is_legal(point: int, own: int, n: int, points: Row, past: Words, head: Actions, liberties: Actions, hashes: Words) -> bool:
    """Whether `own` (1 or 2) may play on an empty point: no suicide, no repetition. The last three arrays come from `survey`."""
    y, x = point // n, point % n
    alive = False
    first, second, third = -1, -1, -1  # chains captured so far: two neighbours may belong to one chain
    count = int(past[0])
    after = past[count] ^ stone_hash(point, own)
    for dy, dx in STEPS:
        r, c = y + dy, x + dx
        if not (0 <= r < n and 0 <= c < n):
            continue
        near = r * n + c
        chain = head[near]
        if points[near] == 0:
            alive = True
        elif points[near] == own:
            alive = alive or liberties[chain] > 1
        elif liberties[chain] == 1 and chain != first and chain != second and chain != third:
            first, second, third = chain, first, second
            after ^= hashes[chain]
    if not alive and first < 0:
        return False
    for i in range(1, count + 1):
        if past[i] == after:
            return False
    return True


@njit(cache=True)
def legal(row: Row, actions: Actions) -> int:
    """All legal points, then the pass."""
    if row[3]:
        return 0
    n, own = int(row[0]), row[1] + 1
    points, past = points_of(row), past_of(row)
    head = np.empty(_LARGEST * _LARGEST, np.int32)
    liberties = np.empty(_LARGEST * _LARGEST, np.int32)
    hashes = np.empty(_LARGEST * _LARGEST, np.uint64)
    survey(points, n, head, liberties, hashes)
    found = 0
    for point in range(n * n):
        if points[point] == 0 and is_legal(point, own, n, points, past, head, liberties, hashes):
            actions[found] = point
            found += 1
    actions[found] = n * n
    return found + 1


@njit(cache=True)
def _keep(row: Row) -> None:
    """Stores the position as the latest of the H earlier ones, and drops the oldest."""
    points, earlier, hashes, past = points_of(row), _earlier(row), _earlier_hashes(row), past_of(row)
    for i in range(earlier.size - 1, points.size - 1, -1):
        earlier[i] = earlier[i - points.size]
    earlier[: points.size] = points
    for i in range(hashes.size - 1, 0, -1):
        hashes[i] = hashes[i - 1]
    hashes[0] = past[int(past[0])]


@njit(cache=True)
def play(row: Row, action: int) -> None:
    """Puts down a stone and removes what it captures, or passes."""
    n, own = int(row[0]), row[1] + 1
    if row[8]:
        _keep(row)
    if action == n * n:
        row[2] += 1
    else:
        row[2] = 0
        points, past = points_of(row), past_of(row)
        count = int(past[0])
        now = past[count] ^ stone_hash(action, own)
        points[action] = own
        chain = np.empty(_LARGEST * _LARGEST, np.int32)
        y, x = action // n, action % n
        for dy, dx in STEPS:
            r, c = y + dy, x + dx
            if 0 <= r < n and 0 <= c < n and points[r * n + c] == 3 - own:
                size, liberties = _chain(points, n, r * n + c, chain)
                for i in range(size):
                    if liberties == 0:
                        points[chain[i]] = 0
                        now ^= stone_hash(chain[i], 3 - own)
                    else:
                        points[chain[i]] -= 4
        past[count + 1] = now
        past[0] = count + 1
    row[1] = 1 - row[1]
    numbers = row[:_NUMBERS].view(np.int16)
    numbers[3] += 1
    if row[2] == 2 or numbers[3] >= _moves(n):
        row[3] = 1


@njit(cache=True)
def owners(row: Row, owned: Owners) -> None:
    """Writes the owners of all points [n*n]: of stones, and of empty regions that touch stones of one colour only."""
    n, points = int(row[0]), points_of(row)
    chain = np.empty(_LARGEST * _LARGEST, np.int32)
    for start in range(n * n):
        if points[start] in (1, 2):
            owned[start] = 1 if points[start] == 1 else -1
        elif points[start] == 0:
            size, at, borders = 1, 0, 0
            chain[0] = start
            points[start] = 4
            while at < size:
                y, x = chain[at] // n, chain[at] % n
                at += 1
                for dy, dx in STEPS:
                    r, c = y + dy, x + dx
                    if 0 <= r < n and 0 <= c < n:
                        point = r * n + c
                        if points[point] == 0:
                            points[point] = 4
                            chain[size] = point
                            size += 1
                        else:
                            borders |= points[point] & 3
            for i in range(size):
                owned[chain[i]] = 1 if borders == 1 else -1 if borders == 2 else 0
    for point in range(n * n):
        points[point] &= 3


@njit(cache=True)
def area(row: Row) -> int:
    """Black's area minus White's, without komi."""
    owned = np.empty(int(row[0]) * int(row[0]), np.int8)
    owners(row, owned)
    lead = 0
    for owner in owned:
        lead += int(owner)
    return lead


@njit(cache=True)
def outcome(row: Row) -> tuple[bool, float]:
    """Over after two passes in a row or `max_moves`; the larger area, less komi, wins."""
    if not row[3]:
        return False, 0.0
    doubled = 2 * area(row) - row[:_NUMBERS].view(np.int16)[2]
    return True, 1.0 if doubled > 0 else -1.0 if doubled < 0 else 0.0


@njit(cache=True)
def _encode_stones(row: Row, planes: Planes) -> None:
    n, own, points, earlier = int(row[0]), row[1] + 1, points_of(row), _earlier(row)
    for y in range(n):
        for x in range(n):
            point = y * n + x
            for k in range(row[8] + 1):
                stone = points[point] if k == 0 else earlier[(k - 1) * n * n + point]
                planes[2 * k, y, x] = stone == own
                planes[2 * k + 1, y, x] = stone == 3 - own
            planes[2 * row[8] + 2, y, x] = own == 1


@njit(cache=True)
def encode(row: Row, planes: Planes) -> None:
    """Planes of chains: own stones, opposing stones, chains in atari, whether Black is to move, whether the opponent just passed.

    Planes of stones: own and opposing stones, those of the H positions before, the latest first, and whether Black is to move.
    """
    if row[9]:
        _encode_stones(row, planes)
        return
    n, own, points = int(row[0]), row[1] + 1, points_of(row)
    chain = np.empty(_LARGEST * _LARGEST, np.int32)
    for y in range(n):
        for x in range(n):
            stone = points[y * n + x]
            planes[0, y, x] = stone == own
            planes[1, y, x] = stone == 3 - own
            planes[2, y, x] = 0
            planes[3, y, x] = own == 1
            planes[4, y, x] = row[2] > 0
    for point in range(n * n):
        if points[point] in (1, 2):
            size, liberties = _chain(points, n, point, chain)
            if liberties == 1:
                for i in range(size):
                    planes[2, chain[i] // n, chain[i] % n] = 1
    for point in range(n * n):
        points[point] &= 3


@njit(cache=True)
def position_hash(row: Row) -> np.uint64:
    """A hash of the stones, the player to move, whether the last move was a pass, and the earlier positions that are kept."""
    past = past_of(row)
    found = finalise(past[int(past[0])] ^ np.uint64(row[1] + 2 * (row[2] > 0) + 4))
    for one in _earlier_hashes(row):
        found = finalise(found + one)
    return found


def set_player(row: Row, player: int) -> None:
    """Makes `player` the one to move."""
    row[1] = player


def resume(row: Row) -> None:
    """Forgets that the last moves were passes, so that the game goes on, unless it has reached `max_moves`."""
    row[2] = 0
    row[3] = row[:_NUMBERS].view(np.int16)[3] >= _moves(int(row[0]))


RULES = Rules(init, player, legal, play, outcome, encode, position_hash, owners)


def go(size: int = 9, komi: float = 7.5, planes: str = "chains", history: int = 8) -> Game:
    """The game Go on size x size points. UsageError for an invalid size, komi, planes or history.

    `planes`: the kind of observation, chains or stones; `history`: the number of positions in it, with stones.
    """
    if not 1 <= size <= _LARGEST:
        raise UsageError(f"go: size {size}; allowed are 1 to {_LARGEST}")
    if not abs(komi) <= size * size:
        raise UsageError(f"go: komi {komi:g}; allowed are numbers up to the {size * size} points of the board")
    if planes not in ("chains", "stones"):
        raise unknown("planes of go", planes, ("chains", "stones"))
    if not 1 <= history <= _MOST_HISTORY:
        raise UsageError(f"go: history {history}; allowed are 1 to {_MOST_HISTORY} positions")
    stones = planes == "stones"
    if not stones and history != 8:
        raise UsageError("go: history works with planes=stones, which show earlier positions")
    name = f"go(size={size},komi={komi:.12g}" + (f",planes=stones,history={history})" if stones else ")")
    kept = history - 1 if stones else 0
    start = np.zeros(-(-(_HEAD + 8 * (_moves(size) + 2 + kept) + size * size * (1 + kept)) // 8) * 8, np.int8)
    start[0], start[8], start[9] = size, kept, stones
    # Areas are whole numbers: every komi between two of them gives the same results as the half point there.
    start[:_NUMBERS].view(np.int16)[2] = 2 * int(komi) if komi == int(komi) else 2 * math.floor(komi) + 1
    cell_maps, action_maps = square_maps(size, extra_actions=1)

    def board_text(row: Row) -> str:
        cells = points_of(row).reshape(size, size)
        turn = "over" if row[3] else f"{'xo'[row[1]]} to play" + (" after a pass" if row[2] else "")
        return "\n".join("".join(".xo"[stone] for stone in line) for line in cells) + f"\n{turn}"

    def parse(text: str) -> Row:
        """The position without its history, so that superko knows no earlier arrangement."""
        lines = text.strip().splitlines()
        turns = {
            f"{stone} to play{after}": (i, int(after != "")) for i, stone in enumerate("xo") for after in ("", " after a pass")
        }
        if not lines or lines[-1].strip() not in turns:
            raise UsageError(f"{name}: the last line of a board text is one of {', '.join(turns)}")
        row = start.copy()
        points = points_of(row)
        points[:] = np.array(read_grid("\n".join(lines[:-1]), name, size, size, ".xo"), np.int8).reshape(-1)
        for point in np.flatnonzero(points).tolist():
            _, liberties = _chain(points, size, point, np.empty(size * size, np.int32))
            points &= 3
            if liberties == 0:
                raise UsageError(f"{name}: this board cannot arise: the chain on {go_point(size)(point)} has no liberty")
        init(row)
        row[1], row[2] = turns[lines[-1].strip()]
        return row

    return Game(
        name=name,
        rules=RULES,
        start=start,
        num_actions=size * size + 1,
        observation_shape=(2 * history + 1 if stones else 5, size, size),
        max_moves=_moves(size),
        cell_maps=cell_maps,
        action_maps=action_maps,
        neighbours=STEPS,
        action_text=go_point(size),
        board_text=board_text,
        parse=parse,
        has_draws=komi == int(komi),
        parameters={"size": size, "komi": komi} | ({"planes": planes, "history": history} if stones else {}),
        views=("planes", "history"),
        make=go,
        set_player=set_player,
        presentation=Presentation(
            sides=("Black", "White"),
            board="points",
            sgf=1,
            gtp=GtpDialect(forced_passes=True, resume=resume),
            lead=lambda row: area(row) - komi,
        ),
    )
