"""Frames of Atari games, labelled by the emulator itself. Shapes: S stacked planes, P colours of the palette.

Every pixel of the console's screen is an index into its palette, so colours can be classes (`labels: colours`). Connected pieces of
one colour are objects (`labels: boxes`); this is exact if every object has its own colour and objects do not touch, as in Pong. The
game's state is in its 128 bytes of RAM, from which OCAtari reads objects (`labels: objects`), and `data.ram` the score on the
screen and a sentence (`labels: score`, `labels: sentence`). With `labels: frames`, the pictures are maps of the colours and their
targets are the frames; with `labels: maps` it is the other way round.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.config.conditions import OnlyIf
from rlsuite.config.schema import SomePath
from rlsuite.core.errors import UsageError, unknown
from rlsuite.envs import atari_game
from rlsuite.envs.atari_colours import SCREEN
from rlsuite.vision import texts
from rlsuite.vision.data import Data, DataSection, InMemory, padded
from rlsuite.vision.data import ram as rams
from rlsuite.vision.data.emulator import SEEN, WHOLE, Frame, atari_player, frames, played_frames
from rlsuite.vision.data.objects import Objects

# Rows of the screen where things move, without scores and borders.
PLAYFIELD = {"pong": (34, 194), "breakout": (57, 196), "freeway": (24, 193), "boxing": (38, 177), "space_invaders": (20, 195)}


class Config(DataSection):
    """Frames of an Atari game."""

    id: str = "ALE/Pong-v5"
    """Game (`rlsuite list envs`)."""
    labels: Literal["colours", "boxes", "objects", "frames", "maps", "score", "sentence"] = "colours"
    """Colour of every pixel, boxes of pieces of one colour, or objects that the optional package OCAtari reads from the RAM;
    frames: the pictures are maps of the colours, and the newest plane of a frame is what to make of them; maps: the reverse;
    score: the digits on the screen; sentence: what happens in the game."""
    player: SomePath = None
    """Who plays: a run, a checkpoint or pretrained:NAME; null: random actions, each for one to eight steps."""
    random: Annotated[float, OnlyIf("player")] = Field(0.05, ge=0, le=1)
    """Share of the player's actions that are random instead, so that games differ."""
    pictures: int = Field(3000, ge=10)
    """Number of training pictures; the test set is a fifth as large, from other games."""
    stack: int = Field(4, ge=1, le=16)
    """Planes of a picture, as agents see them; the labels are those of the newest."""
    height: int = Field(84, ge=16, le=210)
    """Height of a picture in pixels."""
    width: int = Field(84, ge=16, le=160)
    """Width of a picture in pixels."""
    rows: Annotated[list[int], OnlyIf("labels = score")] = Field([*WHOLE], min_length=2, max_length=2)
    """Rows of the screen that pictures show, from the first to the one after the last."""
    every: int = Field(4, ge=1)
    """Agent steps between pictures."""
    rarest: float = Field(1e-4, ge=0, lt=1)
    """Colours with a smaller share of all pixels than this count as background."""


def load(config: Config, seed: int) -> Data:
    """Training frames for the seed; the test frames come from other games, the same for every seed."""
    game = atari_game(config.id)
    if game is None:
        raise UsageError(f"data.id={config.id} is not a packaged Atari game")
    if not 0 <= config.rows[0] < config.rows[1] <= SCREEN[0]:
        raise UsageError(f"data.rows = {config.rows}: must be two rows of the screen's {SCREEN[0]}, the first one first")
    if config.labels == "boxes" and game not in PLAYFIELD:
        raise unknown("game with boxes", game, PLAYFIELD)
    shape = (config.stack, config.height, config.width)
    train = moments(config, config.pictures, 1000 + seed)
    test = moments(config, max(10, config.pictures // 5), 7)
    if config.labels in ("score", "sentence"):
        return _told(config.labels, game, train, test, shape)
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


def moments(config: Config, count: int, seed: int) -> list[Frame]:
    """`count` frames of games, which depend on the seed. UsageError for a player of another game."""
    shape, rows = (config.stack, config.height, config.width), (config.rows[0], config.rows[1])
    if config.player is None:
        return list(frames(config.id, count, seed, shape, config.every, rows))
    player = atari_player(Path(config.player))
    if atari_game(player.config.env.id) != atari_game(config.id):
        raise UsageError(f"data.player={config.player} plays {player.config.env.id}, not {config.id}")
    return list(played_frames(player, count, seed, shape, config.every, config.random, rows))


def _told(labels: str, game: str, train: list[Frame], test: list[Frame], shape: tuple[int, int, int]) -> Data:
    """Frames labelled with the score that they show, or with a sentence about them. UsageError for a game without such labels."""
    say = rams.score if labels == "score" else rams.sentence
    parts = []
    for part in (train, test):
        told = [(frame, text) for frame in part if (text := say(game, frame.ram, frame.before)) is not None]
        if not told:
            raise UsageError(f"data.labels={labels}: none of {len(part)} frames of {game} shows one; raise data.pictures")
        parts.append((_stacked([frame for frame, _ in told]), [texts.split(text, labels == "sentence") for _, text in told]))
    classes = rams.DIGITS if labels == "score" else rams.WORDS[game]
    known = [InMemory(images, {"text": texts.encode(rows, classes)}) for images, rows in parts]
    return Data(known[0], known[1], classes, shape, ("read",))


def _with_maps(parts: list[InMemory], colours: tuple[str, ...], from_maps: bool) -> Data:
    """Pairs to translate, from pictures with a class for every pixel: a map with a plane for every class, and the grey picture."""
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
    """The classes of a screen, resized to `size` by taking the middle pixel of each: [210,160] -> [H,W]."""
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
