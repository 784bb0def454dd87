"""Returns and advantages, computed from rewards inside losses and never stored. Shapes: T time, n transitions, B batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlsuite.core.types import Step, TransitionBatch


class NStep(NamedTuple):
    """The parts of an n-step return y = reward + discount * v(bootstrap observation)."""

    reward: Tensor  # [B] f32: Σ_k γ^k r_{t+k+1} over n transitions, or fewer if the episode ends
    discount: Tensor  # [B] f32: γ^m for m transitions summed, or 0 if they end in a terminal state


def n_step(transitions: TransitionBatch) -> NStep:
    """The n-step return of step 0 (Sutton & Barto, 2nd ed., section 7.1) from transitions [n,B].

    A terminal state ends the return without a bootstrap. A time limit ends it and bootstraps from the final observation, which
    is the one that `Trajectory.bootstrap` returns. Steps of the next episode do not count.
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
    """The n-step return of every step [T-n,B], bootstrapped from values [T,B]; transitions are [T-1,B].

    y_t = r_{t+1} + γ r_{t+2} + ... + γ^n V_{t+n}, which stops at the end of an episode as in `n_step`: a terminal state has value
    0; at a time limit, the final observation's value counts. At a final observation, where no action is taken, y is its value.
    """
    y = values  # 0 steps ahead
    for _ in range(n):
        steps = y.shape[0] - 1
        ahead = transitions.reward[:steps] + transitions.discount[:steps] * y[1:]
        y = torch.where(transitions.valid[:steps], ahead, values[:steps])  # looks one step further than before
    return y


def rescale(x: Tensor, epsilon: float) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + ε x (Pohlen et al. 2018, proposition A.2), which shrinks large values."""
    size = x.abs()
    return x.sign() * (size / ((size + 1).sqrt() + 1)) + epsilon * x


def unscale(y: Tensor, epsilon: float) -> Tensor:
    """The inverse of `rescale`, for ε > 0, in a form without cancellation (no nearly equal numbers are subtracted)."""
    size = y.abs()
    root = 2 * (size + 1 + epsilon) / ((1 + 4 * epsilon * (size + 1 + epsilon)).sqrt() + 1)  # sqrt(|x| + 1)
    return y / (1 + epsilon * (root + 1)) * (root + 1)


def gae(transitions: TransitionBatch, values: Tensor, decay: Tensor | float) -> Tensor:
    """Generalised advantages [T-1,B] (Schulman et al. 2016, eq. 16) from values [T,B]; `decay` is λ, one for all steps or [T-1,B].

    A_t = δ_t + γ λ A_{t+1}, δ_t = r_{t+1} + γ V_{t+1} - V_t, with γ = 0 into a terminal state. At a time limit and at the end of
    the sequence the sum stops after a δ that bootstraps from the last observation. 0 where no action was taken (not `valid`).
    """
    return _backwards(_errors(transitions, values), transitions, decay)


def lambda_returns(transitions: TransitionBatch, values: Tensor, decay: float) -> Tensor:
    """λ-returns [T-1,B] (Sutton & Barto, 2nd ed., section 12.1) from values [T,B]; `decay` is λ.

    λ = 0 is the one-step return, λ = 1 the return to the end of the episode or of the sequence.
    """
    return gae(transitions, values, decay) + values[:-1]


def discounted(transitions: TransitionBatch, values: Tensor) -> Tensor:
    """Discounted sums of rewards [T-1,B] to the end of the episode or of the sequence.

    At a time limit and at the end of the sequence the values [T,B] take the place of the rewards that would follow.
    """
    return lambda_returns(transitions, values, 1.0)


def finished(last: Tensor) -> Tensor:
    """Whether the episode of step t ends later in this sequence: last [T,B] bool -> [T-1,B] bool."""
    return last[1:].flip(0).to(torch.int8).cummax(0).values.flip(0).bool()


class VTrace(NamedTuple):
    """Value targets and policy-gradient advantages from `v_trace`."""

    values: Tensor  # [T-1,B] f32: v_t, targets of the value function
    advantages: Tensor  # [T-1,B] f32: ρ_t (r_{t+1} + γ v_{t+1} - V_t), for the policy gradient


def v_trace(
    transitions: TransitionBatch,
    values: Tensor,
    log_rho: Tensor,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
    decay: Tensor | float = 1.0,
) -> VTrace:
    """V-trace (Espeholt et al. 2018, eq. 1 and section 4.2) from values [T,B] and log π/μ of the actions taken [T-1,B].

    v_t = V_t + Σ_k γ^k (Π c) ρ δ, with ρ = min(clip_rho, π/μ), c = λ min(clip_c, π/μ); the sum stops where that of `gae` does.
    `decay` is λ, one for all steps or [T-1,B]. On policy v_t is the λ-return.
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
    """x_t = errors_t + γ_t decay_t x_{t+1}, [T-1,B]. At a step without an action x is 0, which stops the sum there."""
    factors = transitions.discount * transitions.valid * decay  # [T-1,B]
    out = torch.empty_like(errors)
    x = torch.zeros_like(errors[0])  # [B]
    for t in reversed(range(errors.shape[0])):
        x = errors[t] + factors[t] * x
        out[t] = x
    return out


BONUS = "bonus"  # key of `Step.extras`: f32 [T,B], the bonus added to the reward that came with each observation


def learned_reward(steps: Step, bound: float | None) -> Tensor:
    """The rewards [T,B] that an agent learns from: those of `steps` [T,B,...] clipped to ± `bound`, plus their bonuses, if any."""
    reward = clip_reward(steps.reward, bound)
    return reward + steps.extras[BONUS] if BONUS in steps.extras else reward


class BonusStream(NamedTuple):
    """Bonuses and their values as one stream that continues across episode ends: arguments for `gae` and `v_trace`."""

    transitions: TransitionBatch  # leaves [T-1,B]
    values: Tensor  # [T,B] f32
    decay: Tensor  # [T-1,B] f32, λ of each step


def continuing(steps: Step, bonus: Tensor, values: Tensor, discount: float, decay: float) -> BonusStream:
    """Bonuses [T,B] of steps [T,B,...] as a stream that continues across episode ends (Burda et al. 2018, section 2.3).

    Between an episode's final observation and the next episode's first, no time passes and no bonus is received, whatever `bonus`
    holds there: this transition has discount 1 and decay 1, and the final observation takes the value of the first observation that
    follows, since no value is learned there. All other transitions have discount γ = `discount` and decay λ = `decay`.
    """
    found = [values[-1]]
    for value, last in zip(values[:-1].flip(0), steps.last[:-1].flip(0), strict=True):
        found.append(torch.where(last, found[-1], value))
    between = steps.last[:-1]  # [T-1,B]
    stream = TransitionBatch(
        action=steps.action[:-1],
        reward=bonus[1:] * ~between,
        discount=torch.where(between, 1.0, discount),
        valid=torch.ones_like(between),
    )
    return BonusStream(stream, torch.stack(found[::-1]), torch.where(between, 1.0, decay))


def clip_reward(reward: Tensor, bound: float | None) -> Tensor:
    """Rewards clipped to ± `bound`; None leaves them unchanged. Only losses clip rewards."""
    return reward if bound is None else reward.clamp(-bound, bound)
