"""The self-play collector: plays many games at once, each in a slot with a search tree of its own.

Each `advance` evaluates one leaf of every slot, in one batch. A slot whose search is done plays its move and begins the next search
in the same call, so the batch for the net stays full, however long the searches are.
Shapes: L slots, n some of them, K positions of an unroll, A actions, R bytes a row.
"""

from abc import abstractmethod
from collections import deque
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from rlsuite.acting.board_agent import BoardAgent, BoardConfig
from rlsuite.acting.collector import Episode
from rlsuite.boardgames.openings import random_opening
from rlsuite.config.conditions import OnlyIf
from rlsuite.core.agent import Net
from rlsuite.core.game import Game
from rlsuite.core.types import Step, Unroll
from rlsuite.nets.precision import inference
from rlsuite.search import Cached, Evaluate, Gumbel, Puct, plane_evaluator
from rlsuite.search.evaluators import PolicyValue, encoder
from rlsuite.search.search import METHODS
from rlsuite.search.tree import kernels, make_tree

NEVER = -1.0  # a resignation threshold that nothing falls below


_GUMBEL, _PUCT, _RESIGN, _GATE = (
    OnlyIf(condition) for condition in ("method = gumbel", "method = puct", "resign = true", "gate_games > 0")
)


class SelfPlayConfig(BoardConfig):
    """Settings of every agent that learns from self-play."""

    method: Literal["gumbel", "puct"] = "gumbel"
    """The search: that of Gumbel AlphaZero, or AlphaZero's PUCT."""
    simulations: int = Field(32, ge=1, le=1_000_000)
    """Simulations of a full search."""
    fast_simulations: Annotated[int, OnlyIf("full_fraction < 1")] = Field(8, ge=1, le=1_000_000)
    """Simulations of the other searches, whose positions are not learned from."""
    full_fraction: float = Field(1.0, gt=0, le=1)
    """Share of searches that are full (playout cap randomisation, Wu 2019)."""
    considered: Annotated[int, _GUMBEL] = Field(16, ge=1)
    """gumbel: actions considered at the root."""
    c_visit: Annotated[float, _GUMBEL] = Field(50.0, ge=0)
    """gumbel: weight of the visits in the transformed values."""
    c_scale: Annotated[float, _GUMBEL] = Field(1.0, gt=0)
    """gumbel: scale of the transformed values."""
    c_init: Annotated[float, _PUCT] = Field(1.25, gt=0)
    """puct: weight of the prior against the values."""
    fpu_reduction: Annotated[float, _PUCT] = Field(0.25, ge=0)
    """puct: the value of unvisited children is this much below their parent's."""
    noise_fraction: Annotated[float, _PUCT] = Field(0.25, ge=0, le=1)
    """puct: share of Dirichlet noise in the priors at the root, in full searches."""
    noise_total: Annotated[float, _PUCT, OnlyIf("noise_fraction > 0")] = Field(10.0, gt=0)
    """puct: the noise's α, times the number of legal moves."""
    temperature: Annotated[float, _PUCT, OnlyIf("temperature_moves > 0")] = Field(1.0, gt=0)
    """puct: moves are sampled in proportion to visits^(1 / temperature)."""
    temperature_moves: int = Field(15, ge=0)
    """Moves of a game, including its opening, after which the best move is played and the root has no noise."""
    opening_fraction: float = Field(0.0, ge=0, le=1)
    """Share of games that begin with random moves."""
    opening_moves: Annotated[int, OnlyIf("opening_fraction > 0")] = Field(8, ge=1)
    """Largest number of random moves in such an opening."""
    resign: bool = False
    """Resign lost games; some are played out to measure how often that is wrong."""
    resign_disabled_fraction: Annotated[float, _RESIGN] = Field(0.1, gt=0, le=1)
    """Share of games that are played to the end without resigning."""
    resign_false_positives: Annotated[float, _RESIGN] = Field(0.05, ge=0, lt=1)
    """Largest share of played-out games that would have been resigned without being lost."""
    gate_games: int = Field(0, ge=0)
    """Games of the match that a newer net must win before it plays; 0: the newest net always plays."""
    gate_score: Annotated[float, _GATE] = Field(0.55, gt=0, le=1)
    """Share of the points that it needs; a draw counts half."""
    gate_learner_steps: Annotated[int, _GATE] = Field(1000, ge=1)
    """Learner steps between two such matches."""
    eval_simulations: int = Field(200, ge=1, le=1_000_000)
    """Simulations per move in evaluations and play."""

    @model_validator(mode="after")
    def _caps(self) -> "SelfPlayConfig":
        if self.full_fraction < 1 and self.fast_simulations > self.simulations:
            raise ValueError(
                f"fast_simulations {self.fast_simulations} is more than simulations {self.simulations} of a full search"
            )
        return self

    def explore(self) -> Puct | Gumbel:
        """The search method of self-play."""
        if self.method == "gumbel":
            return Gumbel(self.considered, self.c_visit, self.c_scale)
        return Puct(self.c_init, fpu_reduction=self.fpu_reduction, noise_fraction=self.noise_fraction, noise_total=self.noise_total)

    def play(self) -> Puct | Gumbel:
        """The same search method without noise."""
        method = self.explore()
        return method._replace(noise=0.0) if isinstance(method, Gumbel) else method._replace(noise_fraction=0.0)


