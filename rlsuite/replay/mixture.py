"""A mixture of two replays: demonstrations and the agent's own experience (R2D3, Gulcehre et al. 2020, section 4).

Shapes: N recorded steps, K steps and L environments of an unroll, B samples.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import SequenceSpec
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step, Unroll, tree_map
from rlsuite.replay.layout import layout_of
from rlsuite.replay.moves import SavedReplay
from rlsuite.replay.replay import Replay, Sample, build_replay, normalised
from rlsuite.replay.ring import joined


class Mixture:
    """A store whose samples come from the demonstrations with probability `ratio`, and otherwise from the agent's own replay.

    Each of the two has its own priorities, from which importance weights are computed; these are then divided by the largest weight
    of the whole batch. Keys of demonstrations are negative.
    """

    def __init__(self, own: Replay, demonstrations: Replay, ratio: float, seed: int, recorded: str):
        """`recorded`: the digest of the steps in `demonstrations`."""
        self.own, self.demonstrations, self.ratio = own, demonstrations, ratio
        self.rng = np.random.default_rng(seed)
        self.recorded = recorded

    @property
    def dropped_updates(self) -> int:
        """The number of priority updates dropped because their sequences had been overwritten."""
        return self.own.dropped_updates

    @property
    def capacity_steps(self) -> int:
        """The number of steps that the agent's own replay holds when full."""
        return self.own.capacity_steps

    @property
    def inserted(self) -> int:
        """The number of steps that the agent has inserted, including those overwritten since."""
        return self.own.inserted

    def __len__(self) -> int:
        """The number of steps stored in the agent's own replay."""
        return len(self.own)

    def total_weight(self) -> float:
        """The total weight of the agent's own replay; see `Replay.total_weight`."""
        return self.own.total_weight()

    def add(self, unroll: Unroll, source: int = 0) -> None:
        """Stores an unroll of the agent, leaves [K,L,...]."""
        self.own.add(unroll, source)

    def can_sample(self, count: int) -> bool:
        """Whether a batch of `count` may be drawn now."""
        return self.own.can_sample(count)

    def sample(self, count: int, inserted: int | None = None) -> Sample:
        """A batch of `count` sequences. `inserted`: see `Replay.sample`."""
        exponent = self.own.importance_exponent(inserted)
        shown = int(self.rng.binomial(count, self.ratio))  # samples from the demonstrations
        parts = []
        if shown < count:
            parts.append(self.own.draw(count - shown, exponent))
        if shown:
            self.own.limiter.did_sample(shown)
            part = self.demonstrations.draw(shown, exponent)
            parts.append(part._replace(keys=-1 - part.keys))
        whole = Sample(
            joined([part.trajectory for part in parts]),
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.weights for part in parts]),
        )
        return normalised(whole)

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """Sets new priorities [B] for the sequences with the keys [B]."""
        shown = keys < 0
        self.own.update(keys[~shown], priority[~shown])
        self.demonstrations.update(-1 - keys[shown], priority[shown])

    def end_streams(self, source: int | None = None) -> None:
        """See `Replay.end_streams`; demonstrations are not affected."""
        self.own.end_streams(source)

    def state_dict(self) -> dict[str, Any]:
        """The state without the recorded steps, which stay in their own folder."""
        demonstrations = self.demonstrations
        kept = {"selector": demonstrations.selector.state_dict(), "rng": demonstrations.rng.bit_generator.state}
        return {"own": self.own.state_dict(), "demonstrations": kept, "digest": self.recorded, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> str | None:
        """Restores `state`; see `Store`. ValueError if it is from another kind of agent, or if the demonstrations have changed."""
        saved = SavedReplay.of(state)
        self.load_demonstrations(saved.shards[0])
        return self.own.restore(saved)

    def load_exactly(self, state: Mapping[str, Any]) -> None:
        """See `Replay.load_exactly`."""
        self.load_demonstrations(state)
        self.own.load_exactly(state["own"])

    def fill(self, portions: Iterable[tuple[int, Unroll]]) -> None:
        """See `Replay.fill`."""
        self.own.fill(portions)

    def load_demonstrations(self, state: Mapping[str, Any]) -> None:
        """Restores everything but the agent's own replay. ValueError if the demonstrations are not those of the saved run."""
        if "own" not in state:
            raise ValueError("the saved replay has no demonstrations (replay.demonstrations), this one has")
        if state.get("digest", self.recorded) != self.recorded:
            raise ValueError("replay.demonstrations hold other episodes than when the replay was saved")
        self.demonstrations.selector.load_state_dict(state["demonstrations"]["selector"])
        self.demonstrations.rng.bit_generator.state = state["demonstrations"]["rng"]
        self.rng.bit_generator.state = state["rng"]


def store_of(
    steps: Step, config: ReplayConfig, spec: EnvSpec, sequence: SequenceSpec, initial_state: Callable[[int], State], seed: int
) -> Replay:
    """A replay filled with recorded `steps` [N,...] (frames as single planes), which stay in it for good.

    Stored recurrent states are those of an episode's start. UsageError if the steps do not fit into memory, or if no sequence would
    have a step to learn from.
    """
    layout = layout_of(sequence)
    # The recording is padded with blank episodes of one step each: before it, so that burn-in falls on blanks and not on recorded
    # steps; after it, so that sequences that start at its last steps are complete.
    n, before, after = len(steps.first), 0 if layout.within_episodes else layout.burn_in, layout.length - 1
    longest = int(np.diff([*np.flatnonzero(steps.first), n]).max()) - 1
    if layout.within_episodes and longest <= layout.burn_in:
        raise UsageError(
            f"replay.demonstrations: episodes have at most {longest} actions, and sequences that do not cross episodes begin with "
            f"{layout.burn_in} steps of burn-in: nothing could be learned; lower agent.burn_in, or set agent.cross_episodes=true"
        )

    def padded(leaf: NDArray[Any]) -> NDArray[Any]:
        return np.pad(leaf, [(before, after), *[(0, 0)] * (leaf.ndim - 1)])

    stream = tree_map(padded, steps)
    for blank in (slice(0, before), slice(before + n, None)):
        stream.first[blank] = stream.last[blank] = True
    time = np.arange(before + n)
    since = time - np.maximum.accumulate(np.where(stream.first[: before + n], time, 0)) if layout.within_episodes else time
    starts = np.concatenate([since % layout.stride == 0, np.zeros(after, bool)])[:, None]  # [before+N+after,1]
    state = tree_map(lambda leaf: leaf.numpy(), initial_state(int(starts.sum()))) if layout.state else ()
    size = before + n + after + max(spec.stack, layout.stride) + layout.stride + 1
    sized = config.model_copy(update={"capacity_agent_steps": size, "min_agent_steps": 1, "samples_per_insert": 1e12})
    store = build_replay(sized, spec, 1, sequence, 1, seed, what=f"replay.demonstrations of {n} steps")
    store.add(Unroll(tree_map(lambda leaf: leaf[:, None], stream), starts=starts if layout.stride > 1 else None, state=state))
    return store


def digest(steps: Step) -> str:
    """A hash of recorded steps [N,...] without extras, by which a resumed run recognises them."""
    found = hashlib.sha256()
    for leaf in steps[:-1]:
        found.update(np.ascontiguousarray(leaf).view(np.uint8).data)
    return found.hexdigest()
