"""Pruning while a net trains: the smallest weights, or whole channels and units, become and stay 0.

The share grows by a cubic schedule (Zhu & Gupta 2017, eq. 1): s_t = s (1 - (1 - t)³), t from 0 to 1. Within each layer the weights
of least magnitude go (Han et al. 2015), or the channels of least L2 norm (as in Li et al. 2017). Last layers are left whole. With
`rewind` the weights that are left go back to what they were when pruning began, and train from there (the lottery ticket hypothesis
with rewinding, Frankle et al. 2019).

A net whose channels are 0 can be made smaller: `rlsuite shrink`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.config.schema import PruneConfig
from rlsuite.core.errors import UsageError


class Pruner:
    """The masks of a net's weights: which of them are left."""

    def __init__(self, net: nn.Module, config: PruneConfig):
        """UsageError for channels of a net in which other parts depend on theirs."""
        self.net, self.config = net, config
        layers = prunable(net)
        if config.what == "channels":
            _refuse_dependent(net)
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
        self.done = False  # the whole share is 0

    def share(self, agent_steps: int) -> float:
        """The share of weights that are 0 after `agent_steps` agent steps."""
        begin, end = self.config.begin_agent_steps, self.config.end_agent_steps
        t = min(max((agent_steps - begin) / max(end - begin, 1), 0.0), 1.0)
        return self.config.share * (1 - (1 - t) ** 3)

    @torch.no_grad()
    def advance(self, agent_steps: int, learner_steps: int, reset: Callable[[], None]) -> None:
        """New masks, if they are due. `reset`: called after weights have been set back, to begin with the optimizer, too."""
        config = self.config
        if agent_steps < config.begin_agent_steps or self.rewound:
            return
        if config.rewind and not self.begun:
            self.begun = {name: parameter.detach().clone() for name, parameter in self.net.named_parameters()}
        over = agent_steps >= config.end_agent_steps
        due = self.taken_at < 0 or learner_steps - self.taken_at >= config.every_learner_steps
        if not due and not over:
            return
        if over and not config.rewind and self.done:
            return
        self.taken_at = learner_steps
        self._take(self.share(agent_steps))
        self.done = over
        if over and config.rewind:
            for name, parameter in self.net.named_parameters():
                parameter.copy_(self.begun[name])
            self.begun, self.rewound = {}, True
            reset()
        self.apply(self.net)

    def _take(self, share: float) -> None:
        parameters = dict(self.net.named_parameters())
        for name, mask in self.masks.items():
            if name.endswith(".bias"):
                continue
            weight = parameters[name]
            single = self.config.what == "weights"
            size = weight.abs().flatten() if single else weight.flatten(1).norm(dim=1)
            kept = torch.ones_like(size, dtype=torch.bool)
            kept[size.argsort()[: min(int(share * len(size)), len(size) - 1)]] = False  # one is left at least
            if single:
                mask.copy_(kept.view(mask.shape))
            else:
                mask.copy_(kept.view(-1, *[1] * (mask.dim() - 1)).expand_as(mask))
                if (bias := self.masks.get(name.removesuffix("weight") + "bias")) is not None:
                    bias.copy_(kept)

    @torch.no_grad()
    def apply(self, net: nn.Module) -> None:
        """Sets the pruned weights of `net`, which has the same parameters, to 0."""
        parameters = dict(net.named_parameters())
        for name, mask in self.masks.items():
            parameters[name].mul_(mask)

    def pruned(self) -> float:
        """The share of the masked weights that are 0."""
        return 1 - sum(int(mask.sum()) for mask in self.masks.values()) / sum(mask.numel() for mask in self.masks.values())

    def state_dict(self) -> dict[str, Any]:
        """Masks, and what a rewind needs."""
        return {"masks": self.masks, "begun": self.begun, "taken_at": self.taken_at, "rewound": self.rewound, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned. ValueError if it is of a run without pruning, or of another kind."""
        if set(state.get("masks", ())) != set(self.masks):
            raise ValueError("it was saved without learner.prune, or with another learner.prune.what")
        for name, mask in self.masks.items():
            mask.copy_(state["masks"][name])
        self.begun, self.taken_at = state["begun"], state["taken_at"]
        self.rewound, self.done = state["rewound"], state["done"]


def prunable(net: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """The convolutions and dense layers of a net that are trained, by name, without the last ones, which compute in fp32."""
    found: dict[str, nn.Conv2d | nn.Linear] = {}
    for name, module in net.named_modules():
        last = any(getattr(net.get_submodule(name.rsplit(".", i)[0]), "fp32", False) for i in range(name.count(".") + 1))
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.requires_grad and not last:
            found[name] = module
    return found


def _refuse_dependent(net: nn.Module) -> None:
    """UsageError for parts in which a channel that is 0 does not stay 0, or is added to others."""
    for name, module in net.named_modules():
        foreign = not isinstance(module, nn.Conv2d | nn.Linear) and bool(list(module.parameters(recurse=False)))
        sums = type(module).__name__ in ("Residual", "TowerBlock", "NoisyLinear")
        if foreign or sums:
            raise UsageError(
                f"learner.prune.what = channels: {name} is a {type(module).__name__}, whose channels depend on each other; use "
                "net.torso nature or small without a norm and net.layer_norm=false, or what=weights"
            )
