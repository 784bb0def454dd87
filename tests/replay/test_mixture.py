"""Mixing demonstrations into a replay: how often, with what priorities, and that every recorded action can be learned from."""

from typing import Any

import numpy as np
import pytest
import torch

from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import Extra, Sequences, SequenceSpec
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step, Unroll
from rlsuite.replay import build_replay
from rlsuite.replay.mixture import Mixture, digest, store_of

SPEC = EnvSpec((), "int64", num_actions=4, num_states=None, stack=1, frames_per_step=1)
CONFIG = ReplayConfig(capacity_agent_steps=200, min_agent_steps=20, samples_per_insert=4, prioritized=True)
SHOWN = 1_000  # recorded observations are at least this large


def stream(count: int, offset: int, episode: int) -> Step:
    """Leaves [N]: episodes of `episode` steps, the last one whole."""
    time = np.arange(count)
    first, last = time % episode == 0, time % episode == episode - 1
    return Step(time + offset, time.astype(np.float32), first, last, last, time % 4, {})


def zero_state(batch: int) -> State:
    return (torch.zeros(batch, 2),)


def mixture(ratio: float, sequence: SequenceSpec | None = None) -> Mixture:
    sequence = sequence or Sequences(0, 3, 0, 1)
    own = build_replay(CONFIG, SPEC, 2, sequence, 10, seed=1)
    steps = stream(60, 0, 20)
    steps = Step(*(np.stack([leaf, leaf], 1) for leaf in steps[:-1]), {})  # type: ignore[arg-type]
    state = (np.zeros((int(np.ceil(60 / sequence.stride)) * 2, 2), np.float32),) if sequence.state else ()
    starts = np.repeat((np.arange(60) % sequence.stride == 0)[:, None], 2, 1) if sequence.stride > 1 else None
    own.add(Unroll(steps, starts=starts, state=state))
    recorded = stream(40, SHOWN, 10)
    demonstrations = store_of(recorded, CONFIG, SPEC, sequence, zero_state, seed=2)
    return Mixture(own, demonstrations, ratio, 3, digest(recorded))


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_demonstrations_are_drawn_with_the_given_probability(ratio: float) -> None:
    mixed = mixture(ratio)
    shown = 0
    for _ in range(200):
        sample = mixed.sample(32)
        from_demonstrations = sample.trajectory.steps.observation[0] >= SHOWN
        assert np.array_equal(from_demonstrations, sample.keys < 0)
        assert len(sample.weights) == 32
        shown += int(from_demonstrations.sum())
    expected = 200 * 32 * ratio
    assert abs(shown - expected) <= 4 * (200 * 32 * ratio * (1 - ratio)) ** 0.5
    assert mixed.own.limiter.state_dict()["sampled"] == 200 * 32  # demonstrations count as samples too


def test_both_stores_have_their_own_priorities() -> None:
    mixed = mixture(0.5)
    sample = mixed.sample(64)
    seen = sample.trajectory.steps.observation[0]
    favourites = {int(seen[seen < SHOWN][0]), int(seen[seen >= SHOWN][0])}
    for _ in range(30):
        sample = mixed.sample(64)
        seen = sample.trajectory.steps.observation[0]
        mixed.update(sample.keys, np.where(np.isin(seen, list(favourites)), 1e6, 1e-6))
    seen = mixed.sample(64).trajectory.steps.observation[0]
    assert np.isin(seen, list(favourites)).mean() > 0.9
    assert (seen >= SHOWN).any()
    assert (seen < SHOWN).any()


def test_every_recorded_action_can_be_learned_from() -> None:
    mixed = mixture(1.0)
    seen: dict[int, Any] = {}
    for _ in range(100):
        steps = mixed.sample(32).trajectory.steps
        for column in range(32):
            seen[int(steps.observation[0, column]) - SHOWN] = (steps.last[:, column].tolist(), steps.reward[1, column])
    assert set(seen) == {t for t in range(40) if t % 10 != 9}
    assert all(reward == t + 1 for t, (_, reward) in seen.items())
    assert seen[38][0] == [False, True, True]  # only padding after the end


@pytest.mark.parametrize("within_episodes", [False, True])
def test_sequences_with_a_stride_start_from_zero_states(within_episodes: bool) -> None:
    sequence = Sequences(0, 7, 0, 4, state=(Extra("a", (2,), "float32"),), within_episodes=within_episodes)
    mixed = mixture(1.0, sequence)
    starts = set()
    for _ in range(50):
        trajectory = mixed.sample(16).trajectory
        starts |= set((trajectory.steps.observation[0] - SHOWN).tolist())
        assert trajectory.state[0].shape == (16, 2)
        assert not trajectory.state[0].any()
    assert starts == {t for t in range(40) if (t % 10 if within_episodes else t) % 4 == 0}


