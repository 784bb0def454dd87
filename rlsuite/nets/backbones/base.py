"""What every backbone is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Backbone(nn.Module):
    """Stages run one after the other; each returns a feature map that a neck or a torso may use.

    A stage begins with its downsampling, so its map is the last before the next drop of resolution. `channels[i]` and
    `strides[i]` (input pixels per output pixel) belong to the i-th map and are measured when the backbone is made.
    x [N,C,H,W] float -> list of [N, channels[i], H_i, W_i].
    """

    def __init__(self, stages: list[nn.Module], in_channels: int):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.in_channels = in_channels
        self.frozen = False  # stays in evaluation mode
        self.twin: Callable[[], Backbone] | None = None  # of one without normalisation: makes the same net with batch normalisation
        near, far = self.shapes(256, 256), self.shapes(512, 512)
        self.channels = tuple(shape[0] for shape in near)
        self.strides = tuple(256 // (b[1] - a[1]) for a, b in zip(near, far, strict=True))

    def train(self, mode: bool = True) -> Backbone:
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def shapes(self, height: int, width: int) -> list[tuple[int, ...]]:
        """(C,H,W) of every map for images of that size, without computing any. ValueError if they are too small."""
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
        x = torch.empty(2, self.in_channels, height, width, device="meta")
        try:
            with torch.no_grad():
                maps = functional_call(self, weights, (x,))
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"images of {height}x{width} are too small for this backbone") from error
        return [tuple(each.shape[1:]) for each in maps]
