"""Matches between board players: many games at once, in pairs from one opening, one from each side.

Shapes: n games, R bytes a row.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.gtp_opponent import RESIGNS
from rlsuite.boardgames.openings import random_opening
from rlsuite.boardgames.opponents import Opponent
from rlsuite.boardgames.ratings import Score
from rlsuite.boardgames.record import RESIGNED
from rlsuite.core.errors import OpponentError
from rlsuite.core.game import Game
from rlsuite.search import Evaluate, Gumbel, Puct
from rlsuite.search.search import choose_actions

Mover = Callable[[NDArray[np.int8]], NDArray[np.int64]]  # positions [n,R] of unfinished games -> actions [n]


def searcher(game: Game, evaluate: Evaluate, method: Puct | Gumbel, simulations: int, solve: bool = True) -> Mover:
    """A player that searches every position with a new tree."""
    return lambda rows: choose_actions(game, rows, evaluate, simulations, method, solve=solve)


class Failure(NamedTuple):
    """Returned instead of an action if a player has crashed, was too slow or broke the rules; it loses the game."""

    why: str


class Seat(Protocol):
    """One side of a match. It plays many games at once."""

    def __call__(self, slots: Sequence[int], rows: NDArray[np.int8], histories: Sequence[Sequence[int]]) -> Sequence[int | Failure]:
        """Returns the actions in n games in which it is to move; RESIGNS is allowed.

        `slots`: numbers of the games, among those that are played at once; `rows` [n,R]: positions; `histories`: actions so far.
        """
        ...

    def close(self) -> None:
        """Ends any programs that it has started."""
        ...


class Batched:
    """A seat whose player moves in all games in one batch."""

    def __init__(self, opponent: Opponent, seed: int):
        self.opponent, self.rng = opponent, np.random.default_rng(seed)

    def __call__(self, slots: Sequence[int], rows: NDArray[np.int8], histories: Sequence[Sequence[int]]) -> Sequence[int | Failure]:
        """See `Seat`."""
        return [int(action) for action in self.opponent(rows, histories, self.rng)]

    def close(self) -> None:
        """Closes the player."""
        self.opponent.close()


class Replayed:
    """A player whose net sees other planes than those of the match's game (`Game.seen_as`): it gets positions of its own game."""

    def __init__(self, player: Opponent, game: Game):
        self.player, self.game = player, game

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Opponent`."""
        own = np.stack([self.game.new_state().row] * len(rows))  # [n,R]
        for row, history in zip(own, histories, strict=True):
            for action in history:
                self.game.rules.play(row, action)
        return self.player(own, histories, rng)

    def close(self) -> None:
        """Closes the player."""
        self.player.close()


class Programs:
    """A seat for another program, with a copy for each game played at once. A copy that fails is restarted for the next game."""

    def __init__(self, make: Callable[[], Opponent], count: int):
        self.make, self.rng = make, np.random.default_rng(0)  # programs do not use it
        self.programs: list[Opponent | None] = [None] * count
        self.pool = ThreadPoolExecutor(count)
        self.programs[0] = make()  # so that a command that cannot be started fails right away

    def _move(self, slot: int, row: NDArray[np.int8], history: Sequence[int]) -> int | Failure:
        program = None
        try:
            program = self.programs[slot] = self.programs[slot] or self.make()
            return int(program(row[None], [history], self.rng)[0])
        except OpponentError as error:
            if program is not None:
                program.close()
            self.programs[slot] = None
            return Failure(str(error))

    def __call__(self, slots: Sequence[int], rows: NDArray[np.int8], histories: Sequence[Sequence[int]]) -> Sequence[int | Failure]:
        """See `Seat`."""
        return list(self.pool.map(self._move, slots, rows, histories))

    def close(self) -> None:
        """Ends all programs."""
        for program in self.programs:
            if program is not None:
                program.close()  # this also ends the wait for a move
        self.pool.shutdown()


class Played(NamedTuple):
    """A finished game of a match."""

    number: int  # from 0; games 2i and 2i + 1 are a pair
    side: int  # the player, 0 or 1, that the first seat played
    actions: list[int]
    opening: int  # number of random moves at the start
    points: float  # of the first seat: 1, 0.5 or 0
    ending: str  # how it ended; "" if by the rules


def play_games(
    game: Game, first: Seat, second: Seat, games: int, opening_moves: int, seed: int, at_once: int | None = None
) -> Iterator[Played]:
    """Plays `games` games (rounded up to an even number) and yields each as it ends.

    Every random opening of up to `opening_moves` moves is played from both sides. Without openings, two deterministic agents would
    repeat the same two games. At most `at_once` games are played at a time; None: all.
    """
    rng, rules, total = np.random.default_rng(seed), game.rules, games + games % 2
    openings = [random_opening(game, int(rng.integers(opening_moves + 1)), rng) for _ in range(total // 2)]
    free = list(range(at_once or total))[::-1]
    running: dict[int, int] = {}  # number -> slot
    rows: dict[int, NDArray[np.int8]] = {}
    histories: dict[int, list[int]] = {}
    waiting = iter(range(total))
    while True:
        while free and (number := next(waiting, None)) is not None:
            running[number] = free.pop()
            opening, row = openings[number // 2]
            rows[number], histories[number] = row.copy(), list(opening)
        if not running:
            return
        sides: tuple[list[int], list[int]] = ([], [])
        for number in running:
            sides[int(rules.player(rows[number])) != number % 2].append(number)
        for at, (seat, theirs) in enumerate(zip((first, second), sides, strict=True)):
            if not theirs:
                continue
            answers = seat([running[g] for g in theirs], np.stack([rows[g] for g in theirs]), [histories[g] for g in theirs])
            for number, answer in zip(theirs, answers, strict=True):
                ending = ""
                if isinstance(answer, Failure) or answer == RESIGNS:
                    ending = answer.why if isinstance(answer, Failure) else RESIGNED
                    over, points = True, float(at == 1)
                else:
                    rules.play(rows[number], answer)
                    histories[number].append(answer)
                    over, value = rules.outcome(rows[number])
                    points = (1 + (value if number % 2 == 0 else -value)) / 2
                if over:
                    free.append(running.pop(number))
                    del rows[number]
                    opening = openings[number // 2][0]
                    yield Played(number, number % 2, histories.pop(number), len(opening), float(points), ending)


def play_match(game: Game, first: Mover, second: Mover, games: int, opening_moves: int, seed: int) -> Score:
    """The first player's score against the second in `play_games`."""
    seats = [Batched(_Positions(mover), seed) for mover in (first, second)]
    return score([played.points for played in play_games(game, seats[0], seats[1], games, opening_moves, seed)])


class _Positions:
    """Adapts a `Mover`, which sees only positions, to the interface of `Opponent`."""

    def __init__(self, mover: Mover):
        self.mover = mover

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        return self.mover(rows)

    def close(self) -> None:
        """Does nothing: there is nothing to close."""


def score(points: Sequence[float]) -> Score:
    """The score from the points of every game."""
    return Score(sum(p > 0.5 for p in points), sum(p == 0.5 for p in points), sum(p < 0.5 for p in points))
