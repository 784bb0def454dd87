"""Action masks: which discrete actions an environment allows at an observation. Shapes: L environments, A actions.

An environment reports masks in `info["action_mask"]` and names that key in its metadata's `info_keys`. The collector puts them into
`Step.extras` as [L,A] bool, and stores keep them. Agents choose among `masked` values, both when they act and when they compute
targets.

A mask is a row of 0s and 1s, one per action. For MultiDiscrete actions, it has an entry for every value of every part, one part
after the other, or it is a tuple of such rows, one for each part.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete, Space
from numpy.typing import NDArray
from torch import Tensor

from rlsuite.core.agent import Extra, Sequences, SequenceSpec, Transitions
from rlsuite.core.errors import UsageError
from rlsuite.core.spaces import from_plain
from rlsuite.core.types import EnvSpec, Step

KEY = "action_mask"
FORBIDDEN = -1e9  # finite, so that 0 times it is 0


def read(info: Mapping[str, Any], spec: EnvSpec, num_envs: int) -> NDArray[np.bool_]:
    """The masks [L,A] bool in the `info` of L environments; an environment that reports no mask allows all actions.

    UsageError for a mask of the wrong form.
    """
    space: Space[Any] = Discrete(spec.num_actions) if spec.action_space is None else from_plain(spec.action_space)
    sizes = space.nvec.reshape(-1) if isinstance(space, MultiDiscrete) else np.array([spec.num_actions])
    given: Any = info.get(KEY, ())
    reports = np.asarray(info.get(f"_{KEY}", np.full(num_envs, KEY in info)), bool)  # [L]
    out = np.ones((num_envs, spec.num_actions), bool)
    if len(sizes) == 1 and isinstance(given, np.ndarray) and given.dtype == bool and given.shape == out.shape:
        out[reports] = given[reports]
        return out
    for i in np.flatnonzero(reports):
        out[i] = _combined(_parts(given[i], sizes))
    return out


def _parts(mask: Any, sizes: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Splits a mask into one row for each part of an action. UsageError for a mask of the wrong form."""
    rows = [np.asarray(row) for row in mask] if isinstance(mask, tuple) else [np.asarray(mask)]
    if all(row.ndim == 1 and row.dtype.kind in "biuf" for row in rows):
        values = np.concatenate(rows)
        if len(values) == sizes.sum() and np.isin(values, (0, 1)).all():
            return np.split(values.astype(bool), np.cumsum(sizes)[:-1])
    entries = " + ".join(map(str, sizes))
    raise UsageError(f"info['{KEY}'] must be {entries} numbers of 0 or 1 for each environment, found {str(mask)!r:.100}")


def _combined(parts: list[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """The mask [A] of all combinations of the parts' values."""
    out = np.ones(1, bool)
    for part in parts:
        out = (out[:, None] & part).reshape(-1)
    return out


def stored(spec: EnvSpec) -> tuple[Extra, ...]:
    """The extra that a store must keep for targets to obey masks; () if the environment reports none."""
    return (Extra(KEY, (spec.num_actions,), "bool"),) if KEY in spec.info_keys else ()


def with_masks(sequence: SequenceSpec, spec: EnvSpec) -> SequenceSpec:
    """Adds the environment's masks to an agent's sequences; rollouts have them anyway, and games need none."""
    if isinstance(sequence, Transitions | Sequences) and KEY not in {extra.name for extra in sequence.extras}:
        return replace(sequence, extras=(*sequence.extras, *stored(spec)))
    return sequence


def kept(extras: dict[str, Any]) -> dict[str, Any]:
    """Only the mask from `Step.extras`, if there is one."""
    return {KEY: extras[KEY]} if KEY in extras else {}


def allowed(step: Step) -> Tensor | None:
    """The mask of allowed actions, [...,A] bool; None: all. Where the environment allows none, the mask allows all."""
    mask: Tensor | None = step.extras.get(KEY)
    return None if mask is None else mask | ~mask.any(-1, keepdim=True)


def masked(values: Tensor, step: Step) -> Tensor:
    """Values or logits of actions, [T,B,A] or [B,A] f32, with `FORBIDDEN` where `step` [T,B] (T = 1 for [B,A]) masks the action."""
    mask = allowed(step)
    return values if mask is None else values.masked_fill(~mask.view(values.shape), FORBIDDEN)
