"""Board games: name -> "module:function" that makes the `Game`, imported on first use."""

GAMES = {
    "connect_four": "rlsuite.envs.boards.connect_four:connect_four",
    "go": "rlsuite.envs.boards.go:go",
    "gomoku": "rlsuite.envs.boards.in_a_row:gomoku",
    "hex": "rlsuite.envs.boards.hex:hex_game",
    "openspiel": "rlsuite.envs.boards.openspiel:openspiel",
    "othello": "rlsuite.envs.boards.othello:othello",
    "tic_tac_toe": "rlsuite.envs.boards.in_a_row:tic_tac_toe",
}
