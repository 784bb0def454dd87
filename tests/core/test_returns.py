"""Returns by hand, with the end of an episode at each index, and against naive loops. Shapes: T steps of a sequence, B columns."""

import numpy as np
import pytest
import torch

from rlsuite.core.returns import (
    BONUS,
    clip_reward,
    continuing,
    discounted,
    finished,
    gae,
    lambda_returns,
    learned_reward,
    n_step,
    v_trace,
)
from rlsuite.core.types import Step, Trajectory, transitions

GAMMA = 0.5
REWARDS = [100.0, 1.0, 2.0, 4.0]  # the first arrived with o_0, from an action before the sequence: it never counts


def column(reward: list[float], last: list[int], terminal: list[int]) -> tuple[list[float], list[int], list[int]]:
    return reward, last, terminal


def sequences(columns: list[tuple[list[float], list[int], list[int]]]) -> Step:
    reward, last, terminal = (torch.tensor(leaf) for leaf in zip(*columns, strict=True))  # [B,T]
    t, b = reward.shape[1], reward.shape[0]
    return Step(
        observation=torch.arange(t)[:, None].expand(t, b),
        reward=reward.T.float(),
        first=torch.zeros(t, b, dtype=torch.bool),
        last=last.T.bool(),
        terminal=terminal.T.bool(),
        action=torch.zeros(t, b, dtype=torch.int64),
        extras={},
    )


def flags(*at: int) -> list[int]:
    return [int(t in at) for t in range(4)]


