"""C51, QR-DQN and IQN on nets that are tables: projections and losses by hand and against naive loops."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlsuite.agents.distributional import C51, IQN, QRDQN, C51Config, IQNConfig, QRDQNConfig, project, quantile_huber
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Mode, Transitions
from rlsuite.core.types import EnvSpec, State, Step, Trajectory

GAMMA = 0.5
SPEC = EnvSpec((3,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)
NET = NetConfig(torso="mlp", hidden=8)
KINDS = pytest.mark.parametrize("kind", ["c51", "qrdqn", "iqn"])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Table(nn.Module):
    """Observations are row numbers: [T,B] -> [T,B,A,N]."""

    def __init__(self, rows: Any):
        super().__init__()
        self.rows = nn.Parameter(torch.as_tensor(rows, dtype=torch.float32))

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        return self.rows[step.observation], state


class Implicit(nn.Module):
    """Quantile functions θ(τ) = base + slope τ per row and action; keeps the τ that it was called with."""

    def __init__(self, base: list[list[float]], slope: list[list[float]]):
        super().__init__()
        self.base, self.slope = nn.Parameter(torch.tensor(base)), nn.Parameter(torch.tensor(slope))
        self.asked: list[tuple[list[int], Tensor]] = []

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        return step.observation.unsqueeze(-1).float(), state  # [T,B,1]

    def quantiles(self, features: Tensor, tau: Tensor) -> Tensor:
        row = features[:, 0].long()
        self.asked.append((row.tolist(), tau))
        return self.base[row].unsqueeze(-1) + self.slope[row].unsqueeze(-1) * tau.unsqueeze(1)  # [B,A,N]


def sequences(rewards: list[list[float]], last: list[set[int]], terminal: list[set[int]], action: list[int]) -> Trajectory:
    """Sparse, one list a row: from state 0 by `action` to state 1."""
    b, t = len(rewards), len(rewards[0])
    steps = Step(
        observation=torch.tensor([0, 1])[:, None].repeat(1, b),
        reward=torch.tensor(rewards).T,
        first=torch.zeros(t, b, dtype=torch.bool),
        last=torch.tensor([[i in row for row in last] for i in range(t)]),
        terminal=torch.tensor([[i in row for row in terminal] for i in range(t)]),
        action=torch.tensor([action, *[[0] * b] * (t - 1)]),
        extras={},
    )
    return Trajectory(steps, ())


# Four rows of three steps (n = 2): no end, over at 1, truncated at 1, a life lost at 2. Their n-step return and discount.
REWARDS = [[50.0, 1.0, 2.0], [50.0, -1.5, 9.0], [50.0, 0.5, 9.0], [50.0, 1.0, -1.0]]
LAST: list[set[int]] = [set(), {1}, {1}, set()]
TERMINAL: list[set[int]] = [set(), {1}, set(), {2}]
ACTIONS = [0, 1, 2, 1]
RETURNS = [(2.0, 0.25), (-1.5, 0.0), (0.5, 0.5), (0.5, 0.0)]


def trajectory() -> Trajectory:
    return sequences(REWARDS, LAST, TERMINAL, ACTIONS)


def base(**more: Any) -> dict[str, Any]:
    return {"discount": GAMMA, "reward_clip": None, "n_steps": 2, **more}


def naive_projection(p: np.ndarray, at: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Algorithm 1 of the C51 paper, loop by loop."""
    m, step = np.zeros(len(atoms)), (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    for total_weight, z in zip(p, at, strict=True):
        b = (min(max(z, atoms[0]), atoms[-1]) - atoms[0]) / step
        low, high = math.floor(b + 1e-9), math.ceil(b - 1e-9)
        if low == high:
            m[low] += total_weight
        else:
            m[low] += total_weight * (high - b)
            m[high] += total_weight * (b - low)
    return m


def test_projection_by_hand() -> None:
    atoms = torch.linspace(-1, 1, 3)
    p = torch.tensor([[0.2, 0.3, 0.5]] * 5)
    at = torch.tensor([[-1.0, 0.0, 1.0], [-0.5, 0.25, 0.5], [5.0, 5.0, 5.0], [-9.0, 0.0, 9.0], [0.0, 0.0, 0.0]])
    expected = [
        [0.2, 0.3, 0.5],  # nothing moves
        [0.1, 0.1 + 0.225 + 0.25, 0.075 + 0.25],
        [0.0, 0.0, 1.0],  # clamped to the last atom
        [0.2, 0.3, 0.5],
        [0.0, 1.0, 0.0],
    ]
    torch.testing.assert_close(project(p, at, atoms), torch.tensor(expected))


@pytest.mark.parametrize("n", [2, 11, 51])
def test_projection_equals_the_papers_loop_and_keeps_the_total_probability(n: int) -> None:
    generator = np.random.default_rng(n)
    atoms = torch.linspace(-10, 10, n)
    p = generator.dirichlet(np.full(n, 0.3), 40)
    at = generator.uniform(-15, 15, (40, 1)) + generator.choice([0.0, 0.25, 0.99], (40, 1)) * atoms.numpy()
    at[0] = atoms.numpy()
    out = project(torch.tensor(p, dtype=torch.float32), torch.tensor(at, dtype=torch.float32), atoms)
    expected = np.stack([naive_projection(p[i], at[i], atoms.double().numpy()) for i in range(40)])
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(out.sum(-1).numpy(), 1.0, atol=1e-5)
    assert (out >= 0).all()
    inside = (at > -10).all(1) & (at < 10).all(1)  # where nothing is clamped, the mean is kept too
    mean = (out.double() @ atoms.double()).numpy()
    np.testing.assert_allclose(mean[inside], (p * at).sum(1)[inside], atol=1e-4)
    assert inside.sum() > 5


@pytest.mark.parametrize("double", [False, True])
def test_c51_loss_against_a_naive_loop(double: bool) -> None:
    agent = C51(C51Config(name="c51", atoms=5, v_min=-2.0, v_max=4.0, **base(double=double)), NET, SPEC)
    assert agent.sequence == Transitions(2)
    generator = np.random.default_rng(1)
    online, target = Table(generator.normal(size=(2, 3, 5))), Table(generator.normal(size=(2, 3, 5)))
    atoms = np.linspace(-2.0, 4.0, 5)
    p, p_target = (torch.softmax(table.rows.detach().double(), -1).numpy() for table in (online, target))
    chosen = (p if double else p_target)[1] @ atoms
    assert np.argmax(p[1] @ atoms) != np.argmax(p_target[1] @ atoms)  # double makes a difference here
    best = int(np.argmax(chosen))
    out = agent.loss(online, target, trajectory(), rng())
    for b, (reward, discount) in enumerate(RETURNS):
        m = naive_projection(p_target[1, best], reward + discount * atoms, atoms)
        q = p[0, ACTIONS[b]]
        assert out.loss[b].item() == pytest.approx(-(m * np.log(q)).sum(), rel=1e-4)
        kl = sum(
            total_weight * (math.log(total_weight) - math.log(other))
            for total_weight, other in zip(m, q, strict=True)
            if total_weight > 0
        )
        assert out.td is not None
        assert out.td[0, b].item() == pytest.approx(kl, rel=1e-3, abs=1e-5)
    mean = np.mean([p[0, a] @ atoms for a in ACTIONS])
    assert float(out.metrics["losses/q_values"]) == pytest.approx(mean, rel=1e-4)
    out.loss.sum().backward()
    assert online.rows.grad is not None
    assert (online.rows.grad[1] == 0).all()  # neither the choice nor the target learns
    assert (online.rows.grad[0] != 0).all()
    assert target.rows.grad is None


def test_c51_by_hand_on_three_atoms() -> None:
    """y = 0.5 with certainty is midway between the atoms 0 and 1: the target is (0, ½, ½)."""
    agent = C51(C51Config(name="c51", atoms=3, v_min=-1.0, v_max=1.0, **base(n_steps=1)), NET, SPEC)
    rows = torch.zeros(2, 3, 3)
    rows[0, 2] = torch.tensor([0.2, 0.3, 0.5]).log()
    out = agent.loss(Table(rows), Table(torch.zeros(2, 3, 3)), sequences([[9.0, 0.5]], [{1}], [{1}], [2]), rng())
    assert out.loss.item() == pytest.approx(-0.5 * math.log(0.3) - 0.5 * math.log(0.5), rel=1e-5)
    assert out.td is not None
    assert out.td.item() == pytest.approx(out.loss.item() - math.log(2), rel=1e-4)


def test_c51_stays_finite_with_certain_predictions() -> None:
    """Logits far apart: no log of zero, no NaN, and a positive priority."""
    agent = C51(C51Config(name="c51", atoms=3, v_min=-1.0, v_max=1.0, **base(n_steps=1)), NET, SPEC)
    rows = torch.zeros(2, 3, 3)
    rows[..., 2] = 500.0
    net = Table(rows)
    right = agent.loss(net, Table(rows), sequences([[0.0, 1.0]], [{1}], [{1}], [0]), rng())
    wrong = agent.loss(net, Table(rows), sequences([[0.0, -1.0]], [{1}], [{1}], [0]), rng())
    assert right.loss.item() == 0
    assert wrong.loss.item() == pytest.approx(500.0)
    assert right.td is not None
    assert agent.priority(right.td, torch.ones(1, 1, dtype=torch.bool)).item() > 0
    wrong.loss.sum().backward()
    assert torch.isfinite(net.rows.grad).all()  # type: ignore[arg-type]


def naive_quantile_huber(theta: np.ndarray, y: np.ndarray, tau: np.ndarray, kappa: float) -> float:
    total = 0.0
    for i in range(len(theta)):
        inner = 0.0
        for j in range(len(y)):
            u = y[j] - theta[i]
            huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
            inner += abs(tau[i] - (1.0 if u < 0 else 0.0)) * huber / kappa
        total += inner / len(y)
    return total


@pytest.mark.parametrize("kappa", [1.0, 0.3, 5.0])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (3, 7), (8, 2)])
def test_quantile_huber_equals_a_double_loop(n: int, m: int, kappa: float) -> None:
    generator = np.random.default_rng(n * 10 + m)
    theta, y, tau = generator.normal(size=(6, n)), 2 * generator.normal(size=(6, m)), generator.random((6, n))
    out = quantile_huber(*(torch.tensor(x, dtype=torch.float32) for x in (theta, y, tau)), kappa)
    assert out.shape == (6,)
    expected = [naive_quantile_huber(theta[b], y[b], tau[b], kappa) for b in range(6)]
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_quantile_huber_by_hand() -> None:
    """One quantile at τ = 0.25: an error of -3 weighs 0.75 x 2.5, one of +0.5 weighs 0.25 x 0.125."""
    out = quantile_huber(torch.tensor([[2.0]]), torch.tensor([[-1.0, 2.5]]), torch.tensor([[0.25]]), 1.0)
    assert out.item() == pytest.approx((0.75 * 2.5 + 0.25 * 0.125) / 2)


