"""Frames of Atari games, labelled by the emulator itself. Shapes: S stacked planes, P colours of the palette.

Every pixel of the console's screen is an index into its palette, so colours are classes (`labels: colours`); connected pieces of
one colour are objects (`labels: boxes`), which is exact where objects have a colour of their own and do not touch, as in Pong.
The game's state is in its 128 bytes of RAM: `VARIABLES` names some of them for probes, and OCAtari reads objects from them
(`labels: objects`). With `labels: frames`, pictures are maps of the colours, and their targets the frames; with `labels: maps` it
is the other way round.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numba
import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.core.errors import UsageError, unknown
from rlsuite.envs import atari_game
from rlsuite.vision.data import Data, DataSection, InMemory, padded
from rlsuite.vision.data.objects import Objects

SEEN = (4, 84, 84)  # planes, height and width of an agent's default observation
SKIP = 4  # frames in a step
SCREEN = (210, 160)

# Rows of the screen where things move; scores and borders lie outside.
PLAYFIELD = {"pong": (34, 194), "breakout": (57, 196), "freeway": (24, 193), "boxing": (38, 177), "space_invaders": (20, 195)}

# Bytes of RAM (Anand et al. 2019, Unsupervised State Representation Learning in Atari).
VARIABLES: dict[str, dict[str, int]] = {
    "pong": {"ball_x": 49, "ball_y": 54, "player_y": 51, "enemy_y": 50},
    "breakout": {"ball_x": 99, "ball_y": 101, "player_x": 72},
    "space_invaders": {"player_x": 28, "invaders_x": 26, "invaders_y": 24, "invaders_left": 17},
    "boxing": {"player_x": 32, "player_y": 34, "enemy_x": 33, "enemy_y": 35},
    "freeway": {"player_y": 14, "score": 103},
    "ms_pacman": {"player_x": 10, "player_y": 16},
    "seaquest": {"player_x": 70, "player_y": 97, "oxygen": 102},
    "montezuma_revenge": {"player_x": 42, "player_y": 43, "room": 3},
    "tennis": {"ball_x": 16, "ball_y": 17, "player_x": 26, "player_y": 24, "enemy_x": 27, "enemy_y": 25},
    "qbert": {"player_x": 43, "player_y": 67},
}


def area_weights(size: int, smaller: int) -> NDArray[np.float64]:
    """Area interpolation of a side, as in the agents' environment: the weights [smaller,size] of old pixels in new ones."""
    edges = np.arange(smaller + 1) * size / smaller
    pixel = np.arange(size)
    share = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return share.clip(0) * smaller / size


class Config(DataSection):
    """Frames of an Atari game."""

    id: str = "ALE/Pong-v5"
    """Game (`rlsuite list envs`)."""
    labels: Literal["colours", "boxes", "objects", "frames", "maps"] = "colours"
    """Colour of every pixel, boxes of pieces of one colour, or objects that the optional package OCAtari reads from the RAM;
    frames: the pictures are maps of the colours, and the newest plane of a frame is what to make of them; maps: the reverse."""
    pictures: int = Field(3000, ge=10)
    """Training pictures; there are a fifth as many to test on, from games of their own."""
    stack: int = Field(4, ge=1, le=16)
    """Planes of a picture, as agents see them; the labels are those of the newest."""
    height: int = Field(84, ge=16, le=210)
    """Height of a picture in pixels."""
    width: int = Field(84, ge=16, le=160)
    """Width of a picture in pixels."""
    every: int = Field(4, ge=1)
    """Agent steps from one picture to the next."""
    rarest: float = Field(1e-4, ge=0, lt=1)
    """Colours with a smaller share of all pixels than this count as background."""


class Frame(NamedTuple):
    """One moment of a game."""

    planes: NDArray[np.uint8]  # [S,H,W], an agent's observation
    screen: NDArray[np.uint8]  # [210,160], indices into the palette
    ram: NDArray[np.uint8]  # [128]


