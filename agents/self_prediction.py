"""The self-predictive loss (SPR, Schwarzer et al. 2021), an auxiliary loss of value agents.

    z_0 = f(o_t),  z_{k+1} = h(z_k, a_{t+k})                   f: torso, h: transition model
    L_t = 1/K Σ_{k=1..K} (2 - 2 cos(q(g(z_k)), g⁻(f⁻(o_{t+k}))))    g: the hidden layers of the head, q: predictor, ⁻: target net

Terms after the end of an episode, or after a lost life, are 0. The gradient goes through the online net only.

Where we differ: z_0 is computed again, apart from the agent's own loss, without augmenting the image again; the transition model
has no batch normalisation.

Shapes: T steps, K of them ahead, B batch, P features of a projection.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlsuite.core.types import Step, part_of


def self_prediction(net: Any, target: Any, steps: Step, ahead: int) -> Tensor:
    """The loss [B] f32 of steps [T,B,...] with all observations, T > K = `ahead`. `net`, `target`: each a `QNet`."""
    steps = part_of(steps, slice(ahead + 1))
    with torch.no_grad():
        y = target.projections(steps.observation[1:])  # [K,B,P]
    x = net.predictions(steps.observation[:1], steps.action[:-1])  # [K,B,P]
    distance = 2 - 2 * F.cosine_similarity(x.float(), y.float(), dim=-1)  # [K,B]
    return (distance * before_an_end(steps)).mean(0)


def before_an_end(steps: Step) -> Tensor:
    """Whether step t of 1..T-1 is reached from step 0 without an episode or a life ending before it: bool [T-1,B]."""
    ends = steps.last | steps.terminal
    ends = torch.cat([steps.last[:1], ends[1:-1]])  # [T-1,B]; a life lost on arrival at step 0 does not count
    alive: Tensor = (~ends).cumprod(0).bool()
    return alive
