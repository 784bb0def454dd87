"""The steps of a saved replay in one of another shape: none is lost or changed, and priorities move with their sequences."""

import copy
from typing import Any

import numpy as np
import pytest

from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import Extra, Sequences, SequenceSpec, Transitions
from rlsuite.core.types import EnvSpec, Step, Unroll
from rlsuite.replay.moves import Place, SavedReplay, places
from rlsuite.replay.replay import Replay, build_replay

ENVS = 2  # L
SPEC = EnvSpec((1,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)
SEQUENCES = Sequences(burn_in=1, unroll=2, n=1, stride=2, state=(Extra("h", (1,), "float32"),))


def replay(sequence: SequenceSpec, sources: int = 1, capacity: int = 240, prioritized: bool = True) -> Replay:
    config = ReplayConfig(capacity_agent_steps=capacity, min_agent_steps=1, prioritized=prioritized)
    return build_replay(config, SPEC, ENVS, sequence, 5, seed=1, sources=sources)


def unroll(time: int, steps: int, stride: int) -> Unroll:
    """Steps whose observation is time + 1000 * environment, in episodes of 7 steps; its recurrent state is the observation."""
    times = np.arange(time, time + steps)[:, None] + np.zeros((1, ENVS), np.int64)  # [K,L]
    observation = (times + 1000 * np.arange(ENVS))[..., None].astype(np.float32)
    starts = times % stride == 0
    return Unroll(
        Step(
            observation,
            reward=observation[..., 0],
            first=times % 7 == 0,
            last=times % 7 == 6,
            terminal=times % 14 == 13,
            action=times % 3,
            extras={},
        ),
        starts=starts if stride > 1 else None,
        state=(observation[starts],) if stride > 1 else (),
    )


def filled(sequence: SequenceSpec, steps: int, **settings: Any) -> Replay:
    store, stride = replay(sequence, **settings), getattr(sequence, "stride", 1)
    for time in range(0, steps, 5):
        store.add(unroll(time, 5, stride))
    return store


def contents(store: Replay) -> set[tuple[float, int, bool]]:
    """Observation, action and terminal flag of every step."""
    found = set()
    for ring in store.rings:
        n = ring.filled
        flat = (ring.observation[:, :n, 0].ravel(), ring.action[:, :n].ravel(), (ring.flags[:, :n] & 4).ravel() > 0)
        found |= {(float(o), int(a), bool(t)) for o, a, t in zip(*flat, strict=True)}
    return found


@pytest.mark.parametrize("sequence", [Transitions(1), SEQUENCES], ids=["transitions", "sequences"])
@pytest.mark.parametrize("steps", [60, 400], ids=["half full", "wrapped around"])
def test_every_step_moves_and_every_sequence_is_one_that_was_there(sequence: SequenceSpec, steps: int) -> None:
    one = filled(sequence, steps)
    three = replay(sequence, sources=3, capacity=270)
    assert three.load_state_dict({"shards": [copy.deepcopy(one.state_dict())], "limiter": one.limiter.state_dict()})
    kept = contents(one)
    assert contents(three) <= kept
    assert len(kept) - len(contents(three)) <= 2 * ENVS  # those whose recurrent state was overwritten
    assert three.limiter.inserted == one.limiter.inserted == steps * ENVS
    sample = three.sample(500)
    seen, first, last = (sample.trajectory.steps.observation[..., 0], sample.trajectory.steps.first, sample.trajectory.steps.last)
    if isinstance(sequence, Sequences):
        begun = ~first[0]
        np.testing.assert_array_equal(sample.trajectory.state[0][begun, 0], seen[0, begun])  # each start has its own state
        steady = ~last[:-1] & ~first[1:]
        np.testing.assert_array_equal((seen[1:] - seen[:-1])[steady], 1.0)  # no sequence goes across a cut
    else:
        np.testing.assert_array_equal((seen[-1] - seen[0])[~last[0]], 1.0)
    back = replay(sequence)
    back.load_state_dict(three.state_dict())
    assert contents(back) <= kept
    assert len(contents(back)) >= len(contents(three)) - 3 * ENVS * 3


def test_priorities_move_with_their_sequences() -> None:
    one = filled(Transitions(1), 60)
    ids = np.arange(59)
    one.selector.update(ids, 1.0 + ids)  # of environment 0, whose slot is the time
    two = replay(Transitions(1), sources=2)
    two.load_state_dict(one.state_dict())
    sample = two.draw(2_000, 0.0)
    moved = sample.trajectory.steps.observation[0, :, 0]
    counts = {time: int((moved == time).sum()) for time in (3, 52)}
    assert counts[52] > 3 * max(counts[3], 1)


def test_equal_rings_are_restored_exactly_and_nothing_is_said() -> None:
    one, other = filled(Transitions(1), 60), replay(Transitions(1))
    assert other.load_state_dict({"shards": [one.state_dict()], "limiter": one.limiter.state_dict()}) is None
    np.testing.assert_array_equal(one.sample(64).keys, other.sample(64).keys)


def test_other_sequences_are_refused() -> None:
    one = filled(Transitions(1), 60)
    with pytest.raises(ValueError, match=r"the saved replay has sequences of .*, this one of"):
        replay(Transitions(2), sources=2).load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match="is of an on-policy agent, which has no replay"):
        one.load_state_dict({"unrolls": []})


def test_shares_of_the_capacity() -> None:
    assert places([2, 1]) == [Place(0, 0, 0.25), Place(0, 1, 0.25), Place(1, 0, 0.5)]
    assert SavedReplay.of(filled(Transitions(1), 60).state_dict()).sources == [1]