def learned_from(sequence: SequenceSpec, steps: Step) -> set[int]:
    """Recorded times of the actions after the burn-in of any sequence that can be drawn, counted as in R2D2's loss."""
    store, unroll = store_of(steps, CONFIG, SPEC, sequence, zero_state, seed=2), sequence.length - sequence.burn_in - 1  # type: ignore[operator]
    seen = set()
    for _ in range(60):
        drawn = store.sample(16).trajectory.steps
        counts = ~drawn.last
        if sequence.within_episodes:
            ends = drawn.last.cumsum(0)
            counts &= ends - drawn.last == 0
        seen |= set(
            drawn.observation[sequence.burn_in : sequence.burn_in + unroll][
                counts[sequence.burn_in : sequence.burn_in + unroll]
            ].tolist()
        )
    return seen


def test_the_first_recorded_steps_are_learned_from_too() -> None:
    """Burn-in does not fall on the beginning of the first episode."""
    sequence = Sequences(5, 5, 0, 4, state=(Extra("a", (2,), "float32"),))
    assert learned_from(sequence, stream(40, SHOWN, 10)) == {SHOWN + t for t in range(40) if t % 10 != 9}


def test_sequences_within_episodes_burn_in_at_the_start_of_episodes() -> None:
    sequence = Sequences(5, 5, 0, 4, state=(Extra("a", (2,), "float32"),), within_episodes=True)
    assert learned_from(sequence, stream(40, SHOWN, 10)) == {SHOWN + t for t in range(40) if 5 <= t % 10 < 9}
    with pytest.raises(UsageError, match=r"at most 4 actions, .* begin with 5 steps of burn-in: nothing could be learned"):
        store_of(stream(40, SHOWN, 5), CONFIG, SPEC, sequence, zero_state, seed=2)


def test_one_short_episode_is_enough() -> None:
    sequence = Sequences(40, 85, 0, 40, state=(Extra("a", (2,), "float32"),))
    assert learned_from(sequence, stream(3, SHOWN, 3)) == {SHOWN, SHOWN + 1}


def test_the_saved_state_leaves_out_the_demonstrations() -> None:
    one, two = mixture(0.5), mixture(0.5)
    for _ in range(5):
        sample = one.sample(16)
        one.update(sample.keys, np.arange(1.0, 17.0))
    state = one.state_dict()
    assert "rings" not in state["demonstrations"]
    two.load_state_dict(state)
    for _ in range(5):
        a, b = one.sample(16), two.sample(16)
        np.testing.assert_array_equal(a.keys, b.keys)
        np.testing.assert_array_equal(a.weights, b.weights)
    with pytest.raises(ValueError, match="has no demonstrations"):
        two.load_state_dict(one.own.state_dict())
    with pytest.raises(ValueError, match="this one has none"):
        one.own.load_state_dict(state)
    others = Mixture(two.own, two.demonstrations, 0.5, 3, digest(stream(40, SHOWN, 20)))  # as many steps, other episodes
    with pytest.raises(ValueError, match="hold other episodes"):
        others.load_state_dict(state)


def test_importance_weights_of_both_stores_follow_the_same_schedule() -> None:
    mixed = mixture(1.0)
    store = mixed.demonstrations
    store.selector.update(np.arange(40), np.where(np.arange(40) % 2, 8.0, 1.0))
    mixed.own.limiter.inserted += 20_000_000  # the schedule of the agent's replay is at its end, 1
    sample = mixed.sample(64)
    odd = (sample.trajectory.steps.observation[0] - SHOWN) % 2 == 1
    np.testing.assert_allclose(sample.weights[odd], 8.0**-CONFIG.priority_exponent, rtol=1e-5)
    np.testing.assert_allclose(sample.weights[~odd], 1.0, rtol=1e-5)
    assert odd.any()
    assert (~odd).any()


def test_importance_weights_of_both_stores_are_on_the_same_scale() -> None:
    """A single recorded sequence in a batch does not always have the largest weight."""
    mixed = mixture(0.05)
    mixed.demonstrations.selector.update(np.arange(40), np.where(np.arange(40) % 2, 8.0, 1.0))
    chances = mixed.demonstrations.selector.state_dict()["leaves"] / mixed.demonstrations.total_weight()  # type: ignore[operator]
    exponent, sequences, checked = CONFIG.importance_exponent_start, len(mixed.demonstrations.selector), 0
    for _ in range(100):
        sample = mixed.sample(16)
        shown = np.flatnonzero(sample.keys < 0)
        if len(shown) == 1:
            at = int(sample.trajectory.steps.observation[0, shown[0]]) - SHOWN
            raw = (sequences * chances[at]) ** -exponent  # the agent's own sequences are equally likely: their weights are 1
            np.testing.assert_allclose(sample.weights[shown[0]], raw / max(raw, 1.0), rtol=1e-4)
            checked += 1
    assert checked > 10
