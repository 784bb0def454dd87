"""n-step returns: by hand with an end at each index of a slice, and against a naive loop."""

import numpy as np
import pytest
import torch

from rlsuite.returns import clip_reward, n_step
from rlsuite.step import Step, Trajectory, transitions

GAMMA = 0.5
REWARDS = [100.0, 1.0, 2.0, 4.0]  # the first arrived with o_0, from an action before the slice: it never counts


def column(reward: list[float], last: list[int], terminal: list[int]) -> tuple[list[float], list[int], list[int]]:
    return reward, last, terminal


def slices(columns: list[tuple[list[float], list[int], list[int]]]) -> Step:
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


# what ends where: (last at, terminal at) -> return, discount, the step to bootstrap from
CASES = {
    "goes on": ((), (), 1 + 0.5 * 2 + 0.25 * 4, 0.125, 3),
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
    steps = slices([column(REWARDS, flags(*last), flags(*terminal)), column(REWARDS, flags(), flags())])
    out = n_step(transitions(steps, GAMMA))
    assert out.reward.tolist() == [reward, 3.0]  # the second column goes on, untouched by the first
    assert out.discount.tolist() == [discount, 0.125]
    if bootstrap is not None:
        assert Trajectory(steps, ()).bootstrap().observation[0, 0] == bootstrap


@pytest.mark.parametrize("end", [1, 2])
@pytest.mark.parametrize("terminal", [True, False])
def test_rewards_of_the_next_episode_do_not_count(end: int, terminal: bool) -> None:
    quiet = slices([column(REWARDS, flags(end), flags(end) if terminal else flags())])
    loud = quiet._replace(reward=quiet.reward.clone())
    loud.reward[end + 1 :] = 1e6
    assert n_step(transitions(loud, GAMMA)).reward.item() == n_step(transitions(quiet, GAMMA)).reward.item()
    loud.reward[end] += 8  # the one on arrival at the end does
    difference = n_step(transitions(loud, GAMMA)).reward - n_step(transitions(quiet, GAMMA)).reward
    assert difference.item() == 8 * GAMMA ** (end - 1)


@pytest.mark.parametrize(("last", "terminal", "discount"), [(0, 0, 0.5), (1, 1, 0.0), (1, 0, 0.5), (0, 1, 0.0)])
def test_one_step(last: int, terminal: int, discount: float) -> None:
    out = n_step(transitions(slices([([7.0, 3.0], [0, last], [0, terminal])]), GAMMA))
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
    steps = slices([(reward[:, i].tolist(), last[:, i].tolist(), terminal[:, i].tolist()) for i in range(b)])
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
