"""Measures a vision model on labelled pictures: its scores and its speed."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlsuite.nets.precision import inference
from rlsuite.runs.progress import Counter
from rlsuite.vision import metrics, texts
from rlsuite.vision.data import Data, Pictures
from rlsuite.vision.detection.common import Found
from rlsuite.vision.generation.base import Measured
from rlsuite.vision.metrics import Objects
from rlsuite.vision.model import Model
from rlsuite.vision.report import Report, of_counts, of_objects


def predict(model: Model, images: NDArray[np.uint8], device: torch.device, bf16: bool) -> Any:
    """`Model.predict` of images [N,C,H,W]. Leaves the model in evaluation mode."""
    model.eval()
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(device).contiguous(memory_format=torch.channels_last)
    with inference(device, bf16):
        return model.predict(batch)


def evaluate(
    model: nn.Module, data: Data, task: str, device: torch.device, batch: int, bf16: bool
) -> tuple[dict[str, float], dict[str, Report]]:
    """The task's metrics on all test pictures, pictures per second, and reports by kind of prediction; see `_Seen.reports`."""
    with Counter("pictures") as show:

        def shown(done: int, of: int) -> bool:
            show(done, of)
            return False

        found = _look(shown, model, data, task, device, batch, bf16)
    assert found is not None  # nothing stops it
    seen, result = found
    return result, seen.reports(data.classes)


def evaluate_until(
    stop: Callable[[int, int], bool],
    model: nn.Module,
    data: Data,
    task: str,
    device: torch.device,
    batch: int,
    bf16: bool,
    limit: int | None = None,
) -> dict[str, float] | None:
    """The metrics of `evaluate`, on at most `limit` pictures; None once `stop(done, of)`, of pictures, is true.

    Leaves the model in the mode it was in.
    """
    found = _look(stop, model, data, task, device, batch, bf16, limit)
    return None if found is None else found[1]


def _look(
    stop: Callable[[int, int], bool],
    model: nn.Module,
    data: Data,
    task: str,
    device: torch.device,
    batch: int,
    bf16: bool,
    limit: int | None = None,
) -> "tuple[_Seen, dict[str, float]] | None":
    """The predictions and true labels that `evaluate_until` has seen, and the metrics."""
    assert isinstance(model, Model)
    training = model.training
    pictures: Pictures = data.test
    count = len(pictures) if limit is None else min(limit, len(pictures))
    rows = np.linspace(0, len(pictures) - 1, count).astype(np.int64)  # spread out: files are often sorted by class
    seen, spent = _Seen(model, task, data.classes), 0.0
    rng = torch.Generator().manual_seed(0)  # for codes and noise, which are the same in every evaluation
    try:
        for at in range(0, len(rows), batch):
            if stop(at, len(rows)):
                return None
            images, labels = pictures.take(rows[at : at + batch])
            began = time.perf_counter()
            measured = isinstance(model.head, Measured)
            found = scores(model, images, labels, device, bf16, rng) if measured else predict(model, images, device, bf16)
            spent += time.perf_counter() - began
            seen.add(found, labels)
    finally:
        model.train(training)
    result = seen.result() | {"pictures_per_second": len(rows) / max(spent, 1e-9)}
    if isinstance(model.head, Measured) and limit is None:
        result |= model.head.baselines(data)
    return seen, result


def scores(
    model: Model,
    images: NDArray[np.uint8],
    labels: dict[str, NDArray[Any]],
    device: torch.device,
    bf16: bool,
    rng: torch.Generator,
) -> dict[str, NDArray[np.float64]]:
    """`Measured.scores` of images [N,C,H,W] and their labels. Leaves the model in evaluation mode."""
    model.eval()
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(device).contiguous(memory_format=torch.channels_last)
    known = {name: torch.from_numpy(values).to(device) for name, values in labels.items()}
    assert isinstance(model.head, Measured)
    with inference(device, bf16):
        found = model.head.scores(batch, known, model.maps, rng)
    return {name: values.double().cpu().numpy() for name, values in found.items()}


class _Seen:
    """Predictions and true labels of the pictures seen so far."""

    def __init__(self, model: Model, task: str, names: tuple[str, ...]):
        self.model, self.task, self.names, self.classes = model, task, names, len(names)
        self.scores: dict[str, list[NDArray[np.float64]]] = {}
        self.counts = np.zeros((self.classes, self.classes), np.int64)
        self.predicted: list[Objects] = []
        self.true: list[Objects] = []
        self.read: list[texts.Rows] = []
        self.written: list[texts.Rows] = []

    def add(self, found: Any, labels: dict[str, NDArray[Any]]) -> None:
        if isinstance(self.model.head, Measured):
            for name, values in found.items():
                self.scores.setdefault(name, []).append(values)
        elif self.task == "detect":
            self.predicted += [as_objects(each) for each in found]
            self.true += [true_objects(labels, row) for row in range(len(found))]
        elif self.task == "read":
            self.read.append(found.cpu().numpy())
            self.written.append(labels["text"])
        else:
            true = labels["label" if self.task == "classify" else "mask"]
            self.counts += metrics.confusion(found.cpu().numpy().ravel(), true.ravel(), self.classes)

    def result(self) -> dict[str, float]:
        if isinstance(self.model.head, Measured):
            return self.model.head.metrics({name: float(np.concatenate(values).mean()) for name, values in self.scores.items()})
        if self.task == "classify":
            return {"accuracy": metrics.pixel_accuracy(self.counts)}
        if self.task == "segment":
            return {"mIoU": metrics.mean_iou(self.counts), "pixel_accuracy": metrics.pixel_accuracy(self.counts)}
        if self.task == "read":
            return texts.measure(self.read, self.written, self.names)
        found = metrics.coco_map(self.predicted, self.true, self.classes)
        if self.masks:
            drawn = metrics.coco_map(self.predicted, self.true, self.classes, masks=True)
            found |= {f"mask_{name}": value for name, value in drawn.items() if not name.startswith("AP/")}
        return found

    def reports(self, classes: Sequence[str]) -> dict[str, Report]:
        """Precision, recall and confusion of classes, for pictures, pixels, boxes, masks; {} for generated pictures and texts."""
        if isinstance(self.model.head, Measured) or self.task == "read":
            return {}
        if self.task != "detect":
            return {"pixels" if self.task == "segment" else "pictures": of_counts(classes, self.counts)}
        found = {"boxes": of_objects(classes, self.predicted, self.true, masks=False)}
        if self.masks:
            found["masks"] = of_objects(classes, self.predicted, self.true, masks=True)
        return found

    @property
    def masks(self) -> bool:
        """Whether all objects have masks."""
        return all(each.masks is not None for each in (*self.predicted, *self.true))


def as_objects(found: Found) -> Objects:
    """The objects found in one image, as NumPy arrays."""
    masks = None if found.masks is None else found.masks.cpu().numpy()
    return Objects(found.boxes.cpu().numpy(), found.classes.cpu().numpy(), found.scores.cpu().numpy(), masks)


def true_objects(labels: dict[str, NDArray[Any]], row: int) -> Objects:
    """The labelled objects of image `row` of a batch."""
    there = labels["classes"][row] >= 0
    masks = labels["masks"][row][there] if "masks" in labels else None
    return Objects(labels["boxes"][row][there], labels["classes"][row][there], None, masks)
