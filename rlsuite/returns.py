"""Returns as functions of rewards. Shapes: n transitions, B batch. Nothing here is ever stored: losses call these."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlsuite.step import Transitions


class NStep(NamedTuple):
    """y = reward + discount * v(bootstrap observation)."""

    reward: Tensor  # [B] f32: Σ_k γ^k r_{t+k+1} up to the end of the episode or n
    discount: Tensor  # [B] f32: γ^m, or 0 where a terminal came first; m is the number of transitions taken


def n_step(transitions: Transitions) -> NStep:
    """The n-step return of step 0 (Sutton & Barto, 2nd ed., section 7.1), n = leading axis.

    A terminal cuts the return and its bootstrap; a time limit cuts it and bootstraps from the final observation, which is
    what `Trajectory.bootstrap` picks. Steps of the next episode, behind the end, do not count.
    """
    reward = torch.zeros_like(transitions.reward[0])  # [B]
    discount = torch.ones_like(reward)  # [B]
    same_episode = torch.ones_like(transitions.valid[0])  # [B]
    for r, gamma, valid in zip(transitions.reward, transitions.discount, transitions.valid, strict=True):
        same_episode = same_episode & valid
        reward = torch.where(same_episode, reward + discount * r, reward)
        discount = torch.where(same_episode, discount * gamma, discount)
    return NStep(reward, discount)


def clip_reward(reward: Tensor, bound: float | None) -> Tensor:
    """Reward clipping is the agent's business, in its loss; None leaves rewards as the game gave them."""
    return reward if bound is None else reward.clamp(-bound, bound)
