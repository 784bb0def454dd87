"""Supervised learning with the parts of the suite: a data set is a store, and a model an objective of the learner."""

import copy
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlsuite.config.spec_string import parse_call
from rlsuite.core.agent import Loss, Objective, Part
from rlsuite.core.errors import UsageError
from rlsuite.core.types import Step, Trajectory
from rlsuite.replay import Sample
from rlsuite.vision.config import ModelConfig
from rlsuite.vision.data import Data, Pictures
from rlsuite.vision.model import Model, kind_of, make_model


def build_model(config: ModelConfig, classes: int, shape: tuple[int, int, int]) -> Model:
    """The model that a config describes, for pictures of a `shape` (C,H,W)."""
    channels, *size = shape
    return make_model(
        config.backbone,
        config.head,
        classes,
        channels,
        neck=config.neck,
        output_stride=config.output_stride,
        size=(size[0], size[1]),
    )


class Supervised(Objective):
    """Learns to predict labels or to make pictures: each picture is a trajectory with T = 1, and its labels are extras."""

    has_target = False

    def __init__(self, config: ModelConfig, data: Data):
        """UsageError if model and data do not fit each other."""
        self.config, self.classes, self.shape = config, len(data.classes), data.shape
        kind = kind_of(config.head)
        if kind.labels is not None and kind.labels not in data.tasks:
            have = f"the labels of this data are to {' or '.join(data.tasks)}" if data.tasks else "this data has no labels"
            raise UsageError(f"model.head={config.head} is to {kind.labels}, but {have}")
        self.task, self.main, self.part = kind.task, kind.main, ""
        self.needs_every_class = kind.labels == "classify" and kind.task in ("generate", "translate")
        if parse_call("head", config.head)[1].get("mask") and "masks" not in data.train.take(np.zeros(1, np.int64))[1]:
            raise UsageError(f"model.head={config.head} predicts masks, but this data has boxes only")

    def make_net(self) -> Model:
        return build_model(self.config, self.classes, self.shape)

    def parts(self, net: nn.Module) -> dict[str, Part]:
        assert isinstance(net, Model)
        return net.parts()

    def of_part(self, name: str) -> Self:
        found = copy.copy(self)
        found.part = name
        return found

    def loss(self, net: nn.Module, target: nn.Module, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps = trajectory.steps
        labels = {name: leaf[0] for name, leaf in steps.extras.items()}
        assert isinstance(net, Model)
        loss, metrics = net.losses(steps.observation[0], labels, self.part)
        return Loss(loss, None, metrics)


class DataStore:
    """Samples pictures without replacement; after all have been seen, it starts again in a new order."""

    def __init__(self, pictures: Pictures, seed: int):
        self.pictures = pictures
        self.rng = np.random.default_rng(seed)
        self.order = self.rng.permutation(len(pictures))
        self.at = 0

    def sample(self, count: int) -> Sample:
        """The next `count` pictures: observation [1,B,C,H,W] uint8, labels [1,B,...] as extras."""
        rows: list[int] = []
        while len(rows) < count:
            if self.at == len(self.order):
                self.order, self.at = self.rng.permutation(len(self.pictures)), 0
            more = self.order[self.at : self.at + count - len(rows)]
            rows += more.tolist()
            self.at += len(more)
        keys = np.array(rows, np.int64)
        images, labels = self.pictures.take(keys)
        no = np.zeros((1, count), bool)
        none = np.zeros((1, count), np.float32)
        # Channels-last in memory, which convolutions are fastest with.
        planes = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)[None]
        extras = {name: values[None] for name, values in labels.items()}
        steps = Step(planes, none, no, no, no, np.zeros((1, count), np.int64), extras)
        return Sample(Trajectory(steps, ()), keys, np.ones(count, np.float32))

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "order": self.order, "at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where the saved store was. ValueError if it was of other data."""
        if len(state["order"]) != len(self.pictures):
            raise ValueError(f"the run had {len(state['order']):,} pictures to train on, its data now has {len(self.pictures):,}")
        self.rng.bit_generator.state = state["rng"]
        order: NDArray[np.int64] = state["order"]
        self.order, self.at = order.copy(), state["at"]
