"""Board games by name: `make_game("go(size=9,komi=7.5)")`."""

from collections.abc import Callable
from typing import Any

from rlsuite import registry
from rlsuite.calls import check_keywords, parse_call
from rlsuite.envs.boards.connect_four import connect_four
from rlsuite.envs.boards.game import Game
from rlsuite.envs.boards.go import go
from rlsuite.envs.boards.hex import hex_game
from rlsuite.envs.boards.in_a_row import gomoku, tic_tac_toe
from rlsuite.envs.boards.othello import othello
from rlsuite.errors import UsageError

GAMES: dict[str, Callable[..., Game]] = {
    "connect_four": connect_four,
    "go": go,
    "gomoku": gomoku,
    "hex": hex_game,
    "othello": othello,
    "tic_tac_toe": tic_tac_toe,
}


def make_game(name: str, **parameters: Any) -> Game:
    """`make_game("hex", size=7)` or `make_game("hex(size=7)")`. UsageError for unknown games, parameters and values."""
    kind, written = parse_call("game", name)
    make = registry.game_maker(kind)
    parameters = {**written, **parameters}
    check_keywords(kind, make, parameters)
    for key, value in parameters.items():
        if isinstance(value, str):
            raise UsageError(f"{name}: {key} = {value!r} is no number")
    game: Game = make(**parameters)
    return game
