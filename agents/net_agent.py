"""Auxiliary losses and novelty bonuses, for every agent with one of our nets.

`net.auxiliary`: a decoder reconstructs observations from the features of the agent's torso, and its error also trains the torso.
This loss needs only net and observations. The self-predictive loss (agents/self_prediction.py) also needs actions, a target net and
sequences, so it belongs to the agents that have them.

`agent.novelty`: bonuses for novel observations (nets/novelty.py). A bonus comes with the observation that an action led to, so the
first observation of an episode has none. Bonuses are computed once for each batch, when it is learned from, and added to clipped
rewards. An agent with `bonus_has_value` instead learns a separate value of bonuses. This value continues across episode ends and
has its own discount (Burda et al. 2018, section 2.3); its advantage, times the bonus's weight, is added to that of rewards. The
predictor is a part of the net with its own optimizer; it learns from all observations of a batch that have bonuses.

Where we differ from the paper: it uses 2 A_reward + 1 A_bonus, which is twice ours at the default weight of 0.5.

Shapes: T time, B batch.
"""

from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from rlsuite.config import schema
from rlsuite.config.auxiliary import DISCOUNT, auxiliary_of, novelty_of
from rlsuite.core.agent import Agent, Loss, Net, Objective, Part
from rlsuite.core.errors import UsageError
from rlsuite.core.returns import BONUS
from rlsuite.core.types import EnvSpec, Trajectory
from rlsuite.nets.auxiliary import Reconstruction, torso_of
from rlsuite.nets.novelty import Novelty, make_novelty

Module = TypeVar("Module", bound=nn.Module)

APART = "bonus_apart"  # of `Step.extras`: f32 [T,B], bonuses that are not added to rewards
AGENT, NOVELTY = "agent", "novelty"  # parts of the net


class NetAgent(Agent):
    """Base class of agents that support auxiliary losses and novelty bonuses.

    A subclass returns `extended(net)` from `make_net`, and in its `loss` adds the auxiliary loss by `plus_auxiliary` and reads
    rewards by `core.returns.learned_reward`.
    """

    bonus_has_value: ClassVar[bool] = False  # whether its net can learn a separate value of bonuses, for its `loss` to use

    def __init__(self, config: Any, net: Any, spec: EnvSpec):
        super().__init__(config, net, spec)
        self.novelty = novelty_of(config.novelty)

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """Also refuses, for novelty bonuses, several learners and a discount that has no effect."""
        super().validate(config)
        novelty = novelty_of(config.agent.novelty)
        if novelty is None:
            return
        if novelty.discount is not None and not cls.bonus_has_value:
            raise ValueError(
                f"agent.novelty = {config.agent.novelty}: discount has no effect with agent.name = {config.agent.name}, which adds "
                "bonuses to rewards and discounts both by agent.discount; leave it out"
            )
        if config.runtime.learners > 1:
            raise ValueError("agent.novelty normalises by the running statistics of one learner: use runtime.learners 1")

    @property
    def values_bonus(self) -> bool:
        """Whether the agent's net learns a separate value of bonuses."""
        return self.novelty is not None and self.bonus_has_value

    @property
    def bonus_discount(self) -> float:
        """γ of the value of bonuses."""
        assert self.novelty is not None
        return self.novelty.discount or DISCOUNT

    def extended(self, net: Module) -> Module:
        """Adds the auxiliary and novelty modules to an agent's new net. UsageError for observations that they do not support."""
        auxiliary = auxiliary_of(self.net_config.auxiliary)
        if auxiliary is not None:
            net.add_module("auxiliary", Reconstruction(torso_of(net), self.spec, auxiliary))
        if self.novelty is not None:
            net.add_module(NOVELTY, make_novelty(self.spec, self.novelty, self.bonus_discount if self.values_bonus else None))
        return net

    def plus_auxiliary(self, loss: Loss, net: Any, observation: Tensor) -> Loss:
        """Adds the weighted auxiliary loss of observations [T,B,...] to a loss, if the agent has one."""
        if self.net_config.auxiliary == "none":
            return loss
        error = net.auxiliary(torso_of(net)(observation), observation).mean(0)  # [B]
        metrics = {**loss.metrics, "losses/reconstruction": error.detach().mean()}
        return loss._replace(loss=loss.loss + net.auxiliary.weight * error, metrics=metrics)

    def observe(self, net: Net, trajectory: Trajectory, learning: bool) -> Trajectory:
        """Adds bonuses to all steps of a trajectory but the first, which none of its actions led to."""
        if self.novelty is None:
            return trajectory
        steps = trajectory.steps
        bonus = _novelty(net).bonus(steps.observation[1:], ~steps.first[1:], learning)  # [T-1,B]
        bonus = torch.cat([torch.zeros_like(bonus[:1]), bonus])  # [T,B]
        added = {APART: bonus} if self.values_bonus else {BONUS: self.novelty.weight * bonus}
        return trajectory._replace(steps=steps._replace(extras={**steps.extras, **added}))

    def parts(self, net: Net) -> dict[str, Part]:
        if self.novelty is None:
            return super().parts(net)
        return {AGENT: Part((net,), without=(_novelty(net),)), NOVELTY: Part((_novelty(net),), self.novelty.rate)}

    def of_part(self, name: str) -> Objective:
        return _Predictor(self) if name == NOVELTY else self


class _Predictor(Objective):
    """Trains the predictor of an agent's net on observations that an action led to."""

    def __init__(self, agent: NetAgent):
        self.agent = agent

    def make_net(self) -> Net:
        return self.agent.make_net()

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps = trajectory.steps
        counted = ~steps.first  # [T,B]
        error = _novelty(net)(steps.observation)  # [T,B]
        share = counted.shape[1] / counted.sum().clamp(min=1)  # so that the mean over columns is that over observations
        bonus = steps.extras[APART if self.agent.values_bonus else BONUS]
        given = counted & (bonus > 0)  # the first step of a sequence has none
        metrics = {"charts/bonus": (bonus * given).sum() / given.sum().clamp(min=1)}
        return Loss((error * counted).sum(0) * share, None, metrics)


def _novelty(net: nn.Module) -> Novelty:
    """The net's novelty module, which computes bonuses. UsageError if the agent's `make_net` did not add it."""
    for name, module in net.named_children():
        if name == NOVELTY and isinstance(module, Novelty):
            return module
    raise UsageError("agent.novelty: the agent's make_net must return self.extended(net), see rlsuite.agents.net_agent")
