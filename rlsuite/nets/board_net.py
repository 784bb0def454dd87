"""Policy and value net for board positions. Shapes: T time, B batch, A actions, C planes of H x W, N positions."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.core.types import State, Step
from rlsuite.nets.backbones import make_backbone
from rlsuite.nets.precision import keep_fp32

_POLICY_PLANES, _VALUE_PLANES = 8, 16
_MOST_CELLS = 19 * 19  # of a board of any size


# Keys that have no effect on this net: it has no layer normalisation of its own, and its `evaluate` is not compiled.
IGNORED = ("net.layer_norm", "learner.compile")


class BoardOutput(NamedTuple):
    """Policy and outcome of positions, from the point of view of the player to move."""

    logits: Tensor  # [...,A] f32
    outcome: Tensor  # [...,3] f32: logits of win, draw and loss; or [...,1]: the value before its tanh

    @property
    def value(self) -> Tensor:
        """Expected result, [...] f32 in [-1, 1]."""
        if self.outcome.shape[-1] == 1:
            return self.outcome.squeeze(-1).tanh()
        share = self.outcome.softmax(-1)
        return share[..., 0] - share[..., 2]


class Evaluation(NamedTuple):
    """Logits and values of positions, all that a player needs of a `BoardOutput`, from a net or its replacement."""

    logits: Tensor  # [N,A] f32
    value: Tensor  # [N] f32, in [-1, 1]


class Territory(NamedTuple):
    """Predicted owners and lead at the end of a game decided by cells, from the point of view of the player to move."""

    owners: Tensor  # [N,H*W] f32: logits that a cell is the player's at the end
    lead: Tensor  # [N,2*M+1] f32: logits of the number of cells by which the player leads, from -M on; M = H*W, or 19 x 19


def pooled(planes: Tensor) -> Tensor:
    """Means and maxima of planes [N,C,H,W] over the board: [N,2*C]."""
    return torch.cat([planes.mean((2, 3)), planes.amax((2, 3))], 1)


class CellPolicy(nn.Module):
    """A policy for boards of any size: a convolution gives every cell's logit, a dense layer on pooled planes that of the pass."""

    def __init__(self, channels: int, passes: bool):
        super().__init__()
        self.cells = keep_fp32(nn.Conv2d(channels, 1, 1))
        self.passing = keep_fp32(nn.Linear(2 * channels, 1)) if passes else None

    def forward(self, planes: Tensor) -> Tensor:
        """planes [N,C,H,W] -> logits [N,H*W] or [N,H*W+1]."""
        cells = self.cells(planes).flatten(1)
        return cells if self.passing is None else torch.cat([cells, self.passing(pooled(planes))], 1)


class BoardNet(nn.Module):
    """A backbone with a policy head and a value head (Silver et al. 2017, Methods). The last layers run in fp32.

    With `territory`, it also has heads for the cells' final owners and for the lead (Wu 2019, section 4.1), used in training only.
    """

    def __init__(self, net: NetConfig, game: Game, outcomes: int, territory: bool = False):
        """`outcomes`: 3 or 1, the width of `BoardOutput.outcome`.

        UsageError if the backbone named by `net.torso` changes the size of the board, or does not suit the game.
        """
        super().__init__()
        self.scale = game.plane_scale
        channels, height, width = game.observation_shape
        self.backbone = make_backbone(net.torso, channels, game=game)
        if any(stride != 1 for stride in self.backbone.strides):
            raise UsageError(
                f"net.torso={net.torso} shrinks the board: use one that keeps its size, such as tower(width=32,depth=4)"
            )
        features, cells = self.backbone.channels[-1], height * width
        self.any_size = net.any_size
        if self.any_size and game.num_actions - cells not in (0, 1):
            raise UsageError(f"net.any_size = true: the actions of {game.name} are not its cells and a pass; use false")
        self.policy_planes = nn.Sequential(nn.Conv2d(features, _POLICY_PLANES, 1), nn.ReLU())
        self.policy: nn.Module = (
            CellPolicy(_POLICY_PLANES, passes=game.num_actions > cells)
            if self.any_size
            else keep_fp32(nn.Linear(_POLICY_PLANES * cells, game.num_actions))
        )
        self.value_planes = nn.Sequential(nn.Conv2d(features, _VALUE_PLANES, 1), nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(_VALUE_PLANES * (2 if self.any_size else cells), net.hidden), nn.ReLU())
        self.outcome = keep_fp32(nn.Linear(net.hidden, outcomes))
        for last in (*(part for part in self.policy.modules() if isinstance(part, nn.Linear | nn.Conv2d)), self.outcome):
            nn.init.orthogonal_(last.weight, 0.1)
            if last.bias is not None:
                nn.init.zeros_(last.bias)
        if territory:
            self.owners = keep_fp32(nn.Conv2d(features, 1, 1))
            self.lead = keep_fp32(nn.Linear(net.hidden, 2 * (_MOST_CELLS if self.any_size else cells) + 1))

    def evaluate(self, planes: Tensor) -> BoardOutput:
        """planes [N,C,H,W] int8, on any device -> output with leaves [N,...], on the net's device."""
        return self._heads(*self._features(planes))

    def evaluate_all(self, planes: Tensor) -> tuple[BoardOutput, Territory]:
        """The output of `evaluate`, and that of the territory heads."""
        x, value = self._features(planes)
        with torch.autocast(x.device.type, enabled=False):
            territory = Territory(self.owners(x.float()).flatten(1), self.lead(value.float()))
        return self._heads(x, value), territory

    def _features(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """planes [N,C,H,W] int8 -> the backbone's map [N,features,H,W], and the value head's hidden layer [N,hidden]."""
        planes = planes.to(self.outcome.weight.device)
        kind = planes.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        x = planes.to(dtype).contiguous(memory_format=torch.channels_last)
        if self.scale != 1:
            x = x * self.scale
        x = self.backbone(x)[-1]
        found = self.value_planes(x)
        return x, self.hidden(pooled(found) if self.any_size else found.flatten(1))

    def _heads(self, x: Tensor, value: Tensor) -> BoardOutput:
        policy = self.policy_planes(x)
        if not self.any_size:
            policy = policy.flatten(1)
        with torch.autocast(x.device.type, enabled=False):
            return BoardOutput(self.policy(policy.float()), self.outcome(value.float()))

    def forward(self, step: Step, state: State) -> tuple[BoardOutput, State]:
        """(step [T,B,...], state) -> (output with leaves [T,B,...], the same state)."""
        t, b = step.observation.shape[:2]
        output = self.evaluate(step.observation.flatten(0, 1))  # [T*B,...]
        return BoardOutput(*(leaf.view(t, b, -1) for leaf in output)), state
