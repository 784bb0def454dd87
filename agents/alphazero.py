"""AlphaZero (Silver et al. 2018): a net that judges positions and a search that improves on it teach each other by self-play.

    p, v = f_θ(s)                      policy and value to the player to move
    π, q = search(s; p, v)             the improved policy, and the value of the root
    L    = CE(π, p) + c_v CE(z', v)    z' = (1 - λ) z + λ q, z the game's outcome to the player who moved at s

`act` searches and plays the best move; self-play (`rlsuite/acting/selfplay.py`) does the same in many games at once, with noise.

Two searches: `method: puct` is the paper's, with Dirichlet noise at the root and visits as π; `gumbel` (the default here) is Gumbel
AlphaZero's (Danihelka et al. 2022), whose π improves on p with as few as 16 simulations.

Where we differ: values have three outcomes (win, draw, loss), a target between -1 and 1 meaning so much of a win or a loss and the
rest of a draw, unless `value: scalar`; λ is not 0 by default; what the rules prove counts as known in the search (`solve`); some
games may begin with random moves (`opening_fraction`), so that the net has met positions that it would not play to; positions are
turned at random when they are learned from, as AlphaGo Zero did.

Shapes: T = 1 step, B batch, A actions, N positions, C planes of H x W, S symmetries.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from rlsuite.acting.selfplay import SelfPlayAgent, SelfPlayConfig
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Extra, Games, Loss, Mode, Net
from rlsuite.core.types import EnvSpec, State, Step, Trajectory
from rlsuite.nets.board_net import BoardNet
from rlsuite.search.evaluators import PolicyValue
from rlsuite.search.search import search_rows


class AlphaZeroConfig(SelfPlayConfig):
    value: Literal["wdl", "scalar"] = "wdl"
    """How the net values a position: chances of win, draw and loss, or one number."""
    value_weight: float = Field(1.0, ge=0)
    """c_v: weight of the value loss."""
    search_value_fraction: float = Field(0.5, ge=0, le=1)
    """λ: weight of the search's value in the value target, against the game's outcome."""
    symmetries: bool = True
    """Learn from a random one of the symmetric images of each position."""


class AlphaZero(SelfPlayAgent):
    """A policy-value net, improved by search in self-play and in play."""

    Config: ClassVar[type[AlphaZeroConfig]] = AlphaZeroConfig
    has_target = False
    config: AlphaZeroConfig

    def __init__(self, config: AlphaZeroConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        self.sequence = Games(
            (Extra("policy", (spec.num_actions,), "float32"), Extra("value", (), "float32"), Extra("outcome", (), "float32"))
        )

    def make_net(self) -> BoardNet:
        return BoardNet(self.net_config, self.spec, 3 if self.config.value == "wdl" else 1, self.game.plane_scale)

    def evaluate(self, net: Net, planes: NDArray[np.int8]) -> PolicyValue:
        """Planes [N,C,H,W] -> logits [N,A] f32 and values [N] f32."""
        device = next(net.parameters()).device
        found = net.evaluate(torch.from_numpy(planes).to(device))  # type: ignore[operator]
        return found.logits.detach().cpu().numpy(), found.value.detach().cpu().numpy()

    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Searches the positions `step.extras["row"]` [1,B,R]. Actions [B]; 0 where nothing is legal, the game being over."""
        rows = step.extras["row"][0].cpu().numpy()  # [B,R]
        running = np.flatnonzero(step.extras["action_mask"][0].any(-1).cpu().numpy())  # where the game is not over
        action = np.zeros(len(rows), np.int64)  # [B]
        if running.size:
            seed = int(torch.randint(2**31, (), generator=mode.rng, device=mode.rng.device))
            method = self.config.explore() if mode.explore else self.config.play()
            found = search_rows(
                self.game, rows[running], self.evaluator(net), self.config.eval_simulations, method, seed, solve=self.config.solve
            )
            action[running] = found.action
        return torch.from_numpy(action), state, {}

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps, config = trajectory.steps, self.config
        planes, policy = self._turned(steps.observation[0], steps.extras["policy"][0], rng)  # [B,C,H,W], [B,A]
        z, q = steps.extras["outcome"][0], steps.extras["value"][0]  # [B]
        goal = (1 - config.search_value_fraction) * z + config.search_value_fraction * q  # [B]
        found = net.evaluate(planes)  # type: ignore[operator]
        log_p = found.logits.log_softmax(-1)  # [B,A]
        policy_loss = -(policy * log_p).sum(-1)  # [B]
        if config.value == "wdl":
            shares = torch.stack([goal.clamp(min=0), 1 - goal.abs(), (-goal).clamp(min=0)], -1)  # [B,3]
            value_loss = -(shares * found.outcome.log_softmax(-1)).sum(-1)  # [B]
        else:
            value_loss = (found.value - goal) ** 2  # [B]
        with torch.no_grad():
            metrics = {
                "losses/policy_loss": policy_loss.mean(),
                "losses/value_loss": value_loss.mean(),
                "losses/kl_to_search": (policy_loss + (policy * policy.clamp(min=1e-30).log()).sum(-1)).mean(),
                "losses/entropy": -(log_p.exp() * log_p).sum(-1).mean(),
                "losses/value_error": ((found.value - z) ** 2).mean(),
            }
        return Loss(policy_loss + config.value_weight * value_loss, None, metrics)

    def _turned(self, planes: Tensor, policy: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random symmetric image of each position: planes [B,C,H,W], policy [B,A]."""
        count = len(self.game.cell_maps)
        if not self.config.symmetries or count == 1:
            return planes, policy
        which = torch.randint(count, planes.shape[:1], generator=rng, device=planes.device)  # [B]
        cells, actions = _on(self.game.cell_maps, planes.device)[which], _on(self.game.action_maps, planes.device)[which]
        flat = planes.flatten(2)  # [B,C,H*W]
        turned = flat.gather(2, cells.unsqueeze(1).expand(-1, flat.shape[1], -1)).view_as(planes)
        return turned, policy.gather(1, actions)


def _on(maps: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(maps).to(device, torch.int64)
