"""Memory cores: a sequence in one call, in pieces and step by step give the same; the start of an episode resets the state."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, Step
from rlsuite.nets.attention import Attention
from rlsuite.nets.catalogue import core_facts, core_table
from rlsuite.nets.memory import Bidirectional, Causal, FeedForward, LastActionReward, Recurrent, initial_state, make_core

T, B, D, M, A = 7, 4, 3, 6, 3
SPEC = EnvSpec((D,), "float32", A, None, 1, 1)
KINDS = ["lstm", "gru", "rnn", "attention(window=3,heads=2,layers=2)", "causal(levels=2,kernel=3)"]


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """x [T,B,D] and first [T,B]: episodes begin at different steps, among them the first and the last."""
    rng = torch.Generator().manual_seed(seed)
    first = torch.zeros(T, B, dtype=torch.bool)
    first[0, 0] = first[3, 0] = first[3, 1] = first[4, 1] = first[T - 1, 2] = True
    return torch.randn(T, B, D, generator=rng), first


def marks(first: Tensor, seed: int = 3) -> Step:
    rng = torch.Generator().manual_seed(seed)
    no = torch.zeros_like(first)
    reward = torch.randn(first.shape, generator=rng) * ~first
    return Step((), reward, first, no, no, torch.randint(A, first.shape, generator=rng), {})


def part(step: Step, begin: int, end: int) -> Step:
    return step._replace(
        reward=step.reward[begin:end], first=step.first[begin:end], last=(), terminal=(), action=step.action[begin:end]
    )


def net(kind: str, last: bool = False) -> NetConfig:
    sized = {} if kind == "none" else {"memory_size": M}
    return NetConfig(memory=kind, last_action_reward=last, **sized)


def some_state(kind: str, last: bool = False) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(9)
    leaves = []
    for leaf in initial_state(net(kind, last), SPEC, B):
        random = torch.randint(0, A, leaf.shape, generator=rng)
        leaves.append(torch.randn(leaf.shape, generator=rng) if leaf.is_floating_point() else random)
    return tuple(leaves)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_gives_the_same_in_one_call_in_pieces_and_step_by_step(kind: str, last: bool) -> None:
    torch.manual_seed(1)
    core, (x, first), state = make_core(net(kind, last), D, SPEC), inputs(), some_state(kind, last)
    step = marks(first)
    whole, end = core(x, step, state)
    assert whole.shape == (T, B, M)
    for size in (1, 2, 3, 5):
        current, parts = state, []
        for begin in range(0, T, size):
            out, current = core(x[begin : begin + size], part(step, begin, begin + size), current)
            parts.append(out)
        torch.testing.assert_close(torch.cat(parts), whole)
        if "causal" in kind:  # the inputs of a level before the episode may differ, too
            assert torch.equal(current[1], end[1])
            later = [core(x, marks(torch.zeros_like(first)), state)[0] for state in (current, end)]
            torch.testing.assert_close(*later)
        elif "attention" in kind:  # entries that are not valid any more may differ
            assert torch.equal(current[1], end[1])
            old = torch.arange(3) >= 3 - end[1].unsqueeze(1)  # [B,W]
            torch.testing.assert_close(current[0] * old[:, None, :, None], end[0] * old[:, None, :, None])
        else:
            for a, b in zip(current, end, strict=True):
                torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_recurrent_cores_equal_a_masked_cell(kind: str) -> None:
    """The reference is PyTorch's single-step cell, whose state is multiplied by 0 where an episode begins."""
    torch.manual_seed(1)
    core, (x, first), state = make_core(net(kind), D, SPEC), inputs(), some_state(kind)
    cell = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}[kind](D, M)
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            parameter.copy_(core.get_parameter(f"cell.{name}_l0"))
    out, _ = core(x, marks(first), state)
    h: list[Tensor] = list(state)
    for t in range(T):
        h = [leaf * (~first[t]).unsqueeze(-1) for leaf in h]
        h = list(cell(x[t], tuple(h))) if kind == "lstm" else [cell(x[t], h[0])]  # type: ignore[arg-type]
        torch.testing.assert_close(out[t], h[0])


