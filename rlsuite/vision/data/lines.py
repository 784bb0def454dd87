"""Your own pictures with their texts: `<path>/NAME.png`, and `<path>/texts.tsv` with lines `NAME.png<tab>text`."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from rlsuite.core.errors import UsageError
from rlsuite.vision import texts
from rlsuite.vision.data import Data, DataPath, DataSection
from rlsuite.vision.data.files import Files

LIST = "texts.tsv"


class Config(DataSection):
    """Your own pictures with their texts."""

    path: DataPath
    """Folder with the pictures and the file texts.tsv, whose lines are a picture's name, a tab, and its text."""
    tokens: Literal["characters", "words"] = "characters"
    """Unit of text that the model reads and writes."""
    height: int = Field(32, ge=8, le=1024)
    """Height in pixels that pictures are resized to."""
    width: int = Field(128, ge=8, le=4096)
    """Width in pixels that pictures are resized to."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the pictures held out for testing."""


def load(config: Config, seed: int) -> Data:
    """A random split that is the same for every seed. UsageError for a list that names no picture, or no text to one."""
    root = Path(config.path)
    try:
        lines = (root / LIST).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"data.path={root}: {LIST} cannot be read: {error}") from error
    names, rows = [], []
    for number, line in enumerate(lines, 1):
        name, tab, text = line.partition("\t")
        tokens = texts.split(text.strip(), config.tokens == "words")
        if not tab or not tokens:
            raise UsageError(
                f"{root / LIST}, line {number}: {line!r} has no text; it must be a picture's name, a tab, and its text"
            )
        if not (root / name).is_file():
            raise UsageError(f"{root / LIST}, line {number}: there is no picture {root / name}")
        names.append(root / name)
        rows.append(tokens)
    if len(names) < 2:
        raise UsageError(f"{root / LIST}: {len(names)} pictures; it takes two at least, one of them to test on")
    classes = tuple(sorted({token for row in rows for token in row}))
    known, order = texts.encode(rows, classes), np.random.default_rng(0).permutation(len(names))
    held, size = max(1, round(len(names) * config.test_fraction)), (config.height, config.width)
    train, test = (Files([names[row] for row in part], {"text": known[part]}, size) for part in (order[held:], order[:held]))
    return Data(train, test, classes, (3, *size), ("read",))
