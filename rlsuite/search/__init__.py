"""Search in trees: arrays of many games (`tree`), one call for a batch of positions (`search.search`), and one for people.

    import rlsuite
    game = rlsuite.make_game("connect_four")
    found = rlsuite.search(game, game.new_state(), "uniform", simulations=800)

This package can be called itself, so that `rlsuite.search(...)` works whether or not it was imported before.
"""

import sys
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.envs.boards.game import BoardState, Game
from rlsuite.errors import UsageError
from rlsuite.search.evaluators import Cached, Evaluate, plane_evaluator, rollout_evaluator, uniform_evaluator
from rlsuite.search.gumbel import Gumbel
from rlsuite.search.puct import Puct
from rlsuite.search.search import SearchResult, search

__all__ = [
    "Cached",
    "Evaluate",
    "Found",
    "Gumbel",
    "Puct",
    "SearchResult",
    "plane_evaluator",
    "rollout_evaluator",
    "search",
    "search_one",
    "uniform_evaluator",
]


class Found(NamedTuple):
    """What a search says of one position."""

    action: int  # to play
    policy: NDArray[np.float64]  # [A]
    value: float  # in [-1, 1], to the player to move
    variation: list[int]  # the principal one: actions from here on
    visits: NDArray[np.int32]  # [A]
    proven: bool  # the value is that of perfect play


def search_one(
    game: Game,
    state: BoardState,
    agent: Any = "uniform",
    simulations: int = 800,
    leaves: int = 16,
    solve: bool = True,
    seed: int = 0,
) -> Found:
    """Searches one position as for play: without noise, `leaves` of the tree at once.

    `agent`: what `rlsuite.load` gives, an `Evaluate` function, or "uniform" or "rollout" for none. UsageError for an agent of
    another game, a game that is over, and fewer than one simulation.
    """
    method: Puct | Gumbel = Puct(noise_fraction=0.0)
    if agent == "uniform":
        evaluate = uniform_evaluator(game)
    elif agent == "rollout":
        evaluate = rollout_evaluator(game, seed)
    elif hasattr(agent, "evaluator"):
        evaluate, method = agent.evaluator(game)
    elif callable(agent):
        evaluate = agent
    else:
        raise UsageError(f"{agent!r} cannot judge positions: give what rlsuite.load gives, a function, 'uniform' or 'rollout'")
    found = search(game, [state], evaluate, simulations, method, seed, leaves, solve)
    first = (found.policy[0], float(found.value[0]), found.variations[0], found.visits[0], bool(found.proven[0]))
    return Found(int(found.action[0]), *first)


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Found:
        return search_one(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
