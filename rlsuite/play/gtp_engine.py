"""A player as an engine that speaks the Go Text Protocol, version 2 (Farnebäck 2002), for Go and every other board game.

Besides the standard's commands it knows `lz-analyze`, `lz-genmove_analyze` and `kata-analyze`, which Sabaki, Lizzie and others use.
A move out of turn implies a pass of the other side, if that side may pass.
"""

import re
import time
from collections.abc import Callable

from rlsuite.boardgames.gtp_opponent import COLOURS, RESIGNS, has_go_points, vertex
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.game import BoardState
from rlsuite.play.gtp_analysis import MOST, Form, katago, leela_zero, stream
from rlsuite.play.gtp_clock import Clock
from rlsuite.play.lines import Lines, write
from rlsuite.play.players import BoardPlayer
from rlsuite.play.session import Session

_PLAYERS = {"b": 0, "black": 0, "w": 1, "white": 1}


class Refused(Exception):
    """A command that is answered with `?` and this message."""


class Engine:
    """Answers GTP commands about one game at a time."""

    def __init__(self, session: Session, name: str, version: str, lines: Lines | None = None, resign_below: float | None = None):
        """`resign_below`: it resigns where it expects less than this, in [-1, 1]; None: never."""
        self.session, self.name, self.version, self.lines = session, name, version, lines
        self.resign_below = resign_below
        self.clock = Clock()
        self.marks: list[int] = []  # the number of moves before every `play` and `genmove`, for `undo`
        self.quitting = False
        self.number = ""  # of the command that is being answered
        self.streamed = False  # the answer to it has begun
        self.commands: dict[str, Callable[[list[str]], str]] = {
            "protocol_version": lambda _: "2",
            "name": lambda _: self.name,
            "version": lambda _: self.version,
            "known_command": lambda words: str(_word(words, 0) in self.commands).lower(),
            "list_commands": lambda _: "\n".join(self.commands),
            "quit": self._quit,
            "boardsize": self._boardsize,
            "clear_board": self._clear_board,
            "komi": self._komi,
            "play": self._play,
            "genmove": lambda words: self._genmove(_colour(words)),
            "reg_genmove": self._reg_genmove,
            "undo": self._undo,
            "showboard": self._showboard,
            "all_legal": self._all_legal,
            "move_history": self._move_history,
            "time_settings": self._time_settings,
            "time_left": self._time_left,
            "final_score": self._final_score,
            "final_status_list": self._final_status_list,
            "lz-analyze": lambda words: self._analyze(words, leela_zero),
            "kata-analyze": lambda words: self._analyze(words, katago),
            "lz-genmove_analyze": self._genmove_analyze,
        }

    def run(self) -> None:
        """Answers standard input until `quit` or its end."""
        assert self.lines is not None
        while not self.quitting and (line := self.lines.next()) is not None:
            if (answer := self.respond(line)) is not None and not write(answer):
                return

    def respond(self, line: str) -> str | None:
        """The answer to a line, with the empty line that ends it; None for a line without a command."""
        line = "".join(char for char in line.replace("\t", " ") if char == " " or char.isprintable()).split("#")[0]
        words = line.split()
        if not words:
            return None
        number = self.number = words.pop(0) if re.fullmatch(r"[0-9]{1,18}", words[0]) else ""
        self.streamed = False
        if not words:
            return f"?{number} syntax error\n\n"
        command = self.commands.get(words[0])
        if command is None:
            return f"?{number} unknown command\n\n"
        try:
            answer = command(words[1:])
        except Refused as refusal:
            return f"?{number} {refusal}\n\n"
        except RlsuiteError as error:
            return f"?{number} {' '.join(str(error).split())}\n\n"
        if self.streamed:
            return f"{answer}\n\n" if answer else "\n"
        return f"={number} {answer}".rstrip() + "\n\n"

    def _quit(self, words: list[str]) -> str:
        self.quitting = True
        return ""

    def _boardsize(self, words: list[str]) -> str:
        size, session = _integer(words, 0), self.session
        if size != session.game.observation_shape[1]:
            if size < 2:
                raise Refused("unacceptable size")
            try:
                game = session.game.with_parameters(size=size)
                player = BoardPlayer(session.player.name, game)
            except UsageError as error:
                raise Refused("unacceptable size") from error
            session.player.close()
            self.session = Session(game, player, session.simulations or None, session.seed)
            self.clock.rate = None
        return self._clear_board(words)

    def _clear_board(self, words: list[str]) -> str:
        self.session.clear()
        self.clock.reset()
        self.marks = []
        return ""

    def _komi(self, words: list[str]) -> str:
        komi, session = _float(words, 0), self.session
        if "komi" in session.game.parameters:
            try:
                session.change_game(session.game.with_parameters(komi=komi))
            except UsageError as error:
                raise Refused("unacceptable komi") from error
        return ""  # in other games it means nothing

    def _passes_before(self, player: int) -> list[int]:
        """The passes that make it `player`'s turn: none or one."""
        state = self.session.state
        if state.player == player:
            return []
        passes = [action for action in state.legal_actions() if self._is_pass(action)]
        if not passes or state.apply(passes[0]).is_terminal():
            raise Refused("illegal move")
        return passes

    def _is_pass(self, action: int) -> bool:
        return self.session.game.action_text(action) == "pass"

    def _play(self, words: list[str]) -> str:
        player, text = _colour(words), _word(words, 1).lower()
        session, game, mark = self.session, self.session.game, len(self.session.actions)
        known = {vertex(game, action): action for action in range(game.num_actions)}
        if text not in known:
            if text == "resign":
                session.resigned = player
                self.marks.append(mark)
                return ""
            raise Refused("illegal move" if text == "pass" or re.fullmatch(r"[a-z][0-9]{1,2}", text) else "syntax error")
        if session.over:
            raise Refused("illegal move")
        before = self._passes_before(player)
        state: BoardState = session.state.apply(before[0]) if before else session.state
        if known[text] not in state.legal_actions():
            raise Refused("illegal move")
        for action in [*before, known[text]]:
            session.play(action)
        self.marks.append(mark)
        return ""

    def _simulations(self, player: int) -> int | None:
        """As many as there is time for; None: the session's number."""
        return self.clock.simulations(player, self.session.simulations) if self.session.player.can_search else None

    def _genmove(self, player: int, simulations: int | None = None) -> str:
        """Plays the player's move with `simulations`, or with as many as there is time for."""
        session, mark = self.session, len(self.session.actions)
        if session.over:
            if session.resigned is None and any(self._is_pass(action) for action in range(session.game.num_actions)):
                self.marks.append(mark)  # so that `undo` takes back this pass, which changes nothing
                return "pass"
            raise Refused("the game is over")
        for action in self._passes_before(player):
            session.play(action)
        begin, known = time.monotonic(), 0 if session.searcher is None else session.searcher.done
        action = session.answer(simulations or self._simulations(player))
        self.marks.append(mark)
        self.clock.spend(player, time.monotonic() - begin, 0 if session.searcher is None else session.searcher.done - known)
        value = session.values[-2] if action != RESIGNS and len(session.values) > 1 else None
        if value is not None and self.resign_below is not None and (value if player == 0 else -value) < self.resign_below:
            session.undo()
            session.resigned = player
            return "resign"
        return "resign" if action == RESIGNS else "pass" if self._is_pass(action) else vertex(session.game, action).upper()

    def _reg_genmove(self, words: list[str]) -> str:
        player, before = _colour(words), len(self.marks)
        answer = self._genmove(player)
        if len(self.marks) > before:
            self._undo([])
        return answer

    def _undo(self, words: list[str]) -> str:
        if not self.marks:
            raise Refused("cannot undo")
        mark = self.marks.pop()
        if self.session.resigned is not None:
            self.session.undo()
        while len(self.session.actions) > mark:
            self.session.undo()
        return ""

    def _showboard(self, words: list[str]) -> str:
        game, text = self.session.game, str(self.session.state).strip().splitlines()
        if has_go_points(game):
            size = game.observation_shape[1]
            letters = "   " + " ".join(vertex(game, column)[0].upper() for column in range(size))
            text = [letters, *(f"{size - at:>2} {' '.join(line)}" for at, line in enumerate(text[:size])), letters, *text[size:]]
        return "\n" + "\n".join(line for line in text if line.strip())

    def _all_legal(self, words: list[str]) -> str:
        player, state = _colour(words), self.session.state
        if self.session.over or state.player != player:
            return ""
        return " ".join(vertex(state.game, action).upper() for action in state.legal_actions())

    def _move_history(self, words: list[str]) -> str:
        """The newest move first, as in GNU Go."""
        session = self.session
        lines = [
            f"{COLOURS[state.player]} {vertex(session.game, action).upper()}"
            for state, action in zip(session.states, session.actions, strict=False)
        ]
        return "\n".join(reversed(lines))

    def _time_settings(self, words: list[str]) -> str:
        main, extra, stones = _float(words, 0), _float(words, 1), _integer(words, 2)
        if min(main, extra, stones) < 0:
            raise Refused("syntax error")
        self.clock.set(main, extra, stones)
        return ""

    def _time_left(self, words: list[str]) -> str:
        player, seconds, stones = _colour(words), _float(words, 1), _integer(words, 2)
        if stones < 0:
            raise Refused("syntax error")
        self.clock.set_left(player, seconds, stones)
        return ""

    def _final_score(self, words: list[str]) -> str:
        session = self.session
        if session.resigned is not None:
            return f"{'WB'[session.resigned]}+R"
        if session.game.presentation.lead is not None:
            lead = session.game.presentation.lead(session.state.row)
            return "0" if lead == 0 else f"{'B' if lead > 0 else 'W'}+{abs(lead):g}"
        points = session.points
        if points is None:
            raise Refused("cannot score")
        return "0" if points == 0.5 else "B+" if points > 0.5 else "W+"

    def _final_status_list(self, words: list[str]) -> str:
        """In games decided by area, all stones are alive: dead ones have to be captured."""
        status, game = _word(words, 0).lower(), self.session.game
        if status not in ("alive", "dead", "seki"):
            raise Refused("syntax error")
        if status != "alive" or game.presentation.lead is None:
            return ""
        cells = "".join(str(self.session.state).splitlines()[: game.observation_shape[1]])
        return "\n".join(vertex(game, point).upper() for point, stone in enumerate(cells) if stone != ".")

    def _analyze(self, words: list[str], form: Form) -> str:
        """Reports what the player thinks until the next line comes."""
        seconds = _interval(words)
        if self.session.over:
            raise Refused("the game is over")
        self._stream(seconds, form, lambda: self.lines is None or self.lines.waiting(), wait=True)
        return ""

    def _genmove_analyze(self, words: list[str]) -> str:
        """Analyses with one half of the simulations and searches its move with the other."""
        player = _colour(words) if words and words[0].lower() in _PLAYERS else self.session.state.player
        seconds = _interval(words)
        if self.session.over:
            raise Refused("the game is over")
        for action in self._passes_before(player):
            self.session.play(action)
        half = max((self._simulations(player) or self.session.simulations or 100) // 2, 1)
        self._stream(seconds, leela_zero, lambda: False, wait=False, most=half)
        return f"play {self._genmove(player, half)}"

    def _stream(self, seconds: float, form: Form, stop: Callable[[], bool], wait: bool, most: int = MOST) -> None:
        """The part of an answer that is written while the search runs. UsageError before it for a player that does not search."""
        self.session.player.evaluator(self.session.game)
        self.streamed = write(f"={self.number}\n")
        if self.streamed:
            stream(self.session, form, seconds, stop, wait, most)


def _word(words: list[str], at: int) -> str:
    if at >= len(words):
        raise Refused("syntax error")
    return words[at]


def _colour(words: list[str]) -> int:
    found = _PLAYERS.get(_word(words, 0).lower())
    if found is None:
        raise Refused("syntax error")
    return found


def _integer(words: list[str], at: int) -> int:
    text = _word(words, at)
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise Refused("syntax error")
    return int(text)


def _float(words: list[str], at: int) -> float:
    try:
        found = float(_word(words, at))
    except ValueError as error:
        raise Refused("syntax error") from error
    if not abs(found) < 1e9:
        raise Refused("syntax error")
    return found


def _interval(words: list[str]) -> float:
    """Seconds between two reports, from hundredths. A colour in front of them changes nothing: the board knows whose turn it is."""
    rest = words[1:] if words and words[0].lower() in _PLAYERS else words
    rest = rest[1:] if rest and rest[0] == "interval" else rest
    return _integer(rest, 0) / 100 if rest else 0.5
