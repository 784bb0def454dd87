"""`rlsuite/KeyDoor-v0`: a row of rooms with locked doors between them. The key to each door is in the room before it.

The only reward is +1 at the goal in the last room; an episode is truncated after `max_steps`. Keys, doors and the goal get new
places in every episode. Random play almost never finds the goal (in 0 of 7,168 episodes with the default settings); `solve` does.

Observation [5S+4+R] f32, of the room that the player is in (S: side of a room, R: number of rooms): row and column of the player
(one-hot); row and column of the key or the goal (one-hot, all zeros if there is neither); whether it is the goal; the row of the
door (one-hot over S+1 values, the last of which means none); whether the door is open; whether the player holds the key; the room
(one-hot).

Actions: up, down, left, right, and use, which picks up the key under the player, or unlocks the door next to the player. Moving
right through an open door leads to the next room. Moving into a wall has no effect.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.config.schema import EnvSection
from rlsuite.envs.vector import OneGeneratorEnv

UP, DOWN, LEFT, RIGHT, USE = range(5)
Ints = NDArray[np.int64]


class Config(EnvSection):
    """Settings of KeyDoor."""

    rooms: int = Field(4, ge=1, le=100)
    """Number of rooms, with a locked door between neighbours."""
    size: int = Field(6, ge=2, le=50)
    """Side length of a room, in squares."""
    max_steps: int = Field(200, ge=1)
    """Time limit of an episode in agent steps."""


class KeyDoor(OneGeneratorEnv[NDArray[np.float32]]):
    """KeyDoor games as a vector environment.

    State per environment, [L]: the positions of the player and of the key or goal (-1: taken), the row of the door (S: none).
    """

    FIELDS = ("room", "row", "column", "item_row", "item_column", "door", "held", "open", "t", "ended")

    def __init__(self, num_envs: int, rooms: int, size: int, max_steps: int, render: bool = False):
        space = gymnasium.spaces.Box(0, 1, (5 * size + 4 + rooms,), np.float32)
        super().__init__(num_envs, space, actions=5, render_modes=["rgb_array"])
        self.rooms, self.size, self.max_steps = rooms, size, max_steps
        self.render_mode = "rgb_array" if render else None
        self.room, self.row, self.column, self.item_row, self.item_column, self.door, self.t = np.zeros((7, num_envs), np.int64)
        self.held, self.open, self.ended = np.zeros((3, num_envs), bool)

    def _restart(self) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self._begin(np.ones(self.num_envs, bool))
        return self._observe(), {}

    def step(
        self, actions: Ints
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of all environments, actions [L]; NEXT_STEP autoreset."""
        restarting = self.ended.copy()
        playing = ~restarting
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
        self._begin(restarting)
        return self._observe(), won.astype(np.float32), won, truncated, {}

    def _begin(self, which: NDArray[np.bool_]) -> None:
        """Starts new episodes in the environments `which` [L]."""
        self.t[which] = 0
        self.room[which] = -1
        self.ended[which] = False
        self.door[which] = self._rng.integers(self.size, size=self.num_envs)[which]  # the row in which the player enters
        self._enter(which)

    def _enter(self, which: NDArray[np.bool_]) -> None:
        """Moves the player of the environments `which` [L] to the left side of the next room, in the row of the door."""
        item_row, door = self._rng.integers(self.size, size=(2, self.num_envs))
        column = self._rng.integers(1, self.size, size=self.num_envs)
        self.room[which] += 1
        self.row[which], self.column[which] = self.door[which], 0
        self.item_row[which], self.item_column[which] = item_row[which], column[which]
        self.door[which] = np.where(self.room == self.rooms - 1, self.size, door)[which]  # the last room has none
        self.held[which], self.open[which] = False, False

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
        """An image [H,W,3] u8 of each environment's room: white player, yellow key, green goal, door red, or blue once open."""
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
        """Restores what `get_state` returned."""
        for name in self.FIELDS:
            setattr(self, name, state[name].copy())
        self._rng.bit_generator.state = state["rng"]


def _one_hot(index: Ints, size: int) -> NDArray[np.bool_]:
    """index [L] -> one-hot rows [L,size]; all zeros for -1."""
    return np.asarray(index[:, None] == np.arange(size))


def solve(env: KeyDoor, observation: NDArray[np.float32]) -> Ints:
    """A scripted policy that solves every game, for `rlsuite record --policy`: actions [L] to the key, the door and the goal."""
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
    """For keyboard play: the action for each set of keys, and None for no key: the game waits until one is held."""
    names = {"up": UP, "down": DOWN, "left": LEFT, "right": RIGHT, "space": USE}
    return {frozenset({name}): action for name, action in names.items()}, None


def make(config: Config, num_envs: int, threads: int = 1, render: bool = False) -> KeyDoor:
    """The environments of a run. `threads` has no effect."""
    return KeyDoor(num_envs, config.rooms, config.size, config.max_steps, render)
