"""Heads that find objects. Shapes: N images, L levels, A places or anchors of all levels, K classes, M objects of an image.

Labels of a batch: `boxes` [N,M,4] f32 in pixels, `classes` [N,M] i64 with -1 where there is no object, and for masks `masks`
[N,M,H,W] bool. Every head has `losses(maps, images, labels) -> [N], metrics` and `predict(maps, images) -> Found`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.vision.boxes import anchors_of, centres, clip, decode, encode, giou, iou, match, nms, roi_align
from rlsuite.vision.necks import Maps

BACKGROUND, NEITHER = -1, -2

Embed = Callable[[Tensor], Maps]


class Found(NamedTuple):
    """The objects of one image, best first."""

    boxes: Tensor  # [P,4] f32
    classes: Tensor  # [P] i64
    scores: Tensor  # [P] f32
    masks: Tensor | None = None  # [P,H,W] bool


class Scored(NamedTuple):
    """What a dense head says of every place, level behind level."""

    logits: Tensor  # [N,A,K] f32
    deltas: Tensor  # [N,A,4] f32
    sizes: list[tuple[int, int]]  # of the maps


def focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Lin et al. 2017 (Focal Loss), eq. 5, elementwise: what is easy hardly counts."""
    p = logits.sigmoid()
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    sure = p * target + (1 - p) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return weight * (1 - sure) ** gamma * plain


def best(boxes: Tensor, scores: Tensor, height: int, width: int, floor: float = 0.05, overlap: float = 0.5) -> Found:
    """boxes [A,4] (or [A,K,4], one for each class), scores [A,K] of one image -> at most 100 objects."""
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
    """`depth` convolutions and the predictions: class logits and 4 numbers for `each` anchor of a place. Levels share them."""

    def __init__(self, channels: int, classes: int, each: int, depth: int, prior: float = 0.01):
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
        logits = [_rows(self.logits(self.classify(x)), self.classes) for x in maps]
        deltas = [_rows(self.deltas(self.locate(x)), 4) for x in maps]
        return Scored(torch.cat(logits, 1).float(), torch.cat(deltas, 1).float(), [_size(x) for x in maps])


class Separate(nn.Module):
    """One convolution a level, each of its own (SSD); with `hidden` another of twice the channels before it (YOLOv3)."""

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
        """-> [N,A,outputs] f32, sizes."""
        rows = [_rows(level(x), self.outputs) for level, x in zip(self.levels, maps, strict=True)]
        return torch.cat(rows, 1).float(), [_size(x) for x in maps]