def results(run: Callable[..., tuple[Tensor, Any]], core: Recurrent, x: Tensor, first: Any, state: Any) -> list[Tensor]:
    """What `run(x, first, state)` returns, and the gradients of all that goes into it."""
    given, begin = x.clone().requires_grad_(True), tuple(leaf.clone().requires_grad_(True) for leaf in state)
    out, end = run(given, first, begin)
    core.zero_grad()
    (out.square().sum() + sum(leaf.sin().sum() for leaf in end)).backward()
    gradients = [leaf.grad for leaf in (given, *begin, *core.parameters())]
    assert all(gradient is not None for gradient in gradients)
    return [out, *end, *(gradient.clone() for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_other_ways_to_run_give_the_values_and_gradients_of_the_fused_kernels(kind: str) -> None:
    """A single step, and a whole sequence with fixed shapes, in which episodes begin."""
    torch.manual_seed(1)
    core, (x, first), state = make_core(net(kind), D, SPEC), inputs(), some_state(kind)
    assert isinstance(core, Recurrent)
    fused, single = (results(run, core, x[3:4], first[3:4], state) for run in (core.fused, core.single))
    whole = results(core, core, x, marks(first), state)
    core.fixed_shapes = True
    masked = results(core, core, x, marks(first), state)
    for a, b in zip([*fused, *whole], [*single, *masked], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_does_not_cross_episodes(kind: str) -> None:
    torch.manual_seed(1)
    core, (x, first), state = make_core(net(kind), D, SPEC), inputs(), some_state(kind)
    before, _ = core(x, marks(first), state)
    x2 = x.clone()
    x2[:3] += 1  # environments 0 and 1 begin an episode at step 3, environments 2 and 3 do not
    after, _ = core(x2, marks(first), tuple(leaf + 1 for leaf in state))
    assert torch.equal(before[3:, :2], after[3:, :2])
    assert not torch.allclose(before[3, 2:], after[3, 2:])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_do_not_cross_episodes(kind: str) -> None:
    torch.manual_seed(1)
    core, (x, first), state = make_core(net(kind), D, SPEC), inputs(), some_state(kind)
    x.requires_grad_(True)
    core(x, marks(first), state)[0][4, :2].sum().backward()  # environment 0 began at 3, environment 1 at 4
    assert x.grad is not None
    assert bool((x.grad[:3, 0] == 0).all())
    assert bool((x.grad[3:5, 0] != 0).any())
    assert bool((x.grad[:4, 1] == 0).all())


def test_attention_sees_exactly_the_steps_of_its_window() -> None:
    torch.manual_seed(1)
    core = make_core(net("attention(window=3,heads=2,layers=1)"), D, SPEC)
    x, none = inputs()[0].requires_grad_(True), torch.zeros(T, B, dtype=torch.bool)
    core(x, marks(none), core.initial_state(B))[0][5].sum().backward()
    assert x.grad is not None
    seen = (x.grad != 0).any(-1).all(-1)  # [T]
    assert seen.tolist() == [False, False, True, True, True, True, False]


def test_attention_starts_close_to_the_identity() -> None:
    torch.manual_seed(1)
    core = make_core(net("attention(window=3,heads=2,layers=1)"), D, SPEC)
    assert isinstance(core, Attention)
    x, first = inputs()
    embedded = core.embed(x)
    out = core(x, marks(first), core.initial_state(B))[0]
    assert float((out - embedded).norm() / embedded.norm()) < 0.5


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3)])
def test_the_gate_that_keeps_the_state_starts_open(kind: str, gates: int) -> None:
    core = make_core(net(kind), D, SPEC)
    assert isinstance(core, Recurrent)
    bias = core.cell.bias_ih_l0 + core.cell.bias_hh_l0
    # LSTM: input, forget, cell, output; GRU: reset, update, new
    assert bias.tolist() == [0.0] * M + [1.0] * M + [0.0] * (gates - 2) * M
    h = torch.full((1, B, M), 2.0)
    with torch.no_grad():
        core.cell.weight_hh_l0.zero_()
    after = core.cell(torch.zeros(1, B, D), (h, h) if kind == "lstm" else h)[1]
    kept = after[1] if kind == "lstm" else after
    torch.testing.assert_close(kept, h * torch.sigmoid(torch.tensor(1.0)))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_a_bidirectional_core_is_two_recurrent_ones_within_each_episode(kind: str) -> None:
    """The reference runs each episode of a sequence by itself: forwards, and turned around from zeros."""
    torch.manual_seed(1)
    core, (x, first), state = make_core(net(f"bidirectional(core={kind})"), D, SPEC), inputs(), some_state(kind)
    assert isinstance(core, Bidirectional)
    out, after = core(x, marks(first), state)
    assert (out.shape, core.features) == ((T, B, 2 * M), 2 * M)
    none = torch.zeros(T, 1, dtype=torch.bool)
    for b in range(B):
        bounds = sorted({0, T, *first[:, b].nonzero().flatten().tolist()})
        for begin, end in pairwise(bounds):
            piece, marked = x[begin:end, b : b + 1], marks(none[begin:end])
            start = tuple(leaf[b : b + 1] * (not first[begin, b]) for leaf in state) if begin == 0 else core.initial_state(1)
            seen, last = core.forwards(piece, marked, start)
            ahead, _ = core.backwards(piece.flip(0), marked, core.initial_state(1))
            torch.testing.assert_close(out[begin:end, b : b + 1], torch.cat([seen, ahead.flip(0)], -1))
        for a, c in zip(after, last, strict=True):
            torch.testing.assert_close(a[b : b + 1], c)


