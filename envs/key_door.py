"""`rlsuite/KeyDoor-v0`: rooms in a row, each but the last behind a locked door whose key lies in the room before it.

The one reward, +1, waits at the goal in the last room; the game is cut after `max_steps`. Keys, doors and the goal are placed anew
in every episode. Chance finds the goal next to never (0 of 7,168 random episodes of the default): `solve` shows the way.

Observation [5S+4+R] f32, of the room that the player is in (S its side, R rooms): row and column of the player (one-hot), row and
column of what lies here (of the key, or the goal; zero if nothing does), whether that is the goal, the row of the door (one-hot,
the last of S+1 places: none), whether it is open, whether the key is held, the room (one-hot). Actions: up, down, left, right, use
(picks up the key that one stands on, unlocks the door beside which one stands). A step to the right through an open door leads into
the next room. Into walls nothing moves.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.config.schema import EnvSection

UP, DOWN, LEFT, RIGHT, USE = range(5)
Ints = NDArray[np.int64]


class Config(EnvSection):
    rooms: int = Field(4, ge=1, le=100)
    """Rooms in a row, each closed by a locked door."""
    size: int = Field(6, ge=2, le=50)
    """S: squares along the side of a room."""
    max_steps: int = Field(200, ge=1)
    """Agent steps of an episode."""


class KeyDoor(VectorEnv[NDArray[np.float32], Ints, Any]):
    """Per environment [L]: the cells of the player and of the key or goal (-1: taken), the row of the door (S: none)."""

    FIELDS = ("room", "row", "column", "item_row", "item_column", "door", "held", "open", "t", "ended")

    def __init__(self, num_envs: int, rooms: int, size: int, max_steps: int, render: bool = False):
        self.num_envs, self.rooms, self.size, self.max_steps = num_envs, rooms, size, max_steps
        self.render_mode = "rgb_array" if render else None
        width = 5 * size + 4 + rooms
        self.single_observation_space = gymnasium.spaces.Box(0, 1, (width,), np.float32)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.single_action_space = gymnasium.spaces.Discrete(5)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": ["rgb_array"]}
        self._rng = np.random.default_rng()
        self.room, self.row, self.column, self.item_row, self.item_column, self.door, self.t = np.zeros((7, num_envs), np.int64)
        self.held, self.open, self.ended = np.zeros((3, num_envs), bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """One stream of random numbers serves all environments, so only a single seed makes sense."""
        if isinstance(seed, list):
            raise TypeError("one seed for all environments, not a list")
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._begin(np.ones(self.num_envs, bool))
        return self._observe(), {}

    def step(
        self, actions: Ints
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        again = self.ended.copy()
        playing = ~again
        row = np.clip(self.row + (actions == DOWN) - (actions == UP), 0, self.size - 1)
        column = self.column + (actions == RIGHT) - (actions == LEFT)
        inside = (column >= 0) & (column < self.size)
        at_door = (self.row == self.door) & (self.column == self.size - 1)
        through = playing & at_door & self.open & (actions == RIGHT)
        moves = playing & (actions != USE) & inside
        self.row = np.where(moves, row, self.row)
        self.column = np.where(moves, column, self.column)

        here = playing & (actions == USE)
        last = self.room == self.rooms - 1
        takes = here & ~last & (self.row == self.item_row) & (self.column == self.item_column)
        self.held |= takes
        self.item_row = np.where(takes, -1, self.item_row)
        self.item_column = np.where(takes, -1, self.item_column)
        unlocks = here & at_door & self.held
        self.open |= unlocks
        self.held &= ~unlocks

        self._enter(through)
        self.t += playing
        won = playing & (self.room == self.rooms - 1) & (self.row == self.item_row) & (self.column == self.item_column)
        truncated = playing & ~won & (self.t >= self.max_steps)
        self.ended = won | truncated
        self._begin(again)
        return self._observe(), won.astype(np.float32), won, truncated, {}

    def _begin(self, num_envs: NDArray[np.bool_]) -> None:
        self.t[num_envs] = 0
        self.room[num_envs] = -1
        self.ended[num_envs] = False
        self.door[num_envs] = self._rng.integers(self.size, size=self.num_envs)[num_envs]  # the row at which one enters
        self._enter(num_envs)

    def _enter(self, num_envs: NDArray[np.bool_]) -> None:
        """The next room, at its left side in the row of the door."""
        item_row, door = self._rng.integers(self.size, size=(2, self.num_envs))
        column = self._rng.integers(1, self.size, size=self.num_envs)
        self.room[num_envs] += 1
        self.row[num_envs], self.column[num_envs] = self.door[num_envs], 0
        self.item_row[num_envs], self.item_column[num_envs] = item_row[num_envs], column[num_envs]
        self.door[num_envs] = np.where(self.room == self.rooms - 1, self.size, door)[num_envs]  # the last has none
        self.held[num_envs], self.open[num_envs] = False, False

    def _observe(self) -> NDArray[np.float32]:
        goal = (self.room == self.rooms - 1) & (self.item_row >= 0)
        parts = [
            _one_hot(self.row, self.size),
            _one_hot(self.column, self.size),
            _one_hot(self.item_row, self.size),
            _one_hot(self.item_column, self.size),
            goal[:, None],
            _one_hot(self.door, self.size + 1),
            self.open[:, None],
            self.held[:, None],
            _one_hot(self.room, self.rooms),
        ]
        return np.concatenate(parts, 1).astype(np.float32)

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """The room of every environment, [H,W,3] u8: player white, key yellow, goal green, door red, or blue once open."""
        return tuple(self._picture(env_index) for env_index in range(self.num_envs))

    def _picture(self, env_index: int) -> NDArray[np.uint8]:
        cells = np.full((self.size + 2, self.size + 2, 3), 90, np.uint8)
        cells[1:-1, 1:-1] = 20
        last = self.room[env_index] == self.rooms - 1
        if not last:
            cells[self.door[env_index] + 1, -1] = (60, 90, 220) if self.open[env_index] else (200, 40, 40)
        if self.item_row[env_index] >= 0:
            cells[self.item_row[env_index] + 1, self.item_column[env_index] + 1] = (40, 200, 60) if last else (230, 200, 30)
        cells[self.row[env_index] + 1, self.column[env_index] + 1] = (255, 230, 160) if self.held[env_index] else 255
        return cells.repeat(24, 0).repeat(24, 1)

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, for an exact resume."""
        return {**{name: getattr(self, name).copy() for name in self.FIELDS}, "rng": self._rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        for name in self.FIELDS:
            setattr(self, name, state[name].copy())
        self._rng.bit_generator.state = state["rng"]


def _one_hot(index: Ints, size: int) -> NDArray[np.bool_]:
    """index [L] -> [L,size]; a row of zeros for -1."""
    return np.asarray(index[:, None] == np.arange(size))


def solve(env: KeyDoor, observation: NDArray[np.float32]) -> Ints:
    """Actions [L] of a player who knows the way: to the key, to the door, to the goal. For `rlsuite record --policy`."""
    last = env.room == env.rooms - 1
    to_door = ~last & (env.held | env.open)
    row = np.where(to_door, env.door, env.item_row)
    column = np.where(to_door, env.size - 1, env.item_column)
    there = (env.row == row) & (env.column == column)
    walk = np.where(
        env.row < row,
        DOWN,
        np.where(env.row > row, UP, np.where(env.column < column, RIGHT, LEFT)),  # rows first
    )
    return np.where(there, np.where(env.open & ~last, RIGHT, USE), walk)


def keys(config: Config) -> tuple[dict[frozenset[str], int], int | None]:
    """Of someone who plays, and what happens when none is held: the game waits."""
    names = {"up": UP, "down": DOWN, "left": LEFT, "right": RIGHT, "space": USE}
    return {frozenset({name}): action for name, action in names.items()}, None


def make(config: Config, num_envs: int, threads: int = 1, render: bool = False) -> KeyDoor:
    """`threads` has nothing to do here: the game is arithmetic."""
    return KeyDoor(num_envs, config.rooms, config.size, config.max_steps, render)
