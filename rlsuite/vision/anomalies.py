"""Ranks pictures by an autoencoder's reconstruction error, to find those unlike its training data. Shapes: N pictures.

`squared` is the mean squared error per pixel, where white is 1; texture and bright pictures dominate it. `coarse` is the error of
means over 4x4 pixels, divided by the root mean square of the picture, so that shape dominates.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError, unknown
from rlsuite.vision import draw, metrics
from rlsuite.vision.data.leave_out import left_out
from rlsuite.vision.generation.autoencoders import Autoencoder
from rlsuite.vision.predict import TEST, pictures_of
from rlsuite.vision.sample import Bytes, remade, sheet
from rlsuite.vision.train import SavedModel

Float = NDArray[np.float64]


class Ranked(NamedTuple):
    """Pictures, the strangest first."""

    names: list[str]
    errors: NDArray[np.float64]  # [N]
    images: Bytes  # [N,C,H,W]
    remade: Bytes  # [N,C,H,W]
    auroc: float | None  # of detecting the class that was left out of training by its errors; None if none was left out


def rank(saved: SavedModel, what: str, count: int, score: str = "squared") -> Ranked:
    """Ranks at most `count` pictures. `what`: as in `predict.show`. UsageError if the model is not an autoencoder."""
    if score not in SCORES:
        raise unknown("--score", score, SCORES)
    if not isinstance(saved.model.head, Autoencoder):
        raise UsageError(f"{saved.path} is a {saved.config.model.head}, but anomalies are what an autoencoder or a vae cannot make")
    found = list(pictures_of(saved, what, count))
    images = np.stack([image for _, image in found])
    made = remade(saved.model, images, saved.bf16)
    errors = SCORES[score](made / 255, images / 255)
    order = np.argsort(-errors, kind="stable")
    auroc = None
    if what == TEST and (label := left_out(saved.config.data, saved.classes)) is not None:
        test = saved.data().test
        rows = np.array([int(name.rpartition("_")[2]) for name, _ in found])
        strange = test.take(rows)[1]["label"] == label
        auroc = metrics.auroc(errors[strange], errors[~strange])
    return Ranked([found[row][0] for row in order], errors[order], images[order], made[order], auroc)


def squared(made: Float, true: Float) -> Float:
    """The mean squared error per pixel [N] of pictures [N,C,H,W] in [0,1]."""
    found: Float = ((made - true) ** 2).mean((1, 2, 3))
    return found


def coarse(made: Float, true: Float) -> Float:
    """The mean squared error [N] of means over 4x4 pixels, relative to the root mean square of the true picture."""
    small = (F.avg_pool2d(torch.from_numpy(pictures), min(4, *pictures.shape[2:])).numpy() for pictures in (made, true))
    found: Float = squared(*small) / np.sqrt((true**2).mean((1, 2, 3)) + 1e-6)
    return found


SCORES = {"squared": squared, "coarse": coarse}


def drawn(ranked: Ranked, count: int) -> draw.Picture:
    """The `count` strangest pictures, above the autoencoder's reconstructions of them."""
    count = min(count, len(ranked.names))
    return sheet(np.concatenate([ranked.images[:count], ranked.remade[:count]]), count)
