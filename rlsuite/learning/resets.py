"""Periodic resets of a net: heads are replaced, the rest is shrunk and perturbed."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from rlsuite.core.errors import UsageError


def is_head(name: str, heads: Collection[str]) -> bool:
    """Whether a parameter belongs to one of the modules `heads` of its net: `head.value.out.bias` belongs to `head`."""
    return any(name == head or name.startswith(f"{head}.") for head in heads)


def check_heads(net: nn.Module, heads: Collection[str]) -> None:
    """UsageError if a net has no parameters in one of the modules `heads`."""
    names = [name for name, _ in net.named_parameters()]
    for head in heads:
        if not any(is_head(name, (head,)) for name in names):
            parts = dict.fromkeys(name.partition(".")[0] for name in names)
            raise UsageError(
                f"learner.resets: heads names {head!r}, which the agent's net does not have (it has {', '.join(parts)})"
            )


@torch.no_grad()
def reset_net(net: nn.Module, fresh: Mapping[str, Tensor], heads: Collection[str], keep: float, names: Collection[str]) -> None:
    """Mixes the parameters `names` of a net with the new random ones in `fresh`, in place.

    Heads are replaced (Nikishin et al. 2022). The others become `keep` times the old values plus 1 - `keep` times the new ones (Ash
    & Adams 2020, as in D'Oro et al. 2023), so that features are not lost.
    """
    for name, parameter in net.named_parameters():
        if name in names:
            new = fresh[name].to(parameter.device)
            parameter.copy_(new if is_head(name, heads) else parameter.lerp(new, 1 - keep))


@torch.no_grad()
def reset_optimizer(optimizer: torch.optim.Optimizer, fresh: torch.optim.Optimizer) -> None:
    """Resets the moments of an optimizer to those of a `fresh` one over the same parameters.

    This happens in place, because a CUDA graph has recorded their addresses.
    """
    for parameter, moments in optimizer.state.items():
        initial = fresh.state.get(parameter, {})
        for name, moment in moments.items():
            if isinstance(moment, Tensor):
                moment.copy_(initial.get(name, torch.zeros_like(moment)))
