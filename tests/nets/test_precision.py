"""Nets with bf16 weights compute bit for bit what autocast computes from the fp32 weights."""

import copy

import pytest
import torch
from torch import Tensor, nn

from rlsuite.boardgames.games import make_game
from rlsuite.config.schema import NetConfig
from rlsuite.core.types import EnvSpec, Step
from rlsuite.nets import precision
from rlsuite.nets.backbones.bricks import SpectralConv2d
from rlsuite.nets.board_net import BoardNet
from rlsuite.nets.heads import resample_noise
from rlsuite.nets.precision import Precision, in_bf16, keep_fp32
from rlsuite.nets.q_net import ImplicitQNet, QNet

PIXELS = EnvSpec((4, 44, 44), "uint8", num_actions=3, num_states=None, stack=4, frames_per_step=4)
VECTOR = EnvSpec((5,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)


def make(spec: EnvSpec, torso: str, kind: type[QNet] | type[ImplicitQNet] = QNet, sigma: float | None = 0.5) -> nn.Module:
    torch.manual_seed(3)
    net = NetConfig(torso=torso, hidden=16)
    made = QNet(net, spec, 2, True, sigma) if kind is QNet else ImplicitQNet(net, spec, 8, True, sigma)
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def step(spec: EnvSpec, rows: int = 6) -> Step:
    rng = torch.Generator().manual_seed(4)
    observation = torch.randint(256, (1, rows, *spec.observation_shape), generator=rng).to(getattr(torch, spec.observation_dtype))
    no = torch.zeros(1, rows, dtype=torch.bool)
    return Step(observation, torch.zeros(1, rows), no, no, no, torch.zeros(1, rows, dtype=torch.int64), {})


def output(net: nn.Module, spec: EnvSpec) -> Tensor:
    resample_noise(net, 6, torch.Generator().manual_seed(5))
    with torch.autocast("cpu", torch.bfloat16):
        out = net(step(spec), ())[0]
        if isinstance(net, ImplicitQNet):
            out = net.quantiles(out[0], torch.linspace(0.1, 0.9, 6 * 4).view(6, 4))
    return out  # type: ignore[no-any-return]


CASES = [(PIXELS, "nature", QNet), (PIXELS, "impala", QNet), (VECTOR, "mlp", QNet), (PIXELS, "small", ImplicitQNet)]


@pytest.mark.parametrize(("spec", "torso", "kind"), CASES)
def test_output_and_gradients_are_those_of_autocast(spec: EnvSpec, torso: str, kind: type[QNet]) -> None:
    plain = make(spec, torso, kind)
    pair = Precision(copy.deepcopy(plain), bf16=True)
    expected, got = output(plain, spec), output(pair.net, spec)
    assert torch.equal(expected, got)
    expected.square().mean().backward()
    got.square().mean().backward()
    pair.take_gradients()
    for (name, a), b in zip(plain.named_parameters(), pair.master.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert b.grad.dtype == torch.float32, name
        assert torch.equal(a.grad, b.grad), name


@pytest.mark.parametrize("torso", ["tower(width=8,depth=1)", "graph(width=8,depth=2)", "graph(width=8,depth=1,attention=true)"])
def test_a_board_net_is_that_of_autocast(torso: str) -> None:
    torch.manual_seed(3)
    plain = BoardNet(NetConfig(torso=torso, hidden=16, any_size=True), make_game("hex(size=4)"), 3)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.2)
    pair = Precision(copy.deepcopy(plain), bf16=True)
    planes = torch.randint(0, 2, (6, 3, 4, 4), dtype=torch.int8)
    outputs = []
    for net in (plain, pair.net):
        with torch.autocast("cpu", torch.bfloat16):
            found = net.evaluate(planes)  # type: ignore[operator]
        (found.logits.square().mean() + found.outcome.square().mean()).backward()
        outputs.append(found)
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    pair.take_gradients()
    for (name, a), b in zip(plain.named_parameters(), pair.master.parameters(), strict=True):
        assert b.grad is not None
        assert torch.equal(a.grad, b.grad), name  # type: ignore[arg-type]


def test_refresh_follows_the_master() -> None:
    pair = Precision(make(PIXELS, "small"), bf16=True)
    before = output(pair.net, PIXELS)
    with torch.no_grad():
        for parameter in pair.master.parameters():
            parameter.mul_(1.5)
    between = output(pair.net, PIXELS)  # only the shared fp32 layers have changed
    pair.refresh()
    after = output(pair.net, PIXELS)
    assert not torch.equal(before, between)
    assert not torch.equal(between, after)
    assert torch.equal(after, output(copy.deepcopy(pair.master), PIXELS))


def test_in_fp32_there_is_one_net() -> None:
    net = make(VECTOR, "mlp")
    pair = Precision(net, bf16=False)
    assert pair.net is pair.master is net
    assert pair.halves == []


def test_fp32_parameters_are_shared() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.norm, self.out = nn.Linear(4, 4), nn.BatchNorm1d(4), keep_fp32(nn.Sequential(nn.Linear(4, 1)))

    pair = Precision(Net(), bf16=True)
    types = {name: parameter.dtype for name, parameter in pair.net.named_parameters()}
    assert {name for name, dtype in types.items() if dtype == torch.bfloat16} == {"low.weight", "low.bias"}
    assert pair.net.norm.weight is pair.master.norm.weight  # type: ignore[union-attr]
    assert pair.net.norm.running_mean is pair.master.norm.running_mean  # type: ignore[union-attr]
    assert pair.net.out[0].weight is pair.master.out[0].weight  # type: ignore[union-attr, index]
    assert len(pair.halves) == 2


def test_a_parameter_without_gradient_gets_none() -> None:
    pair = Precision(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), bf16=True)
    with torch.autocast("cpu", torch.bfloat16):
        pair.net[0](torch.ones(1, 2)).sum().backward()  # type: ignore[operator, index]
    pair.take_gradients()
    first, second = pair.master  # type: ignore[misc]
    assert first.weight.grad is not None  # type: ignore[has-type]
    assert second.weight.grad is None  # type: ignore[has-type]


