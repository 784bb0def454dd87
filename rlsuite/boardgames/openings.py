"""Random openings, which make games between deterministic players differ."""

import numpy as np

from rlsuite.core.game import Game, Row


def random_opening(game: Game, moves: int, rng: np.random.Generator) -> tuple[list[int], Row]:
    """`moves` random moves from the start, fewer where the next one would end the game, and the row that they lead to."""
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
