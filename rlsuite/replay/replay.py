"""The replay of off-policy agents, composed of storage (rings), a selector and a limiter.

Shapes: K steps and L environments of an unroll, B samples, T steps of a sequence.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import SequenceSpec
from rlsuite.core.errors import UsageError
from rlsuite.core.limits import available_bytes
from rlsuite.core.schedules import linear
from rlsuite.core.types import EnvSpec, Trajectory, Unroll, tree_map
from rlsuite.replay.layout import Layout, layout_of
from rlsuite.replay.limiter import SamplesPerInsert
from rlsuite.replay.moves import SavedReplay, moved, newest, places
from rlsuite.replay.ring import Ring, completed, joined
from rlsuite.replay.selectors import Prioritized, Selector, Uniform, importance_weights
from rlsuite.replay.window import Window


class Sample(NamedTuple):
    """A batch drawn from a store."""

    trajectory: Trajectory  # NumPy leaves [T,B,...]
    keys: NDArray[np.int64]  # [B], to be passed to `update` with new priorities
    weights: NDArray[np.float32]  # [B], importance weights divided by the largest of them; ones for a uniform selector
    version: int | None = None  # learner steps of the oldest weights that acted in the batch; None: unknown

    def part(self, index: int, of: int) -> "Sample":
        """The `index`-th of `of` equal parts of the batch."""
        size = len(self.keys) // of
        rows = slice(index * size, (index + 1) * size)
        steps = tree_map(lambda leaf: leaf[:, rows], self.trajectory.steps)
        state = tree_map(lambda leaf: leaf[rows], self.trajectory.state)
        return Sample(Trajectory(steps, state), self.keys[rows], self.weights[rows], self.version)


def normalised(sample: Sample) -> Sample:
    """The sample with its weights divided by the batch's largest weight, so that they only scale updates down."""
    return sample._replace(weights=sample.weights / sample.weights.max())