class SelfPlayAgent(BoardAgent):
    """Base class of board agents that learn from their own searches, in games that `SelfPlay` collects.

    A subclass implements `make_net`, `evaluate` and `loss`; `BoardAgent` has `act`.
    """

    config: SelfPlayConfig

    @classmethod
    def validate(cls, config: Any) -> None:
        """Also refuses matches between nets on Ray, where they are not supported."""
        super().validate(config)
        if not config.agent.gate_games:
            return
        if config.runtime.kind != "local":
            raise ValueError(f"agent.gate_games = {config.agent.gate_games} works with runtime.kind = local only")
        if updates := config.run.policy_lag_learner_steps:
            raise ValueError(f"run.policy_lag_learner_steps = {updates}: with agent.gate_games the best net acts; use 0")

    @property
    def gated(self) -> bool:
        """Whether a net must win a match before it plays."""
        return self.config.gate_games > 0

    @abstractmethod
    def evaluate(self, net: Net, planes: NDArray[np.int8]) -> PolicyValue:
        """Evaluates planes [n,C,H,W] int8: logits [n,A] f32, and values [n] f32 for the player to move."""

    def evaluator(self, net: Net) -> Evaluate:
        """The search's leaf evaluator with `net`: positions -> logits and values."""
        return plane_evaluator(self.game, lambda planes: self.evaluate(net, planes))

    def collector(self, net: Net, num_envs: int, *, seed: int, device: torch.device, bf16: bool) -> "SelfPlay":
        """A collector that plays `num_envs` games at once with `net`."""
        return SelfPlay(self, net, num_envs, seed=seed, device=device, bf16=bf16)


class Move(NamedTuple):
    """A position of a game, with the results of its search and the move played."""

    planes: NDArray[np.int8]  # [C,H,W]
    policy: NDArray[np.float32]  # [A] the search's improved policy
    value: float  # the search's value for the player to move
    player: int  # the player to move
    action: int
    full: bool  # whether the search was full, so that the position is learned from


