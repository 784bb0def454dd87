"""Metrics of predictions, in plain NumPy. Shapes: N images, K classes, P predictions and M true objects of an image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Objects(NamedTuple):
    """Objects of one image, true or predicted."""

    boxes: NDArray[np.floating]  # [P,4]: x1, y1, x2, y2
    classes: NDArray[np.integer]  # [P]
    scores: NDArray[np.floating] | None = None  # [P]; None for true objects
    masks: NDArray[np.bool_] | None = None  # [P,H,W]


THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of COCO
RECALLS = np.linspace(0, 1, 101)


def accuracy(predicted: NDArray[np.integer], true: NDArray[np.integer]) -> float:
    """Share of correct predictions."""
    return float((predicted == true).mean())


def auroc(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half; nan if either is missing."""
    ordered = np.sort(negative)
    below, not_above = np.searchsorted(ordered, positive, "left"), np.searchsorted(ordered, positive, "right")
    pairs = len(positive) * len(negative)
    return float((below + not_above).sum() / 2 / pairs) if pairs else float("nan")


def confusion(predicted: NDArray[np.integer], true: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Counts by (true class, predicted class) [K,K]; true classes outside 0..K-1 are skipped."""
    counted = (true >= 0) & (true < classes)
    flat = true[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes)


def class_iou(counts: NDArray[np.int64]) -> Float:
    """IoU of every class [K]; nan for one that neither occurs nor is predicted."""
    both = np.diag(counts).astype(np.float64)
    either = counts.sum(0) + counts.sum(1) - both
    found: Float = np.divide(both, either, out=np.full(len(counts), np.nan), where=either > 0)
    return found


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean IoU over the classes that occur or are predicted."""
    return float(np.nanmean(class_iou(counts)))


def pixel_accuracy(counts: NDArray[np.int64]) -> float:
    """Share of correct predictions."""
    return float(np.diag(counts).sum() / counts.sum())


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> Float:
    """IoU of boxes: [P,4], [M,4] -> [P,M]."""
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.clip(sides, 0, None).prod(-1)
    either = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    found: Float = both / np.maximum(either, 1e-12)
    return found


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Float:
    """IoU of masks: [P,H,W], [M,H,W] -> [P,M]."""
    x, y = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    both = x @ y.T
    found: Float = both / np.maximum(x.sum(1)[:, None] + y.sum(1) - both, 1e-12)
    return found


def average_precision(hits: NDArray[np.bool_], total: int, points: int | None = 101) -> float:
    """Average precision of one class: `hits` tells for each prediction, best first, whether it found one of `total` objects.

    `points`: recalls at which precision is read, 101 in COCO, 11 in VOC 2007; None: the whole area, as in VOC 2010.
    """
    if total == 0:
        return float("nan")
    if len(hits) == 0:
        return 0.0
    found = np.cumsum(hits)
    recall, precision = found / total, found / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        return float((np.diff(recall, prepend=0.0) * precision).sum())
    at = np.searchsorted(recall, np.linspace(0, 1, points), side="left")
    return float(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())


def coco_map(
    predicted: Sequence[Objects], true: Sequence[Objects], classes: int, masks: bool = False, limit: int = 100
) -> dict[str, float]:
    """COCO's mean average precision, over classes and IoUs from 0.5 to 0.95, of the best `limit` predictions per image and class.

    Returns "mAP", "mAP50", "mAP75", and "AP/<class>" of every class that occurs. `masks`: overlap of masks instead of boxes.
    Objects of all sizes count, and none is a crowd.
    """
    values = np.full((classes, len(THRESHOLDS)), np.nan)
    for k in range(classes):
        rows = [_matches(p, t, k, masks, limit) for p, t in zip(predicted, true, strict=True)]
        total = sum(int((t.classes == k).sum()) for t in true)
        if total == 0:
            continue
        scores = np.concatenate([score for score, _ in rows])
        hits = np.concatenate([hit for _, hit in rows], 1)  # [thresholds, P]
        order = np.argsort(-scores, kind="mergesort")
        values[k] = [average_precision(hit[order], total) for hit in hits]
    found = {"mAP": values, "mAP50": values[:, 0], "mAP75": values[:, 5]}
    result = {name: float(np.nanmean(value)) if not np.isnan(value).all() else float("nan") for name, value in found.items()}
    return result | {f"AP/{k}": float(values[k].mean()) for k in range(classes) if not np.isnan(values[k]).all()}


def _matches(predicted: Objects, true: Objects, k: int, masks: bool, limit: int) -> tuple[Float, NDArray[np.bool_]]:
    """Scores [P] of class k in one image, best first, and for every threshold which of them found a free object [thresholds,P].

    As in COCO: the best prediction chooses first, and takes the free object that it overlaps most.
    """
    assert predicted.scores is not None
    mine, theirs = np.flatnonzero(predicted.classes == k), np.flatnonzero(true.classes == k)
    mine = mine[np.argsort(-predicted.scores[mine], kind="mergesort")][:limit]
    hits = np.zeros((len(THRESHOLDS), len(mine)), bool)
    scores = np.asarray(predicted.scores[mine], np.float64)
    if len(mine) == 0 or len(theirs) == 0:
        return scores, hits
    if masks:
        assert predicted.masks is not None
        assert true.masks is not None
        overlap = mask_iou(predicted.masks[mine], true.masks[theirs])
    else:
        overlap = box_iou(predicted.boxes[mine], true.boxes[theirs])
    for row, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(theirs), bool)
        for column in range(len(mine)):
            # Among equal overlaps COCO takes the last.
            candidates = np.where(free, overlap[column], -1.0)
            at = len(theirs) - 1 - int(np.argmax(candidates[::-1]))
            if candidates[at] >= min(threshold, 1 - 1e-10):
                hits[row, column] = True
                free[at] = False
    return scores, hits
