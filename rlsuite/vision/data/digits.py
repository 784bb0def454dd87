"""1,797 handwritten digits of 8x8 pixels (Alpaydin & Kaynak 1998), from scikit-learn's wheel."""

import numpy as np

from rlsuite.core.errors import UsageError
from rlsuite.vision.data import Data, InMemory
from rlsuite.vision.data.leave_out import ClassSection, leaving_out

TEST = 360  # pictures: a fifth


class Config(ClassSection):
    """Handwritten digits."""


def load(config: Config, seed: int) -> Data:
    """Enlarged to 32x32; the random split is the same for every seed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError("data.name=digits needs scikit-learn: pip install 'rlsuite[vision]'") from error
    found = load_digits()
    images = (found.images * 15.9375).astype(np.uint8)[:, None].repeat(4, 2).repeat(4, 3)  # [N,1,32,32]
    labels = found.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    train, test = (InMemory(images[rows], {"label": labels[rows]}) for rows in (order[TEST:], order[:TEST]))
    return leaving_out(Data(train, test, tuple("0123456789"), (1, 32, 32), ("classify",)), config, train.labels["label"])