class SelfPlay:
    """A `GameCollector` that searches every move.

    Its unrolls are positions of finished games, leaves [K,1,...]. Their extras are the search's policy and value, and the game's
    outcome for the player to move.
    """

    def __init__(
        self, agent: SelfPlayAgent, net: Net, num_envs: int, *, seed: int, device: torch.device | None = None, bf16: bool = False
    ):
        """Plays `num_envs` games at once."""
        self.agent, self.net, self.bf16 = agent, net, bf16
        self.device = device or torch.device("cpu")
        self.num_envs = num_envs
        self.version = 0
        config, self.game = agent.config, agent.game
        self.config, self.method = config, config.explore()
        self.run = kernels(self.game.rules, METHODS[type(self.method)])
        self.encode = encoder(self.game.rules)
        self.rng = np.random.default_rng(seed)
        self.tree = make_tree(self.game, self.num_envs, config.simulations, seed, solve=config.solve)
        self.cache = Cached(plane_evaluator(self.game, self._evaluate), self.game.num_actions, config.cache_positions)
        self.cached_version = 0  # of the weights whose evaluations the cache holds
        self.rows = np.empty((self.num_envs, self.game.start.size), np.int8)  # [L,R] the games' positions
        self.full = np.ones(self.num_envs, bool)  # [L] whether the running search is full
        self.plies = np.zeros(self.num_envs, np.int64)  # [L] moves played, including the random ones of the opening
        self.moves: list[list[Move]] = [[] for _ in range(self.num_envs)]
        self.resigns = np.zeros(self.num_envs, bool)  # [L] whether this game may be resigned
        self.threshold = NEVER
        self.regrets: deque[float] = deque(maxlen=1000)  # lowest values, in games played out, of players who did not lose
        self.finished: list[tuple[list[Move], float]] = []  # games that `take` will return, with the outcome for player 0
        self.ended: deque[int] = deque(maxlen=1000)  # hashes of the last games' moves
        self.sums: dict[str, tuple[float, int]] = {}  # metric -> sum and count since the last `diagnostics`
        slots = np.arange(self.num_envs, dtype=np.int32)
        self._begin(slots, slots)

    def _evaluate(self, planes: NDArray[np.int8]) -> PolicyValue:
        with inference(self.device, self.bf16):
            return self.agent.evaluate(self.net, planes)

    def ready(self, steps: int) -> bool:
        """Whether the finished games hold `steps` positions for each slot."""
        return sum(len(moves) for moves, _ in self.finished) >= steps * self.num_envs

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Evaluates one leaf in every slot, after playing the moves whose searches are done.

        Returns the number of these moves, and the games that they ended: as the return the outcome for player 0, as the environment
        the slot.
        """
        if self.version != self.cached_version:
            self.cache.clear()
            self.cached_version = self.version
        run, tree, episodes = self.run, self.tree, []
        waiting, done = np.empty(self.num_envs, np.int32), np.empty(self.num_envs, np.int32)
        everyone, later = np.arange(self.num_envs, dtype=np.int32), np.empty(0, np.int32)
        found, moved = run.step(tree, everyone, self.method, waiting, done)
        done = done[:moved].copy()
        if moved:
            episodes = self._move(done)
            later = np.empty_like(done)
            run.step(tree, done, self.method, later, np.empty_like(done))  # every new root waits for its evaluation
        tickets = np.concatenate([waiting[:found], later])
        rows, keys = np.empty((self.num_envs, self.rows.shape[1]), np.int8), np.empty(self.num_envs, np.uint64)
        run.gather(tree, tickets, rows, keys)
        run.expand(tree, tickets, *self.cache(rows, keys), self.method)
        return moved, episodes

    def _move(self, done: NDArray[np.int32]) -> list[Episode]:
        """Plays a move in slots `done` [n], whose searches are done, and begins their next searches."""
        n, game, rules = len(done), self.game, self.game.rules
        policy, action, value = np.zeros((n, game.num_actions)), np.zeros(n, np.int64), np.zeros(n)
        self.run.conclude(self.tree, done, self.method, policy, action, value)
        planes = np.empty((n, *game.observation_shape), np.int8)
        self.encode(self.rows[done], planes)
        episodes, over = [], []
        for i, b in enumerate(done.tolist()):
            chosen = self._draw(b, policy[i], int(action[i]))
            moves, mover = self.moves[b], int(rules.player(self.rows[b]))
            moves.append(Move(planes[i], policy[i].astype(np.float32), float(value[i]), mover, chosen, bool(self.full[b])))
            rules.play(self.rows[b], chosen)
            self.plies[b] += 1
            self._count("search/policy_entropy", -float((policy[i] * np.log(policy[i] + 1e-30)).sum()))
            self._count("search/top_move_share", float(policy[i].max()))
            ended, outcome = rules.outcome(self.rows[b])
            if not ended and self.resigns[b] and value[i] < self.threshold:
                ended, outcome = True, -1.0 if mover == 0 else 1.0
                self._count("selfplay/resigned", 1.0)
            if ended:
                episodes.append(self._end(b, float(outcome)))
                over.append(b)
        self._begin(done, np.array(over, np.int32))
        return episodes

    def _draw(self, b: int, policy: NDArray[np.float64], best: int) -> int:
        """The move to play in slot `b`: with Gumbel noise the search's best move has been sampled already."""
        if self.config.method == "gumbel" or self.plies[b] >= self.config.temperature_moves:
            return best
        weights = (policy / policy.max()) ** (1 / self.config.temperature)
        return int(self.rng.choice(len(policy), p=weights / weights.sum()))

    def _end(self, b: int, outcome: float) -> Episode:
        moves = self.moves[b]
        self.finished.append((moves, outcome))
        self.ended.append(hash(tuple(move.action for move in moves)))
        for move in moves:
            z = outcome if move.player == 0 else -outcome
            self._count("search/value_error", (move.value - z) ** 2)
        self._count("selfplay/draw", float(outcome == 0))
        self._count("selfplay/first_player_score", outcome)
        if self.config.resign and not self.resigns[b]:
            for player, own in ((0, outcome), (1, -outcome)):
                values = [move.value for move in moves if move.player == player]
                if own >= 0 and values:
                    self.regrets.append(min(values))
            if len(self.regrets) >= 100:
                self.threshold = min(float(np.quantile(self.regrets, self.config.resign_false_positives)), 0.0)
        return Episode(outcome, len(moves), b)

    def _begin(self, slots: NDArray[np.int32], over: NDArray[np.int32]) -> None:
        """Begins searches in `slots` [n], of which those in `over` begin new games first."""
        for b in over.tolist():
            self.moves[b], self.plies[b] = [], 0
            self.rows[b] = self._opening(b)
            self.resigns[b] = self.config.resign and self.rng.random() >= self.config.resign_disabled_fraction
        config = self.config
        self.full[slots] = self.rng.random(len(slots)) < config.full_fraction
        late = self.plies[slots] >= config.temperature_moves
        budget = np.where(self.full[slots], config.simulations, config.fast_simulations)
        self.tree.slot["budget"][slots] = self.tree.slot["planned"][slots] = budget
        self.tree.slot["no_root_noise"][slots] = late if config.method == "gumbel" else late | ~self.full[slots]
        self.run.set_roots(self.tree, slots, self.rows[slots])

    def _opening(self, b: int) -> NDArray[np.int8]:
        """The first position of a new game in slot `b`, in a share of the games after random moves."""
        random = self.rng.random() < self.config.opening_fraction
        moves, row = random_opening(self.game, int(self.rng.integers(1, self.config.opening_moves + 1)) if random else 0, self.rng)
        self.plies[b] += len(moves)
        return row

    def take(self) -> Unroll:
        """The fully searched positions of games that have ended since the last call: leaves [K,1,...]."""
        kept = [(move, outcome, at == 0) for moves, outcome in self.finished for at, move in enumerate(moves) if move.full]
        self.finished = []
        false = np.zeros((len(kept), 1), bool)  # [K,1]
        extras = {
            "policy": np.array([move.policy for move, _, _ in kept], np.float32).reshape(-1, 1, self.game.num_actions),
            "value": np.array([[move.value] for move, _, _ in kept], np.float32).reshape(-1, 1),
            "outcome": np.array([[z if move.player == 0 else -z] for move, z, _ in kept], np.float32).reshape(-1, 1),
        }
        steps = Step(
            observation=np.array([move.planes for move, _, _ in kept], np.int8).reshape(-1, 1, *self.game.observation_shape),
            reward=np.zeros(false.shape, np.float32),
            first=np.array([[first] for _, _, first in kept], bool).reshape(-1, 1),
            last=false,
            terminal=false,
            action=np.array([[move.action] for move, _, _ in kept], np.int64).reshape(-1, 1),
            extras=extras,
        )
        return Unroll(steps, version=self.version)

    def _count(self, name: str, value: float) -> None:
        total, count = self.sums.get(name, (0.0, 0))
        self.sums[name] = (total + value, count + 1)

    def diagnostics(self) -> dict[str, float]:
        """Means since the last call, of the searches and games; also the share of different games among the last ones."""
        means = {name: total / count for name, (total, count) in self.sums.items() if name != "selfplay/resigned"}
        games = self.sums.get("selfplay/draw", (0.0, 0))[1]
        if self.config.resign and games:
            means["selfplay/resigned"] = self.sums.get("selfplay/resigned", (0.0, 0))[0] / games
            means["selfplay/resign_threshold"] = self.threshold
        if self.ended:
            means["selfplay/unique_games"] = len(set(self.ended)) / len(self.ended)
        if self.cache.asked:
            means["search/cache_hits"] = self.cache.found / self.cache.asked
        self.sums, self.cache.asked, self.cache.found = {}, 0, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """Games, unfinished searches included, and the random state. Means of diagnostics are not saved."""
        used = {"rows": int(self.tree.slot["nodes"].max()), "edge": int(self.tree.slot["edges"].max())}
        used["node"] = used["rows"]
        tree = {name: leaf[:, : used[name]] if name in used else leaf for name, leaf in self.tree._asdict().items()}
        return {
            "tree": {name: _plain(leaf) for name, leaf in tree.items()},
            "cache": self.cache.state_dict(),
            "rng": self.rng.bit_generator.state,
            "rows": self.rows,
            "full": self.full,
            "plies": self.plies,
            "resigns": self.resigns,
            "threshold": self.threshold,
            "regrets": np.array(self.regrets, np.float64),
            "ended": np.array(self.ended, np.int64),
            "games": _pack(self.moves, self.game),
            "finished": _pack([moves for moves, _ in self.finished], self.game),
            "outcomes": np.array([outcome for _, outcome in self.finished], np.float64),
            "version": self.version,
            "cached_version": self.cached_version,
        }

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """Restores what `state_dict` returned. Always True: the games and searches continue."""
        for name, leaf in self.tree._asdict().items():
            saved = state["tree"][name]
            if leaf.dtype.names:
                saved = saved.view(leaf.dtype)[..., 0]
            leaf[tuple(slice(0, size) for size in saved.shape)] = saved
        self.cache.load_state_dict(state["cache"])
        self.rng.bit_generator.state = state["rng"]
        for name in ("rows", "full", "plies", "resigns"):
            getattr(self, name)[:] = state[name]
        self.threshold = state["threshold"]
        for kept, name in ((self.regrets, "regrets"), (self.ended, "ended")):
            kept.clear()
            kept.extend(state[name].tolist())
        self.moves = _unpack(state["games"])
        self.finished = list(zip(_unpack(state["finished"]), state["outcomes"].tolist(), strict=True))
        self.version, self.cached_version = state["version"], state["cached_version"]
        return True


