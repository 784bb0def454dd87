"""AlphaZero's loss by hand, its symmetries, its moves, and self-play: positions, signs, fast searches, an exact resume."""

import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import differences

import rlsuite
from rlsuite.acting.best_net_gate import BestNetGate
from rlsuite.acting.selfplay import SelfPlay
from rlsuite.acting.slots import NONE, UNKNOWN_OWNER, _drawn
from rlsuite.agents.alphazero import AlphaZero, AlphaZeroConfig, territory_losses
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.ratings import Score
from rlsuite.config.loader import resolve
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Mode
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState
from rlsuite.core.types import EnvSpec, Step, Trajectory, describe, to_tensors, tree_map
from rlsuite.factories import build
from rlsuite.nets.board_net import BoardNet, BoardOutput, Territory
from rlsuite.runs import checkpoint

NET = NetConfig(torso="tower(width=8,depth=1)", hidden=16)
SMALL = {
    "run.threads": 1,
    "run.collect_agent_steps": 2,
    "env.num_envs": 8,
    "env.opponent": "random",
    "agent.simulations": 6,
    "agent.eval_simulations": 6,
    "agent.opening_fraction": 0.0,
    "net.torso": "tower(width=8,depth=1)",
    "replay.min_agent_steps": 100,
    "replay.capacity_agent_steps": 500,
    "learner.batch_size": 32,
    "eval.episodes": 2,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}


def spec_of(name: str) -> EnvSpec:
    return describe(rlsuite.make_env(name, num_envs=1, opponent="random"))


def agent_of(name: str, **settings: Any) -> AlphaZero:
    return AlphaZero(AlphaZeroConfig(name="alphazero", **settings), NET, spec_of(name))


class Fixed(torch.nn.Module):
    """A net that evaluates every position alike."""

    def __init__(self, logits: list[float], outcome: list[float]):
        super().__init__()
        self.logits, self.outcome = torch.nn.Parameter(torch.tensor(logits)), torch.nn.Parameter(torch.tensor(outcome))

    def evaluate(self, planes: torch.Tensor) -> BoardOutput:
        return BoardOutput(self.logits.expand(len(planes), -1), self.outcome.expand(len(planes), -1))


def batch(agent: AlphaZero, policy: list[list[float]], outcome: list[float], value: list[float]) -> Trajectory:
    b = len(outcome)
    no = torch.zeros(1, b, dtype=torch.bool)
    extras = {"policy": torch.tensor([policy]), "outcome": torch.tensor([outcome]), "value": torch.tensor([value])}
    planes = torch.zeros(1, b, *agent.game.observation_shape, dtype=torch.int8)
    return Trajectory(Step(planes, torch.zeros(1, b), no, no, no, torch.zeros(1, b, dtype=torch.int64), extras), ())


@pytest.mark.parametrize("kind", ["wdl", "scalar"])
def test_the_loss_by_hand(kind: Any) -> None:
    """p = (1/2, 1/4, 1/4, 0...) against π = (1, 0, 0...); outcome logits (ln 2, 0, 0), which are probabilities 1/2, 1/4, 1/4.

    z = 1, q = 0, λ = 1/2: the target is half a win and half a draw.
    """
    agent = agent_of("tic_tac_toe", value=kind, value_weight=2.0, search_value_fraction=0.5, symmetries=False)
    logits = [np.log(0.5), np.log(0.25), np.log(0.25)] + [-1e9] * 6
    net = Fixed(logits, [np.log(2.0), 0.0, 0.0] if kind == "wdl" else [0.0])
    one_hot = [[1.0] + [0.0] * 8]
    loss = agent.loss(net, net, batch(agent, one_hot, [1.0], [0.0]), torch.Generator())
    value_loss = 0.5 * np.log(2) + 0.5 * np.log(4) if kind == "wdl" else 0.25
    assert loss.loss.item() == pytest.approx(np.log(2) + 2 * value_loss, rel=1e-5)
    assert loss.metrics["losses/value_error"].item() == pytest.approx(0.5625 if kind == "wdl" else 1.0)
    lost = agent.loss(net, net, batch(agent, one_hot, [-1.0], [-1.0]), torch.Generator())
    assert lost.loss.item() == pytest.approx(np.log(2) + 2 * (np.log(4) if kind == "wdl" else 1.0), rel=1e-5)


