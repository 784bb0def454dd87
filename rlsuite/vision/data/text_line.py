"""Generated lines of text: the characters of a small font in several sizes, anywhere in a noisy picture."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from rlsuite.core.errors import UsageError
from rlsuite.vision import texts
from rlsuite.vision.data import Data, DataSection, InMemory

SIZES = (12, 14, 16, 18)  # of the font, in pixels


class Config(DataSection):
    """Generated lines of text."""

    pictures: int = Field(20_000, ge=10)
    """Number of training pictures; the test set is a tenth as large."""
    characters: str = Field("0123456789", min_length=1)
    """Characters that texts consist of."""
    longest: int = Field(8, ge=1, le=32)
    """Maximum number of characters in a text; all lengths are equally frequent."""
    height: int = Field(24, ge=24, le=256)
    """Height of a picture in pixels."""
    width: int = Field(112, ge=24, le=1024)
    """Width of a picture in pixels."""


def load(config: Config, seed: int) -> Data:
    """Training pictures for the seed; the test pictures are the same for every seed. UsageError where texts do not fit."""
    twice = sorted({letter for letter in config.characters if config.characters.count(letter) > 1})
    if twice:
        raise UsageError(f"data.characters = {config.characters!r}: {twice[0]!r} is there more than once")
    fonts = [ImageFont.load_default(size) for size in SIZES]
    parts = []
    for rng, count in (
        (np.random.default_rng([0, seed]), config.pictures),
        (np.random.default_rng([1]), max(1, config.pictures // 10)),
    ):
        lines = ["".join(rng.choice(list(config.characters), rng.integers(1, config.longest + 1))) for _ in range(count)]
        images = np.stack([draw(line, fonts, rng, config) for line in lines])
        parts.append(InMemory(images, {"text": texts.encode(lines, config.characters)}))
    return Data(parts[0], parts[1], tuple(config.characters), (1, config.height, config.width), ("read",))


def draw(line: str, fonts: list[Any], rng: np.random.Generator, config: Config) -> NDArray[np.uint8]:
    """A picture [1,H,W] of a line in one of the fonts in which it fits. UsageError if there is none."""
    boxes = [font.getbbox(line) for font in fonts]  # x1, y1, x2, y2
    fitting = [index for index, box in enumerate(boxes) if box[2] - box[0] <= config.width and box[3] - box[1] <= config.height]
    if not fitting:
        raise UsageError(f"data.width = {config.width}: the text {line!r} takes {boxes[0][2] - boxes[0][0]:.0f} pixels")
    chosen = int(rng.choice(fitting))
    x1, y1, x2, y2 = boxes[chosen]
    ink = Image.new("L", (config.width, config.height))
    at = (rng.uniform(0, config.width - (x2 - x1)) - x1, rng.uniform(0, config.height - (y2 - y1)) - y1)
    ImageDraw.Draw(ink).text(at, line, fill=255, font=fonts[chosen])
    dark, bright = rng.uniform(0, 100), rng.uniform(160, 255)
    ground, colour = (dark, bright) if rng.random() < 0.5 else (bright, dark)
    cover = np.asarray(ink, np.float64) / 255
    noisy = ground + (colour - ground) * cover + rng.normal(0, 12, cover.shape)
    return noisy.clip(0, 255).astype(np.uint8)[None]
