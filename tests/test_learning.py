"""The shipped classic configs learn what they promise: CartPole to its limit, and the lake against dynamic programming.

Shapes: S states, A actions.
"""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

import rlsuite

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
POLICY_GRADIENT = ["reinforce", "a2c", "ppo", "impala"]
DISCOUNT = 0.99


@pytest.mark.parametrize("name", CARTPOLE)
def test_solves_cartpole(name: str, tmp_path: Path) -> None:
    result = rlsuite.train(f"classic/{name}", {"seed": 1}, run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.episodes == 20
    assert result.evaluation.mean >= 475


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", POLICY_GRADIENT)
def test_policy_gradient_solves_cartpole(name: str, seed: int, tmp_path: Path) -> None:
    result = rlsuite.train(f"classic/{name}", {"seed": seed}, run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.mean >= 475


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
    """-> transitions [S,A,S] that go on, and expected rewards [S,A]; what ends an episode goes nowhere."""
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
    """[S]: what the trained agent does in every state."""
    overrides = {"seed": 1, "agent.discount": DISCOUNT, "env.kwargs.is_slippery": slippery}
    result = rlsuite.train("classic/q_learning", overrides, run_dir=run_dir)
    action, _ = rlsuite.load(result.run).act(np.arange(16))
    return action


def test_q_learning_is_optimal_wherever_it_comes(tmp_path: Path) -> None:
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
