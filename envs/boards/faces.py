"""Board games as a Gymnasium environment against an opponent, and as a PettingZoo environment for two agents.

Both provide the legal actions as `action_mask` [A] int8, for `action_space.sample(mask)`. Shapes: A actions, [C,H,W] planes.
"""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlsuite.boardgames.games import make_game, own_game
from rlsuite.config.spec_string import parse_call
from rlsuite.core import registry
from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.game import BoardState, Game, action_number, whole_number
from rlsuite.envs.boards.env import Boards
from rlsuite.envs.boards.picture import picture

Planes = NDArray[np.int8]
_RENDERING: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}


class BoardEnv(gymnasium.Env[Planes, np.int64]):
    """A board game against an opponent as a Gymnasium environment. Sides alternate; the reward is the result at a game's end."""

    metadata: ClassVar[dict[str, Any]] = _RENDERING  # type: ignore[misc]

    def __init__(
        self, game: str, opponent: str = "random", opening_moves: int = 0, render_mode: str | None = None, **parameters: Any
    ):
        """`opponent` and `opening_moves` are those of `env` in a config; `parameters` are the game's, such as size."""
        played = _game(BoardEnv, game, parameters)
        moves = whole_number(opening_moves)
        if moves is None or moves < 0:
            raise UsageError(f"opening_moves = {opening_moves!r}: allowed are whole numbers from 0")
        self.render_mode = _render_mode(render_mode)
        self.boards = Boards(own_game(game) or played.name, 1, opponent, moves)
        self.observation_space = self.boards.single_observation_space
        self.action_space = self.boards.single_action_space
        self._begun, self._over = False, True

    @property
    def state(self) -> BoardState:
        """The current position."""
        return BoardState(self.boards.game, self.boards.rows[0].copy())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Planes, dict[str, Any]]:
        """Starts a new game: with a seed the agent moves first; without one, sides alternate."""
        super().reset(seed=seed)
        again = self._begun and seed is None
        observation, info = self.boards.begin_next() if again else self.boards.reset(seed=seed)
        self._begun, self._over = True, False
        return observation[0], _first_env(info)

    def step(self, action: np.int64) -> tuple[Planes, float, bool, bool, dict[str, Any]]:
        """Plays a move and the opponent's reply; an illegal move loses the game, with `info["illegal_action"]`.

        The last observation of a game is from the agent's side, too. UsageError if the action is not in the action space, or if
        the game is over.
        """
        game, number = self.boards.game, action_number(self.boards.game, action)
        if not 0 <= number < game.num_actions:
            raise UsageError(f"{game.name}: there is no action {number}; actions are 0 to {game.num_actions - 1}")
        if self._over:
            raise UsageError(f"{game.name}: the game is over; reset the environment")
        side, before = int(self.boards.side[0]), self.state
        if number not in before.legal_actions():
            self._over = True
            info = {"row": before.row, "action_mask": np.zeros(game.num_actions, np.int8), "illegal_action": True}
            return before.observation(), -1.0, True, False, info
        observations, reward, terminated, _, infos = self.boards.step(np.array([number]))
        observation, self._over = observations[0], bool(terminated[0])
        if self._over and game.set_player is not None:
            observation = game.planes(self.boards.rows[0], side)
        return observation, float(reward[0]), self._over, False, _first_env(infos)

    def action_masks(self) -> NDArray[np.bool_]:
        """A mask [A] of the legal actions, for sb3-contrib's MaskablePPO; none are legal once the game is over."""
        mask = action_mask(self.state).astype(bool)
        return np.zeros_like(mask) if self._over else mask

    def render(self) -> Any:
        """The board as text, or as a picture [H,W,3] u8."""
        return _rendered(self.state, self.render_mode)

    def close(self) -> None:
        """Closes the opponent."""
        self.boards.close()


def _game(face: Callable[..., Any], name: str, parameters: dict[str, Any]) -> Game:
    """The game of an environment. UsageError with the nearest name for a keyword that neither game nor environment has."""
    make = None if own_game(name) else registry.games.get(parse_call("game", name)[0])
    theirs = [] if make is None else list(inspect.signature(make).parameters)
    named = inspect.signature(face).parameters.values()
    ours = [one.name for one in named if one.kind is not one.VAR_KEYWORD and one.name != "game"]
    for key in parameters:
        if key not in theirs:
            raise unknown(f"keyword of {name}", key, [*ours, *theirs])
    return make_game(name, **parameters)