class Store(Protocol):
    """The interface of stores, which collectors fill and the learner samples from."""

    @property
    def dropped_updates(self) -> int:
        """The number of priority updates dropped because their sequences had been overwritten."""
        ...

    @property
    def capacity_steps(self) -> int:
        """The number of steps of all environments in a full store."""
        ...

    def __len__(self) -> int:
        """The number of stored steps of all environments."""
        ...

    def add(self, unroll: Unroll) -> None:
        """Stores an unroll, leaves [K,L,...]."""
        ...

    def can_sample(self, count: int) -> bool:
        """Whether a batch of `count` may be drawn now."""
        ...

    def sample(self, count: int) -> Sample:
        """A batch of `count` trajectories."""
        ...

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """Sets new priorities f64 [B] for the sequences with the keys i64 [B]."""
        ...

    def end_streams(self) -> None:
        """Ends all streams, because the environments restart: nothing may be learned across this point."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue with the same samples."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> str | None:
        """Restores `state`; returns a note about what could not be kept, None if all was. ValueError for another kind of state."""
        ...


class Replay:
    """A replay of sequences, sampled uniformly or by priority.

    A sequence can be sampled from the arrival of its last step until its first frame stack loses a plane. Every source (a
    collector) has its own ring of L environments that advance together. A key is absolute time * number of environments +
    environment, with environments counted over all sources. So a key also identifies the generation of its slot: a new priority for
    a sequence that has been overwritten in the meantime is dropped and counted in `dropped_updates`.
    """

    def __init__(self, rings: Sequence[Ring], selector: Selector, limiter: SamplesPerInsert, config: ReplayConfig, seed: int):
        """`rings`: one per source, all of the same size."""
        self.rings, self.selector, self.limiter, self.config = rings, selector, limiter, config
        self.num_envs = sum(ring.num_envs for ring in rings)
        self.slots = rings[0].slots
        self.rng = np.random.default_rng(seed)
        self.dropped_updates = 0

    @property
    def capacity_steps(self) -> int:
        """The number of steps of all environments in a full replay."""
        return self.slots * self.num_envs

    def __len__(self) -> int:
        """The number of stored steps of all environments."""
        return sum(ring.filled * ring.num_envs for ring in self.rings)

    @property
    def inserted(self) -> int:
        """The number of steps of all environments that were ever inserted."""
        return sum(ring.head * ring.num_envs for ring in self.rings)

    def total_weight(self) -> float:
        """Sum of priority^exponent over all sequences that can be sampled; their number for a uniform selector."""
        return self.selector.total_weight()

    def add(self, unroll: Unroll, source: int = 0) -> None:
        """Stores an unroll of a source, leaves [K,L,...], frames as single planes."""
        ring, k = self.rings[source], unroll.steps.reward.shape[0]
        before, oldest = ring.head, ring.oldest
        ring.write(unroll)
        if ring.oldest > oldest:
            self.selector.remove(self._ids(source, np.arange(oldest, ring.oldest)).reshape(-1))
        starts = completed(before, ring.head, ring.layout.length)  # [K']
        given = 0 if unroll.priority is None else min(len(unroll.priority), len(starts))
        # After a restart of either the collector or the store, the numbers of priorities and of completed sequences differ: the
        # newest sequences get the newest priorities.
        self._offer(source, starts[: len(starts) - given], None)
        if given:
            self._offer(source, starts[-given:], unroll.priority[-given:])
        self.limiter.did_insert(k * ring.num_envs)

    def _offer(self, source: int, starts: NDArray[np.int64], priority: NDArray[np.float64] | None) -> None:
        """Makes the sequences that start at `starts` [K'] sampleable, with priorities [K',L]; None: the largest present."""
        valid = self.rings[source].starts(starts)  # [K',L]
        self.selector.add(self._ids(source, starts)[valid], None if priority is None else priority[valid])

    def can_sample(self, count: int) -> bool:
        """Whether there is a sequence to sample and the limiter allows a batch of `count` now."""
        return len(self.selector) > 0 and self.limiter.can_sample(count)

    def sample(self, count: int, inserted: int | None = None) -> Sample:
        """A batch of `count` sequences.

        `inserted`: the steps after which to evaluate the schedule of importance weights; None: those inserted here.
        """
        return normalised(self.draw(count, self.importance_exponent(inserted)))

    def draw(self, count: int, importance_exponent: float) -> Sample:
        """Like `sample`, but with unnormalised importance weights (N P)^-exponent."""
        ids, probability = self.selector.sample(count, self.rng)
        self.limiter.did_sample(count)
        if len(self.rings) > 1:  # `_read` needs the sequences ordered by source
            order = np.argsort(ids // (self.slots * self.rings[0].num_envs), kind="stable")
            ids, probability = ids[order], probability[order]
        env_index, slot = ids // self.slots, ids % self.slots  # [B]
        source = env_index // self.rings[0].num_envs  # [B]
        head = np.array([ring.head for ring in self.rings])[source]  # [B]
        time = head - 1 - (head - 1 - slot) % self.slots  # [B] absolute
        weights = np.ones(count, np.float32)
        if self.config.prioritized:
            weights = importance_weights(probability, len(self.selector), importance_exponent)
        return Sample(self._read(source, env_index, time), time * self.num_envs + env_index, weights)

    def _read(self, source: NDArray[np.int64], env_index: NDArray[np.int64], time: NDArray[np.int64]) -> Trajectory:
        """Sequences [T,B,...] that start at `time` [B] in environment `env_index` [B] of `source` [B], which must be sorted."""
        cuts = np.searchsorted(source, np.arange(len(self.rings) + 1))
        spans = [slice(begin, end) for begin, end in pairwise(cuts)]
        parts = [
            ring.read(env_index[span] - at * ring.num_envs, time[span])
            for at, (ring, span) in enumerate(zip(self.rings, spans, strict=True))
            if span.stop > span.start
        ]
        return joined(parts)

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """Sets new priorities f64 [B] for the sequences with the keys i64 [B]; those for overwritten sequences are dropped."""
        time, env_index = keys // self.num_envs, keys % self.num_envs
        oldest = np.array([ring.oldest for ring in self.rings])[env_index // self.rings[0].num_envs]  # [B]
        alive = time >= oldest
        self.dropped_updates += int((~alive).sum())
        self.selector.update((env_index * self.slots + time % self.slots)[alive], priority[alive])

    def importance_exponent(self, inserted: int | None = None) -> float:
        """The importance exponent after `inserted` steps; None: after all steps that the limiter has counted."""
        c, at = self.config, self.limiter.inserted if inserted is None else inserted
        return linear(c.importance_exponent_start, c.importance_exponent_end, c.importance_anneal_agent_steps, at=at)

    def end_streams(self, source: int | None = None) -> None:
        """Ends the streams of all sources or of one, because environments restart: nothing may be learned across this point.

        See `Ring.end_streams`.
        """
        for ring in self.rings if source is None else [self.rings[source]]:
            ring.end_streams()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue with the same samples: steps, selector, limiter and random generator."""
        return {
            "rings": [ring.state_dict() for ring in self.rings],
            "selector": self.selector.state_dict(),
            "limiter": self.limiter.state_dict(),
            "rng": self.rng.bit_generator.state,
            "dropped_updates": self.dropped_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> str | None:
        """Restores `state`, also a Ray run's; see `Store`. ValueError if it is from an agent with other sequences."""
        saved = SavedReplay.of(state)
        self.load_demonstrations(saved.shards[0])
        return self.restore(saved)

    def load_demonstrations(self, state: Mapping[str, Any]) -> None:
        """ValueError if the saved replay had demonstrations, as this one has none; see `Mixture.load_demonstrations`."""
        if "own" in state:
            raise ValueError("the saved replay has demonstrations (replay.demonstrations), this one has none")

    def restore(self, saved: SavedReplay) -> str | None:
        """Restores the agent's own steps, exactly if the rings are the same, else by `fill`; returns a note as `Store` does."""
        note = None
        if saved.sources == [len(self.rings)]:
            self.load_exactly(saved.own[0])
            lost = sum(len(ring.lost) for ring in self.rings)
            if lost:
                note = (
                    f"{lost:,} of {len(self):,} steps of the replay are in files that are missing or damaged; the others are kept"
                )
        else:
            ring = self.rings[0]
            portions = saved.portions(ring.spec, ring.layout, places([len(self.rings)]))
            self.fill((place.source, unroll) for place, unroll in portions)
            note = moved(saved.steps(), len(self))
        self.limiter.load_state_dict(saved.limiter)
        return note

    def load_exactly(self, state: Mapping[str, Any]) -> None:
        """Restores everything but the limiter from the state of a replay with the same rings. ValueError if their sizes differ."""
        self.load_demonstrations(state)
        for ring, saved in zip(self.rings, state["rings"], strict=True):
            ring.load_state_dict(saved)
        self.selector.load_state_dict(state["selector"])
        for source, ring in enumerate(self.rings):
            self.selector.remove(self._ids(source, ring.lost).reshape(-1))
        self.rng.bit_generator.state = state["rng"]
        self.dropped_updates = state["dropped_updates"]

    def fill(self, portions: Iterable[tuple[int, Unroll]]) -> None:
        """Stores unrolls of `SavedReplay.portions`, each with its source. Nothing is learned across the end of an unroll."""
        for source, unroll in portions:
            self.add(newest(unroll, self.slots), source)
            self.end_streams(source)

    def _ids(self, source: int, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Selector ids [K,L] of absolute times [K]: environment * slots + slot."""
        num_envs = self.rings[source].num_envs
        return times[:, None] % self.slots + np.arange(source * num_envs, (source + 1) * num_envs) * self.slots


def predicted_bytes(spec: EnvSpec, config: ReplayConfig, sequence: SequenceSpec) -> int:
    """The size of a full replay in bytes of memory, bookkeeping included."""
    selector = 8 + 2 * 8 / 7 if config.prioritized else 8  # an 8-ary tree of sums and maxima, or two i32 arrays
    step = 0 if config.window is not None else Ring.bytes_per_step(spec, layout_of(sequence))
    return int(config.capacity_agent_steps * (step + selector))


def build_replay(
    config: ReplayConfig,
    spec: EnvSpec,
    num_envs: int,
    sequence: SequenceSpec,
    unroll: int,
    seed: int,
    sources: int = 1,
    what: str | None = None,
) -> Replay:
    """A replay for `sources` collectors of `num_envs` environments each.

    `unroll`: steps in an unroll. `what`: name of the replay in errors. UsageError if the capacity is too small for one sequence of
    every environment, or larger than the memory that this process can get.
    """
    what = what or f"replay.capacity_agent_steps = {config.capacity_agent_steps}"
    layout = layout_of(sequence)
    num_envs *= sources
    slots = config.capacity_agent_steps // num_envs
    least = layout.length + max(spec.stack, layout.stride) + unroll + (layout.stride if layout.stride > 1 else 0)
    if slots < least:
        raise UsageError(
            f"{what} gives each of {num_envs} environments {slots} steps, but sequences of {layout.length} steps need {least}; "
            f"it must be at least {least * num_envs}"
        )
    need, free = predicted_bytes(spec, config, sequence), available_bytes()
    if free is not None and need > free:
        fit = int(config.capacity_agent_steps * 0.9 * free / need)
        raise UsageError(f"{what} needs {need / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free: at most {fit} steps fit")
    if config.window is not None:
        _refuse_full_disk(config, spec, layout)
    size = slots * num_envs
    selector: Selector = Prioritized(size, config.priority_exponent, stratified=True) if config.prioritized else Uniform(size)
    limiter = SamplesPerInsert(config.samples_per_insert, config.min_agent_steps)
    if config.window is not None:
        rings: list[Ring] = [Window(spec, slots, layout, Path(config.window))]
    else:
        rings = [Ring(spec, num_envs // sources, slots, layout) for _ in range(sources)]
    return Replay(rings, selector, limiter, config, seed)


def _refuse_full_disk(config: ReplayConfig, spec: EnvSpec, layout: Layout) -> None:
    """UsageError if the disk of `replay.window` has no room for a full replay."""
    assert config.window is not None
    place = Path(config.window)
    while not place.exists():
        place = place.parent
    each, free = Window.bytes_per_step(spec, layout), shutil.disk_usage(place).free
    free += sum(path.stat().st_size for path in Path(config.window).glob("*.bin"))  # files of this run from before a resume
    if (need := config.capacity_agent_steps * each) > free:
        raise UsageError(
            f"replay.capacity_agent_steps = {config.capacity_agent_steps} needs {need / 1e9:.1f} GB at replay.window, but "
            f"{free / 1e9:.1f} GB are free there: at most {int(0.9 * free / each)} steps fit"
        )
