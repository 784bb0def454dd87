"""Tree search: trees of many games as arrays (`tree`), a search of a batch of positions (`search.search`), and one of a position:

    import rlsuite
    game = rlsuite.make_game("connect_four")
    found = rlsuite.search(game, game.new_state(), "uniform", simulations=800)

`Searcher` searches one position of a game after another, and keeps the part of the tree below the moves that were made.

The package itself is callable, so that `rlsuite.search(...)` works whether or not the package was imported before.
"""

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.search.evaluators import Cached, Evaluate, plane_evaluator, rollout_evaluator, uniform_evaluator
from rlsuite.search.gumbel import Gumbel
from rlsuite.search.puct import Puct
from rlsuite.search.reroot import keep_below
from rlsuite.search.search import METHODS, SearchResult, advance, check, check_position, compiled, read, search
from rlsuite.search.tree import NO_CHILD, kernels, make_tree

__all__ = [
    "Cached",
    "Evaluate",
    "Found",
    "Gumbel",
    "Puct",
    "SearchResult",
    "Searcher",
    "compiled",
    "plane_evaluator",
    "rollout_evaluator",
    "search",
    "search_one",
    "uniform_evaluator",
]


class Found(NamedTuple):
    """The result of a search of one position."""

    action: int  # the action to play
    policy: NDArray[np.float64]  # [A]
    value: float  # in [-1, 1], for the player to move
    variation: list[int]  # the principal variation: actions from this position on
    visits: NDArray[np.int32]  # [A]
    proven: bool  # whether the value is proven to be that of perfect play


@runtime_checkable
class HasEvaluator(Protocol):
    """An agent that can guide a search, such as the one that `rlsuite.load` returns."""

    def evaluator(self, game: Game) -> tuple[Evaluate, Puct | Gumbel]:
        """Its evaluator for positions of a game, and its search method. UsageError for a game that it does not play."""
        ...


def search_one(
    game: Game,
    state: BoardState,
    agent: Any = "uniform",
    simulations: int = 800,
    leaves: int = 16,
    solve: bool = True,
    seed: int = 0,
) -> Found:
    """Searches one position as for play, without exploration noise, and evaluates up to `leaves` leaves at once.

    `agent`: an agent from `rlsuite.load`, an `Evaluate` function, or "uniform" or "rollout" to search without an agent. UsageError
    for an agent of another game, a position where the game is over, or fewer than one simulation.
    """
    evaluate, method = _evaluator(game, agent, seed)
    return _first(search(game, [state], evaluate, simulations, method, seed, leaves, solve))


def _first(found: SearchResult) -> Found:
    """The result of the only position that was searched."""
    first = (found.policy[0], float(found.value[0]), found.variations[0], found.visits[0], bool(found.proven[0]))
    return Found(int(found.action[0]), *first)


def _evaluator(game: Game, agent: Any, seed: int) -> tuple[Evaluate, Puct | Gumbel]:
    """The evaluator and the search method for the `agent` of `search_one`."""
    method: Puct | Gumbel = Puct(noise_fraction=0.0)
    if agent == "uniform":
        return uniform_evaluator(game), method
    if agent == "rollout":
        return rollout_evaluator(game, seed), method
    if isinstance(agent, HasEvaluator):
        return agent.evaluator(game)
    if callable(agent):
        return agent, method
    raise UsageError(f"{agent!r} cannot evaluate positions: pass what rlsuite.load returns, a function, 'uniform' or 'rollout'")


