"""The shipped classic configs learn as they promise: CartPole to its limit, and the lake against dynamic programming.

Shapes: S states, A actions.
"""

from functools import cache
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

import rlsuite
from rlsuite.core.game import BoardState

pytestmark = pytest.mark.slow

CARTPOLE = [
    "dqn",
    "double_dqn",
    "dueling_dqn",
    "noisy_dqn",
    "prioritized_dqn",
    "c51",
    "qrdqn",
    "iqn",
    "rainbow",
]
ON_POLICY = ["reinforce", "a2c", "ppo", "impala", "pqn"]
DISCOUNT = 0.99


@pytest.mark.parametrize("name", CARTPOLE)
def test_solves_cartpole(name: str, tmp_path: Path) -> None:
    result = rlsuite.train(f"classic/{name}", {"seed": 1}, run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.episodes == 20
    assert result.evaluation.mean >= 475


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", ON_POLICY)
def test_on_policy_agents_solve_cartpole(name: str, seed: int, tmp_path: Path) -> None:
    result = rlsuite.train(f"classic/{name}", {"seed": seed}, run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.mean >= 475


@pytest.mark.parametrize("lag", [4, 16, 32])
def test_impala_solves_cartpole_with_old_weights(lag: int, tmp_path: Path) -> None:
    overrides = {"seed": 1, "run.policy_lag_learner_steps": lag}
    result = rlsuite.train("classic/impala", overrides, run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.mean >= 475


def test_alphazeros_net_alone_plays_tic_tac_toe_perfectly(tmp_path: Path) -> None:
    """In each of the 4,520 running positions that the rules can reach."""
    run = rlsuite.train("boards/tic_tac_toe", {"seed": 1}, run_dir=tmp_path / "run").run
    game = rlsuite.make_game("tic_tac_toe")
    known = {game.new_state()}
    todo = list(known)
    while todo:
        state = todo.pop()
        new = {state.apply(action) for action in state.legal_actions()} - known
        known |= new
        todo += [after for after in new if not after.is_terminal()]
    running = sorted((state for state in known if not state.is_terminal()), key=str)
    assert len(known) == 5478
    evaluate, _ = rlsuite.load(run).evaluator(game)
    rows = np.stack([state.row for state in running])
    logits, _ = evaluate(rows, np.array([game.rules.hash(row) for row in rows], np.uint64))
    for state, scores in zip(running, logits, strict=True):
        action = max(state.legal_actions(), key=lambda one: scores[one])
        assert -worth(state.apply(action)) == worth(state), f"\n{state}\nplays {action}"


@cache
def worth(state: BoardState) -> float:
    """The value of a position under perfect play, for the player to move."""
    if state.is_terminal():
        return state.returns()[state.player]
    return max(-worth(state.apply(action)) for action in state.legal_actions())


def test_only_a_memory_solves_recall(tmp_path: Path) -> None:
    with_memory = rlsuite.train("classic/recall_ppo", {"seed": 1}, run_dir=tmp_path / "lstm")
    without = rlsuite.train("classic/recall_ppo", {"seed": 1, "net.memory": "none"}, run_dir=tmp_path / "none")
    assert with_memory.evaluation is not None
    assert without.evaluation is not None
    assert with_memory.evaluation.mean >= 0.95
    assert without.evaluation.mean <= 0.4  # chance is 0 ± 0.1 over 100 games


def test_ppo_swings_the_pendulum_up(tmp_path: Path) -> None:
    result = rlsuite.train("classic/pendulum_ppo", {"seed": 1}, run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.mean >= -250


def lake(slippery: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Transition probabilities [S,A,S], without those that end the episode, and expected rewards [S,A]."""
    env = gymnasium.make("FrozenLake-v1", is_slippery=slippery)
    model = env.unwrapped.P  # type: ignore[attr-defined]
    states, actions = len(model), len(model[0])
    going, reward = np.zeros((states, actions, states)), np.zeros((states, actions))
    for s in range(states):
        for a in range(actions):
            for probability, next_state, r, ended in model[s][a]:
                reward[s, a] += probability * r
                going[s, a, next_state] += 0.0 if ended else probability
    return going, reward


def optimal_q(going: NDArray[np.float64], reward: NDArray[np.float64]) -> NDArray[np.float64]:
    """Q* [S,A] by value iteration."""
    q = np.zeros_like(reward)
    for _ in range(10_000):
        new = reward + DISCOUNT * going @ q.max(1)
        if np.abs(new - q).max() < 1e-12:
            return new
        q = new
    raise AssertionError("value iteration did not converge")


def greedy_policy(slippery: bool, run_dir: Path) -> NDArray[np.int64]:
    """The trained agent's action in every state, [S]."""
    overrides = {"seed": 1, "agent.discount": DISCOUNT, "env.kwargs.is_slippery": slippery}
    result = rlsuite.train("classic/q_learning", overrides, run_dir=run_dir)
    action, _ = rlsuite.load(result.run).act(np.arange(16))
    return action


def test_q_learning_is_optimal_in_every_state_it_reaches(tmp_path: Path) -> None:
    going, reward = lake(slippery=False)
    best = optimal_q(going, reward)  # [S,A]
    policy = greedy_policy(False, tmp_path / "run")
    reached, frontier = {0}, [0]
    while frontier:
        s = frontier.pop()
        new = {int(n) for n in np.flatnonzero(going[s, policy[s]])} - reached
        reached |= new
        frontier += new
    assert len(reached) == 6, "the shortest way to the goal has six states before it"
    for s in reached:  # several actions may be equally good
        assert best[s, policy[s]] == pytest.approx(best[s].max(), abs=1e-9), s


def test_q_learning_on_the_slippery_lake_is_nearly_optimal(tmp_path: Path) -> None:
    going, reward = lake(slippery=True)
    policy = greedy_policy(True, tmp_path / "run")
    rows = np.arange(len(policy))
    # V = r + γ P V, solved exactly for the policy that was learned.
    value = np.linalg.solve(np.eye(len(policy)) - DISCOUNT * going[rows, policy], reward[rows, policy])  # [S]
    assert value[0] >= 0.95 * optimal_q(going, reward)[0].max()
