"""Two-stage heads: R-CNN, Fast R-CNN, Faster R-CNN and Mask R-CNN. Shapes: see the package; P pieces of all images."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.vision.boxes import clip, decode, encode, iou, match, nms, roi_align
from rlsuite.vision.detection.anchor_based import Anchored
from rlsuite.vision.detection.common import DetectionHead, Found, Scored, as_rows, require_one_width, size_of, top_detections
from rlsuite.vision.detection.losses import balanced, mean_by_image, objects_of, summed
from rlsuite.vision.necks import Maps

Embed = Callable[[Tensor], Maps]


class Rpn(nn.Module):
    """The region proposal network (Ren et al. 2015): boxes that may contain an object of any class."""

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
        """Objectness logits (K = 1) and deltas at every anchor."""
        inner = [self.shared(x) for x in maps]
        logits = torch.cat([as_rows(self.logits(x), 1) for x in inner], 1).float()
        deltas = torch.cat([as_rows(self.deltas(x), 4) for x in inner], 1).float()
        return Scored(logits, deltas, [size_of(x) for x in maps])

    @torch.no_grad()
    def proposals(self, scored: Scored, height: int, width: int, count: int) -> list[Tensor]:
        """At most `count` boxes for each image, best first, without gradients."""
        boxes = clip(decode(scored.deltas, self.anchors(scored.sizes)), height, width)
        found = []
        for box, score in zip(boxes, scored.logits[..., 0], strict=True):
            top = score.topk(min(4 * count, len(score))).indices
            top = top[((box[top, 2:] - box[top, :2]) >= 1).all(-1)]
            kept = nms(box[top], score[top], torch.zeros_like(top), 0.7)[:count]
            found.append(box[top][kept])
        return found

    def losses(self, scored: Scored, labels: dict[str, Tensor], rows: int) -> tuple[Tensor, Tensor]:
        """Losses of objectness and of boxes, [N] each, over 256 anchors an image, at most half of them positive."""
        anchors = self.anchors(scored.sizes)
        there, place = [], []
        for row in range(rows):
            boxes, _ = objects_of(labels, row)
            target = match(iou(boxes, anchors), 0.7, 0.3, keep_best=True)
            positive, negative = balanced(target, 256, 0.5)
            chosen = torch.cat([positive, negative])
            wanted = torch.zeros(len(chosen), device=chosen.device)
            wanted[: len(positive)] = 1
            there.append(F.binary_cross_entropy_with_logits(scored.logits[row, chosen, 0], wanted))
            offset = encode(boxes[target[positive]], anchors[positive])
            place.append(F.smooth_l1_loss(scored.deltas[row, positive], offset, beta=1 / 9, reduction="sum") / len(chosen))
        return torch.stack(there), torch.stack(place)


class RoiHead(DetectionHead):
    """The second stage: classifies and refines each proposal from the piece of the pyramid under it.

    mode `faster` (Ren et al. 2015): the net makes the proposals. `fast` (Girshick 2015): they are given, here as a grid of boxes
    of several sizes. `rcnn` (Girshick et al. 2014): given too, and each piece is cropped from the image and goes through the
    backbone by itself. With `mask`, a small convolutional net segments every object found (He et al. 2017).
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
        """`mask`: channels of the mask net, 0 for none; `anchor`: size of the proposals' anchors, in strides."""
        super().__init__()
        require_one_width(channels)
        if mode not in self.MODES:
            raise ValueError(f"mode={mode}: must be {', '.join(self.MODES)}")
        self.classes, self.count, self.mode, self.strides = classes, proposals, mode, tuple(strides)
        self.embeds = mode == "rcnn"
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
        """Pieces [P,C,size,size] under the boxes, each of the level where its box is about 7 places wide (Lin et al. 2017)."""
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
        """Given proposals: boxes of a few sizes and shapes on a grid, the same for every image."""
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
        """The loss of each image [N] f32, and metrics. `embed`: images -> maps, for mode rcnn."""
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
            boxes, classes = objects_of(labels, row)
            candidates = torch.cat([given[row], boxes])  # the true ones included, so that there are always positives
            target = match(iou(boxes, candidates), 0.5, 0.5, keep_best=False)
            positive, negative = balanced(target, 64, 0.25)
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
        parts["class"] = mean_by_image(F.cross_entropy(logits, label, reduction="none"), image, n)
        spread = F.smooth_l1_loss(mine, offset, beta=1 / 9, reduction="none").sum(1)
        parts["box"] = torch.zeros(n, device=images.device).index_add(0, image[positive], spread) / torch.bincount(
            image, minlength=n
        ).clamp(min=1)
        if self.mask is not None:
            parts["mask"] = self._mask_loss(maps, boxes[positive], image[positive], label[positive], torch.cat(which), labels)
        return summed(parts)

    def _second(self, maps: Maps, boxes: Tensor, owner: Tensor, images: Tensor, embed: Embed | None) -> tuple[Tensor, Tensor]:
        """Logits [P,K+1] and deltas [P,(K+1)*4] of the boxes, f32; class 0 is the background."""
        if self.mode == "rcnn":
            assert embed is not None
            parts = []
            for at in range(0, len(boxes), self.AT_ONCE):
                some = slice(at, at + self.AT_ONCE)
                parts.append(embed(roi_align(images.float() / 255, boxes[some], owner[some], 1, self.CROP))[0])
            pieces = F.adaptive_avg_pool2d(torch.cat(parts), 7)
        else:
            pieces = self._pieces(maps, boxes, owner, 7)
        inner = self.dense(pieces)
        return self.logits(inner).float(), self.deltas(inner).float()

    def _mask_loss(
        self, maps: Maps, boxes: Tensor, owner: Tensor, label: Tensor, which: Tensor, labels: dict[str, Tensor]
    ) -> Tensor:
        """Binary cross-entropy of the 28x28 mask of the true class against the true mask under the same box -> [N]."""
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
        return mean_by_image(loss, owner, n)

    def predict(self, maps: Maps, images: Tensor, embed: Embed | None = None) -> list[Found]:
        """The objects of each image. `embed`: images -> maps, for mode rcnn."""
        n, (height, width) = len(images), images.shape[2:]
        given = self._given(images) if self.rpn is None else self.rpn.proposals(self.rpn(maps), height, width, self.count)
        owner = torch.cat([torch.full((len(each),), row, device=images.device) for row, each in enumerate(given)])
        logits, deltas = self._second(maps, torch.cat(given), owner, images, embed)
        scores = logits.softmax(-1)[:, 1:]
        boxes = decode(deltas.view(-1, self.classes + 1, 4)[:, 1:], torch.cat(given)[:, None], self.WEIGHTS)
        found = []
        for row in range(n):
            mine = owner == row
            result = top_detections(boxes[mine], scores[mine], height, width)
            found.append(result if self.mask is None else result._replace(masks=self._draw(maps, result, row, height, width)))
        return found

    def _draw(self, maps: Maps, result: Found, row: int, height: int, width: int) -> Tensor:
        """The masks [P,H,W] bool of the objects of image `row`, at full size."""
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
