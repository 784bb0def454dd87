"""Self-play on boards of several sizes, for a net that plays all of them (Wu 2019, section 4.1).

Positions of smaller boards are zero-padded to the arrays of the largest board: their planes fill the first rows and columns, their
policy and cells the first entries, in their own order. Shapes: K positions, [C,H,W] planes and A actions of the largest board.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlsuite.acting.collector import Episode
from rlsuite.core.game import Game
from rlsuite.core.types import Unroll

GAME = "game"  # the extra with the index of the agent's game that a position belongs to


class _OneSize(Protocol):
    game: Game
    num_envs: int
    version: int
    waiting: int
    positions: int

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]: ...

    def take(self) -> Unroll: ...

    def diagnostics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool: ...


class AllSizes:
    """A `GameCollector` that combines several others, one for each board size, the largest first."""

    def __init__(self, parts: Sequence[_OneSize]):
        self.parts = parts
        self.num_envs = sum(part.num_envs for part in parts)
        self.firsts = np.cumsum([0, *(part.num_envs for part in parts)]).tolist()  # the first environment of each part

    @property
    def version(self) -> int:
        """The learner step of the weights that it plays with."""
        return self.parts[0].version

    @version.setter
    def version(self, version: int) -> None:
        for part in self.parts:
            part.version = version

    def ready(self, steps: int) -> bool:
        """See `GameCollector`."""
        learned = any(part.positions for part in self.parts)
        return learned and sum(part.waiting for part in self.parts) >= steps * self.num_envs

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """See `GameCollector`."""
        moved, episodes = 0, list[Episode]()
        for part, first in zip(self.parts, self.firsts, strict=False):
            moves, ended = part.advance(agent_steps)
            moved += moves
            episodes += [episode._replace(env_index=first + episode.env_index) for episode in ended]
        return moved, episodes

    def take(self) -> Unroll:
        """Positions of all sizes, leaves [K,1,...]; the extra "game" is the index of the part that a position comes from."""
        unrolls = [part.take() for part in self.parts]
        largest = unrolls[0].steps
        steps = [self._padded(unroll, largest, number) for number, unroll in enumerate(unrolls)]
        joined = {name: np.concatenate([getattr(one, name) for one in steps]) for name in largest._fields if name != "extras"}
        extras = {name: np.concatenate([one.extras[name] for one in steps]) for name in steps[0].extras}
        return unrolls[0]._replace(steps=largest._replace(**joined, extras=extras))

    @staticmethod
    def _padded(unroll: Unroll, largest: Any, number: int) -> Any:
        steps = unroll.steps
        extras = {name: _padded(leaf, largest.extras[name].shape[2:]) for name, leaf in steps.extras.items()}
        extras[GAME] = np.full(steps.reward.shape, number, np.int8)  # [K,1]
        return steps._replace(observation=_padded(steps.observation, largest.observation.shape[2:]), extras=extras)

    def diagnostics(self) -> dict[str, float]:
        """The diagnostics of all parts; those of the same name are averaged."""
        found = [part.diagnostics() for part in self.parts]
        names = dict.fromkeys(name for one in found for name in one)
        return {name: float(np.mean([one[name] for one in found if name in one])) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """The states of all parts, keyed by the names of their games."""
        return {part.game.name: part.state_dict() for part in self.parts}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """Restores what `state_dict` returned. True if all parts continue their games."""
        found = [part.load_state_dict(state[part.game.name], reseed + i) for i, part in enumerate(self.parts)]
        return all(found)


def _padded(leaf: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A leaf [K,1,...], padded with zeros to [K,1,*shape]."""
    whole = np.zeros((*leaf.shape[:2], *shape), leaf.dtype)
    whole[(slice(None), slice(None), *(slice(size) for size in leaf.shape[2:]))] = leaf
    return whole
