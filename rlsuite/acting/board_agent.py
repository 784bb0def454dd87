"""The contract of agents that play board games by search, and of their collectors. Shapes: K positions of an unroll."""

from abc import abstractmethod
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rlsuite.acting.collector import Episode
from rlsuite.boardgames.games import make_game
from rlsuite.config.schema import AgentSection
from rlsuite.core.agent import Agent, Mode, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.core.types import EnvSpec, State, Step, Unroll
from rlsuite.search import Evaluate, Gumbel, Puct
from rlsuite.search.search import choose_actions


class BoardConfig(AgentSection):
    """Settings of every agent that plays board games."""

    solve: bool = True
    """Let the search tree back up values that the rules prove."""
    cache_positions: int = Field(131_072, ge=1)
    """Positions whose evaluations are cached."""
    eval_simulations: int = Field(200, ge=0, le=1_000_000)
    """Simulations per move in evaluations and play; 0: the policy alone, without a search."""

    def play(self) -> Puct | Gumbel:
        """The search method, without exploration noise."""
        raise NotImplementedError

    def explore(self) -> Puct | Gumbel:
        """The search method with exploration noise, if the agent has any."""
        return self.play()


class GameCollector(Protocol):
    """A collector that plays board games by itself. Its unrolls are the positions of finished games, leaves [K,1,...]."""

    num_envs: int
    version: int  # learner step of the weights that it plays with

    def ready(self, steps: int) -> bool:
        """Whether the finished games have at least `steps` moves per environment, and at least one position to learn from."""
        ...

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Continues the games; returns the number of moves made, and the games that ended."""
        ...

    def take(self) -> Unroll:
        """The positions of the games that ended since the last call."""
        ...

    def diagnostics(self) -> dict[str, float]:
        """Scalars since the last call."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that a checkpoint needs to continue the games."""
        ...

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """Restores what `state_dict` returned. True if the games continue, False if new ones begin, seeded with `reseed`."""
        ...


class BoardAgent(Agent):
    """Base class of agents that play board games: they bring their own collector, and evaluate positions for a search."""

    config: BoardConfig

    def __init__(self, config: BoardConfig, net: Any, spec: EnvSpec):
        super().__init__(config, net, spec)
        if spec.game is None:
            raise UsageError(f"agent.name={config.name} plays board games only; choose an env.id from rlsuite list games")
        if net.layer_norm:
            raise UsageError(f"net.layer_norm = true: the board net of agent.name={config.name} has no layer norm")
        self.game: Game = make_game(spec.game)
        self.games = (self.game, *map(make_game, spec.more_games))  # that self-play plays

    @abstractmethod
    def collector(self, net: Net, num_envs: int, *, seed: int, device: torch.device, bf16: bool) -> GameCollector:
        """A collector that plays `num_envs` games at once with `net`."""

    @abstractmethod
    def evaluator(self, net: Net, game: Game | None = None) -> Evaluate:
        """A leaf evaluator for the search: positions of `game` (None: the agent's own game) -> logits and values from `net`."""

    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Moves [B] i64 for the positions `step.extras["row"]` [1,B,R] int8, by search or by the policy; 0 if the game is over."""
        rows, config = step.extras["row"][0].cpu().numpy(), self.config  # [B,R]
        running = np.flatnonzero(step.extras["action_mask"][0].any(-1).cpu().numpy())  # no move is legal once a game is over
        action = np.zeros(len(rows), np.int64)  # [B]
        if running.size:
            seed = int(torch.randint(2**31, (), generator=mode.rng, device=mode.rng.device))
            method = config.explore() if mode.explore else config.play()
            action[running] = choose_actions(
                self.game, rows[running], self.evaluator(net), config.eval_simulations, method, seed, solve=config.solve
            )
        return torch.from_numpy(action), state, {}
