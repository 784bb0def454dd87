"""The collectors of AlphaGo's stages: game records, games against a pool of earlier policies, and games for the value net.

Each is a `GameCollector`; `advance` counts the positions to learn from.
Shapes: L environments, n positions, A actions, R bytes per row, [C,H,W] planes, K positions of an unroll.
"""

import copy
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlsuite.acting.collector import Episode
from rlsuite.boardgames import game_records
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game, Rules
from rlsuite.core.kernel_cache import kernel
from rlsuite.core.types import Step, Unroll
from rlsuite.search.evaluators import encoder

PlanePolicy = Callable[[NDArray[np.int8]], NDArray[np.float32]]  # planes [n,C,H,W] -> logits [n,A]
NO_MOVE = -1
_MOVE = ("planes", "action", "log_prob", "legal")  # what `PoolPlay` keeps of each move


class Batch(NamedTuple):
    """A game's rules applied to many rows at once. Both functions write into their arguments."""

    legal: Callable[[NDArray[np.int8], NDArray[np.bool_]], None]  # rows [n,R], masks [n,A] of zeros -> masks
    # rows [n,R], actions [n], over [n], values [n] -> rows, over, values for player 0
    play: Callable[[NDArray[np.int8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]], None]


@cache
def batched(rules: Rules, num_actions: int) -> Batch:
    """Compiles the rules of a game into functions on many rows, once for each game."""
    legal, play, outcome = rules.legal, rules.play, rules.outcome

    @kernel(nogil=True, error_model="numpy")
    def legal_all(rows: NDArray[np.int8], masks: NDArray[np.bool_]) -> None:
        actions = np.empty(num_actions, np.int32)
        for i in range(rows.shape[0]):
            for j in range(legal(rows[i], actions)):
                masks[i, actions[j]] = True

    @kernel(nogil=True, error_model="numpy")
    def play_all(rows: NDArray[np.int8], actions: NDArray[np.int64], over: NDArray[np.bool_], values: NDArray[np.float32]) -> None:
        for i in range(rows.shape[0]):
            play(rows[i], actions[i])
            over[i], values[i] = outcome(rows[i])

    return Batch(legal_all, play_all)


def drawn(logits: NDArray[np.float32], legal: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Any, Any]:
    """Samples actions [n] i64 from the softmax over legal actions; also returns their log-probabilities [n] f64.

    `logits` and the mask `legal` are [n,A].
    """
    masked = np.where(legal, logits.astype(np.float64), -np.inf)
    log_p = masked - masked.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    actions = (masked + rng.gumbel(size=masked.shape)).argmax(1)
    return actions, np.take_along_axis(log_p, actions[:, None], 1)[:, 0]


class _Games:
    """Base class of AlphaGo's three `GameCollector`s: keeps positions until they are taken, and applies the rules to many rows."""

    def __init__(self, num_envs: int, game: Game, seed: int, extras: dict[str, Any]):
        """`extras`: name -> dtype of the arrays stored with a position besides its planes and its move."""
        self.game, self.dtypes = game, extras
        self.num_envs = num_envs
        self.version = 0
        self.rng = np.random.default_rng(seed)
        self.waiting: list[dict[str, NDArray[Any]]] = []  # leaves [n,...]
        self.encode, self.batch = encoder(game.rules), batched(game.rules, game.num_actions)
        self.start = game.new_state().row

    def planes(self, rows: NDArray[np.int8]) -> NDArray[np.int8]:
        """The observations [n,C,H,W] of rows [n,R]."""
        planes = np.empty((len(rows), *self.game.observation_shape), np.int8)
        self.encode(rows, planes)
        return planes

    def legal(self, rows: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Masks [n,A] of the legal actions in rows [n,R]."""
        masks = np.zeros((len(rows), self.game.num_actions), bool)
        self.batch.legal(rows, masks)
        return masks

    def play(self, rows: NDArray[np.int8], actions: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Plays actions [n] in rows [n,R], in place; returns whether the games are over [n], and their values [n] for player 0."""
        over, values = np.empty(len(rows), bool), np.empty(len(rows), np.float32)
        self.batch.play(rows, actions, over, values)
        return over, values

    def ready(self, steps: int) -> bool:
        """Whether `steps` positions per environment are ready to be taken."""
        return sum(len(part["action"]) for part in self.waiting) >= steps * self.num_envs

    def take(self) -> Unroll:
        """The positions since the last call, leaves [K,1,...]."""
        names = ("planes", "action", *self.dtypes)
        leaves = {name: np.concatenate([part[name] for part in self.waiting])[:, None] for name in names}
        self.waiting = []
        false = np.zeros(leaves["action"].shape, bool)  # [K,1]
        extras = {name: leaves[name].astype(kind) for name, kind in self.dtypes.items()}
        reward, action = np.zeros(false.shape, np.float32), leaves["action"].astype(np.int64)
        return Unroll(Step(leaves["planes"], reward, ~false, false, false, action, extras), version=self.version)

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "version": self.version, "waiting": self.waiting}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """Restores the saved games, which continue; always True."""
        self.rng.bit_generator.state = state["rng"]
        self.version, self.waiting = state["version"], state["waiting"]
        return True


