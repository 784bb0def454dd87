"""Moves the steps of a saved replay to a replay of another shape: other numbers of collectors or shards, or another runtime.

Streams are cut in time and distributed by capacity, so that every ring gets its share; nothing is learned across a cut. Priorities
move with their sequences.

Shapes: K steps of an unroll, L environments, N slots of each, M starts of sequences.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.types import EnvSpec, Step, Unroll, tree_map
from rlsuite.replay.layout import Layout
from rlsuite.replay.ring import FIRST, LAST, START, TERMINAL

State = Mapping[str, Any]


class Place(NamedTuple):
    """Identifies a ring of a run: one source of a shard."""

    shard: int
    source: int
    share: float  # of the capacity of all shards


def places(sources: Sequence[int]) -> list[Place]:
    """All rings of a run; `sources`: the number of sources of each shard."""
    return [Place(shard, at, 1 / (len(sources) * count)) for shard, count in enumerate(sources) for at in range(count)]


class SavedReplay(NamedTuple):
    """The saved state of a replay, in the same form for every runtime."""

    shards: list[State]  # states of `Replay` or of `Mixture`
    limiter: State

    @staticmethod
    def of(state: State) -> "SavedReplay":
        """Reads the state of a local run's store or a Ray run's. ValueError if it is not a replay's, but an on-policy agent's."""
        if state.get("shards"):
            return SavedReplay(state["shards"], state["limiter"])
        if "rings" in state or "own" in state:
            return SavedReplay([state], state.get("own", state)["limiter"])
        raise ValueError("the saved run is of an on-policy agent, which has no replay")

    @property
    def sources(self) -> list[int]:
        """The number of rings in each shard."""
        return [len(own["rings"]) for own in self.own]

    @property
    def own(self) -> list[State]:
        """The states of the shards, without demonstrations."""
        return [state.get("own", state) for state in self.shards]

    def steps(self) -> int:
        """The number of saved steps of all environments."""
        rings = [ring for own in self.own for ring in own["rings"]]
        return sum(min(ring["head"], ring["slots"]) if "window" in ring else ring["reward"].size for ring in rings)

    def without_steps(self) -> State:
        """The state of a shard without the agent's own steps, for `load_demonstrations`."""
        return {name: value for name, value in self.shards[0].items() if name in ("demonstrations", "digest", "rng")} | (
            {"own": {}} if "own" in self.shards[0] else {}
        )

    def portions(
        self, spec: EnvSpec, layout: Layout, targets: Sequence[Place], shard: int | None = None
    ) -> Iterator[tuple[Place, Unroll]]:
        """Yields all saved steps as unrolls for the rings `targets`, or only those for one of their shards.

        ValueError if sequences or environments differ.
        """
        edges = np.cumsum([0.0, *(place.share for place in targets)])  # in time, from 0 to 1
        for own in self.own:
            for source, ring in enumerate(own["rings"]):
                if "window" in ring:
                    raise ValueError("the saved replay is in the files of replay.window: continue it with as many replay shards")
                layout.check(ring["layout"])
                if (stored := ring["observation"].shape[2:]) != ring_shape(spec):
                    raise ValueError(f"the saved replay has observations of shape {stored}, not {ring_shape(spec)}")
                times = np.arange(_oldest(ring, layout, spec.stack), ring["head"])  # [K]
                at = np.rint(edges * len(times)).astype(int)
                for place, begin, end in zip(targets, at[:-1], at[1:], strict=True):
                    if end > begin and shard in (None, place.shard):
                        yield place, _unroll(ring, layout, times[begin:end], _priorities(own, source, times[begin:end]))


def newest(unroll: Unroll, count: int) -> Unroll:
    """The last `count` steps of an unroll [K,L,...]; the unroll itself if it has no more."""
    if (dropped := len(unroll.steps.reward) - count) <= 0:
        return unroll
    starts, state = unroll.starts, unroll.state
    if starts is not None:
        marked = int(starts[:dropped].sum())
        starts, state = starts[dropped:], tree_map(lambda leaf: leaf[marked:], state)
    return unroll._replace(steps=tree_map(lambda leaf: leaf[dropped:], unroll.steps), starts=starts, state=state)


def moved(saved: int, kept: int) -> str:
    """Describes a moved replay, as part of a sentence."""
    return f"the replay ({kept:,} of its {saved:,} steps, in streams cut anew)"


def ring_shape(spec: EnvSpec) -> tuple[int, ...]:
    """The shape of an observation as a ring stores it; for a frame stack, that of a single plane."""
    return spec.observation_shape[1:] if spec.stack > 1 else spec.observation_shape


def _oldest(ring: State, layout: Layout, stack: int) -> int:
    head, slots = ring["head"], ring["slots"]
    return int(ring["whole_from"] if head <= slots else head - slots + max(stack, layout.stride) - 1)


def _unroll(ring: State, layout: Layout, times: NDArray[np.int64], priority: NDArray[np.float64] | None) -> Unroll:
    """The steps at `times` [K], with the priorities [K,L] of the sequences that start there."""
    slots = times % ring["slots"]

    def leaf(stored: NDArray[Any]) -> NDArray[Any]:
        return np.swapaxes(stored[:, slots], 0, 1)  # [K,L,...]

    flags = leaf(ring["flags"])
    starts, state = None, ()
    if layout.stride > 1:
        starts = (flags & START) > 0
        step, env_index = np.nonzero(starts)  # [M]
        state = tuple(stored[env_index, slots[step] // layout.stride] for stored in ring["state"])
    steps = Step(
        observation=leaf(ring["observation"]),
        reward=leaf(ring["reward"]),
        first=(flags & FIRST) > 0,
        last=(flags & LAST) > 0,
        terminal=(flags & TERMINAL) > 0,
        action=leaf(ring["action"]),
        extras=tree_map(leaf, dict(ring["extras"])),
    )
    if priority is not None:  # of the sequences that are whole
        priority = priority[: max(len(times) - layout.length + 1, 0)]
    return Unroll(steps, starts=starts, state=state, priority=priority)


def _priorities(own: State, source: int, times: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """The priorities [K,L] of the sequences that start at `times` [K]; the largest where there is none; None if all are equal."""
    selector, ring = own["selector"], own["rings"][source]
    if not selector.get("exponent") or not (selector["leaves"] > 0).any():
        return None
    env_index = np.arange(source * len(ring["reward"]), (source + 1) * len(ring["reward"]))
    weights = selector["leaves"][times[:, None] % ring["slots"] + env_index * ring["slots"]]
    found: NDArray[np.float64] = np.where(weights > 0, weights, selector["leaves"].max()) ** (1 / selector["exponent"])
    return found
