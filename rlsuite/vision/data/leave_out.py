"""Leaves a class out of the training pictures, so that a model can be tested on detecting it."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.core.errors import UsageError, unknown
from rlsuite.vision.data import Array, Data, DataSection, Pictures


class ClassSection(DataSection):
    """A data source whose pictures have a class each."""

    leave_out: int | str | None = Field(None)
    """Class, by number or name, to leave out of training; its pictures stay in the test set. null: none."""


class Subset:
    """A subset of pictures."""

    def __init__(self, pictures: Pictures, rows: NDArray[np.int64]):
        self.pictures, self.rows = pictures, rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: NDArray[np.int64]) -> tuple[Array, dict[str, Array]]:
        """As `Pictures.take`."""
        return self.pictures.take(self.rows[rows])


def left_out(config: DataSection, classes: list[str]) -> int | None:
    """The number of the class that a data section leaves out of training. UsageError if there is no such class."""
    if not isinstance(config, ClassSection) or config.leave_out is None:
        return None
    named = config.leave_out
    if not classes:
        raise UsageError(f"data.leave_out = {named}: this data has no classes")
    if str(named) in classes:  # first, since a class may be named by a number
        return classes.index(str(named))
    if isinstance(named, int):
        if not 0 <= named < len(classes):
            raise UsageError(f"data.leave_out = {named}: the classes are 0 to {len(classes) - 1}")
        return named
    raise unknown("data.leave_out", named, classes)


def leaving_out(data: Data, config: DataSection, labels: NDArray[np.int64]) -> Data:
    """The data without the training pictures of the class that its section leaves out. `labels`: [N] of the training pictures."""
    number = left_out(config, list(data.classes))
    return data if number is None else data._replace(train=Subset(data.train, np.flatnonzero(labels != number)))
