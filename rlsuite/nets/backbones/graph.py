"""Graph nets on boards: messages along the edges between cells, and between cells and the four sides of the board.

A node receives the sum of its neighbours' messages, computed by one matrix for each kind of edge (relational graph convolutions,
Schlichtkrull et al. 2018; with a single kind, those of Kipf & Welling 2017, with sums instead of means). With attention, each
message is weighted by the features of both its nodes (GAT, Velickovic et al. 2018). A board is a lattice, so a cell's neighbours
are at the same steps everywhere, and the sum over its edges is a convolution whose weights are tied by the kinds of edges.

Shapes: N positions, C channels, H x W cells, S sides (top, right, bottom, left), E steps to neighbours, K kinds of edges and the
node itself, A attention heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.core.errors import UsageError
from rlsuite.core.game import Steps
from rlsuite.core.lattice import Lattice
from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.bricks import conv_relu, norm_of

HEADS = 4


def ringed(x: Tensor, sides: Tensor) -> Tensor:
    """Pads the cells x [N,C,H,W] with the sides' features [N,S,C]; corners are the mean of two sides: [N,C,H+2,W+2]."""
    n, c, height, width = x.shape
    cells = x.permute(0, 2, 3, 1)  # [N,H,W,C]
    top, right, bottom, left = (side.view(n, 1, 1, c) for side in sides.to(x.dtype).unbind(1))
    rows = [torch.cat([(side + left) / 2, side.expand(n, 1, width, c), (side + right) / 2], 2) for side in (top, bottom)]
    middle = torch.cat([left.expand(n, height, 1, c), cells, right.expand(n, height, 1, c)], 2)
    return torch.cat([rows[0], middle, rows[1]], 1).permute(0, 3, 1, 2)


def border_shares(x: Tensor) -> Tensor:
    """The weight of each cell of x [N,C,H,W] in the mean over the cells at each side: [S,H*W]."""
    height, width = x.shape[2:]
    shares = x.new_zeros(4, height, width)
    shares[0, 0], shares[2, -1] = 1 / width, 1 / width
    shares[1, :, -1], shares[3, :, 0] = 1 / height, 1 / height
    return shares.flatten(1)


