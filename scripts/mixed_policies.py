"""Players whose games differ, for `rlsuite record --policy scripts/mixed_policies.py:cartpole`.

Shapes: L environments.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rlsuite
from rlsuite.envs.key_door import DOWN, LEFT, RIGHT, UP, USE, solve
from rlsuite.evaluation.saved_agent import LoadedAgent

_OPPOSITE = np.zeros(5, np.int64)
_OPPOSITE[[UP, DOWN, LEFT, RIGHT, USE]] = DOWN, UP, RIGHT, LEFT, UP


class CartPole:
    """A rule that balances the pole, in each game with another share of random moves."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.share: dict[int, float] = {}
        self.steps: dict[int, int] = {}

    def __call__(self, env: Any, observation: NDArray[np.float32]) -> NDArray[np.int64]:
        """Actions [L] for observations [L,4]."""
        count = len(observation)
        begins = [np.abs(one).max() < 0.05 and self.steps.get(i, 9) > 8 for i, one in enumerate(observation)]  # a guess
        for i in range(count):
            if i not in self.share or begins[i]:
                self.share[i], self.steps[i] = self.rng.choice([0.0, 0.3, 0.5, 0.7, 0.85, 1.0]), 0
            self.steps[i] += 1
        place, speed, angle, turning = observation.T
        good = (angle + 0.4 * turning + 0.02 * place + 0.05 * speed > 0).astype(np.int64)
        follows = self.rng.random(count) > np.array([self.share[i] for i in range(count)])
        return np.where(follows, good, self.rng.integers(2, size=count))


class KeyDoor:
    """Solves one game in four; in the others half of the moves go the wrong way, and half are random."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.bad: dict[int, bool] = {}

    def __call__(self, env: Any, observation: NDArray[np.float32]) -> NDArray[np.int64]:
        """Actions [L]."""
        best, count = solve(env, observation), env.num_envs
        for i in range(count):
            if i not in self.bad or env.t[i] == 0:
                self.bad[i] = self.rng.random() < 0.75
        other = np.where(self.rng.random(count) < 0.5, _OPPOSITE[best], self.rng.integers(5, size=count))
        return np.where([self.bad[i] for i in range(count)], other, best)


class Pong:
    """The trained agent of Pong with a quarter of random moves: without them it plays the same few games again and again."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, env: Any, observation: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Actions [L]."""
        best, _ = _pong().act(observation)
        return np.where(self.rng.random(len(best)) < 0.25, self.rng.integers(6, size=len(best)), best)


@cache
def _pong() -> LoadedAgent:
    return rlsuite.load("pretrained:pong")


cartpole, key_door, pong = CartPole(), KeyDoor(), Pong()
