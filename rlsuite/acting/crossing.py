"""Between the environments, whose arrays are the host's, and the net on its device."""

from typing import Any

import torch
from torch import Tensor

from rlsuite.core.types import Tree, to_tensors, tree_map, tree_zip


class Crossing:
    """Takes a tree of arrays to a device and a tree of tensors back, each time with leaves of the same shapes.

    For CUDA both go through page-locked memory that is kept: the copies are queued behind each other, and the host waits once,
    for the last of those back (LeanRL). On the CPU nothing is copied.
    """

    def __init__(self, device: torch.device, buffered: bool | None = None):
        """`buffered`: whether to keep memory to copy through; None: for CUDA."""
        self.device = device
        self.buffered = device.type == "cuda" if buffered is None else buffered
        self.out: Tree = None  # buffers of the way to the device, made at the first use
        self.back: Tree = None

    def to_device(self, arrays: Tree) -> Tree:
        """The arrays as tensors on the device; on the CPU they share memory.

        The buffers are written anew by the next call, so call `to_host` in between, which waits for the device to have read them.
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
        """Memory for such a leaf, with its strides: channels_last stays channels_last."""
        options: dict[str, Any] = {"device": "cpu", "pin_memory": self.device.type == "cuda"}
        return torch.empty_like(leaf, **options)
