"""Your own pictures: `<path>/<class>/*.png`, or `<path>/train/<class>/...` and `<path>/test/<class>/...`; without classes
`<path>/*.png`."""

from pathlib import Path

import numpy as np
from pydantic import Field

from rlsuite.core.errors import UsageError
from rlsuite.vision.data import Data, DataPath
from rlsuite.vision.data.files import Files, check_picture, pictures_in
from rlsuite.vision.data.leave_out import ClassSection, leaving_out


class Config(ClassSection):
    """Your own pictures, in one folder per class."""

    path: DataPath
    """Folder with one subfolder per class, with subfolders train and test that have these, or with unlabelled pictures."""
    size: int = Field(64, ge=8, le=1024)
    """Height and width in pixels that pictures are resized to."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the pictures held out for testing, if there are no folders train and test."""


def load(config: Config, seed: int) -> Data:
    """Without folders train and test, a random split that is the same for every seed.

    UsageError for a class without a picture to train on, RlsuiteError for a file that is not a picture. Names that begin with a dot
    are left out.
    """
    root = Path(config.path)
    if not root.is_dir():
        raise UsageError(f"data.path={root} is not a folder")
    size = (config.size, config.size)
    if (root / "train").is_dir() and (root / "test").is_dir():
        classes = _classes(root / "train")
        extra = set(_classes(root / "test")) - set(classes)
        if extra:
            raise UsageError(f"data.path={root}: test has classes that train does not have: {', '.join(sorted(extra))}")
        train, test = (_files(root / part, classes) for part in ("train", "test"))
    else:
        plain = pictures_in(root)
        if plain and (beside := [folder.name for folder in _folders(root) if pictures_in(folder, deep=True)]):
            raise UsageError(
                f"data.path={root}: {plain[0].name} lies beside folders with pictures ({', '.join(beside[:3])}); "
                "put all pictures into one folder per class, or all into one folder"
            )
        classes = [] if plain else _classes(root)
        paths, labels = (plain, np.zeros(len(plain), np.int64)) if plain else _files(root, classes)
        order = np.random.default_rng(0).permutation(len(paths))
        held = max(1, round(len(paths) * config.test_fraction))
        train, test = (([paths[i] for i in part], labels[part]) for part in (order[held:], order[:held]))
    if not train[0] or not test[0]:
        raise UsageError(f"data.path={root}: {len(train[0])} pictures to train on and {len(test[0])} to test on")
    for label, name in enumerate(classes):
        if label not in train[1]:
            raise UsageError(f"data.path={root}: the class {name} has no picture to train on; remove its folder, or add pictures")
    for path in train[0] + test[0]:
        check_picture(path)
    pictures = [Files(paths, {"label": labels}, size) for paths, labels in (train, test)]
    return leaving_out(
        Data(pictures[0], pictures[1], tuple(classes), (3, *size), ("classify",) if classes else ()), config, train[1]
    )


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(root: Path) -> list[str]:
    found = [path.name for path in _folders(root)]
    if len(found) < 2:
        raise UsageError(f"{root} needs a folder of pictures for each of at least two classes, it has {found or 'none'}")
    return found


def _files(root: Path, classes: list[str]) -> tuple[list[Path], np.ndarray]:
    mine = [pictures_in(root / name, deep=True) if (root / name).is_dir() else [] for name in classes]
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in mine])
    return [path for paths in mine for path in paths], labels
