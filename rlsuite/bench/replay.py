"""replay: sampling by priority, whole batches of stacked frames, and bytes per transition.

Shapes: n sampled ids.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.bench.measure import NOT_INSTALLED, PONG, BenchSettings, Row, Target, Work, alternate, lacking, named, repeated, say
from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import Transitions
from rlsuite.core.types import Step, Unroll
from rlsuite.replay import Replay, build_replay
from rlsuite.replay.selectors import Prioritized, importance_weights

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

ALPHA, BETA = 0.6, 0.4
NUM_ENVS, UNROLL = 32, 16
SEQUENCE = Transitions(3)  # n = 3


class NumpySumTree:
    """The usual binary sum tree in plain NumPy, for a batch at a time, level by level.

    `nodes[1]` is the root, and the children of node i are 2i and 2i + 1.
    """

    def __init__(self, capacity: int) -> None:
        self.depth = max(1, (capacity - 1).bit_length())
        self.first = 1 << self.depth
        self.nodes = np.zeros(2 * self.first)

    def set(self, ids: Ids, weights: Floats) -> None:
        """Overwrites the leaves `ids` [n] and updates the sums above them."""
        nodes, at = self.nodes, ids + self.first
        nodes[at] = weights
        for _ in range(self.depth):
            at = at >> 1
            nodes[at] = nodes[2 * at] + nodes[2 * at + 1]

    def sample(self, uniforms: Floats) -> tuple[Ids, Floats]:
        """The leaves [n] into which `u * total` falls for each u of `uniforms` [n], and their probabilities [n]."""
        nodes, at = self.nodes, np.ones(uniforms.size, np.int64)
        rest = uniforms * nodes[1]  # what is still to the left of the target, within the node
        for _ in range(self.depth):
            at = 2 * at
            right = rest >= nodes[at]
            rest = rest - right * nodes[at]
            at = at + right
        return at - self.first, nodes[at] / nodes[1]


def bench_replay(settings: BenchSettings) -> list[Row]:
    """Samples per second of the prioritized selector, against cpprb and NumPy; batches of a whole replay; bytes per transition."""
    return [*_selectors(settings), *_store(settings)]


def _selectors(settings: BenchSettings) -> list[Row]:
    size, batch = settings.replay_size, settings.replay_batch
    priority = np.random.default_rng(0).random(size) + 0.01
    contenders = {"ours": _ours(priority, batch), "numpy": _numpy(priority, batch)}
    label = f"cpprb's PrioritizedReplayBuffer ({NOT_INSTALLED})"
    if not lacking(["cpprb"]):
        contenders["cpprb"] = _cpprb(priority, batch)
        label = f"{named('cpprb')}'s PrioritizedReplayBuffer (one byte a transition)"
    rates = alternate("replay", contenders, settings)
    what = f"prioritized sample {batch} with importance weights + update {batch} with new priorities, {size:,} slots, against "
    tree = "a binary sum tree in plain NumPy, level by level"
    return [
        Row("replay/cpprb", what + label, "samples/s", rates["ours"], rates.get("cpprb"), Target("ratio", ">=", 3.0)),
        Row("replay/numpy", what + tree, "samples/s", rates["ours"], rates["numpy"]),
    ]


# Each round draws a fresh batch from all slots, so that what it reads is rarely in a near cache.
# Every contender draws its new priorities inside the round.


def _ours(priority: Floats, batch: int) -> Work:
    selector = Prioritized(priority.size, ALPHA, stratified=True)
    selector.add(np.arange(priority.size), priority)
    rng = np.random.default_rng(1)

    def once() -> None:
        ids, probability = selector.sample(batch, rng)
        weights = importance_weights(probability, len(selector), BETA)
        weights /= weights.max()
        selector.update(ids, rng.random(batch) + 0.01)

    return repeated(once, batch)


def _numpy(priority: Floats, batch: int) -> Work:
    tree = NumpySumTree(priority.size)
    tree.set(np.arange(priority.size), priority**ALPHA)
    rng = np.random.default_rng(1)

    def once() -> None:
        ids, probability = tree.sample((np.arange(batch) + rng.random(batch)) / batch)
        weights = importance_weights(probability, priority.size, BETA)
        weights /= weights.max()
        tree.set(ids, (rng.random(batch) + 0.01) ** ALPHA)

    return repeated(once, batch)


def _cpprb(priority: Floats, batch: int) -> Work:
    make: Callable[..., Any] = importlib.import_module("cpprb").PrioritizedReplayBuffer
    buffer = make(priority.size, {"x": {"dtype": np.uint8}}, alpha=ALPHA)
    buffer.add(x=np.zeros(priority.size, np.uint8), priorities=priority)
    rng = np.random.default_rng(1)

    def once() -> None:
        sample = buffer.sample(batch, beta=BETA)
        buffer.update_priorities(sample["indexes"], rng.random(batch) + 0.01)

    return repeated(once, batch)


def _store(settings: BenchSettings) -> list[Row]:
    batch, steps = settings.replay_batch, settings.replay_steps
    store = filled_store(steps)
    rate = alternate("replay/sample", {"ours": repeated(lambda: store.sample(batch), batch)}, settings)["ours"]
    sampled = (
        f"Replay.sample of {batch}: prioritized, n = 3, two stacks of 4x84x84 per transition, importance weights; "
        f"{len(store):,} steps stored"
    )
    capacity = ReplayConfig().capacity_agent_steps
    stored = (
        f"ring + selector, prioritized, each frame stored once: arrays of a full replay of {len(store):,} steps in "
        f"{NUM_ENVS} environments, scaled to the default capacity of {capacity:,}, per transition that can be sampled"
    )
    return [
        Row("replay/sample", sampled, "transitions/s", rate),
        Row("replay/bytes", stored, "bytes/transition", bytes_per_transition(store, capacity), None, Target("ours", "<=", 7600)),
    ]


def filled_store(steps: int) -> Replay:
    """A full prioritized replay of at least `steps` Atari steps of noise, every page written; an episode takes about 1,000."""
    say(f"replay: filling a replay with {steps:,} steps")
    slots = max(-(-steps // NUM_ENVS), 2 * UNROLL)
    settings = ReplayConfig(capacity_agent_steps=slots * NUM_ENVS, min_agent_steps=1, samples_per_insert=1e12, prioritized=True)
    store = build_replay(settings, PONG, NUM_ENVS, SEQUENCE, UNROLL, seed=1)
    rng = np.random.default_rng(2)
    pixels = rng.integers(256, size=(UNROLL, NUM_ENVS, 84, 84), dtype=np.uint8)
    first = np.ones(NUM_ENVS, bool)
    for _ in range(-(-slots // UNROLL) + 1):
        last = rng.random((UNROLL, NUM_ENVS)) < 1e-3
        store.add(
            Unroll(
                Step(
                    observation=pixels,
                    reward=rng.random((UNROLL, NUM_ENVS), np.float32),
                    first=np.concatenate([first[None], last[:-1]]),
                    last=last,
                    terminal=last,
                    action=rng.integers(PONG.num_actions, size=(UNROLL, NUM_ENVS)),
                    extras={},
                )
            )
        )
        first = last[-1]
    return store


def bytes_per_transition(store: Replay, capacity: int) -> float:
    """Bytes per transition that can be sampled at `capacity` steps, extrapolated from a full but smaller `store`.

    The arrays grow with the number of steps, and so do the final observations, where no transition starts. What each environment
    loses at the ends of the ring, where a sequence or its first stack is incomplete, is constant.
    """
    steps = len(store)
    ends = store.rings[0].num_envs * (store.rings[0].spec.stack - 1 + store.rings[0].layout.length - 1)
    finals = steps - ends - len(store.selector)
    scale = capacity / steps
    return (nbytes(store.rings[0]) + nbytes(store.selector)) * scale / (capacity - ends - finals * scale)


def nbytes(part: Any) -> int:
    """Total bytes of the arrays in `part` and its own parts."""
    if isinstance(part, np.ndarray):
        return part.nbytes
    if isinstance(part, list):
        return sum(nbytes(item) for item in part)
    inner = part.__dict__.values() if type(part).__module__.startswith("rlsuite.replay") and not isinstance(part, tuple) else ()
    return sum(nbytes(value) for value in inner)
