"""The search against a plain Python implementation, against solved games, and its invariants."""

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.search import Evaluate, Gumbel, Puct, Searcher, plane_evaluator, rollout_evaluator, search, uniform_evaluator
from rlsuite.search.gumbel import considered_visits
from rlsuite.search.random import gamma, gumbel, uniform
from rlsuite.search.search import choose_actions, search_rows
from rlsuite.search.tree import EDGE, NODE, SLOT, TICKET

GAMES = ["tic_tac_toe", "othello(size=4)", "go(size=3)"]  # a kernel takes seconds to compile


def evaluator(game: Game, calls: list[int] | None = None) -> Evaluate:
    """An evaluator with definite but meaningless values that depend only on a position's planes."""

    def net(planes: Any) -> Any:
        if calls is not None:
            calls.append(len(planes))
        logits, values = [], []
        for one in planes:
            rng = np.random.default_rng(np.frombuffer(one.tobytes(), np.uint8))
            logits.append(rng.normal(size=game.num_actions))
            values.append(rng.uniform(-1, 1))
        return np.array(logits, np.float32), np.array(values, np.float32)

    return plane_evaluator(game, net)


@dataclass
class Edge:
    action: int
    prior: float
    log_prior: float
    visits: int = 0
    total: float = 0.0
    child: "Node | None" = None


@dataclass
class Node:
    state: BoardState
    value: float = 0.0  # to player 0
    edges: list[Edge] = field(default_factory=list)

    @property
    def own(self) -> float:
        """Value to the player to move."""
        return self.value if self.state.player == 0 else -self.value


def twin(
    state: BoardState, evaluate: Evaluate, simulations: int, method: Puct | Gumbel, rng: Any, kept: Node | None = None
) -> tuple[Node, list[float]]:
    """The same searches with Python objects -> the root, and its Gumbel variates. `kept` is the root of a search to continue."""

    def expand(node: Node) -> float:
        logits, values = evaluate(node.state.row[None], np.zeros(1, np.uint64))
        legal = node.state.legal_actions()
        above = [float(logits[0, action]) - max(float(logits[0, a]) for a in legal) for action in legal]
        total = sum(math.exp(one) for one in above)
        node.edges = [
            Edge(action, np.float32(np.float32(math.exp(one)) / total), one - math.log(total))
            for action, one in zip(legal, above, strict=True)
        ]
        node.value = float(values[0]) if node.state.player == 0 else -float(values[0])
        return node.value

    root = kept or Node(state)
    if kept is None:
        expand(root)
    gumbels = [0.0] * len(root.edges)
    if kept is not None:
        pass
    elif isinstance(method, Gumbel):
        gumbels = [method.noise * gumbel(rng, 0) if method.noise else 0.0 for _ in root.edges]
    elif method.noise_fraction:
        noise = [gamma(rng, 0, method.noise_total / len(root.edges)) for _ in root.edges]
        for edge, one in zip(root.edges, noise, strict=True):
            edge.prior = np.float32((1 - method.noise_fraction) * edge.prior + method.noise_fraction * one / sum(noise))
    for at in range(sum(edge.visits for edge in root.edges), simulations):
        node, path = root, []
        while node.edges:
            if isinstance(method, Puct):
                edge = puct_choice(node, method)
            else:
                edge = gumbel_choice(node, method, gumbels if node is root and kept is None else None, simulations, at)
            path.append((node, edge))
            edge.child = edge.child or Node(node.state.apply(edge.action))
            node = edge.child
        value = node.state.returns()[0] if node.state.is_terminal() else expand(node)
        for parent, edge in path:
            edge.visits += 1
            edge.total += value if parent.state.player == 0 else -value
    return root, gumbels


def puct_choice(node: Node, puct: Puct) -> Edge:
    n = sum(edge.visits for edge in node.edges)
    tried = sum(float(edge.prior) for edge in node.edges if edge.visits)
    mean = (node.own + sum(edge.total for edge in node.edges)) / (1 + n)
    unknown = mean - puct.fpu_reduction * math.sqrt(tried)
    scale = (puct.c_init + math.log((1 + n + puct.c_base) / puct.c_base)) * math.sqrt(max(n, 1))

    def score(edge: Edge) -> float:
        q = edge.total / edge.visits if edge.visits else unknown
        return q + scale * float(edge.prior) / (1 + edge.visits)

    return max(node.edges, key=score)


