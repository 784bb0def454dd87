"""Labelled pictures, none of which is downloaded. One explicit dict of sources.

A source is a function of its own settings that gives `Data`. Labels by task: `label` for classify; `mask` for segment; `boxes` and
`classes`, perhaps `masks`, for detect.
"""

import importlib
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlsuite.config.schema import Section
from rlsuite.core.errors import unknown

Array = NDArray[Any]


class Pictures(Protocol):
    """Pictures [N,C,H,W] uint8 with labels, of which some are asked for at a time."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64]) -> tuple[Array, dict[str, Array]]:
        """-> images [B,C,H,W] uint8, labels [B,...]."""
        ...


class InMemory(NamedTuple):
    """All of them at once."""

    images: Array  # [N,C,H,W] uint8
    labels: dict[str, Array]  # [N,...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> tuple[Array, dict[str, Array]]:
        return self.images[rows], {name: values[rows] for name, values in self.labels.items()}


class Data(NamedTuple):
    train: Pictures
    test: Pictures
    classes: tuple[str, ...]  # their names; a label is a place in here
    shape: tuple[int, int, int]  # of a picture (C,H,W)
    tasks: tuple[str, ...]  # what the labels serve: classify, segment, detect


class DataSection(Section):
    """Each source's own settings derive from this."""

    name: str


SOURCES = {  # name -> module with `Config` and `load(config, seed) -> Data`
    "digits": "rlsuite.vision.data.digits",
    "fashion_mnist": "rlsuite.vision.data.fashion_mnist",
    "scenes": "rlsuite.vision.data.scenes",
    "folder": "rlsuite.vision.data.folder",
    "coco": "rlsuite.vision.data.coco",
    "atari": "rlsuite.vision.data.atari",
}


def source(name: str) -> Any:
    """Its module. UsageError with the nearest names if there is none."""
    if name not in SOURCES:
        raise unknown("data.name", name, SOURCES)
    return importlib.import_module(SOURCES[name])


def padded(rows: list[Array], fill: float, width: int | None = None) -> Array:
    """Arrays [M_i,...] of different length -> [N,M,...], filled up."""
    most = max([len(row) for row in rows] + [1]) if width is None else width
    out = np.full((len(rows), most, *rows[0].shape[1:]), fill, rows[0].dtype)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out
