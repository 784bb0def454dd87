"""Pruning during training: the smallest weights, or whole channels and units, become and stay 0.

The pruned share grows by a cubic schedule (Zhu & Gupta 2017, eq. 1): s_t = s (1 - (1 - t)³), t from 0 to 1. Within each layer, the
weights of least magnitude are pruned (Han et al. 2015), or the channels of least L2 norm (as in Li et al. 2017). Output layers are
not pruned. With `rewind`, the remaining weights are reset to their values when pruning began and train from there (the lottery
ticket hypothesis with rewinding, Frankle et al. 2019).

`rlsuite shrink` can remove channels that are 0 from a net.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.config.schema import PruneConfig
from rlsuite.core.errors import UsageError
from rlsuite.nets.auxiliary import BESIDE


class Pruner:
    """Computes and applies the masks of a net's remaining weights."""

    def __init__(self, net: nn.Module, config: PruneConfig):
        """UsageError if the net has nothing to prune, or to prune channels on which several other parts depend."""
        self.net, self.config = net, config
        layers = prunable(net)
        if not any(getattr(module, "fp32", False) for module in net.modules()):
            raise UsageError("learner.prune: this net does not tell which layers are its last, as those of agents do (keep_fp32)")
        if config.what == "channels":
            refuse_dependent(net, "learner.prune.what = channels")
        if not layers:
            raise UsageError("learner.prune: the net has no convolution or dense layer before its last ones")
        self.masks: dict[str, Tensor] = {}  # name of a parameter -> bool, of its shape
        for name, layer in layers.items():
            self.masks[f"{name}.weight"] = torch.ones_like(layer.weight, dtype=torch.bool)
            if config.what == "channels" and layer.bias is not None:
                self.masks[f"{name}.bias"] = torch.ones_like(layer.bias, dtype=torch.bool)
        self.begun: dict[str, Tensor] = {}  # weights when pruning began, if it rewinds
        self.taken_at = -1  # learner step of the last masks
        self.rewound = False
        self.done = False  # whether the full share is pruned
        self.pruned = 0.0  # fraction of the weights under masks that is pruned

    def share(self, agent_steps: int) -> float:
        """The share of each layer to prune after `agent_steps` agent steps."""
        begin, end = self.config.begin_agent_steps, self.config.end_agent_steps
        t = min(max((agent_steps - begin) / max(end - begin, 1), 0.0), 1.0)
        return self.config.share * (1 - (1 - t) ** 3)

    @torch.no_grad()
    def advance(self, agent_steps: int, learner_steps: int, reset: Callable[[], None]) -> bool:
        """Computes new masks if they are due, and returns whether they were. The caller has to call `apply`.

        `reset`: called after weights have been rewound, to reset the optimizers, too.
        """
        config = self.config
        if agent_steps < config.begin_agent_steps or self.rewound:
            return False
        if config.rewind and not self.begun:
            self.begun = {name: parameter.detach().clone() for name, parameter in self.net.named_parameters()}
        over = agent_steps >= config.end_agent_steps
        due = self.taken_at < 0 or learner_steps - self.taken_at >= config.every_learner_steps
        if (not due and not over) or (over and not config.rewind and self.done):
            return False
        self.taken_at = learner_steps
        self._take(self.share(agent_steps))
        self._count()
        self.done = over
        if over and config.rewind:
            for name, parameter in self.net.named_parameters():
                parameter.copy_(self.begun[name])
            self.begun, self.rewound = {}, True
            reset()
        return True

    def _take(self, share: float) -> None:
        parameters = dict(self.net.named_parameters())
        for name, mask in self.masks.items():
            if name.endswith(".bias"):
                continue
            weight = parameters[name]
            single = self.config.what == "weights"
            size = weight.abs().flatten() if single else weight.flatten(1).norm(dim=1)
            kept = torch.ones_like(size, dtype=torch.bool)
            kept[size.argsort()[: min(int(share * len(size)), len(size) - 1)]] = False  # at least one is left
            if single:
                mask.copy_(kept.view(mask.shape))
            else:
                mask.copy_(kept.view(-1, *[1] * (mask.dim() - 1)).expand_as(mask))
                if (bias := self.masks.get(name.removesuffix("weight") + "bias")) is not None:
                    bias.copy_(kept)

    @torch.no_grad()
    def apply(self, net: nn.Module) -> None:
        """Sets the pruned weights of `net`, which must have the same parameters, to 0."""
        parameters = dict(net.named_parameters())
        for name, mask in self.masks.items():
            parameters[name].mul_(mask)

    def _count(self) -> None:
        self.pruned = 1 - sum(int(mask.sum()) for mask in self.masks.values()) / sum(mask.numel() for mask in self.masks.values())

    def state_dict(self) -> dict[str, Any]:
        """The masks, the progress, and the weights for a rewind."""
        return {"masks": self.masks, "begun": self.begun, "taken_at": self.taken_at, "rewound": self.rewound, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned. ValueError if it is from a run without pruning, or with another kind of pruning."""
        if set(state.get("masks", ())) != set(self.masks):
            raise ValueError("it was saved without learner.prune, or with another learner.prune.what")
        for name, mask in self.masks.items():
            mask.copy_(state["masks"][name])
        self.begun, self.taken_at = state["begun"], state["taken_at"]
        self.rewound, self.done = state["rewound"], state["done"]
        self._count()


def prunable(net: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """The trainable convolutions and dense layers by name, without auxiliary modules and output layers (which compute in fp32)."""
    found: dict[str, nn.Conv2d | nn.Linear] = {}
    for name, module in net.named_modules():
        if name.startswith(BESIDE):
            continue
        last = any(getattr(net.get_submodule(name.rsplit(".", i)[0]), "fp32", False) for i in range(name.count(".") + 1))
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.requires_grad and not last:
            found[name] = module
    return found


# Modules whose channels and units depend only on the layer before.
_NETS = ("QNet", "PolicyNet", "Trunk", "QHead", "Mlp", "FeedForward", "PixelTorso", "Backbone", "ConvReLU")
_CHAIN = frozenset((*_NETS, "Sequential", "ModuleList", "Conv2d", "Linear", "ReLU", "LeakyReLU", "Identity"))


def refuse_dependent(net: nn.Module, what: str) -> None:
    """Raises a UsageError that begins with `what` if a net is not a simple chain, from which channels can be removed."""
    for name, module in net.named_modules():
        if name and type(module).__name__ not in _CHAIN:
            raise UsageError(
                f"{what}: {name} is a {type(module).__name__}, whose channels depend on each other; use net.torso nature, small or "
                "data_efficient without a norm, net.layer_norm=false and no noise, memory or loss with layers of its own"
            )
    backbones = sum(type(module).__name__ == "Backbone" for module in net.modules())
    if backbones != 1:
        raise UsageError(f"{what}: it has {backbones} backbones, not one; use net.separate_value=false and a torso of pictures")
