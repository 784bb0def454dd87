"""One-stage heads with anchors: RetinaNet, SSD, YOLOv3. Shapes: see the package."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.vision.boxes import NEITHER, anchors_of, decode, encode, giou, iou, match
from rlsuite.vision.detection.common import DetectionHead, Found, Towers, as_rows, require_one_width, size_of, top_detections
from rlsuite.vision.detection.losses import focal, objects_of, summed
from rlsuite.vision.necks import Maps


class Anchored(nn.Module):
    """Anchors of a few sizes and shapes at every place of every level."""

    def __init__(self, strides: Sequence[int], sizes: Sequence[float], ratios: Sequence[float]):
        """`sizes` of the anchors, in strides; `ratios` of height to width."""
        super().__init__()
        self.strides = tuple(strides)
        shapes = [(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in ratios]
        self.register_buffer("shapes", torch.tensor(shapes), persistent=False)
        self.each = len(shapes)

    def forward(self, sizes: list[tuple[int, int]]) -> Tensor:
        """The anchors [A,4] of maps of these sizes."""
        assert isinstance(self.shapes, Tensor)
        return torch.cat([anchors_of(size, stride, self.shapes * stride) for size, stride in zip(sizes, self.strides, strict=True)])


class Separate(nn.Module):
    """A convolution of its own for each level (SSD); with `hidden`, after another one with twice the channels (YOLOv3)."""

    def __init__(self, channels: Sequence[int], outputs: int, each: int, hidden: bool):
        super().__init__()
        self.outputs = outputs
        self.levels = nn.ModuleList()
        for width in channels:
            if hidden:
                wide = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
                first = nn.Sequential(wide, nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.1, inplace=True))
                self.levels.append(nn.Sequential(first, nn.Conv2d(2 * width, each * outputs, 1)))
            else:
                self.levels.append(nn.Conv2d(width, each * outputs, 3, padding=1))

    def forward(self, maps: Maps) -> tuple[Tensor, list[tuple[int, int]]]:
        """The outputs [N,A,outputs] f32, and the sizes of the maps."""
        rows = [as_rows(level(x), self.outputs) for level, x in zip(self.levels, maps, strict=True)]
        return torch.cat(rows, 1).float(), [size_of(x) for x in maps]


class RetinaNet(DetectionHead):
    """RetinaNet (Lin et al. 2017): dense towers on a pyramid with the focal loss.

    Anchors of `anchor` strides, at three scales and three ratios.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, depth: int = 4, anchor: float = 4.0):
        super().__init__()
        require_one_width(channels)
        self.anchors = Anchored(strides, [anchor * 2 ** (third / 3) for third in range(3)], (0.5, 1.0, 2.0))
        self.towers = Towers(channels[0], classes, self.anchors.each, depth)

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        scored = self.towers(maps)
        anchors = self.anchors(scored.sizes)
        found, place = [], []
        for row in range(len(images)):
            boxes, classes = objects_of(labels, row)
            target = match(iou(boxes, anchors), 0.5, 0.4, keep_best=True)
            positive, counted = target >= 0, target != NEITHER
            wanted = torch.zeros_like(scored.logits[row])
            wanted[positive, classes[target[positive]]] = 1.0
            total = positive.sum().clamp(min=1)
            found.append(focal(scored.logits[row][counted], wanted[counted]).sum() / total)
            offset = scored.deltas[row][positive] - encode(boxes[target[positive]], anchors[positive])
            place.append(offset.abs().sum() / total)
        return summed({"class": torch.stack(found), "box": torch.stack(place)})

    def predict(self, maps: Maps, images: Tensor) -> list[Found]:
        scored = self.towers(maps)
        boxes = decode(scored.deltas, self.anchors(scored.sizes))
        return [top_detections(box, logits.sigmoid(), *images.shape[2:]) for box, logits in zip(boxes, scored.logits, strict=True)]


