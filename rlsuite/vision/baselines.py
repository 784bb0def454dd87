"""Baselines for models that make pictures: principal components, and a mean picture. Shapes: N pictures, D pixels."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rlsuite.vision.data import Pictures

FIT = 20_000  # maximum number of training pictures that the components are fitted to
_FIT_PIXELS = 2**27  # and of their pixels together: 0.5 GB
BATCH = 1_000


def pca_squared_error(train: Pictures, test: Pictures, components: int) -> float:
    """The mean squared error per pixel, where white is 1, of `test` rebuilt from the mean and principal components of `train`.

    The components are fitted to at most `FIT` pictures, fewer if they are large, by a randomised SVD (Halko et al. 2011), with some
    extra components so that the last one is exact, too.
    """
    pixels = math.prod(train.take(np.zeros(1, np.int64))[0].shape)
    x = _flat(train, min(FIT, len(train), max(2 * components + 20, _FIT_PIXELS // pixels)))
    mean = x.mean(0)
    x -= mean
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rank = min(components + 20, *x.shape)
        basis = torch.svd_lowrank(x, q=rank, niter=6)[2][:, :components]  # [D,components]
    total, count = 0.0, len(test)
    for at in range(0, count, BATCH):
        centred = _rows(test, np.arange(at, min(at + BATCH, count))) - mean
        rest = centred - (centred @ basis) @ basis.T
        total += float(rest.square().mean(1).sum())
    return total / count


def mean_target_l1(train: Pictures, test: Pictures) -> float:
    """The mean absolute error per pixel, where white is 1, of predicting the mean target of `train` for every picture of `test`."""
    mean = sum(targets.sum(0) for targets in _targets(train)) / len(train)
    return float(sum((targets - mean).abs().mean((1, 2, 3)).sum() for targets in _targets(test))) / len(test)


def _flat(pictures: Pictures, count: int) -> Tensor:
    """`count` evenly spaced pictures as [N,D] f32 in [0,1]."""
    rows = np.linspace(0, len(pictures) - 1, count).astype(np.int64)
    return torch.cat([_rows(pictures, rows[at : at + BATCH]) for at in range(0, count, BATCH)])


def _targets(pictures: Pictures) -> Iterator[Tensor]:
    """Yields all targets in batches [B,P,H,W] f32 in [0,1]."""
    for at in range(0, len(pictures), BATCH):
        yield torch.from_numpy(pictures.take(np.arange(at, min(at + BATCH, len(pictures))))[1]["target"]).float() / 255


def _rows(pictures: Pictures, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures.take(rows)[0]).flatten(1).float() / 255
