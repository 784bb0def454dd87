"""Agents on every kind of space: one-step bandits over random spaces, whose best action is known."""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as sp

import rlsuite

sys.path.append(str(Path(__file__).parents[1] / "core"))
from test_spaces import random_actions, random_observations

QUICK: dict[str, Any] = {
    "run.threads": 1,
    "run.agent_steps": 3000,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
    "eval.episodes": 10,
    "net.hidden": 32,
}
AGENTS: dict[str, dict[str, Any]] = {
    "dqn": {"replay.samples_per_insert": 8, "replay.min_agent_steps": 500, "agent.epsilon_decay_agent_steps": 2000},
    "r2d2": {"agent.burn_in": 0, "agent.unroll": 2, "agent.stride": 2, "agent.n_steps": 1, "replay.min_agent_steps": 500},
    "ppo": {"run.agent_steps": 24_000},
}
R2D2 = """
agent: {name: r2d2, epsilon_ladder: false, epsilon_decay_agent_steps: 2000, epsilon_end: 0.05, epsilon_eval: 0.0, reward_clip: null}
env: {id: placeholder, num_envs: 8}
net: {torso: mlp, hidden: 32, memory: lstm, memory_size: 16}
replay: {capacity_agent_steps: 5000, samples_per_insert: 8}
learner: {batch_size: 32, learning_rate: 1e-3, optimizer_epsilon: 1e-8, target_period_learner_steps: 50}
run: {collect_agent_steps: 4}
"""


class Bandit(gymnasium.Env[Any, Any]):
    """Episodes of one step. The reward is 1 for the best action, and falls with the distance from it in a Box."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, seed: int, discrete: bool, render_mode: str | None = None):
        rng = np.random.default_rng(seed)
        self.observation_space, self.action_space = random_observations(rng), random_actions(rng)
        while isinstance(self.action_space, sp.Discrete) != discrete or np.prod(self.action_space.shape or 1) > 8:
            self.action_space = random_actions(rng)
        self.observation_space.seed(seed)
        self.action_space.seed(seed)
        self.best = self.action_space.sample()
        if isinstance(self.action_space, sp.Box):
            low, high = (np.asarray(bound, np.float64) for bound in (self.action_space.low, self.action_space.high))
            bounded = self.action_space.bounded_below & self.action_space.bounded_above
            self.span = np.where(bounded & (high > low), high / 2 - low / 2, 1.0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if isinstance(self.action_space, sp.Discrete):
            assert self.action_space.contains(np.int64(action))
            reward = float(action == self.best)
        else:
            assert self.action_space.contains(action), (action, self.action_space)
            away = np.abs(np.asarray(action, np.float64) - np.asarray(self.best, np.float64)) / self.span
            reward = 1.0 - float(np.minimum(away, 2.0).mean())
        return self.observation_space.sample(), reward, True, False, {}


def check(name: str, seed: int, tmp_path: Path) -> None:
    """Trains on a random bandit; the best action must be found, in evaluation and in a loop of one's own."""
    discrete = name != "ppo" or seed % 2 == 0
    if "Spaces-v0" not in gymnasium.registry:
        gymnasium.register("Spaces-v0", Bandit)
    config = tmp_path / "r2d2.yaml"
    config.write_text(R2D2)
    kwargs = {"env.id": "Spaces-v0", "env.kwargs": {"seed": seed, "discrete": discrete}}
    overrides = {**QUICK, **AGENTS[name], **kwargs, "agent.discount": 0.0}
    overrides |= {} if discrete else {"run.agent_steps": 48_000}
    base = {"r2d2": str(config), "ppo": "classic/ppo" if discrete else "classic/pendulum_ppo"}.get(name, "classic/dqn")
    result = rlsuite.train(base, overrides, run_dir=tmp_path / "run")
    bandit = Bandit(seed, discrete)
    by_chance = np.mean([bandit.step(bandit.action_space.sample())[1] for _ in range(200)])
    good = 0.9 if discrete else by_chance + 0.5 * (1 - by_chance)
    assert result.evaluation.mean >= good, (name, seed, Bandit(seed, discrete).action_space)

    agent, env = rlsuite.load(result.run), Bandit(seed, discrete)
    state, rewards = agent.initial_state(1), []
    for _ in range(10):
        observation, _ = env.reset()
        action, state = agent.act(np.asarray(observation)[None], state, first=np.ones(1, bool))
        rewards.append(env.step(action[0])[1])
    assert np.mean(rewards) >= good


@pytest.mark.integration
@pytest.mark.parametrize("name", list(AGENTS))
@pytest.mark.parametrize("seed", range(2))
def test_a_bandit_on_a_random_space_is_solved(name: str, seed: int, tmp_path: Path) -> None:
    check(name, seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 200))
def test_bandits_on_200_random_spaces_are_solved(seed: int, tmp_path: Path) -> None:
    check(list(AGENTS)[seed % 3], seed // 3 if seed % 3 == 2 else seed, tmp_path)
