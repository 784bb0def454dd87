"""DQN on nets that are tables: targets by hand, exploration, evaluation, priorities."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlsuite.agents.dqn import DQN
from rlsuite.agents.value_based import ValueConfig, epsilon_greedy, ladder
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Mode, Transitions
from rlsuite.core.types import EnvSpec, State, Step, Trajectory

GAMMA = 0.5
SPEC = EnvSpec((3,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)


class Table(nn.Module):
    """Observations are row numbers: [T,B] -> [T,B,A,1]. Counts its calls by whether a gradient may flow."""

    def __init__(self, rows: list[list[float]]):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))
        self.seen: list[tuple[list[int], bool]] = []

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        self.seen.append((step.observation[0].tolist(), torch.is_grad_enabled()))
        return self.rows[step.observation].unsqueeze(-1), state


# Rows: states 0 and 1. Online prefers action 0 in state 1, the target action 2.
ONLINE = [[1.0, 2.0, 3.0], [9.0, 5.0, 4.0]]
TARGET = [[0.0, 0.0, 0.0], [10.0, 20.0, 30.0]]


def agent(**switches: object) -> DQN:
    base: dict[str, object] = {"name": "dqn", "discount": GAMMA, "reward_clip": None}
    return DQN(ValueConfig.model_validate({**base, **switches}), NetConfig(torso="mlp", hidden=8), SPEC)


def sequences(rewards: list[float], last: set[int], terminal: set[int], action: int = 1, batch: int = 1) -> Trajectory:
    """Sparse: from state 0 by `action` to state 1. The first reward came before the sequence."""
    t = len(rewards)
    ends, overs = (torch.tensor([i in at for i in range(t)])[:, None].repeat(1, batch) for at in (last, terminal))
    steps = Step(
        observation=torch.tensor([0, 1])[:, None].repeat(1, batch),
        reward=torch.tensor(rewards)[:, None].repeat(1, batch),
        first=torch.zeros(t, batch, dtype=torch.bool),
        last=ends,
        terminal=overs,
        action=torch.tensor([action] + [2] * (t - 1))[:, None].repeat(1, batch),
        extras={},
    )
    return Trajectory(steps, ())


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def huber(error: float) -> float:
    return 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5


CASES = {
    # n, double, last, terminal -> y
    "one step": (1, False, (), (), 7 + 0.5 * 30),
    "one step, double": (1, True, (), (), 7 + 0.5 * 10),  # the online net chooses action 0, the target net evaluates it
    "one step, over": (1, False, (1,), (1,), 7.0),
    "one step, over, double": (1, True, (1,), (1,), 7.0),
    "one step, truncated": (1, False, (1,), (), 7 + 0.5 * 30),
    "one step, a life lost": (1, False, (), (1,), 7.0),
    "three steps": (3, False, (), (), 7 + 0.5 * 8 + 0.25 * 16 + 0.125 * 30),
    "three steps, double": (3, True, (), (), 7 + 0.5 * 8 + 0.25 * 16 + 0.125 * 10),
    "three steps, over at 2": (3, False, (2,), (2,), 7 + 0.5 * 8),
    "three steps, truncated at 2": (3, False, (2,), (), 7 + 0.5 * 8 + 0.25 * 30),
    "three steps, truncated at 1": (3, True, (1,), (), 7 + 0.5 * 10),
    "three steps, a life lost at 1": (3, False, (), (1,), 7.0),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("action", [0, 1, 2])
def test_targets_by_hand(case: str, action: int) -> None:
    n, double, last, terminal, y = CASES[case]
    dqn = agent(n_steps=n, double=double)
    assert dqn.sequence == Transitions(n)
    net, target = Table(ONLINE), Table(TARGET)
    rewards = [100.0, 7.0, 8.0, 16.0][: n + 1]
    out = dqn.loss(net, target, sequences(rewards, set(last), set(terminal), action), rng())
    error = y - ONLINE[0][action]
    assert out.td is not None
    assert out.td.tolist() == [[pytest.approx(error)]]
    assert out.loss.tolist() == [pytest.approx(huber(error))]
    assert float(out.metrics["losses/q_values"]) == ONLINE[0][action]
    assert float(out.metrics["losses/td_error"]) == pytest.approx(abs(error))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("reward", [7.0, -100.0, -12.7, -2.7])
def test_only_the_value_of_the_action_taken_learns(double: bool, reward: float) -> None:
    """The gradient is Huber's: the error, clipped to ±1; the target and the choice of a* get none."""
    net, target = Table(ONLINE), Table(TARGET)
    y = reward + 0.5 * (10 if double else 30)
    expected = max(-1.0, min(1.0, ONLINE[0][1] - y))  # -0.3 for y = 2.3
    agent(double=double).loss(net, target, sequences([0.0, reward], set(), set()), rng()).loss.sum().backward()
    assert net.rows.grad is not None
    gradient = net.rows.grad.clone()
    assert gradient[0, 1].item() == pytest.approx(expected, abs=1e-5)
    gradient[0, 1] = 0
    assert (gradient == 0).all()
    assert target.rows.grad is None


