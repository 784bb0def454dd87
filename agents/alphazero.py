"""AlphaZero (Silver et al. 2018): a policy-value net, trained in self-play on the results of the searches that it guides.

    p, v = f_θ(s)                      policy and value for the player to move
    π, q = search(s; p, v)             the improved policy, and the value of the root
    L    = CE(π, p) + c_v CE(z', v)    z' = (1 - λ) z + λ q, z the game's outcome for the player who moved at s
         + c_o BCE(o, ô) + c_l CE(l, l̂)  o: final owner of each cell, l: final lead in cells (Wu 2019); both off by default

`act` searches and plays the best move; self-play (`rlsuite/acting/selfplay.py`) does the same in many games at once, with noise.

Two searches: `method: puct` is the paper's, with Dirichlet noise at the root and π from the visit counts; `gumbel` (the default) is
Gumbel AlphaZero's (Danihelka et al. 2022), whose π improves on p with as few as 16 simulations.

Where we differ: the value is a distribution over win, draw and loss, unless `value: scalar`, and a target between -1 and 1 is a
mixture of a draw with a win or a loss; λ is not 0 by default; the search uses values that the rules prove (`solve`); a share of the
games may begin with random moves (`opening_fraction`), so that the net sees positions it would not reach by itself; each position
is learned from under a random symmetry, as in AlphaGo Zero.

Shapes: T = 1 step, B batch, A actions, N positions, C planes of H x W, S symmetries.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from rlsuite.acting.all_sizes import GAME
from rlsuite.acting.selfplay import SelfPlayAgent
from rlsuite.acting.selfplay_config import SelfPlayConfig
from rlsuite.acting.slots import UNKNOWN_OWNER
from rlsuite.config import schema
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Extra, Games, Loss, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.core.types import EnvSpec, Trajectory
from rlsuite.nets.board_net import IGNORED, BoardNet, Territory
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
    """Data augmentation: learn from each position under a random symmetry."""
    owners_weight: float = Field(0.0, ge=0)
    """c_o: weight of the loss for the final owner of each cell, averaged over the cells; Wu (2019) uses 1.5."""
    lead_weight: float = Field(0.0, ge=0)
    """c_l: weight of the loss for the final lead, in cells; Wu (2019) uses 0.02."""


class AlphaZero(SelfPlayAgent):
    """AlphaZero agent: a policy-value net, improved by search in self-play and in play."""

    Config: ClassVar[type[AlphaZeroConfig]] = AlphaZeroConfig
    has_target = False
    capabilities = frozenset({"inference server", "net.any_size"})
    config: AlphaZeroConfig

    def __init__(self, config: AlphaZeroConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        extras = [Extra("policy", (spec.num_actions,), "float32"), Extra("value", (), "float32"), Extra("outcome", (), "float32")]
        self.territory = config.owners_weight > 0 or config.lead_weight > 0
        if self.territory:
            if self.game.rules.owners is None:
                key = "owners_weight" if config.owners_weight > 0 else "lead_weight"
                raise UsageError(f"agent.{key} = {getattr(config, key):g}: in {self.game.name} nobody owns cells; use 0")
            _, height, width = spec.observation_shape
            extras.append(Extra("owners", (height * width,), "int8"))
        if len(self.games) > 1:
            if not net.any_size:
                raise UsageError("env.sizes: a net for boards of several sizes needs net.any_size = true")
            extras.append(Extra(GAME, (), "int8"))
        self.sequence = Games(tuple(extras))
        self._maps: dict[tuple[torch.device, str], tuple[Tensor, ...]] = {}

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """Also refuses CUDA graphs and an inference server for boards of several sizes, as both need fixed shapes."""
        super().validate(config)
        several = len(getattr(config.env, "sizes", ())) > 1
        if several and config.runtime.inference == "server":
            raise ValueError("runtime.inference = server answers boards of one size, and env.sizes has several: use collector")
        if several and config.learner.cuda_graphs:
            raise ValueError("learner.cuda_graphs records one loss for all batches: use it with boards of one size")

    @classmethod
    def ignores(cls, config: schema.Config) -> dict[str, str]:
        """Also ignores what a `BoardNet` ignores."""
        needs = f"agent.name = an agent with another net than that of {config.agent.name}"
        return super().ignores(config) | dict.fromkeys(IGNORED, needs)

    def make_net(self) -> BoardNet:
        outcomes = 3 if self.config.value == "wdl" else 1
        return BoardNet(self.net_config, self.game, outcomes, self.territory)

    def evaluate(self, net: Net, planes: NDArray[np.int8]) -> PolicyValue:
        """Evaluates planes [N,C,H,W] int8: logits [N,A] f32, and values [N] f32 for the player to move."""
        output = net.evaluate(torch.from_numpy(planes))  # type: ignore[operator]
        return output.logits.detach().cpu().numpy(), output.value.detach().cpu().numpy()

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps = trajectory.steps
        if len(self.games) == 1:
            return self._loss(net, self.game, steps.observation[0], {name: leaf[0] for name, leaf in steps.extras.items()}, rng)
        losses, metrics, total = torch.zeros_like(steps.reward[0]), dict[str, Tensor](), steps.reward.shape[1]  # [B]
        for number, game in enumerate(self.games):  # the net sees boards of one size at a time
            rows = torch.nonzero(steps.extras[GAME][0] == number).squeeze(1)
            if not len(rows):
                continue
            _, height, width = game.observation_shape
            sizes = {"policy": game.num_actions, "owners": height * width}
            extras = {name: leaf[0, rows][..., : sizes.get(name)] for name, leaf in steps.extras.items()}
            found = self._loss(net, game, steps.observation[0, rows, :, :height, :width], extras, rng)
            losses = losses.index_copy(0, rows, found.loss)
            for name, value in found.metrics.items():
                metrics[name] = metrics.get(name, 0) + value * (len(rows) / total)
        return Loss(losses, None, metrics)

    def _loss(self, net: Net, game: Game, planes: Tensor, extras: dict[str, Tensor], rng: torch.Generator) -> Loss:
        """The loss of positions of one game: planes [B,C,H,W], extras [B,...]."""
        config, z, q = self.config, extras["outcome"], extras["value"]  # [B]
        planes, policy, owners = self._turned(game, planes, extras["policy"], extras.get("owners"), rng)
        value_target = (1 - config.search_value_fraction) * z + config.search_value_fraction * q  # [B]
        if owners is None:
            output, extra_losses = net.evaluate(planes), None  # type: ignore[operator]
        else:
            output, territory = net.evaluate_all(planes)  # type: ignore[operator]
            extra_losses = territory_losses(territory, owners)
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
        loss = policy_loss + config.value_weight * value_loss  # [B]
        if extra_losses is not None:
            owners_loss, lead_loss = extra_losses  # [B], [B]
            loss = loss + config.owners_weight * owners_loss + config.lead_weight * lead_loss
            metrics |= {"losses/owners_loss": owners_loss.detach().mean(), "losses/lead_loss": lead_loss.detach().mean()}
        return Loss(loss, None, metrics)

    def _turned(
        self, game: Game, planes: Tensor, policy: Tensor, owners: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """A random symmetry of each position, applied to its planes [B,C,H,W], policy [B,A] and owners [B,H*W]."""
        count = len(game.cell_maps)
        if not self.config.symmetries or count == 1:
            return planes, policy, owners
        chosen = torch.randint(count, planes.shape[:1], generator=rng, device=planes.device)  # [B]
        cells, actions = (maps[chosen] for maps in self._symmetries(game, planes.device))
        flat = planes.flatten(2)  # [B,C,H*W]
        turned = flat.gather(2, cells.unsqueeze(1).expand(-1, flat.shape[1], -1)).view_as(planes)
        return turned, policy.gather(1, actions), None if owners is None else owners.gather(1, cells)

    def _symmetries(self, game: Game, device: torch.device) -> tuple[Tensor, ...]:
        """A game's maps of cells and of actions, i64, cached on the device, so that updates need not wait for a copy."""
        if (device, game.name) not in self._maps:
            maps = (game.cell_maps, game.action_maps)
            self._maps[device, game.name] = tuple(torch.from_numpy(one).to(device, torch.int64) for one in maps)
        return self._maps[device, game.name]


def territory_losses(territory: Territory, owners: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of the owners and of the lead [B] f32 (Wu 2019, section 4.1), in nats; 0 where the game was resigned.

    `owners` [B,H*W] int8, from -1 to 1, or `UNKNOWN_OWNER`. A cell that nobody owns is half the player's.
    """
    known = (owners[:, 0] != UNKNOWN_OWNER).float()  # [B]
    share = (owners.clamp(max=1).float() + 1) / 2  # [B,H*W]
    of_owners = F.binary_cross_entropy_with_logits(territory.owners, share, reduction="none").mean(1)
    lead = owners.clamp(max=1).sum(1, dtype=torch.int64) + territory.lead.shape[1] // 2  # [B]
    return known * of_owners, known * F.cross_entropy(territory.lead, lead, reduction="none")
