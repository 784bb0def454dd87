"""The replay: which sequences can be sampled, stale keys, limits, exact resume, and Atari stacks equal to ale-py's."""

import copy
from typing import Any

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import Transitions
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, Step, Unroll
from rlsuite.replay import Replay, Sample, build_replay
from rlsuite.replay import replay as replay_module
from rlsuite.replay.replay import predicted_bytes

ATARI = EnvSpec((4, 84, 84), "uint8", num_actions=18, num_states=None, stack=4, frames_per_step=4)
NUM_ENVS, PLAIN = 3, EnvSpec((), "int64", num_actions=4, num_states=None, stack=1, frames_per_step=1)
KINDS = pytest.mark.parametrize("prioritized", [False, True], ids=["uniform", "prioritized"])


def config(capacity: int, prioritized: bool = False, **more: Any) -> ReplayConfig:
    return ReplayConfig(
        capacity_agent_steps=capacity, **{"min_agent_steps": 1, "samples_per_insert": 1e6, "prioritized": prioritized, **more}
    )


class Feed:
    """Streams whose observations and rewards encode time and environment as the key does: time * NUM_ENVS + environment."""

    def __init__(self, seed: int, end: float = 0.15, stack: int = 1):
        self.rng, self.end, self.stack = np.random.default_rng(seed), end, stack
        self.last: list[NDArray[np.bool_]] = []  # by time, [L]

    def unroll(self, k: int) -> Unroll:
        times = len(self.last) + np.arange(k)
        first, last = np.zeros((k, NUM_ENVS), bool), np.zeros((k, NUM_ENVS), bool)
        for i in range(k):
            first[i] = self.last[-1] if self.last else True
            last[i] = (self.rng.random(NUM_ENVS) < self.end) & ~first[i]
            self.last.append(last[i])
        code = times[:, None] * NUM_ENVS + np.arange(NUM_ENVS)
        observation = code if self.stack == 1 else (code % 251).astype(np.uint8)[..., None, None]
        return Unroll(Step(observation, code.astype(np.float32), first, last, last & (code % 2 == 0), code % 4, {}))


def build(slots: int, length: int, prioritized: bool, stack: int = 1, unroll: int = 1, **more: Any) -> Replay:
    spec = PLAIN if stack == 1 else EnvSpec((stack, 1, 1), "uint8", 4, None, stack, 1)
    return build_replay(config(slots * NUM_ENVS, prioritized, **more), spec, NUM_ENVS, Transitions(length - 1), unroll, seed=5)


def present(replay: Replay) -> set[int]:
    """Selector ids that can be sampled."""
    state = replay.selector.state_dict()
    return set(np.flatnonzero(state["leaves"]).tolist()) if "leaves" in state else set(state["ids"].tolist())  # type: ignore[arg-type, union-attr]


def valid_keys(feed: Feed, slots: int, length: int, stack: int) -> set[int]:
    """Brute force: keys of the sequences in the replay with a complete first stack that do not start at a final observation."""
    head = len(feed.last)
    lost = max(head - slots, 0)  # overwritten steps
    oldest = lost + stack - 1 if lost else 0
    return {
        t * NUM_ENVS + env_index
        for t in range(oldest, head - length + 1)
        for env_index in range(NUM_ENVS)
        if not feed.last[t][env_index]
    }


