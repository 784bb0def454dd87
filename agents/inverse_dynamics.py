"""Inverse dynamics (VPT, Baker et al. 2022): says which action lay between observations, so that play without actions can be shown.

    L = -log p(a_t | s_1, ..., s_n)      for the observations before and after a_t

It learns from recordings with actions, and `rlsuite label` then writes actions into recordings that have none. To say what was done
is far easier than to say what should be done, because the observations after an action show what it led to; so few recordings with
actions are enough to use many without.

A net reads `margin` steps before and after those that it learns from. Its core must look ahead, as `net.memory=bidirectional(...)`
does. The action at a final observation, which no environment has seen, is not learned.

Where we differ: a recurrent core instead of a transformer over whole videos; the frames that a step sees are those of `env.stack`.

Shapes: n actions of an episode, T time = margin + unroll + margin, B batch.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rlsuite.agents.policy_gradient import columns, likeliest, log_prob, mean
from rlsuite.agents.recordings import RecordingAgent
from rlsuite.config import schema
from rlsuite.config.schema import AgentSection, NetConfig
from rlsuite.core.agent import Capability, Loss, Net, Sequences
from rlsuite.core.types import EnvSpec, Step, Trajectory, part_of, tree_map
from rlsuite.nets.memory import without_weights
from rlsuite.nets.policy_net import PolicyNet


class InverseDynamicsConfig(AgentSection):
    """Settings of inverse dynamics."""

    margin: int = Field(4, ge=1)
    """Steps before and after those that are learned from, which are only seen."""
    unroll: int = Field(32, ge=2)
    """Steps of a sequence that are learned from."""
    stride: int = Field(16, ge=2)
    """Steps from the start of one sequence to that of the next."""


class InverseDynamics(RecordingAgent):
    """Inverse-dynamics model: discrete or continuous actions."""

    Config: ClassVar[type[InverseDynamicsConfig]] = InverseDynamicsConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"continuous actions", "net.memory", "looking ahead"})
    use = "it names the actions of recordings (rlsuite label)"
    config: InverseDynamicsConfig

    def __init__(self, config: InverseDynamicsConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        self.sequence = Sequences(config.margin, config.unroll, config.margin, min(config.stride, config.unroll))

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """Also refuses a core that does not look ahead."""
        super().validate(config)
        if not without_weights(config.net).looks_ahead:
            raise ValueError(
                "agent.name = inverse_dynamics looks at what follows an action: use net.memory = bidirectional(core=lstm)"
            )

    def make_net(self) -> PolicyNet:
        return PolicyNet(self.net_config, self.spec)

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps = trajectory.steps
        with steps.reward.device:
            state = self.initial_state(steps.first.shape[1])
        rows = slice(self.config.margin, self.config.margin + self.config.unroll)
        policy = net(steps, state)[0]
        policy, learned = policy._replace(logits=policy.logits[rows]), part_of(steps, rows)
        log_p, valid = log_prob(policy, learned.action), ~learned.last  # [unroll,B]
        metrics = {"losses/log_prob": mean(log_p, valid)}
        if policy.log_std is None:
            metrics["losses/same_action"] = mean((policy.logits.argmax(-1) == learned.action).float(), valid)
        return Loss(columns(-log_p, valid), None, metrics)

    def actions(self, net: Net, episode: Step) -> Tensor:
        """The likeliest actions [n,...] between the n + 1 observations of an episode, leaves [n+1,...]."""
        margin, unroll, found = self.config.margin, self.config.unroll, []
        with episode.reward.device:
            state = self.initial_state(1)
        for begin in range(0, len(episode.reward) - 1, unroll):
            low = max(begin - margin, 0)
            seen = tree_map(lambda leaf: leaf.unsqueeze(1), part_of(episode, slice(low, begin + unroll + margin)))
            found.append(likeliest(net(seen, state)[0])[begin - low : begin - low + unroll, 0])
        return torch.cat(found)[: len(episode.reward) - 1]

    def rate(self, net: Net, episode: Step) -> float:
        """The share of actions that it names as they were recorded; where they are continuous, minus the mean squared error."""
        named, done = self.actions(net, episode), episode.action[:-1]
        if self.spec.action_shape:
            return -float((named - done).square().mean())
        return float((named == done).float().mean())
