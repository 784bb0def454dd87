"""The on-policy queue: no step is lost or repeated between unrolls, frame stacks are the environment's, resuming is exact.

Shapes: K steps of an unroll, L environments, S planes.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.acting.collector import Collector
from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import Actor, Mode, Rollouts, Transitions
from rlsuite.core.types import EnvSpec, State, Step, describe
from rlsuite.envs import atari, recall
from rlsuite.replay.mixture import digest, store_of
from rlsuite.replay.queue import Queue, QueueBesideRecorded
from rlsuite.replay.stacks import stacked

K, L = 5, 3


class Scribe(Actor):
    """Acts at random, keeps all stacks that it saw, and has a counter as its recurrent state."""

    def __init__(self, actions: int):
        self.actions = actions
        self.seen: list[NDArray[Any]] = []
        self.done: list[NDArray[np.int64]] = []

    sequence = Rollouts()

    def initial_state(self, batch: int) -> State:
        return (torch.zeros(batch),)

    def act(self, net: nn.Module, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        action = torch.randint(self.actions, (step.first.shape[1],), generator=mode.rng)
        self.seen.append(step.observation[0].numpy().copy())
        self.done.append(action.numpy().copy())
        return action, (state[0] + 1,), {"pair": torch.stack([action, -action], -1)}


def collector(pixels: bool) -> tuple[Collector, Scribe, Queue]:
    if pixels:
        env: Any = atari.make(atari.Config(id="ALE/Breakout-v5", height=24, width=24, max_frames=60), L)
    else:
        env = recall.make(recall.Config(id="rlsuite/Recall-v0", length=3), L)
    agent = Scribe(2)
    return Collector(env, agent, nn.Identity(), seed=1), agent, Queue(describe(env), L, K, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("pixels", [True, False])
def test_rollouts_follow_each_other_without_a_gap(pixels: bool) -> None:
    roll, agent, queue = collector(pixels)
    ends = 0
    for unroll in range(8):
        roll.version = 10 * unroll
        queue.add(roll.collect(K, 0)[0])
        sample = queue.sample(L)
        steps, state = stacked(sample.trajectory)
        assert steps.first.shape == (K + 1, L)
        np.testing.assert_array_equal(np.stack(agent.seen[-K:]), steps.observation[:-1])  # stacks are identical bit for bit
        np.testing.assert_array_equal(roll.current_step.observation, steps.observation[-1])  # seen, but not acted on yet
        np.testing.assert_array_equal(np.stack(agent.done[-K:]), steps.action[:-1])
        np.testing.assert_array_equal(steps.extras["pair"][:-1, :, 1], -steps.action[:-1])
        np.testing.assert_array_equal(state[0], np.full(L, unroll * K))  # before the first step
        np.testing.assert_array_equal(steps.first[1:], steps.last[:-1])
        assert sample.version == 10 * unroll
        ends += int(steps.last[:-1].sum())
    assert ends > 0, "no episode ended: stacks at the boundaries of episodes were not tested"


def test_observations_are_channels_last() -> None:
    roll, _, queue = collector(pixels=True)
    for _ in range(2):
        queue.add(roll.collect(K, 0)[0])
    observation = torch.from_numpy(stacked(queue.sample(2 * L).trajectory).steps.observation)  # [K+1,2L,S,H,W]
    assert observation.shape[:3] == (K + 1, 2 * L, 4)
    assert observation.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_a_batch_of_several_unrolls_concatenates_them() -> None:
    roll, agent, queue = collector(pixels=False)
    for version in (3, 4):
        roll.version = version
        queue.add(roll.collect(K, 0)[0])
    sample = queue.sample(2 * L)
    steps, state = sample.trajectory
    for part in range(2):
        rows = slice(part * L, (part + 1) * L)
        np.testing.assert_array_equal(np.stack(agent.done[part * K : (part + 1) * K]), steps.action[:-1, rows])
        np.testing.assert_array_equal(state[0][rows], np.full(L, part * K))
    assert sample.version == 3  # the oldest


def test_it_is_bounded_and_returns_every_unroll_once() -> None:
    roll, _, queue = collector(pixels=False)
    assert not queue.can_sample(L)
    for _ in range(2):
        assert queue.can_insert()
        queue.add(roll.collect(K, 0)[0])
    assert not queue.can_insert()
    assert (len(queue), queue.capacity_steps) == (2 * K * L, 2 * K * L)
    with pytest.raises(ValueError, match="full"):
        queue.add(roll.collect(K, 0)[0])
    with pytest.raises(ValueError, match="within an unroll"):
        queue.sample(L + 1)
    queue.sample(2 * L)
    assert not queue.can_sample(L)


@pytest.mark.parametrize("pixels", [True, False])
def test_a_restored_queue_returns_the_same_batch(pixels: bool) -> None:
    roll, _, queue = collector(pixels)
    for _ in range(2):
        queue.add(roll.collect(K, 0)[0])
    other = Queue(queue.spec, L, K, 2)
    other.load_state_dict(queue.state_dict())
    a, b = queue.sample(2 * L), other.sample(2 * L)
    assert a.version == b.version
    for name in Step._fields[:-1]:
        np.testing.assert_array_equal(getattr(a.trajectory.steps, name), getattr(b.trajectory.steps, name))
    np.testing.assert_array_equal(a.trajectory.state[0], b.trajectory.state[0])
    np.testing.assert_array_equal(a.trajectory.steps.extras["pair"], b.trajectory.steps.extras["pair"])


def beside(spec: EnvSpec, seed: int = 1) -> QueueBesideRecorded:
    """A queue of spec's rollouts, and of 4 recorded games of 3 steps whose observations are their times from 100 on."""
    time = np.arange(12)
    shape = spec.observation_shape[1:] if spec.stack > 1 else spec.observation_shape
    seen = np.broadcast_to((100 + time).reshape(-1, *[1] * len(shape)), (12, *shape)).astype(spec.observation_dtype)
    last = time % 3 == 2
    steps = Step(seen, np.zeros(12, np.float32), time % 3 == 0, last, last, time % 2, {})
    store = store_of(steps, ReplayConfig(), spec, Transitions(1), lambda batch: (), seed)
    return QueueBesideRecorded(spec, L, K, 2, store, digest(steps))