def test_quantile_regression_finds_the_quantiles() -> None:
    """With a small κ the minimum of the loss is at the quantiles of the targets."""
    torch.manual_seed(0)
    y = torch.sort(torch.randn(1, 2001)).values
    tau = torch.tensor([[0.1, 0.5, 0.8]])
    theta = nn.Parameter(torch.zeros(1, 3))
    optimizer = torch.optim.Adam([theta], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        quantile_huber(theta, y, tau, 0.01).sum().backward()
        optimizer.step()
    for value, t in zip(theta[0].tolist(), tau[0].tolist(), strict=True):
        assert value == pytest.approx(y[0, int(t * 2001)].item(), abs=0.05)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kappa", [1.0, 0.5])
def test_qrdqn_loss_against_a_naive_loop(double: bool, kappa: float) -> None:
    agent = QRDQN(QRDQNConfig(name="qrdqn", quantiles=4, kappa=kappa, **base(double=double)), NET, SPEC)
    generator = np.random.default_rng(4)
    online, target = Table(generator.normal(size=(2, 3, 4))), Table(3 * generator.normal(size=(2, 3, 4)))
    theta, theta_target = online.rows.detach().numpy(), target.rows.detach().numpy()
    assert theta[1].mean(-1).argmax() != theta_target[1].mean(-1).argmax()
    best = (theta if double else theta_target)[1].mean(-1).argmax()
    tau = np.array([0.125, 0.375, 0.625, 0.875])
    out = agent.loss(online, target, trajectory(), rng())
    assert out.td is not None
    for b, (reward, discount) in enumerate(RETURNS):
        y = reward + discount * theta_target[1, best]
        assert out.loss[b].item() == pytest.approx(naive_quantile_huber(theta[0, ACTIONS[b]], y, tau, kappa), rel=1e-4)
        assert out.td[0, b].item() == pytest.approx(y.mean() - theta[0, ACTIONS[b]].mean(), rel=1e-4, abs=1e-5)
    out.loss.sum().backward()
    assert online.rows.grad is not None
    assert (online.rows.grad[1] == 0).all()
    assert target.rows.grad is None


ONLINE = ([[0.5, -1.0, 0.2], [3.0, 0.0, 1.0]], [[1.0, 2.0, -1.0], [-1.0, 1.0, 0.5]])  # in state 1: action 0 is best
TARGET = ([[0.0, 0.0, 0.0], [0.0, 1.0, 5.0]], [[0.0, 0.0, 0.0], [2.0, -1.0, 3.0]])  # in state 1: action 2


@pytest.mark.parametrize("double", [False, True])
def test_iqn_loss_against_a_naive_loop(double: bool) -> None:
    """With the τ that were sampled; the three sample counts differ, so that none is used for another."""
    config = IQNConfig(name="iqn", samples=5, target_samples=3, policy_samples=4, kappa=0.7, **base(double=double))
    agent = IQN(config, NET, SPEC)
    online, target = Implicit(*ONLINE), Implicit(*TARGET)
    out = agent.loss(online, target, trajectory(), rng())
    (start, tau), (end, tau_target) = online.asked[-1], target.asked[-1]
    assert start == [0] * 4
    assert end == [1] * 4
    assert tau.shape == (4, 5)
    assert tau_target.shape == (4, 3)
    chooser = online if double else target
    assert chooser.asked[0][0] == [1] * 4
    assert chooser.asked[0][1].shape == (4, 4)
    assert (len(online.asked), len(target.asked)) == ((2, 1) if double else (1, 2))
    best = 0 if double else 2
    assert out.td is not None
    for b, (reward, discount) in enumerate(RETURNS):
        theta = ONLINE[0][0][ACTIONS[b]] + ONLINE[1][0][ACTIONS[b]] * tau[b].numpy()
        y = reward + discount * (TARGET[0][1][best] + TARGET[1][1][best] * tau_target[b].numpy())
        assert out.loss[b].item() == pytest.approx(naive_quantile_huber(theta, y, tau[b].numpy(), 0.7), rel=1e-4)
        assert out.td[0, b].item() == pytest.approx(y.mean() - theta.mean(), rel=1e-4, abs=1e-5)
    out.loss.sum().backward()
    assert online.base.grad is not None
    assert (online.base.grad[1] == 0).all()
    assert target.base.grad is None


def test_iqn_samples_are_uniform_and_independent() -> None:
    config = IQNConfig(name="iqn", samples=2000, target_samples=2000, policy_samples=2000, **base())
    online, target = Implicit(*ONLINE), Implicit(*TARGET)
    agent = IQN(config, NET, SPEC)
    agent.loss(online, target, trajectory(), rng())
    drawn = [tau for _, tau in [*online.asked, *target.asked]]
    assert len(drawn) == 3
    for tau in drawn:
        assert tau.min() >= 0
        assert tau.max() < 1
        assert float(tau.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(tau.var()) == pytest.approx(1 / 12, abs=0.01)
        assert not torch.equal(tau[0], tau[1])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])
    again = Implicit(*ONLINE)
    agent.loss(again, Implicit(*TARGET), trajectory(), rng())
    assert torch.equal(again.asked[-1][1], online.asked[-1][1])  # the generator decides


