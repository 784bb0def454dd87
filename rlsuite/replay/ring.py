"""The storage of a replay: a ring of steps for each environment. Frames are stored once, as single planes.

The absolute time of a step (0, 1, 2, ... in its environment) gives both its slot (time % N) and its generation (time // N).

Shapes: L environments, N slots of each, K steps of an unroll, B samples, T steps of a sequence, S planes of a stack, H x W = P
pixels of a plane.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from rlsuite.core.types import EnvSpec, Planes, Step, Trajectory, Unroll, bootstrap_index, tree_zip
from rlsuite.replay.layout import Layout
from rlsuite.replay.stacks import stack_rows

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
        """The number of slots per environment that hold a step."""
        return min(self.head, self.slots)

    @property
    def oldest(self) -> int:
        """Absolute time of the oldest step whose frame stack is complete and whose recurrent state is still stored."""
        if self.head <= self.slots:
            return self.whole_from
        return self.head - self.slots + max(self.spec.stack, self.layout.stride) - 1

    @staticmethod
    def bytes_per_step(spec: EnvSpec, layout: Layout) -> int:
        """The bytes that one step of one environment takes, including its share of recurrent states."""
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
            # Its state is about to be overwritten, so its mark is removed.
            earlier = self.flags[row, at // self.layout.stride * self.layout.stride : at]  # a view
            earlier[(earlier & FIRST) == 0] &= ~np.uint8(START)
        for stored, leaf in zip(self.state, unroll.state, strict=True):
            stored[env_index[own], slot[own] // self.layout.stride] = leaf[own]

    def end_streams(self) -> None:
        """Ends all streams, because the environments restart: each newest step becomes a final observation, as at a time limit."""
        if self.head:
            self.flags[:, (self.head - 1) % self.slots] |= LAST

    def starts(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a valid sequence starts at the absolute times [K], given that its last step is stored: bool [K,L]."""
        flags = self.flags[:, times % self.slots].T  # [K,L]
        # Without a stride every action starts a sequence, but a final observation has no action.
        wanted = (flags & START) > 0 if self.layout.stride > 1 else (flags & LAST) == 0
        return np.asarray(wanted & (times >= self.oldest)[:, None])

    def read(self, env_index: NDArray[np.int64], time: NDArray[np.int64]) -> Trajectory:
        """Sequences that start at `time` [B] in the environments [B]: leaves [T,B,...], frame stacks as `Planes`.

        If the layout is sparse, observations are whole: [2,B,...].
        """
        times = time + np.arange(self.layout.length)[:, None]  # [T,B]
        slots = times % self.slots
        flags = self.flags[env_index, slots]  # [T,B]
        last = (flags & LAST).astype(bool)
        at = np.stack([time, time + bootstrap_index(last)]) if self.layout.sparse else times  # [2,B] or [T,B]
        observation: Any
        if self.spec.stack == 1:
            observation = self.observation[env_index, at % self.slots]
        else:
            observation = self._stacks(env_index, at) if self.layout.sparse else self._planes(env_index, time)
        return Trajectory(
            Step(
                observation=observation,
                reward=self.reward[env_index, slots],
                first=(flags & FIRST).astype(bool),
                last=last,
                terminal=(flags & TERMINAL).astype(bool),
                action=self.action[env_index, slots],
                extras={name: stored[env_index, slots] for name, stored in self.extras.items()},
            ),
            state=tuple(stored[env_index, time % self.slots // self.layout.stride] for stored in self.state),
        )

    def _rows(self, env_index: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The planes [K,S] of the stacks at `times` [K], as indices over all slots, oldest first; -1: from an earlier episode."""
        rows = np.empty((len(times), self.spec.stack), np.int64)
        _find_planes(self.flags, env_index, times % self.slots, rows)
        return rows

    def _stacks(self, env_index: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[Any]:
        """Frame stacks at `times` [T,B]: a view [T,B,S,H,W] of an array [T,B,H,W,S]."""
        rows = self._rows(np.broadcast_to(env_index, times.shape).reshape(-1), times.reshape(-1))
        height, width = self.spec.observation_shape[1:]
        out = stack_rows(self.observation.reshape(-1, height * width), rows)
        return np.moveaxis(out.reshape(*times.shape, height, width, -1), -1, 2)

    def _planes(self, env_index: NDArray[np.int64], time: NDArray[np.int64]) -> Planes:
        """The planes of the sequences that start at `time` [B]."""
        older = self.spec.stack - 1
        times = time + np.arange(-older, self.layout.length)[:, None]  # [S-1+T,B]
        planes = self.observation[env_index, times % self.slots]
        planes[:older][self._rows(env_index, time)[:, :-1].T < 0] = 0
        return Planes(planes)

    def state_dict(self) -> dict[str, Any]:
        """The filled part of all arrays, and the counters."""
        n = self.filled
        arrays = {name: getattr(self, name)[:, :n] for name in ("observation", "reward", "flags", "action")}
        extras = {name: stored[:, :n] for name, stored in self.extras.items()}
        state = [stored[:, : -(-n // self.layout.stride)] for stored in self.state]
        counts = {"head": self.head, "whole_from": self.whole_from, "slots": self.slots, "layout": self.layout.facts()}
        return {**arrays, "extras": extras, "state": state, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state`. ValueError if it has another layout or size, to which a ring cannot be converted."""
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
    """Starts [K'] of the sequences of `length` steps that became complete as a ring's head moved from `before` to `head`."""
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


@numba.njit(cache=True, nogil=True)
def _find_planes(flags: Any, envs: Any, slots: Any, rows: Any) -> None:
    """Fills `rows` [K,S], the planes of the stacks that end at `slots` [K] of the environments `envs` [K], by `flags` [L,N]."""
    size, stack = flags.shape[1], rows.shape[1]
    for i in range(rows.shape[0]):
        env_index, slot, own = envs[i], slots[i], True
        for age in range(stack):
            at = (slot - age) % size
            rows[i, stack - 1 - age] = env_index * size + at if own else -1
            own = own and not flags[env_index, at] & FIRST
