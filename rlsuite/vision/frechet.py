"""How near made pictures are to real ones, in the features of a classifier. Shapes: N pictures, F features, K classes.

The Fréchet distance between the Gaussians of two sets of features, as Heusel et al. 2017 (equation 6) measure it with Inception;
here with a classifier of the same data: a saved run of ours.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError
from rlsuite.nets.precision import inference
from rlsuite.vision.data import Data, Pictures
from rlsuite.vision.sample import BATCH, Bytes, edits_of, moved, samples
from rlsuite.vision.train import SavedModel

Float = NDArray[np.float64]
EDITED = 2000  # pictures moved to another class


class Seen(NamedTuple):
    """A classifier's features and predictions for pictures."""

    features: Float  # [N,F]: its last map, averaged over the pixels
    probabilities: Float  # [N,K]


def measured(saved: SavedModel, classifier: SavedModel, data: Data, truncation: float | None = None) -> dict[str, float]:
    """`compare` where the model makes pictures from random codes, and of an autoencoder of pictures with classes `moved_as_asked`.

    That is the share of test pictures, their codes moved to another class at random, which the classifier takes for that class.
    `truncation`: of random codes, see `Maker.codes`.
    """
    checked(saved, classifier)
    edits = edits_of(saved.model, data, saved.bf16)
    sampled = saved.model.maker.samples or edits is None or truncation is not None
    found = compare(saved, classifier, data.test, truncation=truncation) if sampled else {}
    if edits is None:
        return found
    if len(classifier.classes) != len(data.classes):
        raise UsageError(f"--classifier {classifier.path} knows other classes: {', '.join(classifier.classes)}")
    rows = np.linspace(0, len(edits.images) - 1, min(EDITED, len(edits.images))).astype(np.int64)
    to = (edits.own[rows] + np.random.default_rng(0).integers(1, len(edits.classes), len(rows))) % len(edits.classes)
    made = see(classifier, moved(saved.model, edits, rows, to, saved.bf16))
    return {**found, "moved_as_asked": float((made.probabilities.argmax(1) == edits.classes[to]).mean())}


def compare(
    saved: SavedModel, classifier: SavedModel, test: Pictures, seed: int = 0, truncation: float | None = None
) -> dict[str, float]:
    """Metrics of as many made pictures as half the test set has.

    `frechet`: their distance from the second half of the test pictures; `frechet_real`: that of the first half from the second;
    `confidence`: the mean of the classifier's largest probability; `as_asked`: of a conditional model, the share that it
    takes for the class asked for; `truncation`: that of the codes, if there is one. UsageError where the two do not fit each other.
    """
    checked(saved, classifier)
    if len(test) < 4:
        raise UsageError(f"{len(test)} test pictures are too few for a Fréchet distance")
    half = len(test) // 2
    order = np.random.default_rng(0).permutation(len(test))  # files are often sorted by class
    made, asked = samples(saved.model, half, seed, saved.bf16, truncation)
    first, second = (_real(classifier, test, order[rows]) for rows in (slice(half), slice(half, 2 * half)))
    found = see(classifier, made)
    metrics = {
        "frechet": distance(found.features, second.features),
        "frechet_real": distance(first.features, second.features),
        "confidence": float(found.probabilities.max(1).mean()),
    }
    if asked is not None:
        if found.probabilities.shape[1] != saved.model.maker.classes:
            raise UsageError(f"--classifier {classifier.path} knows other classes: {', '.join(classifier.classes)}")
        metrics["as_asked"] = float((found.probabilities.argmax(1) == asked).mean())
    return metrics if truncation is None else {**metrics, "truncation": truncation}


def checked(saved: SavedModel, classifier: SavedModel) -> None:
    """UsageError if `classifier` is not a classifier, or not for the same pictures as `saved`."""
    if classifier.task != "classify":
        raise UsageError(f"--classifier {classifier.path} is to {classifier.task}, not a classifier")
    if classifier.shape != saved.shape:
        raise UsageError(f"--classifier {classifier.path} takes pictures of {classifier.shape}, these are of {saved.shape}")


def _real(classifier: SavedModel, pictures: Pictures, rows: NDArray[np.int64]) -> Seen:
    parts = [see(classifier, pictures.take(rows[at : at + BATCH])[0]) for at in range(0, len(rows), BATCH)]
    return Seen(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))


def see(classifier: SavedModel, images: Bytes) -> Seen:
    """The classifier's features and predictions for images [N,C,H,W] uint8."""
    features, probabilities = [], []
    for at in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(images[at : at + BATCH])).to(classifier.device)
        with inference(classifier.device, classifier.bf16):
            maps = classifier.model.maps(batch)
            logits = classifier.model.head(maps, batch)
        features.append(maps[-1].float().mean((2, 3)).double().cpu().numpy())
        probabilities.append(logits.double().softmax(1).cpu().numpy())
    return Seen(np.concatenate(features), np.concatenate(probabilities))


def distance(a: Float, b: Float) -> float:
    """|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½) of two sets of features [N,F] (Dowson & Landau 1982)."""
    means, covariances = [x.mean(0) for x in (a, b)], [np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # (Σ_a Σ_b)^½ has the eigenvalues of the symmetric (Σ_a^½ Σ_b Σ_a^½)^½.
    shared = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root).clip(0)).sum()
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * shared)
