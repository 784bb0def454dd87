"""Parses the words of a GTP command."""

import re
from typing import NamedTuple

# Options of KataGo's analysis that do not affect which moves are searched.
_UNUSED = (
    "minmoves",
    "ownership",
    "ownershipStdev",
    "movesOwnership",
    "movesOwnershipStdev",
    "pvVisits",
    "pvEdgeVisits",
    "rootInfo",
)
PLAYERS = {"b": 0, "black": 0, "w": 1, "white": 1}


class Refused(Exception):
    """Raised for a command that is to be answered with `?` and this message."""


class Wish(NamedTuple):
    """The options of an analysis command."""

    player: int
    seconds: float  # between two reports
    most: int  # moves in a report
    moves: list[tuple[bool, set[int]]]  # actions at the root: the only allowed ones (True), or forbidden ones (False)

    def allows(self, action: int) -> bool:
        """Whether an action is to be considered."""
        return all((action in actions) == allowed for allowed, actions in self.moves)

    @classmethod
    def of(cls, words: list[str], mover: int, known: dict[str, int]) -> "Wish":
        """Parses the words after `lz-analyze` and the like: a colour, hundredths of a second, then KataGo's options with values."""
        rest = list(words)
        player = PLAYERS[rest.pop(0).lower()] if rest and rest[0].lower() in PLAYERS else mover
        seconds, most, moves = 0.5, 1000, list[tuple[bool, set[int]]]()
        if rest and rest[0].lstrip("-").isdecimal():
            seconds = max(integer(rest, 0), 1) / 100
            rest.pop(0)
        while rest:
            key = rest.pop(0)
            if key == "interval":
                seconds = max(integer(rest, 0), 1) / 100
            elif key == "maxmoves":
                most = max(integer(rest, 0), 1)
            elif key in ("allow", "avoid"):
                whose, points = colour(rest), {known.get(name.lower(), -1) for name in word(rest, 1).split(",")}
                integer(rest, 2)
                if whose == player:
                    moves.append((key == "allow", points))
                del rest[:2]
            elif key not in _UNUSED:
                raise Refused("syntax error")
            rest = rest[1:]
        return cls(player, seconds, most, moves)


def word(words: list[str], at: int) -> str:
    """The word at a position. Refused if there is none."""
    if at >= len(words):
        raise Refused("syntax error")
    return words[at]


def colour(words: list[str]) -> int:
    """The player that the first word names. Refused if it names none."""
    found = PLAYERS.get(word(words, 0).lower())
    if found is None:
        raise Refused("syntax error")
    return found


def integer(words: list[str], at: int) -> int:
    """The word at a position as a whole number of at most nine digits. Refused if it is not one."""
    text = word(words, at)
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise Refused("syntax error")
    return int(text)


def number(words: list[str], at: int) -> float:
    """The word at a position as a number below a billion. Refused if it is not one."""
    try:
        found = float(word(words, at))
    except ValueError as error:
        raise Refused("syntax error") from error
    if not abs(found) < 1e9:
        raise Refused("syntax error")
    return found
