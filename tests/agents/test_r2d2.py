"""R2D2 by hand: rescaled n-step double targets with the end of an episode at each index, priorities, masks, burn-in, states."""

import math

import pytest
import torch
from torch import Tensor, nn

from rlsuite.acting.act import act
from rlsuite.agents.r2d2 import R2D2, R2D2Config, before_the_end
from rlsuite.config.loader import resolve
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Mode
from rlsuite.core.errors import UsageError
from rlsuite.core.returns import n_step, n_step_targets, rescale, unscale
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, transitions

A, GAMMA, EPS = 2, 0.5, 1e-2
SPEC = EnvSpec((), "int64", num_actions=A, num_states=20, stack=1, frames_per_step=1)


class Table(nn.Module):
    """A net with Q = row + state [T,B,A]: observations [T,B] are row numbers, the state counts steps since it was zero."""

    def __init__(self, rows: list[list[float]], weight: float = 0.0):
        super().__init__()
        self.rows, self.weight = nn.Parameter(torch.tensor(rows)), weight
        self.calls: list[tuple[int, bool]] = []  # steps, gradients

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        (count,) = state
        self.calls.append((step.first.shape[0], torch.is_grad_enabled()))
        out = []
        for row, first in zip(step.observation, step.first, strict=True):
            count = torch.where(first, 0.0, count) + 1
            out.append(self.rows[row] + self.weight * count.unsqueeze(-1))
        return torch.stack(out), (count,)


class Counting(R2D2):
    def initial_state(self, batch: int) -> State:
        return (torch.zeros(batch),)


def agent(**switches: object) -> R2D2:
    base = {"name": "r2d2", "discount": GAMMA, "n_steps": 2, "burn_in": 0, "unroll": 2, "stride": 2, "rescale_epsilon": EPS}
    return Counting(R2D2Config.model_validate({**base, **switches}), NetConfig(torso="onehot", hidden=8), SPEC)


def h(x: float) -> float:
    return math.copysign(math.sqrt(abs(x) + 1) - 1, x) + EPS * x


def h_inverse(y: float) -> float:
    """By bisection."""
    low, high = -1e6, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if h(middle) < y else (low, middle)
    return low


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def sequence_of(length: int, rewards: list[float], last: tuple[int, ...] = (), terminal: tuple[int, ...] = ()) -> Trajectory:
    def flags(at: tuple[int, ...]) -> Tensor:
        return torch.tensor([t in at for t in range(length)])[:, None]

    steps = Step(
        observation=torch.arange(length)[:, None],
        reward=torch.tensor(rewards)[:, None],
        first=flags(tuple(t + 1 for t in last)),
        last=flags(last),
        terminal=flags(terminal),
        action=torch.zeros(length, 1, dtype=torch.int64),
        extras={},
    )
    return Trajectory(steps, (torch.zeros(1),))


@pytest.mark.parametrize("x", [0.0, 1e-6, -1e-6, 0.3, -0.7, 1.0, 21.0, -300.0, 1e5])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_rescaling_and_its_inverse(x: float, epsilon: float) -> None:
    value = torch.tensor(x)
    by_hand = math.copysign(math.sqrt(abs(x) + 1) - 1, x) + epsilon * x
    assert float(rescale(value, epsilon)) == pytest.approx(by_hand, rel=1e-5, abs=1e-9)
    assert float(unscale(rescale(value, epsilon), epsilon)) == pytest.approx(x, rel=1e-4, abs=1e-9)


ONLINE = [[1.0, 2.0], [3.0, 1.0], [0.5, 0.6], [2.0, 1.0]]  # chooses actions 1, 0, 1, 0
TARGET = [[4.0, 5.0], [6.0, 7.0], [-8.0, 9.0], [10.0, 30.0]]
R = [100.0, 1.0, 2.0, 4.0]  # the first came before the sequence
V2, V3 = h_inverse(9.0), h_inverse(10.0)  # by the target, at actions of the online net
CASES = {
    # last, terminal -> targets of steps 0 and 1, whether they count
    "no end": ((), (), [1 + GAMMA * 2 + GAMMA**2 * V2, 2 + GAMMA * 4 + GAMMA**2 * V3], [True, True]),
    "over at 1": ((1,), (1,), [1.0, None], [True, False]),
    "truncated at 1": ((1,), (), [1 + GAMMA * h_inverse(6.0), None], [True, False]),
    "over at 2": ((2,), (2,), [1 + GAMMA * 2, 2.0], [True, True]),
    "truncated at 2": ((2,), (), [1 + GAMMA * 2 + GAMMA**2 * V2, 2 + GAMMA * V2], [True, True]),
    "over at 3": ((3,), (3,), [1 + GAMMA * 2 + GAMMA**2 * V2, 2 + GAMMA * 4], [True, True]),
    "truncated at 3": ((3,), (), [1 + GAMMA * 2 + GAMMA**2 * V2, 2 + GAMMA * 4 + GAMMA**2 * V3], [True, True]),
    "over before the sequence": ((0,), (0,), [None, 2 + GAMMA * 4 + GAMMA**2 * V3], [False, True]),
    "a life lost at 1": ((), (1,), [1.0, 2 + GAMMA * 4 + GAMMA**2 * V3], [True, True]),
}


