"""Registers our board games with Gymnasium, as `rlsuite/Connect4-v0` and so on.

The ids are available once rlsuite has been imported after gymnasium, or once a board environment was made by rlsuite.
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
    """Registers the ids. Keyword arguments of `gymnasium.make` are the parameters of the game and of `BoardEnv`."""
    for name, game in BOARD_IDS.items():
        if f"rlsuite/{name}-v0" in gymnasium.registry:
            continue
        gymnasium.register(
            f"rlsuite/{name}-v0", "rlsuite.envs.boards.faces:BoardEnv", kwargs={"game": game}, disable_env_checker=True
        )


register()
