"""A board game as a vector environment, in which the agent plays an opponent: id `connect_four`, `go(size=9,komi=7.5)`, ...

Sides alternate from episode to episode; in the first episodes the agent moves first in environments 0, 2, 4 and so on. The reward
is the agent's result, given at the end of the game. Observations are planes [C,H,W] int8, as seen by the agent when it is to move;
`info` holds the whole position (`row` [R]) and the legal actions (`action_mask` [A]). Agents that learn from self-play meet the
opponent in evaluations only.
Shapes: L environments, A actions, R bytes per row, [C,H,W] planes.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from rlsuite.boardgames.games import make_game, own_game
from rlsuite.boardgames.gtp_opponent import RESIGNS
from rlsuite.boardgames.openings import random_opening
from rlsuite.boardgames.opponents import located_opponent, make_opponent, parse_opponent
from rlsuite.config.schema import EnvSection
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.core.types import EnvSpec
from rlsuite.envs.vector import OneGeneratorEnv

INFO_KEYS = ("row", "action_mask")  # keys of `info` that an agent needs to act


class Config(EnvSection):
    """Settings of a board game against an opponent."""

    num_envs: int = Field(128, ge=1, le=65_536)
    opponent: str = "mcts(simulations=100)"
    """Opponent in evaluations: random, mcts(simulations=...), gtp(command=...) or uci(command=...)."""
    opening_moves: int = Field(0, ge=0)
    """Maximum number of random moves before a game; without them, games against a deterministic opponent repeat."""

    sizes: list[int] = Field(default_factory=list)
    """Board sizes for self-play, with equally many games of each; the largest must be the size of `id`. []: only that size."""

    @field_validator("opponent")
    @classmethod
    def _located(cls, opponent: str) -> str:
        return located_opponent(opponent)


class Boards(OneGeneratorEnv[NDArray[np.int8]]):
    """`num_envs` games of the agent against one opponent."""

    def __init__(self, name: str, num_envs: int, opponent: str, opening_moves: int = 0, sizes: Sequence[int] = ()):
        self.game, self.opening_moves = make_game(name), opening_moves
        self.opponent = make_opponent(opponent, self.game)
        space = gymnasium.spaces.Box(-128, 127, self.game.observation_shape, np.int8)
        games = {"game": own_game(name) or self.game.name, "more_games": more_games(self.game, sizes)}
        super().__init__(num_envs, space, self.game.num_actions, **games, info_keys=INFO_KEYS)
        self.rows = np.stack([self.game.new_state().row] * num_envs)  # [L,R]
        self.side = np.arange(num_envs) % 2  # [L] the player that the agent is
        self._over = np.zeros(num_envs, bool)  # [L] the next step starts a new game
        self._history: list[list[int]] = [[] for _ in range(num_envs)]  # actions since the start, of both players
        self._resigned = np.zeros(num_envs, bool)  # [L] the opponent has resigned

    def _restart(self) -> tuple[NDArray[np.int8], dict[str, Any]]:
        self.side = np.arange(self.num_envs) % 2
        self._over[:] = False
        self._deal()
        return self._planes(), self._info()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays actions [L] and the opponent's replies; an environment whose game was over starts a new one instead.

        UsageError for an action that is illegal or no integer, before anything is played.
        """
        if np.asarray(actions).dtype.kind not in "iu":
            raise UsageError(f"{self.game.name}: actions must be integers [{self.num_envs}], not {np.asarray(actions).dtype}")
        rules = self.game.rules
        playing = np.flatnonzero(~self._over).tolist()
        legal = np.empty(self.game.num_actions, np.int32)
        for i in playing:
            count = rules.legal(self.rows[i], legal)
            if actions[i] not in legal[:count]:
                raise UsageError(
                    f"{self.game.name}: action {actions[i]} of environment {i} is illegal; info['action_mask'] marks the legal ones"
                )
        self._next_games()
        for i in playing:
            self._play(i, int(actions[i]))
        self._reply(range(self.num_envs))
        reward = np.zeros(self.num_envs, np.float32)
        for i in range(self.num_envs):
            self._over[i], value = rules.outcome(self.rows[i])
            if self._resigned[i]:
                self._over[i], reward[i] = True, 1.0
            elif self._over[i]:
                reward[i] = value if self.side[i] == 0 else -value
        return self._planes(), reward, self._over.copy(), np.zeros(self.num_envs, bool), self._info()

    def begin_next(self) -> tuple[NDArray[np.int8], dict[str, Any]]:
        """Starts a new game in every environment, with the agent on the other side."""
        self.side ^= 1
        self._over[:] = False
        self._deal()
        return self._planes(), self._info()

    def _deal(self) -> None:
        """Starts a new game in every environment, with the agent to move; a game that ends before that is replaced."""
        indices: Sequence[int] = range(self.num_envs)
        while indices:
            self._begin(indices)
            self._reply(indices)
            indices = [i for i in indices if self.game.rules.outcome(self.rows[i])[0]]

    def _next_games(self) -> None:
        """Starts new games, with sides swapped, where the last one is over."""
        over = np.flatnonzero(self._over)
        self.side[over] ^= 1
        self._begin(over.tolist())

    def _reply(self, indices: Sequence[int]) -> None:
        """Plays the opponent's moves in these environments until it is the agent's turn or the game is over."""
        rules = self.game.rules
        while True:
            indices = [
                i
                for i in indices
                if not self._resigned[i] and not rules.outcome(self.rows[i])[0] and rules.player(self.rows[i]) != self.side[i]
            ]
            if not indices:
                return
            answers = self.opponent(self.rows[indices], [self._history[i] for i in indices], self._rng)
            for i, action in zip(indices, answers, strict=True):
                if action == RESIGNS:
                    self._resigned[i] = True
                else:
                    self._play(i, int(action))

    def _begin(self, indices: Sequence[int]) -> None:
        """Starts new games in these environments, from random openings."""
        for i in indices:
            moves = int(self._rng.integers(self.opening_moves + 1)) if self.opening_moves else 0
            self._history[i], self.rows[i] = random_opening(self.game, moves, self._rng)
            self._resigned[i] = False

    def _play(self, i: int, action: int) -> None:
        self.game.rules.play(self.rows[i], action)
        self._history[i].append(action)

    def _planes(self) -> NDArray[np.int8]:
        """Observations [L,C,H,W]."""
        planes = np.empty((self.num_envs, *self.game.observation_shape), np.int8)
        for i in range(self.num_envs):
            self.game.rules.encode(self.rows[i], planes[i])
        return planes

    def _info(self) -> dict[str, Any]:
        """Positions and legal actions; none are legal where the game is over."""
        mask, legal = np.zeros((self.num_envs, self.game.num_actions), bool), np.empty(self.game.num_actions, np.int32)
        for i in range(self.num_envs):
            if not self._resigned[i]:
                mask[i, legal[: self.game.rules.legal(self.rows[i], legal)]] = True
        return {"row": self.rows.copy(), "action_mask": mask}

    def get_state(self) -> dict[str, Any]:
        """Everything that the next steps depend on, for an exact resume."""
        return {
            "rows": self.rows.copy(),
            "side": self.side.copy(),
            "over": self._over.copy(),
            "resigned": self._resigned.copy(),
            "history": [list(moves) for moves in self._history],
            "rng": self._rng.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self.rows, self.side, self._over = state["rows"].copy(), state["side"].copy(), state["over"].copy()
        self._history = [list(moves) for moves in state["history"]]
        self._resigned = state["resigned"].copy()
        self._rng.bit_generator.state = state["rng"]

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the opponent."""
        self.opponent.close()


def make(config: Config, num_envs: int, threads: int = 1, render: bool = False) -> Boards:
    """The environments of a config. UsageError for an unknown game, parameter or opponent."""
    if render:
        raise UsageError(f"{config.id} has no pictures; print(str(state)) shows a board")
    return Boards(config.id, num_envs, config.opponent, config.opening_moves, config.sizes)


def more_games(game: Game, sizes: Sequence[int]) -> tuple[str, ...]:
    """The names of the same game on the other `sizes`. UsageError if it has one size only, or if its own is not the largest."""
    if not sizes:
        return ()
    own = game.parameters.get("size")
    if own is None:
        raise UsageError(f"env.sizes = {list(sizes)}: {game.name} has only one size")
    if own != max(sizes):
        raise UsageError(f"env.sizes = {list(sizes)}: the largest must be the size of env.id = {game.name}")
    if len(set(sizes)) < len(sizes):
        raise UsageError(f"env.sizes = {list(sizes)}: name each size once")
    return tuple(game.with_parameters(size=size).name for size in sorted(sizes) if size != own)


def describe_config(config: Config) -> EnvSpec:
    """The environment's spec, as `describe` returns it, without starting the opponent. UsageError for an unknown opponent."""
    parse_opponent(config.opponent)
    game = make_game(config.id)
    return EnvSpec(
        observation_shape=game.observation_shape,
        observation_dtype="int8",
        num_actions=game.num_actions,
        num_states=None,
        stack=1,
        frames_per_step=1,
        game=own_game(config.id) or game.name,
        more_games=more_games(game, config.sizes),
        info_keys=INFO_KEYS,
    )