def build(kind: str, **more: Any) -> tuple[Any, nn.Module]:
    """An agent, and a net in whose state 0 action 2 has the largest mean although action 1 has the largest single outcome."""
    more = {"name": kind, **more}
    if kind == "c51":
        rows = torch.full((2, 3, 3), -20.0)
        rows[:, 0, 0], rows[:, 1, :] = 0.0, torch.tensor([0.3, -20.0, 0.0])
        rows[:, 2, 1] = 0.0
        rows[1] = rows[0]
        return C51(C51Config(atoms=3, v_min=-1.0, v_max=1.0, **more), NET, SPEC), Table(rows)
    if kind == "qrdqn":
        rows = torch.tensor([[-1.0, -1.0], [-9.0, 8.0], [0.1, 0.3]]).repeat(2, 1, 1)
        return QRDQN(QRDQNConfig(quantiles=2, **more), NET, SPEC), Table(rows)
    net = Implicit([[-1.0, -9.0, 0.1]] * 2, [[0.0, 17.0, 0.2]] * 2)  # means -1, -0.5, 0.2
    return IQN(IQNConfig(policy_samples=1000, **more), NET, SPEC), net


def observe(batch: int) -> Step:
    no = torch.zeros(1, batch, dtype=torch.bool)
    rows = torch.zeros(1, batch, dtype=torch.int64)
    return Step(rows, torch.zeros(1, batch), no, no, no, rows, {})


