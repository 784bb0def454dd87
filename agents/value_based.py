"""Shared parts of agents that act on action values: settings, exploration and noise. Shapes: B batch, A actions."""

import copy
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rlsuite.agents.net_agent import NetAgent
from rlsuite.agents.self_prediction import self_prediction
from rlsuite.config.conditions import OnlyIf
from rlsuite.config.schema import AgentSection, NetConfig
from rlsuite.core.agent import Capability, Loss, Mode, Net, Transitions
from rlsuite.core.masks import FORBIDDEN, allowed, masked
from rlsuite.core.returns import NStep, learned_reward, n_step
from rlsuite.core.schedules import geometric, linear
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, flatten_time, part_of, transitions
from rlsuite.nets.heads import clear_noise, resample_noise

_SCHEDULE, _LADDER = OnlyIf("epsilon_ladder = false"), OnlyIf("epsilon_ladder = true")


class ValueConfig(AgentSection):
    """Settings of every agent that acts on action values."""

    discount: float = Field(0.99, ge=0, le=1)
    """Discount γ, per agent step."""
    n_steps: int = Field(1, ge=1, le=1000)
    """n of the n-step target."""
    anneal_learner_steps: int | None = Field(None, ge=1)
    """Learner steps, counted from the start and from each reset, over which discount and n_steps change; null: constant."""
    discount_end: Annotated[float | None, OnlyIf("anneal_learner_steps")] = Field(None, ge=0, lt=1)
    """Discount after annealing, during which 1 - γ changes geometrically; null: constant."""
    n_steps_end: Annotated[int | None, OnlyIf("anneal_learner_steps")] = Field(None, ge=1)
    """n after annealing, at most n_steps; it changes geometrically and is rounded; null: constant."""
    spr_weight: float = Field(0.0, ge=0)
    """Weight of the auxiliary self-predictive loss (SPR); 0: none."""
    spr_steps: Annotated[int, OnlyIf("spr_weight > 0")] = Field(5, ge=1, le=100)
    """Steps that SPR predicts ahead."""
    double: bool = False
    """Double Q-learning: the online net chooses the bootstrap action, the target net evaluates it."""
    munchausen: bool = False
    """Munchausen RL: bootstrap from the soft value of a softmax policy, and add the action's log-probability to its reward."""
    munchausen_scale: Annotated[float, OnlyIf("munchausen = true")] = Field(0.9, ge=0, le=1)
    """α: weight of the log-probability in the reward."""
    munchausen_temperature: Annotated[float, OnlyIf("munchausen = true")] = Field(0.03, gt=0)
    """τ: temperature of the softmax policy."""
    munchausen_clip: Annotated[float, OnlyIf("munchausen = true")] = Field(-1.0, le=0)
    """l₀: lower bound on τ log π(a|s)."""
    dueling: bool = False
    """Dueling head: separate streams for the value and the advantages."""
    noisy: bool = False
    """Explore with noisy layers in the head, in addition to ε; for noise alone, set `epsilon_start` and `epsilon_end` to 0."""
    noisy_sigma: Annotated[float, OnlyIf("noisy = true")] = Field(0.5, gt=0)
    """Initial scale σ₀ of the noise."""
    reward_clip: float | None = Field(1.0, gt=0)
    """Clip rewards to ± this in the loss; null: raw rewards."""
    epsilon_start: Annotated[float, _SCHEDULE] = Field(1.0, ge=0, le=1)
    """ε at the first agent step."""
    epsilon_end: Annotated[float, _SCHEDULE] = Field(0.01, ge=0, le=1)
    """ε after its decay."""
    epsilon_decay_agent_steps: Annotated[int, _SCHEDULE, OnlyIf("epsilon_end other than epsilon_start")] = Field(1_000_000, ge=0)
    """Agent steps over which ε decays linearly."""
    epsilon_eval: float = Field(0.001, ge=0, le=1)
    """ε in evaluations."""
    epsilon_ladder: bool = False
    """Give each environment its own constant ε, as in Ape-X, instead of the schedule."""
    epsilon_base: Annotated[float, _LADDER] = Field(0.4, gt=0, lt=1)
    """Ladder: environment i of N has ε = base^(1 + power · i / (N - 1))."""
    epsilon_power: Annotated[float, _LADDER] = Field(7.0, ge=0)
    """Ladder: the power in that formula."""

    @model_validator(mode="after")
    def _explores_at_all(self) -> "ValueConfig":
        if not self.noisy and not self.epsilon_ladder and self.epsilon_start == 0 and self.epsilon_end == 0:
            raise ValueError("epsilon_start and epsilon_end are both 0 and noisy is false: the agent would never explore")
        return self

    @model_validator(mode="after")
    def _one_target(self) -> "ValueConfig":
        if self.munchausen and self.double:
            raise ValueError("munchausen averages over a policy, where double chooses one action: use one of them")
        return self

    @model_validator(mode="after")
    def _anneals(self) -> "ValueConfig":
        if self.n_steps_end is not None and self.n_steps_end > self.n_steps:
            raise ValueError(f"n_steps_end = {self.n_steps_end} is larger than n_steps = {self.n_steps}, the length of sequences")
        if self.discount_end is not None and self.discount == 1:
            raise ValueError("discount_end needs a discount below 1: 1 - discount changes in equal ratios")
        return self

    @property
    def sigma(self) -> float | None:
        """Initial noise scale σ₀, or None without noisy layers."""
        return self.noisy_sigma if self.noisy else None


