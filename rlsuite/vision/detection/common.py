"""Code that all detection heads share: the contract, the output, and layers that turn maps into rows. Shapes: see the package."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlsuite.vision.boxes import clip, nms
from rlsuite.vision.head import Head
from rlsuite.vision.necks import Maps


class Found(NamedTuple):
    """The objects of one image, best first."""

    boxes: Tensor  # [P,4] f32
    classes: Tensor  # [P] i64
    scores: Tensor  # [P] f32
    masks: Tensor | None = None  # [P,H,W] bool


class DetectionHead(Head):
    """A head that learns from, and predicts, objects in images; `maps` are those of the neck."""

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each image [N] f32, and metrics."""
        raise NotImplementedError

    def predict(self, maps: Maps, images: Tensor) -> list[Found]:
        """The objects of each image."""
        raise NotImplementedError


class Scored(NamedTuple):
    """The output of a dense head at every place, one level after the other."""

    logits: Tensor  # [N,A,K] f32
    deltas: Tensor  # [N,A,4] f32
    sizes: list[tuple[int, int]]  # of the maps


def top_detections(boxes: Tensor, scores: Tensor, height: int, width: int, floor: float = 0.05, overlap: float = 0.5) -> Found:
    """The best objects of one image, at most 100: boxes [A,4] (or [A,K,4], one per class), scores [A,K]."""
    k = scores.shape[1]
    flat = scores.flatten()
    top = flat.topk(min(1000, len(flat)))
    keep = top.values > floor
    scores, index = top.values[keep], top.indices[keep]
    classes = index % k
    boxes = boxes.flatten(0, 1)[index] if boxes.dim() == 3 else boxes[index // k]
    boxes = clip(boxes, height, width)
    kept = nms(boxes, scores, classes, overlap)[:100]
    return Found(boxes[kept], classes[kept], scores[kept])


class Towers(nn.Module):
    """Two convolutional towers shared by all levels: class logits, and 4 numbers per box, for `each` anchor of a place."""

    def __init__(self, channels: int, classes: int, each: int, depth: int, prior: float = 0.01):
        """`depth`: convolutions before the predictions; `prior`: initial probability of every class."""
        super().__init__()
        self.classify, self.locate = self._tower(channels, depth), self._tower(channels, depth)
        self.logits = nn.Conv2d(channels, each * classes, 3, padding=1)
        self.deltas = nn.Conv2d(channels, each * 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.logits.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        self.classes = classes

    @staticmethod
    def _tower(channels: int, depth: int) -> nn.Sequential:
        return nn.Sequential(
            *(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)) for _ in range(depth))
        )

    def forward(self, maps: Maps) -> Scored:
        logits = [as_rows(self.logits(self.classify(x)), self.classes) for x in maps]
        deltas = [as_rows(self.deltas(self.locate(x)), 4) for x in maps]
        return Scored(torch.cat(logits, 1).float(), torch.cat(deltas, 1).float(), [size_of(x) for x in maps])


def as_rows(x: Tensor, outputs: int) -> Tensor:
    """One row for each anchor of each place: [N,each*outputs,H,W] -> [N,H*W*each,outputs]."""
    n, _, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(n, height * width * (x.shape[1] // outputs), outputs)


def size_of(x: Tensor) -> tuple[int, int]:
    """Height and width of a map [N,C,H,W]."""
    return x.shape[2], x.shape[3]


def require_one_width(channels: Sequence[int]) -> None:
    """ValueError if the levels have different numbers of channels and so cannot share weights."""
    if len(set(channels)) > 1:
        raise ValueError(f"its maps must be of one width, but they have {list(channels)} channels: use a neck such as fpn")
