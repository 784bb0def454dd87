"""Copies between the environments, whose arrays are in host memory, and the net on its device."""

from typing import Any

import torch
from torch import Tensor

from rlsuite.core.types import Tree, to_tensors, tree_map, tree_zip


class Crossing:
    """Copies a tree of arrays to a device, and a tree of tensors back to the host; leaf shapes must be the same in every call.

    For CUDA, both directions go through page-locked buffers that are reused: all copies are queued, and the host waits only once,
    for the last copy back (LeanRL). On the CPU nothing is copied.
    """

    def __init__(self, device: torch.device, buffered: bool | None = None):
        """`buffered`: whether to copy through buffers; None: only for CUDA."""
        self.device = device
        self.buffered = device.type == "cuda" if buffered is None else buffered
        self.out: Tree = None  # buffers for copies to the device, made on first use
        self.back: Tree = None

    def to_device(self, arrays: Tree) -> Tree:
        """The arrays as tensors on the device; on the CPU they share memory.

        The next call overwrites the buffers. Call `to_host` in between, which waits until the device has read them.
        """
        if not self.buffered:
            return to_tensors(arrays, self.device)
        tensors = tree_map(torch.from_numpy, arrays)
        if self.out is None:
            self.out = tree_map(self._buffer, tensors)
        tree_zip(lambda buffer, leaf: buffer.copy_(leaf), self.out, tensors)
        return tree_map(lambda buffer: buffer.to(self.device, non_blocking=True, copy=True), self.out)

    def to_host(self, tensors: Tree) -> Tree:
        """The tensors as arrays, once the device has computed them; on the CPU they share memory."""
        if not self.buffered:
            return tree_map(lambda leaf: leaf.cpu().numpy(), tensors)
        if self.back is None:
            self.back = tree_map(self._buffer, tensors)
        tree_zip(lambda buffer, leaf: buffer.copy_(leaf, non_blocking=True), self.back, tensors)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        return tree_map(lambda buffer: buffer.numpy().copy(), self.back)

    def _buffer(self, leaf: Tensor) -> Tensor:
        """A buffer with the shape and strides of a leaf, so that channels_last stays channels_last."""
        options: dict[str, Any] = {"device": "cpu", "pin_memory": self.device.type == "cuda"}
        return torch.empty_like(leaf, **options)
