"""Runs a player as an engine over the Go Text Protocol, version 2 (Farnebäck 2002), for Go and every other board game.

Besides the standard commands, it has `lz-analyze`, `lz-genmove_analyze`, `kata-analyze` and `kata-genmove_analyze`, which Sabaki
and others use. If the game's rules allow it (`set_player` and `resume`), either colour may move at any time, even after passes have
ended the game; a pass out of turn then changes nothing.
"""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlsuite.boardgames import game_records
from rlsuite.boardgames.gtp_opponent import COLOURS, RESIGNS
from rlsuite.boardgames.record import placed
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.game import Game
from rlsuite.play import gtp_handicap, terminal
from rlsuite.play.clock import Clock, Pace
from rlsuite.play.gtp_analysis import Form, Reports, analyse, katago, leela_zero, vertex
from rlsuite.play.gtp_words import Refused, Wish, colour, integer, number, word
from rlsuite.play.lines import Lines, write
from rlsuite.play.players import BoardPlayer
from rlsuite.play.session import Session


class Engine:
    """Answers GTP commands about one game at a time."""

    def __init__(self, session: Session, name: str, version: str, lines: Lines | None = None, resign_below: float | None = None):
        """`resign_below`: it resigns if its value for the position is below this, in [-1, 1]; None: never."""
        self.session, self.name, self.version, self.lines = session, name, version, lines
        self.resign_below = resign_below
        self.clock = Clock()
        self.marks: list[Any] = []  # copies of the game before every `play` and `genmove`, for `undo`
        self.quitting = False
        self.number = ""  # number of the command that is being answered
        self.streamed = False  # whether its answer has already begun
        self.commands: dict[str, Callable[[list[str]], str]] = {
            "protocol_version": lambda _: "2",
            "name": lambda _: self.name,
            "version": lambda _: self.version,
            "known_command": lambda words: str(word(words, 0) in self.commands).lower(),
            "list_commands": lambda _: "\n".join(self.commands),
            "quit": self._quit,
            "boardsize": self._boardsize,
            "clear_board": self._clear_board,
            "komi": self._komi,
            "get_komi": lambda _: f"{self.session.game.parameters.get('komi', 0):.12g}",
            "fixed_handicap": self._fixed_handicap,
            "place_free_handicap": self._place_free_handicap,
            "set_free_handicap": self._set_free_handicap,
            "loadsgf": self._loadsgf,
            "play": self._play,
            "genmove": lambda words: self._genmove(colour(words)),
            "reg_genmove": self._reg_genmove,
            "undo": self._undo,
            "showboard": self._showboard,
            "all_legal": self._all_legal,
            "move_history": self._move_history,
            "time_settings": self._time_settings,
            "kgs-time_settings": self._kgs_time_settings,
            "time_left": self._time_left,
            "final_score": self._final_score,
            "final_status_list": self._final_status_list,
            "lz-analyze": lambda words: self._analyze(words, leela_zero),
            "kata-analyze": lambda words: self._analyze(words, katago),
            "lz-genmove_analyze": lambda words: self._genmove_analyze(words, leela_zero),
            "kata-genmove_analyze": lambda words: self._genmove_analyze(words, katago),
        }

    def run(self) -> None:
        """Answers commands on standard input until `quit` or its end."""
        assert self.lines is not None
        while not self.quitting and (line := self.lines.next()) is not None:
            if (answer := self.respond(line)) is not None and not write(answer):
                return

    def respond(self, line: str) -> str | None:
        """The answer to a line, including the empty line that ends it; None for a line without a command."""
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
        size = integer(words, 0)
        if size != self.session.game.observation_shape[1]:
            if size < 2:
                raise Refused("unacceptable size")
            try:
                self._change_board(self.session.game.with_parameters(size=size))
            except UsageError as error:
                raise Refused("unacceptable size") from error
        return self._clear_board(words)

    def _change_board(self, game: Game) -> None:
        """Begins a game on another board size. UsageError if the player does not play it."""
        session = self.session
        player = BoardPlayer(session.player.name, game)
        session.player.close()
        self.session = Session(game, player, session.simulations or None, session.seed)
        self.session.tell = session.tell

    def _clear_board(self, words: list[str]) -> str:
        self.session.clear()
        if self.session.game.usual_start is not None:  # a record was loaded that begins from another position
            self.session.change_game(self.session.game.usual())
        return self._new_game()

    def _new_game(self) -> str:
        self.session.clear()
        self.session.ready()
        self.clock.reset()
        self.marks = []
        return ""

    def _komi(self, words: list[str]) -> str:
        komi, session = number(words, 0), self.session
        if session.game.parameters.get("komi", komi) != komi:
            try:
                session.change_game(session.game.with_parameters(komi=komi))
            except UsageError as error:
                raise Refused("unacceptable komi") from error
        return ""  # in other games it means nothing

    def _fixed_handicap(self, words: list[str]) -> str:
        stones, size = integer(words, 0), self._size_for_handicap()
        if not 2 <= stones <= gtp_handicap.most_fixed(size):
            raise Refused("invalid number of stones")
        return self._place(gtp_handicap.fixed(size, stones))

    def _place_free_handicap(self, words: list[str]) -> str:
        stones, size = integer(words, 0), self._size_for_handicap()
        if not 2 <= stones < size * size:
            raise Refused("invalid number of stones")
        return self._place(gtp_handicap.free(size, stones))

    def _set_free_handicap(self, words: list[str]) -> str:
        size, known = self._size_for_handicap(), self._known()
        points = [known.get(word.lower(), size * size) for word in words]
        if not 2 <= len(points) < size * size or len(set(points)) < len(points) or size * size in points:
            raise Refused("bad vertex list")
        self._place([(point % size, size - 1 - point // size) for point in points])
        return ""

    def _size_for_handicap(self) -> int:
        """The size of an empty board of Go."""
        if "komi" not in self.session.game.parameters:
            raise Refused("handicap is for Go")
        if self.session.actions or set(placed(self.session.state)) != {"."}:
            raise Refused("board not empty")
        return self.session.game.observation_shape[1]

    def _place(self, points: list[gtp_handicap.Point]) -> str:
        session, size = self.session, self.session.game.observation_shape[1]
        actions = [(size - 1 - row) * size + column for column, row in points]
        before = session.copy()
        try:
            for action in actions:
                session.turn(0)
                session.play(action)
        except UsageError:
            session.restore(before)
            raise
        return " ".join(vertex(session.game, action) for action in actions)

    def _loadsgf(self, words: list[str]) -> str:
        """Loads the game of a file, up to the move before the given one."""
        word(words, 0)
        last = max(integer(words, len(words) - 1) - 1, 0) if len(words) > 1 and words[-1].isdecimal() else None
        path = Path(" ".join(words if last is None else words[:-1]))
        try:
            record = game_records.read(path)
            game = record.game.seen_as(self.session.game)
            if game.rules is not self.session.game.rules:
                raise UsageError(f"{path} is a game of {game.name}, not of {self.session.game.name}")
            self._change_board(game)
        except UsageError as error:
            raise Refused(f"cannot load file: {' '.join(str(error).split())}") from error
        self._new_game()
        for action in record.actions[:last]:
            self.marks.append(self.session.copy())
            self.session.play(action)
        return ""

    def _is_pass(self, action: int) -> bool:
        return self.session.game.action_text(action) == "pass"

    def _known(self) -> dict[str, int]:
        """The actions by name."""
        game = self.session.game
        return {game.action_text(action).lower(): action for action in range(game.num_actions)}

    def _turn(self, player: int) -> None:
        """Makes it the player's turn, by the other's pass if nothing else is legal. UsageError if that is not possible."""
        session = self.session
        legal = session.state.legal_actions()
        if session.state.player != player and len(legal) == 1 and self._is_pass(legal[0]):
            session.play(legal[0])
        session.turn(player)

    def _play(self, words: list[str]) -> str:
        player, text = colour(words), word(words, 1).lower()
        session, known, before = self.session, self._known(), self.session.copy()
        if text not in known and text != "resign":
            raise Refused("illegal move" if text == "pass" or re.fullmatch(r"[a-z][0-9]{1,2}", text) else "syntax error")
        try:
            if text == "resign":
                session.resigned = player
            elif text != "pass":
                self._turn(player)
                session.play(known[text])
            elif session.state.player == player and not session.over:
                session.play(known[text])
            else:
                session.turned(player)  # the pass of a player who is not to move, or after two passes, changes nothing
        except UsageError as error:
            session.restore(before)
            raise Refused("illegal move") from error
        self.marks.append(before)
        return ""

    def _genmove(self, player: int, reports: Reports | None = None, only: Sequence[int] = ()) -> str:
        """Makes the player's move within its time. `only`: the actions to consider; (): all."""
        session, before = self.session, self.session.copy()
        if session.over:
            if session.resigned is None and any(self._is_pass(action) for action in range(session.game.num_actions)):
                self.marks.append(before)  # so that `undo` takes back just this pass, which changes nothing
                return "pass"
            raise Refused("the game is over")
        session.ready()
        begin, seconds = time.monotonic(), self.clock.seconds(player)
        try:
            self._turn(player)
            look = None if reports is None else lambda: session.searcher is not None and reports.look(session.searcher)
            action = session.answer(None, None if seconds is None else Pace(begin + seconds), look, only)
        except RlsuiteError:
            session.restore(before)
            raise
        self.marks.append(before)
        self.clock.spend(player, time.monotonic() - begin)
        value = session.values[-2] if action != RESIGNS and len(session.values) > 1 else None
        if value is not None and self.resign_below is not None and (value if player == 0 else -value) < self.resign_below:
            session.restore(before)
            session.resigned = player
            return "resign"
        return "resign" if action == RESIGNS else vertex(session.game, action)

    def _reg_genmove(self, words: list[str]) -> str:
        player, before, marks = colour(words), self.session.copy(), self.marks[:]
        answer = self._genmove(player)
        self.session.restore(before)
        self.marks = marks
        return answer

    def _undo(self, words: list[str]) -> str:
        if not self.marks:
            raise Refused("cannot undo")
        self.session.restore(self.marks.pop())
        return ""

    def _showboard(self, words: list[str]) -> str:
        return "\n" + "\n".join(line for line in terminal.board(self.session).splitlines() if line.strip())

    def _all_legal(self, words: list[str]) -> str:
        player, session = colour(words), self.session
        if session.over:
            return ""
        try:
            state = session.turned(player)
        except UsageError:
            return ""
        return " ".join(vertex(state.game, action) for action in state.legal_actions())

    def _move_history(self, words: list[str]) -> str:
        """The newest move first, as in GNU Go."""
        session = self.session
        lines = [
            f"{COLOURS[state.player]} {vertex(session.game, action)}"
            for state, action in zip(session.states, session.actions, strict=False)
        ]
        return "\n".join(reversed(lines))

    def _time_settings(self, words: list[str]) -> str:
        main, extra, stones = number(words, 0), number(words, 1), integer(words, 2)
        if min(main, extra, stones) < 0:
            raise Refused("syntax error")
        self.clock.set(main, extra, stones)
        self.session.ready()
        return ""

    def _kgs_time_settings(self, words: list[str]) -> str:
        kind, numbers = word(words, 0).lower(), [number(words, at) for at in range(1, len(words))]
        needed = {"none": 0, "absolute": 1, "byoyomi": 3, "canadian": 3}.get(kind)
        if needed is None or len(numbers) < needed or min(numbers, default=0) < 0 or (kind == "canadian" and numbers[2] < 1):
            raise Refused("syntax error")
        if kind == "none":
            self.clock.set(0.0, 1.0, 0)
        elif kind == "absolute":
            self.clock.set(numbers[0], 0.0, 0)
        else:
            self.clock.set(numbers[0], numbers[1], 1 if kind == "byoyomi" else int(numbers[2]), kind == "byoyomi")
        self.session.ready()
        return ""

    def _time_left(self, words: list[str]) -> str:
        player, seconds, stones = colour(words), number(words, 1), integer(words, 2)
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
        """Lists stones by status: in games decided by area, all stones are alive, since dead ones have to be captured."""
        status, game = word(words, 0).lower(), self.session.game
        if status not in ("alive", "dead", "seki"):
            raise Refused("syntax error")
        if status != "alive" or game.presentation.lead is None:
            return ""
        return "\n".join(vertex(game, point) for point, stone in enumerate(placed(self.session.state)) if stone != ".")

    def _analyze(self, words: list[str], form: Form) -> str:
        """Reports the player's analysis of a colour's moves until the next line of input."""
        wish = Wish.of(words, self.session.state.player, self._known())
        state, only = self.session.turned(wish.player), self._allowed(wish)
        reports = self._begin(form, wish)
        stop = lambda: self.lines is None or self.lines.waiting()  # noqa: E731
        if reports.heard:
            analyse(self.session, state, only, reports, stop)
        return ""

    def _allowed(self, wish: Wish) -> list[int]:
        """The moves that an analysis is limited to; none if it is not."""
        legal = self.session.turned(wish.player).legal_actions()  # refuses a colour that cannot be to move
        if not wish.moves:
            return []
        if not (only := [action for action in legal if wish.allows(action)]):
            raise Refused("no move is allowed")
        return only

    def _genmove_analyze(self, words: list[str], form: Form) -> str:
        """Makes a move, and reports while the search for it runs."""
        wish = Wish.of(words, self.session.state.player, self._known())
        if self.session.over:
            raise Refused("the game is over")
        only = self._allowed(wish)
        reports = self._begin(form, wish)
        answer = self._genmove(wish.player, reports, only)
        if self.session.searcher is not None and self.session.simulations:
            reports.write(self.session.searcher)
        return f"play {answer}"

    def _begin(self, form: Form, wish: Wish) -> Reports:
        """Begins an answer that is written while the search runs. UsageError, before that, for a player that does not search."""
        self.session.player.evaluator(self.session.game)
        self.session.ready()
        self.streamed = True
        reports = Reports(form, wish.seconds, wish.most)
        reports.heard = write(f"={self.number}\n")
        return reports
