"""Two memories in one: recorded play beside the agent's own (R2D3, Gulcehre et al. 2020, section 4).

Shapes: N recorded steps, B samples.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.agent import SliceSpec
from rlsuite.config import ReplayConfig
from rlsuite.replay.replay import Replay, Sample, build_replay
from rlsuite.replay.ring import joined
from rlsuite.step import Chunk, EnvSpec, State, Step, tree_map


class Mixture:
    """Every element of a batch comes from the demonstrations with chance `ratio`, else from the agent's own store.

    Each has priorities of its own, and importance weights against them. A key of a demonstration is negative.
    """

    def __init__(self, own: Replay, demonstrations: Replay, ratio: float, seed: int):
        self.own, self.demonstrations, self.ratio = own, demonstrations, ratio
        self.rng = np.random.default_rng(seed)

    @property
    def stale(self) -> int:
        return self.own.stale

    @property
    def capacity_steps(self) -> int:
        return self.own.capacity_steps

    @property
    def inserted(self) -> int:
        return self.own.inserted

    @property
    def slices(self) -> int:
        """Of the agent's own store."""
        return self.own.slices

    def __len__(self) -> int:
        """Steps of the agent's own."""
        return len(self.own)

    def mass(self) -> float:
        return self.own.mass()

    def add(self, chunk: Chunk, source: int = 0) -> None:
        self.own.add(chunk, source)

    def can_sample(self, count: int) -> bool:
        return self.own.can_sample(count)

    def sample(self, count: int, share: float = 1.0, slices: int | None = None) -> Sample:
        """`share`, `slices`: as of `Replay.sample`, of the agent's own."""
        shown = int(self.rng.binomial(count, self.ratio))
        parts = []
        if shown < count:
            parts.append(self.own.sample(count - shown, share, slices))
        if shown:
            self.own.limiter.did_sample(shown)
            part = self.demonstrations.sample(shown, importance_exponent=self.own.importance_exponent)
            parts.append(part._replace(keys=-1 - part.keys))
        return Sample(
            joined([part.trajectory for part in parts]),
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.weights for part in parts]),
        )

    def update(self, keys: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        shown = keys < 0
        self.own.update(keys[~shown], priority[~shown])
        self.demonstrations.update(-1 - keys[shown], priority[shown])

    def end_streams(self, source: int | None = None) -> None:
        self.own.end_streams(source)

    def state_dict(self) -> dict[str, Any]:
        """Without what was recorded: that stands in its own folder."""
        demonstrations = self.demonstrations
        kept = {"selector": demonstrations.selector.state_dict(), "rng": demonstrations.rng.bit_generator.state}
        return {"own": self.own.state_dict(), "demonstrations": kept, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError if it is another store's, or the demonstrations are others now."""
        if "own" not in state:
            raise ValueError("the saved replay has no demonstrations")
        self.own.load_state_dict(state["own"])
        self.demonstrations.selector.load_state_dict(state["demonstrations"]["selector"])
        self.demonstrations.rng.bit_generator.state = state["demonstrations"]["rng"]
        self.rng.bit_generator.state = state["rng"]


def store_of(
    steps: Step, config: ReplayConfig, spec: EnvSpec, cut: SliceSpec, initial_state: Callable[[int], State], seed: int
) -> Replay:
    """A store that holds recorded `steps` [N,...] (single planes) for good. Recurrent states in it are zero."""
    assert cut.length is not None
    n, pad = len(steps.first), cut.length - 1
    # Behind the last episode stand blank ones of one record each, so that slices of its last steps are whole.
    padded = tree_map(lambda leaf: np.concatenate([leaf, np.zeros((pad, *leaf.shape[1:]), leaf.dtype)])[:, None], steps)
    padded.first[n:] = padded.last[n:] = True
    time = np.arange(n)
    since = time - np.maximum.accumulate(np.where(steps.first, time, 0)) if cut.from_first else time
    starts = np.concatenate([since % cut.stride == 0, np.zeros(pad, bool)])[:, None]  # [N+pad,1]
    state = tree_map(lambda leaf: leaf.numpy(), initial_state(int(starts.sum()))) if cut.state else ()
    size = n + pad + spec.stack + max(spec.stack, cut.stride) + 1
    sized = config.model_copy(update={"capacity_agent_steps": size, "min_agent_steps": 1, "samples_per_insert": 1e12})
    store = build_replay(sized, spec, 1, cut, 1, seed)
    store.add(Chunk(padded, starts=starts if cut.stride > 1 else None, state=state))
    return store
