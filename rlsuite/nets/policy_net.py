"""Policy and value net: torso, dense layer, memory core and two heads.

Shapes: T time, B batch, D features, A actions (or dimensions of a continuous action).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlsuite.config.schema import NetConfig
from rlsuite.core.masks import masked
from rlsuite.core.types import EnvSpec, State, Step
from rlsuite.nets.memory import Core, Make, make_core
from rlsuite.nets.precision import keep_fp32
from rlsuite.nets.torso import Trunk, orthogonal_


class PolicyOutput(NamedTuple):
    """Policy and value of T x B observations."""

    logits: Tensor  # [T,B,A] f32, so low for masked actions that their probability is 0; or the mean of a Gaussian
    log_std: Tensor | None  # [A] f32 for continuous actions, else None
    value: Tensor  # [T,B] f32
    bonus_value: Tensor | None = None  # [T,B] f32, of bonuses for novelty; None if the net has no such value


class PolicyNet(nn.Module):
    """Policy and value net. The last layers run in fp32, for the reason given in `nets.heads`.

    With `net.separate_value`, the value has its own torso and dense layer, and no memory core.
    """

    def __init__(self, net: NetConfig, spec: EnvSpec, wrap: Callable[[Make, int], Core] | None = None, values_bonus: bool = False):
        """`wrap`: see `make_core`. `values_bonus`: add a head for the value of novelty bonuses."""
        super().__init__()
        self.trunk = Trunk(net, spec)
        self.value_trunk = Trunk(net, spec) if net.separate_value else None
        self.core = make_core(net, net.hidden, spec, wrap)
        size = spec.action_shape[0] if spec.action_shape else spec.num_actions
        self.policy = keep_fp32(nn.Linear(self.core.features, size))
        self.value = keep_fp32(nn.Linear(net.hidden if net.separate_value else self.core.features, 1))
        self.bonus_value = keep_fp32(nn.Linear(self.value.in_features, 1)) if values_bonus else None
        self.log_std = nn.Parameter(torch.zeros(size)) if spec.action_shape else None
        orthogonal_(self, skip=self.core)
        nn.init.orthogonal_(self.policy.weight, 0.01)
        nn.init.orthogonal_(self.value.weight, 1.0)
        if self.bonus_value is not None:
            nn.init.orthogonal_(self.bonus_value.weight, 1.0)

    def forward(self, step: Step, state: State) -> tuple[PolicyOutput, State]:
        """(step [T,B,...], state [B,...]) -> (output, state after step T-1)."""
        features, state = self.core(self.trunk(step.observation), step, state)  # [T,B,D]
        value_features = features if self.value_trunk is None else self.value_trunk(step.observation)  # [T,B,D]
        with torch.autocast(features.device.type, enabled=False):
            logits, value = self.policy(features.float()), self.value(value_features.float())
            bonus_value = None if self.bonus_value is None else self.bonus_value(value_features.float()).squeeze(-1)
        return PolicyOutput(masked(logits, step), self.log_std, value.squeeze(-1), bonus_value), state