@pytest.mark.parametrize("case", CASES)
def test_targets_by_hand(case: str) -> None:
    last, terminal, targets, counts = CASES[case]
    made, online, target = agent(), Table(ONLINE), Table(TARGET)
    out = made.loss(online, target, sequence_of(4, R, last, terminal), rng())
    assert out.td is not None
    assert out.valid is not None
    assert out.valid[:, 0].tolist() == counts
    errors = [h(y) - ONLINE[t][0] if y is not None else 0.0 for t, y in enumerate(targets)]
    for t, counted in enumerate(counts):
        if counted:
            assert float(out.td[t, 0]) == pytest.approx(errors[t], rel=1e-4)
    assert out.loss.tolist() == pytest.approx([sum(0.5 * e**2 for e in errors)], rel=1e-4)


def test_without_double_and_rescaling() -> None:
    made = agent(double=False, rescale_epsilon=None, reward_clip=1.0)
    out = made.loss(Table(ONLINE), Table(TARGET), sequence_of(4, R), rng())
    assert out.td is not None
    assert out.td[:, 0].tolist() == pytest.approx([1 + 0.5 * 1 + 0.25 * 9 - 1, 1 + 0.5 * 1 + 0.25 * 30 - 3])


def test_an_annealed_n_looks_fewer_steps_ahead() -> None:
    made = agent(double=False, rescale_epsilon=None, reward_clip=1.0, n_steps=2, n_steps_end=1, anneal_learner_steps=5)
    before, after = (made.at(updates).loss(Table(ONLINE), Table(TARGET), sequence_of(4, R), rng()) for updates in (0, 5))
    one = agent(double=False, rescale_epsilon=None, reward_clip=1.0, n_steps=1)
    alone = one.loss(Table(ONLINE), Table(TARGET), sequence_of(3, R[:3]), rng())
    assert before.td is not None and after.td is not None and alone.td is not None  # noqa: PT018
    assert torch.equal(after.td, alone.td)
    assert not torch.equal(before.td, after.td)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_targets_of_every_step_equal_the_n_step_return_of_that_step(n: int) -> None:
    """Against `n_step` and the bootstrap of a sequence, on random streams."""
    generator = torch.Generator().manual_seed(n)
    t, b = 12, 64
    last = torch.rand(t, b, generator=generator) < 0.2
    terminal = last & (torch.rand(t, b, generator=generator) < 0.5)
    reward, values = torch.randn(t, b, generator=generator), torch.randn(t, b, generator=generator)
    no = torch.zeros_like(last)
    steps = Step(torch.arange(t)[:, None].expand(t, b), reward, no, last, terminal, no.long(), {})
    found = n_step_targets(transitions(steps, 0.9), values, n)
    assert found.shape == (t - n, b)
    for at in range(t - n):
        part = Step(*(leaf[at : at + n + 1] for leaf in steps[:-1]), {})  # type: ignore[arg-type]
        returns = n_step(transitions(part, 0.9))
        seen = Trajectory(part, ()).bootstrap().observation[0]  # [B] its time
        v = values[seen, torch.arange(b)]
        acted = ~last[at]
        torch.testing.assert_close(found[at][acted], (returns.reward + returns.discount * v)[acted])
        assert torch.equal(found[at][~acted], values[at][~acted])


def test_priorities_mix_the_largest_and_the_mean_of_the_steps_that_count() -> None:
    made = agent(priority_max_weight=0.9)
    td = torch.tensor([[1.0, -4.0, 5.0], [-3.0, 100.0, 5.0], [2.0, 2.0, 5.0]])
    valid = torch.tensor([[True, True, False], [True, False, False], [True, True, False]])
    found = made.priority(td, valid).tolist()
    assert found == pytest.approx([0.9 * 3 + 0.1 * 2 + 1e-6, 0.9 * 4 + 0.1 * 3 + 1e-6, 1e-6])


def test_burn_in_moves_both_states_and_gets_no_gradient() -> None:
    made = agent(burn_in=3, unroll=2, n_steps=1)
    rows = [[0.1 * i, 0.0] for i in range(6)]
    online, target = Table(rows, weight=1.0), Table(rows, weight=1.0)
    trajectory = sequence_of(6, [0.0] * 6)._replace(state=(torch.tensor([7.0]),))
    out = made.loss(online, target, trajectory, rng())
    assert out.td is not None
    # The state counts on from the stored 7: step 3 is the eleventh.
    y = [h(GAMMA * h_inverse(0.1 * t + 7 + t + 1)) for t in (4, 5)]
    q = [0.1 * t + 7 + t + 1 for t in (3, 4)]
    assert out.td[:, 0].tolist() == pytest.approx([y[0] - q[0], y[1] - q[1]], rel=1e-4)
    assert online.calls == [(3, False), (2, True), (1, False)]  # burn-in, learned from, after
    assert target.calls == [(6, False)]
    out.loss.sum().backward()
    grad = online.rows.grad
    assert grad is not None
    assert grad[:3].abs().sum() == 0
    assert (grad[3:5, 0] != 0).all()
    assert target.rows.grad is None


