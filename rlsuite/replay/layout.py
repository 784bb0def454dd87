"""The layout of sequences in a ring, and the marking of their starts. Shapes: K steps and L environments of an unroll, M starts."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.agent import Extra, Rollouts, Sequences, SequenceSpec, Transitions
from rlsuite.core.types import State, as_tuples, tree_map, tree_zip


class Layout(NamedTuple):
    """The layout of sequences in a ring: their length, starts and stored arrays."""

    length: int  # T, steps of a sequence
    sparse: bool = False  # observations only at step 0 and at the bootstrap step
    stride: int = 1  # steps from one start to the next; 1: every action starts a sequence
    within_episodes: bool = False  # strides are counted from the first step of every episode
    burn_in: int = 0  # steps at the start of a sequence that only warm up the recurrent state
    state: tuple[Extra, ...] = ()  # leaves of the recurrent state that is stored where sequences start
    extras: tuple[Extra, ...] = ()  # arrays stored with every step

    def facts(self) -> dict[str, int | str]:
        """The facts in which a saved ring must agree with the ring that it is restored to."""
        extras = ", ".join(extra.name for extra in self.extras)
        return {"length": self.length, "stride": self.stride, "within_episodes": int(self.within_episodes), "extras": extras}

    def check(self, saved: dict[str, int | str]) -> None:
        """ValueError if the `facts` of a saved ring differ from these."""
        if (found := {"extras": "", **saved}) != self.facts():  # older versions did not save the names of extras
            raise ValueError(f"agent.* or env.* has changed: the saved replay has sequences of {found}, this one of {self.facts()}")


def layout_of(sequence: SequenceSpec) -> Layout:
    """The layout of an agent's sequences in a ring. ValueError for rollouts, which are never stored in a ring."""
    if isinstance(sequence, Rollouts):
        raise ValueError("rollouts are not stored in a ring: they are queued as whole unrolls")
    if isinstance(sequence, Sequences):
        return Layout(
            sequence.length,
            stride=sequence.stride,
            within_episodes=sequence.within_episodes,
            burn_in=sequence.burn_in,
            state=sequence.state,
            extras=sequence.extras,
        )
    sparse = isinstance(sequence, Transitions) and not sequence.whole
    return Layout(sequence.length, sparse=sparse, extras=sequence.extras)


class Starts:
    """Marks the steps of an unroll at which sequences start, and keeps the recurrent states before those steps.

    A rollout starts at the first step of its unroll. Transitions start at every action, so nothing is marked.
    """

    def __init__(self, sequence: SequenceSpec, num_envs: int):
        self.rollouts = isinstance(sequence, Rollouts)
        self.layout = None if self.rollouts else layout_of(sequence)
        self.marks: list[NDArray[np.bool_]] = []  # for each step of the unroll, [L]
        self.states: list[State] = []  # before each step with a mark, leaves [M',...]
        self.since = np.zeros(num_envs, np.int64)  # [L] steps since the one from which strides are counted

    def mark(self, first: NDArray[np.bool_], state: State) -> None:
        """Marks starts at the coming step, given its `first` [L] bool and the recurrent state before it, tensors [L,...]."""
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
        """The marks [K,L] of the finished unroll and the states [M,...] at the marks; (None, ()) if nothing is ever marked.

        `state`: any recurrent state, which gives the shapes of the leaves.
        """
        if not self.marks:
            return None, ()
        states = self.states or [tree_map(lambda leaf: leaf[:0].cpu().numpy(), self._kept(state))]
        found = np.stack(self.marks), tree_zip(lambda *leaves: np.concatenate(leaves), *states)
        self.marks, self.states = [], []
        return found

    def _kept(self, state: State) -> State:
        return state if self.layout is None or self.layout.state else ()  # some agents start every sequence from zeros

    def drop(self) -> None:
        """Forgets the unfinished unroll."""
        self.marks, self.states = [], []

    def restart(self) -> None:
        """Restarts the count of strides, because all environments begin new episodes."""
        self.since[:] = 0

    def state_dict(self) -> dict[str, Any]:
        """The marks and states of the unfinished unroll, and the counts of strides."""
        return {"marks": self.marks, "states": self.states, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.marks, self.states = list(state["marks"]), [as_tuples(leaves) for leaves in state["states"]]
        self.since = state["since"].copy()
