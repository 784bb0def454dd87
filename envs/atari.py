"""Atari on ale-py's C++ vector env. Shapes: L environments, S stacked planes.

Two protocols. `classic` (Mnih et al. 2015): up to 30 no-ops at the start of a game, every action carried out. `sticky` (Machado
et al. 2018): with probability 0.25 the emulator repeats the previous action; no no-ops. Both: 4 frames a step, the maximum of the
last two, grey planes, a game ends at game over or after 108,000 frames (a time limit, not a terminal), rewards raw.

The C++ env delivers single planes; they are stacked here as [L,H,W,S] and handed out as the view [L,S,H,W], which is
channels_last in memory, the layout that convolutions want. The stack is zero before an episode's first plane.
"""

from typing import Any, Literal

import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from pydantic import Field, model_validator

from rlsuite.config.schema import EnvSection, refuse_ignored
from rlsuite.envs import atari_game

STICKY_PROBABILITY = 0.25


class Config(EnvSection):
    num_envs: int = Field(16, ge=1, le=4096)
    """Games played side by side."""
    protocol: Literal["classic", "sticky"] = "classic"
    """How episodes begin and actions act: up to `noop_max` no-ops, or sticky actions (Machado et al. 2018)."""
    full_action_set: bool = False
    """All 18 actions instead of those that the game uses."""
    life_loss: bool = False
    """A lost life is terminal for the learner; the game goes on."""
    fire_reset: bool = False
    """Press FIRE after a reset where the game has that button."""
    height: int = Field(84, ge=16, le=210)
    """Height of a frame in pixels."""
    width: int = Field(84, ge=16, le=160)
    """Width of a frame in pixels."""
    stack: int = Field(4, ge=1, le=16)
    """Frames stacked to one observation."""
    frame_skip: int = Field(4, ge=1, le=60)
    """Emulator frames that an action lasts."""
    noop_max: int = Field(30, ge=0, le=1000)
    """Most no-ops at the start of an episode; protocol classic only."""
    max_frames: int = Field(108_000, ge=1)
    """Emulator frames of an episode, those of the no-ops not counted."""
    flicker: float = Field(0.0, ge=0, lt=1)
    """Probability that a frame is blank (Hausknecht & Stone 2015)."""

    @model_validator(mode="after")
    def _counts(self) -> "Config":
        if self.protocol != "classic":
            refuse_ignored(self, ("noop_max",), "protocol = classic")
        return self


