"""A one-stage head without anchors. Shapes: see the package."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rlsuite.vision.boxes import BACKGROUND, centres, giou, iou
from rlsuite.vision.detection.common import DetectionHead, Found, Towers, require_one_width, top_detections
from rlsuite.vision.detection.losses import objects_of, summed
from rlsuite.vision.necks import Maps


class AnchorFree(DetectionHead):
    """A head in which places near the centre of an object detect it (Zhou et al. 2019, CenterNet; Tian et al. 2019, FCOS).

    A place predicts the offset of the centre and the logarithm of the sides, both in strides. Objects belong to the level whose
    stride is nearest to a quarter of their size. The score is trained towards the IoU that the box reaches, so that well placed
    boxes come first (Zhang et al. 2021, VarifocalNet).
    """

    RADIUS = 1.5  # strides around the centre

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, depth: int = 2):
        super().__init__()
        require_one_width(channels)
        self.strides = tuple(strides)
        self.towers = Towers(channels[0], classes, 1, depth)

    def _places(self, sizes: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
        """Centres [A,2] and strides [A]."""
        points = [centres(size, stride, device) for size, stride in zip(sizes, self.strides, strict=True)]
        each = [torch.full((len(point),), float(stride), device=device) for point, stride in zip(points, self.strides, strict=True)]
        return torch.cat(points), torch.cat(each)

    @staticmethod
    def _boxes(deltas: Tensor, points: Tensor, stride: Tensor) -> Tensor:
        centre = points + deltas[..., :2] * stride[:, None]
        half = deltas[..., 2:].clamp(-5, 6).exp() * stride[:, None] / 2
        return torch.cat([centre - half, centre + half], -1)

    def _owners(self, boxes: Tensor, points: Tensor, stride: Tensor) -> Tensor:
        """The object that each place is to detect (the smallest of several) or BACKGROUND: [A] i64."""
        if len(boxes) == 0:
            return torch.full((len(points),), BACKGROUND, dtype=torch.int64, device=points.device)
        sides = boxes[:, 2:] - boxes[:, :2]
        size = sides.prod(-1).clamp(min=1e-3).sqrt()
        all_strides = torch.tensor(self.strides, device=boxes.device, dtype=torch.float32)
        level = (size[:, None] / (4 * all_strides)).log2().abs().argmin(1)
        off = (points[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(-1)  # [A,M]
        near = (off < self.RADIUS * stride[:, None]) & (stride[:, None] == all_strides[level])
        area = torch.where(near, size, torch.inf)
        smallest, index = area.min(1)
        return torch.where(smallest.isinf(), BACKGROUND, index)

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        scored = self.towers(maps)
        points, stride = self._places(scored.sizes, images.device)
        found, place = [], []
        for row in range(len(images)):
            boxes, classes = objects_of(labels, row)
            owner = self._owners(boxes, points, stride)
            positive = owner >= 0
            logits, total = scored.logits[row], positive.sum().clamp(min=1)
            wanted = torch.zeros_like(logits)
            if positive.any():
                true = boxes[owner[positive]]
                mine = self._boxes(scored.deltas[row][positive], points[positive], stride[positive])
                overlap = giou(mine, true)
                exact = (true[:, :2] + true[:, 2:]) / 2 - points[positive]
                shift = (scored.deltas[row][positive][:, :2] - exact / stride[positive, None]).abs().sum(-1)
                quality = iou(mine.detach().unsqueeze(1), true.unsqueeze(1)).squeeze(-1).squeeze(-1)
                wanted[positive, classes[owner[positive]]] = quality
                place.append(((1 - overlap) + shift).sum() / total)
            else:
                place.append(scored.deltas[row].sum() * 0)
            # Positives are weighted by their target, the others as in the focal loss.
            p = logits.sigmoid()
            weight = torch.where(wanted > 0, wanted, 0.75 * p.detach() ** 2)
            found.append((weight * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum() / total)
        return summed({"class": torch.stack(found), "box": torch.stack(place)})

    def predict(self, maps: Maps, images: Tensor) -> list[Found]:
        scored = self.towers(maps)
        points, stride = self._places(scored.sizes, images.device)
        boxes = self._boxes(scored.deltas, points, stride)
        return [top_detections(box, logits.sigmoid(), *images.shape[2:]) for box, logits in zip(boxes, scored.logits, strict=True)]