def gumbel_scores(node: Node, config: Gumbel) -> list[float]:
    """log prior + sigma(completed q)."""
    n = sum(edge.visits for edge in node.edges)
    tried = sum(float(edge.prior) for edge in node.edges if edge.visits)
    worth = sum(float(edge.prior) * edge.total / edge.visits for edge in node.edges if edge.visits)
    mixed = (node.own + n * worth / tried) / (1 + n) if n else node.own
    scale = (config.c_visit + max(edge.visits for edge in node.edges)) * config.c_scale
    q = [edge.total / edge.visits if edge.visits else mixed for edge in node.edges]
    return [edge.log_prior + scale * (one + 1) / 2 for edge, one in zip(node.edges, q, strict=True)]


def softmax(scores: list[float]) -> list[float]:
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def gumbel_choice(node: Node, config: Gumbel, gumbels: list[float] | None, simulations: int, at: int) -> Edge:
    scores = gumbel_scores(node, config)
    if gumbels is not None:
        due = halving(min(config.considered, len(node.edges)), simulations)[at]
        ranked = [(score + noise, -i) for i, (score, noise) in enumerate(zip(scores, gumbels, strict=True))]
        return node.edges[-max(rank for rank, edge in zip(ranked, node.edges, strict=True) if edge.visits == due)[1]]
    n = sum(edge.visits for edge in node.edges)
    lag = [share - edge.visits / (1 + n) for share, edge in zip(softmax(scores), node.edges, strict=True)]
    return node.edges[lag.index(max(lag))]