def test_a_position_and_its_policy_have_the_same_symmetric_image() -> None:
    """A policy that plays where the planes show a stone still does so in every image; all eight images occur."""
    agent = agent_of("tic_tac_toe")
    planes = torch.zeros(400, *agent.game.observation_shape, dtype=torch.int8)
    policy = torch.zeros(400, 9)
    planes[:, 0, 0, 1] = 1
    policy[:, 1] = 1
    turned, moved, owned = agent._turned(agent.game, planes, policy, policy.to(torch.int8), torch.Generator().manual_seed(1))
    assert torch.equal(turned[:, 0].flatten(1).float(), moved)
    assert owned is not None
    assert torch.equal(owned.float(), moved)
    assert set(moved.argmax(1).tolist()) == {1, 3, 5, 7}
    agent = agent_of("tic_tac_toe", symmetries=False)
    same, kept, _ = agent._turned(agent.game, planes, policy, None, torch.Generator())
    assert same is planes
    assert kept is policy


def test_the_losses_of_owners_and_lead_by_hand() -> None:
    """Of four cells the player owns two, the opponent one, nobody one: the lead is 1, of -4 to 4. All logits are 0.

    Every cell costs ln 2, whoever owns it; the lead is one of nine, equally likely. A resigned game costs nothing.
    """
    owners = torch.tensor([[1, 1, -1, 0], [UNKNOWN_OWNER] * 4], dtype=torch.int8)
    even = Territory(torch.zeros(2, 4), torch.zeros(2, 9))
    of_owners, lead = territory_losses(even, owners)
    assert of_owners.tolist() == pytest.approx([np.log(2), 0.0])
    assert lead.tolist() == pytest.approx([np.log(9), 0.0])
    sure = Territory(torch.tensor([[1e4, 1e4, -1e4, 0.0]] * 2), torch.zeros(2, 9))
    sure.lead[:, 5] = 1e4
    of_owners, lead = territory_losses(sure, owners)
    assert of_owners[0].item() == pytest.approx(np.log(2) / 4)  # the cell that nobody owns
    assert lead[0].item() == 0


@pytest.mark.parametrize("name", ["go(size=5,komi=3)", "othello(size=4)"])
def test_owners_are_those_of_the_end_as_the_player_to_move_sees_them(name: str) -> None:
    """Their sum is the lead, which decides the outcome; a stone of the last position is its player's."""
    agent = agent_of(name, simulations=2, owners_weight=1.5, lead_weight=0.02)
    collector = agent.collector(agent.make_net(), 4, seed=1, device=torch.device("cpu"), bf16=False)
    while not collector.ready(40):
        collector.advance(1)
    steps = collector.take().steps
    planes, owners, outcome = steps.observation[:, 0], steps.extras["owners"][:, 0], steps.extras["outcome"][:, 0]
    assert owners.shape[1] == agent.spec.observation_shape[1] * agent.spec.observation_shape[2]
    assert set(np.unique(owners)) <= {-1, 0, 1}
    black = planes[:, 3, 0, 0] if name.startswith("go") else np.zeros(len(planes))  # to move
    komi = 3 * np.where(black == 1, 1, -1) if name.startswith("go") else 0
    assert np.array_equal(np.sign(owners.sum(1, dtype=int) - komi), outcome)
    ends = np.append(np.flatnonzero(steps.first[1:, 0]), len(planes) - 1)  # the last positions before the end
    if name.startswith("othello"):  # the discs that are there a move before the end: most keep their owner
        own = planes[ends, 0].reshape(len(ends), -1) - planes[ends, 1].reshape(len(ends), -1)
        assert (own * owners[ends] >= 0).mean() > 0.7
    net = agent.make_net()
    trajectory = to_tensors(tree_map(lambda leaf: leaf.swapaxes(0, 1), Trajectory(steps, ())), torch.device("cpu"))  # [1,B,...]
    found = agent.loss(net, net, trajectory, torch.Generator().manual_seed(0))
    assert found.metrics["losses/lead_loss"] > 0
    found.loss.mean().backward()
    assert net.owners.weight.grad is not None
    assert net.lead.weight.grad is not None


