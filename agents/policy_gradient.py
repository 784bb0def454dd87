"""What the policy-gradient agents share: acting, log-probabilities, entropies. Shapes: T time, B batch, A actions."""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rlsuite.config import schema
from rlsuite.config.schema import AgentSection, NetConfig, ReplayConfig
from rlsuite.core.agent import Agent, Capability, Mode, Net, Rollouts
from rlsuite.core.errors import UsageError
from rlsuite.core.returns import clip_reward
from rlsuite.core.types import EnvSpec, State, Step, TransitionBatch, transitions
from rlsuite.nets.memory import initial_state
from rlsuite.nets.policy_net import PolicyNet, PolicyOutput


class PolicyGradientConfig(AgentSection):
    """Numbers that all of them have."""

    discount: float = Field(0.99, ge=0, le=1)
    """γ, per agent step."""
    value_weight: float = Field(0.5, ge=0)
    """Weight of the value loss in the sum."""
    entropy_weight: float = Field(0.01, ge=0)
    """Weight of the entropy bonus."""
    reward_clip: float | None = Field(None, gt=0)
    """Rewards are clipped to ± this in the loss; null: raw rewards."""
    greedy_eval: bool = True
    """Evaluate with the likeliest action; false: sample, as in training."""


class PolicyGradientAgent(Agent):
    """Acts with a `PolicyNet` and stores log π(a|s) of what it did; a loss makes it an agent."""

    Config: ClassVar[type[PolicyGradientConfig]] = PolicyGradientConfig
    has_target = False
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"continuous actions", "net.memory", "net.last_action_reward", "net.separate_value"}
    )
    sequence = Rollouts()
    config: PolicyGradientConfig

    def __init__(self, config: PolicyGradientConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        if len(spec.action_shape) > 1:
            raise UsageError(f"continuous actions must be vectors, these are {spec.action_shape}")

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """A rollout needs two steps, and a batch is a whole number of unrolls; there is no replay to configure."""
        super().validate(config)
        name, num_envs, steps, batch = (
            config.agent.name,
            config.env.num_envs,
            config.run.collect_agent_steps,
            config.learner.batch_size,
        )
        if steps < 2:
            raise ValueError(f"run.collect_agent_steps = {steps}: a rollout of {name} needs at least 2 steps")
        if batch % num_envs:
            near = max(1, round(batch / num_envs)) * num_envs
            raise ValueError(
                f"learner.batch_size = {batch}: rollouts of {name} come from {num_envs} environments at once; try {near}"
            )
        if config.replay != ReplayConfig():
            raise ValueError(f"replay.*: {name} learns from every rollout once and has no replay; remove the section")
        if config.learner.prefetch_batches:
            raise ValueError(f"learner.prefetch_batches: {name} learns from a rollout as soon as it is there; use 0")

    def make_net(self) -> PolicyNet:
        return PolicyNet(self.net_config, self.spec)

    def initial_state(self, batch: int) -> State:
        return initial_state(self.net_config, self.spec, batch)

    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        policy, state = net(step, state)  # [1,B,...]
        action = likeliest(policy) if self.config.greedy_eval and not mode.explore else sample(policy, mode.rng)  # [1,B,...]
        return action[0], state, {"log_prob": log_prob(policy, action)[0]}


def sample(policy: PolicyOutput, rng: torch.Generator) -> Tensor:
    """Actions [T,B] i64, or [T,B,A] f32."""
    if policy.log_std is not None:
        noise = torch.randn(policy.logits.shape, generator=rng, device=policy.logits.device)
        return policy.logits + noise * policy.log_std.exp()
    uniform = torch.rand(policy.logits.shape, generator=rng, device=policy.logits.device)
    return (policy.logits - (-uniform.log()).log()).argmax(-1)  # the Gumbel trick: softmax is never taken


def likeliest(policy: PolicyOutput) -> Tensor:
    return policy.logits if policy.log_std is not None else policy.logits.argmax(-1)


def log_prob(policy: PolicyOutput, action: Tensor) -> Tensor:
    """log π(a|s) [T,B]; of a continuous action the density's logarithm, summed over its dimensions."""
    if policy.log_std is not None:
        z = (action - policy.logits) / policy.log_std.exp()
        return -(0.5 * z**2 + policy.log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
    return policy.logits.log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def entropy(policy: PolicyOutput) -> Tensor:
    """[T,B] nats."""
    if policy.log_std is not None:
        whole = (policy.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        return whole.expand(policy.logits.shape[:-1])
    log_p = policy.logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def head_of(policy: PolicyOutput) -> PolicyOutput:
    """Without the last step: what T-1 transitions need of T steps."""
    return policy._replace(logits=policy.logits[:-1], value=policy.value[:-1])


def unpack(steps: Step, config: PolicyGradientConfig) -> TransitionBatch:
    """Leaves [T-1,B], rewards clipped if the config says so."""
    return transitions(steps._replace(reward=clip_reward(steps.reward, config.reward_clip)), config.discount)


def columns(x: Tensor, valid: Tensor) -> Tensor:
    """x [T,B] -> [B], whose mean is the mean of x over the steps that are `valid` [T,B]."""
    return (x * valid).sum(0) * (valid.shape[1] / valid.sum().clamp(min=1))


def mean(x: Tensor, valid: Tensor) -> Tensor:
    """Over the valid steps, detached."""
    return (x.detach() * valid).sum() / valid.sum().clamp(min=1)


def explained_variance(value: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """1 - Var[target - value] / Var[target] over the valid steps: 1 is perfect, 0 is no better than a constant."""
    error, target = (target - value).detach()[valid], target.detach()[valid]
    return 1 - error.var(correction=0) / target.var(correction=0).clamp(min=1e-8)
