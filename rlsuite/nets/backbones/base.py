"""What every backbone is."""

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """Stages run one after the other; each returns a feature map that a neck or a torso may use.

    `channels[i]` and `strides[i]` (input pixels per output pixel) belong to the i-th map and are known before the first
    forward. x [N,C,H,W] float -> list of [N, channels[i], H_i, W_i].
    """

    def __init__(self, stages: list[nn.Module], channels: list[int], strides: list[int]):
        super().__init__()
        if not len(stages) == len(channels) == len(strides):
            raise ValueError(f"{len(stages)} stages, {len(channels)} channels, {len(strides)} strides: must be as many")
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(channels)
        self.strides = tuple(strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def final_size(backbone: Backbone, shape: tuple[int, ...]) -> int:
    """Elements of the last feature map for one input of `shape` (C,H,W); ValueError if the input is too small."""
    try:
        with torch.no_grad():
            return int(backbone(torch.zeros(1, *shape))[-1].numel())
    except RuntimeError as error:
        raise ValueError(f"planes of {shape[1]}x{shape[2]} are too small for this backbone") from error
