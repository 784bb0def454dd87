"""Operations on boxes in plain torch. A box is [x1,y1,x2,y2] in pixels.

Shapes: N, M boxes, K classes, C channels, H x W pixels of a map.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DELTA_LIMIT = 4.135  # ln(1000/16): how much wider than its anchor a predicted box may be
BACKGROUND, NEITHER = -1, -2  # targets of anchors without an object, see `match`


def area(boxes: Tensor) -> Tensor:
    """Areas: [...,4] -> [...]."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union: [...,N,4], [...,M,4] -> [...,N,M], 0 where both are empty."""
    a, b = a.unsqueeze(-2), b.unsqueeze(-3)
    near, far = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (far - near).clamp(min=0).prod(-1)
    return both / (area(a) + area(b) - both).clamp(min=1e-9)


def nms(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression within each class: boxes [N,4], scores [N], classes [N] -> indices of those kept, best first."""
    order = scores.argsort(descending=True, stable=True)
    boxes, classes = boxes[order], classes[order]
    clash = ((iou(boxes, boxes) > threshold) & (classes[:, None] == classes)).cpu().numpy()
    kept, gone = [], np.zeros(len(order), bool)
    for index in range(len(order)):
        if not gone[index]:
            kept.append(index)
            gone = gone | clash[index]
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def encode(boxes: Tensor, anchors: Tensor, weights: tuple[float, float, float, float] = (1, 1, 1, 1)) -> Tensor:
    """Regression targets of boxes: shift of the centre in anchor sizes, log of the ratio of sizes (Girshick et al. 2014)."""
    size, own = _size(anchors), _size(boxes)
    shift = (_centre(boxes) - _centre(anchors)) / size
    return torch.cat([shift, (own / size).log()], -1) * boxes.new_tensor(weights)


def decode(deltas: Tensor, anchors: Tensor, weights: tuple[float, float, float, float] = (1, 1, 1, 1)) -> Tensor:
    """The inverse of `encode`: deltas [...,4] -> boxes [...,4]."""
    deltas = deltas / deltas.new_tensor(weights)
    size = _size(anchors)
    centre = _centre(anchors) + deltas[..., :2] * size
    half = deltas[..., 2:].clamp(max=DELTA_LIMIT).exp() * size / 2
    return torch.cat([centre - half, centre + half], -1)


def _size(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3)


def _centre(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes clipped to the image."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def centres(shape: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """The centres of the places of a map, in pixels of the image: [H*W,2] as (x, y)."""
    y, x = (torch.arange(size, device=device) * stride + stride / 2 for size in shape)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).reshape(-1, 2)


def anchors_of(shape: tuple[int, int], stride: int, sizes: Tensor) -> Tensor:
    """Anchors of `sizes` [A,2] (width, height) around every place of a map: [H*W*A,4]."""
    centre = centres(shape, stride, sizes.device)[:, None]  # [H*W,1,2]
    return torch.cat([centre - sizes / 2, centre + sizes / 2], -1).reshape(-1, 4)


def roi_align(feature: Tensor, boxes: Tensor, owner: Tensor, stride: int, size: int, samples: int = 2) -> Tensor:
    """RoIAlign (He et al. 2017): the map under each box, interpolated at `samples` x `samples` points per cell and averaged.

    feature [N,C,H,W], boxes [M,4] in image pixels, owner [M] i64 (the image of each box) -> [M,C,size,size].
    """
    n, c, height, width = feature.shape
    if len(boxes) == 0:
        return feature.new_zeros(0, c, size, size)
    boxes = boxes / stride
    span = boxes[:, 2:] - boxes[:, :2]
    steps = (torch.arange(size * samples, device=feature.device) + 0.5) / (size * samples)
    x = boxes[:, None, 0] + steps * span[:, None, 0]  # [M,size*samples]
    y = boxes[:, None, 1] + steps * span[:, None, 1]
    flat = feature.permute(0, 2, 3, 1).reshape(n * height * width, c)
    total = feature.new_zeros(len(boxes), size * samples, size * samples, c)
    # The centre of place 0 is pixel 0.5 of the map.
    (x0, wx, okx), (y0, wy, oky) = _between(x - 0.5, width), _between(y - 0.5, height)
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = (y0 + dy).clamp(max=height - 1), (x0 + dx).clamp(max=width - 1)
            at = owner[:, None, None] * height * width + row[:, :, None] * width + column[:, None, :]
            weight = (wy if dy else 1 - wy)[:, :, None] * (wx if dx else 1 - wx)[:, None, :]
            inside = (oky[:, :, None] & okx[:, None, :]).to(weight.dtype)
            total = total + flat[at] * (weight * inside).unsqueeze(-1).to(flat.dtype)
    pooled = F.avg_pool2d(total.permute(0, 3, 1, 2), samples)
    return pooled


def _between(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The place below each point, the weight of the place above, and whether the point is at most one place past the border."""
    inside = (at > -1) & (at < size)
    at = at.clamp(0, size - 1)
    below = at.floor().long().clamp(max=max(size - 2, 0))
    return below, at - below, inside


def match(overlap: Tensor, high: float, low: float, keep_best: bool) -> Tensor:
    """The target of every anchor: IoU [M,N] of M true boxes and N anchors -> [N] i64, a box, BACKGROUND or NEITHER.

    An anchor gets the box that it overlaps most, from an IoU of `high` on; below `low` it is background (Girshick et al. 2014).
    `keep_best`: every box also gets the anchors that overlap it most, however little (Ren et al. 2015).
    """
    m, n = overlap.shape
    if m == 0:
        return torch.full((n,), BACKGROUND, dtype=torch.int64, device=overlap.device)
    best, index = overlap.max(0)
    found = torch.where(best >= high, index, torch.where(best < low, BACKGROUND, NEITHER))
    if keep_best:
        top = overlap.max(1, keepdim=True).values
        rows, columns = ((overlap == top) & (top > 0)).nonzero(as_tuple=True)
        found[columns] = rows
    return found


def giou(a: Tensor, b: Tensor) -> Tensor:
    """The generalised IoU of pairs of boxes (Rezatofighi et al. 2019): [...,4], [...,4] -> [...] in [-1,1]."""
    near, far = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (far - near).clamp(min=0).prod(-1)
    either = (area(a) + area(b) - both).clamp(min=1e-6)
    hull = torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], -1)
    whole = area(hull).clamp(min=1e-6)
    return both / either - (whole - either) / whole
