"""Atari games in other colours: the screen's colours are changed before it is converted to grey and resized.

Colours are changed after taking the maximum of a step's last two screens. This maximum preserves flickering and moving objects on a
dark background; on inverted screens, it would erase a moving ball instead.

ale-py's vector environment converts the console's palette to grey in C++, where colours cannot be changed. So these games are
stepped in Python, one after the other, with the same protocol; only the random generator of the no-ops differs.

Shapes: L games, K colours, H x W pixels.
"""

import colorsys
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from numpy.typing import NDArray

from rlsuite.config.spec_string import check_keywords, parse_call
from rlsuite.core.errors import UsageError, unknown

SCREEN = (210, 160)
LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue; the rounded sums are the console's greys

Bytes = NDArray[np.uint8]
Change = Callable[[Bytes], Bytes]  # colours [K,3] -> [K,3]


def inverted(colours: Bytes) -> Bytes:
    """Inverts colours: replaces each channel's value by 255 minus it."""
    return 255 - colours


def hue(colours: Bytes, degrees: float = 180) -> Bytes:
    """Rotates the hue (in HSV) by `degrees`: 120 turns blue into red, red into green and green into blue."""
    turned = []
    for colour in colours:
        angle, saturation, value = colorsys.rgb_to_hsv(*(colour / 255).tolist())
        turned.append(colorsys.hsv_to_rgb((angle + degrees / 360) % 1, saturation, value))
    found: Bytes = np.rint(255 * np.array(turned).reshape(-1, 3)).astype(np.uint8)
    return found


CHANGES: dict[str, Callable[..., Bytes]] = {"inverted": inverted, "hue": hue}


def change_of(text: str, also: tuple[str, ...] = ()) -> Change:
    """The colour change named by a spec such as `hue(degrees=120)`.

    UsageError for an unknown name; it lists the known ones and `also`.
    """
    name, parameters = parse_call("recolour", text)
    if name not in CHANGES:
        raise unknown("recolour", name, (*CHANGES, *also))
    check_keywords(name, CHANGES[name], parameters, skip=1)
    for key, value in parameters.items():
        if isinstance(value, bool | str) or not math.isfinite(value):
            raise UsageError(f"{text}: {key} must be a finite number")
    return partial(CHANGES[name], **parameters)


def area_weights(size: int, smaller: int) -> NDArray[np.float64]:
    """Weights [smaller,size] of old pixels in new ones, for resizing along one side by area interpolation, as in ale-py."""
    edges = np.arange(smaller + 1) * size / smaller
    pixel = np.arange(size)
    share = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return share.clip(0) * smaller / size


