"""Opponents by name: `random`, `mcts(simulations=1000)`, `gtp(command=gnugo --mode gtp)`, `uci(command=stockfish)`.

Shapes: n positions, R bytes a row.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.gtp_opponent import Gtp
from rlsuite.boardgames.program import command_words, located
from rlsuite.boardgames.uci_opponent import Uci
from rlsuite.config.spec_string import check_keywords, parse_call, write_call
from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.game import Game
from rlsuite.search.evaluators import rollout_evaluator
from rlsuite.search.puct import Puct
from rlsuite.search.search import search_rows


class Opponent(Protocol):
    """A player of board games that can play many games at once."""

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        """Legal actions [n], or RESIGNS, for the positions [n,R] of unfinished games; `histories`: the actions of each so far."""
        ...

    def close(self) -> None:
        """Ends any program that it has started."""
        ...


class Random:
    """Plays a uniformly random legal move."""

    def __init__(self, game: Game):
        self.game = game

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Opponent`."""
        legal, actions = np.empty(self.game.num_actions, np.int32), np.empty(len(rows), np.int64)
        for i, row in enumerate(rows):
            actions[i] = legal[rng.integers(self.game.rules.legal(row, legal))]
        return actions

    def close(self) -> None:
        """Nothing is open."""


class Mcts:
    """Plain Monte Carlo tree search: PUCT with uniform priors, one random game from every leaf; plays the most visited move."""

    def __init__(self, game: Game, simulations: int = 100, c: float = 1.4):
        if not (isinstance(simulations, int) and 1 <= simulations <= 10_000_000):
            raise UsageError(f"mcts: simulations = {simulations}; allowed are whole numbers from 1 to 10,000,000")
        if not (isinstance(c, int | float) and 0 < c < float("inf")):
            raise UsageError(f"mcts: c = {c}; allowed are numbers above 0")
        self.game, self.simulations, self.method = game, simulations, Puct(c_init=c, fpu_reduction=-1.0, noise_fraction=0.0)

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Opponent`."""
        seed = int(rng.integers(2**31))
        return search_rows(self.game, rows, rollout_evaluator(self.game, seed), self.simulations, self.method, seed).action

    def close(self) -> None:
        """Nothing is open."""


OPPONENTS: dict[str, Callable[..., Any]] = {"random": Random, "mcts": Mcts, "gtp": Gtp, "uci": Uci}


def parse_opponent(name: str) -> tuple[str, dict[str, Any]]:
    """The kind of an opponent and its parameters; nothing is started.

    UsageError for an unknown kind, for parameters that it does not have, or for a program that is not installed.
    """
    kind, parameters = parse_call("opponent", name)
    if kind not in OPPONENTS:
        raise unknown("opponent", kind, OPPONENTS)
    check_keywords(kind, OPPONENTS[kind], parameters, skip=1)
    command_words(kind, str(parameters.get("command", "")))
    return kind, parameters


def located_opponent(name: str) -> str:
    """An opponent's name with the paths in its command made absolute, as runs store it; any other name unchanged."""
    try:
        kind, parameters = parse_call("opponent", name)
        command = located(str(parameters["command"]))
    except (KeyError, ValueError, UsageError):  # no command, or an invalid one, which `parse_opponent` refuses
        return name
    return name if command == parameters["command"] else write_call(kind, {**parameters, "command": command})


def make_opponent(name: str, game: Game) -> Opponent:
    """Makes the opponent of that name for a game. UsageError as for `parse_opponent`, and for invalid parameter values."""
    kind, parameters = parse_opponent(name)
    opponent: Opponent = OPPONENTS[kind](game, **parameters)
    return opponent
