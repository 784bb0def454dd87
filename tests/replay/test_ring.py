"""The ring against a naive list of steps: frame stacks of any depth, sparse and full sequences, wrap-around, ended streams."""

import copy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rlsuite.core.agent import Sequences, Transitions
from rlsuite.core.types import EnvSpec, Step, Unroll
from rlsuite.replay.layout import Layout, layout_of
from rlsuite.replay.ring import Ring
from rlsuite.replay.stacks import stacked


def spec_of(stack: int, plane: tuple[int, ...], dtype: str = "uint8") -> EnvSpec:
    return EnvSpec((stack, *plane) if stack > 1 else plane, dtype, num_actions=5, num_states=None, stack=stack, frames_per_step=1)


class Streams:
    """Random environments whose episodes end at random times; keeps all steps, so that any sequence can be built naively."""

    def __init__(self, num_envs: int, plane: tuple[int, ...], dtype: str, seed: int, end_chance: float = 0.2):
        self.rng = np.random.default_rng(seed)
        self.num_envs, self.plane, self.dtype, self.end_chance = num_envs, plane, dtype, end_chance
        self.steps: list[Step] = []  # by absolute time, leaves [L,...]

    def end(self) -> None:
        """What `Ring.end_streams` must do."""
        if self.steps:
            self.steps[-1].last[:] = True

    def unroll(self, k: int) -> Unroll:
        """The next k steps, leaves [K,L,...]."""
        new = []
        for _ in range(k):
            size = (self.num_envs, *self.plane)
            first = self.steps[-1].last.copy() if self.steps else np.ones(self.num_envs, bool)
            last = (self.rng.random(self.num_envs) < self.end_chance) & ~first
            step = Step(
                observation=self.rng.integers(1, 256, size).astype(self.dtype),
                reward=(len(self.steps) + self.rng.random(self.num_envs)).astype(np.float32),
                first=first,
                last=last,
                terminal=(last & (self.rng.random(self.num_envs) < 0.5)) | (self.rng.random(self.num_envs) < 0.05),
                action=self.rng.integers(0, 5, self.num_envs),
                extras={},
            )
            self.steps.append(step)
            new.append(step)
        leaves = {name: np.stack([getattr(r, name) for r in new]) for name in Step._fields if name != "extras"}
        return Unroll(Step(**leaves, extras={}))

    def leaf(self, name: str, env_index: int, times: range) -> NDArray[Any]:
        return np.array([getattr(self.steps[t], name)[env_index] for t in times])

    def stack(self, env_index: int, time: int, depth: int) -> NDArray[Any]:
        """[S,*plane]: planes of the same episode, newest at the end, zeros before its first."""
        out = np.zeros((depth, *self.plane), self.dtype)
        for age in range(depth):
            out[depth - 1 - age] = self.steps[time - age].observation[env_index]
            if self.steps[time - age].first[env_index]:
                break
        return out

    def bootstrap(self, env_index: int, time: int, length: int) -> int:
        for t in range(time + 1, time + length):
            if self.steps[t].last[env_index]:
                return t
        return time + length - 1


def check_sequences(ring: Ring, streams: Streams, envs: NDArray[np.int64], times: NDArray[np.int64]) -> None:
    """Every leaf that `read` returns equals what was written."""
    got = stacked(ring.read(envs, times)).steps
    length, stack = ring.layout.length, ring.spec.stack
    for b, (env_index, time) in enumerate(zip(envs.tolist(), times.tolist(), strict=True)):
        for name in ("reward", "first", "last", "terminal", "action"):
            np.testing.assert_array_equal(getattr(got, name)[:, b], streams.leaf(name, env_index, range(time, time + length)), name)
        seen = [time, streams.bootstrap(env_index, time, length)] if ring.layout.sparse else range(time, time + length)
        assert got.observation.shape[0] == len(seen)
        for i, t in enumerate(seen):
            if stack > 1:
                np.testing.assert_array_equal(
                    got.observation[i, b], streams.stack(env_index, t, stack), f"environment {env_index} time {t}"
                )
            else:
                np.testing.assert_array_equal(got.observation[i, b], streams.steps[t].observation[env_index])


