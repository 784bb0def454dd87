"""Clocks of engines, in GTP's words and in UCI's: the time for a move, and how often a search looks at it."""

import time
from typing import NamedTuple

_MOVES_LEFT = 25  # that the time for the rest of a game is divided among
_LAG = 0.1  # seconds that an answer may take to arrive
_LOOK = 0.01  # seconds between two looks at the clock
_MOST = 1024  # simulations between two looks
_UNTIMED = 64  # the same for a search that only commands can end: always as many, so that it can be repeated


class Left(NamedTuple):
    """What a player has on the clock."""

    seconds: float
    moves: int = 0  # that they are for; 0: the rest of the game
    more: float = 0.0  # seconds that every move brings: an increment, or the byo-yomi that will follow

    def for_move(self) -> float:
        """The seconds to spend on the next move."""
        share = self.seconds / (self.moves or _MOVES_LEFT) + self.more
        return max(min(share, self.seconds - _LAG), 0.0)


class Clock:
    """The time settings of GTP, and the time that each player has left."""

    def __init__(self) -> None:
        self.main = self.extra = 0.0  # seconds: main time, and byo-yomi for `stones` moves
        self.stones = 0
        self.periods = False  # Japanese byo-yomi: the stones that a controller tells are periods of one move each
        self.limited = False  # whether there is a time limit
        self.left: dict[int, Left] = {}  # player -> time left

    def set(self, main: float, extra: float, stones: int, periods: bool = False) -> None:
        """Byo-yomi without stones means, by the protocol, that there is no limit."""
        self.main, self.extra, self.stones, self.periods = main, extra, stones, periods
        self.limited = not (extra > 0 and stones == 0)
        self.reset()

    def reset(self) -> None:
        """A new game: both players have their full time."""
        self.left = {}

    def set_left(self, player: int, seconds: float, stones: int) -> None:
        """What the controller says is left to a player; 0 stones: main time."""
        moves = min(stones, 1) if self.periods else stones
        self.left[player] = self._main(max(seconds, 0.0)) if moves == 0 else Left(max(seconds, 0.0), moves)
        self.limited = True

    def seconds(self, player: int) -> float | None:
        """The seconds that a player may spend on the next move; None without a limit."""
        return self._of(player).for_move() if self.limited else None

    def spend(self, player: int, seconds: float) -> None:
        """Takes a move's time off, until the controller says what is left."""
        if self.limited:
            left = self._of(player)
            rest = left.seconds - seconds
            if left.moves == 0:
                self.left[player] = self._main(max(rest, 0.0))
            else:
                self.left[player] = Left(max(rest, 0.0), left.moves - 1) if left.moves > 1 else Left(self.extra, self.stones)

    def _of(self, player: int) -> Left:
        return self.left.get(player) or self._main(self.main)

    def _main(self, seconds: float) -> Left:
        """So much main time; byo-yomi instead where that is the more."""
        period = self.extra / self.stones if self.stones else 0.0
        return Left(self.extra, self.stones) if self.stones and seconds < period else Left(seconds, 0, period)


class Pace:
    """How many simulations a search makes between two looks at the clock, by what its last ones have cost."""

    def __init__(self, deadline: float | None = None, timed: bool = True):
        """`deadline` in time.monotonic(), and may be set later; `timed`: there is or will be one."""
        self.deadline, self.timed = deadline, timed
        self.begun = self._looked = time.monotonic()
        self.chunk = 1 if timed else _UNTIMED
        self._made, self._cost, self._worst = 0, 0.0, 0.0  # seconds per simulation, lately: on average, and at most

    @property
    def left(self) -> float | None:
        """The seconds until the deadline; None without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def over(self, made: int) -> bool:
        """Looks at the clock after so many simulations of this search: whether there is no time for another one."""
        if not self.timed:
            return False
        now = time.monotonic()
        cost = (now - self._looked) / max(made - self._made, 1)
        self._cost = (self._cost + cost) / 2 if self._made else cost
        self._worst = max(cost, 0.95 * self._worst)
        self._looked, self._made = now, made
        self.chunk = max(min(int(_LOOK / max(self._cost, 1e-9)), 2 * self.chunk, _MOST), 1)
        if self.deadline is None:
            return False
        fitting = int((self.deadline - now) / max(self._worst, 1e-9))
        self.chunk = max(min(self.chunk, fitting), 1)
        return fitting < 1
