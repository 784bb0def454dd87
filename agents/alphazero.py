"""AlphaZero (Silver et al. 2018): a net that evaluates positions, trained in self-play on the results of searches that use it.

    p, v = f_θ(s)                      policy and value for the player to move
    π, q = search(s; p, v)             the improved policy, and the value of the root
    L    = CE(π, p) + c_v CE(z', v)    z' = (1 - λ) z + λ q, z the game's outcome for the player who moved at s

`act` searches and plays the best move; self-play (`rlsuite/acting/selfplay.py`) does the same in many games at once, with noise.

Two searches: `method: puct` is the paper's, with Dirichlet noise at the root and π from the visit counts; `gumbel` (the default) is
Gumbel AlphaZero's (Danihelka et al. 2022), whose π improves on p with as few as 16 simulations.

Where we differ: the value is a distribution over win, draw and loss, unless `value: scalar`, and a target between -1 and 1 is a
mixture of a draw with a win or a loss; λ is not 0 by default; the search uses values that the rules prove (`solve`); a share of the
games may begin with random moves (`opening_fraction`), so that the net sees positions that it would not play into; each position is
learned from in a random symmetric image, as in AlphaGo Zero.

Shapes: T = 1 step, B batch, A actions, N positions, C planes of H x W, S symmetries.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from rlsuite.acting.selfplay import SelfPlayAgent, SelfPlayConfig
from rlsuite.config import schema
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Extra, Games, Loss, Net
from rlsuite.core.types import EnvSpec, Trajectory
from rlsuite.nets.board_net import IGNORED, BoardNet
from rlsuite.search.evaluators import PolicyValue


class AlphaZeroConfig(SelfPlayConfig):
    """Settings of AlphaZero."""

    value: Literal["wdl", "scalar"] = "wdl"
    """The net's value: probabilities of win, draw and loss (wdl), or a single number (scalar)."""
    value_weight: float = Field(1.0, ge=0)
    """c_v: weight of the value loss."""
    search_value_fraction: float = Field(0.5, ge=0, le=1)
    """λ: weight of the search's value in the value target; the game's outcome gets the rest."""
    symmetries: bool = True
    """Learn from a random symmetric image of each position."""


class AlphaZero(SelfPlayAgent):
    """AlphaZero agent: a policy-value net, improved by search in self-play and in play."""

    Config: ClassVar[type[AlphaZeroConfig]] = AlphaZeroConfig
    has_target = False
    capabilities = frozenset({"inference server"})
    config: AlphaZeroConfig

    def __init__(self, config: AlphaZeroConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        self.sequence = Games(
            (Extra("policy", (spec.num_actions,), "float32"), Extra("value", (), "float32"), Extra("outcome", (), "float32"))
        )
        self._maps: dict[torch.device, tuple[Tensor, ...]] = {}

    @classmethod
    def ignores(cls, config: schema.Config) -> dict[str, str]:
        """Also what a `BoardNet` ignores."""
        needs = f"agent.name = an agent with another net than that of {config.agent.name}"
        return super().ignores(config) | dict.fromkeys(IGNORED, needs)

    def make_net(self) -> BoardNet:
        return BoardNet(self.net_config, self.spec, 3 if self.config.value == "wdl" else 1, self.game.plane_scale)

    def evaluate(self, net: Net, planes: NDArray[np.int8]) -> PolicyValue:
        """Evaluates planes [N,C,H,W] int8: logits [N,A] f32, and values [N] f32 for the player to move."""
        output = net.evaluate(torch.from_numpy(planes))  # type: ignore[operator]
        return output.logits.detach().cpu().numpy(), output.value.detach().cpu().numpy()

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps, config = trajectory.steps, self.config
        planes, policy = self._turned(steps.observation[0], steps.extras["policy"][0], rng)  # [B,C,H,W], [B,A]
        z, q = steps.extras["outcome"][0], steps.extras["value"][0]  # [B]
        value_target = (1 - config.search_value_fraction) * z + config.search_value_fraction * q  # [B]
        output = net.evaluate(planes)  # type: ignore[operator]
        log_p = output.logits.log_softmax(-1)  # [B,A]
        policy_loss = -(policy * log_p).sum(-1)  # [B]
        if config.value == "wdl":
            wdl = torch.stack([value_target.clamp(min=0), 1 - value_target.abs(), (-value_target).clamp(min=0)], -1)  # [B,3]
            value_loss = -(wdl * output.outcome.log_softmax(-1)).sum(-1)  # [B]
        else:
            value_loss = (output.value - value_target) ** 2  # [B]
        with torch.no_grad():
            metrics = {
                "losses/policy_loss": policy_loss.mean(),
                "losses/value_loss": value_loss.mean(),
                "losses/kl_to_search": (policy_loss + (policy * policy.clamp(min=1e-30).log()).sum(-1)).mean(),
                "losses/entropy": -(log_p.exp() * log_p).sum(-1).mean(),
                "losses/value_error": ((output.value - z) ** 2).mean(),
            }
        return Loss(policy_loss + config.value_weight * value_loss, None, metrics)

    def _turned(self, planes: Tensor, policy: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random symmetric image of each position: planes [B,C,H,W], policy [B,A]."""
        count = len(self.game.cell_maps)
        if not self.config.symmetries or count == 1:
            return planes, policy
        chosen = torch.randint(count, planes.shape[:1], generator=rng, device=planes.device)  # [B]
        cells, actions = (maps[chosen] for maps in self._symmetries(planes.device))
        flat = planes.flatten(2)  # [B,C,H*W]
        turned = flat.gather(2, cells.unsqueeze(1).expand(-1, flat.shape[1], -1)).view_as(planes)
        return turned, policy.gather(1, actions)

    def _symmetries(self, device: torch.device) -> tuple[Tensor, ...]:
        """The game's maps of cells and of actions, i64, on a device, where they stay: an update would wait for a copy."""
        if device not in self._maps:
            maps = (self.game.cell_maps, self.game.action_maps)
            self._maps[device] = tuple(torch.from_numpy(one).to(device, torch.int64) for one in maps)
        return self._maps[device]
