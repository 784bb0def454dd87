"""Drawings of predictions: boxes and masks on the image, class maps beside it."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rlsuite.core.errors import UsageError
from rlsuite.core.files import replacing
from rlsuite.vision.metrics import Objects

Picture = NDArray[np.uint8]  # [H,W,3]


def colour(index: int) -> tuple[int, int, int]:
    """The colour of a class; neighbouring indices have clearly different colours."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.381966 % 1, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def to_picture(image: NDArray[np.uint8]) -> Picture:
    """Planes [C,H,W] as a picture: three planes are colours; of any other number, the newest is shown in grey."""
    planes = image if len(image) == 3 else image[-1:].repeat(3, 0)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def scaled(picture: Picture, side: int = 336) -> tuple[Picture, int]:
    """The picture, enlarged by the largest whole factor that keeps it within `side` pixels, and that factor."""
    factor = max(1, side // max(picture.shape[:2]))
    return picture.repeat(factor, 0).repeat(factor, 1), factor


def draw_objects(picture: Picture, found: Objects, names: Sequence[str], floor: float = 0.3) -> Picture:
    """The picture with boxes, classes, scores and masks of the objects that score at least `floor`."""
    large, factor = scaled(picture)
    canvas = large.astype(np.float64)
    shown = [row for row in range(len(found.boxes)) if found.scores is None or found.scores[row] >= floor]
    if found.masks is not None:
        for row in shown:
            mask = found.masks[row].repeat(factor, 0).repeat(factor, 1)
            canvas[mask] = 0.5 * canvas[mask] + 0.5 * np.array(colour(int(found.classes[row])))
    drawn = Image.fromarray(canvas.astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    for row in shown:
        x1, y1, x2, y2 = (float(value) * factor for value in found.boxes[row])
        kind = int(found.classes[row])
        pen.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=colour(kind), width=max(1, factor // 3))
        score = "" if found.scores is None else f" {found.scores[row]:.2f}"
        text = f"{names[kind]}{score}"
        room = large.shape[1] - pen.textlength(text)
        pen.text((max(0.0, min(x1, room)), max(0.0, y1 - 11)), text, fill=colour(kind))
    return np.asarray(drawn)


def draw_classes(picture: Picture, classes: NDArray[np.integer]) -> Picture:
    """The picture, and beside it a map with a colour for every class."""
    table = np.array([colour(index) for index in range(256)], np.uint8)
    table[0] = 0  # background
    large, factor = scaled(picture)
    painted = table[classes].repeat(factor, 0).repeat(factor, 1)
    return np.concatenate([large, painted], 1)


def draw_label(picture: Picture, name: str, side: int = 336) -> Picture:
    """The picture, enlarged as in `scaled`, with the name of its class or its text in the corner."""
    large, _ = scaled(picture, side)
    drawn = Image.fromarray(large)
    pen = ImageDraw.Draw(drawn)
    pen.rectangle((0, 0, 8 + 6.5 * len(name), 14), fill=(0, 0, 0))
    pen.text((4, 1), name, fill=(255, 255, 255))
    return np.asarray(drawn)


def grid(pictures: Sequence[Picture], columns: int) -> Picture:
    """Pictures of one size in rows and columns, with gaps between them."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    out = np.full((rows * (height + 4) - 4, columns * (width + 4) - 4, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        y, x = index // columns * (height + 4), index % columns * (width + 4)
        out[y : y + height, x : x + width] = picture
    return out


def save(picture: Picture, path: Path) -> None:
    """Writes the picture in the format of the path's suffix. UsageError for a suffix without one."""
    with replacing(path) as beside:
        try:
            Image.fromarray(picture).save(beside)
        except ValueError as error:
            raise UsageError(f"{path}: pictures cannot be written as {path.suffix or 'a file without suffix'}; use .png") from error
