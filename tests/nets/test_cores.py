"""Memory cores: a sequence in one call, in pieces, and step by step gives the same; an episode's start forgets everything."""

import pytest
import torch
from torch import Tensor

from rlsuite.config import NetConfig
from rlsuite.nets.memory import FeedForward, initial_state, make_core

T, B, D, M = 7, 4, 3, 5


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """x [T,B,D], first [T,B]: episodes begin at different steps, also at 0 and at the last step."""
    rng = torch.Generator().manual_seed(seed)
    first = torch.zeros(T, B, dtype=torch.bool)
    first[0, 0] = first[3, 0] = first[3, 1] = first[4, 1] = first[T - 1, 2] = True
    return torch.randn(T, B, D, generator=rng), first


def net(kind: str) -> NetConfig:
    return NetConfig(memory=kind, memory_size=M)  # type: ignore[arg-type]


def some_state(kind: str) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(9)
    return tuple(torch.randn(B, M, generator=rng) for _ in initial_state(net(kind), B))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_whole_equals_chunks_equals_steps(kind: str) -> None:
    torch.manual_seed(1)
    core, (x, first), state = make_core(net(kind), D), inputs(), some_state(kind)
    whole, end = core(x, first, state)
    assert whole.shape == (T, B, M)
    for size in (1, 2, 3):
        now, parts = state, []
        for begin in range(0, T, size):
            out, now = core(x[begin : begin + size], first[begin : begin + size], now)
            parts.append(out)
        torch.testing.assert_close(torch.cat(parts), whole)
        for a, b in zip(now, end, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_against_a_cell_with_a_mask(kind: str) -> None:
    """PyTorch's own single-step cell, the state multiplied by 0 where an episode begins."""
    torch.manual_seed(1)
    core, (x, first), state = make_core(net(kind), D), inputs(), some_state(kind)
    cell = torch.nn.LSTMCell(D, M) if kind == "lstm" else torch.nn.GRUCell(D, M)
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            parameter.copy_(core.get_parameter(f"cell.{name}_l0"))
    out, _ = core(x, first, state)
    h: list[Tensor] = list(state)
    for t in range(T):
        h = [leaf * (~first[t]).unsqueeze(-1) for leaf in h]
        h = list(cell(x[t], tuple(h))) if kind == "lstm" else [cell(x[t], h[0])]  # type: ignore[arg-type]
        torch.testing.assert_close(out[t], h[0])


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_nothing_is_remembered_across_episodes(kind: str) -> None:
    torch.manual_seed(1)
    core, (x, first), state = make_core(net(kind), D), inputs(), some_state(kind)
    before, _ = core(x, first, state)
    x2 = x.clone()
    x2[:3] += 1  # lanes 0 and 1 begin anew at step 3, lanes 2 and 3 do not
    after, _ = core(x2, first, tuple(leaf + 1 for leaf in state))
    assert torch.equal(before[3:, :2], after[3:, :2])
    assert not torch.allclose(before[3, 2:], after[3, 2:])


def test_gradients_do_not_cross_an_episode() -> None:
    torch.manual_seed(1)
    core, (x, first), state = make_core(net("lstm"), D), inputs(), some_state("lstm")
    x.requires_grad_(True)
    core(x, first, state)[0][4, :2].sum().backward()  # lane 0 began at 3, lane 1 at 4
    assert x.grad is not None
    assert bool((x.grad[:3, 0] == 0).all())
    assert bool((x.grad[3:5, 0] != 0).any())
    assert bool((x.grad[:4, 1] == 0).all())


def test_sizes() -> None:
    assert isinstance(make_core(net("none"), D), FeedForward)
    assert make_core(net("none"), D).features == D
    assert make_core(net("gru"), D).features == M
    assert [len(initial_state(net(kind), B)) for kind in ("none", "gru", "lstm")] == [0, 1, 2]
