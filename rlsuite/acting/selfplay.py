"""The self-play collector: plays many games at once, each in a slot with a search tree of its own.

In each `advance`, compiled code (`slots`) continues every slot's search until it needs the net: evaluations in the table of earlier
ones are used at once, and a search that is done makes its move and the next one begins. So nearly every slot has a position in the
net's batch. On a CPU, each of torch's threads takes a share of the slots, both their searches and their evaluations: that is faster
than dividing each operation of a small net, and threads that meet only once per batch lose less time to other programs.
Shapes: L slots, n some of them, D moves of a game, K positions of an unroll, A actions, R bytes a row.
"""

from abc import abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.acting.all_sizes import GAME, AllSizes
from rlsuite.acting.board_agent import BoardAgent
from rlsuite.acting.collector import Episode
from rlsuite.acting.selfplay_config import SelfPlayConfig
from rlsuite.acting.slots import (
    NONE,
    RESIGNED,
    Finished,
    Slots,
    make_batch,
    make_endings,
    make_finished,
    make_slots,
    slot_kernels,
)
from rlsuite.core import cpu
from rlsuite.core.agent import Games, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.core.types import Step, Unroll
from rlsuite.search import Evaluate, plane_evaluator
from rlsuite.search.evaluators import PolicyValue, make_table
from rlsuite.search.search import METHODS
from rlsuite.search.tree import Tree, make_tree

NEVER = -1.0  # a resignation threshold that no value falls below
_SMALLEST_PART = 32  # minimum number of slots per thread
_MOVES, _POSITIONS = 64, 1024  # initial capacity: moves per slot, and positions of finished games
_MOVE = ("policy", "value", "action", "learned")  # arrays of `Slots` with an entry per move
_RAGGED = (*_MOVE, "rows", "node", "edge")  # arrays of `Slots` and `Tree` of which each slot uses only a first part
_NOT_SAVED = ("source", "sums")  # arrays of `Slots`


