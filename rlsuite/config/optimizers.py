"""Optimizers by name, with their settings in parentheses: `sgd(momentum=0.9)`, `adamw(weight_decay=0.1)`."""

from typing import Any

from rlsuite.config.spec_string import parse_call, write_call
from rlsuite.core.errors import UsageError, unknown

_MOMENTS = {"beta1": 0.9, "beta2": 0.999}  # decay of the means of gradients and of their squares

# Name -> its settings and their defaults, named as in torch.optim.
OPTIMIZERS: dict[str, dict[str, float | bool]] = {
    "sgd": {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    "adagrad": {"initial_accumulator_value": 0.0, "weight_decay": 0.0},
    "adadelta": {"rho": 0.9, "weight_decay": 0.0},
    "rmsprop": {"alpha": 0.95, "centered": True, "momentum": 0.0, "weight_decay": 0.0},
    "adam": {**_MOMENTS, "weight_decay": 0.0},
    "adamw": {**_MOMENTS, "weight_decay": 0.01},
    "radam": {**_MOMENTS, "weight_decay": 0.0},
}
_UNBOUNDED = ("weight_decay", "initial_accumulator_value")  # the others are fractions below 1


def optimizer_of(text: str) -> tuple[str, dict[str, Any]]:
    """The name and all settings of an optimizer: `adam` -> ("adam", {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0}).

    UsageError for an unknown name or setting and for an impossible value.
    """
    name, given = parse_call("optimizer", text)
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    settings: dict[str, Any] = dict(OPTIMIZERS[name])
    for key, value in given.items():
        if key not in settings:
            raise unknown(f"parameter of {name}", key, settings)
        settings[key] = _checked(f"{text}: {key}", value, key, isinstance(settings[key], bool))
    if settings.get("nesterov") and not settings["momentum"]:
        raise UsageError(f"{text}: nesterov needs momentum above 0")
    return name, settings


def normalised(text: str) -> str:
    """The optimizer in the canonical form that runs save: settings in the order of `OPTIMIZERS`, without spaces."""
    name, _ = optimizer_of(text)
    given = parse_call("optimizer", text)[1]
    return write_call(name, {key: given[key] for key in OPTIMIZERS[name] if key in given})


def _checked(where: str, value: Any, key: str, switch: bool) -> float | bool:
    if switch:
        if not isinstance(value, bool):
            raise UsageError(f"{where} = {value}, but it is true or false")
        return value
    top = float("inf") if key in _UNBOUNDED else 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < top:
        raise UsageError(f"{where} = {value}, but it is a number of at least 0" + ("" if key in _UNBOUNDED else " and below 1"))
    return float(value)  # torch refuses betas of two types