@pytest.mark.parametrize("double", [False, True])
def test_each_net_is_called_on_the_steps_it_needs(double: bool) -> None:
    net, target = Table(ONLINE), Table(TARGET)
    agent(double=double).loss(net, target, sequences([0.0, 1.0], set(), set()), rng())
    assert target.seen == [([1], False)]
    assert net.seen == ([([1], False)] if double else []) + [([0], True)]


def test_rows_of_a_batch_do_not_mix() -> None:
    dqn = agent(n_steps=2)
    one = [
        sequences([0.0, 1.0, 2.0], last, terminal, a) for last, terminal, a in [(set(), set(), 0), ({1}, {1}, 1), ({1}, set(), 2)]
    ]
    leaves = {name: torch.cat([getattr(t.steps, name) for t in one], 1) for name in Step._fields if name != "extras"}
    both = dqn.loss(Table(ONLINE), Table(TARGET), Trajectory(Step(**leaves, extras={}), ()), rng())
    alone = [dqn.loss(Table(ONLINE), Table(TARGET), t, rng()).loss.item() for t in one]
    assert both.loss.tolist() == alone
    assert len(set(alone)) == 3


@pytest.mark.parametrize(("bound", "y"), [(None, 7 - 0.5 * 3 + 0.25 * 30), (1.0, 1 - 0.5 * 1 + 0.25 * 30), (5.0, 5 - 1.5 + 7.5)])
def test_every_reward_is_clipped_before_the_sum(bound: float | None, y: float) -> None:
    trajectory = sequences([100.0, 7.0, -3.0], set(), set())
    out = agent(n_steps=2, reward_clip=bound).loss(Table(ONLINE), Table(TARGET), trajectory, rng())
    assert out.td is not None
    assert out.td.item() == pytest.approx(y - 2.0)
    assert trajectory.steps.reward[:, 0].tolist() == [100, 7, -3]  # the trajectory itself keeps the raw rewards


def observe(batch: int, row: int = 0) -> Step:
    no = torch.zeros(1, batch, dtype=torch.bool)
    seen = torch.full((1, batch), row)
    return Step(seen, torch.zeros(1, batch), no, no, no, torch.zeros(1, batch, dtype=torch.int64), {})


def test_without_epsilon_actions_are_greedy() -> None:
    dqn = agent(epsilon_start=1.0, epsilon_end=0.0, epsilon_decay_agent_steps=10)
    for row, best in [(0, 2), (1, 0)]:
        action, state, extras = dqn.act(Table(ONLINE), observe(500, row), (), Mode(True, 10, rng()))
        assert (action == best).all()
        assert action.dtype == torch.int64
        assert action.shape == (500,)
        assert state == ()
        assert extras == {}


def test_with_epsilon_1_all_actions_are_equally_likely() -> None:
    n = 30_000
    action = agent(epsilon_decay_agent_steps=10).act(Table(ONLINE), observe(n), (), Mode(True, 0, rng()))[0]
    counts = np.bincount(action.numpy(), minlength=3)
    chi_square = ((counts - n / 3) ** 2 / (n / 3)).sum()
    assert chi_square < 16  # 2 degrees of freedom: 1 in 3,000
    assert len(counts) == 3


@pytest.mark.parametrize(("at", "epsilon"), [(0, 0.9), (50, 0.5), (100, 0.1), (10_000, 0.1)])
def test_epsilon_decays_with_the_agents_steps(at: int, epsilon: float) -> None:
    n = 40_000
    dqn = agent(epsilon_start=0.9, epsilon_end=0.1, epsilon_decay_agent_steps=100)
    action = dqn.act(Table(ONLINE), observe(n), (), Mode(True, at, rng(at)))[0]
    greedy = float((action == 2).float().mean())
    assert greedy == pytest.approx(1 - epsilon + epsilon / 3, abs=5 * 0.5 / n**0.5)


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_evaluation_has_its_own_epsilon(epsilon: float) -> None:
    n = 40_000
    action = agent(epsilon_eval=epsilon).act(Table(ONLINE), observe(n), (), Mode(False, 0, rng(1)))[0]
    assert float((action == 2).float().mean()) == pytest.approx(1 - epsilon * 2 / 3, abs=0.013 if epsilon else 0)


