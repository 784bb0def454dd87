"""search: simulations per second with a uniform evaluator, and the time in the tree and hits of the cache in self-play."""

from typing import Any

import numpy as np

from rlsuite.acting.selfplay import SelfPlay
from rlsuite.bench.measure import NOT_INSTALLED, BenchSettings, Row, Target, Work, alternate, lacking, named, repeated, say
from rlsuite.bench.selfplay import moves, self_player, watch
from rlsuite.boardgames.games import make_game
from rlsuite.search import Puct, uniform_evaluator
from rlsuite.search.search import search_rows

TREES, SIMULATIONS = 64, 64


def bench_search(settings: BenchSettings) -> list[Row]:
    """Simulations per second, against OpenSpiel; then moves, games, cache hits and time outside the net in self-play."""
    return [*_trees(settings), *_selfplay(settings)]


def _trees(settings: BenchSettings) -> list[Row]:
    rows = []
    for name, target in (("connect_four", Target("ratio", ">=", 10)), ("go(size=9,komi=7.5)", None)):
        what = f"{name}: PUCT, {TREES} positions at once, {SIMULATIONS} simulations, uniform priors, values of 0, one thread"
        if lacking(["pyspiel"]):
            rate = alternate(f"search/{name}", {"ours": _ours(name)}, settings)
            rows.append(Row(f"search/{name}", f"{what}; OpenSpiel {NOT_INSTALLED}", "sims/s", rate["ours"]))
            continue
        rates = alternate(f"search/{name}", {"ours": _ours(name), "open_spiel": _open_spiel(name)}, settings)
        what += f"; against {named('open_spiel')}'s Python MCTSBot (puct_value, one position at a time)"
        rows.append(Row(f"search/{name}", what, "sims/s", rates["ours"], rates["open_spiel"], target))
    return rows


def _ours(name: str) -> Work:
    game = make_game(name)
    positions, evaluate = np.stack([game.new_state().row] * TREES), uniform_evaluator(game)
    method = Puct(noise_fraction=0.0)
    return repeated(lambda: search_rows(game, positions, evaluate, SIMULATIONS, method), TREES * SIMULATIONS)


def _open_spiel(name: str) -> Work:
    import pyspiel
    from open_spiel.python.algorithms import mcts

    class Uniform(mcts.Evaluator):  # type: ignore[misc]
        def evaluate(self, state: Any) -> Any:
            return np.zeros(2)

        def prior(self, state: Any) -> Any:
            legal = state.legal_actions()
            return [(action, 1 / len(legal)) for action in legal]

    game = pyspiel.load_game(name.replace("go(size=", "go(board_size="))
    bot = mcts.MCTSBot(game, 1.25, SIMULATIONS, Uniform(), child_selection_fn=mcts.SearchNode.puct_value)
    state = game.new_initial_state()
    return repeated(lambda: bot.mcts_search(state), SIMULATIONS)


def _selfplay(settings: BenchSettings) -> list[Row]:
    """Self-play of the shipped Connect Four config. The net stays untrained, so the table has more hits than in a real run."""
    cached, uncached = self_player(settings), self_player(settings, {"agent.cache_positions": 1})
    spent = watch(cached)
    rates = alternate("search/selfplay", {"ours": moves(cached), "no cache": moves(uncached)}, settings)
    tree = 1 - spent["net"] / spent["all"]
    found = cached.diagnostics()["search/cache_hits"]
    say(f"search/selfplay: cache hits {found:.0%}")
    what = "self-play in Connect Four as shipped, untrained net, no learning; against a cache of one position"
    share = "the same: time outside the net, in tree, rules, encoding and records"
    return [
        Row("search/selfplay", what, "moves/s", rates["ours"], rates["no cache"]),
        Row("search/games", "the same: games, from moves and their mean length", "games/h", 3600 * rates["ours"] / _length(cached)),
        Row("search/cache", "the same: positions found in the cache", "share", found),
        Row("search/tree", share, "share", tree, target=Target("ours", "<=", 0.25)),
    ]


def _length(collector: SelfPlay) -> float:
    """The mean number of moves of the games that end next, two for each environment."""
    lengths: list[int] = []
    while len(lengths) < 2 * collector.num_envs:
        lengths += [episode.length for episode in collector.advance(0)[1]]
        collector.take()
    return sum(lengths) / len(lengths)
