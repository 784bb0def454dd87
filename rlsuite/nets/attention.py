"""The memory core `attention`: a gated transformer.

Shapes: T time, B batch, D input features, M memory units, W steps that attention looks back, H heads.
"""

import torch
from torch import Tensor, nn

from rlsuite.core.types import State, Step
from rlsuite.nets.memory import Core


class Attention(Core):
    """Gated transformer (GTrXL, Parisotto et al. 2020, section 3): every step attends to itself and the W steps before it.

    Layer normalisation is applied at the input of each branch, and a GRU-like gate, nearly closed at first, replaces the residual
    sum. A step sees only steps of its own episode. As in Transformer-XL (Dai et al. 2019), the state holds the inputs of each layer
    at the last W steps, and how many of them belong to the current episode. Unlike the paper, the distance between two steps enters
    as a learned bias per head, not as a relative positional encoding.
    """

    def __init__(self, features: int, size: int, window: int, heads: int, layers: int):
        super().__init__()
        self.features, self.window = size, window
        self.embed = nn.Linear(features, size)
        self.layers = nn.ModuleList(_Layer(size, window, heads) for _ in range(layers))

    @property
    def receptive_field(self) -> int:
        """See `Core`: every layer extends it by `window` steps."""
        return 1 + len(self.layers) * self.window

    def initial_state(self, batch: int) -> State:
        """The layers' inputs at the last W steps [B,layers,W,M] f32, and how many of the newest ones are valid [B] i64."""
        return torch.zeros(batch, len(self.layers), self.window, self.features), torch.zeros(batch, dtype=torch.int64)

    def forward(self, x: Tensor, step: Step, state: State) -> tuple[Tensor, State]:
        """(x [T,B,D], step [T,B], state) -> (output [T,B,M], state after step T-1)."""
        seen, count = state
        first = step.first.transpose(0, 1)  # [B,T]
        length, device = x.shape[0], x.device
        x = self.embed(x).transpose(0, 1)  # [B,T,M]

        # Which of the W + T steps (keys) each of the T steps (queries) may see.
        episode = first.long().cumsum(1)  # [B,T] index; 0: the episode that began before this sequence
        old = torch.arange(self.window, device=device) >= self.window - count.unsqueeze(1)  # [B,W]
        key = torch.cat([torch.where(old, 0, -1), episode], 1)  # [B,W+T]
        back = torch.arange(length, device=device).unsqueeze(1) + self.window - torch.arange(self.window + length, device=device)
        near = (back >= 0) & (back <= self.window)  # [T,W+T]; `back`: how many steps before the query the key is
        visible = (key.unsqueeze(1) == episode.unsqueeze(2)) & near  # [B,T,W+T]

        kept = []
        for index, layer in enumerate(self.layers):
            whole = torch.cat([seen[:, index].to(x.dtype), x], 1)  # [B,W+T,M]
            kept.append(whole[:, -self.window :].float())
            x = layer(x, whole, visible, back.clamp(0, self.window))
        begun = torch.where(first, torch.arange(length, device=device), -1).amax(1)  # [B] last start of an episode; -1: none
        count = torch.where(begun >= 0, length - begun, count + length).clamp(max=self.window)
        return x.transpose(0, 1), (torch.stack(kept, 1), count)


class _Layer(nn.Module):
    """One layer of `Attention`: multi-head attention and a dense block, each followed by a gate."""

    def __init__(self, size: int, window: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(size)
        self.query, self.out = nn.Linear(size, size), nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)
        self.distance = nn.Parameter(torch.zeros(heads, window + 1))  # a bias for each distance
        self.gate, self.dense_gate = _Gate(size), _Gate(size)
        self.dense = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, 2 * size), nn.ReLU(), nn.Linear(2 * size, size))

    def forward(self, x: Tensor, whole: Tensor, visible: Tensor, back: Tensor) -> Tensor:
        """x [B,T,M], whole [B,W+T,M], visible [B,T,W+T] bool, back [T,W+T] i64 -> [B,T,M]."""
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B,H,T,M/H]
        key, value = self.key_value(self.norm(whole)).unflatten(-1, (2 * self.heads, -1)).transpose(1, 2).chunk(2, 1)
        bias = self.distance[:, back].masked_fill(~visible.unsqueeze(1), float("-inf"))  # [B,H,T,W+T]
        read = nn.functional.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))  # [B,H,T,M/H]
        x = self.gate(x, torch.relu(self.out(read.transpose(1, 2).flatten(2))))
        return self.dense_gate(x, torch.relu(self.dense(x)))  # type: ignore[no-any-return]


class _Gate(nn.Module):
    """The gate g(x, y) of the paper's section 3.2: a GRU update of x by y that starts nearly closed."""

    def __init__(self, size: int):
        super().__init__()
        self.from_y, self.from_x = nn.Linear(size, 3 * size), nn.Linear(size, 2 * size, bias=False)
        self.reset = nn.Linear(size, size, bias=False)
        with torch.no_grad():
            self.from_y.bias[size : 2 * size] -= 2.0

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x, y [...,M] -> [...,M]."""
        r_y, z_y, h_y = self.from_y(y).chunk(3, -1)
        r_x, z_x = self.from_x(x).chunk(2, -1)
        r, z = torch.sigmoid(r_y + r_x), torch.sigmoid(z_y + z_x)
        return (1 - z) * x + z * torch.tanh(h_y + self.reset(r * x))


def attention(features: int, size: int, window: int = 32, heads: int = 4, layers: int = 1) -> Core:
    """A gated transformer of `size` units per step. ValueError for impossible parameters."""
    if not all(isinstance(value, int) and value > 0 for value in (window, heads, layers)):
        raise ValueError("window, heads and layers must be whole numbers above 0")
    if size % heads:
        raise ValueError(f"net.memory_size = {size} must be a multiple of heads = {heads}")
    return Attention(features, size, window, heads, layers)