class Searcher:
    """Searches the positions of a game in turn, like `search_one`, and reuses the part of the tree below the moves that were made.

    A search ends when its root has `simulations` visits, including those from earlier searches.
    """

    def __init__(
        self,
        game: Game,
        agent: Any = "uniform",
        simulations: int = 800,
        leaves: int = 16,
        solve: bool = True,
        seed: int = 0,
    ):
        """Arguments and errors as in `search_one`; `simulations` is also the maximum for a single search."""
        self.game, self.simulations, (self.evaluate, self.method) = game, simulations, _evaluator(game, agent, seed)
        check(simulations, leaves)
        self.run = kernels(game.rules, METHODS[type(self.method)])
        self.tree = make_tree(game, 1, simulations, seed, leaves, solve)
        self.tree.slot["nodes"] = 0  # nothing searched yet
        self.most, self.kept, self.only = simulations, 0, frozenset[int]()

    @property
    def done(self) -> int:
        """The root's visits: simulations so far, including those kept from earlier searches."""
        return int(self.tree.slot["done"][0])

    @property
    def made(self) -> int:
        """The simulations that this search has made itself."""
        return self.done - self.kept

    def search(self, state: BoardState, simulations: int | None = None) -> Found:
        """Searches a position until it has `simulations` visits; a further call with more visits continues the search."""
        self.begin(state, simulations)
        while self.step():
            pass
        return self.found()

    def begin(
        self, state: BoardState, simulations: int | None = None, only: Iterable[int] = (), planned: int | None = None
    ) -> None:
        """Sets up a search of a position until it has `simulations` visits; calls of `step` then run it.

        `only`: the legal actions to consider; empty: all. `planned`: the expected number of simulations if a clock ends the search;
        the default is `simulations`. Only Gumbel's sequential halving uses it.
        """
        check_position(self.game, state)
        slot = self.tree.slot
        if self.only != (only := frozenset(only)):
            self.forget()  # the tree has different moves at its root
        self.only, self.most = only, min(max(simulations or self.simulations, 1), self.simulations)
        slot["planned"] = self.most if planned is None else min(planned, self.most)
        node = self._find(state.row)
        if node is None:
            self.run.set_roots(self.tree, np.zeros(1, np.int32), state.row[None])
            if only:
                self._restrict()
        elif node > 0:
            keep_below(self.tree, 0, node)
        elif self.done > 0:
            slot["kept"] = 1  # sequential halving has already ended its schedule for fewer simulations
        self.kept = self.done

    def forget(self) -> None:
        """Drops the tree."""
        self.tree.slot["nodes"] = 0

    def step(self, simulations: int | None = None) -> bool:
        """Makes up to `simulations` more, at most one batch for the evaluator; returns whether the search is still unfinished."""
        self.tree.slot["budget"] = self.most if simulations is None else min(self.most, self.done + max(simulations, 1))
        advance(self.tree, self.run, self.evaluate, self.method)
        return self.done < self.most and not self.tree.node[0, 0]["proven"]

    def found(self) -> Found:
        """The result of the search so far; `step` must have been called at least once."""
        return _first(read(self.tree, self.run, self.method))

    def forced(self) -> list[int]:
        """The shortest line found to a proven win or loss, against the longest defence; [] if neither is proven."""
        return [] if abs(self._proven_value(0)) != 1.0 else self._line(0)

    def _proven_value(self, node: int) -> float:
        """The proven value of a node for player 0; 0 if it is not proven."""
        return float(self.tree.node[0, node]["value"]) if self.tree.node[0, node]["proven"] else 0.0

    def _line(self, node: int) -> list[int]:
        """`forced` from a node whose value is proven to be a win or a loss."""
        record, edges = self.tree.node[0, node], self.tree.edge[0]
        below = edges[record["first"] : record["first"] + record["fanout"]]
        value = self._proven_value(node)
        lines = [
            [int(edge["action"]), *self._line(int(edge["child"]))]
            for edge in below
            if edge["child"] != NO_CHILD and self._proven_value(int(edge["child"])) == value
        ]
        if not lines:
            return []
        return (min if (value > 0) == (record["player"] == 0) else max)(lines, key=len)

    def _restrict(self) -> None:
        """Expands the root, and drops its edges to actions other than `only`."""
        self.tree.slot["budget"] = 0
        advance(self.tree, self.run, self.evaluate, self.method)
        root, edges = self.tree.node[0, 0], self.tree.edge[0]
        kept = edges[: root["fanout"]][np.isin(edges["action"][: root["fanout"]], list(self.only))]
        share = kept["prior"].sum()
        kept["log_prior"] -= np.log(share)
        kept["prior"] /= share
        edges[: len(kept)] = kept
        root["fanout"] = len(kept)

    def _find(self, row: NDArray[np.int8]) -> int | None:
        """The expanded node with this position, if it is the root or one or two moves below it."""
        nodes, edges = self.tree.node[0], self.tree.edge[0]
        level = [0] if self.tree.slot["nodes"][0] else []
        for _ in range(3):
            for node in level:
                if np.array_equal(self.tree.rows[0, node], row):
                    return node if nodes[node]["fanout"] else None
            below = [edges["child"][n["first"] : n["first"] + n["fanout"]] for n in nodes[level]]
            level = [int(child) for children in below for child in children if child != NO_CHILD]
        return None


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Found:
        return search_one(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