class Expert(NamedTuple):
    """Positions of recorded games, with the moves that were played there."""

    planes: NDArray[np.int8]  # [n,C,H,W]
    action: NDArray[np.int64]  # [n]
    last: NDArray[np.int32]  # [n] the move before, NO_MOVE at the start

    def digest(self) -> str:
        """A SHA-256 hash of the positions and moves."""
        return hashlib.sha256(self.planes.tobytes() + self.action.tobytes()).hexdigest()

    @staticmethod
    def read(folder: str, game: Game, from_move: int, tested: float) -> "tuple[Expert, Expert]":
        """Reads all game records in a folder: positions to learn from, and those of a held-out fraction `tested` of the games.

        Records that cannot be read are skipped with a message on standard error. UsageError if none can be read.
        """
        try:
            games = game_records.read_folder(Path(folder), game)
        except UsageError as error:
            raise UsageError(f"agent.records = {error}") from error
        apart = max(2, round(1 / tested)) if tested else 0
        parts: tuple[list[Any], list[Any]] = ([], [])
        for number, record in enumerate(games):
            state, last = record.game.new_state(), NO_MOVE
            for at, action in enumerate(record.actions):
                if at >= from_move:
                    parts[bool(apart) and number % apart == apart - 1].append((state.observation(), action, last))
                state, last = state.apply(action), action
        if not parts[0]:
            raise UsageError(f"agent.records_from_move = {from_move} leaves no position of the games in {folder} to learn from")
        return tuple(Expert._stack(part, game) for part in parts)  # type: ignore[return-value]

    @staticmethod
    def _stack(found: list[Any], game: Game) -> "Expert":
        planes = np.array([p for p, _, _ in found], np.int8).reshape(-1, *game.observation_shape)
        return Expert(planes, np.array([a for _, a, _ in found], np.int64), np.array([last for _, _, last in found], np.int32))


# planes [n,C,H,W], actions [n] and the moves before them [n] -> metrics
Tester = Callable[[NDArray[np.int8], NDArray[np.int64], NDArray[np.int32]], dict[str, float]]


