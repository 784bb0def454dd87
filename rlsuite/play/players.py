"""Players of board games by name: a run, `pretrained:NAME`, `mcts(simulations=1000)`, `random`, `gtp(...)`, `uci(...)`.

Shapes: n positions, R bytes a row.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.matches import Batched, Programs, Replayed, Seat
from rlsuite.boardgames.opponents import OPPONENTS, Mcts, Opponent, make_opponent
from rlsuite.config.spec_string import parse_call
from rlsuite.core.errors import OpponentError, RlsuiteError, UsageError, nearest
from rlsuite.core.game import Game
from rlsuite.runs import pretrained_agents
from rlsuite.search import Cached, Evaluate, Gumbel, Puct, Searcher, rollout_evaluator
from rlsuite.search.search import choose_actions

if TYPE_CHECKING:
    from rlsuite.evaluation.saved_agent import Saved

PROGRAMS = ("gtp", "uci")  # the kinds of player that are other programs
RUN = "run"  # the kind that is a saved run with changed settings
_UNSET = 100  # simulations of a search by a player that plays without one


class BoardPlayer:
    """A player by name: an `Opponent` which, if it searches, also has an `evaluator`."""

    def __init__(self, name: str, game: Game, simulations: int | None = None, seed: int = 0):
        """`simulations`: per move, instead of the player's own number. `seed`: for its random games.

        UsageError for an unknown player, or one of another game.
        """
        self.name, self.game = name, game
        self.title = name if simulations is None else f"{name}, {simulations} simulations"
        self.opponent: Opponent | None = None
        self._evaluator: tuple[Evaluate, Puct | Gumbel] | None = None
        self.simulations, self.solve = simulations or 0, True
        if is_saved(name):
            self._use(_load(name), simulations)
            return
        opponent = make_opponent(name, game)
        if isinstance(opponent, Mcts):
            opponent.simulations = self.simulations = simulations or opponent.simulations
            self._evaluator, self.solve = (rollout_evaluator(game, seed), opponent.method), False
        elif simulations is not None:
            self.title = name  # it has no number of simulations to set
        self.opponent = opponent

    def _use(self, saved: "Saved", simulations: int | None) -> None:
        """Plays as a saved agent."""
        from rlsuite.acting.board_agent import BoardAgent
        from rlsuite.core import cpu
        from rlsuite.evaluation.saved_agent import board_evaluator

        cpu.set_up(saved.config.run.threads)
        self._evaluator, agent = board_evaluator(saved, self.game), saved.agent
        assert isinstance(agent, BoardAgent)  # as `board_evaluator` has checked
        self.simulations, self.solve = simulations or agent.config.eval_simulations, agent.config.solve

    @property
    def can_search(self) -> bool:
        """Whether it evaluates positions, so that its searches can be shown."""
        return self._evaluator is not None

    def evaluator(self, game: Game) -> tuple[Evaluate, Puct | Gumbel]:
        """Its position evaluator and its search method. UsageError for a player that does not search."""
        if self._evaluator is None:
            raise UsageError(f"{self.name} does not search, so it has nothing to show; a run or mcts(simulations=...) does")
        return self._evaluator

    def searcher(self, simulations: int | None = None, seed: int = 0) -> Searcher:
        """A searcher for one game that searches as this player does."""
        return Searcher(self.game, self, simulations or self.simulations or _UNSET, solve=self.solve, seed=seed)

    def change_game(self, game: Game) -> None:
        """Continues with other parameters of its game that a net does not see, such as the komi, or with another first position."""
        if self.opponent is not None and is_program(self.name):
            before, self.opponent = self.opponent, make_opponent(self.name, game)
            before.close()
        self.game = game
        if self._evaluator is not None and isinstance(self._evaluator[0], Cached):
            self._evaluator[0].clear()  # rollouts depend on the komi

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Opponent`. A program that fails raises OpponentError, and is restarted for the next move."""
        if self.opponent is not None:
            try:
                return self.opponent(rows, histories, rng)
            except OpponentError:
                with contextlib.suppress(RlsuiteError):  # the first error tells more than a second one
                    self.change_game(self.game)
                raise
        evaluate, method = self.evaluator(self.game)
        return choose_actions(self.game, rows, evaluate, self.simulations, method, int(rng.integers(2**31)), self.solve)

    def close(self) -> None:
        """Ends its program, if it is one."""
        if self.opponent is not None:
            self.opponent.close()


def is_saved(name: str) -> bool:
    """Whether a player is a saved run: a folder or `run(path=...)`. UsageError for a name that is no kind of player either."""
    if _is_path(name):
        return True
    kind, known = name.split("(")[0].strip(), [*OPPONENTS, RUN]
    if kind in known:
        return kind == RUN
    close = nearest(kind, known)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(
        f"unknown player {name!r}: neither a run folder nor a kind of player{hint} (known: {', '.join(sorted(known))})"
    )


def is_run(name: str) -> bool:
    """Whether a name is a folder, or an agent in the package, and not a file with a game."""
    return _is_path(name) and not name.endswith(".py")


def _is_path(name: str) -> bool:
    if pretrained_agents.is_name(name):
        return True
    try:
        return Path(name).exists()
    except OSError:  # a command longer than a file name may be
        return False


def _load(name: str) -> "Saved":
    """The agent in a folder, or in `run(path=FOLDER,key=value)`, where the keys are those of its config's section `agent`."""
    from rlsuite.evaluation.saved_agent import Saved  # torch takes a second to import, and other players do not need it

    if _is_path(name):
        return Saved(Path(name), device="auto")
    settings = parse_call("player", name)[1]
    if (path := settings.pop("path", None)) is None:
        raise UsageError(f"{name}: run needs path=..., a run or checkpoint folder")
    return Saved(Path(str(path)), device="auto", changes={"agent": settings})


def is_program(name: str) -> bool:
    """Whether a player is another program."""
    return not is_saved(name) and parse_call("player", name)[0] in PROGRAMS


def make_seat(name: str, game: Game, simulations: int | None, at_once: int, seed: int) -> Seat:
    """One side of a match: a program for each game played at once, or a player that moves in all games in one batch."""
    if is_program(name):
        return Programs(lambda: make_opponent(name, game), at_once)
    trained = _load(name).spec.game if is_saved(name) else None
    seen = game if trained is None else game.seen_as(make_game(trained))
    player = BoardPlayer(name, seen, simulations)
    return Batched(player if seen.name == game.name else Replayed(player, seen), seed)


def game_of(names: Sequence[str], game: str | None) -> Game:
    """The game of that name, or else that of the first saved run among the players. UsageError if there is neither."""
    if game is not None:
        return make_game(game)
    for name in names:
        if is_saved(name):
            spec = _load(name).spec
            if spec.game is None:
                raise UsageError(f"{name} is not a run of a board game")
            return make_game(spec.game)
    raise UsageError("which game? name one with --game (rlsuite list games), or a run among the players")
