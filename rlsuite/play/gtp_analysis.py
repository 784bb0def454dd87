"""Analysis in the GTP engine: reports on a running search, as Leela Zero and KataGo write them."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rlsuite.boardgames.gtp_opponent import vertex
from rlsuite.core.game import Game
from rlsuite.play.lines import write
from rlsuite.play.session import Session
from rlsuite.search import Found, Puct, Searcher

MOST = 20_000  # simulations of an analysis
_LONGEST = 10  # moves of a variation, after the first

Form = Callable[[str, int, float, float, int, str], str]  # move, visits, share of wins, prior, rank, variation -> words


def leela_zero(move: str, visits: int, wins: float, prior: float, rank: int, variation: str) -> str:
    """The words of `lz-analyze` about a move; shares are in ten thousandths."""
    rate, chance = round(10_000 * wins), round(10_000 * prior)
    return f"info move {move} visits {visits} winrate {rate} prior {chance} lcb {rate} order {rank} pv {variation}"


def katago(move: str, visits: int, wins: float, prior: float, rank: int, variation: str) -> str:
    """The words of `kata-analyze` about a move."""
    return (
        f"info move {move} visits {visits} utility {2 * wins - 1:.4f} winrate {wins:.4f} scoreMean 0 scoreStdev 0 scoreLead 0 "
        f"prior {prior:.4f} lcb {wins:.4f} order {rank} pv {variation}"
    )


def stream(session: Session, form: Form, seconds: float, stop: Callable[[], bool], wait: bool, most: int) -> None:
    """Searches the position of a session and writes a report every `seconds`, until `stop` or `most` simulations.

    `wait`: a search that has finished stays silent until `stop`. Also ends when nobody reads standard output any more.
    """
    searcher = _searcher(session, most)
    budget, reported, ended, heard = 16, time.monotonic(), False, True
    while heard and not ended:
        found = searcher.search(session.state, budget)
        done = searcher.done
        finished = done >= most or found.proven
        ended = finished or stop()
        if time.monotonic() - reported >= seconds or ended:
            heard = write(_report(searcher, session.game, found, form) + "\n")
            reported = time.monotonic()
        while finished and wait and heard and not stop():
            time.sleep(0.02)
        budget = min(max(done, budget) + 64, most)


def _searcher(session: Session, most: int) -> Searcher:
    """Searches as the session's player does, but by PUCT: Gumbel's schedule would have to know where the analysis ends."""
    player = session.player
    evaluate, method = player.evaluator(session.game)
    agent: Any = player if isinstance(method, Puct) else evaluate
    return Searcher(session.game, agent, most, leaves=8, solve=player.solve, seed=session.seed)


def _report(searcher: Searcher, game: Game, found: Found, form: Form) -> str:
    """The moves of the root, the most visited first; without visits only the best by prior."""
    tree = searcher.tree
    root = tree.edge[0, : tree.node[0, 0]["fanout"]]
    order = np.lexsort((-root["prior"], -root["visits"]))
    words = []
    for rank, edge in enumerate(root[order]):
        if rank and not edge["visits"]:
            break
        visits = int(edge["visits"])
        value = float(edge["total"]) / visits if visits else found.value
        moves = [int(edge["action"]), *_following(searcher, int(edge["child"]))]
        names = [vertex(game, action).upper() for action in moves]
        words.append(form(names[0], visits, (1 + value) / 2, float(edge["prior"]), rank, " ".join(names)))
    return " ".join(words)


def _following(searcher: Searcher, node: int) -> list[int]:
    """The most visited moves from a node on."""
    tree, moves = searcher.tree, list[int]()
    while node >= 0 and len(moves) < _LONGEST:
        record: Any = tree.node[0, node]
        if not record["fanout"]:
            break
        edges = tree.edge[0, record["first"] : record["first"] + record["fanout"]]
        best = edges[edges["visits"].argmax()]
        if best["visits"] == 0:
            break
        moves.append(int(best["action"]))
        node = int(best["child"])
    return moves
