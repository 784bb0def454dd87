"""Targets and losses that detection heads share. Shapes: see the package."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlsuite.vision.boxes import BACKGROUND


def objects_of(labels: dict[str, Tensor], row: int) -> tuple[Tensor, Tensor]:
    """The labelled boxes [M',4] f32 and classes [M'] i64 of image `row`."""
    there = labels["classes"][row] >= 0
    return labels["boxes"][row][there].float(), labels["classes"][row][there].long()


def focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """The focal loss (Lin et al. 2017, eq. 5), elementwise: easy examples count little."""
    p = logits.sigmoid()
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p_true = p * target + (1 - p) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return weight * (1 - p_true) ** gamma * plain


def summed(parts: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of the parts [N] of a loss, and their means as metrics."""
    total = torch.stack(list(parts.values())).sum(0)
    return total, {f"losses/{name}": part.detach().mean() for name, part in parts.items()}


def mean_by_image(values: Tensor, owner: Tensor, n: int) -> Tensor:
    """The mean of values [P] over each of the n images that own them -> [N]."""
    total = torch.zeros(n, device=values.device).index_add(0, owner, values)
    return total / torch.bincount(owner, minlength=n).clamp(min=1)


def balanced(target: Tensor, count: int, share: float) -> tuple[Tensor, Tensor]:
    """Indices of at most `share * count` random positives, and of random background to make up `count`."""
    positive, negative = (target >= 0).nonzero()[:, 0], (target == BACKGROUND).nonzero()[:, 0]
    positive = positive[torch.randperm(len(positive), device=target.device)[: int(share * count)]]
    negative = negative[torch.randperm(len(negative), device=target.device)[: count - len(positive)]]
    return positive, negative
