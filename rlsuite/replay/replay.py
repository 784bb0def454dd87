"""A store = storage x selector x limiter. Shapes: K steps and L lanes of a chunk, B samples, T steps of a slice."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rlsuite.agent import SliceSpec
from rlsuite.config import ReplayConfig
from rlsuite.errors import UsageError
from rlsuite.replay.limiter import SamplesPerInsert
from rlsuite.replay.ring import Ring
from rlsuite.replay.selectors import Prioritized, Selector, Uniform, importance_weights
from rlsuite.schedules import linear
from rlsuite.step import Chunk, EnvSpec, Trajectory


class Sample(NamedTuple):
    trajectory: Trajectory  # NumPy leaves [T,B,...]
    keys: NDArray[np.int64]  # [B], to return priorities with
    weights: NDArray[np.float32]  # [B], importance weights; ones for a uniform selector
    version: int | None = None  # of the oldest weights that acted in it; None: the store does not know


class Store(Protocol):
    """What collectors fill and the learner draws from."""

    stale: int  # priorities that came back too late

    @property
    def capacity_steps(self) -> int: ...

    def __len__(self) -> int: ...

    def add(self, chunk: Chunk) -> None: ...

    def can_sample(self, count: int) -> bool: ...

    def sample(self, count: int) -> Sample: ...

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None: ...

    def end_streams(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Replay:
    """Slices become sampleable when their last step has arrived, and stop when their first frame stack loses a plane.

    A key is absolute time * L + lane, so it also tells the generation of its slot: a priority that returns for a slice that
    was overwritten meanwhile is dropped and counted in `stale`.
    """

    def __init__(self, ring: Ring, selector: Selector, limiter: SamplesPerInsert, config: ReplayConfig, seed: int):
        self.ring, self.selector, self.limiter, self.config = ring, selector, limiter, config
        self.rng = np.random.default_rng(seed)
        self.stale = 0

    @property
    def capacity_steps(self) -> int:
        return self.ring.slots * self.ring.lanes

    def __len__(self) -> int:
        """Stored steps, all lanes."""
        return self.ring.filled * self.ring.lanes

    def add(self, chunk: Chunk) -> None:
        """Leaves [K,L,...], frames as single planes."""
        ring, k = self.ring, chunk.steps.reward.shape[0]
        before, oldest = ring.head, ring.oldest
        ring.write(chunk)
        if ring.oldest > oldest:
            self.selector.remove(self._ids(np.arange(oldest, ring.oldest)).reshape(-1))
        delay = ring.length - 1
        starts = np.arange(max(before - delay, 0), max(ring.head - delay, 0))  # [K'] whose slices are now complete
        if starts.size:
            acted = ~ring.last(starts)  # [K',L]: a final observation has no action to learn from
            self.selector.add(self._ids(starts)[acted])
        self.limiter.did_insert(k * ring.lanes)

    def can_sample(self, count: int) -> bool:
        return len(self.selector) > 0 and self.limiter.can_sample(count)

    def sample(self, count: int) -> Sample:
        ids, probability = self.selector.sample(count, self.rng)
        self.limiter.did_sample(count)
        lane, slot = ids // self.ring.slots, ids % self.ring.slots
        head = self.ring.head
        time = head - 1 - (head - 1 - slot) % self.ring.slots  # [B] absolute
        weights = np.ones(count, np.float32)
        if self.config.prioritized:
            weights = importance_weights(probability, len(self.selector), self.importance_exponent)
        return Sample(self.ring.read(lane, time), time * self.ring.lanes + lane, weights)

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """New priorities [B] for sampled keys [B]."""
        time, lane = keys // self.ring.lanes, keys % self.ring.lanes
        alive = time >= self.ring.oldest
        self.stale += int((~alive).sum())
        self.selector.update((lane * self.ring.slots + time % self.ring.slots)[alive], priority[alive])

    @property
    def importance_exponent(self) -> float:
        c = self.config
        return linear(
            c.importance_exponent_start,
            c.importance_exponent_end,
            c.importance_anneal_agent_steps,
            at=self.ring.head * self.ring.lanes,
        )

    def end_streams(self) -> None:
        """The environments start anew, so nothing may be learned across this point: see `Ring.end_streams`."""
        self.ring.end_streams()

    def state_dict(self) -> dict[str, Any]:
        return {
            "ring": self.ring.state_dict(),
            "selector": self.selector.state_dict(),
            "limiter": self.limiter.state_dict(),
            "rng": self.rng.bit_generator.state,
            "stale": self.stale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ring.load_state_dict(state["ring"])
        self.selector.load_state_dict(state["selector"])
        self.limiter.load_state_dict(state["limiter"])
        self.rng.bit_generator.state = state["rng"]
        self.stale = state["stale"]

    def _ids(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Selector ids [K,L] of absolute times [K]: slots of one lane lie together."""
        return times[:, None] % self.ring.slots + np.arange(self.ring.lanes) * self.ring.slots


def predicted_bytes(spec: EnvSpec, config: ReplayConfig, cut: SliceSpec) -> int:
    """Memory of a full store, bookkeeping included."""
    selector = 8 + 2 * 8 / 7 if config.prioritized else 8  # 8-ary tree of sums and maxima; two i32 for uniform
    return int(config.capacity_agent_steps * (Ring.bytes_per_step(spec, cut) + selector))


def build_replay(config: ReplayConfig, spec: EnvSpec, lanes: int, cut: SliceSpec, chunk: int, seed: int) -> Replay:
    """UsageError where the capacity is too small for a slice of every lane, or larger than this machine's free memory."""
    assert cut.length is not None
    slots = config.capacity_agent_steps // lanes
    least = cut.length + spec.stack + chunk
    if slots < least:
        raise UsageError(
            f"replay.capacity_agent_steps {config.capacity_agent_steps} gives each of {lanes} lanes {slots} steps, but slices of "
            f"{cut.length} need {least}: at least {least * lanes}"
        )
    need, free = predicted_bytes(spec, config, cut), available_bytes()
    if free is not None and need > free:
        raise UsageError(
            f"replay.capacity_agent_steps {config.capacity_agent_steps} needs {need / 1e9:.1f} GB, but {free / 1e9:.1f} GB are "
            f"free: at most {int(config.capacity_agent_steps * 0.9 * free / need)} fit"
        )
    size = slots * lanes
    selector: Selector = Prioritized(size, config.priority_exponent, stratified=True) if config.prioritized else Uniform(size)
    limiter = SamplesPerInsert(config.samples_per_insert, config.min_agent_steps)
    return Replay(Ring(spec, lanes, slots, cut), selector, limiter, config, seed)


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