class SelfPlayAgent(BoardAgent):
    """Base class of board agents that learn from their own searches, in games that `SelfPlay` collects.

    A subclass implements `make_net`, `evaluate` and `loss`; `BoardAgent` has `act`.
    """

    config: SelfPlayConfig
    sequence: Games  # its extras are named as fields of `Finished`

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
    def learns_owners(self) -> bool:
        """Whether its training data include the owner of each cell at the end of the game."""
        return any(extra.name == "owners" for extra in self.sequence.extras)

    @property
    def gated(self) -> bool:
        """Whether a new net must win a match before it is used for self-play."""
        return self.config.gate_games > 0

    @abstractmethod
    def evaluate(self, net: Net, planes: NDArray[np.int8]) -> PolicyValue:
        """Evaluates planes [n,C,H,W] int8: logits [n,A] f32, and values [n] f32 for the player to move."""

    def evaluator(self, net: Net, game: Game | None = None) -> Evaluate:
        """See `BoardAgent`."""
        return plane_evaluator(game or self.game, lambda planes: self.evaluate(net, planes))

    def collector(self, net: Net, num_envs: int, *, seed: int, device: torch.device, bf16: bool) -> "SelfPlay | AllSizes":
        """A collector that plays `num_envs` games at once with `net`, on boards of all sizes. UsageError for too few games."""
        sizes = len(self.games)
        if sizes == 1:
            return SelfPlay(self, net, num_envs, seed=seed, device=device, bf16=bf16)
        if num_envs < sizes:
            raise UsageError(f"env.num_envs = {num_envs}: self-play on boards of {sizes} sizes needs {sizes} at least")
        counts = [num_envs * (i + 1) // sizes - num_envs * i // sizes for i in range(sizes)]
        return AllSizes(
            [
                SelfPlay(self, net, count, seed=seed + i, device=device, bf16=bf16, game=game)
                for i, (game, count) in enumerate(zip(self.games, counts, strict=True))
            ]
        )


class SelfPlay:
    """A `GameCollector` that searches every move.

    Its unrolls are positions of finished games, leaves [K,1,...]. Their extras are the search's policy and value, and the game's
    outcome for the player to move.
    """

    def __init__(
        self,
        agent: SelfPlayAgent,
        net: Net,
        num_envs: int,
        *,
        seed: int,
        device: torch.device | None = None,
        bf16: bool = False,
        game: Game | None = None,
    ):
        """Plays `num_envs` games at once. `game`: None for the agent's own."""
        self.agent, self.net, self.bf16 = agent, net, bf16
        self.device = device or torch.device("cpu")
        self.num_envs = num_envs
        self.version = self.table_version = 0
        config, game = agent.config, game or agent.game
        self.config, self.game, self.method, self.plan = config, game, config.explore(), config.plan()
        self.run = slot_kernels(game.rules, METHODS[type(self.method)])
        self.tree = make_tree(game, num_envs, config.simulations, seed, solve=config.solve)
        self.slots, self.batch = make_slots(game, num_envs, min(_MOVES, game.max_moves)), make_batch(game, num_envs)
        self.table = make_table(game.num_actions, config.cache_positions)
        self.start = game.new_state().row
        self.threshold = NEVER  # below which a player resigns
        self.regrets: deque[float] = deque(maxlen=1000)  # lowest values, in games played out, of players who did not lose
        self.finished, self.positions = (
            make_finished(game, _POSITIONS, agent.learns_owners),
            0,
        )  # the positions that `take` will return, and their number
        self.waiting = 0  # moves of games that have ended since `take`, including those that are not learned from
        self.ended: deque[int] = deque(maxlen=1000)  # hashes of the moves of the last games
        self.sums: dict[str, tuple[float, int]] = {}  # metric -> sum and count since the last `diagnostics`
        self.workers: ThreadPoolExecutor | None = None
        self.last_parts = 1
        self.run.begin(self.tree, self.slots, self.plan, np.arange(num_envs, dtype=np.int32), self.start)

    def ready(self, steps: int) -> bool:
        """Whether the finished games have at least `steps` moves per slot, and at least one position to learn from."""
        return self.waiting >= steps * self.num_envs and self.positions > 0

    @property
    def parts(self) -> int:
        """The number of threads that the slots are divided among."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        return max(1, min(threads, self.num_envs // _SMALLEST_PART))

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Continues the search in every slot until it needs the net, makes the moves that are due, and evaluates one batch.

        Returns the number of moves, and the games that ended, as episodes: the return is the outcome for player 0, the environment
        index is the slot.
        """
        if self.version != self.table_version:
            self.table.clear()
            self.table_version = self.version
        self._grow(int(self.slots.length.max()) + 1, 0)
        with cpu.working("self-play") if self.device.type == "cpu" else nullcontext():
            parts = self.parts
            if parts != self.last_parts:
                self._settle()
                self.last_parts = parts
            bounds = [self.num_envs * part // parts for part in range(parts + 1)]
            played = self._at_once(bounds) if parts > 1 else [self._play(0, self.num_envs)]
        moved = 0
        for begin, (asks, moves, reached, found) in zip(bounds, played, strict=False):
            self.run.store(self.table, self.batch, begin, asks)
            self._count("search/cache_hits", found, reached)
            moved += moves
        return moved, self._end(np.flatnonzero(self.slots.over).astype(np.int32))

    def _settle(self) -> None:
        """Copies the evaluation that each slot waits for to the slot's own place, where no other part will overwrite it."""
        waits = self.slots.source != NONE
        places = self.slots.source[waits]
        self.batch.logits[waits], self.batch.values[waits] = self.batch.logits[places], self.batch.values[places]
        self.slots.source[:] = np.where(waits, np.arange(self.num_envs), NONE)

    def _grow(self, moves: int, positions: int) -> None:
        """Makes room for games of `moves` moves, and for `positions` positions of finished games."""
        while moves > self.slots.action.shape[1]:
            self.slots = self.slots._replace(**{name: _longer(getattr(self.slots, name), 1) for name in _MOVE})
        while positions > len(self.finished.value):
            self.finished = Finished._make(_longer(leaf, 0) for leaf in self.finished)

    def _play(self, begin: int, end: int) -> tuple[int, int, int, int]:
        """Plays in the slots `begin` to `end`, then evaluates the positions that their searches need. See `SlotKernels.play`."""
        policy, places = np.empty(self.game.num_actions), np.empty(2 * (end - begin) + 1, np.int32)
        state = (self.tree, self.slots, self.table, self.batch)
        done = self.run.play(*state, self.method, self.plan, self.threshold, begin, end, policy, places)
        if asks := done[0]:
            where = slice(begin, begin + asks)
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                self.batch.logits[where], self.batch.values[where] = self.agent.evaluate(self.net, self.batch.planes[where])
        return done

    def _at_once(self, bounds: list[int]) -> list[tuple[int, int, int, int]]:
        """Calls `_play` for all parts in parallel, each in a thread of its own in which torch uses only that thread."""
        threads = torch.get_num_threads()
        if self.workers is None or self.workers._max_workers < len(bounds) - 2:
            self.workers = ThreadPoolExecutor(len(bounds) - 2, initializer=torch.set_num_threads, initargs=(1,))
        others = [self.workers.submit(self._play, *part) for part in pairwise(bounds[1:])]
        torch.set_num_threads(1)
        try:
            return [self._play(*bounds[:2]), *(other.result() for other in others)]
        finally:
            wait(others)
            torch.set_num_threads(threads)

    def _end(self, ended: NDArray[np.int32]) -> list[Episode]:
        """Stores the positions of the games that have ended in slots `ended` [n], and begins new games there."""
        if not ended.size:
            return []
        slots, endings = self.slots, make_endings(len(ended))
        lengths, outcomes = slots.length[ended].tolist(), slots.outcome[ended].tolist()
        self.waiting += sum(lengths)
        self._grow(0, self.positions + sum(lengths))
        self.positions = self.run.harvest(slots, ended, self.finished, self.positions, endings)
        self.ended.extend(endings.hash.view(np.int64).tolist())
        self._count("search/value_error", float(endings.error.sum()), sum(lengths))
        self._count("selfplay/draw", float(outcomes.count(0.0)), len(ended))
        self._count("selfplay/first_player_score", sum(outcomes), len(ended))
        self._count("selfplay/resigned", float((slots.over[ended] == RESIGNED).sum()), len(ended))
        for b, outcome, lowest in zip(ended.tolist(), outcomes, endings.lowest.tolist(), strict=True):
            if self.config.resign and not slots.resigns[b]:
                self._regret(outcome, lowest)
        episodes = [Episode(*facts) for facts in zip(outcomes, lengths, ended.tolist(), strict=True)]
        self.run.begin(self.tree, slots, self.plan, ended, self.start)
        return episodes

    def _regret(self, outcome: float, lowest: list[float]) -> None:
        """Updates the resignation threshold with both players' lowest values in a game that was played out."""
        for own, value in zip((outcome, -outcome), lowest, strict=True):
            if own >= 0 and value < np.inf:
                self.regrets.append(value)
        if len(self.regrets) >= 100:
            self.threshold = min(float(np.quantile(self.regrets, self.config.resign_false_positives)), 0.0)

    def take(self) -> Unroll:
        """The fully searched positions of games that have ended since the last call: leaves [K,1,...]."""
        kept = Finished._make(leaf[: self.positions, None].copy() for leaf in self.finished)
        self.positions = self.waiting = 0
        false = np.zeros_like(kept.first)  # [K,1]
        steps = Step(
            observation=kept.planes,
            reward=np.zeros(false.shape, np.float32),
            first=kept.first,
            last=false,
            terminal=false,
            action=kept.action,
            extras={extra.name: getattr(kept, extra.name) for extra in self.agent.sequence.extras if extra.name != GAME},
        )
        return Unroll(steps, version=self.version)

    def _count(self, name: str, value: float, times: int) -> None:
        total, count = self.sums.get(name, (0.0, 0))
        self.sums[name] = (total + value, count + times)

    def diagnostics(self) -> dict[str, float]:
        """Means over the searches and games since the last call, and the share of distinct games among the last 1000."""
        moves, entropy, largest = self.slots.sums.sum(0).tolist()
        self._count("search/policy_entropy", entropy, int(moves))
        self._count("search/top_move_share", largest, int(moves))
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        if not self.config.resign:
            means.pop("selfplay/resigned", None)
        elif "selfplay/resigned" in means:
            means["selfplay/resign_threshold"] = self.threshold
        if self.ended:
            means["selfplay/unique_games"] = len(set(self.ended)) / len(self.ended)
        self.sums, self.slots.sums[:] = {}, 0.0
        return means

    def state_dict(self) -> dict[str, Any]:
        """The games, unfinished searches included, and the random state, without the unused parts of arrays.

        The means of the diagnostics are not saved.
        """
        tree, slots = self.tree, self.slots
        waits = slots.source != NONE
        places = slots.source[waits]
        return {
            "tree": {name: _plain(leaf[_in_use(tree, name)]) for name, leaf in tree._asdict().items()},
            "slots": {name: leaf[_in_use(slots, name)] for name, leaf in slots._asdict().items() if name not in _NOT_SAVED},
            "waits": waits,
            "logits": self.batch.logits[places],
            "values": self.batch.values[places],
            "table": self.table.state_dict(),
            "finished": {name: leaf[: self.positions] for name, leaf in self.finished._asdict().items()},
            "waiting": self.waiting,
            "threshold": self.threshold,
            "regrets": np.array(self.regrets, np.float64),
            "ended": np.array(self.ended, np.int64),
            "version": self.version,
            "table_version": self.table_version,
        }

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """Restores what `state_dict` returned. False if an earlier version of rlsuite saved it: new games begin then."""
        if "slots" not in state:
            self.tree.rng[:] = make_tree(self.game, self.num_envs, 1, reseed).rng
            self.run.begin(self.tree, self.slots, self.plan, np.arange(self.num_envs, dtype=np.int32), self.start)
            return False
        self._grow(int(state["slots"]["length"].max()), len(state["finished"]["value"]))
        for leaves, saved in ((self.tree, state["tree"]), (self.slots, state["slots"])):
            for name in sorted(saved, key=lambda name: name in _RAGGED):  # ragged ones last: the others hold their lengths
                leaf, one = getattr(leaves, name), saved[name]
                leaf[_in_use(leaves, name)] = one.view(leaf.dtype)[..., 0] if leaf.dtype.names else one
        waits = state["waits"]
        self.slots.source[:] = np.where(waits, np.arange(self.num_envs), NONE)
        self.batch.logits[waits], self.batch.values[waits] = state["logits"], state["values"]
        self.table.load_state_dict(state["table"])
        self.positions = len(state["finished"]["value"])
        for name, leaf in state["finished"].items():
            getattr(self.finished, name)[: self.positions] = leaf
        for kept, name in ((self.regrets, "regrets"), (self.ended, "ended")):
            kept.clear()
            kept.extend(state[name].tolist())
        for name in ("waiting", "threshold", "version", "table_version"):
            setattr(self, name, state[name])
        return True


def _in_use(leaves: Tree | Slots, name: str) -> Any:
    """An index that selects the part in use of an array of the trees or slots."""
    leaf: NDArray[Any] = getattr(leaves, name)
    if name not in _RAGGED or (name == "rows" and isinstance(leaves, Slots)):
        return slice(None)
    count = leaves.length if isinstance(leaves, Slots) else leaves.slot["edges" if name == "edge" else "nodes"]
    return np.arange(leaf.shape[1]) < count[:, None]


def _plain(leaf: NDArray[Any]) -> NDArray[Any]:
    """An array as a file stores it: structured elements as bytes."""
    leaf = np.ascontiguousarray(leaf)
    return leaf[..., None].view(np.uint8) if leaf.dtype.names else leaf


def _longer(leaf: NDArray[Any], axis: int) -> NDArray[Any]:
    """An array with twice the length along an axis, filled up with zeros."""
    return np.concatenate([leaf, np.zeros_like(leaf)], axis)
