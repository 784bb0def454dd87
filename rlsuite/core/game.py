"""Board games: rules over a row of bytes, compiled by numba, and the facts that nets, programs and people need about a game.

A game has two players, 0 and 1, is zero-sum and deterministic, and hides nothing. A position is a row of `row_size` bytes (int8, a
multiple of 8, so that a game can view it as 64-bit words) that holds everything the rest of the game depends on. Values belong to
a player, not to a depth: `outcome` is for player 0, and `player` says whose turn it is, because turns need not alternate.
Shapes: A actions, C planes, H rows, W columns, S symmetries.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import index
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.core import kernel_cache
from rlsuite.core.errors import UsageError, unknown

Row = NDArray[np.int8]  # [row_size]
Actions = NDArray[np.int32]  # [A]
Planes = NDArray[np.int8]  # [C,H,W]
Owners = NDArray[np.int8]  # [H*W] 1: player 0's, -1: player 1's, 0: nobody's
Steps = tuple[tuple[int, int], ...]  # (rows, columns) from a cell to others

ALL_AROUND: Steps = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))


class Rules(NamedTuple):
    """A game's rules as functions compiled by numba (`njit`). They keep no state, and only `init` and `play` write to the row."""

    # Sets up the first position in a copy of `Game.start`. A game can begin from any position (`Game.starting_from`) if `init`
    # leaves the row of such a position unchanged.
    init: Callable[[Row], None]
    player: Callable[[Row], int]  # the player to move, 0 or 1; anything once the game is over
    legal: Callable[[Row, Actions], int]  # writes the legal actions in increasing order, returns how many; 0 once the game is over
    play: Callable[[Row, int], None]  # makes a legal move, in place
    outcome: Callable[[Row], tuple[bool, float]]  # (over, value for player 0 in [-1, 1]); the value is read only if over
    encode: Callable[[Row, Planes], None]  # writes every element of the planes, as the player to move sees the position
    hash: Callable[[Row], np.uint64]  # a hash of everything that `encode` depends on
    # Writes the owner of each cell, in games won by owning more cells; None: the game is decided otherwise.
    owners: Callable[[Row, Owners], None] | None = None


Board = Literal["squares", "points", "felt", "hexes", "columns", "chess", "text"]


class GtpDialect(NamedTuple):
    """How programs that speak GTP play a game. GTP names moves as `action_text` does."""

    forced_passes: bool = False  # a pass is sent even if it is the only legal move; otherwise both sides take it for granted
    resume: Callable[[Row], None] | None = None  # forgets, in place, that the last moves were passes: GTP lets the game go on


@dataclass(frozen=True)
class Presentation:
    """How a game is shown to people and to other programs. The defaults suit any game.

    `board` picks the drawing: "squares" (x and o in the cells), "points" (stones on the lines, as in Go), "felt" (Othello), "hexes"
    (Hex), "columns" (an action drops a piece into a column), "chess", or "text" (the board text as it is). The first five need a
    board text that begins with H lines of W characters `.xo`; a game whose text is different is shown as text. "chess" needs a
    text that begins with a FEN, and `uci`.
    """

    sides: tuple[str, str] = ("x", "o")  # what players 0 and 1 are called
    board: Board = "squares"
    sgf: int | None = None  # the game's number in SGF (property GM): action row * W + column is a point, H * W a pass
    gtp: GtpDialect | None = None  # None: no GTP program plays it
    uci: Callable[[Row, int], str] | None = None  # chess only: an action as UCI writes it, "e2e4"; `move_text` must be its SAN
    lead: Callable[[Row], float] | None = None  # games decided by area: player 0's points minus player 1's, komi included


class Endgames(NamedTuple):
    """An exact solver of a game's endgames, to grade agents by (`rlsuite.boardgames.endgames`)."""

    empty: Callable[[Row], int]  # how many cells are empty
    most: int  # positions with at most this many empty cells are solved in well under a second
    # The score of every action [A] under best play, for the player to move, nan for illegal ones: above 0 for a win, 0 for a draw,
    # below 0 for a loss. The game in the row must not be over.
    scores: Callable[[Row], NDArray[np.float64]]
    unit: str | None = None  # of the scores ("discs"); None: scores only say who wins


