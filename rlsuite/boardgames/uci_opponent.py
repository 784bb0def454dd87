"""An opponent that is another program, over the Universal Chess Interface. Shapes: n positions, R bytes a row."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.games import CHESS
from rlsuite.boardgames.program import Program
from rlsuite.core.errors import OpponentError, UsageError
from rlsuite.core.game import Game, Row


def uci_names(game: Game) -> Callable[[Row, int], str]:
    """A function that returns the UCI name of an action: `e2e4`, `e7e8q`. UsageError for a game that is not chess."""
    if game.presentation.uci is None:
        raise UsageError(f"UCI is for chess, such as {CHESS}, not for {game.name}")
    return game.presentation.uci


def moves_by_name(game: Game, row: Row) -> dict[str, int]:
    """The legal actions by their names in UCI."""
    name, legal = uci_names(game), np.empty(game.num_actions, np.int32)
    return {name(row, int(action)): int(action) for action in legal[: game.rules.legal(row, legal)]}


class Uci:
    """`uci(command=stockfish,go=movetime 100,options="Skill Level=0;Threads=1")`; `go`: how long it may think, in UCI's terms."""

    def __init__(self, game: Game, command: str = "", go: str = "movetime 100", options: str = "", seconds: float = 120.0):
        if not command.strip():
            raise UsageError("uci needs a program: uci(command=stockfish)")
        self.name_of = uci_names(game)
        self.game, self.command, self.go = game, command, go
        self.program = Program("uci", command, seconds)
        try:
            self._say("uci", "uciok")
            for option in filter(None, (part.strip() for part in options.split(";"))):
                name, equals, value = option.partition("=")
                if not equals:
                    raise UsageError(f"uci: option {option!r} must read Name=value; separate several by ;")
                self.program.say(f"setoption name {name.strip()} value {value.strip()}")
            self.program.say("ucinewgame")
            self._say("isready", "readyok")
        except BaseException:
            self.close()
            raise

    def __call__(self, rows: NDArray[np.int8], histories: Sequence[Sequence[int]], rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Opponent`."""
        actions = np.empty(len(rows), np.int64)
        for i, (row, history) in enumerate(zip(rows, histories, strict=True)):
            state, names = self.game.new_state(), list[str]()
            for action in history:
                names.append(self.name_of(state.row, action))
                state = state.apply(action)
            begin = "startpos" if self.game.usual_start is None else f"fen {str(self.game.new_state()).splitlines()[0]}"
            self.program.say(f"position {begin}" + (f" moves {' '.join(names)}" if names else ""))
            answer = self._say(f"go {self.go}", "bestmove").split()
            found = moves_by_name(self.game, row).get(answer[1] if len(answer) > 1 else "")
            if found is None:
                raise OpponentError(f"uci: {self.command!r} answered {' '.join(answer)!r}, which is no legal move here")
            actions[i] = found
        return actions

    def _say(self, line: str, awaited: str) -> str:
        """Sends a line and returns the line of the answer that begins with `awaited`; lines before it report on the search."""
        self.program.say(line)
        deadline = self.program.deadline()
        while True:
            found = self.program.line(deadline, line).strip()
            if found.split(" ")[0] == awaited:
                return found

    def close(self) -> None:
        """Ends the program."""
        self.program.close()
