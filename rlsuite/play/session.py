"""A game in progress: making and taking back moves, and a player's evaluations of the positions."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from rlsuite.boardgames.gtp_opponent import RESIGNS
from rlsuite.boardgames.record import RESIGNED
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.play.clock import Pace
from rlsuite.play.players import BoardPlayer, is_program
from rlsuite.search import Found, Gumbel, Puct, Searcher, compiled

_TRIAL = 16  # simulations that measure how fast a search is
_PLANNED = 0.9  # share of the time that Gumbel's halving plans for


def waits_for(game: Game, method: type[Puct | Gumbel]) -> str:
    """A line about what a search of a game has to wait for, its compilation; "" if it is compiled."""
    return "" if compiled(game, method) else f"compiling the search for {game.name}, which takes some seconds"


class Session:
    """A game in progress and the player who plays it.

    `states[i]` is the position after `actions[:i]`; `values[i]` is the value that the player found there, for player 0, if it did.
    """

    def __init__(self, game: Game, player: BoardPlayer, simulations: int | None = None, seed: int = 0):
        self.game, self.player, self.seed = game, player, seed
        self.simulations = simulations or player.simulations
        self.rng = np.random.default_rng(seed)
        self.searcher: Searcher | None = None
        self.searched: BoardState | None = None  # the position of the last search
        self.rate = 0.0  # simulations per second of the last search
        self.tell: Callable[[str], None] = lambda text: None  # called with a line about what the user has to wait for
        self.clear()

    def clear(self, start: BoardState | None = None) -> None:
        """Starts a new game, from the usual first position or from another one."""
        self.states: list[BoardState] = [start or self.game.new_state()]
        self.actions: list[int] = []
        self.values: list[float | None] = [None]
        self.resigned: int | None = None  # the player who resigned
        self.regular = start is None  # whether it is from the usual start, without moves out of turn

    def copy(self) -> Any:
        """The game as it is now, for `restore`."""
        return self.states[:], self.actions[:], self.values[:], self.resigned, self.regular

    def restore(self, copy: Any) -> None:
        """Goes back to what `copy` returned."""
        states, actions, values, resigned, regular = copy
        if states[0].game is self.game:
            self.states, self.actions, self.values = states[:], actions[:], values[:]
        else:  # the copy was made before the rules changed
            self.clear()
            for before, action in zip(states, actions, strict=False):
                self.turn(before.player)
                self.play(action)
            if not self.state.is_terminal():
                self.turn(states[-1].player)
        self.resigned, self.regular = resigned, regular

    def change_game(self, game: Game) -> None:
        """Continues under other rules that do not affect the moves, such as another komi."""
        copy, self.game, self.searcher = self.copy(), game, None
        self.player.change_game(game)
        self.restore(copy)

    @property
    def state(self) -> BoardState:
        """The current position."""
        return self.states[-1]

    @property
    def over(self) -> bool:
        """Whether the game is over, by the rules or because a player resigned."""
        return self.resigned is not None or self.state.is_terminal()

    @property
    def points(self) -> float | None:
        """The points of player 0: 1, 0.5 or 0; None while the game is not over."""
        if self.resigned is not None:
            return float(self.resigned)
        return (1 + self.state.returns()[0]) / 2 if self.state.is_terminal() else None

    @property
    def ending(self) -> str:
        """How it ended, if not by the rules; for a record."""
        return "" if self.resigned is None else RESIGNED

    def play(self, action: int) -> None:
        """Makes a move. UsageError for an illegal one, and once the game is over."""
        if self.resigned is not None:
            raise UsageError("the game is over: a player has resigned")
        self.states.append(self.state.apply(action))
        self.actions.append(action)
        self.values.append(None)

    def turned(self, player: int) -> BoardState:
        """The position with `player` to move, even after passes have ended the game. UsageError if that is not possible."""
        state, game = self.state, self.game
        if state.player == player and not state.is_terminal():
            return state
        row = state.row
        if game.presentation.gtp is not None and game.presentation.gtp.resume is not None:
            game.presentation.gtp.resume(row)
        if game.set_player is not None:
            game.set_player(row, player)
        found = BoardState(game, row)
        if found.is_terminal():
            raise UsageError(f"{game.name}: the game is over")
        if found.player != player:
            raise UsageError(f"{game.name}: it is {game.presentation.sides[1 - player]}'s turn")
        return found

    def turn(self, player: int) -> None:
        """Makes it the player's turn. UsageError as in `turned`."""
        found = self.turned(player)
        self.regular = self.regular and found is self.state
        self.states[-1] = found

    def undo(self) -> None:
        """Takes back a move, or a resignation."""
        if self.resigned is not None:
            self.resigned = None
        elif self.actions:
            self.states.pop()
            self.actions.pop()
            self.values.pop()
        else:
            raise UsageError("there is no move to take back")

    def ready(self) -> None:
        """Compiles the search, if it is not in the cache, and measures its speed, so that this does not cost time on a clock."""
        if not self.player.can_search or not self.simulations or self.rate:
            return
        self._announce()
        searcher, state = self.player.searcher(_TRIAL, self.seed), self.game.new_state()
        state = state.apply(searcher.search(state).action)
        begin = time.monotonic()
        if not state.is_terminal():
            searcher.search(state)  # reuses a part of the tree, so that this code is compiled, too
        self.rate = max(searcher.made, 1) / max(time.monotonic() - begin, 1e-6)

    @property
    def waits(self) -> str:
        """A line about what the next search has to wait for, its compilation; "" if it is compiled."""
        return waits_for(self.game, type(self.player.evaluator(self.game)[1])) if self.player.can_search else ""

    def _announce(self) -> None:
        if self.waits:
            self.tell(self.waits)

    def think(
        self,
        simulations: int | None = None,
        pace: Pace | None = None,
        look: Callable[[], bool] | None = None,
        only: Iterable[int] = (),
    ) -> Found:
        """Searches the position as the player does, until the root has `simulations` visits.

        `pace` ends it by a clock. `look` is called repeatedly and ends it by returning True. `only`: the actions to consider.
        UsageError for a player that does not search.
        """
        self._announce()
        wanted = simulations or self.simulations or 100
        if self.searcher is None or self.searcher.simulations < wanted or self.searcher.game is not self.game:
            self.searcher = self.player.searcher(wanted, self.seed)
        searcher, pace, planned = self.searcher, pace or Pace(timed=False), wanted
        if pace.left is not None:
            planned = int(_PLANNED * self.rate * max(pace.left, 0.0))
        if isinstance(searcher.method, Gumbel) and self.state != self.searched:
            searcher.forget()  # halving needs a root without visits; the evaluator's cache still has earlier evaluations
        self.searched = self.state
        searcher.begin(self.state, wanted, only, planned)
        begin = time.monotonic()
        while searcher.step(pace.chunk):
            if pace.over(searcher.made) or (look is not None and look()):
                break
        self.rate = searcher.made / max(time.monotonic() - begin, 1e-6) if searcher.made >= _TRIAL else self.rate
        found = searcher.found()
        self.values[-1] = found.value if self.state.player == 0 else -found.value
        return found

    def choose(self) -> int:
        """The player's action, or RESIGNS, without a search by the session. UsageError if the game cannot be described to it."""
        if not self.regular and is_program(self.player.name):
            raise UsageError(f"{self.player.name} plays only games from the usual start in which nobody moved out of turn")
        return int(self.player(self.state.row[None], [self.actions], self.rng)[0])

    def answer(
        self,
        simulations: int | None = None,
        pace: Pace | None = None,
        look: Callable[[], bool] | None = None,
        only: Iterable[int] = (),
    ) -> int:
        """Makes the player's move and returns it; RESIGNS if it resigns. The arguments are those of `think`."""
        if self.over:
            raise UsageError("the game is over")
        searches = self.player.can_search and self.simulations
        action = self.think(simulations, pace, look, only).action if searches else self.choose()
        if action == RESIGNS:
            self.resigned = self.state.player
        else:
            self.play(action)
        return action
