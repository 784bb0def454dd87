"""An opponent that is another program, spoken to in the Go Text Protocol, version 2 (Farnebäck 2002): Go, Othello, Hex."""

import shlex
import subprocess
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlsuite.envs.boards.game import Game
from rlsuite.errors import OpponentError, UsageError

RESIGNS = -1  # in place of an action
_COLOURS = ("black", "white")
_SECONDS = 5  # that a program gets to end


class Gtp:
    """`gtp(command=gnugo --mode gtp --level 10 --chinese-rules --positional-superko --capture-all-dead --play-out-aftermath)`: one
    process for all lanes, that replays a lane's moves where it must.

    Our Go counts what stands on the board: without these options GNU Go passes while dead stones stand, which then count as alive.
    """

    def __init__(self, game: Game, command: str = ""):
        if not command.strip():
            raise UsageError("gtp needs a program: gtp(command=gnugo --mode gtp --level 10)")
        kind = game.name.split("(")[0]
        if kind not in ("go", "othello", "hex"):
            raise UsageError(f"no GTP program plays {game.name} here; go, othello and hex are known")
        self.game, self.command, self.is_go = game, command, kind == "go"
        self.size = game.observation_shape[1]
        try:
            self.process = subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # Ctrl-C is ours alone
            )
        except OSError as error:
            raise UsageError(f"gtp: {command!r} cannot be started: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"gtp: {command!r} is no command: {error}") from error
        self.played: list[int] | None = None  # the moves on the program's board
        self._say(f"boardsize {self.size}")
        if self.is_go:
            self._say(f"komi {game.parameters['komi']}")

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        actions = np.empty(len(rows), np.int64)
        for i, (row, history) in enumerate(zip(rows, histories, strict=True)):
            self._set_up(history)
            colour = _COLOURS[int(self.game.rules.player(row))]
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
                self._say(f"play {_COLOURS[state.player]} {self._vertex(action)}")
            state = state.apply(action)
        self.played = list(history)

    def _vertex(self, action: int) -> str:
        if not self.is_go or action == self.size**2:
            return self.game.action_text(action)
        column = action % self.size
        return f"{'abcdefghjklmnopqrst'[column]}{self.size - action // self.size}"  # no i, rows from below

    def _action(self, answer: str, row: NDArray[np.int8]) -> int:
        legal = np.empty(self.game.num_actions, np.int32)
        legal = legal[: self.game.rules.legal(row, legal)]
        for action in legal.tolist():
            if self._vertex(action) == answer:
                return int(action)
        if answer == "resign":
            return RESIGNS
        raise OpponentError(f"gtp: {self.command!r} answered {answer!r}, which is no legal move here")

    def _say(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise OpponentError(f"gtp: {self.command!r} has ended") from error
        answer: list[str] = []
        while True:
            got = self.process.stdout.readline()
            if not got:
                raise OpponentError(f"gtp: {self.command!r} has ended at {line!r}")
            if got.strip():
                answer.append(got.strip())
            elif answer:
                break
        if not answer[0].startswith("="):
            raise OpponentError(f"gtp: {self.command!r} refuses {line!r}: {answer[0]}")
        return answer[0][1:].strip()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