def test_owners_need_a_game_of_territory() -> None:
    with pytest.raises(UsageError, match="in connect_four nobody owns cells"):
        agent_of("connect_four", lead_weight=0.1)


def test_it_plays_the_winning_move_and_action_0_where_the_game_is_over() -> None:
    agent = agent_of("connect_four", eval_simulations=50)
    game, empty = agent.game, ["......."] * 4
    win = game.parse_state("\n".join([*empty, "oo.....", "xxx.o.."]))
    over = game.parse_state("\n".join([*empty, "ooo....", "xxxx..."]))
    rows = torch.from_numpy(np.stack([win.row, over.row]))[None]
    no = torch.zeros(1, 2, dtype=torch.bool)
    mask = torch.tensor([[[True] * 7, [False] * 7]])
    info_keys = {"row": rows, "action_mask": mask}
    step = Step(torch.zeros(1, 2, *game.observation_shape), torch.zeros(1, 2), no, no, no, no, info_keys)
    action, state, extras = agent.act(agent.make_net(), step, (), Mode(False, 0, torch.Generator()))
    assert action.tolist() == [3, 0]
    assert (state, extras) == ((), {})


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="plays board games"):
        AlphaZero(AlphaZeroConfig(name="alphazero"), NET, describe(rlsuite.make_env("CartPole-v1")))
    with pytest.raises(UsageError, match="shrinks the board"):
        BoardNet(NetConfig(torso="impala"), make_game("othello"), 3)
    with pytest.raises(UsageError, match="fast_simulations 50 is more than simulations 32"):
        resolve("boards/tic_tac_toe", ["agent.full_fraction=0.5", "agent.fast_simulations=50"])


def collector_of(**overrides: Any) -> SelfPlay:
    settings = {f"{'env' if name == 'num_envs' else 'agent'}.{name}": value for name, value in overrides.items()}
    collector = build(resolve("boards/tic_tac_toe", {**SMALL, **settings})).collector
    assert isinstance(collector, SelfPlay)
    return collector


@pytest.mark.integration
@pytest.mark.parametrize("method", ["gumbel", "puct"])
def test_an_unroll_holds_whole_games_from_both_sides(method: str) -> None:
    collector = collector_of(method=method, temperature_moves=3)
    moved, games = 0, []
    while len(games) < 20:
        steps, episodes = collector.advance(moved)
        moved, games = moved + steps, games + episodes
    steps = collector.take().steps
    assert steps.reward.shape == (sum(game.length for game in games), 1)
    assert not steps.last.any()
    starts = [*np.flatnonzero(steps.first[:, 0]).tolist(), len(steps.reward)]
    assert len(starts) == len(games) + 1
    game = make_game("tic_tac_toe")
    for i, (begin, end) in enumerate(pairwise(starts)):
        state = game.new_state()
        for at in range(begin, end):
            assert np.array_equal(steps.observation[at, 0], state.observation())
            policy, legal = steps.extras["policy"][at, 0], state.legal_actions()
            assert policy.sum() == pytest.approx(1, abs=1e-5)
            assert policy[[a for a in range(9) if a not in legal]].sum() == 0
            assert steps.extras["outcome"][at, 0] == games[i].episodic_return * (1 if state.player == 0 else -1)
            state = state.apply(int(steps.action[at, 0]))
        assert state.is_terminal()
        assert state.returns()[0] == games[i].episodic_return
    assert not collector.ready(1)


def test_fast_searches_are_played_and_not_learned_from() -> None:
    collector = collector_of(full_fraction=0.3, fast_simulations=2)
    moved, length = 0, 0
    for _ in range(300):
        steps, episodes = collector.advance(moved)
        moved, length = moved + steps, length + sum(episode.length for episode in episodes)
    kept = len(collector.take().steps.reward)
    assert 0.2 < kept / length < 0.4


