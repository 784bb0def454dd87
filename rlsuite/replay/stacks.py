"""Frame stacks. Stores keep every plane once and return batches with `Planes`; the learner stacks them on its own device.

Shapes: T steps and B sequences of a trajectory, S planes of a stack, H x W = P pixels of a plane, M planes and K stacks in all.
"""

from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rlsuite.core.types import Planes, Trajectory


def stack_rows(planes: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Frame stacks [K,P,S] of `planes` [M,P]. `rows` [K,S] are the indices of their planes, oldest first; -1: a blank plane."""
    out = np.empty((len(rows), planes.shape[1], rows.shape[1]), planes.dtype)
    if rows.shape[1] == 4 and out.dtype == np.uint8:
        _stack_four(planes, rows, out.view(np.uint32)[..., 0])
    else:
        _stack_any(planes, rows, out)
    return out


def stacked(trajectory: Trajectory) -> Trajectory:
    """A trajectory of NumPy arrays with its `Planes` stacked: a view [T,B,S,H,W] of an array [T,B,H,W,S]."""
    if not isinstance(trajectory.steps.observation, Planes):
        return trajectory
    planes, first = trajectory.steps.observation.planes, trajectory.steps.first  # [S-1+T,B,H,W], [T,B]
    (t, b), older = first.shape, len(planes) - len(first)
    at = np.arange(t)[:, None] + np.arange(older + 1)  # [T,S] of planes
    episode = np.pad(first.cumsum(0), ((older, 0), (0, 0)))  # [S-1+T,B]
    own = episode[at] == episode[older:, None]  # [T,S,B]
    rows = np.where(own, at[..., None] * b + np.arange(b), -1).transpose(0, 2, 1).reshape(t * b, older + 1)
    out = stack_rows(planes.reshape(len(planes) * b, -1), rows).reshape(t, b, *planes.shape[2:], older + 1)
    return trajectory._replace(steps=trajectory.steps._replace(observation=np.moveaxis(out, -1, 2)))


def stacked_tensors(trajectory: Trajectory) -> Trajectory:
    """A trajectory of tensors with its `Planes` stacked as in `stacked`, on their device and without waiting for it."""
    if not isinstance(trajectory.steps.observation, Planes):
        return trajectory
    planes: Tensor = trajectory.steps.observation.planes
    first: Tensor = trajectory.steps.first
    t, older = len(first), len(planes) - len(first)
    episode = F.pad(first.cumsum(0), (0, 0, older, 0))  # [S-1+T,B]
    out = planes.new_empty(*first.shape, *planes.shape[2:], older + 1)  # [T,B,H,W,S]
    for k in range(older + 1):
        own = episode[k : k + t] == episode[older:]
        torch.mul(planes[k : k + t], own[..., None, None], out=out[..., k])
    return trajectory._replace(steps=trajectory.steps._replace(observation=out.movedim(-1, 2)))


@numba.njit(cache=True, nogil=True)
def _stack_four(planes: Any, rows: Any, out: Any) -> None:
    """Packs four u8 planes [P] into one u32 per pixel, the newest in the highest byte: u8 [P,4] on little-endian machines."""
    blank = np.zeros(planes.shape[1], planes.dtype)
    for i in range(rows.shape[0]):
        a = planes[rows[i, 0]] if rows[i, 0] >= 0 else blank
        b = planes[rows[i, 1]] if rows[i, 1] >= 0 else blank
        c = planes[rows[i, 2]] if rows[i, 2] >= 0 else blank
        d = planes[rows[i, 3]]
        row = out[i]
        for p in range(row.shape[0]):
            row[p] = (
                np.uint32(a[p])
                | (np.uint32(b[p]) << np.uint32(8))
                | (np.uint32(c[p]) << np.uint32(16))
                | (np.uint32(d[p]) << np.uint32(24))
            )


@numba.njit(cache=True, nogil=True)
def _stack_any(planes: Any, rows: Any, out: Any) -> None:
    """Writes stacks of any depth and dtype into `out` [K,P,S]."""
    for i in range(rows.shape[0]):
        for s in range(rows.shape[1]):
            for p in range(out.shape[1]):
                out[i, p, s] = planes[rows[i, s], p] if rows[i, s] >= 0 else 0
