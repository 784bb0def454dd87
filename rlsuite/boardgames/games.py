"""Board games by name: `make_game("go(size=9,komi=7.5)")`."""

import importlib
import inspect
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from rlsuite.config.spec_string import check_keywords, parse_call
from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game

CHESS = "openspiel(game=chess)"  # the game of PGN and UCI


def make_game(name: str, **parameters: Any) -> Game:
    """Makes a game by name: `make_game("hex", size=7)` or `make_game("hex(size=7)")`.

    `name` may also be a .py file or a dotted module with a function `make()` that returns a `Game`. UsageError for an unknown game,
    parameter or value, or for a file or module that makes no game.
    """
    if own := own_game(name):
        return _load_own(own)
    kind, written = parse_call("game", name)
    make = registry.games.get(kind)
    parameters = {**written, **parameters}
    check_keywords(kind, make, parameters)
    for key, known in inspect.signature(make).parameters.items():
        if key not in parameters:
            if known.default is known.empty:
                raise UsageError(f"{name} needs {key}=...")
            continue
        value = parameters[key]
        if known.annotation in (str, "str"):
            parameters[key] = str(value)
        elif isinstance(value, str):
            raise UsageError(f"{name}: {key} = {value!r} is not a number")
        elif known.annotation in (int, "int") and not isinstance(value, int):
            raise UsageError(f"{name}: {key} = {value} is not a whole number")
        elif not math.isfinite(value):
            raise UsageError(f"{name}: {key} = {value} is not a finite number")
    game: Game = make(**parameters)
    return game


def own_game(name: str) -> str | None:
    """The absolute path of a game in a .py file, or the dotted name of one in a module; None for the name of a registered game."""
    if name.endswith(".py"):
        return str(Path(name).resolve())
    return name if re.fullmatch(r"\w+(\.\w+)+", name) else None


def _load_own(own: str) -> Game:
    """The game of a file or module, made once for each version of the file."""
    if own.endswith(".py"):
        module = registry.load_file(own)
    else:
        try:
            module = importlib.import_module(own)
        except ImportError as error:
            raise UsageError(f"{own} cannot be loaded: {error}") from error
    make = getattr(module, "make", None)
    if not callable(make):
        raise UsageError(f"{own} has no function make(), which should return a Game")
    return _made(own, make)


@cache
def _made(own: str, make: Callable[[], Game]) -> Game:
    game = make()
    if not isinstance(game, Game):
        raise UsageError(f"make() of {own} returned a {type(game).__name__}, not a Game")
    return game
