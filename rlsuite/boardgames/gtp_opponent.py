"""An opponent that is another program, over the Go Text Protocol, version 2 (Farnebäck 2002): for Go, Othello and Hex.

Shapes: n positions, R bytes a row.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.program import Program
from rlsuite.boardgames.record import placed
from rlsuite.core.errors import OpponentError, UsageError
from rlsuite.core.game import Game

RESIGNS = -1  # returned instead of an action
COLOURS = ("black", "white")


class Gtp:
    """`gtp(command=gnugo --mode gtp --level 10 --chinese-rules --positional-superko --capture-all-dead --play-out-aftermath)`.

    One process plays all games and has `seconds` for each answer; when it switches to another game, it replays the moves of that
    game. Our Go counts all stones on the board as alive: without these options, GNU Go passes before it has captured dead stones.
    """

    def __init__(self, game: Game, command: str = "", seconds: float = 120.0):
        if not command.strip():
            raise UsageError("gtp needs a program: gtp(command=gnugo --mode gtp --level 10)")
        if game.presentation.gtp is None:
            raise UsageError(f"gtp: no program is known to play {game.name} (its presentation.gtp is None)")
        if game.usual_start is not None and set(placed(game.usual().new_state())) != {"."}:
            raise UsageError(f"gtp: no program can be told to begin {game.name} from another position")
        self.game, self.command, self.dialect = game, command, game.presentation.gtp
        self.program = Program("gtp", command, seconds)
        self.played: list[int] | None = None  # the moves on the program's board
        try:
            self._say(f"boardsize {game.observation_shape[1]}")
            if "komi" in game.parameters:
                self._say(f"komi {game.parameters['komi']}")
        except BaseException:
            self.close()
            raise

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Opponent`."""
        actions = np.empty(len(rows), np.int64)
        for i, (row, history) in enumerate(zip(rows, histories, strict=True)):
            self._set_up(history)
            colour = COLOURS[int(self.game.rules.player(row))]
            answer = self._say(f"genmove {colour}").lower()
            actions[i] = self._parse(answer, row)
            self.played = [*history, int(actions[i])] if actions[i] != RESIGNS else None
        return actions

    def _set_up(self, history: Sequence[int]) -> None:
        """Sends the program the moves that are not on its board yet."""
        known, self.played = self.played, None  # unknown until the program has agreed to everything
        if known is None or list(history[: len(known)]) != known:
            self._say("clear_board")
            known = []
            for cell, symbol in enumerate(placed(self.game.new_state()) if self.game.usual_start is not None else []):
                if symbol != ".":  # stones placed one by one capture nothing: each chain has a liberty, or a point where it grows
                    self._say(f"play {COLOURS['xo'.index(symbol)]} {self.game.action_text(cell)}")
        state = self.game.new_state()
        for at, action in enumerate(history):
            forced = len(state.legal_actions()) == 1 and self.game.action_text(action) == "pass"
            if at >= len(known) and (self.dialect.forced_passes or not forced):
                self._say(f"play {COLOURS[state.player]} {self.game.action_text(action)}")
            state = state.apply(action)

    def _parse(self, answer: str, row: NDArray[np.int8]) -> int:
        """The legal action that the program names, or RESIGNS."""
        legal = np.empty(self.game.num_actions, np.int32)
        legal = legal[: self.game.rules.legal(row, legal)]
        for action in legal.tolist():
            if self.game.action_text(action) == answer:
                return int(action)
        if answer == "resign":
            return RESIGNS
        raise OpponentError(f"gtp: {self.command!r} answered {answer!r}, which is no legal move here")

    def _say(self, line: str) -> str:
        """Sends a command and returns the answer. OpponentError if the program refuses it."""
        self.program.say(line)
        answer, deadline = list[str](), self.program.deadline()
        while True:
            got = self.program.line(deadline, line).strip()
            if got:
                answer.append(got)
            elif answer:
                break
        if not answer[0].startswith("="):
            raise OpponentError(f"gtp: {self.command!r} refuses {line!r}: {answer[0]}")
        return answer[0][1:].strip()

    def close(self) -> None:
        """Ends the program."""
        self.program.close()