def ids_of(keys: set[int], slots: int) -> set[int]:
    return {(key % NUM_ENVS) * slots + (key // NUM_ENVS) % slots for key in keys}


def same_sample(a: Sample, b: Sample) -> bool:
    leaves = [(x, y) for x, y in zip(a.trajectory.steps[:-1], b.trajectory.steps[:-1], strict=True)]
    leaves += [(a.keys, b.keys), (a.weights, b.weights)]
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in leaves)


@KINDS
@pytest.mark.parametrize(("length", "stack", "slots"), [(2, 1, 11), (4, 1, 13), (2, 4, 15), (6, 3, 40), (21, 4, 33)])
def test_sampleable_are_exactly_the_valid_starts(length: int, stack: int, slots: int, prioritized: bool) -> None:
    most = slots - length - stack
    replay, feed = build(slots, length, prioritized, stack, most), Feed(seed=slots, stack=stack)
    rng = np.random.default_rng(length)
    while len(feed.last) < 6 * slots:
        if len(feed.last) and rng.random() < 0.1:
            replay.end_streams()
            feed.last[-1][:] = True
        replay.add(feed.unroll(int(rng.integers(1, most + 1))))
        assert present(replay) == ids_of(valid_keys(feed, slots, length, stack), slots)
        assert len(replay.selector) == len(present(replay))
        assert len(replay) == min(len(feed.last), slots) * NUM_ENVS


@KINDS
@pytest.mark.parametrize("length", [2, 4])
def test_every_valid_start_is_sampled_and_no_other(length: int, prioritized: bool) -> None:
    slots = 12
    replay, feed = build(slots, length, prioritized), Feed(seed=1)
    for _ in range(40):
        replay.add(feed.unroll(1))
        if not replay.can_sample(1):
            continue
        sample = replay.sample(300)
        expected = valid_keys(feed, slots, length, 1)
        assert set(sample.keys.tolist()) <= expected
        head = len(feed.last)
        assert (sample.keys // NUM_ENVS + length <= head).all()  # never over the write head
        # By their rewards, sequences are contiguous pieces of one environment and start where their keys say.
        times = np.arange(length)[:, None] * NUM_ENVS + sample.keys
        np.testing.assert_array_equal(sample.trajectory.steps.reward, times)
        assert not sample.trajectory.steps.last[0].any()
    sampled = set(np.concatenate([replay.sample(300).keys for _ in range(5)]).tolist())
    assert sampled == valid_keys(feed, slots, length, 1)


def test_the_second_observation_of_a_sparse_sequence_is_at_the_bootstrap_step() -> None:
    length = 5
    replay, feed = build(30, length, False), Feed(seed=2, end=0.25)
    for _ in range(60):
        replay.add(feed.unroll(2))
    sample = replay.sample(400)
    observation = sample.trajectory.steps.observation
    assert observation.shape == (2, 400)
    np.testing.assert_array_equal(observation[0], sample.keys)
    ended_early = 0
    for b, key in enumerate(sample.keys.tolist()):
        time, env_index = divmod(key, NUM_ENVS)
        ends = [t for t in range(time + 1, time + length) if feed.last[t][env_index]]
        ended_early += bool(ends and ends[0] < time + length - 1)
        assert observation[1, b] == (ends[0] if ends else time + length - 1) * NUM_ENVS + env_index
    assert ended_early > 50


def test_uniform_sampling_is_uniform() -> None:
    replay, feed = build(20, 2, False), Feed(seed=3)
    for _ in range(50):
        replay.add(feed.unroll(1))
    keys = sorted(valid_keys(feed, 20, 2, 1))
    counts = np.array([np.count_nonzero(replay.sample(20_000).keys == key) for key in keys])
    expected = 20_000 / len(keys)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert (replay.sample(10).weights == 1).all()


@KINDS
def test_stale_keys_are_dropped_counted_and_change_nothing(prioritized: bool) -> None:
    slots = 12
    replay, feed = build(slots, 2, prioritized), Feed(seed=4, end=0.0)
    replay.add(feed.unroll(8))
    old = replay.sample(16).keys
    for _ in range(slots + 8):  # every slot is overwritten
        replay.add(feed.unroll(1))
    before = copy.deepcopy(replay.selector.state_dict())
    assert replay.dropped_updates == 0
    replay.update(old, np.full(16, 1e3))
    assert replay.dropped_updates == 16
    after = replay.selector.state_dict()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_valid_keys_among_stale_ones_get_their_priority() -> None:
    slots = 12
    replay, feed = build(slots, 2, True, priority_exponent=1.0), Feed(seed=4, end=0.0)
    for _ in range(30):
        replay.add(feed.unroll(1))
    assert replay.rings[0].oldest == 30 - slots
    live = [(28, 1), (18, 0)]  # the newest and the oldest start, (time, environment)
    stale = [(17, 2), (16, 1)]  # 17 was overwritten by 29, and 16 by 28, in the slots of valid ones
    keys = np.array([time * NUM_ENVS + env_index for time, env_index in [live[0], *stale, live[1]]])
    replay.update(keys, np.array([5.0, 100.0, 200.0, 7.0]))
    assert replay.dropped_updates == 2
    leaves = replay.selector.state_dict()["leaves"]
    expected = {1 * slots + 28 % slots: 5.0, 0 * slots + 18 % slots: 7.0}
    for slot in present(replay):
        assert leaves[slot] == expected.get(slot, 1.0)  # type: ignore[index]


def test_a_priority_does_not_make_a_final_observation_sampleable() -> None:
    replay, feed = build(20, 2, True), Feed(seed=6, end=0.3)
    for _ in range(10):
        replay.add(feed.unroll(1))
    time, env_index = next((t, int(np.argmax(last))) for t, last in enumerate(feed.last[:9]) if last.any())
    before = present(replay)
    replay.update(np.array([time * NUM_ENVS + env_index]), np.array([9.0]))
    assert present(replay) == before


def test_priorities_set_the_frequencies_and_weights_correct_them() -> None:
    replay, feed = build(40, 2, True, priority_exponent=0.5, importance_exponent_start=1.0), Feed(seed=4, end=0.0)
    replay.add(feed.unroll(5))  # 12 starts
    keys = np.array(sorted(valid_keys(feed, 40, 2, 1)))
    priority = np.where(keys == keys[3], 121.0, 1.0)
    replay.update(keys, priority)
    sample = replay.sample(23_000)  # weight 11 against 11 others of weight 1
    share = np.mean(sample.keys == keys[3])
    assert share == pytest.approx(0.5, abs=0.01)
    rare = sample.weights[sample.keys != keys[3]]
    assert np.allclose(rare, 1.0)
    assert np.allclose(sample.weights[sample.keys == keys[3]], 1 / 11)
    assert sample.weights.dtype == np.float32


def test_new_steps_get_the_largest_priority() -> None:
    replay, feed = build(40, 2, True, priority_exponent=1.0), Feed(seed=4, end=0.0)
    replay.add(feed.unroll(3))
    replay.update(np.array([0]), np.array([50.0]))
    replay.add(feed.unroll(1))
    leaves = replay.selector.state_dict()["leaves"]
    assert [leaves[env_index * 40 + 2] for env_index in range(NUM_ENVS)] == [50.0] * NUM_ENVS  # type: ignore[index]


def test_the_importance_exponent_follows_the_inserted_steps() -> None:
    replay, feed = build(40, 2, True, importance_exponent_start=0.4, importance_anneal_agent_steps=60), Feed(seed=4)
    assert replay.importance_exponent() == pytest.approx(0.4)
    replay.add(feed.unroll(10))  # 30 agent steps
    assert replay.importance_exponent() == pytest.approx(0.7)
    for _ in range(20):
        replay.add(feed.unroll(10))
    assert replay.importance_exponent() == 1.0
    assert replay.importance_exponent(inserted=30) == pytest.approx(0.7)  # for a shard: the steps of all shards


def test_the_limiter_counts_agent_steps_of_all_environments() -> None:
    replay, feed = build(40, 2, False, min_agent_steps=15, samples_per_insert=2.0), Feed(seed=4)
    replay.add(feed.unroll(4))
    assert not replay.can_sample(6)  # 12 stored, 15 needed
    replay.add(feed.unroll(1))
    assert replay.can_sample(6)
    replay.sample(6)
    assert not replay.can_sample(6)
    replay.add(feed.unroll(1))  # 3 inserts allow 6 samples
    assert replay.can_sample(6)


def test_nothing_can_be_sampled_before_the_first_sequence_is_complete() -> None:
    replay, feed = build(40, 5, False), Feed(seed=4)
    for k in range(5):
        assert not replay.can_sample(1), k
        replay.add(feed.unroll(1))
    assert replay.can_sample(1)


@KINDS
def test_nothing_is_learned_across_ended_streams(prioritized: bool) -> None:
    """After `end_streams` no sequence leads from the old stream into the new one without a `last` in between."""
    replay, feed = build(40, 3, prioritized), Feed(seed=7, end=0.0)
    replay.add(feed.unroll(10))
    replay.end_streams()
    feed.last[-1][:] = True
    replay.add(feed.unroll(10))
    sample = replay.sample(3000)
    steps = sample.trajectory.steps
    start = sample.keys // NUM_ENVS
    assert not (start == 9).any()  # the ended step has no action to learn from
    across = (start < 9) & (start + 2 >= 9)
    assert across.any()
    assert steps.last[:, across].any(0).all()
    assert not steps.terminal.any()  # ended as by a time limit
    np.testing.assert_array_equal(steps.observation[1, across] // NUM_ENVS, 9)  # bootstraps from the ended step
    assert steps.first[:, start == 10][0].all()


@KINDS
@pytest.mark.parametrize("ticks", [3, 17, 60])
def test_state_round_trip_gives_identical_samples(prioritized: bool, ticks: int) -> None:
    replay, feed = build(30, 3, prioritized, 4, 5), Feed(seed=8, stack=4)
    rng = np.random.default_rng(0)
    for _ in range(ticks):
        replay.add(feed.unroll(2))
        if replay.can_sample(8):
            replay.update(replay.sample(8).keys, rng.random(8) + 0.1)
    replay.dropped_updates = 3
    other = build(30, 3, prioritized, 4, 5)
    other.add(Feed(seed=99, stack=4).unroll(5))  # its contents are replaced
    other.load_state_dict(copy.deepcopy(replay.state_dict()))
    assert other.dropped_updates == 3
    assert len(other) == len(replay)
    for _ in range(20):
        unroll = feed.unroll(3)
        priority = rng.random(16) + 0.1
        samples = []
        for store in (replay, other):
            store.add(unroll)
            sample = store.sample(16)
            store.update(sample.keys, priority)
            samples.append(sample)
        assert same_sample(*samples)
        assert replay.can_sample(64) == other.can_sample(64)
        assert replay.dropped_updates == other.dropped_updates


@pytest.mark.parametrize(("num_envs", "length", "unroll"), [(1, 2, 1), (8, 4, 1), (16, 2, 5)])
def test_a_capacity_too_small_for_one_sequence_per_environment_is_refused(num_envs: int, length: int, unroll: int) -> None:
    least = (length + ATARI.stack + unroll) * num_envs
    for capacity in (num_envs, least - 1):
        with pytest.raises(UsageError, match=f"replay.capacity_agent_steps = {capacity} .*at least {least}$"):
            build_replay(config(capacity), ATARI, num_envs, Transitions(length - 1), unroll, seed=0)
    build_replay(config(least), ATARI, num_envs, Transitions(length - 1), unroll, seed=0)  # the size named in the message works


@KINDS
def test_a_replay_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch, prioritized: bool) -> None:
    monkeypatch.setattr(replay_module, "available_bytes", lambda: 10_000_000)
    sequence = Transitions(1)
    with pytest.raises(UsageError, match=r"replay.capacity_agent_steps = 100000 needs 0\.7 GB, but 0\.0 GB are free") as error:
        build_replay(config(100_000, prioritized), ATARI, 2, sequence, 1, seed=0)
    fits = int(str(error.value).split("at most ")[1].split()[0])
    assert 1000 < fits < 10_000_000 / 7000
    build_replay(config(fits, prioritized), ATARI, 2, sequence, 1, seed=0)
    monkeypatch.setattr(replay_module, "available_bytes", lambda: None)  # unknown: not refused
    build_replay(config(10_000, prioritized), ATARI, 2, sequence, 1, seed=0)


def nbytes(tree: Any, seen: set[int]) -> int:
    """Bytes of all arrays that an object holds, views counted once."""
    if isinstance(tree, np.ndarray):
        base = tree if tree.base is None else tree.base
        if id(base) in seen:
            return 0
        seen.add(id(base))
        return int(base.nbytes) if isinstance(base, np.ndarray) else int(tree.nbytes)
    if isinstance(tree, list):
        return sum(nbytes(value, seen) for value in tree)
    return sum(nbytes(value, seen) for value in vars(tree).values()) if hasattr(tree, "__dict__") else 0


@KINDS
def test_bytes_of_a_stored_atari_transition(prioritized: bool) -> None:
    cfg = config(20_000, prioritized)
    replay = build_replay(cfg, ATARI, 8, Transitions(3), 1, seed=0)
    per_step = nbytes(replay, set()) / 20_000
    assert 7056 < per_step <= 7600
    assert predicted_bytes(ATARI, cfg, Transitions(3)) / 20_000 == pytest.approx(per_step, rel=1e-3)


# Maximum frames of an episode, and frames per step. In some games random play rarely ends within 2,500 ticks: there a time limit
# ends episodes. Few frames per step keep the test fast, and make no difference to the stacking of planes.
GAMES = {
    "pong": (1_500, 4),
    "breakout": (108_000, 2),
    "ms_pacman": (108_000, 2),
    "seaquest": (401, 1),
    "qbert": (108_000, 1),
    "space_invaders": (999, 1),
    "beam_rider": (333, 1),
    "enduro": (500, 1),
    "freeway": (53, 1),
    "montezuma_revenge": (250, 1),
}


@pytest.mark.parametrize(
    "game", [pytest.param(game, marks=() if game in ("pong", "seaquest", "freeway") else pytest.mark.integration) for game in GAMES]
)
def test_atari_stacks_equal_those_of_the_emulator(game: str) -> None:
    """10,000 random steps in 4 environments through a replay of 300 steps each, against ale-py's own C++ stacks of 4 planes."""
    num_envs, slots, ticks, k = 4, 300, 2500, 5
    sequence, (max_frames, frame_skip) = Transitions(3), GAMES[game]
    env = AtariVectorEnv(
        game,
        num_envs,
        num_threads=1,
        max_num_frames_per_episode=max_frames,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        stack_num=4,
        frameskip=frame_skip,
        noop_max=30,
        reward_clipping=False,
        use_fire_reset=False,
    )
    spec = ATARI._replace(num_actions=int(env.single_action_space.n))
    replay = build_replay(config(num_envs * slots), spec, num_envs, sequence, k, seed=1)
    rng = np.random.default_rng(3)
    stacks: dict[int, NDArray[np.uint8]] = {}  # time -> [L,4,84,84], of the last `slots` ticks
    lasts: dict[int, NDArray[np.bool_]] = {}
    observation, _ = env.reset(seed=11)
    reward, first, last = np.zeros(num_envs), np.ones(num_envs, bool), np.zeros(num_envs, bool)
    terminal, ends, compared, starts = last, np.zeros(num_envs, int), 0, 0
    pending: list[Step] = []

    def compare(env_index: NDArray[np.int64], time: NDArray[np.int64]) -> None:
        seen = replay.rings[0].read(env_index, time).steps.observation  # [2,B,4,84,84]
        for b, (i, t) in enumerate(zip(env_index.tolist(), time.tolist(), strict=True)):
            end = next((s for s in range(t + 1, t + sequence.length) if lasts[s][i]), t + sequence.length - 1)
            assert np.array_equal(seen[0, b], stacks[t][i]), f"environment {i} time {t}"
            assert np.array_equal(seen[1, b], stacks[end][i]), f"environment {i} time {t}, bootstrap at {end}"

    for tick in range(ticks):
        action = rng.integers(spec.num_actions, size=num_envs)
        stacks[tick], lasts[tick] = observation.copy(), last.copy()
        stacks.pop(tick - slots, None)
        pending.append(Step(observation[:, -1].copy(), reward.astype(np.float32), first, last, terminal, action, {}))
        ends += last
        observation, reward, terminal, truncated, _ = env.step(action)
        first, last = last, terminal | truncated
        if len(pending) < k:
            continue
        leaves = {name: np.stack([getattr(r, name) for r in pending]) for name in Step._fields if name != "extras"}
        before = replay.rings[0].head
        replay.add(Unroll(Step(**leaves, extras={})))
        pending = []
        # Every start once, when its sequence is complete, and now and then whatever the replay samples.
        new = np.arange(max(before - 3, 0), replay.rings[0].head - 3)
        new_envs, new_times = np.repeat(np.arange(num_envs), new.size), np.tile(new, num_envs)
        compare(new_envs, new_times)
        compared += new_times.size
        starts += int(leaves["first"].sum())
        if tick % 50 == 4 and replay.can_sample(32):
            keys = replay.sample(32).keys
            compare(keys % num_envs, keys // num_envs)
    assert compared == num_envs * (ticks - 3)
    assert replay.rings[0].head == ticks  # the ring wrapped around 8 times
    assert (ends > 0).all()
    assert starts >= 8
    everything = np.array(sorted(present(replay)))
    slot, head = everything % slots, replay.rings[0].head
    compare(everything // slots, head - 1 - (head - 1 - slot) % slots)
