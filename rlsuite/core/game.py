"""What a board game is: a few numba functions over a row of bytes, and what nets and people need to know beside them.

Two players, 0 and 1, no chance, nothing hidden, zero-sum. A state is a row of `row_size` bytes (int8, a multiple of 8, so that a
game may view it as 64-bit words); whatever decides a game's future stands in it. Values belong to a player, never to a depth:
`outcome` speaks of player 0, and `player` says whose turn it is, since turns need not alternate.
Shapes: A actions, C planes, H rows, W columns, S symmetries.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError

Row = NDArray[np.int8]  # [row_size]
Actions = NDArray[np.int32]  # [A]
Planes = NDArray[np.int8]  # [C,H,W]


class Rules(NamedTuple):
    """Functions compiled by numba (`njit`). They keep nothing, and only `init` and `play` change the row."""

    init: Callable[[Row], None]  # the first position, into a row of zeros; what a game's parameters are stands there already
    player: Callable[[Row], int]  # whose turn: 0 or 1; at the end whatever
    legal: Callable[[Row, Actions], int]  # writes the legal actions in rising order, returns how many; 0 at the end
    play: Callable[[Row, int], None]  # a legal action, in place
    outcome: Callable[[Row], tuple[bool, float]]  # (over, value to player 0 in [-1, 1]); the value is read only if over
    encode: Callable[[Row, Planes], None]  # planes [C,H,W] as the player to move sees them, every element written
    hash: Callable[[Row], np.uint64]  # uint64 of all that `encode` depends on


@dataclass(frozen=True)
class Game:
    """One game of one size. `start` is the row that `init` is called on: zeros but for the game's parameters."""

    name: str  # as `make_game` takes it, parameters included: "go(size=9,komi=7.5)"
    rules: Rules
    start: Row  # [row_size]
    num_actions: int
    observation_shape: tuple[int, int, int]  # [C,H,W]
    max_moves: int  # no game is longer
    # Row s maps an index of a transformed board to the index it comes from; row 0 is the identity.
    cell_maps: NDArray[np.int32]  # [S,H*W]
    action_maps: NDArray[np.int32]  # [S,A]
    action_text: Callable[[int], str]  # 0 -> "a1"
    board_text: Callable[[Row], str]
    parse: Callable[[str], Row]  # the inverse of `board_text`; UsageError for a text that no game can reach
    has_draws: bool = True
    plane_scale: float = 1.0  # what a net multiplies the planes by
    parameters: dict[str, Any] = field(default_factory=dict)
    move_text: Callable[[Row, int], str] | None = None  # where a move's name depends on the position: "Nf3"

    def new_state(self) -> "BoardState":
        row = self.start.copy()
        self.rules.init(row)
        return BoardState(self, row)

    def parse_state(self, text: str) -> "BoardState":
        return BoardState(self, self.parse(text))


class BoardState:
    """A position, never changed: `apply` gives a new one."""

    __slots__ = ("_row", "game")

    def __init__(self, game: Game, row: Row):
        self.game = game
        self._row = row

    @property
    def row(self) -> Row:
        """A copy [row_size]."""
        return self._row.copy()

    @property
    def player(self) -> int:
        return int(self.game.rules.player(self._row))

    def legal_actions(self) -> list[int]:
        """In rising order; empty at the end."""
        actions = np.empty(self.game.num_actions, np.int32)
        return [int(action) for action in actions[: self.game.rules.legal(self._row, actions)]]

    def apply(self, action: int) -> "BoardState":
        """UsageError for an illegal action and behind the end."""
        legal = self.legal_actions()
        if action not in legal:
            if self.is_terminal():
                raise UsageError(f"{self.game.name}: the game is over, no action is legal any more")
            shown = ", ".join(f"{known} ({self.game.action_text(known)})" for known in legal[:20])
            raise UsageError(
                f"{self.game.name}: action {action} is illegal here; legal: {shown}{', ...' if len(legal) > 20 else ''}"
            )
        row = self._row.copy()
        self.game.rules.play(row, action)
        return BoardState(self.game, row)

    def text_of(self, action: int) -> str:
        """The name of a move here."""
        return self.game.action_text(action) if self.game.move_text is None else self.game.move_text(self._row, action)

    def is_terminal(self) -> bool:
        return bool(self.game.rules.outcome(self._row)[0])

    def returns(self) -> tuple[float, float]:
        """Of players 0 and 1; zeros while the game runs."""
        over, value = self.game.rules.outcome(self._row)
        return (float(value), -float(value)) if over else (0.0, 0.0)

    def observation(self) -> NDArray[np.int8]:
        """[C,H,W], as the player to move sees it."""
        planes = np.empty(self.game.observation_shape, np.int8)
        self.game.rules.encode(self._row, planes)
        return planes

    def __hash__(self) -> int:
        return hash(self._row.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoardState) and self.game.name == other.game.name and np.array_equal(self._row, other._row)

    def __str__(self) -> str:
        return self.game.board_text(self._row)


_ALL = ((0, False), (1, False), (2, False), (3, False), (0, True), (1, True), (2, True), (3, True))
HALF_TURN = ((0, False), (2, False))
DIAGONALS = ((0, False), (2, False), (1, True), (3, True))  # half turn, and mirrored at either diagonal


def square_maps(size: int, extra_actions: int = 0, symmetries: tuple[tuple[int, bool], ...] = _ALL) -> tuple[Any, Any]:
    """(cell maps [S,n*n], action maps [S,n*n+extra]) of a square board whose actions are its cells and then the extra ones.

    `symmetries`: (quarter turns, mirrored left to right behind them), those that keep the rules and the first position.
    """
    cells = np.arange(size * size, dtype=np.int32).reshape(size, size)
    turned = [np.fliplr(np.rot90(cells, turns)) if mirrored else np.rot90(cells, turns) for turns, mirrored in symmetries]
    cell_maps = np.stack([cell_map.reshape(-1) for cell_map in turned])
    extra = np.broadcast_to(np.arange(size * size, size * size + extra_actions, dtype=np.int32), (len(turned), extra_actions))
    return cell_maps, np.concatenate([cell_maps, extra], 1)


def cell_name(size: int) -> Callable[[int], str]:
    """Column letter and row number from the top, `a1` in the corner above on the left; the action behind the cells is `pass`."""

    def name(action: int) -> str:
        return "pass" if action == size * size else f"{_letters(action % size)}{action // size + 1}"

    return name


def _letters(column: int) -> str:
    return chr(ord("a") + column)


def player_in_turn(cells: NDArray[np.int8], name: str) -> int:
    """Who moves where player 0 began and a stone is put in turn: of cells 0, 1 (player 0) and 2. UsageError if nobody can."""
    first, second = int((cells == 1).sum()), int((cells == 2).sum())
    if first - second not in (0, 1):
        raise UsageError(f"{name}: {first} x and {second} o cannot arise: x begins and turns alternate")
    return first - second


def read_grid(text: str, name: str, width: int, height: int, symbols: str) -> list[list[int]]:
    """The lines of a board text as indices into `symbols`; UsageError that says where it is wrong."""
    lines = [line.replace(" ", "") for line in text.strip().splitlines()]
    if len(lines) != height or any(len(line) != width for line in lines):
        raise UsageError(f"{name}: a board text has {height} lines of {width} of the characters {symbols!r}")
    for number, line in enumerate(lines, 1):
        for char in line:
            if char not in symbols:
                raise UsageError(f"{name}: {char!r} in line {number} of the board text; allowed are {symbols!r}")
    return [[symbols.index(char) for char in line] for line in lines]