class FrameStack:
    """The newest S planes of each environment; blank before the first plane of an episode. [L,H,W,S] in memory."""

    def __init__(self, num_envs: int, shape: tuple[int, ...]):
        """`shape`: (S,H,W)."""
        stack, height, width = shape
        self.planes = np.zeros((num_envs, height, width, stack), np.uint8)

    def push(self, newest: NDArray[np.uint8], first: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Planes [L,H,W], `first` [L] marks first observations -> the stacks, as the view [L,S,H,W]. Earlier views stay valid."""
        planes = np.empty_like(self.planes)
        # One copy shifted by a byte moves every plane but the newest, which the next line writes.
        planes.reshape(-1)[:-1] = self.planes.reshape(-1)[1:]
        planes[..., -1] = newest
        planes[first, ..., :-1] = 0
        self.planes = planes
        return planes.transpose(0, 3, 1, 2)


class StackedAtari(VectorEnv[NDArray[np.uint8], NDArray[np.int64], Any]):
    """AtariVectorEnv with the frame stack outside and, in `info["terminal"]`, the life-loss signal."""

    def __init__(self, config: Config, num_envs: int, threads: int, full_colour: bool = False):
        game = atari_game(config.id)
        if game is None:
            raise ValueError(f"{config.id} is no packaged Atari game")
        sticky = config.protocol == "sticky"
        self.planes = AtariVectorEnv(
            game,
            num_envs,
            num_threads=min(threads, num_envs),
            max_num_frames_per_episode=config.max_frames,
            repeat_action_probability=STICKY_PROBABILITY if sticky else 0.0,
            full_action_space=config.full_action_set,
            autoreset_mode=AutoresetMode.NEXT_STEP,
            img_height=210 if full_colour else config.height,
            img_width=160 if full_colour else config.width,
            grayscale=not full_colour,
            stack_num=1,
            frameskip=config.frame_skip,
            maxpool=True,
            noop_max=0 if sticky else config.noop_max,
            episodic_life=False,
            reward_clipping=False,
            use_fire_reset=config.fire_reset,
        )
        self.config, self.num_envs = config, num_envs
        shape = (config.stack, config.height, config.width)
        self.single_observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.single_action_space = self.planes.single_action_space
        self.action_space = self.planes.action_space
        self.metadata = {
            "autoreset_mode": AutoresetMode.NEXT_STEP,
            "frame_stack": config.stack,
            "frames_per_step": config.frame_skip,
            "render_modes": ["rgb_array"],  # by the twin of `ColourTwin`
        }
        self._stack = FrameStack(num_envs, shape)
        self._ended = np.zeros(num_envs, bool)  # the next step of these environments is a reset
        self._lives = np.zeros(num_envs, np.int32)
        self._rng = np.random.default_rng()

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        if options:
            raise ValueError("partial resets are not supported: environments reset themselves on the step after an end")
        planes, info = self.planes.reset(seed=seed if not isinstance(seed, list) else np.array(seed))
        if seed is not None:
            self._rng = np.random.default_rng(seed)  # type: ignore[arg-type]  # a list holds numbers
        self._ended[:] = False
        self._lives = info["lives"].copy()
        return self._stack.push(self._flickering(planes[:, 0]), np.ones(self.num_envs, bool)), dict(info)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        planes, reward, terminated, truncated, info = self.planes.step(actions)
        seen = self._stack.push(self._flickering(planes[:, 0]), self._ended)  # [L,S,H,W]
        lost = (info["lives"] < self._lives) & ~self._ended & (self._lives > 0)
        self._lives = info["lives"].copy()
        self._ended = terminated | truncated
        info = dict(info)
        if self.config.life_loss:
            info["terminal"] = terminated | lost
        return seen, reward.astype(np.float32), terminated, truncated, info

    def _flickering(self, planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Planes [L,H,W], blank where chance says so."""
        if self.config.flicker == 0:
            return planes
        seen: NDArray[np.bool_] = self._rng.random(self.num_envs) >= self.config.flicker
        return planes * seen[:, None, None]


class ColourTwin:
    """The same games in colour and full size, for videos: the same seed and the same actions give the same games."""

    def __init__(self, config: Config, num_envs: int):
        self._env = StackedAtari(config, num_envs, threads=1, full_colour=True).planes

    def reset(self, seed: int) -> NDArray[np.uint8]:
        """-> [L,210,160,3]."""
        frames: NDArray[np.uint8] = self._env.reset(seed=seed)[0][:, 0]
        return frames

    def step(self, actions: NDArray[np.int64]) -> NDArray[np.uint8]:
        frames: NDArray[np.uint8] = self._env.step(actions)[0][:, 0]
        return frames


_KEYS = {"UP": "up", "DOWN": "down", "LEFT": "left", "RIGHT": "right", "FIRE": "space"}


def keys(config: Config) -> tuple[dict[frozenset[str], int], int | None]:
    """Keys held together -> action, for someone who plays, and the action when none is held."""
    name = "".join(word.capitalize() for word in str(atari_game(config.id)).split("_"))
    with gymnasium.make(f"ALE/{name}-v5", full_action_space=config.full_action_set) as env:
        meanings = env.unwrapped.get_action_meanings()  # type: ignore[attr-defined]
    found = {}
    for action, meaning in enumerate(meanings):
        parts = frozenset(key for name, key in _KEYS.items() if name in meaning)
        if parts:
            found[parts] = action
    return found, meanings.index("NOOP")


def make(config: Config, num_envs: int, threads: int = 1, render: bool = False) -> StackedAtari:
    """`threads` of the C++ pool. `render` changes nothing here: videos come from a `ColourTwin`."""
    return StackedAtari(config, num_envs, threads)
