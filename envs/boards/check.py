"""Plays random games to check that a game keeps the contract of `rlsuite.core.game`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.game import Game, Planes, Row
from rlsuite.core.lattice import lattice_of

_UNWRITTEN = 77  # a value that no plane holds by chance


class BrokenContract(RlsuiteError):
    """A game breaks a rule of the contract; the message names the game, the rule and the moves so far."""


def check_game(game: Game, games: int = 100, seed: int = 0) -> dict[str, float]:
    """Plays random games under random symmetries and returns statistics of them. BrokenContract at the first breach."""
    _check_fields(game)
    rng = np.random.default_rng(seed)
    seen: dict[int, bytes] = {}  # hash -> planes
    lengths, first_wins, draws = [], 0, 0
    for _ in range(games):
        length, value = _play_one(game, int(rng.integers(len(game.action_maps))), rng, seen)
        lengths.append(length)
        first_wins += value > 0
        draws += value == 0
    return {
        "games": games,
        "mean_length": float(np.mean(lengths)),
        "longest": max(lengths),
        "first_player_wins": first_wins / games,
        "draws": draws / games,
        "positions": len(seen),
    }


def _check_fields(game: Game) -> None:
    """Checks the game's fields, which do not depend on a position."""
    _, height, width = game.observation_shape
    for name, maps, size in (("cell_maps", game.cell_maps, height * width), ("action_maps", game.action_maps, game.num_actions)):
        _need(game, maps.ndim == 2 and maps.shape[1] == size, f"{name} has shape {maps.shape}, expected [S,{size}]", [])
        for row in maps:
            _need(
                game,
                np.array_equal(np.sort(row), np.arange(size)),
                f"{name} has a row that is not a permutation of 0..{size - 1}",
                [],
            )
        _need(game, np.array_equal(maps[0], np.arange(size)), f"row 0 of {name} must be the identity", [])
    _need(game, len(game.cell_maps) == len(game.action_maps), "cell_maps and action_maps must have equally many rows", [])
    _need(game, game.start.dtype == np.int8 and game.start.size % 8 == 0, "start must be int8, its size a multiple of 8", [])
    try:
        game.neighbours and lattice_of(game)
    except UsageError as error:
        raise BrokenContract(str(error)) from error
    shown = game.presentation
    _need(game, shown.board != "chess" or shown.uci is not None, 'presentation.board is "chess", which needs presentation.uci', [])
    _need(game, shown.sgf is None or height == width, "presentation.sgf is set, but the board is not square", [])


def _play_one(game: Game, symmetry: int, rng: np.random.Generator, seen: dict[int, bytes]) -> tuple[int, float]:
    """Plays a random game and its image under a symmetry side by side -> (length, value for player 0)."""
    rules, cells, actions = game.rules, game.cell_maps[symmetry], game.action_maps[symmetry]
    image_of = np.argsort(actions)  # action -> the corresponding action in the image
    row, image = game.new_state().row, game.new_state().row
    moves: list[int] = []
    while True:
        legal = _legal(game, row, moves)
        over, value = _pure(game, row, moves, "outcome", lambda r: rules.outcome(r))
        planes = _planes(game, row, moves)
        _need(game, over == (len(legal) == 0), f"outcome says over = {over}, but legal gives {len(legal)} actions", moves)
        _check_image(game, row, image, cells, image_of, moves)
        key = int(_pure(game, row, moves, "hash", lambda r: rules.hash(r)))
        known = seen.setdefault(key, planes.tobytes())
        _need(game, known == planes.tobytes(), "hash gives two positions with different planes the same number", moves)
        if over:
            _need(game, -1 <= value <= 1, f"outcome gives the value {value}, outside [-1, 1]", moves)
            _need(game, game.has_draws or value != 0, "a draw in a game whose has_draws is False", moves)
            return len(moves), float(value)
        _need(game, len(moves) < game.max_moves, f"the game goes on after max_moves = {game.max_moves} moves", moves)
        mover = _pure(game, row, moves, "player", lambda r: rules.player(r))
        _need(game, mover in (0, 1), f"player gives {mover}; players are 0 and 1", moves)
        _check_sides(game, row, mover, planes, moves)
        _check_text(game, row, planes, moves)
        action = int(rng.choice(legal))
        again = row.copy()
        rules.play(again, action)
        rules.play(row, action)
        _need(game, np.array_equal(row, again), "play gives different rows for the same position and action", [*moves, action])
        rules.play(image, int(image_of[action]))
        moves.append(action)


def _legal(game: Game, row: Row, moves: list[int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    out = np.full(game.num_actions, -1, np.int32)
    count = _pure(game, row, moves, "legal", lambda r: game.rules.legal(r, out))
    legal = out[:count]
    fine = bool(((legal >= 0) & (legal < game.num_actions)).all() and (np.diff(legal) > 0).all())
    _need(game, fine, f"legal gives {legal.tolist()}, not increasing actions from 0 to {game.num_actions - 1}", moves)
    return legal


def _planes(game: Game, row: Row, moves: list[int]) -> Planes:
    planes = np.full(game.observation_shape, _UNWRITTEN, np.int8)
    _pure(game, row, moves, "encode", lambda r: game.rules.encode(r, planes))
    _need(game, not (planes == _UNWRITTEN).any(), "encode does not write all elements of the planes", moves)
    return planes


def _check_sides(game: Game, row: Row, mover: int, planes: Planes, moves: list[int]) -> None:
    """Checks each player's view of the position, if the game has `set_player`."""
    if game.set_player is None:
        return
    same = np.array_equal(game.planes(row, mover), planes)
    _need(game, same, "set_player changes what the player to move sees", moves)
    turned = row.copy()
    game.set_player(turned, 1 - mover)
    _need(game, not np.array_equal(turned, row), "set_player does not make the other player the one to move", moves)


def _check_image(game: Game, row: Row, image: Row, cells: Any, image_of: Any, moves: list[int]) -> None:
    shape = game.observation_shape
    turned = _planes(game, row, moves).reshape(shape[0], -1)[:, cells].reshape(shape)
    same = np.array_equal(turned, _planes(game, image, moves))
    _need(game, same, "cell_maps and action_maps do not agree: mapped actions do not lead to the mapped planes", moves)
    legal = np.sort(image_of[_legal(game, row, moves)])
    _need(game, np.array_equal(legal, _legal(game, image, moves)), "a symmetry changes which actions are legal", moves)
    same = tuple(game.rules.outcome(row)) == tuple(game.rules.outcome(image))
    _need(game, same, "a symmetry changes the outcome", moves)


def _check_text(game: Game, row: Row, planes: Planes, moves: list[int]) -> None:
    text = game.board_text(row)
    read = game.parse(text)
    same = np.array_equal(_planes(game, read, moves), planes) and game.rules.player(read) == game.rules.player(row)
    _need(game, same, f"parse(board_text(row)) is another position; the text is\n{text}", moves)


def _pure(game: Game, row: Row, moves: list[int], name: str, call: Callable[[Row], Any]) -> Any:
    """The result of a function on a row; checks that it leaves the row unchanged and returns the same value twice."""
    before = row.copy()
    once, twice = call(row), call(row)
    _need(game, np.array_equal(row, before), f"{name} writes to the row", moves)
    _need(game, once == twice, f"{name} gives {once} and then {twice} for the same row", moves)
    return once


def _need(game: Game, fine: bool, breach: str, moves: list[int]) -> None:
    if not fine:
        raise BrokenContract(f"{game.name}: {breach}" + (f" (after the actions {moves})" if moves else ""))
