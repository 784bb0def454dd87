"""What is known of the 128 bytes of RAM of Atari games: variables for probes."""

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


def variables(game: str, ram: NDArray[np.uint8]) -> dict[str, int]:
    """The known variables in RAM [128]. UsageError for a game whose RAM is not documented here."""
    if game not in VARIABLES:
        raise unknown("game with known variables", game, VARIABLES)
    return {name: int(ram[place]) for name, place in VARIABLES[game].items()}
