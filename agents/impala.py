"""IMPALA (Espeholt et al. 2018): actor-critic on rollouts that may come from older weights, corrected by V-trace.

    ρ_t = min(ρ̄, π(a_t|s_t) / μ(a_t|s_t)),  c_t = λ min(c̄, π/μ)              μ: the weights that acted
    v_t = V(s_t) + Σ_k γ^k (Π c) ρ δ                                            the value target, eq. 1
    L   = -ρ_t (r_{t+1} + γ v_{t+1} - V(s_t)) log π(a_t|s_t) + c_v (V(s_t) - v_t)² / 2 - c_e H[π]

The lag of the acting weights is set by `run.policy_lag_learner_steps` on the local runtime, and every runtime reports it as
`charts/policy_lag`.

Where we differ: losses are averaged over the steps of a batch, whereas the paper sums them (its entropy cost and learning rate are
for the sum); a time limit bootstraps from the final observation.

Shapes: T steps of a rollout, B rollouts.
"""

from typing import Annotated

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
from rlsuite.config.conditions import OnlyIf
from rlsuite.core.agent import Loss, Net
from rlsuite.core.returns import v_trace
from rlsuite.core.types import Trajectory


class ImpalaConfig(PolicyGradientConfig):
    """Settings of IMPALA."""

    clip_rho: float = Field(1.0, gt=0)
    """ρ̄: upper bound on the importance weights of TD errors."""
    clip_c: Annotated[float, OnlyIf("v_trace_lambda > 0")] = Field(1.0, gt=0)
    """c̄: upper bound on the importance weights of traces."""
    v_trace_lambda: float = Field(1.0, ge=0, le=1)
    """λ of the traces."""


class Impala(PolicyGradientAgent):
    """IMPALA agent: corrects for rollouts from older weights by truncated importance weights (V-trace)."""

    capabilities = PolicyGradientAgent.capabilities | {"old weights"}
    Config = ImpalaConfig
    config: ImpalaConfig
    bonus_has_value = True

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps, state = trajectory  # [T+1,B]
        config, t = self.config, unpack(steps, self.config)  # [T,B]
        policy, _ = net(steps, state)
        values = policy.value.detach()  # [T+1,B]
        stream = self.bonus_stream(steps, policy, config.v_trace_lambda) if self.values_bonus else None
        policy = head_of(policy)
        log_pi = log_prob(policy, t.action)  # [T,B]
        log_rho = (log_pi - steps.extras["log_prob"][:-1]).detach()  # [T,B]
        v = v_trace(t, values, log_rho, config.clip_rho, config.clip_c, config.v_trace_lambda)
        value_error, advantage = 0.5 * (policy.value - v.values) ** 2, v.advantages
        if stream is not None and self.novelty is not None:
            bonus = v_trace(stream.transitions, stream.values, log_rho * t.valid, config.clip_rho, config.clip_c, stream.decay)
            advantage = advantage + self.novelty.weight * bonus.advantages
            value_error = value_error + bonus_error(policy, bonus.values)
        policy_loss, h = -advantage * log_pi, entropy(policy)
        loss = policy_loss + config.value_weight * value_error - config.entropy_weight * h  # [T,B]
        metrics = {
            "losses/policy_loss": mean(policy_loss, t.valid),
            "losses/value_loss": mean(value_error, t.valid),
            "losses/entropy": mean(h, t.valid),
            "losses/rho": mean(log_rho.exp(), t.valid),
            "losses/explained_variance": explained_variance(policy.value, v.values, t.valid),
        }
        return self.plus_auxiliary(Loss(columns(loss, t.valid), None, metrics), net, steps.observation)
