"""Pairs of pictures in two folders, and pictures without classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlsuite.core.errors import UsageError
from rlsuite.vision.config import ModelConfig
from rlsuite.vision.data import folder, pairs
from rlsuite.vision.supervised import Supervised


def write(path: Path, level: int, size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(path)


def load(root: Path) -> pairs.Data:
    return pairs.load(pairs.Config(name="pairs", path=str(root), size=16), 1)


def test_inputs_come_with_their_targets(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path / "input" / f"{number}.png", number)
        write(tmp_path / "target" / f"{number}.jpg", 200 + number)
    data = load(tmp_path)
    assert (len(data.train), len(data.test), data.shape, data.tasks) == (8, 2, (3, 16, 16), ("translate",))
    images, labels = data.train.take(np.arange(8))
    assert labels["target"].shape == (8, 3, 16, 16)
    assert np.abs(labels["target"][:, 0, 0, 0].astype(int) - images[:, 0, 0, 0] - 200).max() <= 1
    assert Supervised(ModelConfig(backbone="impala", head="pix2pix"), data).task == "translate"


def test_what_pairs_refuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no folder input: it needs input and target"):
        load(tmp_path)
    write(tmp_path / "input" / "a.png", 1)
    write(tmp_path / "target" / "a.png", 1)
    with pytest.raises(UsageError, match="1 pairs; it takes two at least"):
        load(tmp_path)
    write(tmp_path / "input" / "b.png", 1)
    with pytest.raises(UsageError, match="b is in one of the folders input and target only"):
        load(tmp_path)
    write(tmp_path / "target" / "b.png", 1, (20, 11))
    with pytest.raises(UsageError, match="b has 20x10 pixels, its target 20x11"):
        load(tmp_path)


def test_pictures_without_classes_can_be_made_but_not_classified(tmp_path: Path) -> None:
    write(tmp_path / "0.png", 0)
    config = folder.Config(name="folder", path=str(tmp_path), size=16)
    with pytest.raises(UsageError, match="0 pictures to train on and 1 to test on"):
        folder.load(config, 1)
    for number in range(1, 10):
        write(tmp_path / f"{number}.png", number)
    data = folder.load(config, 1)
    assert (len(data.train), len(data.test), data.classes) == (8, 2, ())
    assert Supervised(ModelConfig(backbone="impala", head="vae"), data).task == "generate"
    with pytest.raises(UsageError, match="linear is to classify, but this data has no labels"):
        Supervised(ModelConfig(backbone="impala", head="linear"), data)
