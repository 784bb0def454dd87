"""PPO (Schulman et al. 2017): several epochs of minibatches on each rollout, with the probability ratio clipped.

    r_t(θ)  = π_θ(a_t|s_t) / π_old(a_t|s_t)
    L_clip  = -min(r_t A_t, clip(r_t, 1-ε, 1+ε) A_t)            A_t: GAE(γ, λ), normalised in each minibatch
    L       = L_clip + c_v (V_θ(s_t) - R_t)² / 2 - c_e H[π_θ]     R_t = A_t + V_old(s_t)

The details that implementations agree on (Huang et al. 2022, "The 37 Implementation Details of PPO"), and where each is:

    orthogonal init, gains sqrt2 / 0.01 / 1; biases 0        nets/policy_net.py
    Adam with ε = 1e-5                                       configs: learner.optimizer_epsilon
    learning rate annealed to 0                              configs: learner.learning_rate_end
    GAE; R_t = A_t + V_old                                   prepare: gae, "return"
    minibatches of shuffled steps, or of whole               prepare: flatten_time, minibatches
      environments if the net is recurrent
    advantages normalised per minibatch                      loss: normalised
      (here per rollout, if minibatches are tiny)            prepare: normalised
    clipped surrogate                                        loss: ratio.clamp
    value clipping (here a switch, off: `value_clip`)        loss: value_error
    one loss, entropy bonus                                  loss: the last sum
    gradient norm clipped at 0.5                             configs: learner.max_grad_norm
    KL, clip fraction, explained variance are logged         loss: metrics
    synchronous vector environment                           acting/collector.py
    Atari: 4 planes of 84x84, rewards clipped to ±1,         envs/atari.py, configs/atari/ppo.yaml
      no-op starts, loss of a life as terminal
    continuous: mean from the net, log σ a free parameter,   nets/policy_net.py: log_std; envs/classic.py: clip
      actions clipped for the environment only

Where we differ: time limits bootstrap from the final observation, only terminal states do not; pixels are divided by 255 in the
net; policy and value share a trunk for vector observations too, unless `net.separate_value`; observations and rewards are not
normalised by running means; `target_kl` ends the epochs on a rollout after the update that exceeded it.

Shapes: T steps of a rollout, B environments (T = 1 in a minibatch of single steps), A actions.
"""

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor

from rlsuite.agents.policy_gradient import (
    PolicyGradientAgent,
    PolicyGradientConfig,
    bonus_error,
    columns,
    entropy,
    explained_variance,
    log_prob,
    mean,
    unpack,
    variance,
)
from rlsuite.agents.rollouts import minibatches, refuse_uneven_minibatches
from rlsuite.config import schema
from rlsuite.core.agent import Loss, Net
from rlsuite.core.returns import gae
from rlsuite.core.types import Step, Trajectory, TransitionBatch, flatten_time, tree_map

FEW = 32  # with fewer steps in a minibatch, the mean and deviation of its own advantages are too noisy


class PPOConfig(PolicyGradientConfig):
    """Settings of PPO."""

    gae_lambda: float = Field(0.95, ge=0, le=1)
    """λ of generalised advantage estimation."""
    clip: float = Field(0.2, gt=0)
    """ε: clip the probability ratio to 1 ± this."""
    value_clip: float | None = Field(None, gt=0)
    """Clip value predictions to ± this around the old ones; null: no clipping."""
    epochs: int = Field(4, ge=1)
    """Passes over each rollout."""
    minibatches: int = Field(4, ge=1)
    """Minibatches per pass."""
    normalise_advantages: bool = True
    """Normalise advantages to mean 0 and standard deviation 1 per minibatch (per rollout, if minibatches have under 32 steps)."""
    target_kl: float | None = Field(None, gt=0)
    """Stop the passes over a rollout once the KL divergence from the old policy exceeds this; null: run all passes."""


