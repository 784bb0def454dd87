"""Analysis in the GTP engine: reports on a running search, in the formats of Leela Zero and KataGo."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsuite.core.game import BoardState, Game
from rlsuite.play.clock import Pace
from rlsuite.play.lines import write
from rlsuite.play.session import Session
from rlsuite.search import Puct, Searcher
from rlsuite.search.tree import UNKNOWN

_MOST = 20_000  # maximum number of simulations of an analysis
_LONGEST = 10  # maximum number of moves of a variation, after the first

Form = Callable[[str, int, float, float, int, str], str]  # move, visits, share of wins, prior, rank, variation -> words


def leela_zero(move: str, visits: int, wins: float, prior: float, rank: int, variation: str) -> str:
    """A move in the format of `lz-analyze`; shares are in ten thousandths."""
    rate, chance = round(10_000 * wins), round(10_000 * prior)
    return f"info move {move} visits {visits} winrate {rate} prior {chance} lcb {rate} order {rank} pv {variation}"


def katago(move: str, visits: int, wins: float, prior: float, rank: int, variation: str) -> str:
    """A move in the format of `kata-analyze`, without the fields about scores, which our search does not estimate."""
    return (
        f"info move {move} visits {visits} utility {2 * wins - 1:.4f} winrate {wins:.4f} "
        f"prior {prior:.4f} lcb {wins:.4f} order {rank} pv {variation}"
    )


@dataclass
class Reports:
    """Writes reports on a session's search, one every `seconds`."""

    form: Form
    seconds: float
    moves: int = 1000  # maximum number in a report

    def __post_init__(self) -> None:
        self.reported, self.heard = time.monotonic(), True

    def write(self, searcher: Searcher) -> None:
        """Writes a report. Afterwards, `heard` says whether anybody still reads standard output."""
        self.reported, self.heard = time.monotonic(), write(self._text(searcher) + "\n")

    def look(self, searcher: Searcher) -> bool:
        """Writes a report if one is due; returns True if nobody reads standard output any more."""
        if time.monotonic() - self.reported >= self.seconds:
            self.write(searcher)
        return not self.heard

    def _text(self, searcher: Searcher) -> str:
        """The report: first the move that the search would play, then the most visited moves, with proven losses last.

        If there are no visits, it has only the best move by prior.
        """
        tree, game, found = searcher.tree, searcher.game, searcher.found()
        root = tree.edge[0, : tree.node[0, 0]["fanout"]]
        visits, best = root["visits"], root["action"] == found.action
        order = np.lexsort((-root["prior"], -visits, root["known"] == -1, visits == 0, ~best))
        words = []
        for rank, edge in enumerate(root[order][: self.moves]):
            if rank and not edge["visits"]:
                break
            value = float(edge["total"]) / edge["visits"] if edge["visits"] else found.value
            if edge["known"] != UNKNOWN:
                value = float(edge["known"])
            moves = [int(edge["action"]), *_following(searcher, int(edge["child"]))]
            names = [vertex(game, action) for action in moves]
            words.append(self.form(names[0], int(edge["visits"]), (1 + value) / 2, float(edge["prior"]), rank, " ".join(names)))
        return " ".join(words)


def vertex(game: Game, action: int) -> str:
    """An action as GTP engines write it: `D4`, `pass`."""
    text = game.action_text(action)
    return text if text == "pass" else text.upper()


def analyse(session: Session, state: BoardState, only: Sequence[int], reports: Reports, stop: Callable[[], bool]) -> None:
    """Searches a position and reports until `stop`. `only`: the actions to consider; empty: all.

    A search that ends earlier stays silent until `stop`. It uses the evaluator and settings of the session's player, but always
    PUCT: Gumbel's schedule would have to know when the analysis ends.
    """
    player = session.player
    evaluate, method = player.evaluator(session.game)
    agent: Any = player if isinstance(method, Puct) else evaluate
    searcher, pace = Searcher(session.game, agent, _MOST, leaves=8, solve=player.solve, seed=session.seed), Pace()
    searcher.begin(state, only=only)
    while searcher.step(pace.chunk) and not reports.look(searcher) and not stop():
        pace.over(searcher.made)
    if reports.heard:
        reports.write(searcher)
    while reports.heard and not stop():
        time.sleep(0.02)


def _following(searcher: Searcher, node: int) -> list[int]:
    """The line of most visited moves from a node on."""
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
