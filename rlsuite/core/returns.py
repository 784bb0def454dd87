"""Returns as functions of rewards. Shapes: n transitions, B batch. Nothing here is ever stored: losses call these."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlsuite.core.types import TransitionBatch


class NStep(NamedTuple):
    """y = reward + discount * v(bootstrap observation)."""

    reward: Tensor  # [B] f32: Σ_k γ^k r_{t+k+1} up to the end of the episode or n
    discount: Tensor  # [B] f32: γ^m, or 0 where a terminal came first; m is the number of transitions taken


def n_step(transitions: TransitionBatch) -> NStep:
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


def n_step_targets(transitions: TransitionBatch, values: Tensor, n: int) -> Tensor:
    """The n-step return of every step, bootstrapped from values [T,B] -> [T-n,B].

    y_t = r_{t+1} + γ r_{t+2} + ... + γ^n V_{t+n}, cut at ends of episodes as `n_step` is: a terminal has no value, a time limit
    that of its final observation. At a final observation, where nothing is done, it is its value.
    """
    y = values  # 0 steps ahead
    for _ in range(n):
        steps = y.shape[0] - 1
        ahead = transitions.reward[:steps] + transitions.discount[:steps] * y[1:]
        y = torch.where(transitions.valid[:steps], ahead, values[:steps])  # one step ahead of the last round's
    return y


def rescale(x: Tensor, epsilon: float) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + ε x (Pohlen et al. 2018, proposition A.2), which shrinks large values."""
    size = x.abs()
    return x.sign() * (size / ((size + 1).sqrt() + 1)) + epsilon * x


def unscale(y: Tensor, epsilon: float) -> Tensor:
    """The inverse of `rescale`, ε > 0; written without a difference of near numbers."""
    size = y.abs()
    root = 2 * (size + 1 + epsilon) / ((1 + 4 * epsilon * (size + 1 + epsilon)).sqrt() + 1)  # sqrt(|x| + 1)
    return y / (1 + epsilon * (root + 1)) * (root + 1)


def gae(transitions: TransitionBatch, values: Tensor, decay: float) -> Tensor:
    """Generalised advantages [T-1,B] (Schulman et al. 2016, eq. 16) from values [T,B]; `decay` is λ.

    A_t = δ_t + γ λ A_{t+1}, δ_t = r_{t+1} + γ V_{t+1} - V_t. A terminal has γ = 0. At a time limit and at the end of the sequence
    the sum is cut after a δ that bootstraps from the final observation. 0 where no action was taken (`valid` is False).
    """
    return _backwards(_errors(transitions, values), transitions, decay)


def lambda_returns(transitions: TransitionBatch, values: Tensor, decay: float) -> Tensor:
    """λ-returns [T-1,B] (Sutton & Barto, 2nd ed., section 12.1) from values [T,B]: λ = 0 one step, λ = 1 up to the cut."""
    return gae(transitions, values, decay) + values[:-1]


def discounted(transitions: TransitionBatch, values: Tensor) -> Tensor:
    """Discounted sums of rewards [T-1,B] to the end of the episode or of the sequence; values [T,B] stand for what was cut off."""
    return lambda_returns(transitions, values, 1.0)


def finished(last: Tensor) -> Tensor:
    """last [T,B] -> [T-1,B] bool: does the episode that step t belongs to end in this sequence, behind it?"""
    return last[1:].flip(0).to(torch.int8).cummax(0).values.flip(0).bool()


class VTrace(NamedTuple):
    values: Tensor  # [T-1,B]: v_t, targets of the value function
    advantages: Tensor  # [T-1,B]: ρ_t (r_{t+1} + γ v_{t+1} - V_t), for the policy gradient


def v_trace(
    transitions: TransitionBatch, values: Tensor, log_rho: Tensor, clip_rho: float = 1.0, clip_c: float = 1.0, decay: float = 1.0
) -> VTrace:
    """V-trace (Espeholt et al. 2018, eq. 1 and section 4.2) from values [T,B] and log π/μ of the actions taken [T-1,B].

    v_t = V_t + Σ_k γ^k (Π c) ρ δ, with ρ = min(clip_rho, π/μ), c = λ min(clip_c, π/μ); cut at ends of episodes as `gae` is.
    On policy v_t is the λ-return.
    """
    ratio = log_rho.exp()
    rho = ratio.clamp(max=clip_rho)
    correction = _backwards(rho * _errors(transitions, values), transitions, decay * ratio.clamp(max=clip_c))
    v = values[:-1] + correction
    v_next = torch.cat([v[1:], values[-1:]])
    advantages = rho * (transitions.reward + transitions.discount * v_next - values[:-1]) * transitions.valid
    return VTrace(v, advantages)


def _errors(transitions: TransitionBatch, values: Tensor) -> Tensor:
    """δ_t [T-1,B], 0 where no action was taken."""
    return (transitions.reward + transitions.discount * values[1:] - values[:-1]) * transitions.valid


def _backwards(errors: Tensor, transitions: TransitionBatch, decay: Tensor | float) -> Tensor:
    """x_t = errors_t + γ_t decay_t x_{t+1}, [T-1,B]. At a step without an action x is 0, which cuts the sum before it."""
    factors = transitions.discount * transitions.valid * decay  # [T-1,B]
    out = torch.empty_like(errors)
    x = torch.zeros_like(errors[0])  # [B]
    for t in reversed(range(errors.shape[0])):
        x = errors[t] + factors[t] * x
        out[t] = x
    return out


def clip_reward(reward: Tensor, bound: float | None) -> Tensor:
    """Reward clipping is the agent's business, in its loss; None leaves rewards as the game gave them."""
    return reward if bound is None else reward.clamp(-bound, bound)
