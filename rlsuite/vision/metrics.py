"""Metrics of predictions, in plain NumPy. Shapes: N images, K classes, P predictions and M true objects of an image."""

import math
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


def precision_recall(counts: NDArray[np.int64]) -> tuple[Float, Float]:
    """Precision and recall of every class [K], from counts [K,K]; nan for one that is never predicted, or does not occur."""
    both = np.diag(counts).astype(np.float64)
    totals = counts.sum(0), counts.sum(1)
    shares = [np.divide(both, total, out=np.full(len(counts), np.nan), where=total > 0) for total in totals]
    return shares[0], shares[1]


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
    x, y = (each.reshape(len(each), math.prod(each.shape[1:])).astype(np.float64) for each in (a, b))
    both = x @ y.T
    found: Float = both / np.maximum(x.sum(1)[:, None] + y.sum(1) - both, 1e-12)
    return found


def average_precision(hits: NDArray[np.bool_], total: int, points: int | None = 101) -> float:
    """Average precision of one class; `hits`: whether each prediction, best first, found one of `total` objects.

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


class Curve(NamedTuple):
    """Precision and recall of one class when each of P scores is the threshold; equal scores count once."""

    scores: Float  # [P], falling
    precision: Float  # [P]
    recall: Float  # [P]; nan if there are no objects of the class
    total: int  # objects of the class
    ap: float  # average precision, as in COCO; nan if there are no objects

    def best(self) -> tuple[float, float, float]:
        """The score with the largest F1 = 2 PR / (P + R), and precision and recall there; nan where they are undefined."""
        if self.total == 0 or len(self.scores) == 0:
            return float("nan"), float("nan"), 0.0 if self.total else float("nan")
        both = self.precision + self.recall
        f1 = np.divide(2 * self.precision * self.recall, both, out=np.zeros(len(both)), where=both > 0)
        at = int(np.argmax(f1))
        return float(self.scores[at]), float(self.precision[at]), float(self.recall[at])


def pr_curve(predicted: Sequence[Objects], true: Sequence[Objects], k: int, masks: bool = False, limit: int = 100) -> Curve:
    """The curve of class k at an IoU of 0.5; predictions are matched to objects as in `coco_map`."""
    scores, hits, total = _ranked(predicted, true, k, masks, limit)
    last = np.append(scores[:-1] != scores[1:], True)[: len(scores)]  # of those that have the same score
    found = np.cumsum(hits[0])[last]
    count = np.arange(1, len(scores) + 1)[last]
    recall = found / total if total else np.full(len(found), np.nan)
    return Curve(scores[last], found / count, recall, total, average_precision(hits[0], total))


def object_confusion(
    predicted: Sequence[Objects], true: Sequence[Objects], floors: Float, masks: bool = False
) -> NDArray[np.int64]:
    """Counts by (true class, predicted class) [K+1,K+1]; class K is the background, for false predictions and missed objects.

    Predictions that score at least the floor of their class (`floors` [K]) choose in the order of their scores: each takes the free
    object, of any class, that it overlaps most, if their IoU is at least 0.5.
    """
    background = len(floors)
    counts = np.zeros((background + 1, background + 1), np.int64)
    for found, real in zip(predicted, true, strict=True):
        assert found.scores is not None
        rows = np.flatnonzero(found.scores >= floors[found.classes])
        rows = rows[np.argsort(-found.scores[rows], kind="mergesort")]
        overlap = _overlap(found, rows, real, np.arange(len(real.classes)), masks)
        free = np.ones(len(real.classes), bool)
        for row, shared in zip(rows, overlap, strict=True):
            candidates = np.where(free, shared, -1.0)
            at = int(np.argmax(candidates)) if len(candidates) else -1
            hit = at >= 0 and candidates[at] >= THRESHOLDS[0]
            counts[real.classes[at] if hit else background, found.classes[row]] += 1
            if hit:
                free[at] = False
        counts[:, background] += np.bincount(real.classes[free], minlength=background + 1)
    return counts


def coco_map(
    predicted: Sequence[Objects], true: Sequence[Objects], classes: int, masks: bool = False, limit: int = 100
) -> dict[str, float]:
    """COCO's mean average precision, over classes and IoUs from 0.5 to 0.95, of the best `limit` predictions per image and class.

    Returns "mAP", "mAP50", "mAP75", and "AP/<class>" of every class that occurs. `masks`: overlap of masks instead of boxes.
    Objects of all sizes count, and none is a crowd.
    """
    values = np.full((classes, len(THRESHOLDS)), np.nan)
    for k in range(classes):
        _, hits, total = _ranked(predicted, true, k, masks, limit)
        if total:
            values[k] = [average_precision(hit, total) for hit in hits]
    found = {"mAP": values, "mAP50": values[:, 0], "mAP75": values[:, 5]}
    result = {name: float(np.nanmean(value)) if not np.isnan(value).all() else float("nan") for name, value in found.items()}
    return result | {f"AP/{k}": float(values[k].mean()) for k in range(classes) if not np.isnan(values[k]).all()}


def _ranked(
    predicted: Sequence[Objects], true: Sequence[Objects], k: int, masks: bool, limit: int
) -> tuple[Float, NDArray[np.bool_], int]:
    """Predictions of class k in all images, best first: scores [P], hits [thresholds,P]; and the number of objects of the class."""
    rows = [_matches(p, t, k, masks, limit) for p, t in zip(predicted, true, strict=True)]
    scores, hits = np.concatenate([score for score, _ in rows]), np.concatenate([hit for _, hit in rows], 1)
    order = np.argsort(-scores, kind="mergesort")
    return scores[order], hits[:, order], sum(int((t.classes == k).sum()) for t in true)


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
    overlap = _overlap(predicted, mine, true, theirs, masks)
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


def _overlap(a: Objects, mine: NDArray[np.int64], b: Objects, theirs: NDArray[np.int64], masks: bool) -> Float:
    """IoU [P,M] of some objects of one image with some others, of their masks or their boxes."""
    if not masks:
        return box_iou(a.boxes[mine], b.boxes[theirs])
    assert a.masks is not None
    assert b.masks is not None
    return mask_iou(a.masks[mine], b.masks[theirs])