class Ssd(DetectionHead):
    """SSD (Liu et al. 2016): a softmax with background at every anchor, and the three hardest background anchors per positive."""

    WEIGHTS = (10.0, 10.0, 5.0, 5.0)

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, anchor: float = 3.0):
        super().__init__()
        self.anchors = Anchored(strides, (anchor, anchor * 2**0.5), (0.5, 1.0, 2.0))
        self.classes = classes
        self.convs = Separate(channels, classes + 1 + 4, self.anchors.each, hidden=False)

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        out, sizes = self.convs(maps)
        anchors = self.anchors(sizes)
        found, place = [], []
        for row in range(len(images)):
            boxes, classes = objects_of(labels, row)
            target = match(iou(boxes, anchors), 0.5, 0.5, keep_best=True)
            positive = target >= 0
            wanted = torch.zeros_like(target)
            wanted[positive] = classes[target[positive]] + 1
            loss = F.cross_entropy(out[row, :, :-4], wanted, reduction="none")
            total = int(positive.sum())
            hardest = loss[~positive].topk(min(max(3 * total, 10), int((~positive).sum()))).values
            found.append((loss[positive].sum() + hardest.sum()) / max(total, 1))
            offset = F.smooth_l1_loss(
                out[row, positive, -4:], encode(boxes[target[positive]], anchors[positive], self.WEIGHTS), reduction="sum"
            )
            place.append(offset / max(total, 1))
        return summed({"class": torch.stack(found), "box": torch.stack(place)})

    def predict(self, maps: Maps, images: Tensor) -> list[Found]:
        out, sizes = self.convs(maps)
        boxes = decode(out[..., -4:], self.anchors(sizes), self.WEIGHTS)
        scores = out[..., :-4].softmax(-1)[..., 1:]
        return [top_detections(box, score, *images.shape[2:]) for box, score in zip(boxes, scores, strict=True)]


class Yolo(DetectionHead):
    """YOLOv3 (Redmon & Farhadi 2018): one anchor, in the cell of an object's centre, detects it; all predict objectness.

    Anchors of 1, 1.6 and 2.6 times `anchor` strides, instead of sizes clustered from a data set.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, anchor: float = 2.0):
        super().__init__()
        self.anchors = Anchored(strides, (anchor, 1.6 * anchor, 2.6 * anchor), (1.0,))
        self.convs = Separate(channels, 5 + classes, self.anchors.each, hidden=True)

    @staticmethod
    def _owners(boxes: Tensor, anchors: Tensor, stride: Tensor) -> Tensor:
        """The anchor that is to detect each box: the nearest in size, of those whose cell contains the box's centre. [M] i64."""
        middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2  # [M,1,2]
        off = (middle - (anchors[:, :2] + anchors[:, 2:]) / 2).abs().amax(-1)  # [M,A]
        sides, own = (boxes[:, 2:] - boxes[:, :2])[:, None], anchors[:, 2:] - anchors[:, :2]
        both = torch.minimum(sides, own).prod(-1)
        overlap = both / (sides.prod(-1) + own.prod(-1) - both)  # as if their centres coincided
        return torch.where(off <= stride[:, 0] / 2, overlap, -off).argmax(1)

    def _boxes(self, out: Tensor, sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted boxes [N,A,4], the anchors [A,4] and their strides [A,1]."""
        anchors = self.anchors(sizes)
        each = [torch.full((h * w * self.anchors.each,), float(s)) for (h, w), s in zip(sizes, self.anchors.strides, strict=True)]
        stride = torch.cat(each).to(out.device)[:, None]
        centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + (out[..., :2].sigmoid() - 0.5) * stride
        half = out[..., 2:4].clamp(max=5).exp() * (anchors[:, 2:] - anchors[:, :2]) / 2
        return torch.cat([centre - half, centre + half], -1), anchors, stride

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        out, sizes = self.convs(maps)
        predicted, anchors, stride = self._boxes(out, sizes)
        there, found, place = [], [], []
        for row in range(len(images)):
            boxes, classes = objects_of(labels, row)
            owner = self._owners(boxes, anchors, stride)
            wanted = torch.zeros_like(out[row, :, 4])
            wanted[owner] = 1.0
            with torch.no_grad():  # an anchor that overlaps an object well, but is not its owner, is ignored
                counted = (
                    iou(boxes, predicted[row]).amax(0) < 0.5 if len(boxes) else torch.ones_like(wanted, dtype=torch.bool)
                ) | (wanted > 0)
            weight = torch.where(wanted > 0, 5.0, 0.5) * counted
            there.append((weight * F.binary_cross_entropy_with_logits(out[row, :, 4], wanted, reduction="none")).sum())
            classified = F.one_hot(classes, out.shape[2] - 5).float()
            found.append(F.binary_cross_entropy_with_logits(out[row, owner, 5:], classified, reduction="sum"))
            place.append(5 * (1 - giou(predicted[row, owner], boxes)).sum())
        many = (labels["classes"] >= 0).sum(1).clamp(min=1)
        parts = {"object": there, "class": found, "box": place}
        return summed({name: torch.stack(values) / many for name, values in parts.items()})

    def predict(self, maps: Maps, images: Tensor) -> list[Found]:
        out, sizes = self.convs(maps)
        boxes, _, _ = self._boxes(out, sizes)
        scores = out[..., 5:].sigmoid() * out[..., 4:5].sigmoid()
        return [top_detections(box, score, *images.shape[2:]) for box, score in zip(boxes, scores, strict=True)]
