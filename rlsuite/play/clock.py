"""Time control of engines, for GTP and UCI: the time for a move, and how often a search checks the clock."""

import time
from typing import NamedTuple

_MOVES_LEFT = 25  # number of moves that the time for the rest of a game is divided among
_LAG = 0.1  # seconds that an answer may take to arrive
_SHARE = 8  # the time between two looks at the clock is 1 / _SHARE of the time that is left,
_LOOK = 0.01  # but at least these seconds,
_LONGEST = 0.2  # and at most these
_MOST = 1024  # maximum number of simulations between two looks
_FADING = 0.6  # weight of a batch, as a multiple of the next one's
_ANOTHER = 10.0  # a batch that took longer than this multiple of the mean starts new statistics
_WORST = 4.0  # limit of a batch's time, as a multiple of the expected time, when it corrects later estimates
_UNTIMED = 64  # simulations between two looks without a clock: constant, so that the search can be repeated


class Left(NamedTuple):
    """The time that a player has left."""

    seconds: float
    moves: int = 0  # number of moves that the seconds are for; 0: the rest of the game
    more: float = 0.0  # seconds that are added for every move: an increment, or the byo-yomi that will follow

    def for_move(self) -> float:
        """The seconds to spend on the next move."""
        share = self.seconds / (self.moves or _MOVES_LEFT) + self.more
        return max(min(share, self.seconds - _LAG), 0.0)


class Clock:
    """The time settings of GTP, and the time that each player has left."""

    def __init__(self) -> None:
        self.main = self.extra = 0.0  # seconds: main time, and byo-yomi for `stones` moves
        self.stones = 0
        self.periods = False  # Japanese byo-yomi: the controller's number of stones is a number of periods of one move each
        self.limited = False  # whether there is a time limit
        self.left: dict[int, Left] = {}  # player -> time left

    def set(self, main: float, extra: float, stones: int, periods: bool = False) -> None:
        """Sets the time control. By the protocol, byo-yomi time without stones means that there is no limit."""
        self.main, self.extra, self.stones, self.periods = main, extra, stones, periods
        self.limited = not (extra > 0 and stones == 0)
        self.reset()

    def reset(self) -> None:
        """Gives both players their full time, for a new game."""
        self.left = {}

    def set_left(self, player: int, seconds: float, stones: int) -> None:
        """Sets the time that a player has left, as reported by the controller; 0 stones: main time."""
        moves = min(stones, 1) if self.periods else stones
        self.left[player] = self._main(max(seconds, 0.0)) if moves == 0 else Left(max(seconds, 0.0), moves)
        self.limited = True

    def seconds(self, player: int) -> float | None:
        """The seconds that a player may spend on the next move; None without a limit."""
        return self._of(player).for_move() if self.limited else None

    def spend(self, player: int, seconds: float) -> None:
        """Subtracts the time of a move, until the controller reports the time that is left."""
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
        """The clock with `seconds` of main time, or byo-yomi instead if one period of it is longer."""
        period = self.extra / self.stones if self.stones else 0.0
        return Left(self.extra, self.stones) if self.stones and seconds < period else Left(seconds, 0, period)


class Pace:
    """Chooses how many simulations a search makes between two looks at the clock, from the cost of its last batches.

    A batch has a fixed cost, and each further simulation in it usually costs much less, so batches grow while there is time.
    """

    def __init__(self, deadline: float | None = None, timed: bool = True):
        """`deadline`: by time.monotonic(); it may be set later. `timed`: whether there is or will be one."""
        self.deadline, self.timed = deadline, timed
        self._looked = time.monotonic()
        self.chunk = 1 if timed else _UNTIMED
        self._made = -1  # simulations at the last look; -1: the root is not evaluated yet
        self._sums = [0.0] * 5  # weighted sums over the last batches: 1, simulations, seconds, simulations², simulations * seconds
        self._batch = self._each = 0.0  # estimated seconds per batch, and per simulation in it
        self._late = 1.0  # largest ratio of actual to expected time among recent batches

    @property
    def left(self) -> float | None:
        """The seconds until the deadline; None without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def over(self, made: int) -> bool:
        """Looks at the clock after `made` simulations of this search; returns whether there is no time for another one."""
        if not self.timed:
            return False
        now = time.monotonic()
        self._learn(now - self._looked, made - self._made)
        self._looked, self._made = now, made
        left = _LONGEST * _SHARE if self.deadline is None else self.deadline - now
        fitting = self._fitting(left / self._late)
        until = max(min(max(left / _SHARE, _LOOK), _LONGEST), 2 * self._batch)  # the latter: the fixed cost is at most half of it
        self.chunk = max(min(self._fitting(until), 2 * self.chunk, fitting, _MOST), 1)
        return self.deadline is not None and fitting < 1

    def _learn(self, seconds: float, simulations: int) -> None:
        """Updates the estimates with the cost of the last batch, by linear regression."""
        n, before = max(simulations, 1), self._sums
        if before[0] and seconds > _ANOTHER * before[2] / before[0]:
            before = [0.0] * 5  # a cache had answered until now
        elif before[0]:
            expected = self._batch + n * self._each
            self._late = max(1.0, 0.9 * self._late, min(seconds / max(expected, 1e-9), _WORST))
        new = (1.0, n, seconds, n * n, n * seconds)
        self._sums = [_FADING * old + one for old, one in zip(before, new, strict=True)]
        weight, sum_n, sum_s, sum_nn, sum_ns = self._sums
        spread = weight * sum_nn - sum_n * sum_n
        slope = (weight * sum_ns - sum_n * sum_s) / spread if spread > 1e-6 else 0.0
        self._each = min(max(slope, 0.0), sum_s / sum_n)
        self._batch = max((sum_s - self._each * sum_n) / weight, 0.0)

    def _fitting(self, seconds: float) -> int:
        """The number of simulations that fit into a batch of `seconds`."""
        if seconds < self._batch + self._each:
            return 0
        return int(min((seconds - self._batch) / max(self._each, 1e-9), _MOST))
