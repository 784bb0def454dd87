"""A learner's update as a CUDA graph. Shapes: B batch, T steps of a sequence."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlsuite.core.agent import Loss
from rlsuite.core.types import Trajectory

Update = Callable[[Trajectory, Tensor], tuple[Loss, Tensor]]


class Graph:
    """An update captured as a CUDA graph and replayed on static buffers. The first calls are warm-up, which capture requires."""

    WARM_UP = 3

    def __init__(self, update: Update, rng: torch.Generator):
        """`update`: the function to capture, which runs entirely on the device; `rng`: the generator that it draws from."""
        self.update, self.calls = update, 0
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(rng)
        self.inputs: tuple[Trajectory, Tensor] | None = None
        self.outputs: tuple[Loss, Tensor] | None = None

    def __call__(self, trajectory: Trajectory, weights: Tensor) -> tuple[Loss, Tensor]:
        """Runs the update on a minibatch, leaves [T,B,...], with the weights [B] of its sequences -> (loss, gradient norm)."""
        self.calls += 1
        if self.calls <= self.WARM_UP:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                out = self.update(trajectory, weights)
            torch.cuda.current_stream().wait_stream(stream)
            return out
        if self.outputs is None or self.inputs is None:
            self.inputs = (trajectory, weights)
            with torch.cuda.graph(self.graph):
                self.outputs = self.update(trajectory, weights)
        else:
            _copy_into(self.inputs, (trajectory, weights))
        self.graph.replay()
        return self.outputs


def _copy_into(old: Any, new: Any) -> None:
    if isinstance(old, Tensor):
        old.copy_(new, non_blocking=True)
    elif isinstance(old, dict):
        for name in old:
            _copy_into(old[name], new[name])
    else:
        for a, b in zip(old, new, strict=True):
            _copy_into(a, b)
