"""Random openings, which make games between deterministic players differ."""

import numpy as np

from rlsuite.core.game import Game, Row


def random_opening(game: Game, moves: int, rng: np.random.Generator) -> tuple[list[int], Row]:
    """`moves` random moves from the start, and the row that they lead to; fewer moves if the next one would end the game."""
    rules, row, actions = game.rules, game.new_state().row, list[int]()
    legal = np.empty(game.num_actions, np.int32)  # [A]
    for _ in range(moves):
        action, after = int(legal[rng.integers(rules.legal(row, legal))]), row.copy()
        rules.play(after, action)
        if rules.outcome(after)[0]:
            break
        row = after
        actions.append(action)
    return actions, row
