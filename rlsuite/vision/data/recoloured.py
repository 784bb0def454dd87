"""Digits or Fashion-MNIST in several colourings, as unpaired domains to translate between."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.core.errors import UsageError
from rlsuite.vision.data import Data, DataPath, DataSection, InMemory, digits, fashion_mnist

Colouring = Literal["white", "inverted", "red", "green", "blue", "yellow"]

TINTS = {"white": (1, 1, 1), "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}


class Config(DataSection):
    """Pictures in several colourings."""

    of: Literal["digits", "fashion_mnist"] = "digits"
    """The grey pictures."""
    path: DataPath = fashion_mnist.DEBIAN
    """Folder of Fashion-MNIST's files."""
    colours: list[Colouring] = Field(["white", "inverted"], min_length=2)
    """Colourings, each of an equal share of the pictures: white, inverted, red, green, blue or yellow."""
    labels: Literal["colours", "classes"] = "colours"
    """What the labels are: the colouring, or the class of the grey picture."""


def load(config: Config, seed: int) -> Data:
    """Each picture in one of the colourings, the same for every seed. UsageError if a colouring is listed twice."""
    if len(set(config.colours)) < len(config.colours):
        raise UsageError(f"data.colours = {', '.join(config.colours)}: each may be there once")
    if config.of == "digits":
        grey = digits.load(digits.Config(name="digits"), seed)
    else:
        grey = fashion_mnist.load(fashion_mnist.Config(name="fashion_mnist", path=config.path), seed)
    parts = []
    for number, part in enumerate((grey.train, grey.test)):
        images, labels = part.take(np.arange(len(part)))
        which = np.random.default_rng(number).permutation(len(images)) % len(config.colours)
        coloured = np.empty((len(images), 3, *images.shape[2:]), np.uint8)
        for index, name in enumerate(config.colours):
            coloured[which == index] = recolour(images[which == index], name)
        parts.append(InMemory(coloured, {"label": which if config.labels == "colours" else labels["label"]}))
    classes = tuple(config.colours) if config.labels == "colours" else grey.classes
    return Data(parts[0], parts[1], classes, (3, *grey.shape[1:]), ("classify",))


def recolour(images: NDArray[np.uint8], colouring: str) -> NDArray[np.uint8]:
    """Grey pictures [N,1,H,W] in colours [N,3,H,W]."""
    if colouring == "inverted":
        return (255 - images).repeat(3, 1)
    return images * np.array(TINTS[colouring], np.uint8)[None, :, None, None]
