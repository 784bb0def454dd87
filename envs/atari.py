"""Atari environments on ale-py's C++ vector environment.

There are two protocols. `classic` (Mnih et al. 2015): up to 30 no-ops at the start of a game, and every action is executed.
`sticky` (Machado et al. 2018): no no-ops, and with probability 0.25 the emulator repeats the previous action. In both, a step lasts
4 frames and yields the maximum of the last two as a grey plane; an episode ends at game over or after 108,000 frames (a time limit,
not a terminal); rewards are not clipped.

The C++ environment returns single planes. They are stacked here as [L,H,W,S], and observations are the view [L,S,H,W]:
channels_last in memory, the fastest layout for convolutions. Before an episode's first plane the stack is zero.

Shapes: L environments, S stacked planes of H x W pixels.
"""

from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from pydantic import Field, field_validator

from rlsuite.config.conditions import OnlyIf
from rlsuite.config.schema import EnvSection
from rlsuite.core.errors import UsageError
from rlsuite.envs import atari_game
from rlsuite.envs.atari_colours import Game, Palette, RecolouredGames, change_of

STICKY_PROBABILITY = 0.25


class Config(EnvSection):
    """Settings of Atari games."""

    num_envs: int = Field(16, ge=1, le=4096)
    """Games played in parallel."""
    protocol: Literal["classic", "sticky"] = "classic"
    """Source of randomness: up to `noop_max` no-ops at the start (classic), or sticky actions (sticky; Machado et al. 2018)."""
    full_action_set: bool = False
    """Use all 18 actions instead of only those that the game uses."""
    life_loss: bool = False
    """Treat the loss of a life as terminal for the learner; the game continues."""
    fire_reset: bool = False
    """Press FIRE after a reset in games that have it."""
    height: int = Field(84, ge=16, le=210)
    """Height of a frame in pixels."""
    width: int = Field(84, ge=16, le=160)
    """Width of a frame in pixels."""
    stack: int = Field(4, ge=1, le=16)
    """Planes stacked into an observation."""
    frame_skip: int = Field(4, ge=1, le=60)
    """Emulator frames per action."""
    noop_max: Annotated[int, OnlyIf("protocol = classic")] = Field(30, ge=0, le=1000)
    """Maximum number of no-ops at the start of an episode (protocol classic)."""
    max_frames: int = Field(108_000, ge=1)
    """Time limit of an episode in emulator frames, not counting no-ops."""
    flicker: float = Field(0.0, ge=0, lt=1)
    """Probability that a frame is blank (Hausknecht & Stone 2015)."""
    recolour: str | None = None
    """Change colours before conversion to grey (slower): inverted or hue(degrees=180); null: the game's own colours."""

    @field_validator("recolour")
    @classmethod
    def _known_recolour(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                change_of(value)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return value


class FrameStack:
    """Stacks the newest S planes of each environment, [L,H,W,S] u8; planes before an episode's first are zero."""

    def __init__(self, num_envs: int, shape: tuple[int, ...]):
        """`shape`: (S,H,W)."""
        stack, height, width = shape
        self.planes = np.zeros((num_envs, height, width, stack), np.uint8)

    def push(self, newest: NDArray[np.uint8], first: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Adds the planes `newest` [L,H,W] and returns the stacks as a view [L,S,H,W]; views returned earlier stay valid.

        `first` [L] bool marks the first observations of episodes, whose stacks hold no older planes.
        """
        planes = np.empty_like(self.planes)
        # A single copy, shifted by one byte, moves every plane but the newest, which the next line writes.
        planes.reshape(-1)[:-1] = self.planes.reshape(-1)[1:]
        planes[..., -1] = newest
        planes[first, ..., :-1] = 0
        self.planes = planes
        return planes.transpose(0, 3, 1, 2)


class StackedAtari(VectorEnv[NDArray[np.uint8], NDArray[np.int64], Any]):
    """ale-py's AtariVectorEnv with our own frame stack, and lost lives marked in `info["terminal"]`."""

    def __init__(self, config: Config, num_envs: int, threads: int, full_colour: bool = False):
        """`full_colour`: make `planes` return full-size RGB frames, for a `ColourTwin`."""
        game = atari_game(config.id)
        if game is None:
            raise ValueError(f"env.id = {config.id} is not an Atari game that ale-py includes")
        planes = _ale_py if config.recolour is None else _recoloured
        self.planes = planes(config, game, num_envs, threads, full_colour)
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
        self._under_way = False  # between `step_async` and `step_wait`

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts new games in all environments: observations [L,S,H,W] u8 and `info`. A list seeds each environment."""
        if options:
            raise ValueError(
                "reset(options=...): partial resets are not supported; environments reset themselves on the step after an end"
            )
        if isinstance(seed, list) and None in seed:
            raise TypeError("reset(seed=[...]) takes a number for every environment, not None")
        planes, info = self.planes.reset(seed=seed if not isinstance(seed, list) else np.array(seed))
        if seed is not None:
            self._rng = np.random.default_rng(seed)  # type: ignore[arg-type]  # a list holds numbers
        self._ended[:] = False
        self._lives = info["lives"].copy()
        return self._stack.push(self._flickering(planes[:, 0]), np.ones(self.num_envs, bool)), dict(info)

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of all environments, actions [L]; NEXT_STEP autoreset, rewards f32 [L]."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Begins a step of all environments, actions [L], on the emulators' own threads; `step_wait` returns its results."""
        self.planes.send(actions)
        self._under_way = True

    def step_wait(self) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """The results of the step that `step_async` began."""
        planes, reward, terminated, truncated, info = self.planes.recv()
        self._under_way = False
        seen = self._stack.push(self._flickering(planes[:, 0]), self._ended)  # [L,S,H,W]
        lost = (info["lives"] < self._lives) & ~self._ended & (self._lives > 0)
        self._lives = info["lives"].copy()
        self._ended = terminated | truncated
        info = dict(info)
        if self.config.life_loss:
            info["terminal"] = terminated | lost
        return seen, reward.astype(np.float32), terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """Waits for a step that is still under way."""
        if self._under_way:
            self.step_wait()

    def _flickering(self, planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Planes [L,H,W], each blank with probability `flicker`."""
        if self.config.flicker == 0:
            return planes
        seen: NDArray[np.bool_] = self._rng.random(self.num_envs) >= self.config.flicker
        return planes * seen[:, None, None]


def _ale_py(config: Config, game: str, num_envs: int, threads: int, full_colour: bool) -> AtariVectorEnv:
    """ale-py's vector environment, of single planes or, with `full_colour`, of RGB frames."""
    sticky = config.protocol == "sticky"
    return AtariVectorEnv(
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


def _recoloured(config: Config, game: str, num_envs: int, threads: int, full_colour: bool) -> RecolouredGames:
    """The environment for `recolour`, which steps one game after the other: `threads` has no effect."""
    sticky = config.protocol == "sticky"
    assert config.recolour is not None
    palette = Palette(change_of(config.recolour), grey=not full_colour)
    games = [
        Game(
            game,
            palette,
            frame_skip=config.frame_skip,
            max_frames=config.max_frames,
            noop_max=0 if sticky else config.noop_max,
            sticky=STICKY_PROBABILITY if sticky else 0.0,
            full_action_set=config.full_action_set,
            fire_reset=config.fire_reset,
        )
        for _ in range(num_envs)
    ]
    return RecolouredGames(games, None if full_colour else (config.height, config.width))


class ColourTwin:
    """Full-size colour frames of the games in a `StackedAtari`, for videos: the same seed and actions give the same games."""

    def __init__(self, config: Config, num_envs: int):
        self._env = StackedAtari(config, num_envs, threads=1, full_colour=True).planes

    def reset(self, seed: int) -> NDArray[np.uint8]:
        """Starts new games and returns the frames [L,210,160,3] u8."""
        frames: NDArray[np.uint8] = self._env.reset(seed=seed)[0][:, 0]
        return frames

    def step(self, actions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """One step, actions [L]; returns the frames [L,210,160,3] u8."""
        frames: NDArray[np.uint8] = self._env.step(actions)[0][:, 0]
        return frames


_KEYS = {"UP": "up", "DOWN": "down", "LEFT": "left", "RIGHT": "right", "FIRE": "space"}


def keys(config: Config) -> tuple[dict[frozenset[str], int], int | None]:
    """For keyboard play: the action for each set of keys held together, and the action when no key is held."""
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
    """The environments of a run, with `threads` in the C++ pool. `render` has no effect: videos come from a `ColourTwin`."""
    return StackedAtari(config, num_envs, threads)
