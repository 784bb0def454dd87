"""A player as an engine that speaks the Universal Chess Interface."""

import time
from itertools import pairwise
from math import tan

from rlsuite.boardgames.uci_opponent import moves_by_name, uci_names
from rlsuite.core.errors import RlsuiteError
from rlsuite.play.lines import Lines, write
from rlsuite.play.session import Session
from rlsuite.search import Found

_MOVES_LEFT = 30  # that the time on the clock is divided among
_MARGIN = 0.05  # seconds kept in reserve
_STEP = 8  # simulations between two looks at the clock
_MOST = 20_000  # simulations of a search without a limit
_LIMITS = ("movetime", "wtime", "btime", "winc", "binc", "movestogo", "nodes", "depth", "mate")


class Engine:
    """Answers UCI commands about one game at a time."""

    def __init__(self, session: Session, name: str, lines: Lines):
        """UsageError for a game that is not chess."""
        self.name_of = uci_names(session.game)
        self.session, self.name, self.lines = session, name, lines
        self.held: list[str | None] = []  # lines that came during a search
        self.refused = False  # the last position could not be set up

    def run(self) -> None:
        """Answers standard input until `quit` or its end."""
        while (line := self.held.pop(0) if self.held else self.lines.next()) is not None:
            words = line.split()
            if words[:1] == ["quit"] or not self._answer(words):
                return

    def _stopped(self) -> bool:
        """Whether a search should end, by the lines that came during it: `isready` is answered, other lines are held for later."""
        while self.lines.waiting() and not self.held:
            line = self.lines.next()
            word = "quit" if line is None else (line.split() or [""])[0]
            if word == "stop":
                return True
            if word == "isready":
                write("readyok\n")
            else:
                self.held.append(line)
                return word == "quit" and line is not None
        return False

    def _answer(self, words: list[str]) -> bool:
        """Answers a line, or ignores an unknown one, as the protocol demands; False if nobody reads the answers any more."""
        kind = words[0] if words else ""
        try:
            if kind == "uci":
                option = f"option name Simulations type spin default {max(self.session.simulations, 1)} min 1 max {_MOST}"
                return write(f"id name {self.name}\nid author rlsuite\n{option}\nuciok\n")
            if kind == "isready":
                return write("readyok\n")
            if kind == "ucinewgame":
                self.session.clear()
            elif kind == "setoption" and [word.lower() for word in words[1:4]] == ["name", "simulations", "value"]:
                self.session.simulations = min(max(int(words[4]), 1), _MOST)
            elif kind == "position":
                self.refused = True
                self._position(words[1:])
                self.refused = False
            elif kind == "go":
                return write("bestmove 0000\n") if self.refused else self._go(words[1:])
        except (RlsuiteError, ValueError, IndexError) as error:
            return write(f"info string {kind}: {' '.join(str(error).split())}\n")
        return True

    def _position(self, words: list[str]) -> None:
        session = self.session
        if words[:1] != ["startpos"] and " ".join(words[1:5]) != " ".join(str(session.game.new_state()).split()[:4]):
            raise ValueError("only games from the starting position are supported")
        names = words[words.index("moves") + 1 :] if "moves" in words else []
        session.clear()
        for name in names:
            found = moves_by_name(session.game, session.state.row).get(name)
            if found is None:
                raise ValueError(f"{name} is not a legal move there")
            session.play(found)

    def _go(self, words: list[str]) -> bool:
        session = self.session
        if session.over:
            return write("bestmove (none)\n")
        limits = {key: int(value) for key, value in pairwise(words) if key in _LIMITS and value.isdecimal()}
        deadline = time.monotonic() + seconds if (seconds := self._seconds(limits)) is not None else None
        most = min(limits.get("nodes", _MOST if seconds is not None or "infinite" in words else session.simulations), _MOST)

        if not session.player.can_search:
            action = int(session.player(session.state.row[None], [session.actions], session.rng)[0])
            return write(f"bestmove {self.name_of(session.state.row, action)}\n")
        stopped = False

        def stop() -> bool:
            nonlocal stopped
            stopped = stopped or self._stopped() or (deadline is not None and time.monotonic() >= deadline)
            return stopped

        found = session.think(max(most, 1), stop, _STEP)
        while "infinite" in words and not stopped and not self.held and not self._stopped():
            time.sleep(0.01)  # the protocol waits for `stop`
        return write(f"{self._info(found)}\nbestmove {self.name_of(session.state.row, found.action)}\n")

    def _seconds(self, limits: dict[str, int]) -> float | None:
        """The time for this move; None without a clock."""
        if "movetime" in limits:
            return max(limits["movetime"] / 1000 - _MARGIN, 0.0)
        white = self.session.states[0].player  # who moves first; in OpenSpiel's chess that is player 1
        clock, more = ("wtime", "winc") if self.session.state.player == white else ("btime", "binc")
        if clock not in limits:
            return None
        left = limits[clock] / 1000
        return max(min(left / max(limits.get("movestogo", _MOVES_LEFT), 1) + limits.get(more, 0) / 1000, left - _MARGIN), 0.0)

    def _info(self, found: Found) -> str:
        """The line that reports on a search."""
        state, names = self.session.state, list[str]()
        for action in found.variation:
            names.append(self.name_of(state.row, action))
            state = state.apply(action)
        centipawns = round(111.7 * tan(1.5621 * max(-0.999, min(0.999, found.value))))  # Leela Chess Zero's scale
        return f"info depth {len(names)} nodes {int(found.visits.sum())} score cp {centipawns} pv {' '.join(names)}"
