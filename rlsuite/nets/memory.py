"""Memory cores: one signature, [T,B,D] in and out, state passed in and out, reset on `first` inside. Shapes: M memory units."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from rlsuite.config import NetConfig
from rlsuite.nets.precision import keep_fp32
from rlsuite.step import State


class Core(nn.Module):
    """(x [T,B,D], first [T,B] bool, state [B,...]) -> (features [T,B,`features`], the state behind step T-1)."""

    features: int


class FeedForward(Core):
    """No memory: the state is ()."""

    def __init__(self, features: int):
        super().__init__()
        self.features = features

    def forward(self, x: Tensor, first: Tensor, state: State) -> tuple[Tensor, State]:
        return x, state


class Recurrent(Core):
    """LSTM (Hochreiter & Schmidhuber 1997) or GRU (Cho et al. 2014), one layer, in fp32.

    The sequence is run in pieces between the steps at which any lane begins an episode; there the state of those lanes becomes 0.
    """

    def __init__(self, kind: str, features: int, size: int):
        super().__init__()
        self.features = size
        self.lstm = kind == "lstm"
        self.cell = keep_fp32(nn.LSTM(features, size) if self.lstm else nn.GRU(features, size))
        for name, parameter in self.cell.named_parameters():
            nn.init.zeros_(parameter) if "bias" in name else nn.init.orthogonal_(parameter)

    def forward(self, x: Tensor, first: Tensor, state: State) -> tuple[Tensor, State]:
        resets = torch.nonzero(first[1:].any(1)).flatten().add(1).tolist()
        bounds = [0, *resets, x.shape[0]]
        outs = []
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            for begin, end in pairwise(bounds):
                keep = (~first[begin]).unsqueeze(-1)  # [B,1]
                state = tuple(leaf * keep for leaf in state)  # [B,M]
                inner = tuple(leaf.unsqueeze(0) for leaf in state)  # [1,B,M]
                out, inner = self.cell(x[begin:end], inner if self.lstm else inner[0])
                state = tuple(leaf.squeeze(0) for leaf in (inner if self.lstm else (inner,)))
                outs.append(out)
        return torch.cat(outs), state


def make_core(net: NetConfig, features: int) -> Core:
    if net.memory == "none":
        return FeedForward(features)
    return Recurrent(net.memory, features, net.memory_size)


def initial_state(net: NetConfig, batch: int) -> State:
    """Leaves [B,M] f32: hidden and cell for an LSTM, hidden for a GRU, nothing for a feed-forward net."""
    count = {"none": 0, "gru": 1, "lstm": 2}[net.memory]
    return tuple(torch.zeros(batch, net.memory_size) for _ in range(count))
