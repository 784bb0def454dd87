"""Shared parts of the policy-gradient agents: settings, acting, log-probabilities. Shapes: T time, B batch, A actions."""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rlsuite.agents.net_agent import APART, NetAgent
from rlsuite.agents.rollouts import ignored_without_replay, refuse_bad_rollouts
from rlsuite.config import schema
from rlsuite.config.schema import AgentSection, NetConfig
from rlsuite.core.agent import Capability, Mode, Net, Rollouts
from rlsuite.core.errors import UsageError
from rlsuite.core.returns import BonusStream, continuing, gae, learned_reward
from rlsuite.core.types import EnvSpec, State, Step, TransitionBatch, transitions
from rlsuite.nets.memory import initial_state
from rlsuite.nets.policy_net import PolicyNet, PolicyOutput


class PolicyGradientConfig(AgentSection):
    """Settings of every policy-gradient agent."""

    discount: float = Field(0.99, ge=0, le=1)
    """Discount γ, per agent step."""
    value_weight: float = Field(0.5, ge=0)
    """Weight of the value loss."""
    entropy_weight: float = Field(0.01, ge=0)
    """Weight of the entropy bonus."""
    reward_clip: float | None = Field(None, gt=0)
    """Clip rewards to ± this in the loss; null: raw rewards."""
    greedy_eval: bool = True
    """Evaluate with the most likely action; false: sample, as in training."""


class PolicyAgent(NetAgent):
    """Base class of agents that act with a `PolicyNet`; `act` also returns log π(a|s). A subclass implements `loss`.

    The subclass's config must have `greedy_eval`.
    """

    has_target = False

    def __init__(self, config: Any, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        if len(spec.action_shape) > 1:
            raise UsageError(f"continuous actions must be vectors, but the environment's have shape {spec.action_shape}")

    def make_net(self) -> Net:
        return self.extended(PolicyNet(self.net_config, self.spec, values_bonus=self.values_bonus))

    def initial_state(self, batch: int) -> State:
        return initial_state(self.net_config, self.spec, batch)

    def scores(self, net: Net, steps: Step, state: State) -> tuple[Tensor, State]:
        policy, state = net(steps, state)
        return policy.logits, state

    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        policy, state = net(step, state)  # [1,B,...]
        action = likeliest(policy) if self.config.greedy_eval and not mode.explore else sample(policy, mode.rng)  # [1,B,...]
        return action[0], state, {"log_prob": log_prob(policy, action)[0]}


class PolicyGradientAgent(PolicyAgent):
    """Base class of agents that learn from rollouts of their own policy. A subclass implements `loss`."""

    Config: ClassVar[type[PolicyGradientConfig]] = PolicyGradientConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            *("continuous actions", "net.memory", "net.last_action_reward", "net.separate_value"),
            *("inference server", "net.auxiliary", "agent.novelty"),
        }
    )
    sequence = Rollouts()
    config: PolicyGradientConfig

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """Also refuses rollouts of fewer than two steps, and batches that are not a whole number of unrolls."""
        super().validate(config)
        refuse_bad_rollouts(config)

    @classmethod
    def ignores(cls, config: schema.Config) -> dict[str, str]:
        """Also ignores the keys of a replay, which rollouts do not use."""
        old_weights = "old weights" in cls.capabilities
        return super().ignores(config) | ignored_without_replay(config, old_weights, recorded=cls.needs_recordings())

    def bonus_stream(self, steps: Step, policy: PolicyOutput, decay: float) -> BonusStream:
        """The bonuses of steps [T,B,...] and their values, continuing across episode ends; `decay` is λ."""
        assert policy.bonus_value is not None
        return continuing(steps, steps.extras[APART], policy.bonus_value.detach(), self.bonus_discount, decay)

    def bonus_advantages(self, steps: Step, policy: PolicyOutput, decay: float) -> tuple[Tensor, Tensor]:
        """Weighted generalised advantages of bonuses, and target returns for the value of bonuses, each [T-1,B]."""
        assert self.novelty is not None
        stream = self.bonus_stream(steps, policy, decay)
        advantage = gae(*stream)
        return self.novelty.weight * advantage, advantage + stream.values[:-1]


SMALLEST = torch.finfo(torch.float32).tiny  # a draw of 0, once in 16 million, would score an action -inf, even the only allowed one


def sample(policy: PolicyOutput, rng: torch.Generator) -> Tensor:
    """Samples actions from the policy: [T,B] i64, or [T,B,A] f32 where they are continuous."""
    if policy.log_std is not None:
        noise = torch.randn(policy.logits.shape, generator=rng, device=policy.logits.device)
        return policy.logits + noise * policy.log_std.exp()
    uniform = torch.rand(policy.logits.shape, generator=rng, device=policy.logits.device).clamp(min=SMALLEST)
    return (policy.logits - (-uniform.log()).log()).argmax(-1)  # the Gumbel trick, which needs no softmax


def likeliest(policy: PolicyOutput) -> Tensor:
    """The most likely actions [T,B] i64, or the means [T,B,A] f32 where actions are continuous."""
    return policy.logits if policy.log_std is not None else policy.logits.argmax(-1)


def log_prob(policy: PolicyOutput, action: Tensor) -> Tensor:
    """log π(a|s) [T,B] f32; for continuous actions the log-density, summed over the action's dimensions."""
    if policy.log_std is not None:
        z = (action - policy.logits) / policy.log_std.exp()
        return -(0.5 * z**2 + policy.log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
    return policy.logits.log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def entropy(policy: PolicyOutput) -> Tensor:
    """The policy's entropy in nats, [T,B] f32."""
    if policy.log_std is not None:
        total = (policy.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        return total.expand(policy.logits.shape[:-1])
    log_p = policy.logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def head_of(policy: PolicyOutput) -> PolicyOutput:
    """The policy at the first T-1 of T steps, one for each transition between them."""
    bonus_value = None if policy.bonus_value is None else policy.bonus_value[:-1]
    return policy._replace(logits=policy.logits[:-1], value=policy.value[:-1], bonus_value=bonus_value)


def bonus_error(policy: PolicyOutput, returns: Tensor) -> Tensor:
    """Half the squared error [T,B] of the value of bonuses against `returns` [T,B]."""
    assert policy.bonus_value is not None
    return 0.5 * (policy.bonus_value - returns) ** 2


def unpack(steps: Step, config: PolicyGradientConfig) -> TransitionBatch:
    """The transitions between T steps, leaves [T-1,B], with `learned_reward`."""
    return transitions(steps._replace(reward=learned_reward(steps, config.reward_clip)), config.discount)


def columns(x: Tensor, valid: Tensor) -> Tensor:
    """Sums of x [T,B] over valid steps, scaled so that the mean of the result [B] is the mean of x over all valid steps.

    `valid` is [T,B] bool.
    """
    return (x * valid).sum(0) * (valid.shape[1] / valid.sum().clamp(min=1))


def mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean of x [T,B] over the steps that are `valid` [T,B], a detached scalar."""
    return (x.detach() * valid).sum() / valid.sum().clamp(min=1)


def explained_variance(value: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """1 - Var[target - value] / Var[target] over the valid steps, a scalar: 1 is perfect, 0 is no better than a constant.

    `value`, `target` and `valid` are [T,B].
    """
    return 1 - variance(target - value, valid) / variance(target, valid).clamp(min=1e-8)


def variance(x: Tensor, valid: Tensor) -> Tensor:
    """Variance of x [T,B] over the steps that are `valid` [T,B], a detached scalar."""
    away = (x.detach() - mean(x, valid)) ** 2
    return mean(away, valid)