def test_a_bidirectional_core_reads_ahead_to_the_end_of_the_episode() -> None:
    torch.manual_seed(1)
    core, (x, first) = make_core(net("bidirectional(core=gru)"), D, SPEC), inputs()
    x.requires_grad_(True)
    out, _ = core(x, marks(first), core.initial_state(B))
    (reached,) = torch.autograd.grad(out[1, 0].square().sum(), x)  # environment 0 begins at 0 and again at 3
    assert (reached[:, 0].abs().sum(-1) > 0).tolist() == [True, True, True, False, False, False, False]
    assert not reached[:, 1:].any()


def test_causal_convolutions_see_as_far_as_their_receptive_field_and_never_ahead() -> None:
    torch.manual_seed(1)
    core = make_core(net("causal(levels=3,kernel=2)"), D, SPEC)
    assert isinstance(core, Causal)
    assert core.receptive_field == 8
    x = torch.randn(20, 1, D, requires_grad=True)
    out, _ = core(x, marks(torch.zeros(20, 1, dtype=torch.bool)), core.initial_state(1))
    (reached,) = torch.autograd.grad(out[12].square().sum(), x)
    assert (reached.abs().sum((1, 2)) > 0).nonzero().flatten().tolist() == list(range(5, 13))


def test_a_level_of_causal_convolutions_by_hand() -> None:
    """One level, kernel 2: tanh(W x_{t-1} + V x_t) σ(...), a skip and a last layer, with 0 before the episode."""
    torch.manual_seed(1)
    core = make_core(net("causal(levels=1,kernel=2)"), D, SPEC)
    assert isinstance(core, Causal)
    x, first = inputs()
    out, _ = core(x, marks(first), core.initial_state(B))
    e = core.embed(x)
    for t in range(T):
        before = torch.zeros(B, M) if t == 0 else e[t - 1] * ~first[t].unsqueeze(-1)
        signal, gate = core.taps[0](torch.cat([before, e[t]], -1)).chunk(2, -1)
        skip = core.outs[0](torch.tanh(signal) * torch.sigmoid(gate)).chunk(2, -1)[1]
        torch.testing.assert_close(out[t], torch.relu(core.last(torch.relu(skip))))