class Emulator:
    """One game without Gymnasium, as agents see it: four frames a step, the maximum of the last two, in grey planes."""

    def __init__(self, env_id: str, seed: int, shape: tuple[int, int, int] = SEEN, full_action_set: bool = False):
        """`shape` (S,H,W) of the observation. UsageError for an unknown game."""
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
        self.rows, self.columns = area_weights(SCREEN[0], shape[1]), area_weights(SCREEN[1], shape[2])
        self.planes = np.zeros(shape, np.uint8)
        self.reward = 0.0  # of the last step
        self.reset()

    def reset(self) -> None:
        """Starts a game with up to 30 no-ops, as in Mnih et al. 2015."""
        self.ale.reset_game()
        for _ in range(int(self.rng.integers(1, 31))):
            self.ale.act(0)
        self.planes[:] = 0
        self._see(self.ale.getScreenGrayscale())

    def step(self, action: int) -> bool:
        """Plays one step. True if the game ended, and another one started."""
        before = after = self.ale.getScreenGrayscale()
        self.reward = 0.0
        for _ in range(SKIP):
            self.reward += self.ale.act(self.actions[action])
            before, after = after, self.ale.getScreenGrayscale()
        self._see(np.maximum(before, after))
        if self.ale.game_over():
            self.reset()
            return True
        return False

    def _see(self, grey: NDArray[np.uint8]) -> None:
        self.planes[:-1] = self.planes[1:]
        self.planes[-1] = np.rint(self.rows @ grey.reshape(SCREEN).astype(np.float64) @ self.columns.T)

    def frame(self) -> Frame:
        """A copy of the current moment."""
        return Frame(self.planes.copy(), self.ale.getScreen().reshape(SCREEN).copy(), self.ale.getRAM().copy())


def frames(env_id: str, count: int, seed: int, shape: tuple[int, int, int] = SEEN, every: int = 4) -> Iterator[Frame]:
    """Frames of random games, in which every action is repeated for one to eight steps, so that things move about."""
    emulator = Emulator(env_id, seed, shape)
    action, left = 0, 0
    for number in range(count * every):
        if left == 0:
            action, left = int(emulator.rng.integers(len(emulator.actions))), int(emulator.rng.integers(1, 9))
        left -= 1
        emulator.step(action)
        if number % every == every - 1:
            yield emulator.frame()