@KINDS
def test_greedy_actions_maximise_the_mean(kind: str) -> None:
    agent, net = build(kind, epsilon_end=0.0, epsilon_decay_agent_steps=10, epsilon_eval=0.0)
    for mode in (Mode(True, 10, rng()), Mode(False, 0, rng())):
        action, state, extras = agent.act(net, observe(50), (), mode)
        assert (action == 2).all()
        assert action.dtype == torch.int64
        assert (state, extras) == ((), {})


@KINDS
def test_with_epsilon_1_all_actions_are_equally_likely(kind: str) -> None:
    n = 6_000
    agent, net = build(kind)
    counts = np.bincount(agent.act(net, observe(n), (), Mode(True, 0, rng()))[0].numpy(), minlength=3)
    assert ((counts - n / 3) ** 2 / (n / 3)).sum() < 16


@KINDS
def test_evaluation_has_its_own_epsilon(kind: str) -> None:
    n = 6_000
    agent, net = build(kind, epsilon_eval=0.3)
    action = agent.act(net, observe(n), (), Mode(False, 0, rng()))[0]
    assert float((action == 2).float().mean()) == pytest.approx(0.8, abs=0.03)


@KINDS
def test_noisy_nets_explore_by_noise_and_are_evaluated_with_mean_weights(kind: str) -> None:
    switches = {"noisy": True, "noisy_sigma": 4.0, "epsilon_start": 0.0, "epsilon_end": 0.0, "epsilon_eval": 0.0}
    agent, _ = build(kind, **switches)
    torch.manual_seed(0)
    net = agent.make_net()
    step = observe(200)._replace(observation=torch.tensor([0.3, -0.2, 0.9]).repeat(1, 200, 1))
    assert len(set(agent.act(net, step, (), Mode(True, 0, rng(1)))[0].tolist())) > 1
    noisy = [module for module in net.modules() if hasattr(module, "noise")]
    assert noisy
    assert all(module.noise is not None for module in noisy)
    agent.act(net, step, (), Mode(False, 0, rng(1)))
    assert all(module.noise is None for module in noisy)


