"""Behaviour cloning (Pomerleau 1991): a policy that imitates recorded play, learned from recordings alone.

    L = -log π(a_t | s_t), or with a memory core  -log π(a_t | s_1, ..., s_t)

for recorded steps s_t, a_t, sampled uniformly. Rewards are not used, and environments are stepped only in evaluations. Agent steps
count the recorded steps learned from.

A net without a memory learns from single steps. A net with a memory learns from sequences, whose first `burn_in` steps only warm up
its state. The value head is not trained.

Shapes: T time, B batch, A actions.
"""

from typing import ClassVar

import torch
from pydantic import Field

from rlsuite.agents.policy_gradient import PolicyAgent, columns, log_prob, mean
from rlsuite.agents.r2d2 import split
from rlsuite.config import schema
from rlsuite.config.schema import AgentSection, NetConfig
from rlsuite.core.agent import Capability, Loss, Net, Sequences, Transitions
from rlsuite.core.types import EnvSpec, Trajectory


class BehaviourCloningConfig(AgentSection):
    """Settings of behaviour cloning."""

    burn_in: int = Field(0, ge=0)
    """With a memory: steps at the start of a sequence that only warm up the recurrent state."""
    unroll: int = Field(40, ge=2)
    """With a memory: steps of a sequence to learn from."""
    stride: int = Field(16, ge=2)
    """With a memory: steps between the starts of consecutive sequences."""
    greedy_eval: bool = True
    """Evaluate with the most likely action; false: sample."""


class BehaviourCloning(PolicyAgent):
    """Behaviour-cloning agent: discrete or continuous actions, with a memory or without."""

    Config: ClassVar[type[BehaviourCloningConfig]] = BehaviourCloningConfig
    offline = True
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"continuous actions", "net.memory", "net.last_action_reward", "net.auxiliary"}
    )
    config: BehaviourCloningConfig

    def __init__(self, config: BehaviourCloningConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        if self.remembers(net):
            self.sequence = Sequences(config.burn_in, config.unroll, 0, min(config.stride, config.unroll))
        else:
            self.sequence = Transitions(1)

    @staticmethod
    def remembers(net: NetConfig) -> bool:
        """Whether the net has a recurrent state."""
        return net.memory != "none" or net.last_action_reward

    @classmethod
    def ignores(cls, config: schema.Config) -> dict[str, str]:
        """Also ignores the keys of sequences if the net has no memory."""
        ignored = super().ignores(config)
        if not cls.remembers(config.net):
            ignored |= dict.fromkeys(("agent.burn_in", "agent.unroll", "agent.stride"), "net.memory other than none")
        return ignored

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        if isinstance(self.sequence, Transitions):
            learned, state = trajectory.start(), ()  # [1,B,...]
        else:
            with trajectory.steps.reward.device:
                state = self.initial_state(trajectory.steps.first.shape[1])
            warm_up, learned = split(trajectory.steps, self.config.burn_in)
            if self.config.burn_in:
                with torch.no_grad():
                    state = net(warm_up, state)[1]
        policy, _ = net(learned, state)  # [T,B,...]
        log_p, valid = log_prob(policy, learned.action), ~learned.last  # [T,B]
        metrics = {"losses/log_prob": mean(log_p, valid)}
        if policy.log_std is None:
            metrics["losses/same_action"] = mean((policy.logits.argmax(-1) == learned.action).float(), valid)
        return self.plus_auxiliary(Loss(columns(-log_p, valid), None, metrics), net, learned.observation)