class Palette:
    """A lookup table for the recoloured maximum of two screens of palette numbers, in grey or RGB, filled as colours appear."""

    def __init__(self, change: Change, grey: bool):
        self.change, self.grey = change, grey
        self.named = np.zeros(256, bool)
        self.colours = np.zeros((256, 3), np.uint8)  # RGB of the numbers that are `named`
        self.known = np.zeros(256 * 256, bool)  # pairs (older number, newer number) that `table` holds
        self.table = np.zeros((256 * 256,) if grey else (256 * 256, 3), np.uint8)

    def numbers(self, ale: ALEInterface) -> Bytes:
        """The palette numbers [210,160] of a game's current screen."""
        screen: Bytes = ale.getScreen()
        if not self.named[screen].all():
            numbers, places = np.unique(screen, return_index=True)
            self.colours[numbers] = ale.getScreenRGB().reshape(-1, 3)[places]
            self.named[numbers] = True
        return screen

    def maximum(self, older: Bytes, newer: Bytes) -> Bytes:
        """The recoloured maximum of two screens of palette numbers: [210,160] if grey, otherwise [210,160,3]."""
        pairs = older.astype(np.uint16) * 256 + newer
        if not self.known[pairs].all():
            self._learn(np.unique(pairs))
        seen: Bytes = self.table[pairs]
        return seen

    def _learn(self, pairs: NDArray[np.uint16]) -> None:
        older, newer = self.colours[pairs // 256], self.colours[pairs % 256]  # [K,3]
        weights = np.array(LUMINANCE)
        brighter = (older @ weights > newer @ weights)[:, None]  # ale-py takes the maximum of greys, or of each colour
        changed = self.change(np.where(brighter, older, newer) if self.grey else np.maximum(older, newer))
        self.table[pairs] = np.rint(changed @ weights).astype(np.uint8) if self.grey else changed
        self.known[pairs] = True


class Game:
    """A single Atari game in changed colours, with the protocol of `rlsuite.envs.atari`."""

    def __init__(
        self,
        rom: str,
        palette: Palette,
        *,
        frame_skip: int,
        max_frames: int,
        noop_max: int,
        sticky: float,
        full_action_set: bool,
        fire_reset: bool,
    ):
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        self.rom, self.palette = str(roms.get_rom_path(rom)), palette
        self.frame_skip, self.max_frames, self.noop_max = frame_skip, max_frames, noop_max
        self.seed(int(np.random.default_rng().integers(2**31)))
        self.actions = self.ale.getLegalActionSet() if full_action_set else self.ale.getMinimalActionSet()
        self.fire = next((action for action in self.actions if action.name == "FIRE"), None) if fire_reset else None
        self.frames = 0  # of this game, after the no-ops

    def seed(self, seed: int) -> None:
        """Seeds the emulator and the number of no-ops, for the games from here on."""
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(self.rom)
        self.rng = np.random.default_rng(seed)

    def reset(self) -> Bytes:
        """Starts a game and returns its first screen."""
        self.ale.reset_game()
        noops = int(self.rng.integers(1, self.noop_max + 1)) if self.noop_max else 0
        for _ in range(noops - (self.fire is not None)):
            self.ale.act(0)
            if self.ale.game_over():
                self.ale.reset_game()
        if self.fire is not None:
            self.ale.act(self.fire)
        self.frames = 0
        first = self.palette.numbers(self.ale)
        return self.palette.maximum(first, first)

    def step(self, action: int) -> tuple[Bytes, float, bool, bool]:
        """Plays an action -> (recoloured maximum of the last two screens, reward, whether terminated, whether truncated)."""
        reward, seen = 0.0, []
        for left in range(self.frame_skip, 0, -1):
            reward += self.ale.act(self.actions[action])
            self.frames += 1
            ended = self.ale.game_over() or self.frames >= self.max_frames
            if left <= 2 or ended:
                seen.append(self.palette.numbers(self.ale))
            if ended:
                break
        return self.palette.maximum(seen[0], seen[-1]), reward, self.ale.game_over(), self.frames >= self.max_frames


class RecolouredGames:
    """L games in other colours, with the methods of ale-py's AtariVectorEnv that `StackedAtari` calls; NEXT_STEP autoreset."""

    def __init__(self, games: list[Game], size: tuple[int, int] | None):
        """`size`: height and width of grey planes; None: screens as they are, for a `ColourTwin`."""
        self.games = games
        self.weights = None if size is None else (area_weights(SCREEN[0], size[0]), area_weights(SCREEN[1], size[1]))
        self.single_action_space = gymnasium.spaces.Discrete(len(games[0].actions))
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, len(games))
        self._ended = [False] * len(games)
        self._sent = np.zeros(len(games), np.int64)

    def reset(self, *, seed: int | NDArray[np.int64] | None = None) -> tuple[Bytes, dict[str, Any]]:
        """Starts new games: planes [L,1,H,W] or frames [L,1,210,160,3], and `info`. An array seeds each game."""
        if seed is not None:
            seeds = seed if isinstance(seed, np.ndarray) else seed + np.arange(len(self.games))
            for game, own in zip(self.games, seeds.tolist(), strict=True):
                game.seed(own)
        self._ended = [False] * len(self.games)
        return self._joined([game.reset() for game in self.games]), self._info()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Stores the actions [L] for `recv` to play."""
        self._sent = actions

    def recv(self) -> tuple[Bytes, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays the actions that were sent -> (planes or frames, rewards [L], terminated [L], truncated [L], `info`)."""
        found = [
            (game.reset(), 0.0, False, False) if ended else game.step(int(action))
            for game, ended, action in zip(self.games, self._ended, self._sent, strict=True)
        ]
        screens, rewards, over, cut = zip(*found, strict=True)
        self._ended = [one or other for one, other in zip(over, cut, strict=True)]
        return self._joined(list(screens)), np.array(rewards), np.array(over), np.array(cut), self._info()

    def step(self, actions: NDArray[np.int64]) -> tuple[Bytes, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """One step of all games, actions [L]."""
        self.send(actions)
        return self.recv()

    def _joined(self, screens: list[Bytes]) -> Bytes:
        if self.weights is not None:
            rows, columns = self.weights
            screens = [np.rint(rows @ screen.astype(np.float64) @ columns.T).astype(np.uint8) for screen in screens]
        return np.stack(screens)[:, None]

    def _info(self) -> dict[str, Any]:
        return {"lives": np.array([game.ale.lives() for game in self.games], np.int32)}
