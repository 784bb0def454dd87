"""Precision, recall and confusion: worked out by hand, what is undefined, the pictures, and the command that writes them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rlsuite.cli.vision import app
from rlsuite.core.errors import UsageError
from rlsuite.vision.evaluate import _Seen
from rlsuite.vision.metrics import Objects, object_confusion, pr_curve, precision_recall
from rlsuite.vision.report import draw, of_counts, of_objects
from rlsuite.vision.train import train

TINY = {
    "data.pictures": 32,
    "data.size": 32,
    "model.backbone": "impala(norm=batch)",
    "learner.batch_size": 8,
    "run.steps": 48,
    "run.threads": 1,
    "run.device": "cpu",
}
PIXELS = {**TINY, "data.labels": "pixels", "model.neck": "none", "model.head": "unet(width=8)"}
A, B, FAR = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [50.0, 50, 60, 60]


def objects(boxes: list[list[float]], classes: list[int], scores: list[float] | None = None) -> Objects:
    return Objects(np.array(boxes).reshape(-1, 4), np.array(classes, np.int64), None if scores is None else np.array(scores))


def test_texts_have_no_classes_to_confuse() -> None:
    model: Any = SimpleNamespace(head=None)
    assert _Seen(model, "read", ("a", "b")).reports(("a", "b")) == {}
    assert _Seen(model, "classify", ("a", "b")).reports(("a", "b")).keys() == {"pictures"}


def test_precision_and_recall_of_counts_by_hand() -> None:
    counts = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])  # the last class neither occurs nor is predicted
    precision, recall = precision_recall(counts)
    np.testing.assert_allclose(precision, [6 / 7, 3 / 5, np.nan])
    np.testing.assert_allclose(recall, [6 / 8, 3 / 4, np.nan])
    report = of_counts(["a", "b", "c"], counts)
    assert report.means() == {"precision": pytest.approx((6 / 7 + 3 / 5) / 2), "recall": pytest.approx(0.75)}
    assert report.as_dict()["precision"][2] is None
    assert report.names == ("a", "b", "c")


def test_a_curve_by_hand_takes_equal_scores_together() -> None:
    true = [objects([A], [0]), objects([B], [0])]
    predicted = [objects([A, FAR], [0, 0], [0.9, 0.8]), objects([B, FAR], [0, 0], [0.8, 0.3])]
    curve = pr_curve(predicted, true, 0)
    assert curve.scores.tolist() == [0.9, 0.8, 0.3]
    np.testing.assert_allclose(curve.precision, [1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(curve.recall, [1 / 2, 1, 1])
    assert curve.best() == (0.8, pytest.approx(2 / 3), 1.0)  # F1 2/3, 4/5, 2/3


def test_a_class_without_objects_or_without_predictions_has_no_threshold() -> None:
    true, predicted = [objects([A], [0])], [objects([FAR], [1], [0.7])]
    report = of_objects(["a", "b"], predicted, true, masks=False)
    assert report.as_dict() == {
        "classes": ["a", "b", "background"],
        "precision": [None, None],
        "recall": [0.0, None],
        "threshold": [None, None],
        "AP50": [0.0, None],
        "confusion": [[0, 0, 1], [0, 0, 0], [0, 1, 0]],
    }
    empty = of_objects(["a"], [objects([], [], [])], [objects([], [])], masks=False)
    assert empty.confusion.tolist() == [[0, 0], [0, 0]]
    assert np.isnan(empty.means()["recall"])


def test_confusion_of_objects_by_hand() -> None:
    """A is found as the other class, which leaves nothing for the weaker right one; B is missed, one is found in the background."""
    true = [objects([A, B], [0, 1])]
    predicted = [objects([A, A, FAR, B], [1, 0, 0, 1], [0.9, 0.8, 0.7, 0.4])]
    assert object_confusion(predicted, true, np.array([0.5, 0.5])).tolist() == [[0, 1, 0], [0, 0, 1], [2, 0, 0]]
    assert object_confusion(predicted, true, np.array([0.75, 0.4])).tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    half = [objects([[0.0, 0, 10, 5.1]], [0], [0.9])]  # an IoU of 0.51, then of less than half
    assert object_confusion(half, [objects([A], [0])], np.array([0.5])).tolist() == [[1, 0], [0, 0]]
    less = [objects([[0.0, 0, 10, 4.9]], [0], [0.9])]
    assert object_confusion(less, [objects([A], [0])], np.array([0.5])).tolist() == [[0, 1], [1, 0]]


def test_masks_decide_where_they_are_asked_for() -> None:
    left, right = np.zeros((1, 4, 4), bool), np.zeros((1, 4, 4), bool)
    left[0, :, :2], right[0, :, 2:] = True, True
    true = [objects([A], [0])._replace(masks=left)]
    predicted = [objects([A], [0], [0.9])._replace(masks=right)]
    assert of_objects(["a"], predicted, true, masks=False).confusion.tolist() == [[1, 0], [0, 0]]
    assert of_objects(["a"], predicted, true, masks=True).confusion.tolist() == [[0, 1], [1, 0]]


def test_pictures_of_many_classes_with_odd_names(tmp_path: Path) -> None:
    names = [f"_$class {number}" for number in range(30)]
    written = draw({"pictures": of_counts(names, np.eye(30, dtype=np.int64))}, tmp_path)
    assert [path.name for path in written] == ["confusion_pictures.png"]
    assert min(Image.open(written[0]).size) > 400


@pytest.mark.parametrize(
    ("config", "pictures"),
    [
        (PIXELS, ["confusion_pixels.png"]),
        (
            {**TINY, "model.head": "roi(hidden=16,proposals=20,mask=8)"},
            ["confusion_boxes.png", "precision_recall_boxes.png", "confusion_masks.png", "precision_recall_masks.png"],
        ),
    ],
)
def test_the_command_writes_them(tmp_path: Path, config: dict[str, object], pictures: list[str]) -> None:
    path = train("vision/scenes_boxes", config, tmp_path / "run").run
    words = ["evaluate", str(path), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert [Path(one).name for one in found["pictures"]] == pictures
    assert all(Image.open(one).size[0] > 300 for one in found["pictures"])
    for what, report in found["reports"].items():
        assert f"confusion_{what}.png" in pictures
        assert sum(map(sum, report["confusion"])) > 0
    said = CliRunner().invoke(app, words[:2], catch_exceptions=False).stdout.splitlines()
    assert any(line.split()[:2] == ["circle", "precision"] for line in said)


def test_what_makes_pictures_confuses_no_classes(tmp_path: Path) -> None:
    made = {"model.backbone": "dcgan(width=4,depth=3)", "model.head": "vae(latent=4)", "learner.augment": {}}
    tiny = {"learner.batch_size": 16, "run.steps": 16, "run.threads": 1, "run.device": "cpu"}
    path = train("vision/digits", {**made, **tiny}, tmp_path / "run").run
    with pytest.raises(UsageError, match=r"--out draws which classes a model confuses, and .* is to generate; leave it out"):
        CliRunner().invoke(app, ["evaluate", str(path), "--out", str(tmp_path)], catch_exceptions=False)
    assert json.loads(CliRunner().invoke(app, ["evaluate", str(path), "--json"]).stdout)["reports"] == {}
