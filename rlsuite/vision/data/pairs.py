"""Your own pairs of pictures to translate: `<path>/input/NAME.png` and `<path>/target/NAME.png`."""

from pathlib import Path

import numpy as np
from pydantic import Field

from rlsuite.core.errors import UsageError
from rlsuite.vision.data import Array, Data, DataPath, DataSection
from rlsuite.vision.data.files import Files, check_picture, pictures_in


class Config(DataSection):
    """Your own pairs of pictures."""

    path: DataPath
    """Folder with the folders input and target, whose pictures have the same names."""
    size: int = Field(64, ge=8, le=1024)
    """Height and width in pixels that pictures are resized to."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the pairs held out for testing."""


class Pairs:
    """Pictures [3,H,W] with targets [3,H,W], read on demand."""

    def __init__(self, inputs: Files, targets: Files):
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: np.ndarray) -> tuple[Array, dict[str, Array]]:
        """As `Pictures.take`."""
        return self.inputs.take(rows)[0], {"target": self.targets.take(rows)[0]}


def load(config: Config, seed: int) -> Data:
    """A random split that is the same for every seed. UsageError for a picture without its pair, or of another size than that."""
    root = Path(config.path)
    found = []
    for name in ("input", "target"):
        if not (root / name).is_dir():
            raise UsageError(f"data.path={root} has no folder {name}: it needs input and target")
        found.append({path.stem: path for path in pictures_in(root / name)})
    if alone := sorted(found[0].keys() ^ found[1].keys()):
        raise UsageError(f"data.path={root}: {alone[0]} is in one of the folders input and target only")
    names = list(found[0])
    if len(names) < 2:
        raise UsageError(f"data.path={root}: {len(names)} pairs; it takes two at least, one of them to test on")
    for name in names:
        sizes = [check_picture(part[name]) for part in found]
        if sizes[0] != sizes[1]:
            raise UsageError(
                f"data.path={root}: {name} has {sizes[0][0]}x{sizes[0][1]} pixels, its target {sizes[1][0]}x{sizes[1][1]}"
            )
    order = np.random.default_rng(0).permutation(len(names))
    held, size = max(1, round(len(names) * config.test_fraction)), (config.size, config.size)
    parts = [
        Pairs(*(Files([part[names[row]] for row in rows], {}, size) for part in found)) for rows in (order[held:], order[:held])
    ]
    return Data(parts[0], parts[1], ("red", "green", "blue"), (3, *size), ("translate",))
