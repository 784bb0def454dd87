"""Board games by name: `make_game("go(size=9,komi=7.5)")`."""

import importlib.util
import inspect
import math
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from rlsuite import registry
from rlsuite.calls import check_keywords, parse_call
from rlsuite.envs.boards.connect_four import connect_four
from rlsuite.envs.boards.game import Game
from rlsuite.envs.boards.go import go
from rlsuite.envs.boards.hex import hex_game
from rlsuite.envs.boards.in_a_row import gomoku, tic_tac_toe
from rlsuite.envs.boards.openspiel import openspiel
from rlsuite.envs.boards.othello import othello
from rlsuite.errors import UsageError

GAMES: dict[str, Callable[..., Game]] = {
    "connect_four": connect_four,
    "go": go,
    "gomoku": gomoku,
    "hex": hex_game,
    "openspiel": openspiel,
    "othello": othello,
    "tic_tac_toe": tic_tac_toe,
}


def make_game(name: str, **parameters: Any) -> Game:
    """`make_game("hex", size=7)`, `make_game("hex(size=7)")`, or the .py file or dotted module of a game with a
    function `make()`.

    UsageError for unknown games, parameters and values, and for what gives no game.
    """
    if own := own_game(name):
        path = Path(own)
        try:
            return _load(own, path.stat().st_mtime_ns if own.endswith(".py") else 0)
        except (OSError, ImportError, SyntaxError) as error:
            raise UsageError(f"{name} cannot be loaded: {error}") from error
    kind, written = parse_call("game", name)
    make = registry.game_maker(kind)
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
            raise UsageError(f"{name}: {key} = {value!r} is no number")
        elif known.annotation in (int, "int") and not isinstance(value, int):
            raise UsageError(f"{name}: {key} = {value} is no whole number")
        elif not math.isfinite(value):
            raise UsageError(f"{name}: {key} = {value} is no finite number")
    game: Game = make(**parameters)
    return game


def own_game(name: str) -> str | None:
    """Of a game of the user's own: the whole path of its .py file, or the dotted name of its module. None for a registered name."""
    if name.endswith(".py"):
        return str(Path(name).resolve())
    return name if re.fullmatch(r"\w+(\.\w+)+", name) else None


@cache
def _load(own: str, changed: int) -> Game:
    """Once for each version of a file, so that its functions are compiled once."""
    if own.endswith(".py"):
        spec = importlib.util.spec_from_file_location(f"rlsuite_own_game_{Path(own).stem}", own)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # numba looks a function's module up
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(own)
    make = getattr(module, "make", None)
    if not callable(make):
        raise UsageError(f"{own} has no function make(), which should give a Game")
    game = make()
    if not isinstance(game, Game):
        raise UsageError(f"make() of {own} gives a {type(game).__name__}, not a Game")
    return game
