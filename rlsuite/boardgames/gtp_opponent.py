"""An opponent that is another program, spoken to in the Go Text Protocol, version 2 (Farnebäck 2002): Go, Othello, Hex."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.program import Program
from rlsuite.core.errors import OpponentError, UsageError
from rlsuite.core.game import Game

RESIGNS = -1  # in place of an action
COLOURS = ("black", "white")
_COLUMNS = "abcdefghjklmnopqrstuvwxyz"  # no i


def vertex(game: Game, action: int) -> str:
    """How GTP writes an action: on Go boards columns without i and rows from below, elsewhere as the game does."""
    kind, size = game.name.split("(")[0], game.observation_shape[1]
    if kind != "go" or action == size * size:
        return game.action_text(action)
    return f"{_COLUMNS[action % size]}{size - action // size}"


class Gtp:
    """`gtp(command=gnugo --mode gtp --level 10 --chinese-rules --positional-superko --capture-all-dead --play-out-aftermath)`: one
    process for all environments, that replays an environment's moves where it must. It has `seconds` for each answer.

    Our Go counts what stands on the board: without these options GNU Go passes while dead stones stand, which then count as alive.
    """

    def __init__(self, game: Game, command: str = "", seconds: float = 120.0):
        if not command.strip():
            raise UsageError("gtp needs a program: gtp(command=gnugo --mode gtp --level 10)")
        kind = game.name.split("(")[0]
        if kind not in ("go", "othello", "hex"):
            raise UsageError(f"no GTP program plays {game.name} here; go, othello and hex are known")
        self.game, self.command, self.is_go = game, command, kind == "go"
        self.program = Program("gtp", command, seconds)
        self.played: list[int] | None = None  # the moves on the program's board
        try:
            self._say(f"boardsize {game.observation_shape[1]}")
            if self.is_go:
                self._say(f"komi {game.parameters['komi']}")
        except BaseException:
            self.close()
            raise

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        actions = np.empty(len(rows), np.int64)
        for i, (row, history) in enumerate(zip(rows, histories, strict=True)):
            self._set_up(history)
            colour = COLOURS[int(self.game.rules.player(row))]
            answer = self._say(f"genmove {colour}").lower()
            actions[i] = self._action(answer, row)
            self.played = [*history, int(actions[i])] if actions[i] != RESIGNS else None
        return actions

    def _set_up(self, history: Sequence[int]) -> None:
        known = self.played
        if known is None or list(history[: len(known)]) != known:
            self._say("clear_board")
            known = []
        state = self.game.new_state()
        for at, action in enumerate(history):
            forced = len(state.legal_actions()) == 1 and self.game.action_text(action) == "pass"
            if at >= len(known) and (self.is_go or not forced):  # Othello programs pass by themselves where they must
                self._say(f"play {COLOURS[state.player]} {vertex(self.game, action)}")
            state = state.apply(action)
        self.played = list(history)

    def _action(self, answer: str, row: NDArray[np.int8]) -> int:
        legal = np.empty(self.game.num_actions, np.int32)
        legal = legal[: self.game.rules.legal(row, legal)]
        for action in legal.tolist():
            if vertex(self.game, action) == answer:
                return int(action)
        if answer == "resign":
            return RESIGNS
        raise OpponentError(f"gtp: {self.command!r} answered {answer!r}, which is no legal move here")

    def _say(self, line: str) -> str:
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
        self.program.close()
