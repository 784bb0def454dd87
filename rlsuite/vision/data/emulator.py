"""An Atari game without Gymnasium, and its frames as agents see them. Shapes: S stacked planes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ale_py import ALEInterface, LoggerMode, roms
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError
from rlsuite.envs import atari_game
from rlsuite.envs.atari_colours import SCREEN, area_weights
from rlsuite.evaluation.saved_agent import LoadedAgent, Saved

SEEN = (4, 84, 84)  # planes, height and width of an agent's default observation
SKIP = 4  # frames in a step
WHOLE = (0, SCREEN[0])  # rows
USUAL = {"frame_skip": SKIP, "protocol": "classic", "flicker": 0.0, "fire_reset": False}  # `env.*` of agents that can play here


class Frame(NamedTuple):
    """One moment of a game."""

    planes: NDArray[np.uint8]  # [S,H,W], an agent's observation
    screen: NDArray[np.uint8]  # [210,160], indices into the palette
    ram: NDArray[np.uint8]  # [128]
    before: NDArray[np.uint8]  # [128] one step earlier


class View:
    """A view of a game: stacked grey planes of one size."""

    def __init__(self, shape: tuple[int, int, int], rows: tuple[int, int] = WHOLE):
        """`shape`: (S,H,W) of the planes. `rows`: the rows of the screen that they show."""
        self.part = slice(*rows)
        self.rows, self.columns = area_weights(rows[1] - rows[0], shape[1]), area_weights(SCREEN[1], shape[2])
        self.planes = np.zeros(shape, np.uint8)  # the newest last

    def see(self, grey: NDArray[np.uint8]) -> None:
        """Appends a screen [210,160], and drops the oldest plane."""
        self.planes[:-1] = self.planes[1:]
        self.planes[-1] = np.rint(self.rows @ grey[self.part].astype(np.float64) @ self.columns.T)


class Emulator:
    """One game without Gymnasium, as agents see it: four frames a step, the maximum of the last two, in grey planes."""

    def __init__(
        self,
        env_id: str,
        seed: int,
        shape: tuple[int, int, int] = SEEN,
        full_action_set: bool = False,
        rows: tuple[int, int] = WHOLE,
    ):
        """`shape` (S,H,W) of the observation, which shows these `rows` of the screen. UsageError for an unknown game."""
        game = atari_game(env_id)
        if game is None:
            raise UsageError(f"{env_id} is not a packaged Atari game")
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale = ALEInterface()
        self.ale.setInt("random_seed", seed)
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.loadROM(str(roms.get_rom_path(game)))
        self.game = game
        self.actions = self.ale.getLegalActionSet() if full_action_set else self.ale.getMinimalActionSet()
        self.rng = np.random.default_rng(seed)
        self.views = [View(shape, rows)]
        self.before = np.zeros(128, np.uint8)  # RAM before the last step
        self.reward = 0.0  # of the last step
        self.reset()

    @property
    def planes(self) -> NDArray[np.uint8]:
        """The current observation, [S,H,W]."""
        return self.views[0].planes

    def also(self, shape: tuple[int, int, int]) -> View:
        """Adds another view, of shape (S,H,W)."""
        self.views.append(View(shape))
        self.views[-1].see(self.ale.getScreenGrayscale().reshape(SCREEN))
        return self.views[-1]

    def reset(self) -> None:
        """Starts a game with up to 30 no-ops, as in Mnih et al. 2015."""
        self.ale.reset_game()
        for _ in range(int(self.rng.integers(1, 31))):
            self.ale.act(0)
        for view in self.views:
            view.planes[:] = 0
        self._see(self.ale.getScreenGrayscale())
        self.before = self.ale.getRAM().copy()

    def step(self, action: int) -> bool:
        """Plays one step. True if the game ended, and another one started."""
        self.reward, self.before = 0.0, self.ale.getRAM().copy()
        for _ in range(SKIP - 1):
            self.reward += self.ale.act(self.actions[action])
        last_but_one = self.ale.getScreenGrayscale()
        self.reward += self.ale.act(self.actions[action])
        self._see(np.maximum(last_but_one, self.ale.getScreenGrayscale()))
        if self.ale.game_over():
            self.reset()
            return True
        return False

    def _see(self, grey: NDArray[np.uint8]) -> None:
        for view in self.views:
            view.see(grey.reshape(SCREEN))

    def frame(self) -> Frame:
        """A copy of the current moment."""
        return Frame(self.planes.copy(), self.ale.getScreen().reshape(SCREEN).copy(), self.ale.getRAM().copy(), self.before.copy())


def frames(
    env_id: str, count: int, seed: int, shape: tuple[int, int, int] = SEEN, every: int = 4, rows: tuple[int, int] = WHOLE
) -> Iterator[Frame]:
    """Yields frames of random games, in which every action is repeated for one to eight steps so that objects move around."""
    emulator = Emulator(env_id, seed, shape, rows=rows)
    action, left = 0, 0
    for number in range(count * every):
        if left == 0:
            action, left = int(emulator.rng.integers(len(emulator.actions))), int(emulator.rng.integers(1, 9))
        left -= 1
        emulator.step(action)
        if number % every == every - 1:
            yield emulator.frame()


def played_frames(
    saved: Saved,
    count: int,
    seed: int,
    shape: tuple[int, int, int] | None = None,
    every: int = 4,
    random: float = 0.05,
    rows: tuple[int, int] = WHOLE,
) -> Iterator[Frame]:
    """Yields frames of games that an agent plays; a share `random` of its actions is random, so that games differ.

    `shape`: (S,H,W) of the frames' planes, which show these `rows` of the screen; None: that of the agent's observations.
    """
    stack, height, width = saved.spec.observation_shape
    emulator = Emulator(saved.config.env.id, seed, shape or (stack, height, width), saved.spec.num_actions == 18, rows)
    seen = emulator.also((stack, height, width))
    player = LoadedAgent(saved, seed)
    state, first = player.initial_state(1), np.ones(1, bool)
    for step in range(count * every):
        action, state = player.act(seen.planes[None], state, first=first, reward=np.array([emulator.reward]))
        chosen = int(action[0]) if emulator.rng.random() >= random else int(emulator.rng.integers(len(emulator.actions)))
        if saved.agent.sees_last_action:
            state = (*state[:-1], torch.tensor([chosen], device=saved.device))
        first = np.array([emulator.step(chosen)])
        if step % every == every - 1:
            yield emulator.frame()


def atari_player(path: Path) -> Saved:
    """A saved agent for `played_frames`. UsageError if it does not play an Atari game, or plays it in a different environment."""
    saved = Saved(path, device="auto")
    env: Any = saved.config.env
    if atari_game(env.id) is None:
        raise UsageError(f"{path} plays {env.id}, not an Atari game")
    if len(saved.spec.observation_shape) != 3:
        raise UsageError(f"{path} does not see pictures")
    for name, usual in USUAL.items():
        if getattr(env, name) != usual:
            raise UsageError(f"{path} was trained with env.{name} = {getattr(env, name)!r}, but here games have {usual!r}")
    return saved
