"""Runs a player as an engine over the Universal Chess Interface.

The GUI decides whether a game is drawn: after a repetition or fifty moves, the engine continues from the position as it is. `depth`
is the length of the principal variation, `nodes` the visits of the root; `go depth` and `go mate` also end at `Simulations`.
"""

import re
import time
from math import tan
from typing import NamedTuple

from rlsuite.boardgames.uci_opponent import moves_by_name, uci_names
from rlsuite.core.errors import RlsuiteError
from rlsuite.play.clock import Left, Pace
from rlsuite.play.lines import Lines, write
from rlsuite.play.session import Session

_MARGIN = 0.01  # seconds of a movetime that are reserved for the answer
_MOST = 20_000  # maximum number of simulations of a search without a limit
_EVERY = 0.9  # seconds between two reports
_NUMBERS = ("movetime", "wtime", "btime", "winc", "binc", "movestogo", "nodes", "depth", "mate")
_WAITS = ("infinite", "ponder")  # the search ends when the GUI says so
_POSITION = re.compile(r"[1-8KQRBNPkqrbnp]+(/[1-8KQRBNPkqrbnp]+){7} [wb] (-|[KQkqA-Ha-h]+) (-|[a-h][36])( \d+ \d+)?")


class Limits(NamedTuple):
    """The limits of a search, from the words after `go`."""

    numbers: dict[str, int]
    moves: list[str]  # searchmoves
    waits: bool  # infinite or ponder

    @classmethod
    def of(cls, words: list[str]) -> "Limits":
        """Parses the words after `go`; invalid ones are ignored."""
        numbers, moves, key = dict[str, int](), list[str](), ""
        for word in words:
            if word in (*_NUMBERS, *_WAITS, "searchmoves"):
                key = word
            elif key == "searchmoves":
                moves.append(word)
            elif key in _NUMBERS and re.fullmatch(r"-?[0-9]{1,12}", word):
                numbers[key] = int(word)
        return cls(numbers, moves, any(word in _WAITS for word in words))

    def seconds(self, white: bool) -> float | None:
        """The time for the move; None without a clock."""
        if "movetime" in self.numbers:
            return max(self.numbers["movetime"] / 1000 - _MARGIN, 0.0)
        clock, more = ("wtime", "winc") if white else ("btime", "binc")
        if clock not in self.numbers:
            return None
        left, increment = self.numbers[clock] / 1000, self.numbers.get(more, 0) / 1000
        return Left(left, max(self.numbers.get("movestogo", 0), 0), increment).for_move()


