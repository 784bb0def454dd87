"""Graph nets: messages against sums worked out edge by edge, symmetries, sides that are told apart, boards of any size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlsuite.boardgames.games import make_game
from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import UsageError
from rlsuite.core.lattice import Lattice, lattice_of
from rlsuite.nets.backbones import make_backbone
from rlsuite.nets.backbones.graph import HEADS, EdgeAttention, EdgeConv2d, ringed
from rlsuite.nets.board_net import BoardNet, BoardOutput

BOTH = pytest.mark.parametrize("attention", [False, True])


def lattice(name: str, directions: bool) -> Lattice:
    found = lattice_of(make_game(name))
    return found._replace(kinds=tuple(range(len(found.steps)))) if directions else found


def randomised(net: nn.Module) -> nn.Module:
    """Weights that are all in use: new rounds begin as the identity."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.eval()


def ends(lattice: Lattice, cells: Tensor, sides: Tensor, y: int, x: int) -> list[tuple[int, Tensor]]:
    """(kind, features [C]) of the node at (y, x) and of all that its edges lead to: cells [C,H,W], sides [S,C]."""
    found = [(max(lattice.kinds) + 1, cells[:, y, x])]
    for (dy, dx), kind in zip(lattice.steps, lattice.kinds, strict=True):
        v, u = y + dy, x + dx
        behind = [side for side, is_behind in enumerate((v < 0, u == cells.shape[2], v == cells.shape[1], u < 0)) if is_behind]
        found.append((kind, torch.stack([sides[side] for side in behind]).mean(0) if behind else cells[:, v, u]))
    return found


@pytest.mark.parametrize("directions", [False, True])
@pytest.mark.parametrize("name", ["hex(size=3)", "go(size=3)", "connect_four"])
def test_a_convolution_adds_up_messages_edge_by_edge(name: str, directions: bool) -> None:
    graph = lattice(name, directions)
    layer = randomised(EdgeConv2d(2, 3, graph.steps, graph.kinds))
    assert isinstance(layer, EdgeConv2d)
    x, sides = torch.randn(1, 2, 4, 3), torch.randn(1, 4, 2)
    found = layer(ringed(x, sides))
    assert found.shape == (1, 3, 4, 3)
    assert layer.bias is not None
    for y in range(4):
        for u in range(3):
            total = sum(layer.weight[:, :, 0, kind] @ end for kind, end in ends(graph, x[0], sides[0], y, u))
            torch.testing.assert_close(found[0, :, y, u], total + layer.bias)


def test_attention_is_that_of_the_paper_edge_by_edge() -> None:
    graph = lattice("hex(size=3)", True)
    layer = randomised(EdgeAttention(2, 2 * HEADS, graph.steps, graph.kinds))
    assert isinstance(layer, EdgeAttention)
    x, sides = torch.randn(1, 2, 3, 4), torch.randn(1, 4, 2)
    found = layer(ringed(x, sides))
    assert found.shape == (1, 2 * HEADS, 3, 4)
    a, b = layer.scores.weight[:HEADS, :, 0, 0], layer.scores.weight[HEADS:, :, 0, 0]  # [A,C']
    assert layer.values.bias is not None
    for y in range(3):
        for u in range(4):
            nodes = ends(graph, x[0], sides[0], y, u)
            values = torch.stack([layer.values.weight[:, :, 0, 0] @ end + layer.values.bias for _, end in nodes])  # [E+1,C']
            raw = torch.stack(
                [a @ values[0] + b @ value + layer.bias[kind] for value, (kind, _) in zip(values, nodes, strict=True)]
            )
            shares = nn.functional.leaky_relu(raw, 0.2).softmax(0)  # [E+1,A]
            total = (shares.unsqueeze(2) * values.unflatten(1, (HEADS, 2))).sum(0).flatten()
            torch.testing.assert_close(found[0, :, y, u], total)


def board_net(name: str, torso: str, any_size: bool = True) -> BoardNet:
    net = randomised(BoardNet(NetConfig(torso=torso, hidden=8, any_size=any_size), make_game(name), 3))
    assert isinstance(net, BoardNet)
    return net


