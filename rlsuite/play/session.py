"""A game in progress: its moves, taking them back, and what a player expects of it."""

from collections.abc import Callable

import numpy as np

from rlsuite.boardgames.gtp_opponent import RESIGNS
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.play.players import BoardPlayer
from rlsuite.search import Found, Searcher

_STEP = 64  # simulations between two calls of `stop`


class Session:
    """A game in progress and the player who plays it.

    `states[i]` is the position after `actions[:i]`; `values[i]` is the value that the player found there, for player 0, if it did.
    """

    def __init__(self, game: Game, player: BoardPlayer, simulations: int | None = None, seed: int = 0):
        self.game, self.player, self.seed = game, player, seed
        self.simulations = simulations or player.simulations
        self.rng = np.random.default_rng(seed)
        self.searcher: Searcher | None = None
        self.clear()

    def clear(self) -> None:
        """Starts a new game."""
        self.states: list[BoardState] = [self.game.new_state()]
        self.actions: list[int] = []
        self.values: list[float | None] = [None]
        self.resigned: int | None = None  # the player who resigned

    def change_game(self, game: Game) -> None:
        """Plays on under other rules that leave the moves as they are, such as another komi."""
        actions, self.game, self.searcher = self.actions, game, None
        self.player.change_game(game)
        self.clear()
        for action in actions:
            self.play(action)

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
        """The points of player 0: 1, 0.5 or 0; None while the game is on."""
        if self.resigned is not None:
            return float(self.resigned)
        return (1 + self.state.returns()[0]) / 2 if self.state.is_terminal() else None

    @property
    def ending(self) -> str:
        """How it ended, if not by the rules; for a record."""
        return "" if self.resigned is None else "resigned"

    def play(self, action: int) -> None:
        """Makes a move. UsageError for an illegal one, and once the game is over."""
        if self.resigned is not None:
            raise UsageError("the game is over: a player has resigned")
        self.states.append(self.state.apply(action))
        self.actions.append(action)
        self.values.append(None)

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

    def think(self, simulations: int | None = None, stop: Callable[[], bool] | None = None, each: int = _STEP) -> Found:
        """Searches the position as the player does; `stop` is called every `each` simulations and can end the search early.

        UsageError for a player that does not search.
        """
        wanted = simulations or self.simulations or 100
        if self.searcher is None or self.searcher.simulations < wanted or self.searcher.game is not self.game:
            self.searcher = self.player.searcher(wanted, self.seed)
        if stop is None:
            found = self.searcher.search(self.state, wanted)
        else:
            for budget in [*range(each, wanted, each), wanted]:
                found = self.searcher.search(self.state, budget)
                if stop() or found.proven:
                    break
        self.values[-1] = found.value if self.state.player == 0 else -found.value
        return found

    def answer(self, simulations: int | None = None, stop: Callable[[], bool] | None = None) -> int:
        """Makes the player's move and returns it; RESIGNS if it resigns."""
        if self.over:
            raise UsageError("the game is over")
        if self.player.can_search and self.simulations:
            action = self.think(simulations, stop).action
        else:
            action = int(self.player(self.state.row[None], [self.actions], self.rng)[0])
        if action == RESIGNS:
            self.resigned = self.state.player
        else:
            self.play(action)
        return action
