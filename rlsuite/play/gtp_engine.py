"""A player as a program that speaks the Go Text Protocol, version 2 (Farnebäck 2002), for Go, Hex, Othello and any other board.

Beside the standard's commands: `lz-analyze`, `lz-genmove_analyze` and `kata-analyze`, which Sabaki, Lizzie and others understand.
Where it is the other side's turn and that side may pass, a move out of turn takes the pass for made.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.gtp_opponent import RESIGNS, vertex
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.game import BoardState
from rlsuite.envs.boards.go import area
from rlsuite.play.lines import Lines, write
from rlsuite.play.players import BoardPlayer
from rlsuite.play.session import Session
from rlsuite.search import Cached, Found, Puct, Searcher

_PLAYERS = {"b": 0, "black": 0, "w": 1, "white": 1}
_ANALYSIS = 20_000  # simulations at most of an analysis
_MOVES_LEFT = 20  # that main time is divided among
_USED = 0.8  # of the time that a move has


class Refused(Exception):
    """Answered with `?`."""


class Engine:
    def __init__(self, session: Session, name: str, version: str, lines: Lines | None = None, resign_below: float | None = None):
        """`resign_below`: gives up where it thinks the position is worth less, in [-1, 1]."""
        self.session, self.name, self.version, self.lines = session, name, version, lines
        self.resign_below = resign_below
        self.marks: list[int] = []  # how many moves there were before every `play` and `genmove`
        self.main = self.extra = 0.0  # seconds, of time_settings
        self.extra_stones = 0
        self.timed = False
        self.left: dict[int, tuple[float, int]] = {}  # player -> seconds, stones (0: main time), of time_left
        self.rate: float | None = None  # simulations a second, as measured
        self.quitting = False
        self.number = ""  # of the command that is being answered
        self.streamed = False  # its answer has begun already
        self.commands: dict[str, Callable[[list[str]], str]] = {
            "protocol_version": lambda _: "2",
            "name": lambda _: self.name,
            "version": lambda _: self.version,
            "known_command": lambda words: str(self._word(words, 0) in self.commands).lower(),
            "list_commands": lambda _: "\n".join(self.commands),
            "quit": self._quit,
            "boardsize": self._boardsize,
            "clear_board": self._clear_board,
            "komi": self._komi,
            "play": self._play,
            "genmove": lambda words: self._think_and_play(self._colour(words)),
            "reg_genmove": self._reg_genmove,
            "undo": self._undo,
            "showboard": self._showboard,
            "all_legal": self._all_legal,
            "move_history": self._move_history,
            "time_settings": self._time_settings,
            "time_left": self._time_left,
            "final_score": self._final_score,
            "final_status_list": self._final_status_list,
            "lz-analyze": lambda words: self._analyze(words, _leela_zero),
            "kata-analyze": lambda words: self._analyze(words, _katago),
            "lz-genmove_analyze": self._genmove_analyze,
        }

    def run(self) -> None:
        """Answers what comes on standard input until `quit` or its end."""
        assert self.lines is not None
        while not self.quitting and (line := self.lines.next()) is not None:
            if (answer := self.respond(line)) is not None and not write(answer):
                return

    def respond(self, line: str) -> str | None:
        """The answer to a line, with its empty line behind it; None for a line that says nothing."""
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

    def _word(self, words: list[str], at: int) -> str:
        if at >= len(words):
            raise Refused("syntax error")
        return words[at]

    def _colour(self, words: list[str]) -> int:
        found = _PLAYERS.get(self._word(words, 0).lower())
        if found is None:
            raise Refused("syntax error")
        return found

    def _integer(self, words: list[str], at: int) -> int:
        text = self._word(words, at)
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise Refused("syntax error")
        return int(text)

    def _float(self, words: list[str], at: int) -> float:
        try:
            found = float(self._word(words, at))
        except ValueError as error:
            raise Refused("syntax error") from error
        if not abs(found) < 1e9:
            raise Refused("syntax error")
        return found

    def _quit(self, words: list[str]) -> str:
        self.quitting = True
        return ""

    def _boardsize(self, words: list[str]) -> str:
        size, game = self._integer(words, 0), self.session.game
        if size == game.observation_shape[1]:
            self._new()
            return ""
        if "size" not in game.parameters or size < 2:
            raise Refused("unacceptable size")
        try:
            other = make_game(game.name.split("(")[0], **{**game.parameters, "size": size})
            player = BoardPlayer(self.session.player.name, other)
        except UsageError as error:
            raise Refused("unacceptable size") from error
        self.session.player.close()
        self.session = Session(other, player, self.session.simulations or None, self.session.seed)
        self.rate = None
        self._new()
        return ""

    def _clear_board(self, words: list[str]) -> str:
        self._new()
        return ""

    def _new(self) -> None:
        self.session.clear()
        self.marks, self.left = [], {}

    def _komi(self, words: list[str]) -> str:
        komi, game = self._float(words, 0), self.session.game
        if "komi" not in game.parameters:
            return ""  # of no meaning here
        try:
            other = make_game(game.name.split("(")[0], **{**game.parameters, "komi": komi})
        except UsageError as error:
            raise Refused("unacceptable komi") from error
        session, actions = self.session, self.session.actions
        session.game = session.player.game = other
        session.searcher = None
        if session.player.evaluation is not None and isinstance(evaluate := session.player.evaluation[0], Cached):
            evaluate.clear()  # rollouts know the komi
        session.clear()
        for action in actions:
            session.play(action)
        return ""

    def _to_move(self, player: int) -> list[int]:
        """The passes that make it `player`'s turn: none or one."""
        state = self.session.state
        if state.player == player:
            return []
        passes = [action for action in state.legal_actions() if state.game.action_text(action) == "pass"]
        if not passes or state.apply(passes[0]).is_terminal():
            raise Refused("illegal move")
        return passes

    def _play(self, words: list[str]) -> str:
        player, text = self._colour(words), self._word(words, 1).lower()
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
        before = self._to_move(player)
        state: BoardState = session.state.apply(before[0]) if before else session.state
        if known[text] not in state.legal_actions():
            raise Refused("illegal move")
        for action in [*before, known[text]]:
            session.play(action)
        self.marks.append(mark)
        return ""

    def _simulations(self, player: int) -> int | None:
        """As many as there is time for; None: as many as it is set to."""
        if not self.timed or self.session.player.evaluation is None:
            return None
        seconds, stones = self.left.get(player, (self.main, 0) if self.main else (self.extra, self.extra_stones))
        if stones == 0 and self.extra_stones and seconds <= 0:
            seconds, stones = self.extra, self.extra_stones
        share = seconds / max(stones, 1) if stones else seconds / _MOVES_LEFT
        if stones == 0 and self.extra_stones:
            share += self.extra / self.extra_stones / 2
        if self.rate is None:
            return min(self.session.simulations, 32)  # to measure it
        return int(np.clip(_USED * share * self.rate, 1, self.session.simulations))

    def _think_and_play(self, player: int, wanted: int | None = None) -> str:
        """`wanted`: simulations, instead of as many as there is time for."""
        session, mark = self.session, len(self.session.actions)
        if session.over:
            if session.resigned is None and any(self._is_pass(a) for a in range(session.game.num_actions)):
                self.marks.append(mark)  # so that `undo` takes back this pass, which changes nothing
                return "pass"
            raise Refused("the game is over")
        for action in self._to_move(player):
            session.play(action)
        simulations, begin = wanted or self._simulations(player), time.monotonic()
        known = 0 if session.searcher is None else int(session.searcher.tree.slot["done"][0])
        action = session.answer(simulations)
        self.marks.append(mark)
        if self.timed:
            left = self.left.get(player, (self.main, 0) if self.main else (self.extra, self.extra_stones))
            spent = time.monotonic() - begin
            self.left[player] = (max(left[0] - spent, 0.0), left[1]) if left[1] == 0 else left  # until time_left says it
        if session.searcher is not None and (done := int(session.searcher.tree.slot["done"][0]) - known) > 0:
            measured = done / max(time.monotonic() - begin, 1e-3)
            self.rate = measured if self.rate is None else (self.rate + measured) / 2
        thought = session.values[-2] if action != RESIGNS and len(session.values) > 1 else None
        if thought is not None and self.resign_below is not None and (thought if player == 0 else -thought) < self.resign_below:
            session.undo()
            session.resigned = player
            return "resign"
        return "resign" if action == RESIGNS else vertex(session.game, action).upper() if not self._is_pass(action) else "pass"

    def _is_pass(self, action: int) -> bool:
        return self.session.game.action_text(action) == "pass"

    def _reg_genmove(self, words: list[str]) -> str:
        player, before = self._colour(words), len(self.marks)
        answer = self._think_and_play(player)
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
        session, game = self.session, self.session.game
        text = str(session.state).strip().splitlines()
        if game.name.startswith("go("):
            size = game.observation_shape[1]
            letters = "   " + " ".join(vertex(game, column)[0].upper() for column in range(size))
            text = [letters, *(f"{size - at:>2} {' '.join(line)}" for at, line in enumerate(text[:size])), letters, *text[size:]]
        return "\n" + "\n".join(line for line in text if line.strip())

    def _all_legal(self, words: list[str]) -> str:
        player, state = self._colour(words), self.session.state
        if self.session.over or state.player != player:
            return ""
        return " ".join(vertex(state.game, action).upper() for action in state.legal_actions())

    def _move_history(self, words: list[str]) -> str:
        """The newest first, as GNU Go says it."""
        states, game = self.session.states, self.session.game
        lines = [
            f"{'black' if states[i].player == 0 else 'white'} {vertex(game, a).upper()}" for i, a in enumerate(self.session.actions)
        ]
        return "\n".join(reversed(lines))

    def _time_settings(self, words: list[str]) -> str:
        self.main, self.extra, self.extra_stones = self._float(words, 0), self._float(words, 1), self._integer(words, 2)
        if min(self.main, self.extra, self.extra_stones) < 0:
            raise Refused("syntax error")
        self.timed = not (self.extra > 0 and self.extra_stones == 0)  # which means: no limit
        self.left = {}
        return ""

    def _time_left(self, words: list[str]) -> str:
        player, seconds, stones = self._colour(words), self._float(words, 1), self._integer(words, 2)
        if stones < 0:
            raise Refused("syntax error")
        self.left[player], self.timed = (max(seconds, 0.0), stones), True
        return ""

    def _final_score(self, words: list[str]) -> str:
        session = self.session
        if session.resigned is not None:
            return f"{'WB'[session.resigned]}+R"
        if session.game.name.startswith("go("):
            lead = area(session.state.row) - session.game.parameters["komi"]
            return "0" if lead == 0 else f"{'B' if lead > 0 else 'W'}+{abs(lead):g}"
        points = session.points
        if points is None:
            raise Refused("cannot score")
        return "0" if points == 0.5 else "B+" if points > 0.5 else "W+"

    def _final_status_list(self, words: list[str]) -> str:
        """What stands on the board is alive: games are played to the end here."""
        status = self._word(words, 0).lower()
        if status not in ("alive", "dead", "seki"):
            raise Refused("syntax error")
        game = self.session.game
        if status != "alive" or not game.name.startswith("go("):
            return ""
        cells = "".join(str(self.session.state).splitlines()[: game.observation_shape[1]])
        return "\n".join(vertex(game, point).upper() for point, stone in enumerate(cells) if stone != ".")

    def _analyze(self, words: list[str], form: "Form") -> str:
        """Tells what it thinks every so many hundredths of a second, until the next line comes."""
        seconds = self._arguments(words)
        if self.session.over:
            raise Refused("the game is over")
        self._stream(seconds, form, lambda: self.lines is None or self.lines.waiting(), True)
        return ""

    def _genmove_analyze(self, words: list[str]) -> str:
        player = self._colour(words) if words and words[0].lower() in _PLAYERS else self.session.state.player
        seconds = self._arguments(words)
        if self.session.over:
            raise Refused("the game is over")
        for action in self._to_move(player):
            self.session.play(action)
        wanted = self._simulations(player) or self.session.simulations or 100
        self._stream(seconds, _leela_zero, lambda: False, False, max(wanted // 2, 1))  # the other half is the move's own search
        return f"play {self._think_and_play(player, max(wanted // 2, 1))}"

    def _arguments(self, words: list[str]) -> float:
        """Seconds between two reports. A colour in front changes nothing: whose turn it is, the board knows."""
        rest = words[1:] if words and words[0].lower() in _PLAYERS else words
        rest = rest[1:] if rest and rest[0] == "interval" else rest
        return self._integer(rest, 0) / 100 if rest else 0.5

    def _stream(self, seconds: float, form: "Form", stop: Callable[[], bool], wait: bool, most: int = _ANALYSIS) -> None:
        session = self.session
        evaluate, method = session.player.evaluator(session.game)
        agent = session.player if isinstance(method, Puct) else evaluate  # Gumbel's plan wants to know its end beforehand
        searcher = Searcher(session.game, agent, most, leaves=8, solve=session.player.solve, seed=session.seed)
        budget, told, ending = 16, time.monotonic(), False
        self.streamed = write(f"={self.number}\n")
        while self.streamed and not ending:
            found = searcher.search(session.state, budget)
            done = int(searcher.tree.slot["done"][0])
            finished = done >= most or found.proven
            ending = finished or stop()
            if time.monotonic() - told >= seconds or ending:
                self.streamed = write(self._report(searcher, found, form) + "\n")
                told = time.monotonic()
            while finished and wait and self.streamed and not stop():  # there is no more to find, but the other side ends it
                time.sleep(0.02)
            budget = min(max(done, budget) + 64, most)

    def _report(self, searcher: Searcher, found: Found, form: "Form") -> str:
        tree, game = searcher.tree, self.session.game
        root = tree.edge[0, : tree.node[0, 0]["fanout"]]
        order = np.lexsort((-root["prior"], -root["visits"]))
        words = []
        for place, edge in enumerate(root[order]):
            if place and not edge["visits"]:
                break
            visits = int(edge["visits"])
            value = float(edge["total"]) / visits if visits else found.value
            moves = [int(edge["action"]), *_following(searcher, int(edge["child"]))]
            names = " ".join(vertex(game, action).upper() for action in moves)
            words.append(form(vertex(game, moves[0]).upper(), visits, (1 + value) / 2, float(edge["prior"]), place, names))
        return " ".join(words)


Form = Callable[[str, int, float, float, int, str], str]  # move, visits, share of wins, prior, place, variation


def _leela_zero(move: str, visits: int, wins: float, prior: float, place: int, variation: str) -> str:
    """Shares in ten thousandths."""
    rate, chance = round(10_000 * wins), round(10_000 * prior)
    return f"info move {move} visits {visits} winrate {rate} prior {chance} lcb {rate} order {place} pv {variation}"


def _katago(move: str, visits: int, wins: float, prior: float, place: int, variation: str) -> str:
    return (
        f"info move {move} visits {visits} utility {2 * wins - 1:.4f} winrate {wins:.4f} scoreMean 0 scoreStdev 0 scoreLead 0 "
        f"prior {prior:.4f} lcb {wins:.4f} order {place} pv {variation}"
    )


def _following(searcher: Searcher, node: int) -> list[int]:
    """The most visited moves from there on."""
    tree, moves = searcher.tree, list[int]()
    while node >= 0 and len(moves) < 10:
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