class ValueAgent(NetAgent):
    """Base class of agents that act on action values, ε-greedily or with noisy layers, and learn from n-step transitions.

    A subclass implements `make_net`, `q_values` and `loss`.
    """

    heads: ClassVar[tuple[str, ...]] = ("head",)
    takes_munchausen: ClassVar[bool] = False  # whether its loss supports the setting `munchausen`
    self_predicts: ClassVar[bool] = False  # whether it supports `spr_weight`, with a `QNet` and `plus_self_prediction`
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"inference server", "net.auxiliary", "agent.novelty"})
    Config: ClassVar[type[ValueConfig]] = ValueConfig
    config: ValueConfig

    def __init__(self, config: ValueConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        self.predicts = self.self_predicts and config.spr_weight > 0
        longest = max(config.n_steps, config.spr_steps) if self.predicts else config.n_steps
        whole = self.predicts or config.n_steps_end is not None or self.novelty is not None
        self.sequence = Transitions(longest, whole=whole)

    @classmethod
    def ignores(cls, config: Any) -> dict[str, str]:
        """Also ignores the keys of the self-predictive loss and `munchausen` if the agent does not support them."""
        ignored = super().ignores(config)
        if not cls.takes_munchausen:
            ignored["agent.munchausen"] = f"agent.name = dqn, qrdqn or iqn; {config.agent.name} has another target"
        if not cls.self_predicts:
            needs = f"agent.name = dqn, c51 or qrdqn; {config.agent.name} has no self-predictive loss"
            ignored |= {"agent.spr_weight": needs, "agent.spr_steps": needs}
        return ignored

    @classmethod
    def validate(cls, config: Any) -> None:
        """Also refuses CUDA graphs if discount or n_steps is annealed, and noisy layers with an inference server."""
        super().validate(config)
        if config.agent.noisy and config.runtime.inference == "server":
            raise ValueError("agent.noisy: every collector draws noise for its own net; use runtime.inference collector")
        if config.learner.cuda_graphs and config.agent.anneal_learner_steps is not None:
            raise ValueError("learner.cuda_graphs records one loss for all updates: use agent.anneal_learner_steps null")

    def at(self, updates: int) -> Self:
        config = self.config
        if config.anneal_learner_steps is None:
            return self
        now: dict[str, float] = {}
        if config.discount_end is not None:
            now["discount"] = 1 - geometric(1 - config.discount, 1 - config.discount_end, config.anneal_learner_steps, updates)
        if config.n_steps_end is not None:
            now["n_steps"] = round(geometric(config.n_steps, config.n_steps_end, config.anneal_learner_steps, updates))
        one = copy.copy(self)
        one.config = config.model_copy(update=now)
        return one

    def used(self, trajectory: Trajectory) -> Trajectory:
        """The first n + 1 steps, with two observations, if those between were kept for an annealed n or for bonuses."""
        if self.predicts or not isinstance(self.sequence, Transitions) or not self.sequence.whole:
            return trajectory
        return trajectory._replace(steps=part_of(trajectory.steps, slice(self.config.n_steps + 1))).sparse()

    def plus_self_prediction(self, loss: Loss, net: Net, target: Net, trajectory: Trajectory) -> Loss:
        """Adds the weighted self-predictive loss to a loss, if the agent has one. `net`, `target`: each a `QNet`."""
        if not self.predicts:
            return loss
        spr = self_prediction(net, target, trajectory.steps, self.config.spr_steps)  # [B]
        metrics = {**loss.metrics, "losses/spr": spr.detach().mean()}
        return loss._replace(loss=loss.loss + self.config.spr_weight * spr, metrics=metrics)

    @abstractmethod
    def q_values(self, net: Net, step: Step, state: State, rng: torch.Generator | None) -> tuple[Tensor, State]:
        """Q(s, ·) [B,A] f32 and the new recurrent state for `step`, leaves [1,B,...].

        `rng`: for agents that sample quantiles; None: they take evenly spaced ones.
        """

    def scores(self, net: Net, steps: Step, state: State) -> tuple[Tensor, State]:
        flat = flatten_time(Trajectory(steps, ())).steps  # [1,T*B,...]: without a memory every step stands by itself
        return self.q_values(net, flat, state, None)[0].view(*steps.first.shape, -1), state

    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        set_noise(net, step.first.shape[1], mode)
        q, state = self.q_values(net, step, state, mode.rng)  # [B,A]
        return epsilon_greedy(q, self.config, mode, step), state, {}


def set_noise(net: nn.Module, batch: int, mode: Mode) -> None:
    """Samples new noise for each of `batch` rows when exploring, else uses the mean weights. No effect without noisy layers."""
    if mode.explore:
        resample_noise(net, batch, mode.rng)
    else:
        clear_noise(net)


def epsilon_greedy(q: Tensor, config: ValueConfig, mode: Mode, step: Step | None = None) -> Tensor:
    """ε-greedy actions [B] i64 from action values q [B,A], among those that the action mask of `step` [1,B,...] allows."""
    epsilon: float | Tensor = config.epsilon_eval
    if mode.explore and config.epsilon_ladder:
        epsilon = ladder(config, mode, q.shape[0], q.device)  # [B]
    elif mode.explore:
        epsilon = linear(config.epsilon_start, config.epsilon_end, config.epsilon_decay_agent_steps, at=mode.agent_steps)
    mask = None if step is None else allowed(step)  # [1,B,A] bool
    greedy = (q if mask is None else q.masked_fill(~mask[0], FORBIDDEN)).argmax(-1)  # [B]
    explore = torch.rand(greedy.shape, generator=mode.rng, device=q.device) < epsilon  # [B]
    if mask is None:
        uniform = torch.randint(q.shape[-1], greedy.shape, generator=mode.rng, device=q.device)  # [B]
    else:
        uniform = mask[0].float().multinomial(1, generator=mode.rng).squeeze(-1)  # [B]
    return torch.where(explore, uniform, greedy)


def ladder(config: ValueConfig, mode: Mode, num_envs: int, device: torch.device | None = None) -> Tensor:
    """The constant ε [B] f32 of each environment, by its index among those of all collectors (Horgan et al. 2018, section 4.1)."""
    last = max((mode.total_envs or num_envs) - 1, 1)
    env_index = mode.first_env + torch.arange(num_envs, device=device)  # [B]
    return config.epsilon_base ** (1 + config.epsilon_power * env_index / last)


def unpack(trajectory: Trajectory, config: ValueConfig, rng: torch.Generator) -> tuple[Step, Step, NStep, Mode, int]:
    """The inputs of a value loss: first and bootstrap step [1,B,...], n-step returns [B], the mode for sampling noise, and B.

    Steps of the trajectory after step n are left out.
    """
    steps = trajectory.steps
    if steps.reward.shape[0] > config.n_steps + 1:  # such a trajectory has observations at all steps
        steps = part_of(steps, slice(config.n_steps + 1))
    trajectory = trajectory._replace(steps=steps._replace(reward=learned_reward(steps, config.reward_clip)))
    start, end = trajectory.start(), trajectory.bootstrap()
    returns = n_step(transitions(trajectory.steps, config.discount))
    return start, end, returns, Mode(explore=True, agent_steps=0, rng=rng), start.first.shape[1]


def soft_policy(q: Tensor, step: Step, config: ValueConfig) -> tuple[Tensor, Tensor]:
    """The policy π = softmax(q / τ) over allowed actions and τ log π, each [B,A], from q [B,A] of `step` [1,B,...]."""
    log_pi = (masked(q, step) / config.munchausen_temperature).log_softmax(-1)
    return log_pi.exp(), config.munchausen_temperature * log_pi


def munchausen(q: Tensor, step: Step, config: ValueConfig) -> Tensor:
    """α clip(τ log π(a|s), l₀, 0) [B], to add to the reward of `step` [1,B,...], from q [B,A] of the target net there."""
    chosen = take(soft_policy(q, step, config)[1], step.action[0])  # [B]
    return config.munchausen_scale * chosen.clamp(config.munchausen_clip, 0.0)


def take(values: Tensor, action: Tensor) -> Tensor:
    """The entries of the chosen actions: values [B,A,...], action [B] i64 -> [B,...]."""
    return values[torch.arange(action.shape[0], device=action.device), action]