def test_a_search_ends_when_the_visits_no_longer_change() -> None:
    """With a gain that nothing reaches, a search ends at the second look: after 2 x 8 simulations instead of 64."""
    settings = {"method": "puct", "simulations": 64, "kl_gain_simulations": 8}
    ends = []
    for gain in (1e6, 1e-9):
        collector = collector_of(**settings, kl_gain=gain)
        done = list[int]()
        while len(done) < 20:
            before = collector.slots.length.copy(), collector.tree.slot["done"].copy(), collector.slots.full.copy()
            collector.advance(1)
            moved = collector.slots.length != before[0]
            done += before[1][moved & before[2]].tolist()
        ends.append(max(done))
    assert ends[0] <= 17
    assert ends[1] > 48


def test_very_low_temperatures_play_the_most_visited_move() -> None:
    collector = collector_of(method="puct")
    policy = np.array([0.1, 0.1, 0.4, *[0.05] * 8])
    for temperature in (1e-4, 1e-2):
        assert {_drawn(collector.tree, 0, policy, temperature) for _ in range(20)} == {2}
    assert len({_drawn(collector.tree, 0, policy, 1.0) for _ in range(200)}) > 5


def test_the_temperature_falls_with_the_moves() -> None:
    """A temperature that has gone after a move plays the most visited move from then on; one that stays does not."""
    best = []
    for halflife in (0.01, 1e9):
        collector = collector_of(method="puct", temperature_halflife=halflife, temperature_end=0.01)
        collector.plan = collector.plan._replace(temperature_moves=1000)
        while not collector.ready(20):
            collector.advance(1)
        steps = collector.take().steps
        policy, action, later = steps.extras["policy"][:, 0], steps.action[:, 0], ~steps.first[:, 0]
        chosen = policy[np.arange(len(action)), action]
        best.append((chosen[later] >= policy[later].max(1) - 1e-6).mean())
    assert best[0] == 1
    assert best[1] < 0.9


def test_some_games_begin_with_random_moves() -> None:
    collector = collector_of(opening_fraction=1.0, opening_moves=4)
    stones, everyone = [], np.arange(collector.num_envs, dtype=np.int32)
    for _ in range(25):
        collector.run.begin(collector.tree, collector.slots, collector.plan, everyone, collector.start)
        for row, plies in zip(collector.slots.rows, collector.slots.plies, strict=True):
            state = BoardState(collector.game, row)
            assert not state.is_terminal()
            assert plies == 9 - len(state.legal_actions())
            stones.append(int(plies))
    assert set(stones) == {1, 2, 3, 4}
    assert np.array_equal(collector.slots.first, collector.slots.rows)


def test_resigning_needs_evidence_and_keeps_to_its_false_positive_rate() -> None:
    """Nobody resigns before a hundred games have been played out; then the threshold is a quantile of the regrets."""
    collector = collector_of(resign=True, resign_disabled_fraction=1.0, resign_false_positives=0.1)
    for i in range(99):
        collector._regret(-1.0, [0.5, -i / 100])  # player 0 has lost: only the value that player 1 had counts
    assert collector.threshold == -1.0
    collector._regret(-1.0, [0.5, -0.99])
    assert np.mean(np.array(collector.regrets) < collector.threshold) == pytest.approx(0.1, abs=0.01)
    assert len(collector.regrets) == 100
    collector._regret(0.0, [-0.1, np.inf])  # a draw, in which player 1 had no move
    assert len(collector.regrets) == 101


def test_hopeless_games_are_resigned_and_counted() -> None:
    collector = collector_of(resign=True, resign_disabled_fraction=0.5, temperature_moves=0)
    collector.threshold = 0.9  # whoever does not expect to win resigns
    games = []
    while len(games) < 60:
        games += collector.advance(0)[1]
    means = collector.diagnostics()
    assert 0.2 < means["selfplay/resigned"] < 0.8
    assert means["selfplay/resign_threshold"] == 0.9
    short = [game for game in games if game.length < 5]  # nobody has won by the rules yet
    assert short
    assert all(game.episodic_return == (-1.0 if game.length % 2 else 1.0) for game in short)  # who moved last has lost


def test_every_slot_waits_for_an_evaluation_after_every_advance() -> None:
    """Searches go on, across moves and with evaluations from the table, until they need the net."""
    collector = collector_of(full_fraction=0.5, fast_simulations=2, solve=False)
    waiting = []
    for _ in range(50):
        collector.table.clear()  # no position is known
        waiting.append((collector.slots.source != NONE).mean())
        collector.advance(0)
    assert np.mean(waiting[1:]) > 0.9  # not where a game has just begun


