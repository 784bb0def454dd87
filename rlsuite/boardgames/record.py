"""The contents of a game record, independent of its format, and the replay of its moves."""

from dataclasses import dataclass, field

import numpy as np

from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game

AFTER_THE_END = "the moves after the end of the game are left out"
RESIGNED = "resigned"


class BadRecord(UsageError):
    """The error for a record that cannot be read; `kind`: the fault, in words that are the same for all records with it."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class GameRecord:
    """A game that was read from a record."""

    game: Game  # with the record's size and komi; `game.new_state()` is the position that the record begins from
    actions: list[int]
    players: tuple[str, str] = ("", "")  # the names of players 0 and 1, if given
    points: float | None = None  # of player 0: 1, 0.5, 0, or None if the record does not say
    ending: str = ""  # how it ended, if not by the rules: "resigned", "out of time", ...
    notes: list[str] = field(default_factory=list)  # a phrase about each thing that was not read literally
    komi: float | None = None  # in points, if the record gives one that can be understood, independent of that of `game`
    variations: bool = False  # whether there are variations beside the main line, which are not read

    def has_komi_of(self, game: Game) -> bool:
        """Whether its komi leads to the same results as that of `game`; True if the record or the game has none."""
        if self.komi is None or "komi" not in game.parameters:
            return True
        try:
            return np.array_equal(game.usual().with_parameters(komi=self.komi).start, game.usual().start)
        except UsageError:  # more points than the board has
            return False

    def remarks(self) -> list[str]:
        """A phrase for each thing that was not read literally: the notes, variations, and a komi other than that of `game`."""
        lines = [*self.notes, *["only the main line is read, without the variations"] * self.variations]
        if not self.has_komi_of(self.game):
            lines.append(f"its komi is {self.komi:g}; here it is {self.game.parameters['komi']:g}")
        return lines


@dataclass
class Replay:
    """Replays the moves of a record one by one."""

    game: Game
    path: str
    state: BoardState = field(init=False)
    actions: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.game.new_state()

    def bad(self, kind: str, what: str) -> BadRecord:
        """The error for the next move; `what` comes after the move's number."""
        return BadRecord(kind, f"{self.path}: move {len(self.actions) + 1}{what}")

    def play(self, action: int, name: str) -> None:
        """Makes a move. BadRecord for an illegal one, with its number and `name`."""
        try:
            self.state = self.state.apply(action)
        except UsageError as error:
            raise self.bad("an illegal move", f": {name} is illegal there in {self.game.name}") from error
        self.actions.append(action)


def placed(state: BoardState) -> list[str]:
    """The symbols on the cells [H*W] of a board whose text begins with H lines of W of `.xo`."""
    _, height, width = state.game.observation_shape
    return [char for line in str(state).splitlines()[:height] for char in line.replace(" ", "")][: height * width]


def single_spaced(text: str) -> str:
    """The text with single blanks and no line breaks."""
    return " ".join(text.split())