@KINDS
@pytest.mark.parametrize("dueling", [False, True])
def test_the_agents_own_net_fits_its_loss(kind: str, dueling: bool) -> None:
    """One update of the agent's own net on vectors: shapes, finite numbers, a gradient for every weight."""
    agent, _ = build(kind, dueling=dueling, double=True, n_steps=2, noisy=True)
    torch.manual_seed(0)
    net, target = agent.make_net(), agent.make_net()
    one = trajectory()
    one = one._replace(steps=one.steps._replace(observation=torch.randn(2, 4, 3, generator=rng(5))))
    out = agent.loss(net, target, one, rng())
    assert out.loss.shape == (4,)
    assert out.td is not None
    assert out.td.shape == (1, 4)
    assert not out.td.requires_grad
    assert all(not value.requires_grad and value.ndim == 0 for value in out.metrics.values())
    out.loss.mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None for parameter in target.parameters())


@KINDS
def test_rewards_are_clipped_in_the_loss(kind: str) -> None:
    results = []
    for reward, clip in [(70.0, 1.0), (1.0, None), (70.0, None)]:
        agent, net = build(kind, reward_clip=clip, discount=0.0)
        loss = agent.loss(net, build(kind)[1], sequences([[0.0, reward]], [set()], [set()], [0]), rng()).loss
        results.append(loss.item())
    assert results[0] == results[1]
    if kind != "c51":  # C51's atoms end at 1 here
        assert results[0] != results[2]


@KINDS
def test_priorities_are_positive_and_grow_with_the_error(kind: str) -> None:
    agent, _ = build(kind)
    priority = agent.priority(torch.tensor([[0.0, -3.0, 2.0, 5.0]]), torch.tensor([[True, True, True, False]]))
    assert (priority > 0).all()
    np.testing.assert_allclose(priority.numpy(), [0, 3, 2, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (C51Config, {"v_min": 1.0, "v_max": 1.0}),
        (C51Config, {"atoms": 1}),
        (QRDQNConfig, {"quantiles": 0}),
        (QRDQNConfig, {"kappa": 0.0}),
        (IQNConfig, {"samples": 0}),
        (IQNConfig, {"atoms": 51}),
    ],
)
def test_impossible_switches_are_refused(config: Any, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        config(name="x", **change)


def test_actions_that_differ_by_less_than_bf16_resolves_are_distinguished_under_autocast() -> None:
    """Means of -2.001 and -2.000 are one number in bf16; a greedy C51 must still see the better action."""
    from rlsuite.agents.distributional import mean

    atoms = torch.linspace(-5.0, 5.0, 51)
    p = torch.full((1, 2, 51), 1e-6)
    p[..., 15] = 1.0  # at -2
    p[0, 1, 16] += 5e-4
    p = p / p.sum(-1, keepdim=True)
    with torch.autocast("cpu", torch.bfloat16):
        q = mean(p, atoms)
    assert q.dtype == torch.float32
    assert q.argmax(-1).item() == 1
    assert torch.allclose(q, (p.double() @ atoms.double()).float(), atol=1e-6)
