"""Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 grey pictures of 28x28, read from IDX files on this machine."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError
from rlsuite.vision.data import Data, DataPath, InMemory
from rlsuite.vision.data.leave_out import ClassSection, leaving_out

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
DEBIAN = "/usr/share/datasets/fashion-mnist"


class Config(ClassSection):
    """Fashion-MNIST."""

    path: DataPath = DEBIAN
    """Folder with train-images-idx3-ubyte.gz and the three other files (Debian: apt-get install dataset-fashion-mnist)."""


def load(config: Config, seed: int) -> Data:
    """The published split."""
    folder = Path(config.path)
    parts = []
    for prefix in ("train", "t10k"):
        images = read_idx(_find(folder, f"{prefix}-images-idx3-ubyte"))
        labels = read_idx(_find(folder, f"{prefix}-labels-idx1-ubyte"))
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UsageError(f"{folder}: {prefix} has images {images.shape} and labels {labels.shape}")
        parts.append(InMemory(images[:, None], {"label": labels.astype(np.int64)}))
    train, test = parts
    data = Data(train, test, CLASSES, (1, *train.images.shape[2:]), ("classify",))
    return leaving_out(data, config, train.labels["label"])


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise UsageError(
        f"data.path={folder} has no {name}.gz: install Debian's dataset-fashion-mnist, or give the folder of your IDX files"
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file of bytes (the format of MNIST), compressed or not. UsageError for anything else."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            zero, kind, sides = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{sides}I", file.read(4 * sides))
            data = np.frombuffer(file.read(), np.uint8)
    except (OSError, EOFError, struct.error) as error:
        raise UsageError(f"{path} is not an IDX file: {error}") from error
    if zero != 0 or kind != 8 or data.size != int(np.prod(shape)):
        raise UsageError(f"{path} is not an IDX file of bytes: {data.size} bytes for shape {shape}")
    return data.reshape(shape)
