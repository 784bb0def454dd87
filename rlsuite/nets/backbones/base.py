"""The base class of backbones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Backbone(nn.Module):
    """A CNN of consecutive stages, each of which yields a feature map for a neck, a head or a torso.

    A stage begins with its downsampling, so its map is the last one before the resolution drops again. `channels[i]` and
    `strides[i]` (input pixels per output pixel) belong to the i-th map and are measured when the backbone is made.
    """

    def __init__(self, stages: list[nn.Module], in_channels: int):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.in_channels = in_channels
        self.frozen = False  # if set, it stays in evaluation mode
        self.twin: Callable[[], Backbone] | None = None  # if it has no normalisation: makes the same net with batch normalisation
        near, far = self.shapes(256, 256), self.shapes(512, 512)
        self.channels = tuple(shape[0] for shape in near)
        self.strides = tuple(256 // (b[1] - a[1]) for a, b in zip(near, far, strict=True))

    def train(self, mode: bool = True) -> Backbone:
        """Sets training or evaluation mode; a frozen backbone stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x [N,C,H,W] float -> feature maps [N, channels[i], H_i, W_i], finest first."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def shapes(self, height: int, width: int) -> list[tuple[int, ...]]:
        """Shapes (C,H,W) of the feature maps for images of the given size, without computing them. ValueError if too small."""
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
        x = torch.empty(2, self.in_channels, height, width, device="meta")
        try:
            with torch.no_grad():
                maps = functional_call(self, weights, (x,))
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"images of {height}x{width} are too small for this backbone") from error
        return [tuple(each.shape[1:]) for each in maps]