def test_known_positions_need_no_net() -> None:
    collector = collector_of(opening_fraction=0.0, temperature_moves=9, simulations=20)
    asked = []
    evaluate = collector.agent.evaluate

    def counted(net: Any, planes: Any) -> Any:
        asked.append(len(planes))
        return evaluate(net, planes)

    collector.agent.evaluate = counted  # type: ignore[method-assign]
    for _ in range(400):
        collector.advance(0)
    hits = collector.diagnostics()["search/cache_hits"]
    assert hits > 0.5
    assert sum(asked[200:]) < sum(asked[:200])
    collector.version += 1  # new weights: everything is asked again
    before = len(asked)
    collector.advance(0)
    assert asked[before:] == [min(collector.num_envs, asked[before])]


@pytest.mark.parametrize("method", ["gumbel", "puct"])
def test_threads_share_the_slots(method: str) -> None:
    """What a slot draws is its own, so with a net that does not mind the rest of the batch, games do not depend on the threads."""
    played = []
    for threads in (1, 2, 3):
        collector = collector_of(num_envs=100, method=method, opening_fraction=0.5, full_fraction=0.5, fast_simulations=3)
        used = set[str]()

        def definite(net: Any, planes: Any, used: set[str] = used) -> Any:
            used.add(threading.current_thread().name)
            assert torch.get_num_threads() == 1
            sums = planes.reshape(len(planes), -1) @ np.arange(1, 19)
            return np.sin(sums[:, None] * np.arange(1, 10)).astype(np.float32), np.sin(sums).astype(np.float32)

        collector.agent.evaluate = definite  # type: ignore[method-assign]
        torch.set_num_threads(threads)
        episodes = [episode for _ in range(150) for episode in collector.advance(0)[1]]
        assert torch.get_num_threads() == threads
        assert len(used) == threads
        played.append((episodes, collector.take()))
        torch.set_num_threads(1)
    for episodes, unroll in played:
        assert len(episodes) > 200
        assert episodes == played[0][0]
        assert not differences(unroll.steps._asdict(), played[0][1].steps._asdict())


def test_another_number_of_threads_from_tick_to_tick_changes_no_game() -> None:
    """As the measured number of threads does. A part that starts late must not find what another has written meanwhile."""
    played = []
    for schedule in ([1], [1, 2, 3, 2]):
        collector = collector_of(num_envs=100, method="puct")

        def definite(net: Any, planes: Any) -> Any:
            sums = planes.reshape(len(planes), -1) @ np.arange(1, 19)
            return np.sin(sums[:, None] * np.arange(1, 10)).astype(np.float32), np.sin(sums).astype(np.float32)

        def late(begin: int, end: int, play: Any = collector._play) -> Any:
            time.sleep(0.002 if begin else 0)
            return play(begin, end)

        collector.agent.evaluate = definite  # type: ignore[method-assign]
        collector._play = late  # type: ignore[method-assign]
        episodes = []
        for tick in range(100):
            torch.set_num_threads(schedule[tick % len(schedule)])
            episodes += collector.advance(0)[1]
        played.append((episodes, collector.take()))
    torch.set_num_threads(1)
    assert len(played[0][0]) > 50
    assert played[0][0] == played[1][0]
    assert not differences(*(unroll.steps._asdict() for _, unroll in played))


def test_an_unroll_has_a_position_to_learn_from() -> None:
    collector = collector_of(num_envs=2, full_fraction=0.02, simulations=8, fast_simulations=2)
    while not collector.waiting:
        assert not collector.ready(0)
        collector.advance(0)
    while not collector.ready(1):
        collector.advance(0)
    assert len(collector.take().steps.reward) > 0
    assert not collector.ready(0)


def test_new_games_begin_where_an_earlier_version_saved_them() -> None:
    collector, other = collector_of(opening_fraction=1.0), collector_of(opening_fraction=1.0)
    assert not collector.load_state_dict({"games": {}, "rng": {}}, reseed=7)
    assert not np.array_equal(collector.tree.rng, other.tree.rng)
    assert collector.advance(0) == (0, [])


