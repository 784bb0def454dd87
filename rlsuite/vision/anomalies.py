"""Pictures that an autoencoder has not learned to make: ranked by their reconstruction error. Shapes: N pictures."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError
from rlsuite.vision import draw, metrics
from rlsuite.vision.data.leave_out import left_out
from rlsuite.vision.generation.autoencoders import Autoencoder
from rlsuite.vision.predict import TEST, pictures_of
from rlsuite.vision.sample import Bytes, remade, sheet
from rlsuite.vision.train import SavedModel, load_data


class Ranked(NamedTuple):
    """Pictures, the strangest first."""

    names: list[str]
    errors: NDArray[np.float64]  # [N], mean squared a pixel, where white is 1
    images: Bytes  # [N,C,H,W]
    remade: Bytes  # [N,C,H,W]
    auroc: float | None  # by which the errors tell the class that was left out of training; None: none was


def rank(saved: SavedModel, what: str, count: int) -> Ranked:
    """Ranks at most `count` pictures. `what`: as in `predict.show`. UsageError if the model is no autoencoder."""
    if not isinstance(saved.model.head, Autoencoder):
        raise UsageError(f"{saved.path} is a {saved.config.model.head}, but anomalies are what an autoencoder or a vae cannot make")
    found = list(pictures_of(saved, what, count))
    images = np.stack([image for _, image in found])
    made = remade(saved.model, images, saved.bf16)
    errors = ((made.astype(np.float64) - images) ** 2).mean((1, 2, 3)) / 255**2
    order = np.argsort(-errors, kind="stable")
    auroc = None
    if what == TEST and (label := left_out(saved.config.data, saved.classes)) is not None:
        test = load_data(saved.config).test
        rows = np.array([int(name.rpartition("_")[2]) for name, _ in found])
        strange = test.take(rows)[1]["label"] == label
        auroc = metrics.auroc(errors[strange], errors[~strange])
    return Ranked([found[row][0] for row in order], errors[order], images[order], made[order], auroc)


def drawn(ranked: Ranked, count: int) -> draw.Picture:
    """The `count` strangest pictures over what the autoencoder makes of them."""
    count = min(count, len(ranked.names))
    return sheet(np.concatenate([ranked.images[:count], ranked.remade[:count]]), count)
