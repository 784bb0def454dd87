"""Supervised learning with the parts of the suite: a data set is a store, and a model an objective of the learner."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlsuite.config.spec_string import parse_call
from rlsuite.core.agent import Loss, Objective
from rlsuite.core.errors import UsageError
from rlsuite.core.types import Step, Trajectory
from rlsuite.replay import Sample
from rlsuite.vision.config import ModelConfig
from rlsuite.vision.data import Data, Pictures
from rlsuite.vision.model import Model, make_model, task_of


def build_model(config: ModelConfig, classes: int, channels: int) -> Model:
    """The model that a config describes, for pictures with so many `channels`."""
    return make_model(config.backbone, config.head, classes, channels, neck=config.neck, output_stride=config.output_stride)


class Supervised(Objective):
    """Learns the labels of pictures: the picture is the observation of a trajectory with T = 1, its labels are extras."""

    has_target = False

    def __init__(self, config: ModelConfig, data: Data):
        """UsageError where model and data do not fit each other."""
        self.config, self.classes, self.channels = config, len(data.classes), data.shape[0]
        task = task_of(config.head)
        if task not in data.tasks:
            raise UsageError(f"model.head={config.head} is to {task}, but the labels of this data are to {' or '.join(data.tasks)}")
        self.task = task
        if parse_call("head", config.head)[1].get("mask") and "masks" not in data.train.take(np.zeros(1, np.int64))[1]:
            raise UsageError(f"model.head={config.head} predicts masks, but this data has boxes only")

    def make_net(self) -> Model:
        return build_model(self.config, self.classes, self.channels)

    def loss(self, net: nn.Module, target: nn.Module, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps = trajectory.steps
        labels = {name: leaf[0] for name, leaf in steps.extras.items()}
        loss, metrics = net.losses(steps.observation[0], labels)  # type: ignore[operator]
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
        extras = {name: values[None] for name, values in labels.items() if values.dtype.kind != "U"}  # captions are for people only
        steps = Step(planes, none, no, no, no, np.zeros((1, count), np.int64), extras)
        return Sample(Trajectory(steps, ()), keys, np.ones(count, np.float32))

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "order": self.order, "at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where the saved store was. ValueError if it was of other data."""
        if len(state["order"]) != len(self.pictures):
            raise ValueError(f"it is of {len(state['order'])} pictures, there are {len(self.pictures)}")
        self.rng.bit_generator.state = state["rng"]
        order: NDArray[np.int64] = state["order"]
        self.order, self.at = order.copy(), state["at"]