@dataclass(frozen=True)
class Game:
    """A board game with all its parameters, such as Go on 9 x 9 points."""

    name: str  # as `make_game` takes it, with all parameters: "go(size=9,komi=7.5)"
    rules: Rules
    start: Row  # [row_size] what `init` begins with: zeros, except for the game's parameters
    num_actions: int
    observation_shape: tuple[int, int, int]  # [C,H,W]
    max_moves: int  # no game is longer
    # Row s maps a cell (or action) of the transformed board to the one it comes from; row 0 is the identity.
    cell_maps: NDArray[np.int32]  # [S,H*W]
    action_maps: NDArray[np.int32]  # [S,A]
    action_text: Callable[[int], str]  # 0 -> "a1"
    board_text: Callable[[Row], str]
    parse: Callable[[str], Row]  # the inverse of `board_text`; UsageError for a position that no game can reach
    neighbours: Steps = ()  # from a cell to those next to it, for boards of every size; (): a graph net cannot play the game
    has_draws: bool = True
    plane_scale: float = 1.0  # what a net multiplies the planes by
    parameters: dict[str, Any] = field(default_factory=dict)
    views: tuple[str, ...] = ()  # names of the parameters that change nothing but the planes
    make: Callable[..., "Game"] | None = None  # makes this game from `parameters`, or one of another size or komi
    move_text: Callable[[Row, int], str] | None = None  # an action's name where it depends on the position: "Nf3"
    presentation: Presentation = Presentation()
    graded_positions: Path | None = None  # a file of positions with known best moves (`rlsuite.boardgames.graded_positions`)
    endgames: Endgames | None = None  # None: the game has no solver
    # Makes a player the one to move, in place, so that `encode` writes what that player sees; None: only the mover has a view.
    set_player: Callable[[Row, int], None] | None = None
    usual_start: Row | None = None  # what `start` was before `starting_from` replaced it

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule is not None:
                kernel_cache.keep(rule)

    def new_state(self) -> "BoardState":
        """The first position."""
        row = self.start.copy()
        self.rules.init(row)
        return BoardState(self, row)

    def planes(self, row: Row, player: int) -> Planes:
        """Planes [C,H,W] as `player` sees the position, whoever is to move. UsageError without `set_player`."""
        if self.set_player is None:
            raise UsageError(f"{self.name} does not say what the player sees who is not to move: its Game needs set_player")
        row = row.copy()
        self.set_player(row, player)
        return BoardState(self, row).observation()

    def parse_state(self, text: str) -> "BoardState":
        """The position that `str(state)` shows as `text`. UsageError for a position that no game can reach."""
        return BoardState(self, self.parse(text))

    def starting_from(self, text: str) -> "Game":
        """The same game with the first position that `str(state)` shows as `text`.

        UsageError for a position that no game can reach, and if the rules allow only the usual first position.
        """
        row = self.parse(text)
        again = row.copy()
        self.rules.init(again)
        if not np.array_equal(row, again):
            raise UsageError(f"{self.name} can begin only from its usual position")
        return replace(self, start=row, usual_start=self.start if self.usual_start is None else self.usual_start)

    def usual(self) -> "Game":
        """The same game from its usual first position."""
        return self if self.usual_start is None else replace(self, start=self.usual_start, usual_start=None)

    def with_parameters(self, **changes: Any) -> "Game":
        """The same game with other parameters, such as `size`; a board of another size begins from the usual position.

        UsageError for a parameter or a value that it does not have.
        """
        for name in changes:
            if self.make is None or name not in self.parameters:
                raise unknown(f"parameter of {self.name}", name, self.parameters)
        assert self.make is not None
        made = self.make(**{**self.parameters, **changes})
        if self.usual_start is None or made.observation_shape[1:] != self.observation_shape[1:]:
            return made
        return made.starting_from(str(self.new_state()))

    def seen_as(self, other: "Game") -> "Game":
        """This game with the planes of `other`, if both are the same kind of game; positions and actions stay the same.

        The result keeps this game's first position and all parameters that are not `views`. If `other` is of another kind, this
        game is returned unchanged.
        """
        rules = {name: value for name, value in self.parameters.items() if name not in self.views}
        if (not self.views and not other.views) or self.make is None or self.make is not other.make:
            return self
        made = other.usual().with_parameters(**rules)
        return made if self.usual_start is None else made.starting_from(str(self.new_state()))


def whole_number(value: Any) -> int | None:
    """A Python or NumPy integer of any width as an int; None for anything else, bools and floats included."""
    if str(getattr(value, "dtype", type(value).__name__)).rpartition(".")[2] == "bool":  # also NumPy's and torch's
        return None
    try:
        return index(value)
    except TypeError:
        return None


def action_number(game: Game, action: Any) -> int:
    """An action as an int. UsageError if it is not an integer."""
    number = whole_number(action)
    if number is None:
        raise UsageError(f"{game.name}: the action {action!r} is not an integer; actions are 0 to {game.num_actions - 1}")
    return number