# ends of episodes: (last at, terminal at) -> return, discount, the step to bootstrap from
CASES = {
    "no end": ((), (), 1 + 0.5 * 2 + 0.25 * 4, 0.125, 3),
    "terminal at 1": ((1,), (1,), 1.0, 0.0, 1),
    "terminal at 2": ((2,), (2,), 1 + 0.5 * 2, 0.0, 2),
    "terminal at 3, the bootstrap step": ((3,), (3,), 1 + 0.5 * 2 + 0.25 * 4, 0.0, 3),
    "truncation at 1": ((1,), (), 1.0, 0.5, 1),
    "truncation at 2": ((2,), (), 1 + 0.5 * 2, 0.25, 2),
    "truncation at 3, the bootstrap step": ((3,), (), 1 + 0.5 * 2 + 0.25 * 4, 0.125, 3),
    "life lost at 1": ((), (1,), 1.0, 0.0, None),
    "life lost at 2": ((), (2,), 1 + 0.5 * 2, 0.0, None),
    "life lost at 3": ((), (3,), 1 + 0.5 * 2 + 0.25 * 4, 0.0, 3),
    "life lost at 1, truncated at 2": ((2,), (1,), 1.0, 0.0, 2),
    "truncated at 1, the next episode over at 3": ((1, 3), (3,), 1.0, 0.5, 1),
    "over at 1, the next episode truncated at 3": ((1, 3), (1,), 1.0, 0.0, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_three_step_return_by_hand(case: str) -> None:
    last, terminal, reward, discount, bootstrap = CASES[case]
    steps = sequences([column(REWARDS, flags(*last), flags(*terminal)), column(REWARDS, flags(), flags())])
    out = n_step(transitions(steps, GAMMA))
    assert out.reward.tolist() == [reward, 3.0]  # the second column has no end, and the first does not affect it
    assert out.discount.tolist() == [discount, 0.125]
    if bootstrap is not None:
        assert Trajectory(steps, ()).bootstrap().observation[0, 0] == bootstrap


@pytest.mark.parametrize("end", [1, 2])
@pytest.mark.parametrize("terminal", [True, False])
def test_rewards_of_the_next_episode_do_not_count(end: int, terminal: bool) -> None:
    quiet = sequences([column(REWARDS, flags(end), flags(end) if terminal else flags())])
    loud = quiet._replace(reward=quiet.reward.clone())
    loud.reward[end + 1 :] = 1e6
    assert n_step(transitions(loud, GAMMA)).reward.item() == n_step(transitions(quiet, GAMMA)).reward.item()
    loud.reward[end] += 8  # the one on arrival at the end does
    difference = n_step(transitions(loud, GAMMA)).reward - n_step(transitions(quiet, GAMMA)).reward
    assert difference.item() == 8 * GAMMA ** (end - 1)


@pytest.mark.parametrize(("last", "terminal", "discount"), [(0, 0, 0.5), (1, 1, 0.0), (1, 0, 0.5), (0, 1, 0.0)])
def test_one_step(last: int, terminal: int, discount: float) -> None:
    out = n_step(transitions(sequences([([7.0, 3.0], [0, last], [0, terminal])]), GAMMA))
    assert out.reward.tolist() == [3.0]
    assert out.discount.tolist() == [discount]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_equals_a_naive_loop(n: int) -> None:
    rng = np.random.default_rng(n)
    t, b, gamma = n + 1, 200, 0.97
    last = rng.random((t, b)) < 0.25
    last[0] = False
    terminal = (last & (rng.random((t, b)) < 0.5)) | (rng.random((t, b)) < 0.1)  # lives are lost as well
    reward = rng.normal(size=(t, b)).astype(np.float32)
    steps = sequences([(reward[:, i].tolist(), last[:, i].tolist(), terminal[:, i].tolist()) for i in range(b)])
    out = n_step(transitions(steps, gamma))
    index = Trajectory(steps, ()).bootstrap().observation[0]
    for i in range(b):
        total, discount, k = 0.0, 1.0, 0
        while True:
            k += 1
            total += discount * reward[k, i]
            discount *= 0.0 if terminal[k, i] else gamma
            if last[k, i] or k == n:
                break
        assert out.reward[i].item() == pytest.approx(total, abs=1e-5)
        assert out.discount[i].item() == pytest.approx(discount, abs=1e-6)
        assert index[i] == k


def test_clip_reward() -> None:
    reward = torch.tensor([-7.0, -0.5, 0.0, 0.5, 400.0])
    assert clip_reward(reward, 1.0).tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert clip_reward(reward, 10.0).tolist() == [-7.0, -0.5, 0.0, 0.5, 10.0]
    assert torch.equal(clip_reward(reward, None), reward)


VALUES = [8.0, 16.0, 32.0, 64.0]
LAMBDA = 0.25
# δ of the sequence without an end: r_{t+1} + V_{t+1} / 2 - V_t = 1, 2, 4; each step back adds γ λ = 1/8 of what follows.
# In the cases below δ_t = r_{t+1} - V_t where step t + 1 is terminal: -7, -14, -28.
ADVANTAGES = {
    "no end": ((), (), [1 + (2 + 4 / 8) / 8, 2 + 4 / 8, 4.0]),
    "terminal at 1": ((1,), (1,), [-7.0, 0.0, 4.0]),
    "terminal at 2": ((2,), (2,), [1 - 14 / 8, -14.0, 0.0]),
    "terminal at 3": ((3,), (3,), [1 + (2 - 28 / 8) / 8, 2 - 28 / 8, -28.0]),
    "truncation at 1": ((1,), (), [1.0, 0.0, 4.0]),
    "truncation at 2": ((2,), (), [1 + 2 / 8, 2.0, 0.0]),
    "truncation at 3": ((3,), (), [1 + (2 + 4 / 8) / 8, 2 + 4 / 8, 4.0]),
    "life lost at 1": ((), (1,), [-7.0, 2 + 4 / 8, 4.0]),
    "life lost at 2": ((), (2,), [1 - 14 / 8, -14.0, 4.0]),
    "already over at 0": ((0,), (0,), [0.0, 2 + 4 / 8, 4.0]),
}


@pytest.mark.parametrize("case", ADVANTAGES)
def test_gae_by_hand(case: str) -> None:
    last, terminal, expected = ADVANTAGES[case]
    steps = sequences([column(REWARDS, flags(*last), flags(*terminal)), column(REWARDS, flags(), flags())])
    values = torch.tensor([VALUES, VALUES]).T
    t = transitions(steps, GAMMA)
    advantage = gae(t, values, LAMBDA)
    assert advantage[:, 0].tolist() == expected
    assert advantage[:, 1].tolist() == ADVANTAGES["no end"][2]  # the first column does not affect it
    assert torch.equal(lambda_returns(t, values, LAMBDA), advantage + values[:-1])


RETURNS = {  # γ = 1/2, bootstrapped by V = 64 at the end of the sequence, or by V of the final observation at a time limit
    "no end": ((), (), [1 + 1 + 1 + 8, 2 + 2 + 16, 4 + 32]),
    "terminal at 1": ((1,), (1,), [1.0, None, 36.0]),
    "terminal at 2": ((2,), (2,), [2.0, 2.0, None]),
    "truncation at 1": ((1,), (), [1 + 8.0, None, 36.0]),
    "truncation at 2": ((2,), (), [1 + 1 + 8.0, 2 + 16.0, None]),
    "terminal at 3": ((3,), (3,), [3.0, 4.0, 4.0]),
}


@pytest.mark.parametrize("case", RETURNS)
def test_discounted_returns_by_hand(case: str) -> None:
    last, terminal, expected = RETURNS[case]
    out = discounted(transitions(sequences([column(REWARDS, flags(*last), flags(*terminal))]), GAMMA), torch.tensor([VALUES]).T)
    assert [value for value, known in zip(out[:, 0].tolist(), expected, strict=True) if known is not None] == [
        value for value in expected if value is not None
    ]


def test_finished_is_true_up_to_the_last_end() -> None:
    last = torch.tensor([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1], [1, 0, 0, 0, 0]]).T.bool()
    expected = [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert finished(last).T.int().tolist() == expected


def random_case(seed: int, t: int = 9, b: int = 5) -> tuple[Step, torch.Tensor, torch.Tensor]:
    """Steps with ends of all kinds, values [T,B], log ratios [T-1,B]."""
    rng = np.random.default_rng(seed)
    last = rng.random((b, t)) < 0.25
    terminal = (last & (rng.random((b, t)) < 0.5)) | (rng.random((b, t)) < 0.1)
    columns = [(list(rng.standard_normal(t)), list(map(int, last[i])), list(map(int, terminal[i]))) for i in range(b)]
    return (
        sequences(columns),
        torch.from_numpy(rng.standard_normal((t, b)).astype(np.float32)),
        torch.from_numpy(rng.standard_normal((t - 1, b)).astype(np.float32)),
    )


def naive_v_trace(
    steps: Step, values: torch.Tensor, log_rho: torch.Tensor, rho_bar: float, c_bar: float, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Espeholt et al. 2018, eq. 1, as the double sum that it is."""
    reward, last, terminal = steps.reward.numpy(), steps.last.numpy(), steps.terminal.numpy()
    v, ratio = values.double().numpy(), log_rho.double().exp().numpy()
    t_max, b_max = ratio.shape
    target, advantage = np.zeros((t_max, b_max)), np.zeros((t_max, b_max))

    def gamma(t: int, b: int) -> float:
        return 0.0 if terminal[t, b] else GAMMA

    for b in range(b_max):
        for s in range(t_max):
            target[s, b] = v[s, b]
            weight = 1.0
            for t in range(s, t_max):
                if last[t, b]:
                    break  # no action was taken here
                delta = min(rho_bar, ratio[t, b]) * (reward[t + 1, b] + gamma(t + 1, b) * v[t + 1, b] - v[t, b])
                target[s, b] += weight * delta
                weight *= gamma(t + 1, b) * decay * min(c_bar, ratio[t, b])
        for s in range(t_max):
            if not last[s, b]:
                ahead = target[s + 1, b] if s + 1 < t_max else v[s + 1, b]
                advantage[s, b] = min(rho_bar, ratio[s, b]) * (reward[s + 1, b] + gamma(s + 1, b) * ahead - v[s, b])
    return target, advantage


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rho_bar", "c_bar", "decay"), [(1.0, 1.0, 1.0), (2.0, 0.5, 0.9)])
def test_v_trace_against_the_double_sum(seed: int, rho_bar: float, c_bar: float, decay: float) -> None:
    steps, values, log_rho = random_case(seed)
    out = v_trace(transitions(steps, GAMMA), values, log_rho, rho_bar, c_bar, decay)
    target, advantage = naive_v_trace(steps, values, log_rho, rho_bar, c_bar, decay)
    np.testing.assert_allclose(out.values.numpy(), target, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out.advantages.numpy(), advantage, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_on_policy_v_trace_is_the_lambda_return(seed: int) -> None:
    steps, values, log_rho = random_case(seed)
    t = transitions(steps, GAMMA)
    for decay in (1.0, 0.7):
        out = v_trace(t, values, torch.zeros_like(log_rho), decay=decay)
        torch.testing.assert_close(out.values, lambda_returns(t, values, decay))


def test_a_bonus_is_added_to_the_clipped_reward() -> None:
    steps = sequences([column([0.0, 5.0, -3.0, 0.5], flags(), flags())])
    assert learned_reward(steps, 1.0)[:, 0].tolist() == [0.0, 1.0, -1.0, 0.5]
    bonus = torch.tensor([[0.0], [2.0], [0.25], [3.0]])
    more = steps._replace(extras={BONUS: bonus})
    assert learned_reward(more, 1.0)[:, 0].tolist() == [0.0, 3.0, -0.75, 3.5]  # the bonus is not clipped
    assert learned_reward(more, None)[:, 0].tolist() == [0.0, 7.0, -2.75, 3.5]


@pytest.mark.parametrize("ends", [{"terminal": [0, 0, 1, 0, 0]}, {"terminal": [0, 1, 0, 0, 0]}, {"terminal": [0, 0, 0, 0, 0]}])
def test_bonuses_go_on_through_the_end_of_an_episode_by_hand(ends: dict[str, list[int]]) -> None:
    """Whether it is over, a life was lost or time has run out; what is at the next episode's first observation never counts."""
    steps = sequences([([0.0] * 5, [0, 0, 1, 0, 0], ends["terminal"])])
    values = torch.tensor([[10.0], [20.0], [99.0], [30.0], [40.0]])
    for leak in (0.0, 1000.0):  # a bonus of the first observation
        bonus = torch.tensor([[9.0], [1.0], [2.0], [leak], [4.0]])
        stream, v, _ = continuing(steps, bonus, values, 0.5, 1.0)
        assert v[:, 0].tolist() == [10, 20, 30, 30, 40]  # the final observation has the value of the next one
        assert stream.reward[:, 0].tolist() == [1, 2, 0, 4]
        assert stream.discount[:, 0].tolist() == [0.5, 0.5, 1, 0.5]
        # From step 1: 2 now, 4 after the reset, then 40; discounted once at each of the two actions.
        assert gae(stream, v, 1.0)[:, 0].tolist() == [-2, (2 + 0.5 * (4 + 0.5 * 40)) - 20, -6, 4 + 0.5 * 40 - 30]
        assert gae(stream, v, 0.0)[:, 0].tolist() == [1 + 0.5 * 20 - 10, 2 + 0.5 * 30 - 20, 0, -6]
        # λ counts at actions only: A_3 = -6, which comes through the reset unchanged, A_1 = -3 + 0.25 A_3, A_0 = 1 + 0.25 A_1
        stream = continuing(steps, bonus, values, 0.5, 0.5)
        assert gae(*stream)[:, 0].tolist() == [1 + 0.25 * -4.5, -3 + 0.25 * -6, -6, -6]
        on_policy = v_trace(stream.transitions, stream.values, torch.zeros(4, 1), decay=stream.decay)
        torch.testing.assert_close(on_policy.values, gae(*stream) + stream.values[:-1])


def test_bonuses_at_the_end_of_a_rollout_bootstrap_from_its_last_observation() -> None:
    steps = sequences([([0.0] * 4, flags(3), flags(3)), ([0.0] * 4, flags(), flags())])
    values = torch.arange(8.0).view(4, 2)
    _, v, _ = continuing(steps, torch.ones(4, 2), values, 0.9, 0.95)
    assert torch.equal(v, values)
