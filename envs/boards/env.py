"""A board game as a vector of environments, the agent against an opponent: id `connect_four`, `go(size=9,komi=7.5)`, ...

The agent has the first move in every second episode of an environment, even environments beginning with it. Reward: its result, at the end.
Observation [C,H,W] int8, as the agent sees it when it is to move; `info` tells the whole position (`row` [R]) and the legal actions
(`action_mask` [A]). Agents of self-play learn without the opponent: it grades them.
Shapes: L environments, A actions, R bytes a row, [C,H,W] planes.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.boardgames.games import make_game, own_game
from rlsuite.boardgames.gtp_opponent import RESIGNS
from rlsuite.boardgames.opponents import make_opponent
from rlsuite.config.schema import EnvSection
from rlsuite.core.errors import UsageError


class Config(EnvSection):
    num_envs: int = Field(128, ge=1, le=65_536)
    opponent: str = "mcts(simulations=100)"  # or random, gtp(command=...): see `opponents`
    opening_moves: int = Field(0, ge=0)  # up to so many random moves before a game: an opponent without chance needs them


class Boards(VectorEnv[NDArray[np.int8], NDArray[np.int64], Any]):
    def __init__(self, name: str, num_envs: int, opponent: str, opening_moves: int = 0):
        self.game, self.opening_moves = make_game(name), opening_moves
        self.opponent = make_opponent(opponent, self.game)
        self.num_envs = num_envs
        self.single_observation_space = gymnasium.spaces.Box(-128, 127, self.game.observation_shape, np.int8)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.single_action_space = gymnasium.spaces.Discrete(self.game.num_actions)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.metadata = {
            "autoreset_mode": AutoresetMode.NEXT_STEP,
            "game": own_game(name) or self.game.name,
            "info_keys": ("row", "action_mask"),
        }
        self._rng = np.random.default_rng()
        self.rows = np.stack([self.game.new_state().row] * num_envs)  # [L,R]
        self._side = np.arange(num_envs) % 2  # [L] the player that the agent is
        self._over = np.zeros(num_envs, bool)  # [L] the next step begins a new game
        self._history: list[list[int]] = [[] for _ in range(num_envs)]  # actions since the start, of both
        self._resigned = np.zeros(num_envs, bool)  # [L] the opponent has given up

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        if isinstance(seed, list):
            raise TypeError("one seed for all environments, not a list")
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._side = np.arange(self.num_envs) % 2
        self._over[:] = False
        self._deal()
        return self._planes(), self._info()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """UsageError for an illegal action."""
        rules = self.game.rules
        playing = np.flatnonzero(~self._over).tolist()
        legal = np.empty(self.game.num_actions, np.int32)
        for env_index in playing:
            count = rules.legal(self.rows[env_index], legal)
            if actions[env_index] not in legal[:count]:
                raise UsageError(
                    f"{self.game.name}: action {actions[env_index]} of environment {env_index} is illegal; info['action_mask'] says what is legal"
                )
        self._next_games()
        for env_index in playing:
            self._play(env_index, int(actions[env_index]))
        self._reply(np.arange(self.num_envs))
        reward = np.zeros(self.num_envs, np.float32)
        for env_index in range(self.num_envs):
            self._over[env_index], value = rules.outcome(self.rows[env_index])
            if self._resigned[env_index]:
                self._over[env_index], reward[env_index] = True, 1.0
            elif self._over[env_index]:
                reward[env_index] = value if self._side[env_index] == 0 else -value
        return self._planes(), reward, self._over.copy(), np.zeros(self.num_envs, bool), self._info()

    def begin_next(self) -> tuple[NDArray[np.int8], dict[str, Any]]:
        """A new game in every environment, the other side beginning."""
        self._side ^= 1
        self._over[:] = False
        self._deal()
        return self._planes(), self._info()

    def _deal(self) -> None:
        """A new game in every environment, in which the agent is to move: an opponent that ends one by its first reply gets another."""
        num_envs = np.arange(self.num_envs)
        while num_envs.size:
            self._begin(num_envs)
            self._reply(num_envs)
            num_envs = np.array(
                [env_index for env_index in num_envs.tolist() if self.game.rules.outcome(self.rows[env_index])[0]], np.int64
            )

    def _next_games(self) -> None:
        fresh = np.flatnonzero(self._over)
        self._side[fresh] ^= 1
        self._begin(fresh)

    def _reply(self, num_envs: NDArray[np.int64]) -> None:
        """The opponent moves in `environments` until it is the agent's turn or the game is over."""
        rules = self.game.rules
        while True:
            waits = [
                env_index
                for env_index in num_envs.tolist()
                if not self._resigned[env_index]
                and not rules.outcome(self.rows[env_index])[0]
                and rules.player(self.rows[env_index]) != self._side[env_index]
            ]
            if not waits:
                return
            answers = self.opponent(self.rows[waits], [self._history[env_index] for env_index in waits], self._rng)
            for env_index, action in zip(waits, answers, strict=True):
                if action == RESIGNS:
                    self._resigned[env_index] = True
                else:
                    self._play(env_index, int(action))
            num_envs = np.array(waits)

    def _begin(self, num_envs: NDArray[np.int64]) -> None:
        """New games, behind random moves that do not end them."""
        rules, legal = self.game.rules, np.empty(self.game.num_actions, np.int32)
        for env_index in num_envs.tolist():
            self.rows[env_index], self._history[env_index], self._resigned[env_index] = self.game.new_state().row, [], False
            for _ in range(int(self._rng.integers(self.opening_moves + 1)) if self.opening_moves else 0):
                action, after = (
                    int(legal[self._rng.integers(rules.legal(self.rows[env_index], legal))]),
                    self.rows[env_index].copy(),
                )
                rules.play(after, action)
                if rules.outcome(after)[0]:
                    break
                self._play(env_index, action)

    def _play(self, env_index: int, action: int) -> None:
        self.game.rules.play(self.rows[env_index], action)
        self._history[env_index].append(action)

    def _planes(self) -> NDArray[np.int8]:
        planes = np.empty((self.num_envs, *self.game.observation_shape), np.int8)
        for env_index in range(self.num_envs):
            self.game.rules.encode(self.rows[env_index], planes[env_index])
        return planes

    def _info(self) -> dict[str, Any]:
        mask, legal = np.zeros((self.num_envs, self.game.num_actions), bool), np.empty(self.game.num_actions, np.int32)
        for env_index in range(self.num_envs):
            if not self._resigned[env_index]:
                mask[env_index, legal[: self.game.rules.legal(self.rows[env_index], legal)]] = True
        return {"row": self.rows.copy(), "action_mask": mask}

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, for an exact resume."""
        return {
            "rows": self.rows.copy(),
            "side": self._side.copy(),
            "over": self._over.copy(),
            "resigned": self._resigned.copy(),
            "history": [list(moves) for moves in self._history],
            "rng": self._rng.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.rows, self._side, self._over = state["rows"].copy(), state["side"].copy(), state["over"].copy()
        self._history = [list(moves) for moves in state["history"]]
        self._resigned = state["resigned"].copy()
        self._rng.bit_generator.state = state["rng"]

    def close_extras(self, **kwargs: Any) -> None:
        self.opponent.close()


def make(config: Config, num_envs: int, threads: int = 1, render: bool = False) -> Boards:
    """UsageError for an unknown game, parameter or opponent."""
    if render:
        raise UsageError(f"{config.id} has no pictures: print(str(state)) shows a board")
    return Boards(config.id, num_envs, config.opponent, config.opening_moves)