class EdgeConv2d(nn.Conv2d):
    """The sum of a node's own and its neighbours' features, by a matrix for each kind of edge: a convolution with tied weights.

    Its weights are [C',C,1,K], the node's own matrix last; `dense` spreads them to those of the 3x3 convolution that is computed.
    """

    def __init__(self, i: int, o: int, steps: Steps, kinds: tuple[int, ...]):
        super().__init__(i, o, (1, max(kinds) + 2))
        own = max(kinds) + 1
        table = dict(zip(steps, kinds, strict=True)) | {(0, 0): own}
        places = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        self.register_buffer("kinds", torch.tensor([table.get(place, own) for place in places]), persistent=False)
        self.register_buffer("edges", torch.tensor([float(place in table) for place in places]), persistent=False)
        self.kinds: Tensor  # [9] the kind of each place around a node
        self.edges: Tensor  # [9] 1 where there is an edge, 0 where there is none
        bound = 1 / math.sqrt(i * (len(steps) + 1))  # as for a convolution over as many cells
        nn.init.uniform_(self.weight, -bound, bound)

    def dense(self) -> Tensor:
        """The weights [C',C,3,3] of the equivalent 3x3 convolution."""
        weight = self.weight.squeeze(2).index_select(2, self.kinds) * self.edges.to(self.weight.dtype)
        return weight.view(*weight.shape[:2], 3, 3).contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H+2,W+2] -> [N,C',H,W]."""
        return self._conv_forward(x, self.dense(), self.bias)  # type: ignore[no-any-return]


class EdgeAttention(nn.Module):
    """The mean of a node's own and its neighbours' features, weighted by attention (Velickovic et al. 2018, eq. 1-6).

    e = LeakyReLU(a·Wh_i + b·Wh_j + c), α = softmax(e) over the neighbours j and i itself. c, which is not in the paper, depends on
    the kind of edge: without it a node could not tell in which direction a neighbour is.
    """

    def __init__(self, i: int, o: int, steps: Steps, kinds: tuple[int, ...]):
        super().__init__()
        self.edges = [*zip(steps, kinds, strict=True), ((0, 0), max(kinds) + 1)]
        self.values = nn.Conv2d(i, o, 1)  # W
        self.scores = nn.Conv2d(o, 2 * HEADS, 1, bias=False)  # a and b, on all of Wh
        self.bias = nn.Parameter(torch.randn(max(kinds) + 2, HEADS))  # c [K,A]

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H+2,W+2] -> [N,C',H,W]."""
        height, width = x.shape[2] - 2, x.shape[3] - 2

        def at(step: tuple[int, int], ring: Tensor) -> Tensor:
            return ring[:, :, 1 + step[0] : 1 + step[0] + height, 1 + step[1] : 1 + step[1] + width]

        values = self.values(x)
        of_node, of_neighbour = self.scores(values).float().chunk(2, 1)  # [N,A,H+2,W+2]
        own = at((0, 0), of_node)
        raw = [own + at(step, of_neighbour) + self.bias[kind].view(-1, 1, 1) for step, kind in self.edges]
        shares = F.leaky_relu(torch.stack(raw), 0.2).softmax(0).to(values.dtype)  # [E+1,N,A,H,W]
        total = None
        for (step, _), share in zip(self.edges, shares, strict=True):
            message = torch.stack(at(step, values).chunk(HEADS, 1), 1) * share.unsqueeze(2)  # [N,A,C'/A,H,W]
            total = message if total is None else total + message
        assert total is not None
        return total.flatten(1, 2)  # type: ignore[no-any-return]


class Start(nn.Module):
    """Initial features of the nodes: a dense layer on each cell's planes, and a learned vector for each kind of side."""

    def __init__(self, in_channels: int, channels: int, norm: str, sides: tuple[int, ...]):
        super().__init__()
        self.cells = nn.Sequential(nn.Conv2d(in_channels, channels, 1), norm_of(norm, channels), nn.ReLU(inplace=True))
        self.sides, self.kinds = nn.Parameter(torch.rand(max(sides) + 1, channels)), sides

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Planes [N,C,H,W] -> cells [N,C',H,W] and sides [N,S,C']."""
        return self.cells(x), torch.stack([self.sides[kind] for kind in self.kinds]).expand(x.shape[0], -1, -1)


class Messages(nn.Module):
    """One step of messages: cells receive from their neighbours and the sides next to them, sides from the mean of their cells."""

    def __init__(self, channels: int, norm: str, lattice: Lattice, attention: bool, sides: bool):
        """`sides`: whether the sides receive messages, too."""
        super().__init__()
        self.cells = (EdgeAttention if attention else EdgeConv2d)(channels, channels, lattice.steps, lattice.kinds)
        self.norm = norm_of(norm, channels)
        self.sides = nn.Linear(2 * channels, channels) if sides else None

    def forward(
        self, x: Tensor, sides: Tensor, borders: Tensor, added: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """relu(messages to the cells [N,C,H,W] and sides [N,S,C] + `added`). `borders` [S,H*W]: see `border_shares`."""
        more, beside = added or (None, None)
        if self.sides is not None:
            cells = torch.matmul(borders.to(x.dtype), x.flatten(2).mT)  # [N,S,C]
            heard = self.sides(torch.cat([sides.to(cells.dtype), cells], 2))
            after = F.relu(heard if beside is None else heard + beside)
        ring = ringed(x, sides)
        if isinstance(self.cells, EdgeConv2d) and isinstance(self.norm, nn.Identity):
            x = conv_relu(self.cells, ring, more, self.cells.dense())
        else:
            x = self.norm(self.cells(ring))
            x = F.relu(x if more is None else x + more)
        return x, sides if self.sides is None else after


class Round(nn.Module):
    """A residual block of two `Messages`. The second starts at 0, so a new block changes nothing, as in `tower`."""

    def __init__(self, channels: int, norm: str, lattice: Lattice, attention: bool, last: bool):
        """`last`: no later block reads the sides, so the second step does not update them."""
        super().__init__()
        self.first = Messages(channels, norm, lattice, attention, sides=True)
        self.second = Messages(channels, norm, lattice, attention, sides=not last)
        values = self.second.cells.values if isinstance(self.second.cells, EdgeAttention) else self.second.cells
        for layer in (values, self.second.sides):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, sides: Tensor, borders: Tensor) -> tuple[Tensor, Tensor]:
        """Cells [N,C,H,W] and sides [N,S,C] -> the same, after two messages."""
        return self.second(*self.first(x, sides, borders), borders, (x, sides))  # type: ignore[no-any-return]


class GraphNet(Backbone):
    """A backbone whose first stage is a `Start` and whose others are `Round`s; it passes the sides along with the maps."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """See `Backbone`."""
        cells, sides = self.stages[0](x)
        borders, maps = border_shares(x), [cells]
        for stage in list(self.stages)[1:]:
            cells, sides = stage(cells, sides, borders)
            maps.append(cells)
        return maps


def graph(
    in_channels: int,
    norm: str = "none",
    width: int = 32,
    depth: int = 4,
    attention: bool = False,
    directions: bool = True,
    lattice: Lattice = Lattice(),  # noqa: B008  (a tuple)
) -> Backbone:
    """A `tower` on the board's graph: `depth` residual blocks of two messages each, between nodes with `width` features.

    `directions`: an edge's kind is its direction; otherwise, directions that the game's symmetries map to each other are of one
    kind, and the output for a transformed position is transformed likewise. UsageError if `width` does not fit the heads.
    """
    if attention and width % HEADS:
        raise UsageError(f"graph: width = {width} must be a multiple of {HEADS}, the heads of its attention")
    if directions:
        lattice = lattice._replace(kinds=tuple(range(len(lattice.steps))))
    rounds = [Round(width, norm, lattice, attention, last=i == depth - 1) for i in range(depth)]
    return GraphNet([Start(in_channels, width, norm, lattice.sides), *rounds], in_channels)
