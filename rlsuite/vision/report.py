"""Reports on a model's predictions: precision, recall and confusion of classes, as numbers and as pictures. Shapes: K classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.files import replacing
from rlsuite.evaluation.compare import legible
from rlsuite.vision.metrics import Curve, Float, Objects, object_confusion, pr_curve, precision_recall

BACKGROUND = "background"
UNDECIDED = 0.5  # the threshold of a class that has no best one
LEGIBLE = 20  # classes up to which every count and every curve has its label


class Report(NamedTuple):
    """Precision, recall and confusion on the test pictures; nan where they are undefined."""

    classes: tuple[str, ...]
    precision: Float  # [K]
    recall: Float  # [K]
    confusion: NDArray[np.int64]  # [K,K] by (true, predicted); of objects [K+1,K+1], the last one being the background
    thresholds: Float | None = None  # [K] of objects: the score with the largest F1, which precision, recall and confusion are at
    curves: tuple[Curve, ...] = ()  # [K] of objects

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the rows and columns of `confusion`."""
        return self.classes if self.thresholds is None else (*self.classes, BACKGROUND)

    def means(self) -> dict[str, float]:
        """Means over the classes for which each is defined."""
        pairs = {"precision": self.precision, "recall": self.recall}
        return {name: float(np.nanmean(values)) if not np.isnan(values).all() else float("nan") for name, values in pairs.items()}

    def as_dict(self) -> dict[str, Any]:
        """The report as a dict for JSON; undefined numbers are null."""
        rows = {"precision": self.precision, "recall": self.recall}
        if self.thresholds is not None:
            rows |= {"threshold": self.thresholds, "AP50": np.array([curve.ap for curve in self.curves])}
        plain = {name: [None if np.isnan(value) else float(value) for value in values] for name, values in rows.items()}
        return {"classes": list(self.names), **plain, "confusion": self.confusion.tolist()}

    def lines(self) -> list[str]:
        """A line for each class."""
        width = max(map(len, self.classes))
        found = []
        for k, name in enumerate(self.classes):
            threshold = float("nan") if self.thresholds is None else self.thresholds[k]
            at = "" if np.isnan(threshold) else f"  from a score of {threshold:.2f} on"
            found.append(f"{name:<{width}}  precision {self.precision[k]:.3f}  recall {self.recall[k]:.3f}{at}")
        return found


def of_counts(classes: Sequence[str], counts: NDArray[np.int64]) -> Report:
    """The report of a classifier of pictures or pixels, from counts [K,K] by (true, predicted)."""
    return Report(tuple(classes), *precision_recall(counts), counts)


def of_objects(classes: Sequence[str], predicted: Sequence[Objects], true: Sequence[Objects], masks: bool) -> Report:
    """The report of a detector, at an IoU of 0.5 of boxes, or of masks."""
    curves = tuple(pr_curve(predicted, true, k, masks) for k in range(len(classes)))
    thresholds, precision, recall = (np.array(values) for values in zip(*(curve.best() for curve in curves), strict=True))
    floors = np.where(np.isnan(thresholds), UNDECIDED, thresholds)
    return Report(tuple(classes), precision, recall, object_confusion(predicted, true, floors, masks), thresholds, curves)


def draw(reports: dict[str, Report], out: Path) -> list[Path]:
    """Writes a confusion matrix of each report into `out`, and of objects their precision-recall curves: PNG files."""
    written = []
    for what, report in reports.items():
        written.append(out / f"confusion_{what}.png")
        _save(_matrix(report, what), written[-1])
        if report.curves:
            written.append(out / f"precision_recall_{what}.png")
            _save(_curves(report, what), written[-1])
    return written


def _figure(side: float) -> Any:
    # Not pyplot, which keeps every figure alive and looks for a display. Slow to import, hence here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(side + 1, side), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as beside:
        figure.savefig(beside, format="png")


def _matrix(report: Report, what: str) -> Any:
    """Counts in cells whose shade is their share of the true class."""
    count, names = len(report.names), [legible(name) for name in report.names]
    figure = _figure(min(4 + 0.35 * count, 14))
    axes = figure.subplots()
    shares = report.confusion / np.maximum(report.confusion.sum(1, keepdims=True), 1)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, label="share of the true class")
    size = "small" if count <= LEGIBLE else 5
    axes.set_xticks(range(count), names, rotation=45, ha="right", fontsize=size)
    axes.set_yticks(range(count), names, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true", title=what)
    if count <= LEGIBLE:
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            text = f"{share:.1%}" if what == "pixels" else f"{report.confusion[row, column]}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    return figure


def _curves(report: Report, what: str) -> Any:
    """Precision over recall of every class, a dot where F1 is largest."""
    figure = _figure(5)
    axes = figure.subplots()
    for k, (name, curve) in enumerate(zip(report.classes, report.curves, strict=True)):
        if curve.total == 0 or len(curve.scores) == 0:
            continue
        label = legible(f"{name} (AP {curve.ap:.3f})") if len(report.classes) <= LEGIBLE else None
        (line,) = axes.plot(curve.recall, curve.precision, label=label)
        axes.plot(report.recall[k], report.precision[k], "o", color=line.get_color())
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), title=f"{what}, IoU 0.5")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    return figure