class BoardState:
    """An immutable position: `apply` returns a new one."""

    __slots__ = ("_row", "game")

    def __init__(self, game: Game, row: Row):
        self.game = game
        self._row = row

    @property
    def row(self) -> Row:
        """A copy of the position's bytes [row_size]."""
        return self._row.copy()

    @property
    def player(self) -> int:
        """The player to move, 0 or 1."""
        return int(self.game.rules.player(self._row))

    def legal_actions(self) -> list[int]:
        """The legal actions in increasing order; none once the game is over."""
        actions = np.empty(self.game.num_actions, np.int32)
        return [int(action) for action in actions[: self.game.rules.legal(self._row, actions)]]

    def apply(self, action: int) -> "BoardState":
        """The position after a move. UsageError if the action is illegal or not an integer, or if the game is over."""
        action, legal = action_number(self.game, action), self.legal_actions()
        if action not in legal:
            if self.is_terminal():
                raise UsageError(f"{self.game.name}: the game is over, no action is legal")
            shown = ", ".join(f"{known} ({self.game.action_text(known)})" for known in legal[:20])
            raise UsageError(
                f"{self.game.name}: action {action} is illegal here; legal: {shown}{', ...' if len(legal) > 20 else ''}"
            )
        row = self._row.copy()
        self.game.rules.play(row, action)
        return BoardState(self.game, row)

    def text_of(self, action: int) -> str:
        """The name of a move in this position."""
        return self.game.action_text(action) if self.game.move_text is None else self.game.move_text(self._row, action)

    def is_terminal(self) -> bool:
        """Whether the game is over."""
        return bool(self.game.rules.outcome(self._row)[0])

    def returns(self) -> tuple[float, float]:
        """The results of players 0 and 1; zeros until the game is over."""
        over, value = self.game.rules.outcome(self._row)
        return (float(value), -float(value)) if over else (0.0, 0.0)

    def observation(self) -> NDArray[np.int8]:
        """Planes [C,H,W], as the player to move sees the position."""
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
DIAGONALS = ((0, False), (2, False), (1, True), (3, True))  # the half turn, and reflections in the two diagonals


def square_maps(size: int, extra_actions: int = 0, symmetries: tuple[tuple[int, bool], ...] = _ALL) -> tuple[Any, Any]:
    """(cell maps [S,n*n], action maps [S,n*n+extra]) of a square board whose actions are its cells, then `extra_actions` more.

    `symmetries`: (quarter turns, whether then mirrored left to right), under which the rules and the first position stay the same.
    """
    cells = np.arange(size * size, dtype=np.int32).reshape(size, size)
    turned = [np.fliplr(np.rot90(cells, turns)) if mirrored else np.rot90(cells, turns) for turns, mirrored in symmetries]
    cell_maps = np.stack([cell_map.reshape(-1) for cell_map in turned])
    extra = np.broadcast_to(np.arange(size * size, size * size + extra_actions, dtype=np.int32), (len(turned), extra_actions))
    return cell_maps, np.concatenate([cell_maps, extra], 1)


def cell_name(size: int) -> Callable[[int], str]:
    """A function that names actions by column and row, `a1` at the top left, as in Othello and Hex; after the cells, `pass`."""

    def name(action: int) -> str:
        return "pass" if action == size * size else f"{letter(action % size)}{action // size + 1}"

    return name


def go_point(size: int) -> Callable[[int], str]:
    """A function that names actions as in Go and Gomoku: columns without i, row 1 at the bottom; after the cells, `pass`."""

    def name(action: int) -> str:
        return "pass" if action == size * size else f"{_GO_COLUMNS[action % size]}{size - action // size}"

    return name


_GO_COLUMNS = "abcdefghjklmnopqrstuvwxyz"


def letter(number: int) -> str:
    """0 -> "a", 1 -> "b", ..."""
    return chr(ord("a") + number)


def player_in_turn(cells: NDArray[np.int8], name: str) -> int:
    """The player to move if stones are placed in turn: cells hold 0, 1 (player 0) or 2. UsageError for impossible counts."""
    first, second = int((cells == 1).sum()), int((cells == 2).sum())
    if first - second not in (0, 1):
        raise UsageError(f"{name}: {first} x and {second} o cannot arise: x begins and turns alternate")
    return first - second


def read_grid(text: str, name: str, width: int, height: int, symbols: str) -> list[list[int]]:
    """The lines of a board text as indices into `symbols`. UsageError that names the first wrong line or character."""
    lines = [line.replace(" ", "") for line in text.strip().splitlines()]
    if len(lines) != height or any(len(line) != width for line in lines):
        raise UsageError(f"{name}: a board text has {height} lines of {width} of the characters {symbols!r}")
    for number, line in enumerate(lines, 1):
        for char in line:
            if char not in symbols:
                raise UsageError(f"{name}: {char!r} in line {number} of the board text; allowed are {symbols!r}")
    return [[symbols.index(char) for char in line] for line in lines]
