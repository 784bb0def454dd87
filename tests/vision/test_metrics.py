"""Accuracy, IoU and average precision: by hand, and COCO's against pycocotools, which defines it."""

import contextlib
import io

import numpy as np
import pytest

from rlsuite.vision.metrics import Objects, average_precision, class_iou, coco_map, confusion, mask_iou, mean_iou, pixel_accuracy


def test_confusion_and_iou_by_hand() -> None:
    true, predicted = np.array([0, 0, 1, 1, 255]), np.array([0, 1, 1, 1, 0])
    counts = confusion(predicted, true, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    np.testing.assert_allclose(class_iou(counts), [1 / 2, 2 / 3, np.nan])
    assert mean_iou(counts) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert pixel_accuracy(counts) == 0.75


def test_average_precision_by_hand() -> None:
    """Hit, miss, hit of two objects: precision 1 up to recall 0.5, then 2/3."""
    hits = np.array([True, False, True])
    assert average_precision(hits, 2, points=None) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(hits, 2, points=11) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert average_precision(hits, 4, points=None) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)  # half are never found
    assert average_precision(np.zeros(0, bool), 2) == 0.0
    assert np.isnan(average_precision(hits, 0))


def test_an_object_is_found_once() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    true = [Objects(box, np.array([0]))]
    twice = [Objects(box.repeat(2, 0), np.array([0, 0]), np.array([0.9, 0.8]))]
    assert coco_map(twice, true, 1)["mAP"] == pytest.approx(1.0)  # the second comes after full recall
    wrong_first = [Objects(np.array([[50.0, 50, 60, 60], [0, 0, 10, 10]]), np.array([0, 0]), np.array([0.9, 0.8]))]
    assert coco_map(wrong_first, true, 1)["mAP"] == pytest.approx(0.5)
    other_class = [Objects(box, np.array([1]), np.array([0.9]))]
    assert coco_map(other_class, true, 2)["mAP"] == 0.0
    nothing = [Objects(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))]
    assert coco_map(nothing, true, 1)["mAP"] == 0.0


def scenes(rng: np.random.Generator, images: int) -> tuple[list[Objects], list[Objects]]:
    """True objects, and predictions: some of them slightly moved, and some invented."""
    true, predicted = [], []
    for _ in range(images):
        m = int(rng.integers(0, 6))
        low = rng.uniform(0, 40, (m, 2))
        boxes = np.concatenate([low, low + rng.uniform(4, 20, (m, 2))], 1).round(2)
        classes = rng.integers(0, 3, m)
        moved = boxes + rng.normal(0, 1.2, boxes.shape)
        extra = rng.uniform(0, 40, (3, 2))
        found = np.concatenate([moved, moved[: m // 2] + 1, np.concatenate([extra, extra + 8], 1)]).round(2)
        kinds = np.concatenate([np.where(rng.random(m) < 0.85, classes, 0), classes[: m // 2], rng.integers(0, 3, 3)])
        scores = rng.random(len(found)).round(2)  # some are equal
        true.append(Objects(boxes, classes, None, painted(boxes)))
        predicted.append(Objects(found, kinds, scores, painted(found)))
    return true, predicted


def painted(boxes: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:64, :64] + 0.5
    x1, y1, x2, y2 = (boxes[:, i][:, None, None] for i in range(4))
    return (x >= x1) & (x < x2) & (y >= y1) & (y < y2)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_map_equals_that_of_pycocotools(masks: bool, seed: int) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools import mask as rle
    from pycocotools.cocoeval import COCOeval

    true, predicted = scenes(np.random.default_rng(seed), 40)

    def shape(objects: Objects, row: int) -> dict[str, object]:
        x1, y1, x2, y2 = (float(v) for v in objects.boxes[row])
        assert objects.masks is not None
        area = float(objects.masks[row].sum()) if masks else (x2 - x1) * (y2 - y1)
        return {
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": area,
            "segmentation": rle.encode(np.asfortranarray(objects.masks[row].astype(np.uint8))),
        }

    annotations, results = [], []
    for image, (t, p) in enumerate(zip(true, predicted, strict=True)):
        for row in range(len(t.boxes)):
            place = {"id": len(annotations) + 1, "image_id": image, "category_id": int(t.classes[row]), "iscrowd": 0}
            annotations.append({**place, **shape(t, row)})
        for row in range(len(p.boxes)):
            assert p.scores is not None
            results.append({"image_id": image, "category_id": int(p.classes[row]), "score": float(p.scores[row]), **shape(p, row)})
            if masks:
                del results[-1]["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        data = coco.COCO()
        data.dataset = {
            "images": [{"id": i, "height": 64, "width": 64} for i in range(len(true))],
            "annotations": annotations,
            "categories": [{"id": k} for k in range(3)],
        }
        data.createIndex()
        evaluate = COCOeval(data, data.loadRes(results), "segm" if masks else "bbox")
        evaluate.evaluate()
        evaluate.accumulate()
        evaluate.summarize()
    ours = coco_map(predicted, true, 3, masks=masks)
    assert [ours["mAP"], ours["mAP50"], ours["mAP75"]] == pytest.approx(evaluate.stats[:3].tolist(), abs=1e-4)
    assert 0.05 < ours["mAP"] < 0.95


def test_mask_iou_by_hand() -> None:
    a, b = np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2), bool)
    a[0, 0], b[0, :, 0] = True, True
    assert mask_iou(a, b) == pytest.approx(1 / 3)