def halving(considered: int, simulations: int) -> list[int]:
    """The visits that an edge must have to be tried, simulation by simulation."""
    if considered <= 1:
        return list(range(simulations))
    schedule: list[int] = []
    phases, left, visits = math.ceil(math.log2(considered)), considered, 0
    while len(schedule) < simulations:
        for _ in range(max(1, simulations // (phases * left))):
            schedule += [visits] * left
            visits += 1
        left = max(2, left // 2)
    return schedule[:simulations]


def visits_of(root: Node) -> list[int]:
    visits = [0] * root.state.game.num_actions
    for edge in root.edges:
        visits[edge.action] = edge.visits
    return visits


def positions(game: Game, number: int, seed: int = 0) -> list[BoardState]:
    """Running positions of random games."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < number:
        state = game.new_state()
        for _ in range(int(rng.integers(game.max_moves))):
            if not state.is_terminal():
                found.append(state)
                state = state.apply(int(rng.choice(state.legal_actions())))
    return [found[i] for i in rng.permutation(len(found))[:number]]


METHODS = [Puct(noise_fraction=0.0), Puct(), Gumbel(considered=4), Gumbel(noise=0.0, c_scale=0.1)]


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("method", METHODS, ids=["puct", "puct with noise", "gumbel", "gumbel without noise"])
def test_visits_equal_those_of_a_plain_python_search(name: str, method: Puct | Gumbel) -> None:
    game = make_game(name)
    for i, state in enumerate(positions(game, 6)):
        stream = np.random.SeedSequence(i).generate_state(1, np.uint64)
        root, gumbels = twin(state, evaluator(game), 60, method, stream)
        result = search(game, [state], evaluator(game), 60, method, seed=i)
        assert result.visits[0].tolist() == visits_of(root)
        if isinstance(method, Puct):
            policy = [edge.visits / 60 for edge in root.edges]
            best = max(root.edges, key=lambda edge: edge.visits)
        else:
            scores, most = gumbel_scores(root, method), max(edge.visits for edge in root.edges)
            policy = softmax(scores)
            ranked = [(s + g if e.visits == most else -math.inf) for s, g, e in zip(scores, gumbels, root.edges, strict=True)]
            best = root.edges[ranked.index(max(ranked))]
        assert result.action[0] == best.action
        np.testing.assert_allclose(result.policy[0, [edge.action for edge in root.edges]], policy, rtol=1e-6)
        assert result.policy[0].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("considered", "simulations", "schedule"),
    [
        (1, 4, [0, 1, 2, 3]),
        (2, 6, [0, 0, 1, 1, 2, 2]),
        (4, 16, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),  # two phases: four edges twice, then two of them four times
        (4, 6, [0, 0, 0, 0, 1, 1]),  # too few simulations for a phase: one visit each all the same
        (8, 10, [0] * 8 + [1, 1]),
        (3, 9, [0, 0, 0, 1, 1, 2, 2, 3, 3]),
    ],
)
def test_sequential_halving_by_hand(considered: int, simulations: int, schedule: list[int]) -> None:
    assert [considered_visits(considered, simulations, at) for at in range(simulations)] == schedule
    assert halving(considered, simulations) == schedule


def test_gumbel_tries_the_best_by_prior_and_noise_and_improves_the_policy() -> None:
    """With few simulations only `considered` moves are tried, and the policy's expected value is better than the prior's."""
    game = make_game("tic_tac_toe")
    states = positions(game, 60, seed=3)
    gain = 0.0
    result = search(game, states, evaluator(game), 8, Gumbel(considered=4), seed=5)
    for b, state in enumerate(states):
        legal = state.legal_actions()
        assert (result.visits[b] > 0).sum() == min(4, len(legal)) or len(legal) < 4
        value = {a: (-1 if state.apply(a).player != state.player else 1) * solve(state.apply(a)) for a in legal}
        ours, prior = (sum(shares[a] * value[a] for a in legal) for shares in (result.policy[b], result.prior[b]))
        gain += ours - prior
        ends = [a for a in legal if state.apply(a).is_terminal() and result.visits[b, a] > 0]
        if any(value[a] == 1 for a in ends):
            assert value[int(result.action[b])] == 1
    assert gain / len(states) > 0.05


def test_gumbel_variates() -> None:
    stream = np.array([99], np.uint64)
    drawn = np.array([gumbel(stream, 0) for _ in range(40_000)])
    assert np.isfinite(drawn).all()
    assert drawn.mean() == pytest.approx(0.5772, abs=0.03)
    assert drawn.var() == pytest.approx(math.pi**2 / 6, rel=0.04)


@pytest.mark.parametrize("name", GAMES)
def test_results_do_not_depend_on_the_batch(name: str) -> None:
    game = make_game(name)
    states = positions(game, 7)
    together = search(game, states, evaluator(game), 50)
    order = [3, 0, 6, 2, 5, 1, 4]
    shuffled = search(game, [states[i] for i in order], evaluator(game), 50)
    for b, state in enumerate(states):
        alone = search(game, [state], evaluator(game), 50)
        for other, at in ((together, b), (shuffled, order.index(b))):
            assert np.array_equal(other.visits[at], alone.visits[0])
            assert other.value[at] == alone.value[0]
            assert other.variations[at] == alone.variations[0]


@pytest.mark.parametrize("name", GAMES)
def test_invariants(name: str) -> None:
    game = make_game(name)
    states = positions(game, 5, seed=1)
    calls: list[int] = []
    result = search(game, states, evaluator(game, calls), 80, Puct())
    assert result.visits.sum(1).tolist() == [80] * 5
    assert calls[0] == 5  # the roots, in one batch
    assert sum(calls) <= 5 * 81
    for b, state in enumerate(states):
        legal = state.legal_actions()
        illegal = [action for action in range(game.num_actions) if action not in legal]
        assert not result.visits[b, illegal].any()
        assert not result.prior[b, illegal].any()
        assert result.prior[b].sum() == pytest.approx(1, abs=1e-5)
        assert -1 <= result.value[b] <= 1
        line = state
        for action in result.variations[b]:
            line = line.apply(action)  # raises if illegal
        assert result.variations[b][0] == result.visits[b].argmax()


@cache
def solve(state: BoardState) -> float:
    """Value to the player to move."""
    if state.is_terminal():
        return state.returns()[state.player]
    best = -1.0
    for action in state.legal_actions():
        after = state.apply(action)
        value = solve(after)
        best = max(best, value if after.player == state.player else -value)
    return best


@pytest.mark.integration
def test_tic_tac_toe_is_solved_from_every_position() -> None:
    game = make_game("tic_tac_toe")
    todo, known = [game.new_state()], {game.new_state()}
    while todo:
        state = todo.pop()
        for action in state.legal_actions():
            after = state.apply(action)
            if after not in known and not after.is_terminal():
                known.add(after)
                todo.append(after)
    states = sorted(known, key=str)
    assert len(states) == 4520
    for begin in range(0, len(states), 200):
        some = states[begin : begin + 200]
        for state, visits in zip(some, search(game, some, uniform_evaluator(game), 3000).visits, strict=True):
            after = state.apply(int(visits.argmax()))
            assert -solve(after) == solve(state), f"\n{state}\n{visits}"


def test_a_win_in_one_is_found_and_a_threat_is_met() -> None:
    game, empty = make_game("connect_four"), ["......."] * 4
    win = game.parse_state("\n".join([*empty, "oo.....", "xxx.o.."]))
    threat = game.parse_state("\n".join([*empty, "oo.....", "xxx...."]))
    result = search(game, [win, threat], uniform_evaluator(game), 400)
    assert result.visits.argmax(1).tolist() == [3, 3]
    assert result.value[0] > 0.8
    assert abs(result.value[1]) < 0.2


def test_a_player_who_moves_twice_keeps_the_sign() -> None:
    """White must pass, then Black moves again and wins: values belong to players, not to depths."""
    game = make_game("othello", size=4)
    state = game.parse_state("xxxx\nxxxx\nxxxo\nxxx.\no to play")
    result = search(game, [state], uniform_evaluator(game), 30)
    assert state.legal_actions() == [16]
    assert search(game, [state], uniform_evaluator(game), 30, solve=True).value[0] == -1
    assert result.variations[0] == [16, 15]
    assert result.value[0] == pytest.approx(-29 / 30)  # the first simulation ends at a leaf with the value 0


def test_noise_is_dirichlet_and_each_trees_own() -> None:
    game = make_game("connect_four")
    state = game.new_state()
    puct = Puct(noise_fraction=1.0, noise_total=7.0)
    noise = search(game, [state] * 4000, uniform_evaluator(game), 1, puct, seed=3).prior  # [B,7] Dirichlet(1,..,1)
    assert np.allclose(noise.sum(1), 1, atol=1e-5)
    assert np.allclose(noise.mean(0), 1 / 7, atol=0.01)
    assert np.allclose(noise.var(0), (1 / 7) * (6 / 7) / 8, rtol=0.1)
    assert len(np.unique(noise[:, 0])) == 4000
    same = search(game, [state] * 4000, uniform_evaluator(game), 1, puct, seed=3).prior
    assert np.array_equal(noise, same)
    assert not np.array_equal(noise, search(game, [state] * 4000, uniform_evaluator(game), 1, puct, seed=4).prior)


def test_forced_playouts_and_their_removal() -> None:
    """Every tried move gets sqrt(k P n) visits; the policy keeps as many as PUCT needs to prefer the best move, and no single ones.

    The evaluator likes only one thing: to have the lowest disc of the first column.
    """
    game = make_game("connect_four")

    def evaluate(rows: Any, keys: Any) -> Any:
        planes = np.stack([BoardState(game, row).observation() for row in rows])  # [n,C,6,7]
        lowest = planes[:, :2, -1, 0].astype(np.float32)
        return np.zeros((len(rows), 7), np.float32), 0.9 * (lowest[:, 0] - lowest[:, 1])

    states = [game.new_state()]
    plain = search(game, states, evaluate, 400, Puct(noise_fraction=0.0))
    forced = search(game, states, evaluate, 400, Puct(noise_fraction=0.0, forced=2.0))
    assert (forced.visits[0] >= np.floor(np.sqrt(2 * 399 / 7)) - 1).all()  # 399 visits, and a prior of 1/7 for each
    assert forced.visits[0].min() > plain.visits[0].min()
    assert forced.action[0] == forced.visits[0].argmax() == 0
    assert forced.policy.sum() == pytest.approx(1)
    assert forced.policy[0, 1:].sum() < 0.5 * forced.visits[0, 1:].sum() / 400


def test_bad_moves_that_gumbel_had_to_try_do_not_lower_the_value() -> None:
    """Whoever has the lowest disc of the first column will win: sequential halving tries the other moves, too."""
    game = make_game("connect_four")

    def evaluate(rows: Any, keys: Any) -> Any:
        planes = np.stack([BoardState(game, row).observation() for row in rows])  # [n,C,6,7]
        lowest = planes[:, :2, -1, 0].astype(np.float32)
        return np.zeros((len(rows), 7), np.float32), 0.9 * (lowest[:, 0] - lowest[:, 1])

    for method, least, most in ((Gumbel(noise=0.0, considered=7), 0.85, 0.9), (Puct(noise_fraction=0.0), 0.3, 0.85)):
        found = search(game, [game.new_state()], evaluate, 28, method)
        assert found.action[0] == 0
        assert least < found.value[0] <= most + 1e-6
    assert search(game, [game.new_state()], evaluate, 1, Gumbel(noise=0.0)).value[0] <= 0.9


@pytest.mark.parametrize("shape", [0.03, 0.3, 1.0, 4.5])
def test_gamma_variates(shape: float) -> None:
    stream = np.array([12345], np.uint64)
    drawn = np.array([gamma(stream, 0, shape) for _ in range(40_000)])
    assert drawn.mean() == pytest.approx(shape, rel=0.08 if shape < 0.1 else 0.02)
    assert drawn.var() == pytest.approx(shape, rel=0.2 if shape < 0.1 else 0.06)


def test_uniform_numbers() -> None:
    stream = np.array([7], np.uint64)
    drawn = np.array([uniform(stream, 0) for _ in range(40_000)])
    assert (drawn >= 0).all()
    assert (drawn < 1).all()
    counts = np.histogram(drawn, 20, (0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 43.8  # chi-square, 19 degrees of freedom, 0.1%


@pytest.mark.parametrize("method", [Puct(noise_fraction=0.0), Gumbel(noise=0.0)], ids=["puct", "gumbel"])
def test_the_solver_proves_what_is_true(method: Puct | Gumbel) -> None:
    """Whatever the net says, a proven value is that of perfect play and the move keeps it, within the same simulations."""
    game = make_game("tic_tac_toe")
    states = positions(game, 120, seed=7)
    result = search(game, states, evaluator(game), 2000, method, solve=True)
    plain = search(game, states, evaluator(game), 2000, method)
    assert result.proven.mean() > 0.25
    assert not plain.proven.any()
    for b, state in enumerate(states):
        if result.proven[b]:
            assert result.value[b] == solve(state)
            after = state.apply(int(result.action[b]))
            assert -solve(after) == solve(state)
            assert result.visits[b].sum() <= 2000
            kept = [a for a in state.legal_actions() if -solve(state.apply(a)) == solve(state)]
            assert result.policy[b, kept].sum() == pytest.approx(1)
        else:
            assert result.visits[b].sum() == 2000


def test_a_proof_takes_few_simulations() -> None:
    """A win in one, and a position that loses in two whatever is played, are proven with few simulations."""
    game = make_game("tic_tac_toe")
    win, lost = game.parse_state("xx.\noo.\n..."), game.parse_state("x.x\n.o.\nx.o")
    assert [solve(win), solve(lost)] == [1.0, -1.0]
    result = search(game, [win, lost], uniform_evaluator(game), 1000, solve=True)
    assert result.proven.all()
    assert result.value.tolist() == [1.0, -1.0]
    assert result.action[0] == 2
    assert result.visits[0].sum() <= 5
    assert result.visits[1].sum() < 100


@pytest.mark.parametrize("method", [Puct(noise_fraction=0.0), Gumbel(noise=0.0, considered=3)], ids=["puct", "gumbel"])
def test_a_move_that_is_proven_lost_is_not_played(method: Puct | Gumbel) -> None:
    """A net prefers a move that loses at once: it is visited, proven lost and not played; the root is not proven."""
    game = make_game("connect_four")
    threat = game.parse_state("\n".join([*["......."] * 4, "x......", "oo.o.xx"]))  # x must play c

    def likes(action: int) -> Evaluate:
        def evaluate(rows: Any, keys: Any) -> Any:
            logits = np.zeros((len(rows), 7), np.float32)
            logits[(rows == threat.row).all(1), action] = 6  # only there
            return logits, np.zeros(len(rows), np.float32)

        return evaluate

    assert threat.player == 0
    for losing in (1, 4, 6):
        found = search(game, [threat], likes(losing), 60, method, solve=True)
        plain = search(game, [threat], likes(losing), 60, method)
        assert not found.proven[0]
        assert plain.policy[0, losing] > 0
        assert found.visits[0, losing] > 0
        assert found.action[0] != losing
        assert found.policy[0, losing] == 0
        assert found.policy[0].sum() == pytest.approx(1)


@pytest.mark.parametrize("method", [Puct(noise_fraction=0.0), Gumbel(noise=0.0)], ids=["puct", "gumbel"])
@pytest.mark.parametrize("leaves", [2, 8])
def test_several_leaves_of_a_tree_at_once(leaves: int, method: Puct | Gumbel) -> None:
    """Batches are fewer and larger, every simulation counts, virtual losses are undone, and good moves are still found."""
    game = make_game("tic_tac_toe")
    states, calls = positions(game, 40, seed=4), list[int]()
    result = search(game, states[:1], evaluator(game, calls), 100, method, leaves=leaves)
    assert result.visits.sum() == 100
    single: list[int] = []
    search(game, states[:1], evaluator(game, single), 100, method)
    assert len(calls) < len(single)
    assert max(calls) > 1
    found = search(game, states, uniform_evaluator(game), 1500, method, leaves=leaves)
    assert found.visits.sum(1).tolist() == [1500] * 40
    assert (np.abs(found.value) <= 1).all()
    right = [-solve(state.apply(int(action))) == solve(state) for state, action in zip(states, found.action, strict=True)]
    assert np.mean(right) >= 0.9


def test_actions_are_chosen_by_a_search_or_without_one() -> None:
    """Without simulations: the legal action with the largest logit, of which the occupied centre has the largest."""
    game = make_game("tic_tac_toe")
    rows = np.stack([game.new_state().row, game.new_state().apply(4).row])

    def likes(rows: Any, keys: Any) -> Any:
        return np.tile(np.array([0, 1, 0, 0, 2, 0, 0, 0, 0], np.float32), (len(rows), 1)), np.zeros(len(rows), np.float32)

    assert choose_actions(game, rows, likes, 0, Puct(noise_fraction=0.0)).tolist() == [4, 1]
    method = Gumbel()
    searched = search_rows(game, rows, likes, 40, method, 3, solve=True).action
    assert np.array_equal(choose_actions(game, rows, likes, 40, method, 3, solve=True), searched)


def test_a_position_that_cannot_be_searched_is_refused() -> None:
    game = make_game("tic_tac_toe")
    over = game.parse_state("xxx\noo.\n...")
    with pytest.raises(UsageError, match="needs at least 1"):
        search(game, [game.new_state()], uniform_evaluator(game), 0)
    with pytest.raises(UsageError, match="the game is over"):
        search(game, [over], uniform_evaluator(game), 10)
    with pytest.raises(UsageError, match="a position of hex"):
        search(game, [make_game("hex", size=3).new_state()], uniform_evaluator(game), 10)
    with pytest.raises(UsageError, match="leaves = 0"):
        search(game, [game.new_state()], uniform_evaluator(game), 10, leaves=0)


class Agent:
    """The part of what `rlsuite.load` returns that a search uses."""

    def __init__(self, evaluate: Evaluate, method: Puct | Gumbel):
        self.evaluator = lambda game: (evaluate, method)


@pytest.mark.parametrize("method", [Puct(noise_fraction=0.0), Gumbel(noise=0.0)], ids=["puct", "gumbel"])
def test_a_searcher_keeps_the_tree_below_the_moves(method: Puct | Gumbel) -> None:
    game = make_game("othello(size=4)")
    state, kept = game.new_state(), None
    searcher = Searcher(game, Agent(evaluator(game), method), simulations=60, leaves=1, solve=False)
    evaluate, inherited = evaluator(game), 0
    while not state.is_terminal():
        if kept is not None and not kept.edges:
            kept = None  # it was never evaluated
        inherited += sum(edge.visits for edge in kept.edges) if kept else 0
        root, _ = twin(state, evaluate, 60, method, None, kept)
        found = searcher.search(state)
        assert {edge.action: edge.visits for edge in root.edges} == {a: found.visits[a] for a in state.legal_actions()}
        assert found.visits.sum() == 60
        best = max(root.edges, key=lambda edge: edge.visits)
        kept, state = best.child, state.apply(best.action)
        if kept is not None and kept.edges and len(kept.edges) > 1 and not state.is_terminal():  # a reply with few visits
            reply = min((edge for edge in kept.edges if edge.visits), key=lambda edge: edge.visits, default=None)
            if reply is not None:
                kept, state = reply.child, state.apply(reply.action)
    assert inherited > 40  # visits that were not searched again


def test_a_searcher_starts_afresh_in_an_unrelated_position() -> None:
    game = make_game("tic_tac_toe")
    searcher = Searcher(game, "uniform", simulations=50)
    far = game.parse_state("xo.\n.x.\n..o")
    first = searcher.search(far)
    assert np.array_equal(searcher.search(far).visits, first.visits)
    again = searcher.search(game.new_state())
    fresh = Searcher(game, "uniform", simulations=50).search(game.new_state())
    assert np.array_equal(again.visits, fresh.visits)
    with pytest.raises(UsageError, match="the game is over"):
        searcher.search(game.parse_state("xxx\noo.\n..."))
    with pytest.raises(UsageError, match="simulations = 0"):
        Searcher(game, "uniform", simulations=0)


def test_a_search_in_several_calls_finds_what_a_single_one_finds() -> None:
    """Sequential halving has a schedule for a number of simulations; a search continued beyond it still makes sense."""
    game = make_game("connect_four")
    state = game.parse_state("\n".join([*["......."] * 4, "oo.....", "xxx.o.."]))  # d wins
    logits = np.zeros(7, np.float32)

    class Agent:
        def evaluator(self, game: Game) -> Any:
            plain = rollout_evaluator(game)
            return (lambda rows, keys: (np.tile(logits, (len(rows), 1)), plain(rows, keys)[1])), Gumbel(noise=0.0)

    searcher = Searcher(game, Agent(), 256, solve=False)
    for budget in (32, 64, 128, 256):
        found = searcher.search(state, budget)
        assert found.visits.sum() >= budget
        assert found.action == 3
    assert found.visits.argmax() == 3


@pytest.mark.parametrize("method", [Puct(noise_fraction=0.0), Gumbel(noise=0.0)], ids=["puct", "gumbel"])
def test_a_search_made_step_by_step_is_the_same_search(method: Puct | Gumbel) -> None:
    """Pauses change nothing, also for Gumbel's halving, which is told how many simulations there will be."""
    game = make_game("tic_tac_toe")
    whole, pieces = (Searcher(game, Method(evaluator(game), method), 90, leaves=1) for _ in range(2))
    found = whole.search(game.new_state())
    pieces.begin(game.new_state())
    while pieces.step(7):
        pass
    assert pieces.found().visits.tolist() == found.visits.tolist()
    assert (pieces.made, pieces.done) == (90, 90)


def test_gumbel_goes_on_by_the_improved_policy_where_its_plan_ends() -> None:
    game, method = make_game("tic_tac_toe"), Gumbel(noise=0.0, considered=4)
    searcher = Searcher(game, Method(evaluator(game), method), 200, leaves=1)
    searcher.begin(game.new_state(), planned=8)
    while searcher.done < 8:
        searcher.step(1)
    assert sorted(searcher.found().visits.tolist()) == [0] * 5 + [1, 1, 3, 3]  # halving: four actions once, then two of them twice
    while searcher.step():
        pass
    assert searcher.done == 200


def test_a_proven_line_is_the_shortest_against_the_longest_defence() -> None:
    game = make_game("tic_tac_toe")
    searcher = Searcher(game, "uniform", 3000)
    state = game.parse_state("x.x\n.o.\nx.o")  # o to move and lost
    searcher.search(state)
    assert len(searcher.forced()) == 2
    searcher.search(game.parse_state("xx.\noo.\n..."))
    assert searcher.forced() == [2]
    searcher.search(game.new_state(), 50)
    assert searcher.forced() == []


class Method:
    """An evaluator that is searched by a method."""

    def __init__(self, evaluate: Evaluate, method: Puct | Gumbel):
        self.pair = evaluate, method

    def evaluator(self, game: Game) -> tuple[Evaluate, Puct | Gumbel]:
        return self.pair


def test_records_have_no_padding() -> None:
    """Its bytes would be undefined, and states of runs are compared and saved as they are."""
    for record in (NODE, EDGE, SLOT, TICKET):
        assert record.names is not None
        assert record.itemsize == sum(record[name].itemsize for name in record.names)
