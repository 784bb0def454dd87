"""Several Atari games in one vector environment, for a net that plays them all: `env.id: ALE/Pong-v5+ALE/Breakout-v5`.

Environment i plays game i mod G. The actions are those of the first game, then those of the second, and so on; action masks mark
those of an environment's game. So every game has its own outputs in the net's last layer, and the games share everything else.

Shapes: L environments, G games, A actions of all games together.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from pydantic import model_validator

from rlsuite.core.masks import KEY
from rlsuite.envs import atari


class Config(atari.Config):
    """Settings of a mixture of Atari games."""

    @model_validator(mode="after")
    def _as_many_of_each(self) -> "Config":
        games = self.id.count("+") + 1
        if self.num_envs % games:
            raise ValueError(f"num_envs {self.num_envs} is not a multiple of the {games} games")
        return self


class AtariMixture(VectorEnv[NDArray[np.uint8], NDArray[np.int64], Any]):
    """A vector environment of several Atari games; environment i plays game i mod G."""

    def __init__(self, config: Config, num_envs: int, threads: int):
        games = config.id.split("+")
        self.games = games[:num_envs]  # with fewer environments than games, the last ones have none
        self.rows = [np.arange(g, num_envs, len(games)) for g in range(len(self.games))]
        self.parts = [
            atari.StackedAtari(config.model_copy(update={"id": game}), len(rows), threads)
            for game, rows in zip(self.games, self.rows, strict=True)
        ]
        counts = list(actions_of(config).values())
        self.starts = np.cumsum([0, *counts])
        self.num_envs = num_envs
        first = self.parts[0]
        self.single_observation_space = first.single_observation_space
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.single_action_space = gymnasium.spaces.Discrete(sum(counts))
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.metadata = {**first.metadata, "info_keys": (KEY,), "render_modes": [], "games": self.games}
        self.offset = np.zeros(num_envs, np.int64)  # [L] number of the first action of an environment's game
        self.mask = np.zeros((num_envs, sum(counts)), bool)  # [L,A]
        for g, rows in enumerate(self.rows):
            self.offset[rows] = self.starts[g]
            self.mask[rows, self.starts[g] : self.starts[g + 1]] = True

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts new games in all environments; see `StackedAtari.reset`."""
        seeds = seed if isinstance(seed, list) else [None if seed is None else seed + i for i in range(self.num_envs)]
        found = []
        for part, rows in zip(self.parts, self.rows, strict=True):
            own = [seeds[i] for i in rows]
            found.append(part.reset(seed=None if None in own else own, options=options))
        return self._joined([one for one, _ in found]), {KEY: self.mask}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of all environments, actions [L]; NEXT_STEP autoreset, rewards f32 [L]."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Begins a step of all environments, actions [L]; `step_wait` returns its results."""
        own = actions - self.offset
        for part, rows in zip(self.parts, self.rows, strict=True):
            part.step_async(own[rows])

    def step_wait(self) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """The results of the step that `step_async` began."""
        found = [part.step_wait() for part in self.parts]
        columns: list[Any] = list(zip(*found, strict=True))
        seen, reward, terminated, truncated = (self._joined(list(column)) for column in columns[:4])
        info = {"terminal": self._joined([one[4].get("terminal", one[2]) for one in found]), KEY: self.mask}
        return seen, reward, terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the games."""
        for part in self.parts:
            part.close()

    def _joined(self, parts: list[NDArray[Any]]) -> NDArray[Any]:
        """Joins the games' arrays [L of the game,...] into one [L,...]; images stay channels_last in memory."""
        first = parts[0]
        moved = [np.moveaxis(part, 1, -1) if part.ndim == 4 else part for part in parts]
        out = np.empty((self.num_envs, *moved[0].shape[1:]), first.dtype)
        for part, rows in zip(moved, self.rows, strict=True):
            out[rows] = part
        return np.moveaxis(out, -1, 1) if first.ndim == 4 else out


def actions_of(config: Config) -> dict[str, int]:
    """The number of actions of each game in a mixture, by its id."""
    found = {}
    for game in config.id.split("+"):
        one = atari.StackedAtari(config.model_copy(update={"id": game}), 1, 1)
        found[game] = int(one.single_action_space.n)  # type: ignore[attr-defined]
        one.close()
    return found


def make(config: Config, num_envs: int, threads: int = 1, render: bool = False) -> AtariMixture:
    """The environments of a run. `render` has no effect: there are no videos of several games."""
    return AtariMixture(config, num_envs, threads)
