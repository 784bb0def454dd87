"""AlphaGo's rollout policy: a linear softmax over small patterns, fast enough to play games to their end.

    p(a | s) ∝ exp(w_pattern[surroundings of a] + w_near[offset of a from the last move])

A pattern is the content of the eight points around a (empty, own, opposing or off the board), and for the four direct neighbours
whether their chain is in atari. AlphaGo has more features of both kinds (Extended Data Table 4). A player passes when every other
move is illegal or fills one of its own eyes.

The weights are learned in torch (`Rollouts`), together with the policy net and from the same positions; numba plays the games.
Shapes: B batch, n positions, H = W points per side, A = H W + 1 actions, R bytes per row, P patterns.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rlsuite.core.hashing import finalise
from rlsuite.core.kernel_cache import kernel
from rlsuite.envs.boards.go import STEPS, area, is_legal, past_of, points_of, survey
from rlsuite.search.random import uniform

_EMPTY, _OWN, _OWN_ATARI, _OTHER, _OTHER_ATARI, _EDGE = range(6)
_CORNER = (0, 1, 1, 2, 2, 3)  # diagonal points count by colour only, whether in atari or not
_AROUND = ((-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))  # neighbours, then diagonals
PATTERNS = 6**4 * 4**4
_REACH = 2  # rows and columns from the last move that count as near
NEAR = (2 * _REACH + 1) ** 2 + 1  # how many offsets there are; the last is FAR
FAR = NEAR - 1  # not near the last move, or there is none
NONE = -1  # no last move, or a pass


class Weights(NamedTuple):
    """Factors of a move's probability, as numba reads them."""

    pattern: NDArray[np.float32]  # [P]
    near: NDArray[np.float32]  # [NEAR]


class Rollouts(nn.Module):
    """The rollout policy as a module: one learned log-weight for each pattern and each offset."""

    def __init__(self) -> None:
        super().__init__()
        self.pattern = nn.Parameter(torch.zeros(PATTERNS))
        self.near = nn.Parameter(torch.zeros(NEAR))

    def forward(self, planes: Tensor, last: Tensor) -> Tensor:
        """Logits of points [B,H*W] f32 from planes [B,5,H,W] as Go encodes them, and last moves [B] i64, -1 for none."""
        return self.pattern[patterns(planes)] + self.near[nearness(last, planes.shape[-1])]

    def weights(self) -> Weights:
        """The learned weights as factors of a move's probability, for `draw`."""
        tables = [table.detach().float().clamp(-30, 30).exp().cpu().numpy() for table in (self.pattern, self.near)]
        return Weights(*tables)


def patterns(planes: Tensor) -> Tensor:
    """The number of the pattern around each point: planes [B,5,H,W] -> [B,H*W] i64 in [0, P)."""
    own, other, atari = (planes[:, i].long() for i in range(3))  # [B,H,W]
    cells = own * (_OWN + atari) + other * (_OTHER + atari)
    padded = F.pad(cells, (1, 1, 1, 1), value=_EDGE)  # [B,H+2,W+2]
    corner = torch.tensor(_CORNER, device=planes.device)
    height, width = cells.shape[1:]
    number = torch.zeros_like(cells)
    for i, (dy, dx) in enumerate(_AROUND):
        seen = padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        number = number * 6 + seen if i < 4 else number * 4 + corner[seen]
    return number.flatten(1)


def nearness(last: Tensor, size: int) -> Tensor:
    """The number of each point's offset from the last move: last [B] i64 -> [B,size*size] i64 in [0, NEAR)."""
    point = torch.arange(size * size, device=last.device)
    dy = point // size - (last // size).unsqueeze(1)  # [B,H*W]
    dx = point % size - (last % size).unsqueeze(1)
    near = (dy.abs() <= _REACH) & (dx.abs() <= _REACH) & ((last >= 0) & (last < size * size)).unsqueeze(1)
    return torch.where(near, (dy + _REACH) * (2 * _REACH + 1) + dx + _REACH, FAR)


@kernel(error_model="numpy")
def _pattern(cells: NDArray[np.int8], width: int, at: int) -> int:
    """The pattern number of cell `at` of a board with an edge around it, `width` cells a row."""
    number = 0
    for i in range(4):
        number = number * 6 + cells[at + _AROUND[i][0] * width + _AROUND[i][1]]
    for i in range(4, 8):
        number = number * 4 + _CORNER[cells[at + _AROUND[i][0] * width + _AROUND[i][1]]]
    return number


