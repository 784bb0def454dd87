"""A board game as a vector of lanes, the agent against an opponent: id `connect_four`, `go(size=9,komi=7.5)`, ...

The agent has the first move in every second episode of a lane, even lanes beginning with it. Reward: its result, at the end.
Observation [C,H,W] int8, as the agent sees it when it is to move; `info` tells the whole position (`row` [R]) and the legal actions
(`action_mask` [A]). Agents of self-play learn without the opponent: it grades them.
Shapes: L lanes, A actions, R bytes a row, [C,H,W] planes.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.config import EnvSection
from rlsuite.envs.boards import make_game
from rlsuite.envs.boards.opponents import make_opponent
from rlsuite.errors import UsageError


class Config(EnvSection):
    lanes: int = Field(128, ge=1, le=65_536)
    opponent: str = "mcts(simulations=100)"  # or random, gtp(command=...): see `opponents`


class Boards(VectorEnv[NDArray[np.int8], NDArray[np.int64], Any]):
    def __init__(self, name: str, lanes: int, opponent: str):
        self.game = make_game(name)
        self.opponent = make_opponent(opponent, self.game)
        self.num_envs = lanes
        self.single_observation_space = gymnasium.spaces.Box(-128, 127, self.game.observation_shape, np.int8)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, lanes)
        self.single_action_space = gymnasium.spaces.Discrete(self.game.num_actions)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, lanes)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "game": self.game.name, "tells": ("row", "action_mask")}
        self._rng = np.random.default_rng()
        self._rows = np.stack([self.game.new_state().row] * lanes)  # [L,R]
        self._side = np.arange(lanes) % 2  # [L] the player that the agent is
        self._over = np.zeros(lanes, bool)  # [L] the next step begins a new game

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        if isinstance(seed, list):
            raise TypeError("one seed for all lanes, not a list")
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._side = np.arange(self.num_envs) % 2
        self._rows[:] = self.game.new_state().row
        self._over[:] = False
        self._reply(np.arange(self.num_envs))
        return self._see()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """UsageError for an illegal action."""
        rules = self.game.rules
        fresh = np.flatnonzero(self._over)
        playing = np.flatnonzero(~self._over)
        self._rows[fresh] = self.game.new_state().row
        self._side[fresh] ^= 1
        legal = np.empty(self.game.num_actions, np.int32)
        for lane in playing.tolist():
            count = rules.legal(self._rows[lane], legal)
            if actions[lane] not in legal[:count]:
                raise UsageError(
                    f"{self.game.name}: action {actions[lane]} of lane {lane} is illegal; info['action_mask'] says what is legal"
                )
            rules.play(self._rows[lane], int(actions[lane]))
        self._reply(np.arange(self.num_envs))
        reward = np.zeros(self.num_envs, np.float32)
        for lane in range(self.num_envs):
            self._over[lane], value = rules.outcome(self._rows[lane])
            if self._over[lane]:
                reward[lane] = value if self._side[lane] == 0 else -value
        return *self._see_and(reward), np.zeros(self.num_envs, bool), self._info()

    def _see_and(self, reward: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.bool_]]:
        return self._planes(), reward, self._over.copy()

    def _see(self) -> tuple[NDArray[np.int8], dict[str, Any]]:
        return self._planes(), self._info()

    def _reply(self, lanes: NDArray[np.int64]) -> None:
        """The opponent moves in `lanes` until it is the agent's turn or the game is over."""
        rules = self.game.rules
        while True:
            waits = [
                lane
                for lane in lanes.tolist()
                if not rules.outcome(self._rows[lane])[0] and rules.player(self._rows[lane]) != self._side[lane]
            ]
            if not waits:
                return
            for lane, action in zip(waits, self.opponent(self._rows[waits], self._rng), strict=True):
                rules.play(self._rows[lane], int(action))
            lanes = np.array(waits)

    def _planes(self) -> NDArray[np.int8]:
        planes = np.empty((self.num_envs, *self.game.observation_shape), np.int8)
        for lane in range(self.num_envs):
            self.game.rules.encode(self._rows[lane], planes[lane])
        return planes

    def _info(self) -> dict[str, Any]:
        mask, legal = np.zeros((self.num_envs, self.game.num_actions), bool), np.empty(self.game.num_actions, np.int32)
        for lane in range(self.num_envs):
            mask[lane, legal[: self.game.rules.legal(self._rows[lane], legal)]] = True
        return {"row": self._rows.copy(), "action_mask": mask}

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, for an exact resume."""
        return {
            "rows": self._rows.copy(),
            "side": self._side.copy(),
            "over": self._over.copy(),
            "rng": self._rng.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self._rows, self._side, self._over = state["rows"].copy(), state["side"].copy(), state["over"].copy()
        self._rng.bit_generator.state = state["rng"]

    def close_extras(self, **kwargs: Any) -> None:
        self.opponent.close()


def make(config: Config, lanes: int, threads: int = 1, render: bool = False) -> Boards:
    """UsageError for an unknown game, parameter or opponent."""
    if render:
        raise UsageError(f"{config.id} has no pictures: print(str(state)) shows a board")
    return Boards(config.id, lanes, config.opponent)