def readable(ring: Ring) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Environments and start times of all sequences in the ring with complete stacks."""
    times = np.arange(ring.oldest, ring.head - ring.layout.length + 1)
    envs = np.repeat(np.arange(ring.num_envs), times.size)
    return envs, np.tile(times, ring.num_envs)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize(
    ("stack", "plane", "dtype"),
    [
        (1, (3, 2), "uint8"),
        (2, (3, 2), "uint8"),
        (3, (3, 2), "uint8"),
        (4, (3, 2), "uint8"),
        (5, (2, 3), "uint8"),
        (4, (2, 3), "float32"),
        (1, (), "int64"),
        (1, (4,), "float32"),
    ],
)
def test_sequences_equal_what_was_written(stack: int, plane: tuple[int, ...], dtype: str, sparse: bool) -> None:
    length, num_envs, slots = 4, 3, 23
    ring = Ring(spec_of(stack, plane, dtype), num_envs, slots, Layout(length, sparse))
    streams = Streams(num_envs, plane, dtype, seed=stack)
    rng = np.random.default_rng(1)
    checked = 0
    while ring.head < 5 * slots:
        if rng.random() < 0.1:
            streams.end()
            ring.end_streams()
        ring.write(streams.unroll(int(rng.integers(1, 7))))
        envs, times = readable(ring)
        if times.size:
            check_sequences(ring, streams, envs, times)
            checked += times.size
    assert checked > 1000


def test_the_stack_at_the_oldest_step_is_complete_and_the_one_before_is_not() -> None:
    """`oldest` is exact: one step earlier, a plane of the stack has been overwritten."""
    ring = Ring(spec_of(4, (1, 1)), 1, 10, layout_of(Transitions(1)))
    streams = Streams(1, (1, 1), "uint8", seed=0, end_chance=0.0)
    ring.write(streams.unroll(10))
    assert ring.oldest == 0  # full, nothing lost
    ring.write(streams.unroll(4))  # steps 0 to 3 are gone
    assert ring.oldest == 4 + 3
    assert ring.filled == 10
    check_sequences(ring, streams, np.array([0]), np.array([7]))
    with pytest.raises(AssertionError):
        check_sequences(ring, streams, np.array([0]), np.array([6]))


def test_observations_are_channels_last_in_memory() -> None:
    ring = Ring(spec_of(4, (6, 5)), 2, 20, layout_of(Transitions(1)))
    ring.write(Streams(2, (6, 5), "uint8", seed=0).unroll(20))
    observation = ring.read(np.array([0, 1, 1]), np.array([3, 3, 9])).steps.observation  # [2,B,S,H,W]
    assert observation.shape == (2, 3, 4, 6, 5)
    assert np.moveaxis(observation, 2, -1).flags.c_contiguous


def test_transitions_may_have_whole_observations() -> None:
    ring = Ring(spec_of(4, (6, 5)), 2, 40, layout_of(Transitions(3, whole=True)))
    streams = Streams(2, (6, 5), "uint8", seed=0)
    ring.write(streams.unroll(40))
    assert stacked(ring.read(np.array([0, 1]), np.array([9, 20]))).steps.observation.shape == (4, 2, 4, 6, 5)
    check_sequences(ring, streams, np.array([0, 1, 1]), np.array([9, 20, 30]))


def test_read_returns_copies() -> None:
    ring = Ring(spec_of(1, (2,), "float32"), 1, 8, layout_of(Sequences(0, 2, 0, 1)))
    streams = Streams(1, (2,), "float32", seed=0)
    ring.write(streams.unroll(8))
    before = ring.read(np.array([0]), np.array([2])).steps
    kept = copy.deepcopy(before)
    ring.write(streams.unroll(8))
    for old, new in zip(kept[:-1], before[:-1], strict=True):
        np.testing.assert_array_equal(old, new)


def test_end_streams_marks_only_the_newest_step_of_every_environment() -> None:
    ring = Ring(spec_of(1, (2,), "float32"), 3, 6, layout_of(Transitions(1)))
    ring.end_streams()  # nothing is stored yet, so there is nothing to mark
    assert not ring.flags.any()
    streams = Streams(3, (2,), "float32", seed=0, end_chance=0.0)
    ring.write(streams.unroll(8))
    before = ring.flags.copy()
    ring.end_streams()
    assert ring.starts(np.array([7])).tolist() == [[False, False, False]]
    changed = np.argwhere(before != ring.flags)
    assert set(changed[:, 1].tolist()) == {7 % 6}
    terminal = ring.read(np.arange(3), np.full(3, 6)).steps.terminal[1]
    np.testing.assert_array_equal(terminal, streams.steps[7].terminal)  # ended as by a time limit, so bootstrapped


@pytest.mark.parametrize("written", [7, 20, 33])
def test_state_round_trip(written: int) -> None:
    spec, layout = spec_of(3, (2, 2)), Layout(3, sparse=True)
    streams = Streams(2, (2, 2), "uint8", seed=3)
    ring = Ring(spec, 2, 20, layout)
    ring.write(streams.unroll(written))
    state = copy.deepcopy(ring.state_dict())
    assert state["observation"].shape == (2, min(written, 20), 2, 2)  # only the filled part
    other = Ring(spec, 2, 20, layout)
    other.load_state_dict(state)
    for _ in range(5):
        check_sequences(other, streams, *readable(other))
        assert other.head == len(streams.steps)
        other.write(streams.unroll(4))


@pytest.mark.parametrize(
    ("num_envs", "slots", "plane"), [(2, 21, (2, 2)), (3, 20, (2, 2)), (2, 20, (3, 2)), (2, 20, (2, 3)), (2, 20, (2, 1))]
)
def test_a_state_of_another_size_is_refused(num_envs: int, slots: int, plane: tuple[int, int]) -> None:
    ring = Ring(spec_of(3, (2, 2)), 2, 20, layout_of(Transitions(2)))
    ring.write(Streams(2, (2, 2), "uint8", seed=3).unroll(30))
    with pytest.raises(ValueError, match=r"shape|slots"):
        Ring(spec_of(3, plane), num_envs, slots, layout_of(Transitions(2))).load_state_dict(ring.state_dict())


def test_a_saved_plane_is_never_broadcast_into_a_wider_one() -> None:
    narrow = Ring(spec_of(3, (2, 1)), 2, 20, layout_of(Transitions(2)))
    narrow.write(Streams(2, (2, 1), "uint8", seed=3).unroll(30))
    with pytest.raises(ValueError, match=r"shape|slots"):
        Ring(spec_of(3, (2, 2)), 2, 20, layout_of(Transitions(2))).load_state_dict(narrow.state_dict())


def test_bytes_per_step_are_those_of_the_arrays() -> None:
    for spec in (spec_of(4, (84, 84)), spec_of(1, (4,), "float32"), spec_of(1, (), "int64")):
        ring = Ring(spec, 3, 50, layout_of(Transitions(1)))
        arrays = (ring.observation, ring.reward, ring.flags, ring.action)
        assert sum(array.nbytes for array in arrays) == Ring.bytes_per_step(spec, ring.layout) * 3 * 50