def test_acting_is_decided_by_its_generator() -> None:
    dqn = agent()
    one = dqn.act(Table(ONLINE), observe(100), (), Mode(True, 0, rng(3)))[0]
    torch.manual_seed(7)
    assert torch.equal(one, dqn.act(Table(ONLINE), observe(100), (), Mode(True, 0, rng(3)))[0])
    assert not torch.equal(one, dqn.act(Table(ONLINE), observe(100), (), Mode(True, 0, rng(4)))[0])


def seen_of(batch: int) -> Step:
    """The same vector in every row: only noise can make them differ."""
    return observe(batch)._replace(observation=torch.tensor([0.3, -0.2, 0.9]).repeat(1, batch, 1))


def test_noisy_nets_explore_by_noise_and_are_evaluated_with_mean_weights() -> None:
    dqn = agent(noisy=True, noisy_sigma=3.0, epsilon_start=0.0, epsilon_end=0.0, epsilon_eval=0.0)
    torch.manual_seed(0)
    net = dqn.make_net()
    generator = rng(1)
    action = dqn.act(net, seen_of(300), (), Mode(True, 0, generator))[0]
    assert len(set(action.tolist())) > 1  # every environment has its own noise
    assert not torch.equal(action, dqn.act(net, seen_of(300), (), Mode(True, 0, generator))[0])  # new noise at every step
    judged = dqn.act(net, seen_of(300), (), Mode(False, 0, generator))[0]
    q = net(seen_of(300), ())[0][0, ..., 0]  # the noise is cleared
    assert torch.equal(judged, q.argmax(-1))
    assert len(set(judged.tolist())) == 1


