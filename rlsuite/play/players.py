"""Who plays a board game, by name: a run or a checkpoint, `mcts(simulations=1000)`, `random`, `gtp(...)`, `uci(...)`.

Shapes: n positions, R bytes a row.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.matches import Batched, Programs, Seat
from rlsuite.boardgames.opponents import OPPONENTS, Mcts, Opponent, make_opponent
from rlsuite.config.spec_string import parse_call
from rlsuite.core import cpu
from rlsuite.core.errors import UsageError, nearest
from rlsuite.core.game import Game
from rlsuite.evaluation.saved_agent import Saved, board_evaluator
from rlsuite.factories import threads_of
from rlsuite.search import Evaluate, Gumbel, Puct, Searcher, rollout_evaluator
from rlsuite.search.search import search_rows, without_search

PROGRAMS = ("gtp", "uci")  # kinds that are other programs
RUN = "run"  # the kind that is a saved run with other settings


class BoardPlayer:
    """An opponent that may also be asked what it thinks: it moves as in matches, and `evaluator` is for a `Searcher`."""

    def __init__(self, name: str, game: Game, simulations: int | None = None, seed: int = 0):
        """`simulations` a move, instead of the player's own; `seed`: of its random games.

        UsageError for no such player, or one of another game.
        """
        self.name, self.game = name, game
        self.title = name if simulations is None else f"{name}, {simulations} simulations"
        self.opponent: Opponent | None = None
        self.evaluation: tuple[Evaluate, Puct | Gumbel] | None = None
        self.simulations, self.solve = simulations or 0, True
        if is_saved(name):
            saved = _load(name)
            cpu.set_up(threads_of(saved.config))
            self.evaluation = board_evaluator(saved, game)
            agent: Any = saved.agent
            self.simulations, self.solve = simulations or agent.config.eval_simulations, agent.config.solve
            return
        opponent = make_opponent(name, game)
        if isinstance(opponent, Mcts):
            opponent.simulations = self.simulations = simulations or opponent.simulations
            self.evaluation, self.solve = (rollout_evaluator(game, seed), opponent.method), False
        elif simulations is not None:
            self.title = name  # it has none that we could set
        self.opponent = opponent

    def evaluator(self, game: Game) -> tuple[Evaluate, Puct | Gumbel]:
        """UsageError for a player that does not search."""
        if self.evaluation is None:
            raise UsageError(f"{self.name} does not say what it thinks: a run or mcts(simulations=...) does")
        return self.evaluation

    def searcher(self, simulations: int | None = None, seed: int = 0) -> Searcher:
        """Searches one position after another of a game, as this player does; one that plays without a search looks at 100."""
        return Searcher(self.game, self, simulations or self.simulations or 100, solve=self.solve, seed=seed)

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        """As `Opponent` says."""
        if self.opponent is not None:
            return self.opponent(rows, histories, rng)
        evaluate, method = self.evaluator(self.game)
        if self.simulations == 0:
            return without_search(self.game, rows, evaluate)
        return search_rows(self.game, rows, evaluate, self.simulations, method, int(rng.integers(2**31)), solve=self.solve).action

    def close(self) -> None:
        if self.opponent is not None:
            self.opponent.close()


def is_saved(name: str) -> bool:
    """Whether it names a folder, or is `run(path=...)`. UsageError for what is neither that nor a kind of player."""
    if _is_path(name):
        return True
    kind, known = name.split("(")[0].strip(), [*OPPONENTS, RUN]
    if kind in known:
        return kind == RUN
    close = nearest(kind, known)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(f"no player {name!r}: no such run folder, and no kind of player{hint} (known: {', '.join(sorted(known))})")


def _is_path(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a command that is longer than a file's name may be
        return False


def _load(name: str) -> Saved:
    """A folder, or `run(path=FOLDER,key=value)`, the keys being those of the section `agent` of its config."""
    if _is_path(name):
        return Saved(Path(name), device="auto")
    settings = parse_call("player", name)[1]
    if (path := settings.pop("path", None)) is None:
        raise UsageError(f"{name}: run needs path=..., a run or a checkpoint folder")
    return Saved(Path(str(path)), device="auto", changes={"agent": settings})


def is_program(name: str) -> bool:
    return not is_saved(name) and parse_call("player", name)[0] in PROGRAMS


def make_seat(name: str, game: Game, simulations: int | None, at_once: int, seed: int) -> Seat:
    """A side of a match: a program for each game that is played at once, or a player that thinks about all in one batch."""
    if is_program(name):
        return Programs(lambda: make_opponent(name, game), at_once)
    return Batched(BoardPlayer(name, game, simulations), seed)


def game_of(names: Sequence[str], game: str | None) -> Game:
    """The game that is named, or else that of the first saved run among the players. UsageError without either."""
    if game is not None:
        return make_game(game)
    for name in names:
        if is_saved(name):
            spec = _load(name).spec
            if spec.game is None:
                raise UsageError(f"{name} is no run of a board game")
            return make_game(spec.game)
    raise UsageError("which game? name one with --game (rlsuite list games), or a run among the players")