@kernel(error_model="numpy")
def _near(point: int, last: int, n: int) -> int:
    if last < 0 or last >= n * n:
        return FAR
    dy, dx = point // n - last // n, point % n - last % n
    if abs(dy) > _REACH or abs(dx) > _REACH:
        return FAR
    return (dy + _REACH) * (2 * _REACH + 1) + dx + _REACH


@kernel(error_model="numpy")
def _eye(points: NDArray[np.int8], n: int, point: int, own: int) -> bool:
    """Whether a point is an eye: own stones on all direct neighbours, at most one opposing diagonal stone (none at the edge)."""
    y, x = point // n, point % n
    for dy, dx in STEPS:
        r, c = y + dy, x + dx
        if 0 <= r < n and 0 <= c < n and points[r * n + c] != own:
            return False
    others, edge = 0, 0
    for i in range(4, 8):
        r, c = y + _AROUND[i][0], x + _AROUND[i][1]
        if not (0 <= r < n and 0 <= c < n):
            edge = 1
        elif points[r * n + c] == 3 - own:
            others += 1
    return others + edge < 2


@kernel(error_model="numpy")
def draw(row: NDArray[np.int8], last: int, weights: Weights, streams: NDArray[np.uint64], stream: int) -> int:
    """Samples a move of the rollout policy in the position `row` [R]; n * n is a pass."""
    n, own = int(row[0]), row[1] + 1
    points, past = points_of(row), past_of(row)
    area_ = n * n
    head, liberties = np.empty(361, np.int32), np.empty(361, np.int32)
    hashes = np.empty(361, np.uint64)
    survey(points, n, head, liberties, hashes)
    width = n + 2
    cells = np.full(21 * 21, _EDGE, np.int8)
    for point in range(area_):
        stone, at = points[point], (point // n + 1) * width + point % n + 1
        if stone == 0:
            cells[at] = _EMPTY
        else:
            atari = 1 if liberties[head[point]] == 1 else 0
            cells[at] = (_OWN if stone == own else _OTHER) + atari
    chance, total = np.zeros(361, np.float64), 0.0
    for point in range(area_):
        if points[point] == 0 and not _eye(points, n, point, own):
            at = (point // n + 1) * width + point % n + 1
            chance[point] = weights.pattern[_pattern(cells, width, at)] * weights.near[_near(point, last, n)]
            total += chance[point]
    while total > 1e-12:
        left, chosen = uniform(streams, stream) * total, -1
        for point in range(area_):
            if chance[point] > 0:
                chosen = point
                left -= chance[point]
                if left < 0:
                    break
        if chosen < 0:
            break
        if is_legal(chosen, own, n, points, past, head, liberties, hashes):
            return chosen
        total -= chance[chosen]
        chance[chosen] = 0.0
    return area_


Playout = Callable[[NDArray[np.int8], NDArray[np.int64], NDArray[np.uint64], Weights, NDArray[np.float32]], int]


@cache
def playouts(play: Callable[[NDArray[np.int8], int], None]) -> Playout:
    """A compiled function that plays games to their end with the rollout policy; `play` is that of Go's rules."""

    @kernel(nogil=True, error_model="numpy")
    def play_out(
        rows: NDArray[np.int8],
        last: NDArray[np.int64],
        streams: NDArray[np.uint64],
        weights: Weights,
        values: NDArray[np.float32],
    ) -> int:
        """Plays rows [n,R] to the end, in place; returns how many moves. Writes `values` [n] for the players who move first."""
        moves = 0
        for i in range(rows.shape[0]):
            row, mover, before = rows[i], rows[i, 1], last[i]
            streams[i] = finalise(streams[i] + np.uint64(0x9E3779B97F4A7C15))
            while not row[3]:
                before = draw(row, before, weights, streams, i)
                play(row, before)
                moves += 1
            doubled = 2 * area(row) - row[:8].view(np.int16)[2]
            black = 1.0 if doubled > 0 else -1.0 if doubled < 0 else 0.0
            values[i] = black if mover == 0 else -black
        return moves

    return play_out
