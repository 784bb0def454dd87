"""REINFORCE with a baseline (Williams 1992; Sutton & Barto, 2nd ed., section 13.4).

    L = -(G_t - V(s_t)) log π(a_t|s_t) + c_v (V(s_t) - G_t)² / 2 - c_e H[π]         G_t: the discounted return to the episode's end

Only steps whose episode ends within the rollout are used, so that every G_t is a complete return. Make `run.collect_agent_steps`
longer than an episode; otherwise no step may qualify.

Where we differ: the gradient has no factor γ^t, as in nearly all implementations; a time limit bootstraps from the final
observation; there is an entropy bonus (`entropy_weight: 0` switches it off).

Shapes: T steps of a rollout, B environments.
"""

import torch

from rlsuite.agents.policy_gradient import (
    PolicyGradientAgent,
    columns,
    entropy,
    explained_variance,
    head_of,
    log_prob,
    mean,
    unpack,
)
from rlsuite.core.agent import Loss, Net
from rlsuite.core.returns import discounted, finished
from rlsuite.core.types import Trajectory


class Reinforce(PolicyGradientAgent):
    """REINFORCE agent: the policy gradient of complete returns, with the value function as a baseline."""

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps, state = trajectory  # [T+1,B]
        t = unpack(steps, self.config)  # [T,B]
        policy, _ = net(steps, state)
        returns = discounted(t, policy.value.detach())  # [T,B]
        whole = t.valid & finished(steps.last)  # [T,B]
        policy = head_of(policy)
        value_error = 0.5 * (policy.value - returns) ** 2
        policy_loss = -(returns - policy.value.detach()) * log_prob(policy, t.action)
        h = entropy(policy)
        loss = policy_loss + self.config.value_weight * value_error - self.config.entropy_weight * h  # [T,B]
        metrics = {
            "losses/policy_loss": mean(policy_loss, whole),
            "losses/value_loss": mean(value_error, whole),
            "losses/entropy": mean(h, whole),
            "losses/whole_returns": whole.float().mean(),
            "losses/explained_variance": explained_variance(policy.value, returns, whole) * whole.any(),
        }
        return self.plus_auxiliary(Loss(columns(loss, whole), None, metrics), net, steps.observation)
