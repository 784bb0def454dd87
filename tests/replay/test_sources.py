"""Replays fed by several collectors, in one store or in shards; initial priorities from collectors."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import rlsuite
from rlsuite.acting.initial_priorities import InitialPriorities
from rlsuite.config.loader import resolve
from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import Sequences, Transitions
from rlsuite.core.types import EnvSpec, Step, Unroll, describe, to_tensors
from rlsuite.factories import build, make_agent, make_collector
from rlsuite.replay import build_replay

SPEC = EnvSpec((), "int64", num_actions=4, num_states=None, stack=1, frames_per_step=1)
NUM_ENVS = 2


def config(**more: Any) -> ReplayConfig:
    return ReplayConfig(capacity_agent_steps=400, min_agent_steps=1, samples_per_insert=1e6, prioritized=True, **more)


def unroll_of(source: int, at: int, k: int, priority: NDArray[np.float64] | None = None) -> Unroll:
    """Observations encode source, time and environment: source * 1000 + time * 10 + environment."""
    times = at + np.arange(k)
    code = source * 1000 + times[:, None] * 10 + np.arange(NUM_ENVS)
    no = np.zeros(code.shape, bool)
    first = no | (times == 0)[:, None]
    return Unroll(Step(code, code.astype(np.float32), first, no, no, code % 4, {}), priority=priority)


def test_every_source_has_its_own_streams() -> None:
    replay = build_replay(config(), SPEC, NUM_ENVS, Sequences(0, 3, 0, 1), 5, seed=1, sources=3)
    for at, k in ((0, 5), (5, 4)):
        for source in (0, 2):  # collectors are not equally fast: nothing from source 1 yet
            replay.add(unroll_of(source, at, k), source)
    assert len(replay) == 2 * 9 * NUM_ENVS
    sample = replay.sample(600)
    seen = sample.trajectory.steps.observation  # [3,B]
    assert (np.diff(seen, axis=0) == 10).all()  # three steps of one environment
    assert set(np.unique(seen[0] // 1000)) == {0, 2}
    starts = {int(code) for code in seen[0]}
    assert starts == {source * 1000 + t * 10 + env_index for source in (0, 2) for t in range(7) for env_index in range(NUM_ENVS)}
    env_index = sample.keys % 6  # counted over all sources
    assert np.array_equal(env_index, seen[0] // 1000 * NUM_ENVS + seen[0] % 10)
    assert np.array_equal(sample.keys // 6, seen[0] % 1000 // 10)
    replay.update(sample.keys, np.where(seen[0] == 2031, 1e6, 1e-6))
    assert (replay.sample(50).trajectory.steps.observation[0] == 2031).all()


def test_nothing_is_learned_across_the_ended_streams_of_one_source() -> None:
    replay = build_replay(config(), SPEC, NUM_ENVS, Sequences(0, 3, 0, 1), 5, seed=1, sources=2)
    for source in (0, 1):
        replay.add(unroll_of(source, 0, 5), source)
    replay.end_streams(1)
    for source in (0, 1):
        fresh = unroll_of(source, 5, 5)
        replay.add(fresh._replace(steps=fresh.steps._replace(first=fresh.steps.first | (source == 1))), source)
    sample = replay.sample(2_000)
    code, last = sample.trajectory.steps.observation, sample.trajectory.steps.last
    ended = (code // 1000 == 1) & (code % 1000 // 10 == 4)
    assert ended.any()
    assert np.array_equal(last, ended)  # only there, and only in source 1
    assert not ended[0].any()  # no sequence starts there


def test_a_replay_that_begins_within_an_episode_has_no_incomplete_stacks() -> None:
    """As a shard that was restarted empty while its collectors continued."""
    spec = SPEC._replace(observation_shape=(4, 1, 1), observation_dtype="uint8", stack=4)
    replay = build_replay(config(), spec, NUM_ENVS, Transitions(1), 5, seed=1)
    unroll = unroll_of(0, 7, 9)
    planes = (unroll.steps.observation % 251).astype(np.uint8)[..., None, None]
    replay.add(unroll._replace(steps=unroll.steps._replace(observation=planes)))
    sample = replay.sample(500)
    assert set(np.unique(sample.keys // NUM_ENVS)) == set(range(3, 8))  # 0 to 2 lack planes
    assert (sample.trajectory.steps.observation != 0).all()


@pytest.mark.parametrize("prioritized", [True, False])
def test_shards_drawn_by_total_weight_match_the_frequencies_and_weights_of_one_tree(prioritized: bool) -> None:
    """As the Ray runtime samples: a shard in proportion to its total weight, then a batch from it."""
    rng = np.random.default_rng(3)
    settings = config(importance_exponent_start=0.5, importance_exponent_end=0.5).model_copy(update={"prioritized": prioritized})
    steps = {0: 40, 1: 9, 2: 25, 3: 3}  # of each collector
    priority = {source: rng.gamma(0.7, size=(k - 1, NUM_ENVS)) + 1e-3 for source, k in steps.items()}
    one = build_replay(settings, SPEC, NUM_ENVS, Transitions(1), 45, seed=1, sources=4)
    shards = [build_replay(settings, SPEC, NUM_ENVS, Transitions(1), 45, seed=2 + s, sources=2) for s in range(2)]
    for source, k in steps.items():
        unroll = unroll_of(source, 0, k, priority[source] if prioritized else None)
        one.add(unroll, source)
        shards[source % 2].add(unroll, source // 2)
    total = sum(shard.total_weight() for shard in shards)
    assert total == pytest.approx(one.total_weight())
    assert sum(len(shard.selector) for shard in shards) == len(one.selector)
    draws, batch = 4_000, 16
    counts: dict[int, int] = {}
    for _ in range(draws):
        at = int(rng.choice(2, p=[shard.total_weight() / total for shard in shards]))
        sample = shards[at].sample(batch)
        for code in sample.trajectory.steps.observation[0].tolist():
            counts[code] = counts.get(code, 0) + 1
    weight_of = {
        source * 1000 + t * 10 + env_index: float(priority[source][t, env_index] ** 0.6) if prioritized else 1.0
        for source, k in steps.items()
        for t in range(k - 1)
        for env_index in range(NUM_ENVS)
    }
    expected = np.array([weight_of[code] / sum(weight_of.values()) for code in sorted(weight_of)]) * draws * batch
    got = np.array([counts.get(code, 0) for code in sorted(weight_of)])
    # The samples of a batch come from the same shard, so counts vary more than those of independent draws.
    tolerance = 5 * np.sqrt(expected * (1 + batch * expected / (draws * batch))) + 1
    assert (np.abs(got - expected) < tolerance).all()
    if prioritized:
        for store in (one, *shards):
            sample = store.sample(2_000)
            seen = dict(zip(sample.trajectory.steps.observation[0].tolist(), sample.weights.tolist(), strict=True))
            rarest = min(weight_of[code] for code in seen)
            for code, weight in seen.items():  # (N P)^-1/2 divided by the largest, in every store
                assert weight == pytest.approx((rarest / weight_of[code]) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("agent", ["dqn", "c51"])
def test_initial_priorities_equal_those_of_the_learner(agent: str) -> None:
    settings = {
        "run.threads": 1,
        "run.collect_agent_steps": 6,
        "env.num_envs": 3,
        "agent.n_steps": 3,
        "net.hidden": 16,
        "replay.prioritized": True,
        "replay.initial_priority": "td",
        "replay.capacity_agent_steps": 3_000,
    }
    parts = build(resolve(f"classic/{agent}", settings))
    replay: Any = parts.replay
    for at in range(40):  # 240 steps an environment: random play ends some ten episodes
        unroll, _ = parts.collector.collect(6, at * 18)  # type: ignore[union-attr]
        assert unroll.priority.shape == (6 if at else 3, 3)
        replay.add(unroll)
    sample = replay.sample(400)
    trajectory = to_tensors(sample.trajectory, torch.device("cpu"))
    with torch.no_grad():
        td = parts.agent.loss(parts.learner.net, parts.learner.net, trajectory, torch.Generator()).td
    assert td is not None
    priority = parts.agent.priority(td, ~trajectory.steps.last[: td.shape[0]]).double().numpy()
    ids = (sample.keys % 3) * replay.slots + sample.keys // 3
    stored = replay.selector.state_dict()["leaves"][ids] ** (1 / 0.6)
    np.testing.assert_allclose(stored, priority, rtol=1e-4)
    assert trajectory.steps.last.any()


def test_a_restored_collector_keeps_its_unfinished_sequences() -> None:
    settings = {"run.threads": 1, "replay.prioritized": True, "replay.initial_priority": "td", "agent.n_steps": 2}
    config = resolve("classic/dqn", settings)
    env = rlsuite.make_env("CartPole-v1", num_envs=8)
    agent: Any = make_agent(config, describe(env))
    collector: Any = make_collector(config, env, agent, agent.make_net(), torch.device("cpu"))
    assert isinstance(collector.priorities, InitialPriorities)
    first, _ = collector.collect(5, 0)
    state = collector.state_dict()
    other: Any = make_collector(config, rlsuite.make_env("CartPole-v1", num_envs=8), agent, collector.net, torch.device("cpu"))
    assert other.load_state_dict(state, reseed=1)
    a, b = collector.collect(5, 5)[0], other.collect(5, 5)[0]
    assert first.priority.shape == (3, 8)
    assert a.priority.shape == (5, 8)
    assert np.array_equal(a.priority, b.priority)


def test_priorities_without_prioritized_replay_are_refused() -> None:
    with pytest.raises(
        rlsuite.core.errors.UsageError, match=r"replay\.initial_priority = td has no effect without replay\.prioritized"
    ):
        resolve("classic/dqn", {"replay.initial_priority": "td", "replay.prioritized": False})