def turned(net: BoardNet, name: str) -> list[tuple[BoardOutput, BoardOutput, Tensor]]:
    """(output for a position, output for its image, the map of actions) for each symmetry of a game but the identity."""
    game = make_game(name)
    planes = torch.from_numpy(np.random.default_rng(0).integers(0, 2, game.observation_shape).astype(np.int8))
    pairs = []
    for cells, actions in list(zip(game.cell_maps, game.action_maps, strict=True))[1:]:
        image = planes.flatten(1)[:, torch.from_numpy(cells).long()].view_as(planes)
        with torch.no_grad():
            pairs.append((net.evaluate(planes[None]), net.evaluate(image[None]), torch.from_numpy(actions).long()))
    return pairs


@BOTH
@pytest.mark.parametrize("name", ["go(size=5)", "hex(size=4)", "othello(size=6)", "gomoku(size=5,connect=4)"])
def test_without_directions_a_turned_position_has_the_turned_output(name: str, attention: bool) -> None:
    torso = f"graph(width=8,depth=3,attention={str(attention).lower()},directions=false)"
    for one, other, actions in turned(board_net(name, torso), name):
        torch.testing.assert_close(other.logits, one.logits[:, actions], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(other.outcome, one.outcome, rtol=1e-4, atol=1e-4)


@BOTH
def test_with_directions_it_tells_them_apart(attention: bool) -> None:
    net = board_net("go(size=5)", f"graph(width=8,depth=2,attention={str(attention).lower()})")
    assert all((other.logits - one.logits[:, actions]).abs().max() > 1e-3 for one, other, actions in turned(net, "go(size=5)"))


@BOTH
def test_the_sides_of_hex_are_told_apart_and_those_of_go_are_not(attention: bool) -> None:
    """Reflection in a diagonal keeps all edges between cells, and exchanges top and left."""
    for name, alike in (("hex(size=4)", False), ("go(size=4)", True)):
        net = board_net(name, f"graph(width=8,depth=2,attention={str(attention).lower()},directions=false)")
        planes = torch.randint(0, 2, (1, make_game(name).observation_shape[0], 4, 4), dtype=torch.int8)
        if not alike:  # of the kinds of edges too, two are exchanged
            for module in net.modules():
                if isinstance(module, EdgeConv2d):
                    module.weight.data[..., 1] = module.weight.data[..., 0]
                if isinstance(module, EdgeAttention):
                    module.bias.data[1] = module.bias.data[0]
        with torch.no_grad():
            one, other = net.evaluate(planes), net.evaluate(planes.mT)
        assert torch.allclose(one.outcome, other.outcome, rtol=1e-4) == alike


@BOTH
def test_one_net_plays_boards_of_any_size_and_hears_of_the_far_side(attention: bool) -> None:
    net = board_net("hex(size=5)", f"graph(width=8,depth=2,attention={str(attention).lower()})")
    for size in (3, 5, 9):
        assert net.evaluate(torch.zeros(2, 3, size, size, dtype=torch.int8)).logits.shape == (2, size * size)
    planes = torch.zeros(2, 3, 9, 9, dtype=torch.int8)
    planes[1, 0, 0, 0] = 1  # heard of by top and left first, then by all cells next to them
    with torch.no_grad():
        cells = net.backbone(planes.float())[-1]
    heard = (cells[0] - cells[1]).abs().amax(0) > 1e-6  # [H,W]
    assert heard[0].all()
    assert heard[:, 0].all()
    assert not heard[4:8, 4:8].any()


def test_a_net_of_one_size_may_be_a_graph_too() -> None:
    assert board_net("connect_four", "graph(width=8,depth=2)", any_size=False).evaluate(
        torch.zeros(2, 2, 6, 7, dtype=torch.int8)
    ).logits.shape == (2, 7)


def test_what_cannot_be_a_graph_is_refused() -> None:
    alone = replace(make_game("go(size=5)"), neighbours=())
    with pytest.raises(UsageError, match=r"go\(size=5,.*\) does not say which cells are neighbours \(Game.neighbours\)"):
        BoardNet(NetConfig(torso="graph"), alone, 3)
    assert BoardNet(NetConfig(torso="tower(width=8,depth=1)", hidden=8), alone, 3)
    with pytest.raises(UsageError, match="width = 6 must be a multiple of 4"):
        make_backbone("graph(width=6,attention=true)", 3)
    with pytest.raises(UsageError, match="attention = 1, but it is a switch"):
        make_backbone("graph(attention=1)", 3)
    with pytest.raises(UsageError, match="unknown parameter of graph 'lattice'"):
        make_backbone("graph(lattice=1)", 3)