class RecordedPlay(_Games):
    """Collects recorded positions in random order, each once before any is repeated."""

    def __init__(self, num_envs: int, game: Game, seed: int, learned: Expert, tested: Expert, evaluate: Tester):
        """`evaluate` computes metrics on the held-out positions `tested`."""
        super().__init__(num_envs, game, seed, {"last": "int32"})
        self.learned, self.tested, self.evaluate = learned, tested, evaluate
        self.order, self.at = self.rng.permutation(len(learned.action)), 0

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Collects the next `num_envs` positions, or the fewer that are left of this pass."""
        chosen = self.order[self.at : self.at + self.num_envs]
        self.at += len(chosen)
        if self.at == len(self.order):
            self.order, self.at = self.rng.permutation(len(self.order)), 0
        learned = self.learned
        self.waiting.append({"planes": learned.planes[chosen], "action": learned.action[chosen], "last": learned.last[chosen]})
        return len(chosen), []

    def diagnostics(self) -> dict[str, float]:
        """Metrics on the held-out positions, at most 4096 of them."""
        tested = self.tested
        return self.evaluate(tested.planes[:4096], tested.action[:4096], tested.last[:4096]) if len(tested.action) else {}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "order": self.order, "at": self.at, "digest": self.learned.digest()}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """Restores the order of positions. ValueError if the records have changed."""
        if state["digest"] != self.learned.digest():
            raise ValueError("agent.records holds different games than when the run began")
        self.order, self.at = state["order"], state["at"]
        return super().load_state_dict(state, reseed)


class PoolPlay(_Games):
    """Plays the learning policy against one from a pool, L games at a time; draws a new opponent when all of them have ended.

    The pool holds the latest `size` of these: the policy at the start, and copies of it made every `every` learner steps, between
    games. The sides alternate from one environment to the next. Only the learning policy's moves are collected, each with the
    outcome for this policy.
    """

    def __init__(
        self,
        num_envs: int,
        game: Game,
        seed: int,
        policy: nn.Module,
        ask: Callable[[nn.Module], PlanePolicy],
        every: int,
        size: int,
    ):
        """`ask` wraps a net as a policy on planes."""
        super().__init__(num_envs, game, seed, {"outcome": "float32", "log_prob": "float32", "legal": "bool"})
        self.policy, self.every, self.size = policy, every, size
        self.opponent = copy.deepcopy(policy).requires_grad_(False)
        self.plays, self.answers = ask(policy), ask(self.opponent)
        self.pool: list[dict[str, torch.Tensor]] = []  # filled when the first games begin, after the weights have been loaded
        self.added = 0  # version of the newest policy in the pool
        self.side = np.arange(self.num_envs) % 2  # [L] which player learns
        self.scores: list[float] = []  # of the learning policy in finished games: 1 win, 0.5 draw, 0 loss
        self.rows = np.repeat(self.start[None], self.num_envs, 0)  # [L,R]
        self.running = np.zeros(self.num_envs, bool)
        self.moves: list[list[tuple[Any, int, float, Any]]] = [[] for _ in range(self.num_envs)]

    def _begin(self) -> None:
        self.rows[:] = self.start
        self.running[:] = True
        self.moves = [[] for _ in range(self.num_envs)]
        if not self.pool:
            self.pool, self.added = [_copied(self.policy)], self.version
        if self.version - self.added >= self.every:
            self.pool = [*self.pool, _copied(self.policy)][-self.size :]
            self.added = self.version
        self.opponent.load_state_dict(self.pool[int(self.rng.integers(len(self.pool)))])

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Plays one move in every running game."""
        if not self.running.any():
            self._begin()
        running = np.flatnonzero(self.running)
        rows = self.rows[running]
        planes, legal = self.planes(rows), self.legal(rows)
        mine = rows[:, 1] == self.side[running]  # Go's rows hold the player to move there
        logits = np.empty((len(running), self.game.num_actions), np.float32)
        for mask, policy in ((mine, self.plays), (~mine, self.answers)):
            if mask.any():
                logits[mask] = policy(planes[mask])
        actions, log_p = drawn(logits, legal, self.rng)
        for i in np.flatnonzero(mine).tolist():
            self.moves[running[i]].append((planes[i], int(actions[i]), float(log_p[i]), legal[i]))
        over, values = self.play(rows, actions)
        self.rows[running] = rows
        moved, episodes = 0, []
        for i in np.flatnonzero(over).tolist():
            env_index = int(running[i])
            z, played = float(values[i]) * (1 - 2 * int(self.side[env_index])), self.moves[env_index]
            self.running[env_index] = False
            self.scores.append((1 + z) / 2)
            episodes.append(Episode(z, len(played), env_index))
            if played:
                moved += len(played)
                kept = zip(*played, strict=True)
                leaves = {name: np.array(list(leaf)) for name, leaf in zip(_MOVE, kept, strict=True)}
                leaves["outcome"] = np.full(len(played), z)
                self.waiting.append(leaves)
        return moved, episodes

    def diagnostics(self) -> dict[str, float]:
        """The size of the pool, and the learning policy's mean score in the games since the last call."""
        scores, self.scores = self.scores, []
        metrics = {"selfplay/pool": float(len(self.pool))}
        return metrics | ({"selfplay/score_against_pool": float(np.mean(scores))} if scores else {})

    def state_dict(self) -> dict[str, Any]:
        games = [
            {
                "planes": np.array([move[0] for move in played], np.int8).reshape(-1, *self.game.observation_shape),
                "action": np.array([move[1] for move in played], np.int64),
                "log_prob": np.array([move[2] for move in played], np.float64),
                "legal": np.array([move[3] for move in played], bool).reshape(-1, self.game.num_actions),
            }
            for played in self.moves
        ]
        own = {"rows": self.rows, "running": self.running, "games": games, "pool": self.pool, "added": self.added}
        return {**super().state_dict(), **own, "opponent": _copied(self.opponent)}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        self.rows, self.running, self.pool, self.added = state["rows"], state["running"], state["pool"], state["added"]
        self.moves = [
            list(zip(g["planes"], g["action"].tolist(), g["log_prob"].tolist(), g["legal"], strict=True)) for g in state["games"]
        ]
        self.opponent.load_state_dict(state["opponent"])
        return super().load_state_dict(state, reseed)


