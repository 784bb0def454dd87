"""Pictures of where a writer looked before each token that it wrote. Shapes: L tokens, P places of the map."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rlsuite.nets.precision import inference
from rlsuite.vision import draw
from rlsuite.vision.model import Model
from rlsuite.vision.texts import NONE
from rlsuite.vision.writing import Writer

CELL = 22  # pixels of a cell of a matrix
COLUMNS = 6  # pictures in a row


def drawn(
    model: Model, image: NDArray[np.uint8], text: NDArray[np.int64], classes: Sequence[str], letters: Sequence[str], bf16: bool
) -> draw.Picture:
    """Draws where the model looked in the image [C,H,W] for each token of `text` [L]; `letters`: those of an image that is a text.

    For a text, this is a matrix with a row for each token and a column for each letter; for a picture, a copy of it for each token,
    bright where the model looked.
    """
    assert isinstance(model.head, Writer)
    tokens = text[text != NONE]
    device = next(model.parameters()).device
    with inference(device, bf16):
        maps = model.maps(torch.from_numpy(image[None]).to(device))
        found = model.head.looked_at(maps, torch.from_numpy(tokens[None]).to(device))[0]
    weights = found.float().cpu().numpy()  # [L,P]
    names = [classes[token] for token in tokens]
    if letters:
        read = [letters[int(column.argmax())] if column.any() else "" for column in image[:, 0].T]
        return matrix(weights, names, read)
    return glances(image, weights.reshape(len(names), *model.head.grid), names)


def matrix(weights: NDArray[np.floating], rows: Sequence[str], columns: Sequence[str]) -> draw.Picture:
    """Draws weights [L,P] as greys, white for 1, with the names of rows and columns."""
    left = 12 + round(max([6.5 * len(name) for name in rows] + [0]))
    canvas = Image.new("RGB", (left + CELL * len(columns) + 4, CELL * (len(rows) + 1) + 4))
    pen = ImageDraw.Draw(canvas)
    for at, name in enumerate(columns):
        pen.text((left + CELL * at + CELL // 2, CELL // 2), name, fill=(255, 255, 255), anchor="mm")
    for row, name in enumerate(rows):
        y = CELL * (row + 1)
        pen.text((left - 6, y + CELL // 2), name, fill=(255, 255, 255), anchor="rm")
        for at in range(len(columns)):
            grey = round(255 * float(weights[row, at]))
            pen.rectangle((left + CELL * at, y, left + CELL * at + CELL - 2, y + CELL - 2), fill=(grey, grey, grey))
    return np.asarray(canvas)


def glances(image: NDArray[np.uint8], weights: NDArray[np.floating], names: Sequence[str]) -> draw.Picture:
    """Draws the image [C,H,W] once for each name, darker where its weights [L,h,w] are small."""
    picture, shown = draw.to_picture(image), []
    for weight, name in zip(weights, names, strict=True):
        share = Image.fromarray((255 * weight / max(weight.max(), 1e-9)).astype(np.uint8))
        bright = np.asarray(share.resize(picture.shape[1::-1], Image.Resampling.BILINEAR), np.float64)[..., None] / 255
        shown.append(draw.draw_label((picture * (0.25 + 0.75 * bright)).astype(np.uint8), name, 168))
    return draw.grid(shown, min(COLUMNS, len(shown))) if shown else draw.scaled(picture, 168)[0]