def _rows(x: Tensor, outputs: int) -> Tensor:
    """[N,each*outputs,H,W] -> [N,H*W*each,outputs]."""
    n, _, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(n, height * width * (x.shape[1] // outputs), outputs)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _one_width(channels: Sequence[int]) -> None:
    """ValueError if the levels could not share weights."""
    if len(set(channels)) > 1:
        raise ValueError(f"its maps must be of one width, they have {list(channels)} channels: use a neck such as fpn")


def _true(labels: dict[str, Tensor], row: int) -> tuple[Tensor, Tensor]:
    """Boxes [M',4] and classes [M'] of one image."""
    there = labels["classes"][row] >= 0
    return labels["boxes"][row][there].float(), labels["classes"][row][there].long()


class Anchored(nn.Module):
    """Anchors on every place of every level."""

    def __init__(self, strides: Sequence[int], sizes: Sequence[float], ratios: Sequence[float]):
        """`sizes`: of the anchors in strides; `ratios` of height to width."""
        super().__init__()
        self.strides = tuple(strides)
        shapes = [(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in ratios]
        self.register_buffer("shapes", torch.tensor(shapes), persistent=False)
        self.each = len(shapes)

    def forward(self, sizes: list[tuple[int, int]]) -> Tensor:
        """-> [A,4]."""
        assert isinstance(self.shapes, Tensor)
        return torch.cat([anchors_of(size, stride, self.shapes * stride) for size, stride in zip(sizes, self.strides, strict=True)])


class RetinaNet(nn.Module):
    """Lin et al. 2017: dense towers on a pyramid, focal loss. Anchors of `anchor` strides, at three scales and three ratios."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, depth: int = 4, anchor: float = 4.0):
        super().__init__()
        _one_width(channels)
        self.anchors = Anchored(strides, [anchor * 2 ** (third / 3) for third in range(3)], (0.5, 1.0, 2.0))
        self.towers = Towers(channels[0], classes, self.anchors.each, depth)

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        scored = self.towers(maps)
        anchors = self.anchors(scored.sizes)
        found, place = [], []
        for row in range(len(images)):
            boxes, classes = _true(labels, row)
            target = match(iou(boxes, anchors), 0.5, 0.4, keep_best=True)
            positive, counted = target >= 0, target != NEITHER
            wanted = torch.zeros_like(scored.logits[row])
            wanted[positive, classes[target[positive]]] = 1.0
            total = positive.sum().clamp(min=1)
            found.append(focal(scored.logits[row][counted], wanted[counted]).sum() / total)
            offset = scored.deltas[row][positive] - encode(boxes[target[positive]], anchors[positive])
            place.append(offset.abs().sum() / total)
        return _sum({"class": torch.stack(found), "box": torch.stack(place)})

    def predict(self, maps: Maps, images: Tensor) -> list[Found]:
        scored = self.towers(maps)
        boxes = decode(scored.deltas, self.anchors(scored.sizes))
        return [best(box, logits.sigmoid(), *images.shape[2:]) for box, logits in zip(boxes, scored.logits, strict=True)]


class AnchorFree(nn.Module):
    """Places near the middle of an object find it (Zhou et al. 2019, CenterNet; Tian et al. 2019, FCOS).

    A place says where the centre lies from it, in strides, and the logarithm of the sides, in strides. Objects belong to the level
    whose stride is nearest to a quarter of their size. The score is trained towards the overlap that the box reaches, so that
    well placed boxes come first (Zhang et al. 2021, VarifocalNet).
    """

    RADIUS = 1.5  # strides around the centre

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, depth: int = 2):
        super().__init__()
        _one_width(channels)
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
        """[A] i64: the object that a place is to find, the smallest of several; -1: none."""
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
            boxes, classes = _true(labels, row)
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
            # Those to be found weigh what they are worth, the others as in the focal loss.
            p = logits.sigmoid()
            weight = torch.where(wanted > 0, wanted, 0.75 * p.detach() ** 2)
            found.append((weight * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum() / total)
        return _sum({"class": torch.stack(found), "box": torch.stack(place)})

    def predict(self, maps: Maps, images: Tensor) -> list[Found]:
        scored = self.towers(maps)
        points, stride = self._places(scored.sizes, images.device)
        boxes = self._boxes(scored.deltas, points, stride)
        return [best(box, logits.sigmoid(), *images.shape[2:]) for box, logits in zip(boxes, scored.logits, strict=True)]


class Ssd(nn.Module):
    """Liu et al. 2016: a softmax with background at every anchor, and of the background the hardest three for each object found."""

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
            boxes, classes = _true(labels, row)
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
        return _sum({"class": torch.stack(found), "box": torch.stack(place)})

    def predict(self, maps: Maps, images: Tensor) -> list[Found]:
        out, sizes = self.convs(maps)
        boxes = decode(out[..., -4:], self.anchors(sizes), self.WEIGHTS)
        scores = out[..., :-4].softmax(-1)[..., 1:]
        return [best(box, score, *images.shape[2:]) for box, score in zip(boxes, scores, strict=True)]


class Yolo(nn.Module):
    """YOLOv3 (Redmon & Farhadi 2018): one anchor finds an object, in the cell of its centre; all say whether there is one.

    Anchors of 1, 1.6 and 2.6 times `anchor` strides instead of sizes clustered from a data set.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, anchor: float = 2.0):
        super().__init__()
        self.anchors = Anchored(strides, (anchor, 1.6 * anchor, 2.6 * anchor), (1.0,))
        self.convs = Separate(channels, 5 + classes, self.anchors.each, hidden=True)

    @staticmethod
    def _owners(boxes: Tensor, anchors: Tensor, stride: Tensor) -> Tensor:
        """[M] i64: of the anchors whose cell holds a box's centre the one of the nearest size."""
        middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2  # [M,1,2]
        off = (middle - (anchors[:, :2] + anchors[:, 2:]) / 2).abs().amax(-1)  # [M,A]
        sides, own = (boxes[:, 2:] - boxes[:, :2])[:, None], anchors[:, 2:] - anchors[:, :2]
        both = torch.minimum(sides, own).prod(-1)
        overlap = both / (sides.prod(-1) + own.prod(-1) - both)  # as if they had one centre
        return torch.where(off <= stride[:, 0] / 2, overlap, -off).argmax(1)

    def _boxes(self, out: Tensor, sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """-> boxes [N,A,4], the anchors [A,4], and their strides [A,1]."""
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
            boxes, classes = _true(labels, row)
            owner = self._owners(boxes, anchors, stride)
            wanted = torch.zeros_like(out[row, :, 4])
            wanted[owner] = 1.0
            with torch.no_grad():  # what overlaps an object well, but is not its own, is neither
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
        return _sum({name: torch.stack(values) / many for name, values in parts.items()})

    def predict(self, maps: Maps, images: Tensor) -> list[Found]:
        out, sizes = self.convs(maps)
        boxes, _, _ = self._boxes(out, sizes)
        scores = out[..., 5:].sigmoid() * out[..., 4:5].sigmoid()
        return [best(box, score, *images.shape[2:]) for box, score in zip(boxes, scores, strict=True)]


def _sum(parts: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Parts [N] of a loss -> their sum, and their means as metrics."""
    total = torch.stack(list(parts.values())).sum(0)
    return total, {f"losses/{name}": part.detach().mean() for name, part in parts.items()}


# ------------------------------------------------------------------------------------------------------------ two stages


class Rpn(nn.Module):
    """Region proposals (Ren et al. 2015): where there may be an object, of whatever class."""

    def __init__(self, channels: int, strides: Sequence[int], anchor: float):
        super().__init__()
        self.anchors = Anchored(strides, (anchor,), (0.5, 1.0, 2.0))
        self.shared = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True))
        self.logits = nn.Conv2d(channels, self.anchors.each, 1)
        self.deltas = nn.Conv2d(channels, self.anchors.each * 4, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, maps: Maps) -> Scored:
        inner = [self.shared(x) for x in maps]
        logits = torch.cat([_rows(self.logits(x), 1) for x in inner], 1).float()
        deltas = torch.cat([_rows(self.deltas(x), 4) for x in inner], 1).float()
        return Scored(logits, deltas, [_size(x) for x in maps])

    @torch.no_grad()
    def proposals(self, scored: Scored, height: int, width: int, count: int) -> list[Tensor]:
        """At most `count` boxes of every image, best first; none is used for gradients."""
        boxes = clip(decode(scored.deltas, self.anchors(scored.sizes)), height, width)
        found = []
        for box, score in zip(boxes, scored.logits[..., 0], strict=True):
            top = score.topk(min(4 * count, len(score))).indices
            top = top[((box[top, 2:] - box[top, :2]) >= 1).all(-1)]
            kept = nms(box[top], score[top], torch.zeros_like(top), 0.7)[:count]
            found.append(box[top][kept])
        return found

    def losses(self, scored: Scored, labels: dict[str, Tensor], rows: int) -> tuple[Tensor, Tensor]:
        """-> of objectness and of places, [N] each; of 256 anchors an image, at most half of them positive."""
        anchors = self.anchors(scored.sizes)
        there, place = [], []
        for row in range(rows):
            boxes, _ = _true(labels, row)
            target = match(iou(boxes, anchors), 0.7, 0.3, keep_best=True)
            positive, negative = _balanced(target, 256, 0.5)
            chosen = torch.cat([positive, negative])
            wanted = torch.zeros(len(chosen), device=chosen.device)
            wanted[: len(positive)] = 1
            there.append(F.binary_cross_entropy_with_logits(scored.logits[row, chosen, 0], wanted))
            offset = encode(boxes[target[positive]], anchors[positive])
            place.append(F.smooth_l1_loss(scored.deltas[row, positive], offset, beta=1 / 9, reduction="sum") / len(chosen))
        return torch.stack(there), torch.stack(place)


def _balanced(target: Tensor, count: int, share: float) -> tuple[Tensor, Tensor]:
    """Indices of at most `share * count` positives and of background up to `count`, drawn evenly over the anchors."""
    positive, negative = (target >= 0).nonzero()[:, 0], (target == BACKGROUND).nonzero()[:, 0]
    positive = positive[torch.randperm(len(positive), device=target.device)[: int(share * count)]]
    negative = negative[torch.randperm(len(negative), device=target.device)[: count - len(positive)]]
    return positive, negative


class RoiHead(nn.Module):
    """The second stage, on pieces cut out of the pyramid under each proposal.

    mode `faster` (Ren et al. 2015): proposals come from the net. `fast` (Girshick 2015): they are given, here as a grid of boxes of
    several sizes. `rcnn` (Girshick et al. 2014): given too, and each piece is cut from the image and goes through the backbone by
    itself. With `mask` a small convolutional net draws every object found (He et al. 2017).
    """

    WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    MODES = ("faster", "fast", "rcnn")
    CROP, AT_ONCE = 64, 256  # in mode rcnn: pixels of a side, and pieces that go through the backbone together

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        hidden: int = 1024,
        mask: int = 0,
        anchor: float = 8.0,
        mode: str = "faster",
        proposals: int = 200,
    ):
        """`mask`: channels of its convolutions, 0: no masks. `anchor` of the proposals, in strides."""
        super().__init__()
        _one_width(channels)
        if mode not in self.MODES:
            raise ValueError(f"mode={mode}: must be {', '.join(self.MODES)}")
        self.classes, self.count, self.mode, self.strides = classes, proposals, mode, tuple(strides)
        width = channels[0]
        self.rpn = Rpn(width, strides, anchor) if mode == "faster" else None
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(width * 49, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, hidden), nn.ReLU(inplace=True)
        )
        self.logits, self.deltas = nn.Linear(hidden, classes + 1), nn.Linear(hidden, (classes + 1) * 4)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        self.mask: nn.Sequential | None = None
        if mask:
            convs = [
                nn.Sequential(nn.Conv2d(width if n == 0 else mask, mask, 3, padding=1), nn.ReLU(inplace=True)) for n in range(4)
            ]
            self.mask = nn.Sequential(
                *convs, nn.ConvTranspose2d(mask, mask, 2, 2), nn.ReLU(inplace=True), nn.Conv2d(mask, classes + 1, 1)
            )

    def _pieces(self, maps: Maps, boxes: Tensor, owner: Tensor, size: int) -> Tensor:
        """[P,C,size,size], each from the level on which its box has about 7 places a side (Lin et al. 2017, eq. 1)."""
        side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1).prod(-1).sqrt()
        wanted = (side / 7).log2()
        own = torch.tensor([math.log2(stride) for stride in self.strides], device=boxes.device)
        level = (wanted[:, None] - own).abs().argmin(1)
        found = maps[0].new_zeros(len(boxes), maps[0].shape[1], size, size)
        for index, stride in enumerate(self.strides):
            rows = (level == index).nonzero()[:, 0]
            if len(rows):
                pieces = roi_align(maps[index], boxes[rows], owner[rows], stride, size)
                found = found.index_copy(0, rows, pieces.to(found.dtype))
        return found

    def _given(self, images: Tensor) -> list[Tensor]:
        """Boxes of a few sizes and shapes on a grid, the same for every image."""
        height, width = images.shape[2:]
        found = []
        for part in (4, 2):
            step = max(height, width) / part / 2
            y, x = (torch.arange(step / 2, size, step, device=images.device) for size in (height, width))
            centre = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).reshape(-1, 1, 2)
            sides = images.new_tensor([[1.0, 1.0], [0.7, 1.4], [1.4, 0.7]], dtype=torch.float32) * step
            found.append(torch.cat([centre - sides, centre + sides], -1).reshape(-1, 4))
        return [clip(torch.cat(found), height, width)] * len(images)

    def losses(
        self, maps: Maps, images: Tensor, labels: dict[str, Tensor], embed: Embed | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`embed`: images -> maps, for mode rcnn."""
        n, (height, width) = len(images), images.shape[2:]
        parts: dict[str, Tensor] = {}
        if self.rpn is not None:
            scored = self.rpn(maps)
            parts["object"], parts["proposal"] = self.rpn.losses(scored, labels, n)
            given = self.rpn.proposals(scored, height, width, self.count)
        else:
            given = self._given(images)
        chosen, wanted, true, owner, which = [], [], [], [], []
        for row in range(n):
            boxes, classes = _true(labels, row)
            candidates = torch.cat([given[row], boxes])  # the true ones too, so that there is always something to learn from
            target = match(iou(boxes, candidates), 0.5, 0.5, keep_best=False)
            positive, negative = _balanced(target, 64, 0.25)
            index = torch.cat([positive, negative])
            chosen.append(candidates[index])
            label = torch.zeros(len(index), dtype=torch.int64, device=images.device)  # 0: background
            label[: len(positive)] = classes[target[positive]] + 1
            wanted.append(label)
            true.append(boxes[target[positive]])
            owner.append(torch.full_like(label, row))
            which.append(target[positive])
        boxes, label, image = torch.cat(chosen), torch.cat(wanted), torch.cat(owner)
        logits, deltas = self._second(maps, boxes, image, images, embed)
        positive = label > 0
        offset = encode(torch.cat(true), boxes[positive], self.WEIGHTS)
        mine = deltas[positive].view(-1, self.classes + 1, 4)[torch.arange(int(positive.sum())), label[positive]]
        parts["class"] = _by_image(F.cross_entropy(logits, label, reduction="none"), image, n)
        spread = F.smooth_l1_loss(mine, offset, beta=1 / 9, reduction="none").sum(1)
        parts["box"] = torch.zeros(n, device=images.device).index_add(0, image[positive], spread) / torch.bincount(
            image, minlength=n
        ).clamp(min=1)
        if self.mask is not None:
            parts["mask"] = self._mask_loss(maps, boxes[positive], image[positive], label[positive], torch.cat(which), labels)
        return _sum(parts)

    def _second(self, maps: Maps, boxes: Tensor, owner: Tensor, images: Tensor, embed: Embed | None) -> tuple[Tensor, Tensor]:
        """-> logits [P,K+1], deltas [P,(K+1)*4], f32; class 0 is the background."""
        if self.mode == "rcnn":
            assert embed is not None
            parts = []
            for at in range(0, len(boxes), self.AT_ONCE):
                some = slice(at, at + self.AT_ONCE)
                parts.append(embed(roi_align(images.float(), boxes[some], owner[some], 1, self.CROP))[0])
            pieces = F.adaptive_avg_pool2d(torch.cat(parts), 7)
        else:
            pieces = self._pieces(maps, boxes, owner, 7)
        inner = self.dense(pieces)
        return self.logits(inner).float(), self.deltas(inner).float()

    def _mask_loss(
        self, maps: Maps, boxes: Tensor, owner: Tensor, label: Tensor, which: Tensor, labels: dict[str, Tensor]
    ) -> Tensor:
        """Binary cross entropy of the mask of the true class, 28x28, against the true one cut out alike -> [N]."""
        assert self.mask is not None
        n = len(labels["classes"])
        if len(boxes) == 0:
            return torch.zeros(n, device=boxes.device)
        drawn = self.mask(self._pieces(maps, boxes, owner, 14)).float()[torch.arange(len(boxes)), label]
        rows = []
        for image, index in zip(owner.tolist(), which.tolist(), strict=True):
            there = (labels["classes"][image] >= 0).nonzero()[:, 0]
            rows.append(labels["masks"][image, there[index]])
        true = torch.stack(rows).float().unsqueeze(1)
        wanted = roi_align(true, boxes, torch.arange(len(boxes), device=boxes.device), 1, 28).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(drawn, (wanted > 0.5).float(), reduction="none").mean((1, 2))
        return _by_image(loss, owner, n)

    def predict(self, maps: Maps, images: Tensor, embed: Embed | None = None) -> list[Found]:
        n, (height, width) = len(images), images.shape[2:]
        given = self._given(images) if self.rpn is None else self.rpn.proposals(self.rpn(maps), height, width, self.count)
        owner = torch.cat([torch.full((len(each),), row, device=images.device) for row, each in enumerate(given)])
        logits, deltas = self._second(maps, torch.cat(given), owner, images, embed)
        scores = logits.softmax(-1)[:, 1:]
        boxes = decode(deltas.view(-1, self.classes + 1, 4)[:, 1:], torch.cat(given)[:, None], self.WEIGHTS)
        found = []
        for row in range(n):
            mine = owner == row
            result = best(boxes[mine], scores[mine], height, width)
            found.append(result if self.mask is None else result._replace(masks=self._draw(maps, result, row, height, width)))
        return found

    def _draw(self, maps: Maps, result: Found, row: int, height: int, width: int) -> Tensor:
        """The masks of one image's objects [P,H,W] bool."""
        assert self.mask is not None
        masks = torch.zeros(len(result.boxes), height, width, dtype=torch.bool, device=result.boxes.device)
        if len(result.boxes) == 0:
            return masks
        owner = torch.full((len(result.boxes),), row, device=result.boxes.device)
        drawn = self.mask(self._pieces(maps, result.boxes, owner, 14)).float()
        picked = drawn[torch.arange(len(drawn)), result.classes + 1].sigmoid()  # [P,28,28]
        y, x = (torch.arange(size, device=drawn.device) + 0.5 for size in (height, width))
        low, span = result.boxes[:, :2], (result.boxes[:, 2:] - result.boxes[:, :2]).clamp(min=1e-3)
        gx = (x - low[:, :1]) / span[:, :1] * 2 - 1  # [P,W]
        gy = (y - low[:, 1:]) / span[:, 1:] * 2 - 1
        grid = torch.stack([gx[:, None].expand(-1, height, -1), gy[:, :, None].expand(-1, -1, width)], -1)
        return F.grid_sample(picked.unsqueeze(1), grid, align_corners=False).squeeze(1) > 0.5


def _by_image(values: Tensor, owner: Tensor, n: int) -> Tensor:
    """Means of values [P] over those of each image -> [N]."""
    total = torch.zeros(n, device=values.device).index_add(0, owner, values)
    return total / torch.bincount(owner, minlength=n).clamp(min=1)