def test_noise_in_the_loss_is_sampled_from_the_given_generator() -> None:
    dqn = agent(noisy=True, double=True, epsilon_start=0.0, epsilon_end=0.0)
    torch.manual_seed(0)
    net, target = dqn.make_net(), dqn.make_net()
    trajectory = sequences([0.0, 1.0], set(), set(), batch=5)
    trajectory = trajectory._replace(steps=trajectory.steps._replace(observation=torch.rand(2, 5, 3, generator=rng(9))))
    losses = [dqn.loss(net, target, trajectory, rng(seed)).loss for seed in (0, 0, 1)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_online_and_target_noise_are_independent() -> None:
    """NoisyNet-DQN samples noise three times: for the target, for the choice of a*, and for the value that is trained."""
    dqn = agent(noisy=True, double=True, epsilon_start=0.0, epsilon_end=0.0)
    torch.manual_seed(0)
    net, target = dqn.make_net(), dqn.make_net()
    kept: list[Tensor] = []
    for one in (net, target):
        one.head.advantage.hidden.register_forward_hook(lambda module, inputs, output: kept.append(module.noise[0].clone()))
    trajectory = sequences([0.0, 1.0], set(), set(), batch=4)
    trajectory = trajectory._replace(steps=trajectory.steps._replace(observation=torch.rand(2, 4, 3)))
    dqn.loss(net, target, trajectory, rng())
    assert len(kept) == 3
    assert all(noise.shape[0] == 4 for noise in kept)
    assert not any(torch.equal(kept[i], kept[j]) for i, j in [(0, 1), (0, 2), (1, 2)])


def test_priorities_are_positive_and_grow_with_the_error() -> None:
    dqn = agent()
    td = torch.tensor([[0.0, -3.0, 2.0, 5.0]])
    valid = torch.tensor([[True, True, True, False]])
    priority = dqn.priority(td, valid)
    assert (priority > 0).all()
    np.testing.assert_allclose(priority.numpy(), [0, 3, 2, 0], atol=1e-5)


def test_the_switches_decide_the_net() -> None:
    torch.manual_seed(0)
    plain, dueling = agent().make_net(), agent(dueling=True).make_net()
    assert plain.head.value is None
    assert dueling.head.value is not None
    assert plain(seen_of(2), ())[0].shape == (1, 2, 3, 1)
    layer = agent(noisy=True, noisy_sigma=0.25, epsilon_start=0.0).make_net().head.advantage.hidden
    assert torch.all(layer.sigma.weight == torch.tensor(0.25 * 8**-0.5))  # type: ignore[union-attr]


def test_discount_and_n_are_annealed_over_updates() -> None:
    """BBF's: n from 10 to 3 and γ from 0.97 to 0.997 within 10,000 updates; γ in equal ratios of 1 - γ."""
    one = agent(n_steps=10, n_steps_end=3, discount=0.97, discount_end=0.997, anneal_learner_steps=10_000)
    assert one.sequence == Transitions(10, whole=True)
    halfway = {0: (10, 0.97), 5_000: (5, 1 - (0.03 * 0.003) ** 0.5), 10_000: (3, 0.997), 99_000: (3, 0.997)}
    for updates, (n, discount) in halfway.items():
        config = one.at(updates).config
        assert config.n_steps == n
        assert config.discount == pytest.approx(discount)
    assert one.config.n_steps == 10
    only = agent(n_steps=4, discount_end=0.9, anneal_learner_steps=10)
    assert only.sequence == Transitions(4)  # observations at the ends suffice
    assert only.at(10).config.discount == pytest.approx(0.9)
    plain = agent(n_steps=4)
    assert plain.at(10) is plain


@pytest.mark.parametrize(
    ("updates", "last", "y"),
    [
        (0, (), 7 + 0.5 * 8 + 0.25 * 16 + 0.125 * 30),
        (10, (), 7 + 0.25 * 20),  # n = 1 and γ = 0.25: bootstraps from the second observation
        (0, (2,), 7 + 0.5 * 8 + 0.25 * 30),
        (10, (2,), 7 + 0.25 * 20),
    ],
)
def test_an_annealed_target_by_hand(updates: int, last: tuple[int, ...], y: float) -> None:
    one = agent(n_steps=3, n_steps_end=1, discount_end=0.25, anneal_learner_steps=10)
    trajectory = sequences([100.0, 7.0, 8.0, 16.0], set(last), set())
    whole = trajectory._replace(steps=trajectory.steps._replace(observation=torch.tensor([0, 2, 1, 1])[:, None]))
    out = one.at(updates).loss(Table([*ONLINE, [0.0] * 3]), Table([*TARGET, [20.0] * 3]), whole, rng())
    assert out.td is not None
    assert out.td.tolist() == [[pytest.approx(y - ONLINE[0][1])]]


@pytest.mark.parametrize(
    ("switches", "told"),
    [
        ({"n_steps": 3, "n_steps_end": 4, "anneal_learner_steps": 9}, "n_steps_end = 4 is larger than n_steps = 3"),
        ({"discount": 1.0, "discount_end": 0.9, "anneal_learner_steps": 9}, "discount below 1"),
        ({"n_steps": 3, "n_steps_end": 1}, "anneal_learner_steps"),
    ],
)
def test_impossible_annealing_is_refused(switches: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        agent(**switches)


@pytest.mark.parametrize(
    "switches", [{"n_steps": 0}, {"discount": 1.1}, {"epsilon_start": 0.0, "epsilon_end": 0.0}, {"reward_clip": 0.0}, {"eps": 1}]
)
def test_impossible_switches_are_refused(switches: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"(?s)ValueConfig"):
        agent(**switches)


def test_the_ladder_gives_every_environment_of_every_collector_its_own_epsilon() -> None:
    """Ape-X, section 4.1: ε_i = 0.4^(1 + 7 i / (N - 1))."""
    config = agent(epsilon_ladder=True).config
    mode = Mode(True, 0, rng(), first_env=4, total_envs=8)
    expected = [0.4 ** (1 + 7 * i / 7) for i in range(4, 8)]
    assert ladder(config, mode, 4).tolist() == pytest.approx(expected)
    assert ladder(config, Mode(True, 0, rng()), 2).tolist() == pytest.approx([0.4, 0.4**8])
    assert ladder(config, Mode(True, 0, rng()), 1).tolist() == pytest.approx([0.4])
    q = torch.tensor([0.0, 1.0, 0.0]).repeat(4, 1)
    actions = torch.stack([epsilon_greedy(q, config, Mode(True, at, rng(at), 0, 8)) for at in range(3_000)])  # [3000,4]
    explored = (actions != 1).float().mean(0) * 3 / 2  # a third of random actions are the greedy one
    assert explored.tolist() == pytest.approx([0.4 ** (1 + i) for i in range(4)], abs=0.03)
    played = epsilon_greedy(q, agent(epsilon_ladder=True, epsilon_eval=0.0).config, Mode(False, 0, rng()))
    assert (played == 1).all()