class ValuePlay(_Games):
    """Plays games for the value net, and collects one position of each (Silver et al. 2016, Methods).

    U is drawn from 1 to `latest`. The supervised policy plays U - 1 moves, move U is a random legal one, and the reinforced policy
    plays from there to the end. The position after the random move is collected, with the outcome for the player to move there.
    """

    def __init__(self, num_envs: int, game: Game, seed: int, supervised: PlanePolicy, reinforced: PlanePolicy, latest: int):
        super().__init__(num_envs, game, seed, {"outcome": "float32"})
        self.supervised, self.reinforced, self.latest = supervised, reinforced, latest
        self.rows = np.repeat(self.start[None], self.num_envs, 0)  # [L,R]
        self.plies = np.zeros(self.num_envs, np.int64)  # [L] moves made
        self.turning = self.rng.integers(1, latest + 1, self.num_envs)  # [L] U
        self.kept = np.zeros((self.num_envs, *game.observation_shape), np.int8)  # [L,C,H,W] the position to collect
        self.mover = np.zeros(self.num_envs, np.int64)  # [L] the player to move there
        self.seen: list[float] = []  # outcomes collected since the last `diagnostics`

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Plays one move in every game."""
        planes, legal = self.planes(self.rows), self.legal(self.rows)
        early, late = self.plies < self.turning - 1, self.plies >= self.turning
        logits = np.zeros((self.num_envs, self.game.num_actions), np.float32)  # equal ones make the random move
        for mask, policy in ((early, self.supervised), (late, self.reinforced)):
            if mask.any():
                logits[mask] = policy(planes[mask])
        here = self.plies == self.turning
        self.kept[here], self.mover[here] = planes[here], self.rows[here, 1]
        actions, _ = drawn(logits, legal, self.rng)
        over, values = self.play(self.rows, actions)
        self.plies += 1
        done = np.flatnonzero(over & late)  # a game that ends earlier yields nothing
        if done.size:
            outcome = values[done] * (1 - 2 * self.mover[done])
            self.seen += outcome.tolist()
            self.waiting.append({"planes": self.kept[done], "action": np.zeros(done.size, np.int64), "outcome": outcome})
        episodes = [Episode(float(values[env_index]), int(self.plies[env_index]), int(env_index)) for env_index in done.tolist()]
        ended = np.flatnonzero(over)
        self.rows[ended], self.plies[ended] = self.start, 0
        self.turning[ended] = self.rng.integers(1, self.latest + 1, ended.size)
        return int(done.size), episodes

    def diagnostics(self) -> dict[str, float]:
        """The variance of the outcomes since the last call: a value net's error has to be below it to beat a constant."""
        seen, self.seen = self.seen, []
        return {"selfplay/outcome_variance": float(np.var(seen))} if seen else {}

    def state_dict(self) -> dict[str, Any]:
        names = ("rows", "plies", "turning", "kept", "mover")
        return {**super().state_dict(), **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        for name in ("rows", "plies", "turning", "kept", "mover"):
            setattr(self, name, state[name])
        return super().load_state_dict(state, reseed)


def _copied(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
