"""Torsos, heads, noisy layers, embeddings and whole nets: shapes, values and dtypes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, Step
from rlsuite.nets.backbones import BACKBONES, make_backbone
from rlsuite.nets.heads import CosineEmbedding, Mlp, NoisyLinear, QHead, clear_noise, resample_noise
from rlsuite.nets.memory import FeedForward
from rlsuite.nets.policy_net import PolicyNet
from rlsuite.nets.precision import Precision
from rlsuite.nets.q_net import ImplicitQNet, MemoryQNet, QNet
from rlsuite.nets.torso import cast_once, make_torso, torso_names


def spec(shape: tuple[int, ...], states: int | None = None, actions: int = 5) -> EnvSpec:
    dtype = "uint8" if len(shape) == 3 else "float32"
    return EnvSpec(shape, dtype, num_actions=actions, num_states=states, stack=1, frames_per_step=1)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def step_of(observation: torch.Tensor) -> Step:
    t, b = observation.shape[:2]
    no = torch.zeros(t, b, dtype=torch.bool)
    return Step(observation, torch.zeros(t, b), no, no, no, torch.zeros(t, b, dtype=torch.int64), {})


def test_sizes_are_those_of_the_papers() -> None:
    """From 84 pixels, Nature has maps of 20, 9 and 7 and 512 units; IMPALA has maps of 42, 21 and 11."""
    assert make_backbone("nature", 4).shapes(84, 84) == [(32, 20, 20), (64, 9, 9), (64, 7, 7)]
    assert make_backbone("data_efficient", 4).shapes(84, 84) == [(32, 16, 16), (64, 3, 3)]
    assert make_backbone("impala", 4).shapes(84, 84) == [(16, 42, 42), (32, 21, 21), (32, 11, 11)]
    net = QNet(NetConfig(torso="nature", hidden=512), spec((4, 84, 84), actions=6), 1, False, None)
    kernels = 4 * 32 * 64 + 32 + 32 * 64 * 16 + 64 + 64 * 64 * 9 + 64
    assert sum(p.numel() for p in net.parameters()) == kernels + (3136 * 512 + 512) + (512 * 6 + 6)
    assert [2 * c for c in make_backbone("small", 4).channels] == list(make_backbone("nature", 4).channels)


@pytest.mark.parametrize("name", ["nature", "small", "inception_v3", "alexnet"])
def test_images_that_are_too_small_are_refused_with_torso_and_size(name: str) -> None:
    with pytest.raises(UsageError, match=rf"net\.torso={name}: images of 20x30 are too small"):
        make_torso(name, 8, spec((4, 20, 30)))


def test_torso_errors_name_the_key_and_a_torso_that_fits() -> None:
    with pytest.raises(UsageError, match=r"unknown net\.torso 'natur'; did you mean nature"):
        make_torso("natur", 8, spec((4, 84, 84)))
    with pytest.raises(UsageError, match=r"net\.torso=nature needs planes \[C,H,W\].*\(4,\): use mlp"):
        make_torso("nature", 8, spec((4,)))
    with pytest.raises(UsageError, match=r"net\.torso=small needs planes.*use onehot"):
        make_torso("small", 8, spec((), states=16))
    with pytest.raises(UsageError, match=r"net\.torso=onehot needs discrete states.*\(4,\)"):
        make_torso("onehot", 8, spec((4,)))
    assert set(torso_names()) == {*BACKBONES, "mlp", "onehot"}


@pytest.mark.parametrize(
    ("name", "shape", "states", "features"),
    [
        ("nature", (4, 84, 84), None, 3136),
        ("small", (4, 84, 84), None, 1568),
        ("data_efficient", (4, 84, 84), None, 576),
        ("mlp", (4,), None, 16),
        ("mlp", (2, 3), None, 16),
        ("mlp", (), 5, 16),
        ("onehot", (), 7, 7),
    ],
)
def test_torsos_return_time_batch_features(name: str, shape: tuple[int, ...], states: int | None, features: int) -> None:
    torch.manual_seed(0)
    torso = make_torso(name, 16, spec(shape, states))
    assert torso.features == features
    if states:
        observation = torch.randint(states, (3, 2))
    elif len(shape) == 3:
        observation = torch.randint(256, (3, 2, *shape), dtype=torch.uint8)
    else:
        observation = torch.rand(3, 2, *shape)
    kept = observation.clone()
    out = torso(observation)
    assert out.shape == (3, 2, features)
    assert out.dtype == torch.float32
    assert torch.equal(observation, kept)
    torch.testing.assert_close(torso(observation[1:2, 1:])[0, 0], out[1, 1], rtol=1e-4, atol=1e-5)  # rows do not affect each other


def test_pixels_are_scaled_to_one() -> None:
    class Keep(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            self.seen = x.clone()
            return [x]

    torso = make_torso("small", 8, spec((4, 84, 84)))
    torso.backbone = Keep()  # type: ignore[assignment]
    observation = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(4 * 84 * 28).reshape(1, 1, 4, 84, 84)
    torso(observation)
    seen: Any = torso.backbone.seen  # type: ignore[union-attr]
    assert sorted(set(seen.flatten().tolist())) == pytest.approx([0.0, 0.2, 1.0])
    with torch.autocast("cpu", torch.bfloat16):
        torso(observation)
    assert torso.backbone.seen.dtype == torch.bfloat16  # type: ignore[union-attr]


def test_floats_are_taken_as_they_are_and_the_callers_pictures_are_not_changed() -> None:
    torso = make_torso("nature", 8, spec((1, 36, 36))._replace(observation_dtype="float32"))
    picture = torch.ones(1, 1, 1, 36, 36)
    out = torso(picture)
    assert picture.min() == picture.max() == 1.0
    whole = make_torso("nature", 8, spec((1, 36, 36)))
    whole.load_state_dict(torso.state_dict())
    torch.testing.assert_close(whole((picture * 255).to(torch.uint8)), out)
    bright = picture * 255
    torch.testing.assert_close(whole(bright), out)
    assert bright.min() == 255.0


def test_pictures_that_are_cast_once_give_the_same_features() -> None:
    net, seen = NetConfig(torso="nature"), spec((1, 36, 36))
    torso = make_torso(net.torso, 8, seen)
    picture = torch.randint(256, (2, 3, 1, 36, 36), dtype=torch.uint8)
    cast = cast_once(picture, net, seen)
    assert cast.dtype == torch.float32
    assert torch.equal(torso(cast), torso(picture))
    assert torch.equal(cast.to(torch.uint8), picture)
    assert cast_once(picture, NetConfig(torso="mlp"), seen) is picture  # it would not know that they are bytes


def test_an_mlp_takes_the_number_of_a_discrete_state_for_a_name_not_a_size() -> None:
    torch.manual_seed(0)
    torso = make_torso("mlp", 8, spec((), states=4))
    out = torso(torch.tensor([[0, 3], [2, 1]]))
    dense = torso.net[0]  # type: ignore[index]
    torch.testing.assert_close(out, torch.relu(dense.weight.T[torch.tensor([[0, 3], [2, 1]])] + dense.bias))


def test_onehot_torso() -> None:
    out = make_torso("onehot", 8, spec((), states=4))(torch.tensor([[0, 3], [2, 1]]))
    assert torch.equal(out, torch.eye(4)[torch.tensor([[0, 3], [2, 1]])])


def test_the_core_without_memory_is_the_identity() -> None:
    x = torch.rand(3, 2, 4)
    out, state = FeedForward(4)(x, torch.zeros(3, 2, dtype=torch.bool), ())
    assert out is x
    assert state == ()


@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize("sigma", [None, 0.5])
def test_dueling_identity(outputs: int, sigma: float | None) -> None:
    """Q - V is A minus its mean, so the mean of Q over actions is V, whatever A is."""
    torch.manual_seed(0)
    head = QHead(6, 8, 4, outputs, dueling=True, noisy_sigma=sigma)
    x = torch.randn(3, 2, 6)
    if sigma:
        resample_noise(head, 2, rng())
    q = head(x)
    assert head.value is not None
    value, advantage = head.value(x), head.advantage(x).unflatten(-1, (4, outputs))
    assert q.shape == (3, 2, 4, outputs)
    torch.testing.assert_close(q.mean(-2), value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(q - q[..., :1, :], advantage - advantage[..., :1, :], rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # a constant added to every advantage changes nothing
        bias = (head.advantage.out.mean if sigma else head.advantage.out).bias  # type: ignore[union-attr]
        bias.add_(3.0)  # type: ignore[operator, union-attr]
    torch.testing.assert_close(head(x), q, rtol=1e-4, atol=1e-5)


def test_a_head_without_dueling_is_its_advantage_stream() -> None:
    torch.manual_seed(0)
    head = QHead(6, 8, 4, 3)
    x = torch.randn(2, 5, 6)
    assert head.value is None
    hidden = torch.relu(x @ head.advantage.hidden.weight.T + head.advantage.hidden.bias)  # type: ignore[union-attr, operator]
    by_hand = hidden @ head.advantage.out.weight.T + head.advantage.out.bias  # type: ignore[union-attr, operator]
    torch.testing.assert_close(head(x), by_hand.reshape(2, 5, 4, 3))  # the N outputs of an action are adjacent


def test_a_noisy_layer_without_noise_uses_its_mean() -> None:
    torch.manual_seed(0)
    layer = NoisyLinear(7, 3)
    x = torch.randn(2, 4, 7)
    torch.testing.assert_close(layer(x), x @ layer.mean.weight.T + layer.mean.bias)
    resample_noise(layer, 4, rng())
    assert not torch.allclose(layer(x), layer.mean(x))
    clear_noise(layer)
    assert torch.equal(layer(x), layer.mean(x))


def test_noise_is_factorised_as_in_the_paper() -> None:
    """y = (μ_w + σ_w ∘ f(ε_out) f(ε_in)ᵀ) x + μ_b + σ_b ∘ f(ε_out), each row with its own ε, the same over time."""
    torch.manual_seed(0)
    layer = NoisyLinear(5, 3, sigma=0.7)
    with torch.no_grad():  # distinct sigmas, so that swapped indices show
        layer.sigma.weight.copy_(torch.rand(3, 5))
        layer.sigma.bias.copy_(torch.rand(3))
    resample_noise(layer, 4, rng(2))
    assert layer.noise is not None
    f_in, f_out = layer.noise
    x = torch.randn(2, 4, 5)
    out = layer(x)
    for t in range(2):
        for b in range(4):
            weight = layer.mean.weight + layer.sigma.weight * torch.outer(f_out[b], f_in[b])
            bias = layer.mean.bias + layer.sigma.bias * f_out[b]
            torch.testing.assert_close(out[t, b], weight @ x[t, b] + bias, rtol=1e-4, atol=1e-5)


def test_noise_differs_between_rows_and_layers() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(NoisyLinear(6, 6), NoisyLinear(6, 6))
    resample_noise(net, 8, rng())
    out = net[0](torch.ones(1, 8, 6))[0]
    assert len({tuple(row.tolist()) for row in out.detach()}) == 8
    assert not torch.equal(net[0].noise[0], net[1].noise[0])  # type: ignore[index]


def test_resampling_depends_on_its_generator_alone() -> None:
    layer = NoisyLinear(50, 50)
    generator, kept = rng(3), []
    for _ in range(2):
        resample_noise(layer, 6, generator)
        kept.append(torch.cat(layer.noise or (), 1))
    assert not torch.equal(kept[0], kept[1])
    torch.manual_seed(99)  # the global generator has no effect
    resample_noise(layer, 6, rng(3))
    assert torch.equal(torch.cat(layer.noise or (), 1), kept[0])


def test_noise_has_the_distribution_of_f() -> None:
    """For f(x) = sign(x) sqrt|x| of a standard normal x: E f = 0, E f² = E|x| = sqrt(2/π), E f⁴ = E x² = 1."""
    layer = NoisyLinear(500, 500)
    resample_noise(layer, 400, rng(1))
    f = torch.cat(layer.noise or (), 1).double()
    n = f.numel()
    assert f.shape == (400, 1000)
    assert abs(float(f.mean())) < 5 / math.sqrt(n)
    assert float((f**2).mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.005)
    assert float((f**4).mean()) == pytest.approx(1.0, abs=0.02)
    draws = torch.randn(400, 1000, generator=rng(1)).double()
    assert float((f**2 - draws.abs()).abs().max()) < 1e-5
    assert torch.equal(f.sign(), draws.sign())


def test_noisy_layers_start_as_in_the_paper() -> None:
    """μ ~ U(±1/√p), σ = σ_0/√p for p inputs."""
    torch.manual_seed(0)
    layer = NoisyLinear(400, 300, sigma=0.4)
    assert torch.all(layer.sigma.weight == torch.tensor(0.4 / 20))
    assert torch.all(layer.sigma.bias == torch.tensor(0.4 / 20))
    for tensor in (layer.mean.weight, layer.mean.bias):
        assert tensor.abs().max() <= 1 / 20
        assert tensor.abs().max() > 0.95 / 20
    assert float(layer.mean.weight.detach().std()) == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("kind", ["q", "policy"])
def test_layers_before_a_memory_core_start_orthogonal_and_the_core_by_its_own_rule(kind: str) -> None:
    torch.manual_seed(0)
    net = NetConfig(torso="small", hidden=16, memory="attention(window=4)", memory_size=8)
    made = MemoryQNet(net, spec((2, 36, 36)), True, 0.5) if kind == "q" else PolicyNet(net, spec((2, 36, 36)))
    for layer in made.trunk.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            rows = layer.weight.detach().flatten(1)
            rows = rows if rows.shape[0] <= rows.shape[1] else rows.T
            torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(len(rows)), atol=1e-5, rtol=0)
            assert not layer.bias.detach().any()
    gate = made.core.get_submodule("layers.0.gate.from_y").bias  # nearly closed at first
    assert float(gate[8:16].detach().mean()) == pytest.approx(-2, abs=0.5)


def test_differences_between_images_do_not_fade() -> None:
    """A small square moves over a grey image, as Pong's ball does. With PyTorch's default initialisation the ratio is 0.036."""
    torch.manual_seed(0)
    shape = (2, 64, 64)
    trunk = MemoryQNet(NetConfig(torso="small", hidden=64, memory="lstm"), spec(shape), True, None).trunk
    images = torch.full((1, 20, *shape), 80, dtype=torch.uint8)
    for i in range(20):
        images[0, i, :, 3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = 236
    features = trunk(images)[0].detach()  # [20,64]
    assert float(features.std(0).pow(2).mean().sqrt() / features.mean(0).pow(2).mean().sqrt()) > 0.06


def test_means_and_sigmas_of_a_noisy_layer_get_gradients() -> None:
    layer = NoisyLinear(4, 2)
    resample_noise(layer, 3, rng())
    layer(torch.rand(1, 3, 4)).sum().backward()
    for part in (layer.mean, layer.sigma):
        assert part.weight.grad is not None
        assert part.weight.grad.abs().sum() > 0


def test_cosines_by_hand() -> None:
    embedding = CosineEmbedding(64, cosines=4)
    with torch.no_grad():
        embedding.linear.weight.copy_(torch.eye(64, 4))
        embedding.linear.bias.copy_(torch.zeros(64))
    tau = torch.tensor([[0.0, 0.25, 0.5], [1.0, 1 / 3, 0.9]])
    out = embedding(tau)
    assert out.shape == (2, 3, 64)
    for i in range(4):
        expected = torch.tensor(np.maximum(np.cos(np.pi * i * tau.numpy()), 0), dtype=torch.float32)
        torch.testing.assert_close(out[..., i], expected, rtol=1e-4, atol=1e-5)
    assert (out[..., 4:] == 0).all()
    assert "frequencies" not in embedding.state_dict()  # a constant: checkpoints do not store it


def test_implicit_quantiles_multiply_features_and_embedding() -> None:
    torch.manual_seed(0)
    net = ImplicitQNet(NetConfig(torso="mlp", hidden=8), spec((3,)), cosines=6, dueling=True, noisy_sigma=None)
    features, state = net(step_of(torch.rand(1, 4, 3)), ())
    assert features.shape == (1, 4, 8)
    assert state == ()
    tau = torch.rand(4, 7)
    out = net.quantiles(features[0], tau)
    assert out.shape == (4, 5, 7)  # [B,A,N]
    for b in range(4):
        for n in range(7):
            mixed = features[0, b] * net.embedding(tau[b, n])
            torch.testing.assert_close(out[b, :, n], net.head(mixed[None, None])[0, 0, :, 0], rtol=1e-4, atol=1e-5)


def test_q_net_is_torso_then_head() -> None:
    torch.manual_seed(0)
    net = QNet(NetConfig(torso="mlp", hidden=8), spec((3,)), outputs=4, dueling=False, noisy_sigma=None)
    x = torch.rand(2, 3, 3)
    out, state = net(step_of(x), ())
    assert out.shape == (2, 3, 5, 4)
    assert state == ()
    assert torch.equal(out, net.head(net.torso(x)))
    assert net.torso.features == net.head.advantage.hidden.in_features == 8  # type: ignore[union-attr]


@pytest.mark.parametrize("sigma", [None, 0.5])
@pytest.mark.parametrize("dueling", [False, True])
def test_heads_return_fp32_under_bf16(dueling: bool, sigma: float | None) -> None:
    """In bf16 close values would be equal: input and output of the last layer must be fp32."""
    torch.manual_seed(0)
    head = QHead(32, 32, 3, 2, dueling, sigma)
    if sigma:
        resample_noise(head, 4, rng())
    x = torch.randn(1, 4, 32)
    full = head(x)
    seen: list[torch.dtype] = []
    head.advantage.out.register_forward_hook(lambda module, inputs, output: seen.extend([inputs[0].dtype, output.dtype]))
    head.advantage.hidden.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        out = head(x)
    assert out.dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32, torch.float32]
    torch.testing.assert_close(out, full, rtol=0.05, atol=0.02)
    # The output is not a bf16 result cast back: it has more than the 8 bits of bf16.
    assert not torch.equal(out, out.bfloat16().float())


@pytest.mark.parametrize("name", ["small", "impala"])
def test_whole_nets_under_bf16(name: str) -> None:
    torch.manual_seed(0)
    net = QNet(NetConfig(torso=name, hidden=16), spec((4, 44, 44)), 1, True, None)
    step = step_of(torch.randint(256, (1, 3, 4, 44, 44), dtype=torch.uint8))
    full = net(step, ())[0]
    with torch.autocast("cpu", torch.bfloat16):
        half = net(step, ())[0]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.02)
    implicit = ImplicitQNet(NetConfig(torso=name, hidden=16), spec((4, 44, 44)), 8, False, None)
    with torch.autocast("cpu", torch.bfloat16):
        assert implicit.quantiles(implicit(step, ())[0][0], torch.rand(3, 5)).dtype == torch.float32


def test_mlp_has_one_hidden_layer() -> None:
    mlp = Mlp(3, 8, 2)
    x = torch.randn(1, 1, 3)
    torch.testing.assert_close(mlp(x), mlp.out(torch.relu(mlp.hidden(x))))


@pytest.mark.parametrize("name", ["small", "mlp", "onehot"])
def test_layer_norm_normalises_features_and_hidden_layers(name: str) -> None:
    torch.manual_seed(0)
    env, net = spec((), states=5) if name == "onehot" else spec((4, 44, 44)), NetConfig(torso=name, hidden=16, layer_norm=True)
    observation = torch.randint(5, (2, 3)) if name == "onehot" else torch.randint(256, (2, 3, 4, 44, 44), dtype=torch.uint8)
    q_net, policy_net = QNet(net, env, 1, True, 0.5), PolicyNet(net, env)
    for torso in (q_net.torso, policy_net.trunk.torso, ImplicitQNet(net, env, 8, False, None).torso):
        features = torso(observation)
        torch.testing.assert_close(features.mean(-1), torch.zeros(2, 3), rtol=0, atol=1e-5)
        torch.testing.assert_close(features.var(-1, correction=0), torch.ones(2, 3), rtol=1e-2, atol=0)
    for dense in (q_net.head.advantage, q_net.head.value):
        assert dense is not None
        x = torch.randn(1, 1, q_net.torso.features)
        normalised = torch.nn.functional.layer_norm(dense.hidden(x), (16,))
        torch.testing.assert_close(dense(x), dense.out(torch.relu(normalised)))
    trunk = policy_net.trunk
    normalised = torch.nn.functional.layer_norm(trunk.dense(trunk.torso(observation)), (16,))
    torch.testing.assert_close(trunk(observation), torch.relu(normalised))


def test_layer_norm_keeps_its_own_weights_in_fp32() -> None:
    net = Precision(QNet(NetConfig(torso="small", hidden=16, layer_norm=True), spec((4, 44, 44)), 1, True, None), bf16=True).net
    norms = [module for module in net.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 3
    assert {norm.weight.dtype for norm in norms} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        q = net(step_of(torch.randint(256, (1, 3, 4, 44, 44), dtype=torch.uint8)), ())[0]
    assert q.isfinite().all()
