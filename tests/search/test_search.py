"""The search against a plain Python twin, against solved games, and its invariants."""

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest

from rlsuite.envs.boards import make_game
from rlsuite.envs.boards.game import BoardState, Game
from rlsuite.errors import UsageError
from rlsuite.search import Puct, search, uniform_evaluator
from rlsuite.search.search import Evaluate
from rlsuite.search.tree import gamma, uniform

GAMES = ["tic_tac_toe", "connect_four", "othello(size=4)", "hex(size=4)", "go(size=3)"]


def opinions(game: Game, calls: list[int] | None = None) -> Evaluate:
    """An evaluator with firm views that depend on the planes of a position alone."""

    def evaluate(planes: Any) -> Any:
        if calls is not None:
            calls.append(len(planes))
        logits, values = [], []
        for one in planes:
            rng = np.random.default_rng(np.frombuffer(one.tobytes(), np.uint8))
            logits.append(rng.normal(size=game.num_actions))
            values.append(rng.uniform(-1, 1))
        return np.array(logits, np.float32), np.array(values, np.float32)

    return evaluate


@dataclass
class Edge:
    action: int
    prior: float
    visits: int = 0
    total: float = 0.0
    child: "Node | None" = None


@dataclass
class Node:
    state: BoardState
    value: float = 0.0  # to player 0
    edges: list[Edge] = field(default_factory=list)


def twin(state: BoardState, evaluate: Evaluate, simulations: int, puct: Puct, rng: Any = None) -> list[int]:
    """The same search with objects and recursion's simplicity -> visits by action."""

    def expand(node: Node) -> float:
        logits, values = evaluate(node.state.observation()[None])
        legal = node.state.legal_actions()
        weights = [math.exp(float(logits[0, action]) - max(float(logits[0, a]) for a in legal)) for action in legal]
        node.edges = [Edge(action, np.float32(weight / sum(weights))) for action, weight in zip(legal, weights, strict=True)]
        node.value = float(values[0]) if node.state.player == 0 else -float(values[0])
        return node.value

    def choose(node: Node) -> Edge:
        sign, n = (1 if node.state.player == 0 else -1), sum(edge.visits for edge in node.edges)
        tried = sum(float(edge.prior) for edge in node.edges if edge.visits)
        mean = (sign * node.value + sum(edge.total for edge in node.edges)) / (1 + n)
        unknown = mean - puct.fpu_reduction * math.sqrt(tried)
        scale = (puct.c_init + math.log((1 + n + puct.c_base) / puct.c_base)) * math.sqrt(max(n, 1))

        def score(edge: Edge) -> float:
            q = edge.total / edge.visits if edge.visits else unknown
            return q + scale * float(edge.prior) / (1 + edge.visits)

        return max(node.edges, key=score)

    root = Node(state)
    expand(root)
    if puct.noise_fraction:
        noise = [gamma(rng, 0, puct.noise_total / len(root.edges)) for _ in root.edges]
        for edge, one in zip(root.edges, noise, strict=True):
            edge.prior = np.float32((1 - puct.noise_fraction) * edge.prior + puct.noise_fraction * one / sum(noise))
    for _ in range(simulations):
        node, path = root, []
        while node.edges:
            edge = choose(node)
            path.append((node, edge))
            edge.child = edge.child or Node(node.state.apply(edge.action))
            node = edge.child
        value = node.state.returns()[0] if node.state.is_terminal() else expand(node)
        for parent, edge in path:
            edge.visits += 1
            edge.total += value if parent.state.player == 0 else -value
    visits = [0] * state.game.num_actions
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


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_visits_equal_those_of_a_plain_python_search(name: str, noise: float) -> None:
    game = make_game(name)
    puct = Puct(noise_fraction=noise)
    for i, state in enumerate(positions(game, 6)):
        stream = np.random.SeedSequence(i).generate_state(1, np.uint64)
        expected = twin(state, opinions(game), 60, puct, stream)
        assert search(game, [state], opinions(game), 60, puct, seed=i).visits[0].tolist() == expected


@pytest.mark.parametrize("name", GAMES)
def test_neighbours_in_a_batch_change_nothing(name: str) -> None:
    game = make_game(name)
    states = positions(game, 7)
    together = search(game, states, opinions(game), 50)
    order = [3, 0, 6, 2, 5, 1, 4]
    shuffled = search(game, [states[i] for i in order], opinions(game), 50)
    for b, state in enumerate(states):
        alone = search(game, [state], opinions(game), 50)
        for other, at in ((together, b), (shuffled, order.index(b))):
            assert np.array_equal(other.visits[at], alone.visits[0])
            assert other.value[at] == alone.value[0]
            assert other.variations[at] == alone.variations[0]


@pytest.mark.parametrize("name", GAMES)
def test_invariants(name: str) -> None:
    game = make_game(name)
    states = positions(game, 5, seed=1)
    calls: list[int] = []
    result = search(game, states, opinions(game, calls), 80, Puct())
    assert result.visits.sum(1).tolist() == [80] * 5
    assert calls[0] == 5  # the roots, all in one batch
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
            line = line.apply(action)  # legal all along
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
    """White must pass, so that Black moves again and wins: values belong to players, not to depths."""
    game = make_game("othello", size=4)
    state = game.parse_state("xxxx\nxxxx\nxxxo\nxxx.\no to play")
    result = search(game, [state], uniform_evaluator(game), 30)
    assert state.legal_actions() == [16]
    assert result.variations[0] == [16, 15]
    assert result.value[0] == pytest.approx(-29 / 30)  # the first simulation ends at a leaf that is held even


def test_noise_is_dirichlet_and_own_to_a_tree() -> None:
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


def test_what_cannot_be_searched_is_refused() -> None:
    game = make_game("tic_tac_toe")
    over = game.parse_state("xxx\noo.\n...")
    with pytest.raises(UsageError, match="needs at least 1"):
        search(game, [game.new_state()], uniform_evaluator(game), 0)
    with pytest.raises(UsageError, match="the game is over"):
        search(game, [over], uniform_evaluator(game), 10)
    with pytest.raises(UsageError, match="a position of hex"):
        search(game, [make_game("hex", size=3).new_state()], uniform_evaluator(game), 10)
