"""A store = storage x selector x limiter. Shapes: K steps and L environments of an unroll, B samples, T steps of a sequence."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import SequenceSpec
from rlsuite.core.errors import UsageError
from rlsuite.core.schedules import linear
from rlsuite.core.types import EnvSpec, Trajectory, Unroll, tree_map
from rlsuite.replay.layout import layout_of
from rlsuite.replay.limiter import SamplesPerInsert
from rlsuite.replay.ring import Ring, completed, joined
from rlsuite.replay.selectors import Prioritized, Selector, Uniform, importance_weights


class Sample(NamedTuple):
    trajectory: Trajectory  # NumPy leaves [T,B,...]
    keys: NDArray[np.int64]  # [B], to return priorities with
    weights: NDArray[np.float32]  # [B], importance weights over the largest of them; ones for a uniform selector
    version: int | None = None  # of the oldest weights that acted in it; None: the store does not know

    def part(self, index: int, of: int) -> "Sample":
        """The `index`-th of `of` equal parts of the batch."""
        size = len(self.keys) // of
        rows = slice(index * size, (index + 1) * size)
        steps = tree_map(lambda leaf: leaf[:, rows], self.trajectory.steps)
        state = tree_map(lambda leaf: leaf[rows], self.trajectory.state)
        return Sample(Trajectory(steps, state), self.keys[rows], self.weights[rows], self.version)


def normalised(sample: Sample) -> Sample:
    """Weights over the largest of the batch, so that they only scale updates down."""
    return sample._replace(weights=sample.weights / sample.weights.max())


class Store(Protocol):
    """What collectors fill and the learner draws from."""

    @property
    def dropped_updates(self) -> int:
        """Priorities that came back too late."""
        ...

    @property
    def capacity_steps(self) -> int: ...

    def __len__(self) -> int: ...

    def add(self, unroll: Unroll) -> None: ...

    def can_sample(self, count: int) -> bool: ...

    def sample(self, count: int) -> Sample: ...

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None: ...

    def end_streams(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Replay:
    """Sequences become sampleable when their last step has arrived, and stop when their first frame stack loses a plane.

    Every source (a collector) has a ring of its own, of L environments that advance together. A key is absolute time * number of
    environments + environment, counted over all sources, so it also tells the generation of its slot: a priority that returns for a
    sequence that was overwritten meanwhile is dropped and counted in `dropped_updates`.
    """

    def __init__(self, rings: Sequence[Ring], selector: Selector, limiter: SamplesPerInsert, config: ReplayConfig, seed: int):
        """`rings`: one a source, all of one size."""
        self.rings, self.selector, self.limiter, self.config = rings, selector, limiter, config
        self.num_envs = sum(ring.num_envs for ring in rings)
        self.slots = rings[0].slots
        self.rng = np.random.default_rng(seed)
        self.dropped_updates = 0

    @property
    def capacity_steps(self) -> int:
        return self.slots * self.num_envs

    def __len__(self) -> int:
        """Stored steps, all environments."""
        return sum(ring.filled * ring.num_envs for ring in self.rings)

    @property
    def inserted(self) -> int:
        """Steps that ever came in, all environments."""
        return sum(ring.head * ring.num_envs for ring in self.rings)

    def total_weight(self) -> float:
        """What a sampleable sequence's chance is measured against: the sum of priorities^exponent, or the number of sequences."""
        return self.selector.total_weight()

    def add(self, unroll: Unroll, source: int = 0) -> None:
        """Leaves [K,L,...], frames as single planes."""
        ring, k = self.rings[source], unroll.steps.reward.shape[0]
        before, oldest = ring.head, ring.oldest
        ring.write(unroll)
        if ring.oldest > oldest:
            self.selector.remove(self._ids(source, np.arange(oldest, ring.oldest)).reshape(-1))
        starts = completed(before, ring.head, ring.layout.length)  # [K']
        given = 0 if unroll.priority is None else min(len(unroll.priority), len(starts))
        # One of both may be new, the collector or the store: then the older of these sequences have no priority, or are not here.
        self._offer(source, starts[: len(starts) - given], None)
        if given:
            self._offer(source, starts[-given:], unroll.priority[-given:])
        self.limiter.did_insert(k * ring.num_envs)

    def _offer(self, source: int, starts: NDArray[np.int64], priority: NDArray[np.float64] | None) -> None:
        """Makes sequences sampleable that start at `starts` [K'], with priorities [K',L] or the largest so far."""
        there = self.rings[source].starts(starts)  # [K',L]
        self.selector.add(self._ids(source, starts)[there], None if priority is None else priority[there])

    def can_sample(self, count: int) -> bool:
        return len(self.selector) > 0 and self.limiter.can_sample(count)

    def sample(self, count: int, inserted: int | None = None) -> Sample:
        """`inserted`: what the schedule of importance weights goes by; None: the steps that came in here."""
        return normalised(self.draw(count, self.importance_exponent(inserted)))

    def draw(self, count: int, importance_exponent: float) -> Sample:
        """With weights (N P)^-exponent as they are."""
        ids, probability = self.selector.sample(count, self.rng)
        self.limiter.did_sample(count)
        if len(self.rings) > 1:  # sequences of one source lie together in the batch
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
        """Sequences [T,B,...] that start at `time` [B] of `environment` [B] of `source` [B], in rising order."""
        cuts = np.searchsorted(source, np.arange(len(self.rings) + 1))
        spans = [slice(begin, end) for begin, end in pairwise(cuts)]
        parts = [
            ring.read(env_index[span] - at * ring.num_envs, time[span])
            for at, (ring, span) in enumerate(zip(self.rings, spans, strict=True))
            if span.stop > span.start
        ]
        return joined(parts)

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """New priorities [B] for sampled keys [B]."""
        time, env_index = keys // self.num_envs, keys % self.num_envs
        oldest = np.array([ring.oldest for ring in self.rings])[env_index // self.rings[0].num_envs]  # [B]
        alive = time >= oldest
        self.dropped_updates += int((~alive).sum())
        self.selector.update((env_index * self.slots + time % self.slots)[alive], priority[alive])

    def importance_exponent(self, inserted: int | None = None) -> float:
        """Of the schedule, at so many steps; None: at those that came in here."""
        c, at = self.config, self.inserted if inserted is None else inserted
        return linear(c.importance_exponent_start, c.importance_exponent_end, c.importance_anneal_agent_steps, at=at)

    def end_streams(self, source: int | None = None) -> None:
        """The environments (of one source) start anew, so nothing may be learned across this point: see `Ring.end_streams`."""
        for ring in self.rings if source is None else [self.rings[source]]:
            ring.end_streams()

    def state_dict(self) -> dict[str, Any]:
        return {
            "rings": [ring.state_dict() for ring in self.rings],
            "selector": self.selector.state_dict(),
            "limiter": self.limiter.state_dict(),
            "rng": self.rng.bit_generator.state,
            "dropped_updates": self.dropped_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError if it is another store's."""
        if "rings" not in state:
            raise ValueError("the saved replay has demonstrations (replay.demonstrations), this one has none")
        if len(state["rings"]) != len(self.rings):
            raise ValueError(f"the saved replay has {len(state['rings'])} sources, this one {len(self.rings)}")
        for ring, saved in zip(self.rings, state["rings"], strict=True):
            ring.load_state_dict(saved)
        self.selector.load_state_dict(state["selector"])
        self.limiter.load_state_dict(state["limiter"])
        self.rng.bit_generator.state = state["rng"]
        self.dropped_updates = state["dropped_updates"]

    def _ids(self, source: int, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Selector ids [K,L] of absolute times [K]: slots of one environment lie together."""
        num_envs = self.rings[source].num_envs
        return times[:, None] % self.slots + np.arange(source * num_envs, (source + 1) * num_envs) * self.slots


def predicted_bytes(spec: EnvSpec, config: ReplayConfig, sequence: SequenceSpec) -> int:
    """Bytes of a full store, bookkeeping included."""
    selector = 8 + 2 * 8 / 7 if config.prioritized else 8  # 8-ary tree of sums and maxima; two i32 for uniform
    return int(config.capacity_agent_steps * (Ring.bytes_per_step(spec, layout_of(sequence)) + selector))


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
    """A store for `sources` collectors of `num_envs` environments each; `what` names the memory in errors.

    UsageError where the capacity is too small for a sequence of every environment, or larger than this machine's free memory.
    """
    what = what or f"replay.capacity_agent_steps {config.capacity_agent_steps}"
    layout = layout_of(sequence)
    num_envs *= sources
    slots = config.capacity_agent_steps // num_envs
    least = layout.length + max(spec.stack, layout.stride) + unroll + (layout.stride if layout.stride > 1 else 0)
    if slots < least:
        raise UsageError(
            f"{what} gives each of {num_envs} environments {slots} steps, but sequences of {layout.length} steps need {least}: "
            f"at least {least * num_envs}"
        )
    need, free = predicted_bytes(spec, config, sequence), available_bytes()
    if free is not None and need > free:
        fit = int(config.capacity_agent_steps * 0.9 * free / need)
        raise UsageError(f"{what} needs {need / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free: at most {fit} steps fit")
    size = slots * num_envs
    selector: Selector = Prioritized(size, config.priority_exponent, stratified=True) if config.prioritized else Uniform(size)
    limiter = SamplesPerInsert(config.samples_per_insert, config.min_agent_steps)
    rings = [Ring(spec, num_envs // sources, slots, layout) for _ in range(sources)]
    return Replay(rings, selector, limiter, config, seed)


def available_bytes() -> int | None:
    """Free memory of this machine, None where it does not say."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
