"""Makes the optimizer of a config from torch.optim."""

from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.config.optimizers import optimizer_of
from rlsuite.config.schema import LearnerConfig
from rlsuite.core.types import as_tuples

Groups = list[tuple[float, list[nn.Parameter]]]  # (factor on the learning rate, parameters)

_CLASSES: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "radam": torch.optim.RAdam,
}
_FREE = ("params", "lr", "eps", "factor", "fused", "foreach", "capturable")  # entries of a group that a resumed run may change


def make_optimizer(config: LearnerConfig, parameters: list[nn.Parameter], groups: Groups | None = None) -> torch.optim.Optimizer:
    """The optimizer of a config. `groups`: parameters with a factor on the learning rate; None: all have the same rate.

    Weight decay applies only to tensors of rank 2 or more, not to biases and normalisation parameters.
    """
    name, settings = optimizer_of(config.optimizer)
    rate: float | Tensor = config.learning_rate
    decay = settings.pop("weight_decay")
    if name != "sgd":
        settings["eps"] = config.optimizer_epsilon
    if "beta1" in settings:
        settings["betas"] = settings.pop("beta1"), settings.pop("beta2")
    if name in ("adam", "adamw"):
        settings |= {"fused": not config.cuda_graphs, "capturable": config.cuda_graphs}
        rate = torch.tensor(rate, device=parameters[0].device) if config.cuda_graphs else rate
    params: Any = parameters
    if groups is not None or decay:
        rates = groups if groups is not None else [(1.0, parameters)]
        params = [
            {"params": part, "lr": rate * factor, "factor": factor, "weight_decay": own}
            for factor, group in rates
            for part, own in _by_decay(group, decay)
        ]
    made: torch.optim.Optimizer = _CLASSES[name](params, lr=rate, weight_decay=decay, **settings)
    return made


def _by_decay(group: list[nn.Parameter], decay: float) -> list[tuple[list[nn.Parameter], float]]:
    if not decay:
        return [(group, 0.0)]
    parts = [([p for p in group if p.dim() > 1], decay), ([p for p in group if p.dim() <= 1], 0.0)]
    return [(part, own) for part, own in parts if part]


def same_kind(ours: dict[str, Any], saved: dict[str, Any]) -> bool:
    """Whether two `state_dict`s are of the same optimizer with the same settings, ignoring learning rate and epsilon."""

    def kind(state: dict[str, Any]) -> list[dict[str, Any]]:
        return [{k: as_tuples(v) for k, v in group.items() if k not in _FREE} for group in state["param_groups"]]

    return kind(ours) == kind(saved)
