"""Boxes: overlap, suppression, coding, matching, RoIAlign; by hand, or against a slow twin."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsuite.vision import boxes


def random_boxes(n: int, size: float = 50.0) -> Tensor:
    low = torch.rand(n, 2) * size
    return torch.cat([low, low + torch.rand(n, 2) * size / 2 + 1], 1)


def test_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 0, 0]])
    b = torch.tensor([[1.0, 0, 3, 2], [2, 2, 4, 4], [0, 0, 2, 2]])
    torch.testing.assert_close(boxes.iou(a, b), torch.tensor([[2 / 6, 0, 1], [0, 0, 0]]))


def test_nms_is_greedy_and_within_a_class() -> None:
    b = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [30, 30, 40, 40], [2, 0, 12, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95, 0.6])
    same = torch.zeros(5, dtype=torch.int64)
    # 4 overlaps 0 by 8/12 and 1, which is gone already, by 9/11.
    assert boxes.nms(b, scores, same, 0.7).tolist() == [3, 0, 4]
    assert boxes.nms(b, scores, torch.tensor([0, 0, 1, 0, 0]), 0.7).tolist() == [3, 0, 2, 4]
    assert boxes.nms(b[:0], scores[:0], same[:0], 0.5).tolist() == []


def test_nms_against_a_twin() -> None:
    torch.manual_seed(0)
    b, scores, classes = random_boxes(60), torch.rand(60), torch.randint(0, 3, (60,))
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(classes[i] != classes[j] or float(boxes.iou(b[i : i + 1], b[j : j + 1])) <= 0.4 for j in kept):
            kept.append(i)
    assert boxes.nms(b, scores, classes, 0.4).tolist() == kept
    assert len(kept) < 60


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_coding_by_hand_and_back(weights: tuple[float, float, float, float]) -> None:
    anchor, box = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 0, 25, 20]])
    expected = torch.tensor([[1.0, 0, np.log(2), 0]]) * torch.tensor(weights)
    torch.testing.assert_close(boxes.encode(box, anchor, weights), expected, check_dtype=False)
    torch.manual_seed(0)
    a, b = random_boxes(20), random_boxes(20)
    torch.testing.assert_close(boxes.decode(boxes.encode(b, a, weights), a, weights), b, rtol=1e-4, atol=1e-3)


def test_anchors_are_centred_on_each_place() -> None:
    sizes = torch.tensor([[4.0, 2.0]])
    assert boxes.anchors_of((1, 2), 8, sizes).tolist() == [[2, 3, 6, 5], [10, 3, 14, 5]]


def test_matching_by_hand() -> None:
    overlap = torch.tensor([[0.8, 0.45, 0.1, 0.2], [0.1, 0.0, 0.3, 0.0]])
    assert boxes.match(overlap, 0.5, 0.4, keep_best=False).tolist() == [0, -2, -1, -1]
    assert boxes.match(overlap, 0.5, 0.4, keep_best=True).tolist() == [0, -2, 1, -1]  # the second box keeps its best
    assert boxes.match(overlap[:0], 0.5, 0.4, keep_best=True).tolist() == [-1] * 4


def test_giou_by_hand() -> None:
    a, b = torch.tensor([0.0, 0, 2, 2]), torch.tensor([2.0, 0, 4, 2])
    assert float(boxes.giou(a, a)) == pytest.approx(1.0)
    assert float(boxes.giou(a, b)) == pytest.approx(0.0)  # side by side: they fill their hull
    assert float(boxes.giou(a, b + torch.tensor([4.0, 0, 4, 0]))) == pytest.approx(-0.5)


def slow_roi(feature: Tensor, box: Tensor, stride: int, size: int, samples: int) -> Tensor:
    """RoIAlign, computed point by point."""
    c, height, width = feature.shape
    x1, y1, x2, y2 = (box / stride).tolist()
    out = torch.zeros(c, size, size)
    for i in range(size * samples):
        for j in range(size * samples):
            y = y1 + (i + 0.5) * (y2 - y1) / (size * samples) - 0.5
            x = x1 + (j + 0.5) * (x2 - x1) / (size * samples) - 0.5
            if not (-1 < y < height and -1 < x < width):
                continue
            y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
            v, u = int(y), int(x)
            for dv, du in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (y - v if dv else 1 - (y - v)) * (x - u if du else 1 - (x - u))
                if weight > 0:
                    out[:, i // samples, j // samples] += feature[:, v + dv, u + du] * weight / samples**2
    return out


def test_roi_align_against_a_twin() -> None:
    torch.manual_seed(0)
    feature = torch.rand(2, 3, 9, 12)
    b = torch.tensor([[4.0, 3, 60, 50], [-20, -10, 30, 90], [10, 10, 12, 11], [80, 60, 120, 90]])
    owner = torch.tensor([0, 1, 1, 0])
    found = boxes.roi_align(feature, b, owner, 8, 4)
    for row in range(4):
        torch.testing.assert_close(found[row], slow_roi(feature[owner[row]], b[row], 8, 4, 2), rtol=1e-4, atol=1e-5)
    assert boxes.roi_align(feature, b[:0], owner[:0], 8, 4).shape == (0, 3, 4, 4)


def test_roi_align_of_a_box_on_the_grid_is_the_map_itself() -> None:
    feature = torch.arange(16.0).view(1, 1, 4, 4)
    whole = boxes.roi_align(feature, torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0]), 2, 4, samples=1)
    torch.testing.assert_close(whole, feature)


def test_gradients_reach_the_map_under_the_box_only() -> None:
    feature = torch.rand(1, 1, 8, 8, requires_grad=True)
    boxes.roi_align(feature, torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([0]), 1, 2).sum().backward()
    assert feature.grad is not None
    assert float(feature.grad[0, 0, :4, :4].sum()) == pytest.approx(4.0)
    assert not feature.grad[0, 0, 5:].any()
