"""Pictures in files, read on demand."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rlsuite.core.errors import RlsuiteError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def read_picture(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A picture file as [3,H,W] uint8, resized to `size` (height, width) if given. RlsuiteError if it is not a picture."""
    try:
        with Image.open(path) as file:
            if file.mode.startswith("I"):  # grey of 16 bits, which Pillow would cut off at 255
                picture = Image.fromarray((np.asarray(file).astype(np.int64) >> 8).astype(np.uint8)).convert("RGB")
            else:
                picture = file.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise RlsuiteError(f"{path} cannot be read as a picture: {error}") from error
    if size is not None:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(picture).transpose(2, 0, 1).copy()


def pictures_in(folder: Path, deep: bool = False) -> list[Path]:
    """The picture files in a folder by name, without hidden ones; `deep`: in its subfolders, too."""
    found = folder.rglob("*") if deep else folder.iterdir()
    shown = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in shown if path.suffix.lower() in SUFFIXES)


def check_picture(path: Path) -> tuple[int, int]:
    """The width and height of a picture file, which is not decoded. RlsuiteError if it is not a picture."""
    try:
        with Image.open(path) as file:
            size = file.size
            file.verify()
            return size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RlsuiteError(f"{path} cannot be read as a picture: {error}") from error


class Files:
    """`Pictures` in files, all resized to one size; labels are in memory."""

    def __init__(self, paths: list[Path], labels: dict[str, NDArray[Any]], size: tuple[int, int]):
        self.paths, self.labels, self.size = paths, labels, size

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
        images = np.stack([read_picture(self.paths[row], self.size) for row in rows])
        return images, {name: values[rows] for name, values in self.labels.items()}
