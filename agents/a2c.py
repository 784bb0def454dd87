"""A2C: synchronous advantage actor-critic (Mnih et al. 2016, without its asynchrony), one update per rollout.

    L = -A_t log π(a_t|s_t) + c_v (V(s_t) - R_t)² / 2 - c_e H[π]          A_t: GAE(γ, λ); λ = 1 gives the paper's n-step returns

Where we differ: environments step together instead of in asynchronous threads; a time limit bootstraps from the final observation;
the learner's optimizer replaces the paper's RMSProp with statistics shared between threads.

Shapes: T steps of a rollout, B environments.
"""

import torch
from pydantic import Field

from rlsuite.agents.policy_gradient import (
    PolicyGradientAgent,
    PolicyGradientConfig,
    bonus_error,
    columns,
    entropy,
    explained_variance,
    head_of,
    log_prob,
    mean,
    unpack,
)
from rlsuite.core.agent import Loss, Net
from rlsuite.core.returns import gae
from rlsuite.core.types import Trajectory


class A2CConfig(PolicyGradientConfig):
    """Settings of A2C."""

    gae_lambda: float = Field(1.0, ge=0, le=1)
    """λ of generalised advantage estimation; 1 gives the paper's n-step returns."""


class A2C(PolicyGradientAgent):
    """A2C agent: one update per rollout, with generalised advantages."""

    Config = A2CConfig
    config: A2CConfig
    bonus_has_value = True

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps, state = trajectory  # [T+1,B]
        t = unpack(steps, self.config)  # [T,B]
        policy, _ = net(steps, state)
        advantage = gae(t, policy.value.detach(), self.config.gae_lambda)  # [T,B]
        bonus = self.bonus_advantages(steps, policy, self.config.gae_lambda) if self.values_bonus else None
        policy = head_of(policy)
        returns = advantage + policy.value.detach()
        value_error = 0.5 * (policy.value - returns) ** 2
        if bonus is not None:
            advantage, value_error = advantage + bonus[0], value_error + bonus_error(policy, bonus[1])
        policy_loss, h = -advantage * log_prob(policy, t.action), entropy(policy)
        loss = policy_loss + self.config.value_weight * value_error - self.config.entropy_weight * h  # [T,B]
        metrics = {
            "losses/policy_loss": mean(policy_loss, t.valid),
            "losses/value_loss": mean(value_error, t.valid),
            "losses/entropy": mean(h, t.valid),
            "losses/explained_variance": explained_variance(policy.value, returns, t.valid),
        }
        return self.plus_auxiliary(Loss(columns(loss, t.valid), None, metrics), net, steps.observation)
