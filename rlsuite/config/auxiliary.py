"""Auxiliary losses and novelty bonuses, by name with settings in parentheses: `reconstruct(weight=2)`, `rnd(width=128)`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from rlsuite.config.spec_string import parse_call
from rlsuite.core.errors import UsageError, unknown

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Reconstruct:
    """Settings of `net.auxiliary=reconstruct`: a decoder reconstructs the observation from the torso's features."""

    weight: float = 1.0  # of the squared error in the loss
    latent: int = 64  # width of the bottleneck between features and decoder


@dataclass(frozen=True)
class Bonus:
    """Settings that every `agent.novelty` has."""

    weight: float = 0.5  # of the bonus in the reward or, if bonuses have their own value head, of their advantage
    discount: float | None = None  # of bonuses that have their own value head; None: `DISCOUNT`
    width: int = 256  # units of the predictor's dense layers
    rate: float = 1.0  # factor on `learner.learning_rate` for the predictor


@dataclass(frozen=True)
class Rnd(Bonus):
    """Settings of `agent.novelty=rnd`: the error in predicting a random net's output."""


@dataclass(frozen=True)
class ReconstructionError(Bonus):
    """Settings of `agent.novelty=reconstruction`: the error of an autoencoder."""

    latent: int = 64  # size of its code


DISCOUNT = 0.99  # of bonuses (Burda et al. 2018, appendix A.4)
AUXILIARY: dict[str, type[Reconstruct]] = {"reconstruct": Reconstruct}
NOVELTY: dict[str, type[Bonus]] = {"rnd": Rnd, "reconstruction": ReconstructionError}


def auxiliary_of(text: str) -> Reconstruct | None:
    """The settings of a `net.auxiliary`; None for `none`. UsageError for an unknown name or setting and for an impossible value."""
    return _parsed("auxiliary loss", text, AUXILIARY)


def novelty_of(text: str) -> Bonus | None:
    """The settings of an `agent.novelty`; None for `none`. UsageError as in `auxiliary_of`."""
    return _parsed("novelty bonus", text, NOVELTY)


def _parsed(what: str, text: str, table: Mapping[str, type[Settings]]) -> Settings | None:
    name, given = parse_call(what, text)
    if name == "none":
        if given:
            raise UsageError(f"{text}: none takes no settings")
        return None
    if name not in table:
        raise unknown(what, name, ["none", *table])
    own = {one.name: one for one in fields(table[name])}  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in own:
            raise unknown(f"parameter of {name}", key, own)
        whole = isinstance(own[key].default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 < value < math.inf:
            raise UsageError(f"{text}: {key} = {value}, but it is a {'whole ' * whole}number above 0")
        if key == "discount" and value >= 1:
            raise UsageError(f"{text}: discount = {value}, but it is below 1: bonuses go on without an end")
    return table[name](**given)
