"""Board games as a Gymnasium environment against an opponent, and as a PettingZoo environment for two agents.

Both provide the legal actions as `action_mask` [A] int8, for `action_space.sample(mask)`. Shapes: A actions, [C,H,W] planes.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlsuite.boardgames.games import make_game, own_game
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.envs.boards.env import Boards

Planes = NDArray[np.int8]


class BoardEnv(gymnasium.Env[Planes, np.int64]):
    """Games against an opponent, in which sides alternate. The reward is the result, at the end of a game."""

    def __init__(
        self, game: str, opponent: str = "random", opening_moves: int = 0, render_mode: str | None = None, **parameters: Any
    ):
        """`opponent` and `opening_moves` are those of `env` in a config; `parameters` are the game's, such as size."""
        self.metadata = {"render_modes": ["ansi"]}
        if render_mode not in (None, "ansi"):
            raise UsageError(f"render_mode = {render_mode!r}: boards are rendered as text, 'ansi'")
        self.render_mode = render_mode
        self.boards = Boards(own_game(game) or make_game(game, **parameters).name, 1, opponent, opening_moves)
        self.observation_space = self.boards.single_observation_space
        self.action_space = self.boards.single_action_space
        self._begun = False

    @property
    def state(self) -> BoardState:
        """The current position."""
        return BoardState(self.boards.game, self.boards.rows[0].copy())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Planes, dict[str, Any]]:
        """A new game: with a seed the agent moves first, without one sides alternate."""
        super().reset(seed=seed)
        if seed is None and self._begun:
            observation, info = self.boards.begin_next()
        else:
            observation, info = self.boards.reset(seed=seed)
        self._begun = True
        return observation[0], _first_env(info)

    def step(self, action: np.int64) -> tuple[Planes, float, bool, bool, dict[str, Any]]:
        """Plays a move and the opponent's reply. UsageError for an illegal move, and once the game is over."""
        if not self._begun or self.state.is_terminal():
            raise UsageError(f"{self.boards.game.name}: the game is over; reset the environment")
        observation, reward, terminated, _, info = self.boards.step(np.array([action]))
        return observation[0], float(reward[0]), bool(terminated[0]), False, _first_env(info)

    def render(self) -> str | None:
        """The board as text."""
        return str(self.state) if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Ends the opponent."""
        self.boards.close()


def _first_env(info: dict[str, Any]) -> dict[str, Any]:
    return {"row": info["row"][0], "action_mask": info["action_mask"][0].astype(np.int8)}


def action_mask(state: BoardState) -> NDArray[np.int8]:
    """The legal actions of a position: [A], 1 where legal."""
    mask = np.zeros(state.game.num_actions, np.int8)
    mask[state.legal_actions()] = 1
    return mask


def two_players(game: str, render_mode: str | None = None, **parameters: Any) -> Any:
    """The game as a PettingZoo AEC environment. UsageError without `pip install rlsuite[pettingzoo]`."""
    try:
        from pettingzoo import AECEnv
    except ImportError as error:
        raise UsageError("a PettingZoo environment needs pettingzoo: pip install 'rlsuite[pettingzoo]'") from error
    played: Game = make_game(game, **parameters)

    class TwoPlayers(AECEnv):  # type: ignore[misc,type-arg,unused-ignore]
        """A game between two agents. Observations are {"observation": [C,H,W], "action_mask": [A]}, from the agent's side."""

        metadata = {"name": played.name, "render_modes": ["ansi"], "is_parallelizable": False}  # noqa: RUF012

        def __init__(self) -> None:
            self.render_mode = render_mode
            self.possible_agents = ["player_0", "player_1"]
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
            self.board = played.new_state()
            self.rewards = dict.fromkeys(self.agents, 0.0)
            self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
            self.terminations = dict.fromkeys(self.agents, False)
            self.truncations = dict.fromkeys(self.agents, False)
            self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
            self.agent_selection = self.agents[self.board.player]

        def observe(self, agent: str) -> dict[str, Any]:
            """An agent's observation; an agent that is not to move has no legal actions."""
            mine = agent == self.possible_agents[self.board.player]
            mask = action_mask(self.board) if mine else np.zeros(played.num_actions, np.int8)
            return {"observation": self.board.observation(), "action_mask": mask}

        def step(self, action: Any) -> None:
            agent = self.agent_selection
            if self.terminations[agent]:
                self._was_dead_step(action)
                return
            self._cumulative_rewards[agent] = 0.0
            self.board = self.board.apply(int(action))
            over = self.board.is_terminal()
            self.rewards = dict(zip(self.possible_agents, self.board.returns(), strict=True))
            self.terminations = dict.fromkeys(self.agents, over)
            mover = self.possible_agents[self.board.player]
            other = self.possible_agents[1 - self.possible_agents.index(agent)]
            self.agent_selection = other if over else mover
            self._accumulate_rewards()

        def render(self) -> str | None:
            return str(self.board) if self.render_mode == "ansi" else None

        def close(self) -> None:
            """Nothing is open."""

    return TwoPlayers()
