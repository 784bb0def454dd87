"""Memory cores: one signature, [T,B,D] in and out, state passed in and out, reset on `first` inside."""

from typing import Protocol

from torch import Tensor, nn

from rlsuite.step import State


class Core(Protocol):
    def initial_state(self, batch: int) -> State: ...

    def __call__(self, x: Tensor, first: Tensor, state: State) -> tuple[Tensor, State]:
        """x [T,B,D], first [T,B] bool, state [B,...] -> features [T,B,D'], state after step T-1."""
        ...


class FeedForward(nn.Module):
    """No memory: the state is ()."""

    def initial_state(self, batch: int) -> State:
        return ()

    def forward(self, x: Tensor, first: Tensor, state: State) -> tuple[Tensor, State]:
        return x, state