def test_the_previous_action_and_reward_are_fed_in_within_an_episode_only() -> None:
    torch.manual_seed(1)
    core = make_core(net("none", last=True), D, SPEC)
    assert isinstance(core, LastActionReward)
    assert core.features == D + A + 1
    x, first = inputs()
    step = marks(first)
    before = torch.tensor([2, 1, 0, 2])
    out, (after,) = core(x, step, (before,))
    assert torch.equal(out[..., :D], x)
    for t in range(T):
        for b in range(B):
            action = int(before[b] if t == 0 else step.action[t - 1, b])
            expected = torch.nn.functional.one_hot(torch.tensor(action), A).float() * ~first[t, b]
            assert torch.equal(out[t, b, D : D + A], expected)
            assert float(out[t, b, -1]) == pytest.approx(float(torch.tanh(step.reward[t, b])) * bool(~first[t, b]))
    assert torch.equal(after, step.action[-1])


def test_a_continuous_previous_action() -> None:
    spec = SPEC._replace(num_actions=0, action_shape=(2,))
    core = make_core(net("none", last=True), D, spec)
    x, first = inputs()
    step = marks(first)._replace(action=torch.randn(T, B, 2))
    out, (after,) = core(x, step, initial_state(net("none", last=True), spec, B))
    assert torch.equal(out[1:, :, D : D + 2], step.action[:-1] * ~first[1:].unsqueeze(-1))
    assert torch.equal(after, step.action[-1])


def test_sizes() -> None:
    assert isinstance(make_core(net("none"), D, SPEC), FeedForward)
    assert make_core(net("none"), D, SPEC).features == D
    for kind in KINDS:
        assert make_core(net(kind), D, SPEC).features == M
    shapes = {kind: [tuple(leaf.shape) for leaf in initial_state(net(kind), SPEC, B)] for kind in ("none", *KINDS)}
    states = {"none": [], "lstm": [(B, M)] * 2, "gru": [(B, M)], "rnn": [(B, M)]}
    assert shapes == {**states, KINDS[3]: [(B, 2, 3, M), (B,)], KINDS[4]: [(B, 2 + 4, M), (B,)]}


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("attention(window=0)", M, "whole numbers above 0"),
        ("attention(window=1.5)", M, "whole numbers above 0"),
        ("attention(heads=a)", M, "whole numbers above 0"),
        ("attention(widow=3)", M, "window"),
        ("lstm(size=3)", M, "size"),
        ("bidirectional(core=causal)", M, "core must be lstm, gru or rnn"),
        ("causal(levels=0)", M, "levels must be a whole number from 1 to 12"),
        ("causal(kernel=1)", M, "kernel one from 2 to 8"),
        ("attention(heads=4)", M, "memory_size = 6 must be a multiple of heads = 4"),
    ],
)
def test_bad_parameters_of_a_core_are_refused(kind: str, size: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_core(NetConfig(memory=kind, memory_size=size), D, SPEC)


def test_cores_are_listed_with_their_size_cost_and_reach() -> None:
    """An LSTM of M units and inputs has 4 M (2 M + 2) parameters, 8 M² of them weights, each used once in a step."""
    lstm, causal, attention = (core_facts(name) for name in ("lstm", "causal", "attention"))
    assert lstm.parameters == 4 * 256 * (2 * 256 + 2)
    assert (lstm.macs, lstm.receptive_field) == (8 * 256**2, None)
    assert causal.receptive_field == 1 + (2**5 - 1)
    assert attention.receptive_field == 33
    assert causal.macs == 256 * 256 * (1 + 5 * (2 * 2 + 2) + 1)
    assert "causal" in core_table()
