"""Sequences of recurrent agents: where they start, from what states, and how a ring stores them."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.acting.collector import Collector
from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import Actor, Extra, Mode, Sequences
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step, describe
from rlsuite.envs import recall
from rlsuite.replay import Replay, build_replay
from rlsuite.replay.replay import predicted_bytes
from rlsuite.replay.ring import Ring
from rlsuite.replay.stacks import stacked

L, LENGTH, STRIDE = 3, 7, 4


class Diarist(Actor):
    """An actor whose state encodes the environment and the number of steps acted; it records the state before every step."""

    def __init__(self, within_episodes: bool, length: int = LENGTH, stride: int = STRIDE):
        state = (Extra("a", (2,), "float32"), Extra("b", (), "int64"))
        self.sequence = Sequences(0, length, 0, stride, state=state, within_episodes=within_episodes)
        self.states: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self.steps: list[Step] = []

    def initial_state(self, batch: int) -> State:
        return torch.zeros(batch, 2), torch.arange(batch)

    def act(self, net: nn.Module, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        self.states.append((state[0].numpy().copy(), state[1].numpy().copy()))
        action = torch.randint(2, (L,), generator=mode.rng)
        self.steps.append(step._replace(action=action[None]))
        return action, (state[0] + torch.tensor([1.0, 0.5]), state[1] + 10), {}


def made(within_episodes: bool, length: int = 5, slots: int = 40, **sequence: int) -> tuple[Collector, Diarist, Replay]:
    env = recall.make(recall.Config(id="rlsuite/Recall-v0", length=length), L)
    agent = Diarist(within_episodes, **sequence)
    config = ReplayConfig(capacity_agent_steps=slots * L, min_agent_steps=1, samples_per_insert=1e9)
    replay = build_replay(config, describe(env), L, agent.sequence, 5, seed=1)
    return Collector(env, agent, nn.Identity(), seed=1), agent, replay  # type: ignore[arg-type]


def present(replay: Replay) -> list[tuple[int, int]]:
    """(environment, absolute time) of every sequence that can be sampled."""
    ids = np.unique(replay.selector.sample(4_000, np.random.default_rng(0))[0])
    ring = replay.rings[0]
    slot = ids % ring.slots
    return [(int(i // ring.slots), int(ring.head - 1 - (ring.head - 1 - s) % ring.slots)) for i, s in zip(ids, slot, strict=True)]


@pytest.mark.parametrize("unrolls", [[1] * 120, [5] * 24, [3, 1, 5, 4] * 9])
@pytest.mark.parametrize("within_episodes", [False, True])
def test_sequences_start_at_their_strides_from_the_collectors_states(within_episodes: bool, unrolls: list[int]) -> None:
    collector, agent, replay = made(within_episodes)
    for size in unrolls:
        replay.add(collector.collect(size, 0)[0])
        ring = replay.rings[0]
        if not len(replay.selector):
            continue
        first = np.stack([step.first[0].numpy() for step in agent.steps])  # [t,L]
        since = np.arange(len(first))[:, None] - np.maximum.accumulate(np.where(first, np.arange(len(first))[:, None], 0))
        offset = since if within_episodes else np.arange(len(first))[:, None] + np.zeros(L, int)
        expected = {
            (env_index, t)
            for env_index in range(L)
            for t in range(ring.oldest, ring.head - LENGTH + 1)
            if offset[t, env_index] % STRIDE == 0
        }
        assert set(present(replay)) == expected
        for env_index, t in expected:
            sequence = stacked(ring.read(np.array([env_index]), np.array([t])))
            for i in range(LENGTH):
                step = agent.steps[t + i] if t + i < len(agent.steps) else None
                if step is not None:
                    np.testing.assert_array_equal(sequence.steps.observation[i, 0], step.observation[0, env_index])
                    assert sequence.steps.action[i, 0] == step.action[0, env_index]
                    assert sequence.steps.reward[i, 0] == step.reward[0, env_index]
            if not first[t, env_index]:  # where the net would reset it
                for leaf, seen in zip(sequence.state, agent.states[t], strict=True):
                    np.testing.assert_array_equal(leaf[0], seen[env_index])
                    assert leaf.dtype == seen.dtype


def test_every_step_is_learned_from_unless_strides_are_counted_within_episodes() -> None:
    burn_in, unroll = 2, 4  # and one step to bootstrap from: LENGTH
    for within_episodes in (False, True):
        collector, agent, replay = made(within_episodes, slots=80)
        for _ in range(15):
            replay.add(collector.collect(5, 0)[0])
        taken = np.zeros((75, L), int)
        first = np.stack([step.first[0].numpy() for step in agent.steps])
        episode = first.cumsum(0)
        for env_index, t in present(replay):
            inside = np.arange(t + burn_in, t + burn_in + unroll)
            if within_episodes:
                inside = inside[episode[inside, env_index] == episode[t, env_index]]
            taken[inside, env_index] += 1
        middle = slice(10, 60)
        warm_up = np.zeros_like(first)
        for back in range(burn_in):
            warm_up |= np.roll(first, back, 0)
        assert (taken[middle] == (~warm_up[middle] if within_episodes else 1)).all()


def test_a_replay_with_states_is_restored_exactly() -> None:
    one, _, replay = made(False)
    two, _, other = made(False)
    for size in (3, 2, 5, 5, 5, 5, 5, 5, 5, 5, 5, 1):
        replay.add(one.collect(size, 0)[0])
    one.collect(2, 0)
    for _ in range(2):
        one.advance(0)
    saved, stored = one.state_dict(), replay.state_dict()
    two.load_state_dict(saved, reseed=9)
    other.load_state_dict(stored)
    for _ in range(6):
        replay.add(one.collect(5, 0)[0])
        other.add(two.collect(5, 0)[0])
        a, b = replay.sample(8), other.sample(8)
        np.testing.assert_array_equal(a.keys, b.keys)
        for x, y in zip(a.trajectory.state, b.trajectory.state, strict=True):
            np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(a.trajectory.steps.action, b.trajectory.steps.action)


def test_memory_of_r2d2_at_paper_scale() -> None:
    """Stacks of 4 planes of 84x84, an LSTM of 512, stride 40: frames are stored once, states once in 40 steps."""
    spec = EnvSpec((4, 84, 84), "uint8", 18, None, 4, 4)
    sequence = Sequences(0, 125, 0, 40, state=(Extra("h", (512,), "float32"), Extra("c", (512,), "float32")))
    config = ReplayConfig(capacity_agent_steps=4_000_000, prioritized=True)
    a_step = predicted_bytes(spec, config, sequence) / config.capacity_agent_steps
    assert 7056 + 2 * 512 * 4 / 40 < a_step < 7_700
    ring = Ring(spec, 2, 400, sequence)
    held = sum(array.nbytes for array in (ring.observation, ring.reward, ring.flags, ring.action, *ring.state)) / (2 * 400)
    assert held == pytest.approx(Ring.bytes_per_step(spec, sequence), abs=1)


@pytest.mark.parametrize("within_episodes", [False, True])
@pytest.mark.parametrize(("length", "stride", "unroll"), [(7, 4, 5), (9, 9, 1), (5, 3, 7)])
def test_the_smallest_replay_that_is_accepted_always_has_a_sequence(
    within_episodes: bool, length: int, stride: int, unroll: int
) -> None:
    env = recall.make(recall.Config(id="rlsuite/Recall-v0", length=20), L)
    agent = Diarist(within_episodes, length, stride)

    def build(slots: int) -> Replay:
        config = ReplayConfig(capacity_agent_steps=slots * L, min_agent_steps=1, samples_per_insert=1e9)
        return build_replay(config, describe(env), L, agent.sequence, unroll, seed=1)

    least = next(slots for slots in range(1, 200) if accepted(build, slots))
    replay, collector = build(least), Collector(env, agent, nn.Identity(), seed=1)  # type: ignore[arg-type]
    for _ in range(-(-3 * least // unroll)):
        replay.add(collector.collect(unroll, 0)[0])
        assert len(replay.selector) > 0 or replay.rings[0].head < least
    assert len(replay.selector) > 0


def accepted(build: Any, slots: int) -> bool:
    try:
        build(slots)
    except UsageError:
        return False
    return True


def test_a_stream_that_continues_after_end_streams_is_a_new_episode() -> None:
    collector, _, replay = made(False, length=30)
    replay.add(collector.collect(5, 0)[0])
    replay.end_streams()
    replay.add(collector.collect(5, 0)[0])
    steps = replay.rings[0].read(np.zeros(1, np.int64), np.array([2])).steps
    assert steps.last[:, 0].tolist() == [False, False, True, False, False, False, False]
    assert steps.first[:, 0].tolist() == [False, False, False, True, False, False, False]


def test_a_saved_replay_of_other_sequences_is_refused() -> None:
    _, _, replay = made(False)
    for sequence in ({"length": 6}, {"stride": 3}):
        with pytest.raises(ValueError, match="the saved replay has sequences of"):
            made(False, length=5, slots=40)[2].rings[0].load_state_dict(
                {**replay.rings[0].state_dict(), "layout": {"length": LENGTH, "stride": STRIDE, "within_episodes": 0, **sequence}}
            )


def test_a_start_whose_state_was_overwritten_is_not_sampled() -> None:
    """After a restored replay has missed steps of its collector, strides do not match its cells any more."""
    collector, agent, replay = made(within_episodes=False, length=50)  # one long episode
    replay.add(collector.collect(7, 0)[0])
    collector.collect(1, 0)  # lost
    for _ in range(8):
        replay.add(collector.collect(4, 0)[0])
    ring = replay.rings[0]
    found = sorted({t for _, t in present(replay)})
    assert found == [0, *range(7, ring.head - LENGTH + 1, STRIDE)]  # 4 shares its cell with 7
    for t in found[1:]:
        read = ring.read(np.array([0]), np.array([t]))
        np.testing.assert_array_equal(read.state[1], agent.states[t + 1][1][:1])
