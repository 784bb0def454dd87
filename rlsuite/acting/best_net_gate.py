"""Self-play with the best net so far (AlphaGo Zero, Silver et al. 2017): a newer net takes over once it wins a match against it."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlsuite.acting.selfplay import SelfPlayAgent
from rlsuite.boardgames.matches import play_match, searcher
from rlsuite.nets.precision import inference
from rlsuite.search import Cached, plane_evaluator
from rlsuite.search.evaluators import PolicyValue

OPENING_MOVES = 6  # maximum number of random moves, so that the games of a match differ
CACHED = 32_768  # positions in each net's cache


class BestNetGate:
    """Keeps the best net so far, as `net`, for the collector to act with. Has the same interface as `PolicyLag`."""

    def __init__(self, newest: nn.Module, agent: SelfPlayAgent, seed: int, device: torch.device, bf16: bool):
        """`newest`: the learner's net, which changes in place."""
        self.newest, self.agent, self.seed, self.device, self.bf16 = newest, agent, seed, device, bf16
        self.net = copy.deepcopy(newest).requires_grad_(False)
        self.version = 0  # learner steps of the acting weights
        self.tried = 0  # learner steps at the last match
        self.score = 0.0  # share of the points that the newer net scored in it
        self.passed = self.matches = 0

    def follow(self, steps: int) -> None:
        """Called after updates with the learner's step count: plays a match if one is due, and adopts the newer net if it wins."""
        config = self.agent.config
        if steps - self.tried < config.gate_learner_steps:
            return
        self.tried = steps
        newer, best = (
            searcher(self.agent.game, self._cached(net), config.play(), config.simulations, config.solve)
            for net in (self.newest, self.net)
        )
        self.score = play_match(self.agent.game, newer, best, config.gate_games, OPENING_MOVES, self.seed + steps).points
        self.matches += 1
        if self.score >= config.gate_score:
            self.net.load_state_dict(self.newest.state_dict())
            self.version = steps
            self.passed += 1

    def _cached(self, net: nn.Module) -> Cached:
        evaluate: Callable[[NDArray[np.int8]], PolicyValue] = lambda planes: self._evaluate(net, planes)  # noqa: E731
        return Cached(plane_evaluator(self.agent.game, evaluate), self.agent.game.num_actions, CACHED)

    def _evaluate(self, net: Any, planes: NDArray[np.int8]) -> PolicyValue:
        with inference(self.device, self.bf16):
            return self.agent.evaluate(net, planes)

    def diagnostics(self) -> dict[str, float]:
        """The score of the last match, and the share of matches that the newer net won."""
        if not self.matches:
            return {}
        return {"gate/score": self.score, "gate/passed": self.passed / self.matches}

    def state_dict(self) -> dict[str, Any]:
        """Counters and the acting weights."""
        counters = {name: getattr(self, name) for name in ("version", "tried", "score", "passed", "matches")}
        return {**counters, "acting": self.net.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; call it after the learner's net is restored, which stands in for missing weights."""
        for name in ("version", "tried", "score", "passed", "matches"):
            setattr(self, name, state.get(name, state["version"] if name == "tried" else 0))
        self.net.load_state_dict(state.get("acting") or self.newest.state_dict())