class PPO(PolicyGradientAgent):
    """PPO agent: the clipped surrogate objective on minibatches of each rollout."""

    Config = PPOConfig
    config: PPOConfig
    bonus_has_value = True

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """Also refuses batches that do not divide into minibatches."""
        super().validate(config)
        assert isinstance(config.agent, PPOConfig)
        refuse_uneven_minibatches(config, config.agent.minibatches)

    @classmethod
    def ignores(cls, config: schema.Config) -> dict[str, str]:
        """Also ignores `target_kl` and `value_clip` if a rollout gets only one update."""
        assert isinstance(config.agent, PPOConfig)
        if config.agent.epochs * config.agent.minibatches > 1:
            return super().ignores(config)
        needs = "agent.epochs > 1 or agent.minibatches > 1"
        return super().ignores(config) | {"agent.target_kl": needs, "agent.value_clip": needs}

    def transitions(self, steps: Step) -> TransitionBatch:
        """The transitions between the steps [T+1,B] of a rollout: leaves [T,B]."""
        return unpack(steps, self.config)

    def prepare(self, net: Net, trajectory: Trajectory, rng: torch.Generator) -> Iterator[Trajectory]:
        """Yields the minibatches of a rollout [T+1,B], epoch by epoch, with advantages from the values before the first update."""
        steps, state = trajectory
        policy = net(steps, state)[0]
        advantage = gae(self.transitions(steps), policy.value, self.config.gae_lambda)  # [T,B]
        value = policy.value[:-1]
        computed = {"return": advantage + value, "value": value}
        if self.values_bonus:
            bonus_advantage, computed["bonus_return"] = self.bonus_advantages(steps, policy, self.config.gae_lambda)
            advantage = advantage + bonus_advantage
        computed["advantage"] = advantage
        steps = tree_map(lambda leaf: leaf[:-1], steps)
        if self.config.normalise_advantages and value.numel() < FEW * self.config.minibatches:
            computed["normalised"] = normalised(advantage, ~steps.last)
        batch = Trajectory(steps._replace(extras={**steps.extras, **computed}), state)
        if state == ():
            batch = flatten_time(batch)  # without a memory every step is a sequence of its own
        yield from minibatches(batch, self.config.epochs, self.config.minibatches, rng)

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps, state = trajectory
        extras, config, valid = steps.extras, self.config, ~steps.last  # [T,B]
        policy, _ = net(steps, state)
        advantage = extras["advantage"]
        if config.normalise_advantages:
            advantage = extras["normalised"] if "normalised" in extras else normalised(advantage, valid)
        log_ratio = log_prob(policy, steps.action) - extras["log_prob"]  # [T,B]
        ratio = log_ratio.exp()
        surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - config.clip, 1 + config.clip) * advantage)  # [T,B]

        value_error = (policy.value - extras["return"]) ** 2  # [T,B]
        if config.value_clip is not None:
            near = extras["value"] + (policy.value - extras["value"]).clamp(-config.value_clip, config.value_clip)
            value_error = torch.maximum(value_error, (near - extras["return"]) ** 2)
        if self.values_bonus:
            value_error = value_error + 2 * bonus_error(policy, extras["bonus_return"])

        h = entropy(policy)  # [T,B]
        loss = -surrogate + config.value_weight * 0.5 * value_error - config.entropy_weight * h  # [T,B]
        kl = mean(ratio - 1 - log_ratio, valid)  # Schulman's low-variance estimate of KL(old || new)
        metrics = {
            "losses/policy_loss": mean(-surrogate, valid),
            "losses/value_loss": mean(0.5 * value_error, valid),
            "losses/entropy": mean(h, valid),
            "losses/approx_kl": kl,
            "losses/clip_fraction": mean(((ratio - 1).abs() > config.clip).float(), valid),
            "losses/explained_variance": explained_variance(extras["value"], extras["return"], valid),
        }
        stop = None if config.target_kl is None else kl > config.target_kl
        return self.plus_auxiliary(Loss(columns(loss, valid), None, metrics, stop), net, steps.observation)


def normalised(x: Tensor, valid: Tensor) -> Tensor:
    """x [T,B] normalised to mean 0 and standard deviation 1 over the steps that are `valid` [T,B]."""
    return (x - mean(x, valid)) / (variance(x, valid).sqrt() + 1e-8)
