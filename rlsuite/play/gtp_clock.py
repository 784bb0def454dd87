"""Time control of the GTP engine: how many simulations a move has time for."""

_MOVES_LEFT = 20  # that main time is divided among
_SHARE = 0.8  # of a move's time that is planned for
_TO_MEASURE = 32  # simulations of the first move, from which the speed is measured


class Clock:
    """The time settings of GTP, the time that each player has left, and the measured speed of the search."""

    def __init__(self) -> None:
        self.main = self.extra = 0.0  # seconds: main time, and byo-yomi for `extra_stones` moves
        self.extra_stones = 0
        self.limited = False  # whether there is a time limit
        self.left: dict[int, tuple[float, int]] = {}  # player -> seconds and stones left; 0 stones: main time
        self.rate: float | None = None  # simulations per second

    def set(self, main: float, extra: float, extra_stones: int) -> None:
        """Byo-yomi without stones means, by the protocol, that there is no limit."""
        self.main, self.extra, self.extra_stones = main, extra, extra_stones
        self.limited = not (extra > 0 and extra_stones == 0)
        self.reset()

    def set_left(self, player: int, seconds: float, stones: int) -> None:
        """What the controller says is left to a player."""
        self.left[player], self.limited = (max(seconds, 0.0), stones), True

    def reset(self) -> None:
        """A new game: all players have their full time."""
        self.left = {}

    def simulations(self, player: int, most: int) -> int | None:
        """How many simulations a player has time for, up to `most`; None without a limit."""
        if not self.limited:
            return None
        seconds, stones = self._left(player)
        if stones == 0 and self.extra_stones and seconds <= 0:
            seconds, stones = self.extra, self.extra_stones
        share = seconds / max(stones, 1) if stones else seconds / _MOVES_LEFT
        if stones == 0 and self.extra_stones:
            share += self.extra / self.extra_stones / 2
        if self.rate is None:
            return min(most, _TO_MEASURE)
        return min(max(int(_SHARE * share * self.rate), 1), most)

    def spend(self, player: int, seconds: float, simulations: int) -> None:
        """Accounts for a move: takes its time off the main time, until the controller says what is left, and measures the speed."""
        if self.limited:
            left, stones = self._left(player)
            self.left[player] = (left if stones else max(left - seconds, 0.0), stones)
        if simulations > 0:
            measured = simulations / max(seconds, 1e-3)
            self.rate = measured if self.rate is None else (self.rate + measured) / 2

    def _left(self, player: int) -> tuple[float, int]:
        return self.left.get(player, (self.main, 0) if self.main else (self.extra, self.extra_stones))
