"""Generated pictures: coloured shapes on a noisy background, with boxes, masks, a class for every pixel, or a caption."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.vision import texts
from rlsuite.vision.data import Data, DataSection, InMemory, padded

SHAPES = ("circle", "square", "triangle", "cross")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


class Config(DataSection):
    """Generated shapes."""

    pictures: int = Field(2000, ge=2)
    """Number of training pictures; the test set is a tenth as large."""
    size: int = Field(64, ge=24, le=512)
    """Side of a picture in pixels."""
    objects: int = Field(4, ge=1, le=8)
    """Maximum number of objects in a picture."""
    labels: Literal["boxes", "pixels", "captions"] = "boxes"
    """Boxes and masks of objects, a class for every pixel, or sentences such as `two circles and a cross`."""


class Scene(NamedTuple):
    """A generated picture with its objects."""

    image: NDArray[np.uint8]  # [3,H,W]
    boxes: NDArray[np.float32]  # [M,4]
    classes: NDArray[np.int64]  # [M]
    masks: NDArray[np.bool_]  # [M,H,W], the visible part of each
    caption: str


def load(config: Config, seed: int) -> Data:
    """Training pictures for the seed; the test pictures are the same for every seed."""
    test = [draw(np.random.default_rng([1, number]), config) for number in range(max(1, config.pictures // 10))]
    train = [draw(np.random.default_rng([0, seed, number]), config) for number in range(config.pictures)]
    shape = (3, config.size, config.size)
    if config.labels == "captions":
        names = words(config.objects)
        return Data(_captioned(train, names), _captioned(test, names), names, shape, ("read",))
    boxes = config.labels == "boxes"
    classes = SHAPES if boxes else ("ground", *SHAPES)
    return Data(_arrays(train, config), _arrays(test, config), classes, shape, ("detect",) if boxes else ("segment",))


def _arrays(scenes: list[Scene], config: Config) -> InMemory:
    images = np.stack([scene.image for scene in scenes])
    if config.labels == "boxes":
        labels = {
            "boxes": padded([scene.boxes for scene in scenes], 0, config.objects),
            "classes": padded([scene.classes for scene in scenes], -1, config.objects),
            "masks": padded([scene.masks for scene in scenes], False, config.objects),
        }
        return InMemory(images, labels)
    mask = np.zeros((len(scenes), config.size, config.size), np.uint8)
    for index, scene in enumerate(scenes):
        for shape, kind in zip(scene.masks, scene.classes, strict=True):
            mask[index][shape] = kind + 1
    return InMemory(images, {"mask": mask})


def _captioned(scenes: list[Scene], names: tuple[str, ...]) -> InMemory:
    rows = texts.encode([texts.split(scene.caption, words=True) for scene in scenes], names)
    return InMemory(np.stack([scene.image for scene in scenes]), {"text": rows})


def words(objects: int) -> tuple[str, ...]:
    """The words in captions of at most `objects` objects."""
    return ("a", *NUMBERS[2 : objects + 1], *SHAPES, *(_plural(name) for name in SHAPES if objects > 1), ",", "and")


def draw(rng: np.random.Generator, config: Config) -> Scene:
    """A random scene. A shape that would hide more than half of an earlier one is left out."""
    size = config.size
    ground = rng.integers(0, 120, 3)[:, None, None] + rng.normal(0, 12, (3, size, size))
    y, x = np.mgrid[:size, :size].astype(np.float64) + 0.5
    drawn: list[tuple[int, NDArray[np.bool_]]] = []
    for _ in range(int(rng.integers(1, config.objects + 1))):
        half = rng.uniform(size / 12, size / 5)
        cx, cy = rng.uniform(half, size - half, 2)
        kind = int(rng.integers(len(SHAPES)))
        shape = _inside(SHAPES[kind], (x - cx) / half, (y - cy) / half)
        before = [(other, mask & ~shape) for other, mask in drawn]
        if any(now.sum() < 0.5 * was.sum() for (_, now), (_, was) in zip(before, drawn, strict=True)):
            continue
        drawn = [*before, (kind, shape)]
        ground[:, shape] = rng.integers(100, 256, 3)[:, None] + rng.normal(0, 12, (3, int(shape.sum())))
    masks = np.stack([mask for _, mask in drawn])
    kinds = np.array([kind for kind, _ in drawn], np.int64)
    boxes = np.stack([box_of(mask) for mask in masks])
    return Scene(ground.clip(0, 255).astype(np.uint8), boxes, kinds, masks, caption(kinds))


def _inside(shape: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points lie inside a shape that spans -1 to 1."""
    if shape == "circle":
        return x**2 + y**2 <= 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.85
    if shape == "triangle":
        return (y <= 0.8) & (abs(x) <= (y + 1) / 2)
    return (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1)


def box_of(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The box x1, y1, x2, y2 around the outer edges of a mask's pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def caption(kinds: NDArray[np.int64]) -> str:
    """A caption such as `two circles and a cross`, in the order of the classes."""
    parts = []
    for kind, name in enumerate(SHAPES):
        count = int((kinds == kind).sum())
        if count:
            parts.append(f"a {name}" if count == 1 else f"{NUMBERS[count]} {_plural(name)}")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _plural(name: str) -> str:
    return f"{name}es" if name.endswith("s") else f"{name}s"
