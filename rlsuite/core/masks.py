"""Action masks: which discrete actions an environment allows at an observation. Shapes: A actions.

An environment reports them in `info["action_mask"]`, [L,A] bool, and names that key in its metadata's `info_keys`; the collector
puts it into `Step.extras`. An agent chooses among `masked` values only, when it acts and when it computes targets.
"""

from typing import Any

from torch import Tensor

from rlsuite.core.agent import Extra
from rlsuite.core.types import EnvSpec, Step

KEY = "action_mask"
FORBIDDEN = -1e9  # finite, so that 0 times it is 0


def stored(spec: EnvSpec) -> tuple[Extra, ...]:
    """What a store must keep with every step for targets to obey the masks; () where the environment reports none."""
    return (Extra(KEY, (spec.num_actions,), "bool"),) if KEY in spec.info_keys else ()


def kept(extras: dict[str, Any]) -> dict[str, Any]:
    """The mask among `Step.extras`, if there is one."""
    return {KEY: extras[KEY]} if KEY in extras else {}


def allowed(step: Step) -> Tensor | None:
    """The actions that may be chosen, [...,A] bool; None: all of them. Where the environment allows none, all may be."""
    mask: Tensor | None = step.extras.get(KEY)
    return None if mask is None else mask | ~mask.any(-1, keepdim=True)


def masked(values: Tensor, step: Step) -> Tensor:
    """Values or logits of actions, [T,B,A] or [B,A] f32, with `FORBIDDEN` where `step` [T,B] (T = 1 for [B,A]) masks the action."""
    mask = allowed(step)
    return values if mask is None else values.masked_fill(~mask.view(values.shape), FORBIDDEN)