def test_an_error_in_one_thread_is_raised() -> None:
    collector = collector_of(num_envs=64)

    def broken(net: Any, planes: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("no such net")
        return np.zeros((len(planes), 9), np.float32), np.zeros(len(planes), np.float32)

    collector.agent.evaluate = broken  # type: ignore[method-assign]
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError, match="no such net"):
        collector.advance(0)
    assert torch.get_num_threads() == 2


@pytest.mark.integration
@pytest.mark.parametrize("gate_games", [0, 4])
def test_resumed_self_play_equals_uninterrupted_bit_for_bit(tmp_path: Path, gate_games: int) -> None:
    n = 1_003
    settings = {**SMALL, "agent.gate_games": gate_games, **({"agent.gate_learner_steps": 40} if gate_games else {})}
    rlsuite.train("boards/tic_tac_toe", {**settings, "run.agent_steps": 2 * n}, run_dir=tmp_path / "whole")
    rlsuite.train(
        "boards/tic_tac_toe",
        {**settings, "run.agent_steps": n, "learner.learning_rate_anneal_agent_steps": 2 * n},
        run_dir=tmp_path / "halves",
    )
    rlsuite.train(None, {"run.agent_steps": 2 * n}, resume=tmp_path / "halves")
    whole, halves = (checkpoint.load(checkpoint.find(tmp_path / name, resumable=True)) for name in ("whole", "halves"))
    assert whole.agent_steps == halves.agent_steps == 2 * n
    assert whole.state["learner"]["steps"] > 100
    for part in ("collector", "replay", "learner"):
        assert not differences(whole.state[part], halves.state[part], part)
    assert not differences(whole.state["loop"]["lag"], halves.state["loop"]["lag"], "lag")
    assert not differences(whole.weights, halves.weights)
    if gate_games:
        assert whole.state["loop"]["lag"]["matches"] >= 2


def test_the_gate_admits_a_better_net_and_no_worse_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = build(resolve("boards/tic_tac_toe", {**SMALL, "agent.gate_games": 20, "agent.gate_learner_steps": 5}))
    gate, newest = parts.lag, parts.learner.net
    assert isinstance(gate, BestNetGate)
    assert isinstance(parts.collector, SelfPlay)
    assert parts.collector.net is gate.net
    with torch.no_grad():
        newest.policy.bias[8] = 50.0  # type: ignore[index,union-attr]
    gate.follow(4)
    assert gate.matches == 0
    assert gate.diagnostics() == {}
    monkeypatch.setattr("rlsuite.acting.best_net_gate.play_match", lambda *_: Score(10, 1, 9))  # 0.525 is too little
    gate.follow(5)
    assert (gate.matches, gate.passed, gate.version) == (1, 0, 0)
    assert float(gate.net.policy.bias[8]) != 50.0  # type: ignore[index,union-attr]
    monkeypatch.setattr("rlsuite.acting.best_net_gate.play_match", lambda *_: Score(11, 0, 9))
    gate.follow(9)
    assert gate.matches == 1
    gate.follow(10)
    assert (gate.matches, gate.passed, gate.version) == (2, 1, 10)
    assert float(gate.net.policy.bias[8]) == 50.0  # type: ignore[index,union-attr]
    assert gate.diagnostics() == {"gate/score": 0.55, "gate/passed": 0.5}
    with pytest.raises(UsageError, match=r"with agent\.gate_games the best net acts"):
        build(resolve("boards/tic_tac_toe", {**SMALL, "agent.gate_games": 20, "run.policy_lag_learner_steps": 2}))


@pytest.mark.integration
def test_a_run_of_another_game_or_rule_is_refused(tmp_path: Path) -> None:
    """The shapes would fit: only the komi differs."""
    settings = {**SMALL, "env.id": "go(size=3,komi=0.5)", "run.agent_steps": 40}
    rlsuite.train("boards/tic_tac_toe", settings, run_dir=tmp_path / "run")
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(UsageError, match=r"is a run of go\(size=3,komi=0.5\), not of go\(size=3,komi=1.5\)"):
        rlsuite.train(None, {"env.id": "go(size=3,komi=1.5)", "run.agent_steps": 80}, resume=tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before
