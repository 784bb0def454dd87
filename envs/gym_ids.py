"""Registers our environments with Gymnasium, as `rlsuite/Connect4-v0` and so on.

Importing rlsuite registers the ids, before or after gymnasium is imported. In a process that does not import rlsuite,
`gymnasium.make("rlsuite.envs.gym_ids:rlsuite/Connect4-v0")` works.
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
# Without wrappers, so that `env.action_masks()` needs no `unwrapped`; the environments themselves refuse a step before a reset.
_BARE = {"disable_env_checker": True, "order_enforce": False}


def register() -> None:
    """Registers the ids. `gymnasium.make` takes the keywords of the game and of `BoardEnv`, or the keys of `env` in a config."""
    for name, game in BOARD_IDS.items():
        _register(name, "rlsuite.envs.boards.faces:BoardEnv", {"game": game})
    for name in ("KeyDoor", "Recall"):
        _register(name, f"rlsuite.envs.single:{name}Env", {})


def _register(name: str, entry_point: str, kwargs: dict[str, str]) -> None:
    if f"rlsuite/{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"rlsuite/{name}-v0", entry_point, kwargs=kwargs, **_BARE)  # type: ignore[arg-type]


register()
