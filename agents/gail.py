"""GAIL (Ho & Ermon 2016): PPO whose reward comes from a discriminator, trained alongside, for steps that resemble recorded ones.

    L_D     = -log D(s_E, a_E) - log(1 - D(s_π, a_π))      D: the probability that a step was recorded; E: recorded, π: own
    r_{t+1} = -log(1 - D(s_t, a_t))                        in place of the environment's reward

D and the policy learn in turn, from the same minibatches; each step of a rollout is paired with a recorded one, sampled uniformly.

This reward is never negative, so it favours long episodes; a reward of log D would favour short ones. Both treat the end of an
episode as worth 0 (absorbing-state bias, Kostrikov et al. 2019). Our reward suits games in which good play lasts long, such as
CartPole. Where good play ends an episode early, such as by reaching a goal, it may pay to wait in front of the goal. Time limits
bootstrap from the final observation, as in PPO.

Where we differ: PPO instead of TRPO; rewards are divided by their mean over the rollout (`normalise_rewards`), so that the scale of
values does not depend on how certain D is; D has its own torso.

Shapes: T time, B batch, A actions.
"""

import copy
from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rlsuite.agents.policy_gradient import columns, mean
from rlsuite.agents.ppo import PPO, PPOConfig
from rlsuite.config import schema
from rlsuite.config.augment import AugmentConfig
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Loss, Net, Part, Rollouts
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, TransitionBatch
from rlsuite.nets.heads import Mlp
from rlsuite.nets.policy_net import PolicyNet, PolicyOutput
from rlsuite.nets.torso import Trunk, orthogonal_

ACTOR, DISCRIMINATOR = "actor", "discriminator"
REWARD = "imitation_reward"  # of `Step.extras`: f32 [T,B]


class GAILConfig(PPOConfig):
    """Settings of GAIL."""

    discriminator_rate: float = Field(1.0, gt=0)
    """Learning rate of the discriminator, as a multiple of learner.learning_rate."""
    normalise_rewards: bool = True
    """Divide the rewards of each rollout by their mean."""


class GAIL(PPO):
    """GAIL agent: discrete or continuous actions, with a memory or without."""

    Config = GAILConfig
    capabilities = PPO.capabilities - {"agent.novelty", "net.auxiliary"}  # its net has two torsos, and its rewards are its own
    sequence = Rollouts(recorded=True)
    config: GAILConfig
    part = ACTOR

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """Also refuses image augmentation, which would change only the agent's own images, not the recorded ones."""
        super().validate(config)
        if config.learner.augment != AugmentConfig():
            raise ValueError("learner.augment changes the agent's own pictures, by which they could be told from recorded ones")

    def make_net(self) -> "ImitationNet":
        return ImitationNet(self.net_config, self.spec)

    def parts(self, net: Net) -> dict[str, Part]:
        """The net's parts in the order of their updates: the discriminator, then the policy."""
        return {DISCRIMINATOR: Part((net.discriminator,), self.config.discriminator_rate), ACTOR: Part((net.actor,))}  # type: ignore[arg-type]

    def of_part(self, name: str) -> Self:
        found = copy.copy(self)
        found.part = name
        return found

    def prepare(self, net: Net, trajectory: Trajectory, rng: torch.Generator) -> Iterator[Trajectory]:
        """The minibatches of PPO, with the discriminator's rewards from before the first update."""
        steps, state = trajectory
        logits = net.discriminator(steps.observation, steps.action)  # type: ignore[operator]  # [T+1,B]
        reward = rewards(logits, steps.last, self.config.normalise_rewards)
        yield from super().prepare(net, Trajectory(steps._replace(extras={**steps.extras, REWARD: reward}), state), rng)

    def transitions(self, steps: Step) -> TransitionBatch:
        """As in `PPO`, but with the discriminator's rewards; the net's input keeps those of the environment, as when it acted."""
        return super().transitions(steps._replace(reward=steps.extras[REWARD]))

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        if self.part == ACTOR:
            return super().loss(net, target, trajectory, rng)
        steps, discriminator = trajectory.steps, net.discriminator
        assert isinstance(discriminator, Discriminator)
        own = discriminator(steps.observation, steps.action)  # [T,B]
        recorded = discriminator(steps.extras["recorded_observation"], steps.extras["recorded_action"])  # [T,B]
        valid = ~steps.last  # [T,B], of the agent's own; recorded ones all are
        loss = F.softplus(own) * valid * (valid.numel() / valid.sum().clamp(min=1)) + F.softplus(-recorded)  # [T,B]
        everywhere = torch.ones_like(valid)
        metrics = {
            "losses/own_accuracy": mean((own < 0).float(), valid),
            "losses/recorded_accuracy": mean((recorded > 0).float(), everywhere),
            "losses/imitation_reward": mean(F.softplus(own), valid),
        }
        return Loss(columns(loss, everywhere), None, metrics)


def rewards(logits: Tensor, last: Tensor, normalise: bool) -> Tensor:
    """The rewards [T,B] f32 received at T steps, from D's logits [T,B] and `last` [T,B] there; 0 where no action led to the step.

    `normalise`: divides them by their mean over all actions but those at step T-1.
    """
    earned = F.softplus(logits[:-1]) * ~last[:-1]  # [T-1,B]: -log(1 - D)
    if normalise:
        earned = earned * ((~last[:-1]).sum() / earned.sum().clamp(min=1e-8))
    return torch.cat([torch.zeros_like(logits[:1]), earned])


class Discriminator(nn.Module):
    """A net for the logit of D(s, a): torso, dense layer, and a hidden layer that also sees the action."""

    def __init__(self, net: NetConfig, spec: EnvSpec):
        super().__init__()
        self.num_actions = spec.num_actions
        self.trunk = Trunk(net, spec)
        self.head = Mlp(net.hidden + (spec.num_actions or sum(spec.action_shape)), net.hidden, 1)
        orthogonal_(self)
        nn.init.orthogonal_(self.head.out.weight, 0.01)  # type: ignore[arg-type]

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """observation [T,B,*shape], action [T,B] i64 or [T,B,A] f32 -> logits [T,B] f32."""
        features = self.trunk(observation)  # [T,B,hidden]
        chosen = F.one_hot(action, self.num_actions) if self.num_actions else action
        return self.head(torch.cat([features, chosen.to(features.dtype)], -1)).squeeze(-1)  # type: ignore[no-any-return]


class ImitationNet(nn.Module):
    """GAIL's net: a policy and value net, which acts, and a discriminator."""

    def __init__(self, net: NetConfig, spec: EnvSpec):
        super().__init__()
        self.actor = PolicyNet(net, spec)
        self.discriminator = Discriminator(net, spec)

    def forward(self, step: Step, state: State) -> tuple[PolicyOutput, State]:
        """See `PolicyNet`."""
        return self.actor(step, state)  # type: ignore[no-any-return]