def test_no_gradient_reaches_the_net_through_the_burn_in() -> None:
    made = R2D2(
        R2D2Config.model_validate({"name": "r2d2", "burn_in": 3, "unroll": 2, "n_steps": 1, "stride": 2}),
        NetConfig(torso="onehot", hidden=8, memory="lstm", memory_size=4),
        SPEC,
    )
    torch.manual_seed(0)
    net = made.make_net()
    state = tuple(leaf + 0.3 for leaf in made.initial_state(1))
    trajectory = sequence_of(6, [0.0] * 6)._replace(state=state)
    made.loss(net, net, trajectory, rng()).loss.sum().backward()
    weight = net.trunk.dense.weight.grad  # [hidden, states]: a column is one step's one-hot
    assert weight is not None
    assert weight[:, :3].abs().sum() == 0
    assert (weight[:, 3:5].abs().sum(0) > 0).all()
    assert weight[:, 5].abs().sum() == 0  # only bootstrapped from


def test_a_zero_state_ignores_the_stored_one() -> None:
    made = agent(stored_state=False)
    assert made.sequence.state == ()
    trajectory = sequence_of(4, R)
    seen = [
        made.loss(Table(ONLINE, 1.0), Table(TARGET, 1.0), trajectory._replace(state=state), rng()).loss.item()
        for state in ((), (torch.tensor([5.0]),))
    ]
    assert seen[0] == seen[1]


def test_without_crossing_no_step_after_an_end_counts() -> None:
    made = agent(burn_in=1, unroll=4, n_steps=1, stride=2, cross_episodes=False)
    assert made.sequence.within_episodes
    rows = [[0.1 * i, 0.0] for i in range(6)]
    ended = made.loss(Table(rows), Table(rows), sequence_of(6, [0.0] * 6, last=(3,)), rng())
    assert ended.valid is not None
    assert ended.valid[:, 0].tolist() == [True, True, False, False]  # steps 1, 2 | the end, and the next episode
    early = made.loss(Table(rows), Table(rows), sequence_of(6, [0.0] * 6, last=(0,)), rng())
    assert early.valid is not None
    assert not early.valid.any()
    assert early.loss.item() == 0
    assert before_the_end(torch.tensor([[False], [True], [False], [True]])).flatten().tolist() == [True, True, False, False]


def test_acting_puts_the_action_into_the_state() -> None:
    spec = SPEC
    net_config = NetConfig(torso="onehot", hidden=8, memory="lstm", memory_size=4, last_action_reward=True)
    made = R2D2(R2D2Config.model_validate({"name": "r2d2", "epsilon_base": 0.9, "epsilon_power": 0}), net_config, spec)
    assert [(extra.shape, extra.dtype) for extra in made.sequence.state] == [((4,), "float32"), ((4,), "float32"), ((), "int64")]
    torch.manual_seed(0)
    net = made.make_net()
    no = torch.zeros(1, 5, dtype=torch.bool)
    step = Step(torch.arange(5)[None], torch.zeros(1, 5), no, no, no, torch.full((1, 5), 77), {})
    action, state, extras = act(made, net, step, made.initial_state(5), Mode(True, 0, rng()))
    assert torch.equal(state[-1], action)
    assert extras == {}
    greedy, _, _ = act(made, net, step, made.initial_state(5), Mode(False, 0, rng()))
    assert torch.equal(greedy, net(step, made.initial_state(5))[0][0].argmax(-1))
    without = R2D2(made.config, net_config.model_copy(update={"last_action_reward": False}), spec)
    assert len(act(without, without.make_net(), step, without.initial_state(5), Mode(True, 0, rng()))[1]) == 2  # hidden and cell


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("agent.stride=100", "stride 100 is larger than unroll"),
        ("agent.stride=1", "agent.stride"),
        ("net.memory=transformer", "net.memory"),
        ("agent.burnin=3", "burn_in"),
    ],
)
def test_impossible_settings_are_refused(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve("classic/recall_r2d2", [override])


def test_the_net_sees_raw_rewards_whatever_is_clipped() -> None:
    """As when it acts."""
    seen = []

    class Noting(Table):
        def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
            seen.append(step.reward[:, 0].tolist())
            return super().forward(step, state)

    made = agent(reward_clip=1.0, burn_in=1, unroll=2, n_steps=1)
    rewards = [5.0, -7.0, 3.0, 0.5]
    out = made.loss(Noting(ONLINE), Table(TARGET), sequence_of(4, rewards), rng())
    assert seen == [rewards[:1], rewards[1:3], rewards[3:]]
    assert out.td is not None
    assert float(out.td[0, 0]) == pytest.approx(h(1 + GAMMA * h_inverse(9.0)) - 3.0, rel=1e-4)  # 1, not 3