class Engine:
    """Answers UCI commands about one game at a time."""

    def __init__(self, session: Session, name: str, lines: Lines):
        """UsageError for a game that is not chess."""
        self.name_of = uci_names(session.game)
        self.session, self.name, self.lines = session, name, lines
        self.held: list[str | None] = []  # lines that arrived during a search and are still to be answered
        self.start, self.moves = "", list[str]()  # the position on the session's board: a FEN or "", and the moves from there
        self.refused = False  # whether the last position could not be set up
        self.waits = False  # whether the current search must not end by itself

    def run(self) -> None:
        """Answers commands on standard input until `quit` or its end."""
        while (line := self.held.pop(0) if self.held else self.lines.next()) is not None:
            words = line.split()
            if words[:1] == ["quit"] or not self._answer(words):
                return

    def _say(self, text: str) -> bool:
        return write(f"{text}\n")

    def _answer(self, words: list[str]) -> bool:
        """Answers a line, or ignores an unknown one, as the protocol requires; False if nobody reads the answers any more."""
        kind = words[0] if words else ""
        try:
            if kind == "uci":
                option = f"option name Simulations type spin default {max(self.session.simulations, 1)} min 1 max {_MOST}"
                ponder = "option name Ponder type check default false"
                heard = self._say(f"id name {self.name}\nid author rlsuite\n{option}\n{ponder}\nuciok")
                self.session.ready()  # already now: some GUIs wait only seconds for `readyok`
                return heard
            if kind == "isready":
                self.session.ready()
                return self._say("readyok")
            if kind == "ucinewgame":
                self._set_up("", [])
            elif kind == "setoption":
                return self._set_option(" ".join(words[1:]))
            elif kind == "position":
                self.refused = True
                self._position(words[1:])
                self.refused = False
            elif kind == "go":
                return self._say("bestmove (none)") if self.refused else self._go(words[1:])
        except (RlsuiteError, ValueError, IndexError, RuntimeError) as error:  # RuntimeError: OpenSpiel, on impossible positions
            told = self._say(f"info string {kind}: {' '.join(str(error).split())}")
            return self._say("bestmove (none)") if kind == "go" else told  # otherwise the GUI would wait forever
        return True

    def _set_option(self, text: str) -> bool:
        found = re.fullmatch(r"name\s+(.+?)(\s+value(\s+(.*))?)?", text, re.IGNORECASE)
        name, value = (found[1], found[4] or "") if found else (text, "")
        if name.lower() == "simulations":
            if not re.fullmatch(r"[0-9]{1,9}", value):
                raise ValueError(f"Simulations = {value!r}; allowed are 1 to {_MOST}")
            self.session.simulations = min(max(int(value), 1), _MOST)
        elif name.lower() != "ponder":  # the GUI's own affair
            return self._say(f"No such option: {name}")
        return True

    def _position(self, words: list[str]) -> None:
        """Sets up `startpos` or a FEN, and makes the moves. ValueError for any other position, and for an illegal move."""
        at = words.index("moves") if "moves" in words else len(words)
        what, names, start = words[:at], words[at + 1 :], ""
        if what[:1] == ["fen"]:
            start = " ".join(what[1:])
            pieces = what[1] if len(what) > 1 else ""
            if not _POSITION.fullmatch(start) or pieces.count("K") != 1 or pieces.count("k") != 1:
                raise ValueError(f"{start!r} is not a position of chess in FEN")
            start += " 0 1" if len(what) == 5 else ""
        elif what != ["startpos"]:
            raise ValueError(f"{' '.join(what)!r}; known are startpos and fen")
        self._set_up(start, names)

    def _set_up(self, start: str, names: list[str]) -> None:
        """Makes the moves that are not on the board yet, from the beginning if the board has another game."""
        known = len(self.moves)
        if start != self.start or names[:known] != self.moves:
            self.session.clear(self.session.game.parse_state(f"start: {start}\nmoves:") if start else None)
            self.start, self.moves, known = start, [], 0
        for name in names[known:]:
            self._go_on()
            found = moves_by_name(self.session.game, self.session.state.row).get(name)
            if found is None:
                raise ValueError(f"{name} is not a legal move there")
            self.session.play(found)
            self.moves.append(name)

    def _go_on(self) -> None:
        """If the rules end the game here, drops the position's history, so that it continues unless it is mate or the like."""
        session = self.session
        if session.state.is_terminal():
            words = str(session.state).split("\n")[0].split()
            session.clear(session.game.parse_state(f"start: {' '.join([*words[:4], '0', words[5]])}\nmoves:"))

    def _go(self, words: list[str]) -> bool:
        session, limits = self.session, Limits.of(words)
        session.ready()
        begin, numbers = time.monotonic(), limits.numbers
        self._go_on()
        if session.over:
            return self._say("bestmove (none)")
        white = session.game.new_state().player  # who moves first; in OpenSpiel's chess that is player 1
        seconds, self.waits = limits.seconds(session.state.player == white), limits.waits
        legal = moves_by_name(session.game, session.state.row)
        only = [legal[name] for name in limits.moves if name in legal]
        if limits.moves and not only:
            self._say("info string go: none of the searchmoves is legal, so all moves are searched")
        timed = seconds is not None or limits.waits
        pace = Pace(begin + seconds if seconds is not None and not limits.waits else None, timed)
        most = min(max(numbers["nodes"], 1) if "nodes" in numbers else _MOST if timed else session.simulations, _MOST)
        reported, best = begin, None

        def look() -> bool:
            nonlocal reported
            if time.monotonic() - reported >= _EVERY:
                reported = time.monotonic()
                if not self._say(self._info(begin)[0]):
                    return True
            return self._told(pace, seconds) or (not self.waits and self._reached(numbers))

        if session.player.can_search and most:
            found = session.think(most, pace, look, only)
            while self.waits and not look():
                time.sleep(0.01)  # the protocol waits for `stop` or `ponderhit`
            text, line = self._info(begin)
            best = line[0] if line else found.action
            self._say(text)
        else:
            best = session.choose()
            best, line = only[0] if only and best not in only else best, []
            while self.waits and not self._told(pace, seconds):
                time.sleep(0.01)
        ponder = f" ponder {self.name_of(session.state.apply(best).row, line[1])}" if len(line) > 1 else ""
        return self._say(f"bestmove {self.name_of(session.state.row, best)}{ponder}")

    def _told(self, pace: Pace, seconds: float | None) -> bool:
        """Handles the lines that arrived during the search; returns whether it should end.

        `isready`, `setoption` and `ponderhit` are handled at once; other commands are held until the search is over, and they end a
        search that would not end by itself.
        """
        while self.lines.waiting() and not self.held:
            line = self.lines.next()
            words = ["quit"] if line is None else line.split()
            word = words[0] if words else ""
            if word == "stop":
                self.waits = False
                return True
            if word == "ponderhit":
                self.waits = False
                pace.deadline = time.monotonic() + seconds if seconds is not None else None
            elif word in ("isready", "setoption"):
                self._answer(words)
            elif word in ("position", "go", "ucinewgame", "uci", "quit"):
                self.held.append(line)
                if line is not None and word == "quit":
                    return True
        return self.waits and bool(self.held)

    def _reached(self, numbers: dict[str, int]) -> bool:
        """Whether the search has reached the depth of `go depth`, or found the mate of `go mate`."""
        if "depth" not in numbers and "mate" not in numbers:
            return False
        line, mates = self._line()
        plies = 2 * numbers.get("mate", 0) - 1
        return len(line) >= numbers.get("depth", _MOST) or (mates > 0 and len(line) <= plies)

    def _line(self) -> tuple[list[int], int]:
        """The principal variation, and 1 if it is proven to mate, -1 if it is proven to be mated, otherwise 0."""
        session, searcher = self.session, self.session.searcher
        assert searcher is not None
        if forced := searcher.forced():
            return forced, 1 if len(forced) % 2 else -1
        found = searcher.found()
        mover, line = session.state.player, found.variation or [found.action]
        after = session.state.apply(line[0])
        return line, int(len(line) == 1 and after.is_terminal() and after.returns()[mover] > 0)

    def _info(self, begin: float) -> tuple[str, list[int]]:
        """The `info` line about a search that began at `begin`, and the principal variation."""
        state, names, searcher = self.session.state, list[str](), self.session.searcher
        assert searcher is not None
        (line, mates), value = self._line(), searcher.found().value
        for action in line:
            names.append(self.name_of(state.row, action))
            state = state.apply(action)
        score = f"cp {round(111.7 * tan(1.5621 * max(-0.999, min(0.999, value))))}"  # Leela Chess Zero's scale
        if mates:
            score = f"mate {mates * ((len(line) + 1) // 2)}"
        seconds = time.monotonic() - begin
        speed = f"nodes {searcher.done} nps {round(searcher.made / max(seconds, 1e-3))} time {round(1000 * seconds)}"
        return f"info depth {len(names)} score {score} {speed} pv {' '.join(names)}", line
