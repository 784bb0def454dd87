"""A game that goes on: its moves, taking them back, and what a player thinks of it."""

from collections.abc import Callable

import numpy as np

from rlsuite.boardgames.gtp_opponent import RESIGNS
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.play.players import BoardPlayer
from rlsuite.search import Found, Searcher

_SLICE = 64  # simulations between two looks at whether to stop


class Session:
    """`states[i]` is the position behind `actions[:i]`; `values[i]` what the player thought of it, to player 0, if it did."""

    def __init__(self, game: Game, player: BoardPlayer, simulations: int | None = None, seed: int = 0):
        self.game, self.player, self.seed = game, player, seed
        self.simulations = simulations or player.simulations
        self.rng = np.random.default_rng(seed)
        self.searcher: Searcher | None = None
        self.clear()

    def clear(self) -> None:
        """A new game."""
        self.states: list[BoardState] = [self.game.new_state()]
        self.actions: list[int] = []
        self.values: list[float | None] = [None]
        self.resigned: int | None = None  # the player who gave up

    @property
    def state(self) -> BoardState:
        return self.states[-1]

    @property
    def side_names(self) -> tuple[str, str]:
        """Of players 0 and 1, as people call them."""
        if self.game.name.startswith("openspiel(game=chess,"):
            return "Black", "White"
        stones = self.game.name.split("(")[0] in ("go", "gomoku", "othello")
        return ("Black", "White") if stones else ("x", "o")

    @property
    def over(self) -> bool:
        return self.resigned is not None or self.state.is_terminal()

    @property
    def points(self) -> float | None:
        """Of player 0: 1, 0.5 or 0; None while the game goes on."""
        if self.resigned is not None:
            return float(self.resigned)
        return (1 + self.state.returns()[0]) / 2 if self.state.is_terminal() else None

    @property
    def ending(self) -> str:
        """What ended it, where it was not the rules; for a record."""
        return "" if self.resigned is None else "resigned"

    def play(self, action: int) -> None:
        """UsageError for an illegal move and behind the end."""
        if self.resigned is not None:
            raise UsageError("the game is over: somebody has resigned")
        self.states.append(self.state.apply(action))
        self.actions.append(action)
        self.values.append(None)

    def undo(self) -> None:
        """Takes a move back, or a resignation."""
        if self.resigned is not None:
            self.resigned = None
        elif self.actions:
            self.states.pop()
            self.actions.pop()
            self.values.pop()
        else:
            raise UsageError("there is no move to take back")

    def think(self, simulations: int | None = None, stop: Callable[[], bool] | None = None, each: int = _SLICE) -> Found:
        """What the player thinks of the position; `stop` is asked every `each` simulations, and ends it early.

        UsageError if it never says.
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
        """The player's move here, which is played; RESIGNS where it gives up."""
        if self.over:
            raise UsageError("the game is over")
        if self.player.evaluation is not None and self.simulations:
            action = self.think(simulations, stop).action
        else:
            action = int(self.player(self.state.row[None], [self.actions], self.rng)[0])
        if action == RESIGNS:
            self.resigned = self.state.player
        else:
            self.play(action)
        return action