@pytest.mark.parametrize("pixels", [True, False])
def test_recorded_steps_lie_beside_those_of_a_rollout(pixels: bool) -> None:
    """Every recorded step with an action comes as often as any other, and no final observation does."""
    roll, _, plain = collector(pixels)
    queue, seen = beside(plain.spec), list[int]()
    for _ in range(30):
        unroll = roll.collect(K, 0)[0]
        queue.add(unroll)
        plain.add(unroll)
        steps, own = stacked(queue.sample(L).trajectory).steps, stacked(plain.sample(L).trajectory).steps
        np.testing.assert_array_equal(steps.observation, own.observation)
        shown, action = steps.extras["recorded_observation"], steps.extras["recorded_action"]
        assert (shown.shape, shown.dtype) == (own.observation.shape, own.observation.dtype)
        assert (action.shape, action.dtype) == (own.action.shape, own.action.dtype)
        time = (shown[:, :, -1, 0, 0] if pixels else shown.reshape(K + 1, L, -1)[:, :, 0]).astype(np.int64) - 100
        np.testing.assert_array_equal(action, time % 2)
        seen += time.flatten().tolist()
        if pixels:  # planes from before the game are blank
            np.testing.assert_array_equal(shown[:, :, 2, 0, 0], np.where(time % 3 == 0, 0, 99 + time))
    counts = np.bincount(seen, minlength=12)
    assert not counts[2::3].any()
    assert (np.abs(counts[np.arange(12) % 3 < 2] - len(seen) / 8) < 5 * (len(seen) / 8) ** 0.5).all()


def test_a_restored_queue_draws_the_same_recorded_steps() -> None:
    roll, _, plain = collector(pixels=False)
    queue, other = beside(plain.spec), beside(plain.spec, seed=9)
    unrolls = [roll.collect(K, 0)[0] for _ in range(3)]
    queue.add(unrolls[0])
    queue.sample(L)
    queue.add(unrolls[1])
    other.load_state_dict(queue.state_dict())
    for store in (queue, other):
        store.add(unrolls[2])
    a, b = (store.sample(2 * L).trajectory.steps.extras for store in (queue, other))
    assert a.keys() == b.keys() == {"pair", "recorded_observation", "recorded_action"}
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    other.digest = "another"
    with pytest.raises(ValueError, match="hold other episodes"):
        other.load_state_dict(queue.state_dict())
    assert other.load_state_dict({"shards": [], "rng": {}}) is not None  # of a run on Ray
