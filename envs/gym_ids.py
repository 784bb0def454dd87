"""Our ids in Gymnasium's own registry: there once both packages are imported, gymnasium first, or an environment was made.

`gymnasium.make("rlsuite.envs.gym_ids:rlsuite/Connect4-v0")` works in any case.
"""

import gymnasium

BOARD_IDS = {
    "TicTacToe": "tic_tac_toe",
    "Connect4": "connect_four",
    "Othello": "othello",
    "Gomoku": "gomoku",
    "Hex": "hex",
    "Go": "go",
}


def register() -> None:
    """`gymnasium.make("rlsuite/Connect4-v0")`, ...: keyword arguments are the game's parameters and those of `BoardEnv`."""
    for name, game in BOARD_IDS.items():
        if f"rlsuite/{name}-v0" in gymnasium.registry:
            continue
        gymnasium.register(
            f"rlsuite/{name}-v0", "rlsuite.envs.boards.faces:BoardEnv", kwargs={"game": game}, disable_env_checker=True
        )


register()
