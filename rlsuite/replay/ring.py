"""The storage of a replay: a ring of steps for each environment. Frames are stored once, as single planes, and stacked on read.

The absolute time of a step (0, 1, 2, ... in its environment) gives both its slot (time % N) and its generation (time // N).

Shapes: L environments, N slots of each, K steps of an unroll, B samples, T steps of a sequence, S planes of a stack, H x W = P
pixels of a plane.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from rlsuite.core.types import EnvSpec, Step, Trajectory, Unroll, bootstrap_index, tree_zip
from rlsuite.replay.layout import Layout

FIRST, LAST, TERMINAL, START = 1, 2, 4, 8
Arrays = dict[str, NDArray[Any]]


class Ring:
    """A ring buffer for L environments that advance together: arrays [L,N,...]."""

    def __init__(self, spec: EnvSpec, num_envs: int, slots: int, layout: Layout):
        self.spec, self.num_envs, self.slots, self.layout = spec, num_envs, slots, layout
        shape = spec.observation_shape[1:] if spec.stack > 1 else spec.observation_shape
        # np.zeros leaves pages unmapped until they are written, so memory use grows as the ring fills.
        self.observation = np.zeros((num_envs, slots, *shape), spec.observation_dtype)
        self.reward = np.zeros((num_envs, slots), np.float32)
        self.flags = np.zeros((num_envs, slots), np.uint8)
        self.action = np.zeros((num_envs, slots, *spec.action_shape), spec.action_dtype)
        self.extras = {extra.name: np.zeros((num_envs, slots, *extra.shape), extra.dtype) for extra in layout.extras}
        # Starts with a stored state are at least `stride` steps apart, so each has its own cell. First steps of episodes need none.
        cells = -(-slots // layout.stride)
        self.state = [np.zeros((num_envs, cells, *leaf.shape), leaf.dtype) for leaf in layout.state]
        self.lost = np.zeros(0, np.int64)  # absolute times of steps that could not be restored
        self.head = 0  # absolute time of the next step
        self.whole_from = 0  # absolute time of the first complete frame stack; > 0 if the streams began within an episode

    @property
    def filled(self) -> int:
        """Slots per environment that hold a step."""
        return min(self.head, self.slots)

    @property
    def oldest(self) -> int:
        """Absolute time of the oldest step whose frame stack is complete and whose recurrent state is still stored."""
        if self.head <= self.slots:
            return self.whole_from
        return self.head - self.slots + max(self.spec.stack, self.layout.stride) - 1

    @staticmethod
    def bytes_per_step(spec: EnvSpec, layout: Layout) -> int:
        """Bytes that one step of one environment takes, recurrent states included."""
        shape = spec.observation_shape[1:] if spec.stack > 1 else spec.observation_shape
        leaves = [(shape, spec.observation_dtype), (spec.action_shape, spec.action_dtype)]
        leaves += [(extra.shape, extra.dtype) for extra in layout.extras]
        return _bytes(leaves) + 4 + 1 + -(-_bytes([(leaf.shape, leaf.dtype) for leaf in layout.state]) // layout.stride)

    def write(self, unroll: Unroll) -> None:
        """Appends an unroll, leaves [K,L,...]."""
        steps = unroll.steps
        k = steps.reward.shape[0]
        if self.head == 0 and not steps.first[0].all():
            self.whole_from = self.spec.stack - 1
        flags = steps.first * np.uint8(FIRST) | steps.last * np.uint8(LAST) | steps.terminal * np.uint8(TERMINAL)
        if self.head:  # after `end_streams` a stream may continue within an episode, which counts as a new one here
            flags[0, (self.flags[:, (self.head - 1) % self.slots] & LAST) > 0] |= FIRST
        for i in range(k):
            slot = (self.head + i) % self.slots
            self.observation[:, slot] = steps.observation[i]
            self.reward[:, slot] = steps.reward[i]
            self.flags[:, slot] = flags[i]
            self.action[:, slot] = steps.action[i]
            for name, stored in self.extras.items():
                stored[:, slot] = steps.extras[name][i]
        if self.layout.stride > 1:
            self._mark(unroll)
        self.head += k

    def _mark(self, unroll: Unroll) -> None:
        """Stores where sequences start, and the recurrent states there."""
        assert unroll.starts is not None, "for sequences with a stride, the collector must mark the starts"
        step, env_index = np.nonzero(unroll.starts)  # [M]
        slot = (self.head + step) % self.slots  # [M]
        self.flags[env_index, slot] |= START
        own = (self.flags[env_index, slot] & FIRST) == 0  # [M]
        for row, at in zip(env_index[own], slot[own], strict=True):
            # An earlier start in the same cell occurs only if the store was restored from an older checkpoint than its collector.
            # Its state is about to be overwritten, so it is no start any more.
            earlier = self.flags[row, at // self.layout.stride * self.layout.stride : at]  # a view
            earlier[(earlier & FIRST) == 0] &= ~np.uint8(START)
        for stored, leaf in zip(self.state, unroll.state, strict=True):
            stored[env_index[own], slot[own] // self.layout.stride] = leaf[own]

    def end_streams(self) -> None:
        """The environments start anew: the newest step of each becomes a final observation, as at a time limit."""
        if self.head:
            self.flags[:, (self.head - 1) % self.slots] |= LAST

    def starts(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a valid sequence starts at the absolute times [K], given that its last step is stored: bool [K,L]."""
        flags = self.flags[:, times % self.slots].T  # [K,L]
        # Without a stride every action starts a sequence, but a final observation has no action.
        wanted = (flags & START) > 0 if self.layout.stride > 1 else (flags & LAST) == 0
        return np.asarray(wanted & (times >= self.oldest)[:, None])

    def read(self, env_index: NDArray[np.int64], time: NDArray[np.int64]) -> Trajectory:
        """Sequences that start at `time` [B] in the environments [B]: leaves [T,B,...]; observations [2,B,...] if sparse."""
        length = self.layout.length
        times = time + np.arange(length)[:, None]  # [T,B]
        slots = times % self.slots
        flags = self.flags[env_index, slots]  # [T,B]
        last = (flags & LAST).astype(bool)
        at = np.stack([time, time + bootstrap_index(last)]) if self.layout.sparse else times  # [2,B] or [T,B]
        return Trajectory(
            Step(
                observation=self._observations(env_index, at),
                reward=self.reward[env_index, slots],
                first=(flags & FIRST).astype(bool),
                last=last,
                terminal=(flags & TERMINAL).astype(bool),
                action=self.action[env_index, slots],
                extras={name: stored[env_index, slots] for name, stored in self.extras.items()},
            ),
            state=tuple(stored[env_index, time % self.slots // self.layout.stride] for stored in self.state),
        )

    def _observations(self, env_index: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[Any]:
        """Observations at `times` [T,B]: [T,B,*observation_shape]. Stacks [T,B,S,H,W] are views of arrays [T,B,H,W,S]."""
        slots = times % self.slots
        stack = self.spec.stack
        if stack == 1:
            return self.observation[env_index, slots]
        height, width = self.spec.observation_shape[1:]
        planes = self.observation.reshape(self.num_envs, self.slots, height * width)
        flat = np.broadcast_to(env_index, slots.shape).reshape(-1)
        out = stack_planes(planes, self.flags, flat, slots.reshape(-1), stack)
        return np.moveaxis(out.reshape(*slots.shape, height, width, stack), -1, 2)

    def state_dict(self) -> dict[str, Any]:
        """The filled part of all arrays, and the counters."""
        n = self.filled
        arrays = {name: getattr(self, name)[:, :n] for name in ("observation", "reward", "flags", "action")}
        extras = {name: stored[:, :n] for name, stored in self.extras.items()}
        state = [stored[:, : -(-n // self.layout.stride)] for stored in self.state]
        counts = {"head": self.head, "whole_from": self.whole_from, "slots": self.slots, "layout": self.layout.facts()}
        return {**arrays, "extras": extras, "state": state, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state`. ValueError if it has another layout or size: a ring can only be restored as it was."""
        saved, own = state["observation"].shape, self.observation.shape
        if state["slots"] != self.slots or (saved[0], *saved[2:]) != (own[0], *own[2:]):
            raise ValueError(
                f"the saved replay has {state['slots']} slots per environment and observations of shape {saved}, "
                f"this one has {self.slots} and {own}"
            )
        self.layout.check(state["layout"])
        n = state["reward"].shape[1]
        for name in ("observation", "reward", "flags", "action"):
            getattr(self, name)[:, :n] = state[name]
        for name, stored in self.extras.items():
            stored[:, :n] = state["extras"][name]
        for stored, leaf in zip(self.state, state["state"], strict=True):
            stored[:, : leaf.shape[1]] = leaf
        self.head, self.whole_from = state["head"], state["whole_from"]


def _bytes(leaves: list[tuple[tuple[int, ...], str]]) -> int:
    """Bytes of one item with leaves of the given (shape, dtype)."""
    return sum(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize for shape, dtype in leaves)


def completed(before: int, head: int, length: int) -> NDArray[np.int64]:
    """Starts [K'] of the sequences of `length` steps that became complete while a ring's head went from `before` to `head`."""
    delay = length - 1
    return np.arange(max(before - delay, 0), max(head - delay, 0))


def joined(parts: list[Trajectory]) -> Trajectory:
    """Concatenates trajectories of one length along the batch: leaves [T,B1+B2+...,...], states [B1+B2+...,...]."""
    if len(parts) == 1:
        return parts[0]
    steps = tree_zip(lambda *leaves: _side_by_side(leaves), *(part.steps for part in parts))
    return Trajectory(steps, tree_zip(lambda *leaves: np.concatenate(leaves), *(part.state for part in parts)))


def _side_by_side(leaves: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    if leaves[0].ndim == 5:  # [T,B,S,H,W], in memory [T,B,H,W,S]
        return np.moveaxis(np.concatenate([np.moveaxis(leaf, 2, -1) for leaf in leaves], 1), -1, 2)
    return np.concatenate(leaves, 1)


def stack_planes(
    planes: NDArray[Any], flags: NDArray[np.uint8], env_index: NDArray[np.int64], slots: NDArray[np.int64], stack: int
) -> NDArray[Any]:
    """Frame stacks [B,P,S] that end at `slots` [B] of the environments [B], from `planes` [L,N,P].

    `flags` u8 [L,N] have the bit FIRST where an episode begins; planes before that are blank.
    """
    out = np.empty((slots.size, planes.shape[2], stack), planes.dtype)
    if stack == 4 and out.dtype == np.uint8:
        _stack_four(planes, flags, env_index, slots, out.view(np.uint32)[..., 0])
    else:
        _stack_any(planes, flags, env_index, slots, out)
    return out


@numba.njit(cache=True, nogil=True)
def _history(flags: Any, env_index: int, slot: int, stack: int) -> int:
    """The number of older planes of the same episode in the stack at `slot`."""
    depth = 0
    while depth < stack - 1 and not flags[env_index, slot - depth] & FIRST:  # negative indices wrap around as the ring does
        depth += 1
    return depth


@numba.njit(cache=True, nogil=True)
def _stack_four(planes: Any, flags: Any, envs: Any, slots: Any, out: Any) -> None:
    """Packs four u8 planes [P] into one u32 per pixel, the newest in the highest byte: u8 [P,4] on little-endian machines."""
    blank = np.zeros(planes.shape[2], planes.dtype)
    for i in range(envs.shape[0]):
        env_index, slot = envs[i], slots[i]
        depth = _history(flags, env_index, slot, 4)
        a = planes[env_index, slot - 3] if depth > 2 else blank
        b = planes[env_index, slot - 2] if depth > 1 else blank
        c = planes[env_index, slot - 1] if depth > 0 else blank
        d = planes[env_index, slot]
        row = out[i]
        for p in range(row.shape[0]):
            row[p] = (
                np.uint32(a[p])
                | (np.uint32(b[p]) << np.uint32(8))
                | (np.uint32(c[p]) << np.uint32(16))
                | (np.uint32(d[p]) << np.uint32(24))
            )


@numba.njit(cache=True, nogil=True)
def _stack_any(planes: Any, flags: Any, envs: Any, slots: Any, out: Any) -> None:
    """Stacks of any depth and dtype into `out` [B,P,S]."""
    stack = out.shape[2]
    for i in range(envs.shape[0]):
        env_index, slot = envs[i], slots[i]
        depth = _history(flags, env_index, slot, stack)
        for age in range(stack):
            for p in range(out.shape[1]):
                out[i, p, stack - 1 - age] = planes[env_index, slot - age, p] if age <= depth else 0