def _render_mode(mode: str | None) -> str | None:
    known = _RENDERING["render_modes"]
    if mode is not None and mode not in known:
        raise UsageError(f"render_mode = {mode!r}: boards are rendered as {' or '.join(map(repr, known))}")
    return mode


def _rendered(state: BoardState, mode: str | None) -> Any:
    return None if mode is None else str(state) if mode == "ansi" else picture(state)


def _first_env(info: dict[str, Any]) -> dict[str, Any]:
    return {"row": info["row"][0], "action_mask": info["action_mask"][0].astype(np.int8)}


def action_mask(state: BoardState) -> NDArray[np.int8]:
    """The legal actions of a position: [A], 1 where legal."""
    mask = np.zeros(state.game.num_actions, np.int8)
    mask[state.legal_actions()] = 1
    return mask


def two_players(game: str, render_mode: str | None = None, **parameters: Any) -> Any:
    """The game as a PettingZoo AEC environment.

    UsageError without `pip install rlsuite[pettingzoo]`, and for a custom game that has no `set_player`.
    """
    try:
        from pettingzoo import AECEnv
    except ImportError as error:
        raise UsageError("a PettingZoo environment needs pettingzoo: pip install 'rlsuite[pettingzoo]'") from error
    played = _game(two_players, game, parameters)
    start = played.new_state()
    played.planes(start.row, start.player)  # here rather than at the first observation
    mode = _render_mode(render_mode)

    class TwoPlayers(AECEnv):  # type: ignore[misc,type-arg,unused-ignore]
        """A game between two agents. Observations are {"observation": [C,H,W], "action_mask": [A]}, from the agent's side."""

        metadata = {"name": played.name, "is_parallelizable": False, **_RENDERING}  # noqa: RUF012

        def __init__(self) -> None:
            self.render_mode = mode
            self.possible_agents = ["player_0", "player_1"]
            self.agents: list[str] = []  # empty before `reset`, and once both agents have seen the end of a game
            self.board = start
            planes = spaces.Box(-128, 127, played.observation_shape, np.int8)
            mask = spaces.Box(0, 1, (played.num_actions,), np.int8)
            self._observations = {
                agent: spaces.Dict({"observation": planes, "action_mask": mask}) for agent in self.possible_agents
            }
            self._actions = {agent: spaces.Discrete(played.num_actions) for agent in self.possible_agents}

        def observation_space(self, agent: str) -> Any:
            return self._observations[agent]

        def action_space(self, agent: str) -> Any:
            return self._actions[agent]

        def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
            self.agents = list(self.possible_agents)
            self.board = start
            self.rewards = dict.fromkeys(self.agents, 0.0)
            self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
            self.terminations = dict.fromkeys(self.agents, False)
            self.truncations = dict.fromkeys(self.agents, False)
            self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
            self.agent_selection = self.agents[self.board.player]

        def observe(self, agent: str) -> dict[str, Any]:
            """An agent's observation, always from its own side; if it is not the agent's turn, no action is legal."""
            if agent not in self.possible_agents:
                raise unknown("agent", agent, self.possible_agents)
            number = self.possible_agents.index(agent)
            mine = number == self.board.player
            mask = action_mask(self.board) if mine else np.zeros(played.num_actions, np.int8)
            return {"observation": played.planes(self.board.row, number), "action_mask": mask}

        def step(self, action: Any) -> None:
            """Plays a move. UsageError if it is illegal or not an integer; the position then stays unchanged."""
            if not self.agents:
                raise UsageError(f"{played.name}: no game is on; reset the environment")
            agent = self.agent_selection
            if self.terminations[agent]:
                self._was_dead_step(action)
                return
            self.board = self.board.apply(action)
            self._cumulative_rewards[agent] = 0.0
            over = self.board.is_terminal()
            self.rewards = dict(zip(self.possible_agents, self.board.returns(), strict=True))
            self.terminations = dict.fromkeys(self.agents, over)
            mover = self.possible_agents[self.board.player]
            other = self.possible_agents[1 - self.possible_agents.index(agent)]
            self.agent_selection = other if over else mover
            self._accumulate_rewards()

        def render(self) -> Any:
            """The board as text, or as a picture [H,W,3] u8."""
            return _rendered(self.board, self.render_mode)

        def close(self) -> None:
            """Does nothing: there is nothing to close."""

    return TwoPlayers()
