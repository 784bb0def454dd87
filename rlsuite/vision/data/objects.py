"""Boxes of objects read from the RAM by OCAtari (Delfosse et al. 2024), an optional package.

Only its functions on the RAM are used, because its environment swaps `truncated` and `terminated`. They compute in the dtype of
their input, where bytes overflow, so they get a wider dtype. The package requires an old NumPy; `pip install --no-deps ocatari
termcolor scikit-image lazy-loader opencv-python-headless` keeps ours.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError


class Objects:
    """Reads the objects of one game, frame after frame."""

    def __init__(self, env_id: str):
        """UsageError if the package is missing or does not know the game."""
        try:
            from ocatari.ram import extract_ram_info
        except Exception as error:  # its own imports may be missing, or broken
            raise UsageError(
                f"data.labels=objects needs OCAtari, which cannot be imported here ({type(error).__name__}: {error}); "
                "pip install --no-deps ocatari termcolor scikit-image lazy-loader opencv-python-headless"
            ) from error
        self.game = env_id.rpartition("/")[2].split("-")[0]
        self.read: Any = extract_ram_info.detect_objects_ram
        try:
            self.objects: list[Any] = extract_ram_info.init_objects(self.game, False)
            self.names: tuple[str, ...] = tuple(extract_ram_info.get_max_objects(self.game, False))
        except (KeyError, AttributeError) as error:
            raise UsageError(f"data.labels=objects: OCAtari knows no objects of {env_id}") from error

    def boxes(self, ram: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes [M,4] in pixels of the 210x160 screen, and classes [M], of RAM [128]."""
        self.read(self.objects, ram.astype(np.int64), self.game, False)
        there = [each for each in self.objects if each and type(each).__name__ in self.names]
        sides = [(each.x, each.y, each.x + each.w, each.y + each.h) for each in there]
        classes = [self.names.index(type(each).__name__) for each in there]
        return np.array(sides, np.float32).reshape(-1, 4), np.array(classes, np.int64)
