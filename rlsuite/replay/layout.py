"""How sequences lie in a store, and where they start. Shapes: L environments, M starts."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.agent import Extra, Rollouts, Sequences, SequenceSpec, Transitions
from rlsuite.core.types import State, as_tuples, tree_map, tree_zip


class Layout(NamedTuple):
    """What a ring must know of the sequences that it stores."""

    length: int  # T
    sparse: bool = False  # observations only at step 0 and at the bootstrap step
    stride: int = 1  # steps from one start to the next; 1: every action starts a sequence
    within_episodes: bool = False  # strides are counted from the first step of every episode
    burn_in: int = 0
    state: tuple[Extra, ...] = ()  # leaves of the recurrent state that is stored where sequences start
    extras: tuple[Extra, ...] = ()


def layout_of(sequence: SequenceSpec) -> Layout:
    """The layout of sequences in a ring. ValueError for rollouts, which no ring stores."""
    if isinstance(sequence, Rollouts):
        raise ValueError("rollouts are queued whole: no ring stores them")
    if isinstance(sequence, Sequences):
        return Layout(
            sequence.length,
            stride=sequence.stride,
            within_episodes=sequence.within_episodes,
            burn_in=sequence.burn_in,
            state=sequence.state,
            extras=sequence.extras,
        )
    return Layout(sequence.length, sparse=isinstance(sequence, Transitions), extras=sequence.extras)


class Starts:
    """Marks the steps of an unroll at which sequences start, and keeps the recurrent states before them.

    A rollout starts where its unroll does. Transitions start at every action, so nothing is marked.
    """

    def __init__(self, sequence: SequenceSpec, num_envs: int):
        self.rollouts = isinstance(sequence, Rollouts)
        self.layout = None if self.rollouts else layout_of(sequence)
        self.marks: list[NDArray[np.bool_]] = []  # of each step of the unroll, [L]
        self.states: list[State] = []  # before the steps that are marked, leaves [M',...]
        self.since = np.zeros(num_envs, np.int64)  # [L] steps since strides are counted

    def mark(self, first: NDArray[np.bool_], state: State) -> None:
        """Before a step: `first` [L] of it, and the recurrent state, leaves [L,...] tensors."""
        if self.layout is None:
            marks = np.full(len(first), not self.marks)
        elif self.layout.stride > 1:
            if self.layout.within_episodes:
                self.since[first] = 0
            marks = self.since % self.layout.stride == 0
            self.since += 1
        else:
            return
        self.marks.append(marks)
        if marks.any():
            self.states.append(tree_map(lambda leaf: leaf.cpu().numpy()[marks], self._kept(state)))

    def take(self, state: State) -> tuple[NDArray[np.bool_] | None, State]:
        """The marks [K,L] of the unroll and the states [M,...] before them; (None, ()) where nothing is marked.

        `state`: any recurrent state, for the shape of its leaves.
        """
        if not self.marks:
            return None, ()
        states = self.states or [tree_map(lambda leaf: leaf[:0].cpu().numpy(), self._kept(state))]
        found = np.stack(self.marks), tree_zip(lambda *leaves: np.concatenate(leaves), *states)
        self.marks, self.states = [], []
        return found

    def _kept(self, state: State) -> State:
        return state if self.layout is None or self.layout.state else ()  # some agents begin every sequence with zeros

    def restart(self) -> None:
        """All environments begin new episodes."""
        self.since[:] = 0

    def state_dict(self) -> dict[str, Any]:
        return {"marks": self.marks, "states": self.states, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.marks, self.states = list(state["marks"]), [as_tuples(leaves) for leaves in state["states"]]
        self.since = state["since"].copy()