def _plain(leaf: NDArray[Any]) -> NDArray[Any]:
    """An array as a file stores it: structured elements as bytes."""
    leaf = np.ascontiguousarray(leaf)
    return leaf[..., None].view(np.uint8) if leaf.dtype.names else leaf


def _pack(games: list[list[Move]], game: Game) -> dict[str, NDArray[Any]]:
    """Lists of moves as arrays, as a file stores them."""
    flat = [move for moves in games for move in moves]
    return {
        "lengths": np.array([len(moves) for moves in games], np.int64),
        "planes": np.array([move.planes for move in flat], np.int8).reshape(-1, *game.observation_shape),
        "policy": np.array([move.policy for move in flat], np.float32).reshape(-1, game.num_actions),
        "value": np.array([move.value for move in flat], np.float64),
        "player": np.array([move.player for move in flat], np.int64),
        "action": np.array([move.action for move in flat], np.int64),
        "full": np.array([move.full for move in flat], bool),
    }


def _unpack(state: dict[str, NDArray[Any]]) -> list[list[Move]]:
    fields = (state[name] for name in ("planes", "policy", "value", "player", "action", "full"))
    flat = [Move(p, q, float(v), int(who), int(a), bool(f)) for p, q, v, who, a, f in zip(*fields, strict=True)]
    ends = np.cumsum(state["lengths"]).tolist()
    return [flat[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
