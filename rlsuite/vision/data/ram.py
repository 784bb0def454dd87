"""Reads the 128 bytes of RAM of Atari games: variables for probes, scores, and sentences about a moment of the game."""

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import unknown

# Bytes of RAM (Anand et al. 2019, Unsupervised State Representation Learning in Atari).
VARIABLES: dict[str, dict[str, int]] = {
    "pong": {"ball_x": 49, "ball_y": 54, "player_y": 51, "enemy_y": 50},
    "breakout": {"ball_x": 99, "ball_y": 101, "player_x": 72},
    "space_invaders": {"player_x": 28, "invaders_x": 26, "invaders_y": 24, "invaders_left": 17},
    "boxing": {"player_x": 32, "player_y": 34, "enemy_x": 33, "enemy_y": 35},
    "freeway": {"player_y": 14, "score": 103},
    "ms_pacman": {"player_x": 10, "player_y": 16},
    "seaquest": {"player_x": 70, "player_y": 97, "oxygen": 102},
    "montezuma_revenge": {"player_x": 42, "player_y": 43, "room": 3},
    "tennis": {"ball_x": 16, "ball_y": 17, "player_x": 26, "player_y": 24, "enemy_x": 27, "enemy_y": 25},
    "qbert": {"player_x": 43, "player_y": 67},
}

# The digits of scores on the screen, number by number: (byte, its half-bytes from the left, if they are decimal digits).
SCORES: dict[str, tuple[tuple[tuple[int, int], ...], ...]] = {
    "breakout": (((76, 1), (77, 2)),),
    "space_invaders": (((102, 2), (104, 2)),),
    "pong": (((13, 0),), ((14, 0),)),
}
DIGITS = (*"0123456789", " ")

# Words of the sentences about each game.
WORDS: dict[str, tuple[str, ...]] = {
    "pong": (
        *("no", "ball", "upper", "lower", "left", "right", "moving", "up", "down"),
        *("player", "above", "below", "level", "with", "it", ","),
    ),
}


def variables(game: str, ram: NDArray[np.uint8]) -> dict[str, int]:
    """The known variables in RAM [128]. UsageError for a game whose RAM is not documented here."""
    if game not in VARIABLES:
        raise unknown("game with known variables", game, VARIABLES)
    return {name: int(ram[place]) for name, place in VARIABLES[game].items()}


def score(game: str, ram: NDArray[np.uint8], before: NDArray[np.uint8]) -> str | None:
    """The numbers on the screen, as displayed, such as `012` or `3 15`; None while they are changing.

    `ram` [128] is the RAM now, `before` a step earlier: the screen lags by a frame. UsageError for a game whose scores are unknown.
    """
    if game not in SCORES:
        raise unknown("game with a known score", game, SCORES)
    now, old = (" ".join(_number(places, one) for places in SCORES[game]) for one in (ram, before))
    return now if now == old else None


def _number(places: tuple[tuple[int, int], ...], ram: NDArray[np.uint8]) -> str:
    """A number as text: all decimal digits in half-bytes, or a byte without leading zeros."""
    return "".join(f"{ram[place]:02x}"[-digits:] if digits else str(ram[place]) for place, digits in places)


def sentence(game: str, ram: NDArray[np.uint8], before: NDArray[np.uint8]) -> str | None:
    """A sentence about the moment, such as `ball upper left, moving down right, player below it`; None while it is changing.

    `ram` [128] is the RAM now, `before` a step earlier. UsageError for a game without such sentences.
    """
    if game not in WORDS:
        raise unknown("game with sentences", game, WORDS)
    now, old = variables(game, ram), variables(game, before)
    if (now["ball_y"] == 0) != (old["ball_y"] == 0):
        return None
    if now["ball_y"] == 0:  # between two points
        return "no ball"
    to_x, to_y = now["ball_x"] - old["ball_x"], now["ball_y"] - old["ball_y"]
    if 0 in (to_x, to_y):
        return None
    # Centres on the screen, whose field has its middle at (80, 114); paddles are 16 rows high.
    x, y, player_y = now["ball_x"] - 48, now["ball_y"] - 12, now["player_y"] - 5.5
    place = f"{'upper' if y < 114 else 'lower'} {'left' if x < 80 else 'right'}"
    way = f"{'up' if to_y < 0 else 'down'} {'left' if to_x < 0 else 'right'}"
    player = "level with" if abs(player_y - y) <= 8 else "above" if player_y < y else "below"
    return f"ball {place}, moving {way}, player {player} it"
