"""Board games by name: `make_game("go(size=9,komi=7.5)")`."""

import contextlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from rlsuite import registry
from rlsuite.envs.boards.connect_four import connect_four
from rlsuite.envs.boards.game import Game
from rlsuite.envs.boards.go import go
from rlsuite.envs.boards.hex import hex_game
from rlsuite.envs.boards.in_a_row import gomoku, tic_tac_toe
from rlsuite.envs.boards.othello import othello
from rlsuite.errors import UsageError, unknown

GAMES: dict[str, Callable[..., Game]] = {
    "connect_four": connect_four,
    "go": go,
    "gomoku": gomoku,
    "hex": hex_game,
    "othello": othello,
    "tic_tac_toe": tic_tac_toe,
}

_CALL = re.compile(r"^\s*([a-z_0-9]+)\s*(?:\((.*)\))?\s*$")


def make_game(name: str, **parameters: Any) -> Game:
    """`make_game("hex", size=7)` or `make_game("hex(size=7)")`. UsageError for unknown games, parameters and values."""
    match = _CALL.match(name)
    if match is None:
        raise UsageError(f"{name!r} names no game: write it as go or go(size=9,komi=7.5)")
    kind, written = match[1], match[2]
    make = registry.game_maker(kind)
    for part in written.split(",") if written and written.strip() else []:
        key, _, value = (text.strip() for text in part.partition("="))
        parameters[key] = _number(f"{name}: {key}", value)
    allowed = inspect.signature(make).parameters
    for key in parameters:
        if key not in allowed:
            raise unknown(f"parameter of {kind}", key, allowed)
    game: Game = make(**parameters)
    return game


def _number(what: str, text: str) -> int | float:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    raise UsageError(f"{what} = {text!r} is no number")