def test_a_bf16_copy_shares_the_estimate_of_the_spectral_norm() -> None:
    pair = Precision(nn.Sequential(SpectralConv2d(2, 3, 3)), bf16=True)
    low, full = pair.net[0], pair.master[0]  # type: ignore[index]
    assert (low.weight.dtype, full.u.dtype) == (torch.bfloat16, torch.float32)  # type: ignore[union-attr]
    assert low.u is full.u  # type: ignore[union-attr]
    with torch.no_grad():
        full.weight.add_(1)  # type: ignore[union-attr]
    pair.refresh()
    before = full.u.clone()  # type: ignore[union-attr, operator]
    with torch.autocast("cpu", torch.bfloat16):
        pair.net(torch.rand(1, 2, 4, 4)).float().sum().backward()
    pair.take_gradients()
    assert not torch.equal(full.u, before)  # type: ignore[union-attr, arg-type]
    assert full.weight.grad.dtype == torch.float32  # type: ignore[union-attr]


@pytest.mark.parametrize("supported", [True, False])
def test_a_cpu_without_bf16_computes_in_fp32_and_says_so_once(
    supported: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rlsuite.core.cpu.has_bf16", lambda: supported)
    precision._tell.cache_clear()
    try:
        assert [in_bf16("bf16", torch.device("cpu")) for _ in range(2)] == [supported] * 2
        assert not in_bf16("fp32", torch.device("cpu"))
        assert in_bf16("bf16", torch.device("cuda"))
    finally:
        precision._tell.cache_clear()
    assert capsys.readouterr().err.count("fp32") == (0 if supported else 1)
