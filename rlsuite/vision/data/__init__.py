"""Data sources of labelled pictures; nothing is downloaded.

    data = source("digits").load(section, seed=1)
    images, labels = data.train.take(np.arange(32))  # [32,C,H,W] uint8, {"label": [32]}

Labels by task: `label` for classify; `mask` for segment; `boxes` and `classes`, perhaps `masks`, for detect; `target`, pictures
[B,P,H,W] uint8 whose planes are the classes, for translate; `text` [B,L] i64, the tokens of texts, -1 after their ends, for read.
"""

import importlib
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from rlsuite.config.schema import absolute
from rlsuite.config.section import Section
from rlsuite.core.errors import unknown

Array = NDArray[Any]
DataPath = Annotated[str, AfterValidator(absolute)]  # made absolute: a run may be resumed in another folder


class Pictures(Protocol):
    """N pictures [C,H,W] uint8 with labels, read a batch at a time."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64]) -> tuple[Array, dict[str, Array]]:
        """The images [B,C,H,W] uint8 and labels [B,...] of these rows."""
        ...


class InMemory(NamedTuple):
    """Pictures held in memory."""

    images: Array  # [N,C,H,W] uint8
    labels: dict[str, Array]  # [N,...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> tuple[Array, dict[str, Array]]:
        return self.images[rows], {name: values[rows] for name, values in self.labels.items()}


class Data(NamedTuple):
    """A data set: training and test pictures, and what their labels mean."""

    train: Pictures
    test: Pictures
    classes: tuple[str, ...]  # names; a label is an index into them
    shape: tuple[int, int, int]  # of a picture (C,H,W)
    tasks: tuple[str, ...]  # that the labels are for: classify, segment, detect, translate, read
    letters: tuple[str, ...] = ()  # if pictures are one-hot texts, a row of pixels with a plane for each letter; otherwise ()


class DataSection(Section):
    """Base class of every data source's own config."""

    name: str
    """Data source: digits, fashion_mnist, scenes, folder, coco, atari, recoloured, pairs, text_line, lines or number_words."""


SOURCES = {  # name -> module with `Config` and `load(config, seed) -> Data`
    "digits": "rlsuite.vision.data.digits",
    "fashion_mnist": "rlsuite.vision.data.fashion_mnist",
    "scenes": "rlsuite.vision.data.scenes",
    "folder": "rlsuite.vision.data.folder",
    "coco": "rlsuite.vision.data.coco",
    "atari": "rlsuite.vision.data.atari",
    "recoloured": "rlsuite.vision.data.recoloured",
    "pairs": "rlsuite.vision.data.pairs",
    "text_line": "rlsuite.vision.data.text_line",
    "lines": "rlsuite.vision.data.lines",
    "number_words": "rlsuite.vision.data.number_words",
}


def source(name: str) -> Any:
    """The module of a data source. UsageError with the nearest names if there is none."""
    if name not in SOURCES:
        raise unknown("data.name", name, SOURCES)
    return importlib.import_module(SOURCES[name])


def padded(rows: list[Array], fill: float, width: int | None = None) -> Array:
    """N arrays [M_i,...] of different lengths as one [N,M,...], padded with `fill`; M is `width` or the longest."""
    most = max([len(row) for row in rows] + [1]) if width is None else width
    out = np.full((len(rows), most, *rows[0].shape[1:]), fill, rows[0].dtype)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out