def load(config: Config, seed: int) -> Data:
    """Training frames for the seed; the test frames come from other games, the same for every seed."""
    game = atari_game(config.id)
    if game is None:
        raise UsageError(f"data.id={config.id} is not a packaged Atari game")
    if config.labels == "boxes" and game not in PLAYFIELD:
        raise unknown("game with boxes", game, PLAYFIELD)
    shape = (config.stack, config.height, config.width)
    train = list(frames(config.id, config.pictures, 1000 + seed, shape, config.every))
    test = list(frames(config.id, max(10, config.pictures // 5), 7, shape, config.every))
    if config.labels in ("colours", "frames", "maps"):
        palette = colours([frame.screen for frame in train], config.rarest)
        names = tuple(f"colour_{number}" for number in palette)
        parts = [
            InMemory(_stacked(part), {"mask": np.stack([class_map(f.screen, palette, shape[1:]) for f in part])})
            for part in (train, test)
        ]
        if config.labels == "colours":
            return Data(parts[0], parts[1], names, shape, ("segment",))
        return _with_maps(parts, names, from_maps=config.labels == "frames")
    parts = []
    if config.labels == "boxes":
        kinds = movers([frame.screen for frame in train], PLAYFIELD[game], config.rarest)
        names = tuple(f"colour_{number}" for number in kinds)
    else:
        names = Objects(config.id).names
    for part in (train, test):
        if config.labels == "boxes":
            found = [boxes_of(frame.screen, kinds, PLAYFIELD[game], shape[1:]) for frame in part]
        else:
            reader = Objects(config.id)
            found = [scaled(*reader.boxes(frame.ram), shape[1:]) for frame in part]
        labels: dict[str, NDArray[Any]] = {
            "boxes": padded([boxes for boxes, _ in found], 0),
            "classes": padded([classes for _, classes in found], -1),
        }
        parts.append(InMemory(_stacked(part), labels))
    return Data(parts[0], parts[1], names, shape, ("detect",))


def _with_maps(parts: list[InMemory], colours: tuple[str, ...], from_maps: bool) -> Data:
    """From pictures with a class for every pixel: maps with a plane for every class and the newest planes, one from the other."""
    turned = []
    for images, labels in parts:
        maps = (labels["mask"][:, None] == np.arange(len(colours))[:, None, None]).astype(np.uint8) * 255
        turned.append(InMemory(maps, {"target": images[:, -1:]}) if from_maps else InMemory(images, {"target": maps}))
    return Data(turned[0], turned[1], ("grey",) if from_maps else colours, turned[0].images.shape[1:], ("translate",))


def _stacked(part: list[Frame]) -> NDArray[np.uint8]:
    return np.stack([frame.planes for frame in part])


def colours(screens: list[NDArray[np.uint8]], rarest: float) -> list[int]:
    """Colours whose share of all pixels is larger than `rarest`, most frequent (the background) first."""
    counts = np.bincount(np.concatenate([screen.ravel() for screen in screens[:: max(1, len(screens) // 500)]]), minlength=256)
    order = np.argsort(-counts, kind="stable")
    return [int(number) for number in order if counts[number] > rarest * counts.sum() and counts[number] > 0]


def class_map(screen: NDArray[np.uint8], palette: list[int], size: tuple[int, int] = SEEN[1:]) -> NDArray[np.uint8]:
    """The classes of a screen at `size`, each that of the pixel in the middle: [210,160] -> [H,W]."""
    table = np.zeros(256, np.uint8)
    for place, number in enumerate(palette):
        table[number] = place
    rows, columns = (((np.arange(n) + 0.5) * whole / n).astype(np.int64) for n, whole in zip(size, SCREEN, strict=True))
    return table[screen[rows[:, None], columns]]


def movers(screens: list[NDArray[np.uint8]], rows: tuple[int, int], rarest: float = 1e-4) -> list[int]:
    """Colours in the playfield (its `rows`) except the background, the most frequent one."""
    inner = [screen[rows[0] : rows[1]] for screen in screens[:: max(1, len(screens) // 500)]]
    counts = np.bincount(np.concatenate([screen.ravel() for screen in inner]), minlength=256)
    ground = int(np.argmax(counts))
    return [int(number) for number in np.flatnonzero(counts > rarest * counts.sum()) if number != ground]


def boxes_of(
    screen: NDArray[np.uint8], kinds: list[int], rows: tuple[int, int], size: tuple[int, int] = SEEN[1:]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes [M,4], in pixels of `size` (H,W), and classes [M] of the connected pieces of one colour in the playfield."""
    table = np.full(256, -1, np.int64)
    table[kinds] = np.arange(len(kinds))
    inner = table[screen[rows[0] : rows[1]]]
    found = components(inner)  # [M,5]
    boxes = found[:, :4].astype(np.float32)
    boxes[:, 1::2] += rows[0]
    return scaled(boxes, found[:, 4], size)


def scaled(
    boxes: NDArray[np.float32], classes: NDArray[np.int64], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes in pixels of the screen as boxes in pixels of `size` (H,W); classes unchanged."""
    return boxes * np.array([size[1] / SCREEN[1], size[0] / SCREEN[0]] * 2, np.float32), classes


@numba.njit(cache=True)
def components(classes: NDArray[np.int64]) -> NDArray[np.int64]:  # pragma: no cover (compiled)
    """4-connected components of one class (-1: none): [M,5] of x1, y1, x2, y2 (outer edges) and class."""
    height, width = classes.shape
    seen = np.zeros((height, width), np.bool_)
    stack = np.empty((height * width, 2), np.int64)
    found = np.empty((height * width, 5), np.int64)
    count = 0
    for y0 in range(height):
        for x0 in range(width):
            kind = classes[y0, x0]
            if kind < 0 or seen[y0, x0]:
                continue
            seen[y0, x0] = True
            stack[0, 0], stack[0, 1] = y0, x0
            top = 1
            left, high, right, low = x0, y0, x0, y0
            while top > 0:
                top -= 1
                y, x = stack[top, 0], stack[top, 1]
                left, right, high, low = min(left, x), max(right, x), min(high, y), max(low, y)
                for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                    v, u = y + dy, x + dx
                    if 0 <= v < height and 0 <= u < width and not seen[v, u] and classes[v, u] == kind:
                        seen[v, u] = True
                        stack[top, 0], stack[top, 1] = v, u
                        top += 1
            found[count, 0], found[count, 1], found[count, 2], found[count, 3], found[count, 4] = (
                left,
                high,
                right + 1,
                low + 1,
                kind,
            )
            count += 1
    return found[:count].copy()


def variables(game: str, ram: NDArray[np.uint8]) -> dict[str, int]:
    """The known variables in RAM [128]. UsageError for a game whose RAM is not documented here."""
    if game not in VARIABLES:
        raise unknown("game with known variables", game, VARIABLES)
    return {name: int(ram[place]) for name, place in VARIABLES[game].items()}
