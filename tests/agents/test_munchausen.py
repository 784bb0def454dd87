"""Munchausen targets by hand, with masks, for DQN and its distributional kin; and what excludes them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlsuite.agents.distributional import QRDQN, QRDQNConfig
from rlsuite.agents.dqn import DQN
from rlsuite.agents.value_based import ValueConfig
from rlsuite.config.loader import resolve
from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import UsageError
from rlsuite.core.masks import KEY
from rlsuite.core.types import EnvSpec, State, Step, Trajectory
from rlsuite.factories import build

ALPHA, TAU, CLIP, GAMMA, REWARD = 0.5, 2.0, -1.0, 0.5, 7.0
SPEC = EnvSpec((), "int64", 3, num_states=2, stack=1, frames_per_step=1)
TARGET = [[4.0, 1.0, 6.0], [1.0, 3.0, 2.0]]
SETTINGS: dict[str, Any] = {
    "discount": GAMMA,
    "reward_clip": None,
    "munchausen": True,
    "munchausen_scale": ALPHA,
    "munchausen_temperature": TAU,
    "munchausen_clip": CLIP,
}


class Table(nn.Module):
    """Observations [T,B] are row numbers; values [T,B,A,N], the same for all N but for `spread`."""

    def __init__(self, rows: list[list[float]], spread: tuple[float, ...] = (0.0,)):
        super().__init__()
        self.rows, self.spread = torch.tensor(rows), torch.tensor(spread)

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        return self.rows[step.observation].unsqueeze(-1) + self.spread, state


def trajectory(action: int, masks: list[list[bool]] | None = None, terminal: bool = False) -> Trajectory:
    no = torch.zeros(2, 1, dtype=torch.bool)
    ends = torch.tensor([[False], [terminal]])
    extras = {} if masks is None else {KEY: torch.tensor(masks)[:, None]}
    reward = torch.tensor([[0.0], [REWARD]])
    return Trajectory(Step(torch.tensor([[0], [1]]), reward, no, ends, ends, torch.tensor([[action], [0]]), extras), ())


def policy(row: list[float], allowed: list[bool]) -> list[float]:
    weights = [math.exp(q / TAU) if may else 0.0 for q, may in zip(row, allowed, strict=True)]
    return [weight / sum(weights) for weight in weights]


def by_hand(action: int, allowed: list[list[bool]], terminal: bool) -> float:
    bonus = ALPHA * max(TAU * math.log(policy(TARGET[0], allowed[0])[action]), CLIP)
    pi = policy(TARGET[1], allowed[1])
    value = sum(p * (q - TAU * math.log(p)) for p, q in zip(pi, TARGET[1], strict=True) if p > 0)
    return REWARD + bonus + (0.0 if terminal else GAMMA * value)


CASES: dict[str, tuple[int, list[list[bool]] | None, bool]] = {
    "the best action": (2, None, False),
    "a bad one, whose logarithm is clipped": (1, None, False),
    "masks": (0, [[True, True, False], [True, False, True]], False),
    "a terminal state": (2, None, True),
}


@pytest.mark.parametrize("case", CASES)
def test_targets_of_dqn_by_hand(case: str) -> None:
    action, masks, terminal = CASES[case]
    made = DQN(ValueConfig.model_validate({"name": "dqn", **SETTINGS}), NetConfig(torso="mlp", hidden=8), SPEC)
    online = Table([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    loss = made.loss(online, Table(TARGET), trajectory(action, masks, terminal), torch.Generator())
    assert loss.td is not None
    assert loss.td.item() == pytest.approx(by_hand(action, masks or [[True] * 3] * 2, terminal), rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_mean_of_qr_dqns_target_is_that_of_dqn(case: str) -> None:
    action, masks, terminal = CASES[case]
    config = QRDQNConfig.model_validate({"name": "qrdqn", "quantiles": 3, **SETTINGS})
    made = QRDQN(config, NetConfig(torso="mlp", hidden=8), SPEC)
    spread = (-1.0, 0.0, 1.0)
    online = Table([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]], spread)
    loss = made.loss(online, Table(TARGET, spread), trajectory(action, masks, terminal), torch.Generator())
    assert loss.td is not None
    assert loss.td.item() == pytest.approx(by_hand(action, masks or [[True] * 3] * 2, terminal), rel=1e-5)


def test_a_cold_policy_without_a_bonus_is_the_greedy_target() -> None:
    """τ to 0 makes the policy greedy, and α = 0 leaves the rewards alone."""
    cold = SETTINGS | {"munchausen_temperature": 1e-3, "munchausen_scale": 0.0}
    net = NetConfig(torso="mlp", hidden=8)
    online, given = Table([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]), trajectory(1)
    targets = []
    for settings in (cold, {"discount": GAMMA, "reward_clip": None}):
        made = DQN(ValueConfig.model_validate({"name": "dqn", **settings}), net, SPEC)
        td = made.loss(online, Table(TARGET), given, torch.Generator()).td
        assert td is not None
        targets.append(td.item())
    assert targets[0] == pytest.approx(targets[1], abs=1e-4)


def test_iqn_learns_with_it_a_step() -> None:
    made = build(resolve("classic/iqn", {"agent.double": False, "agent.munchausen": True, "replay.min_agent_steps": 200}))
    steps = 0
    while not made.replay.can_sample(made.learner.config.batch_size):
        steps += made.collector.advance(steps)[0]
        if made.collector.ready(1):
            made.replay.add(made.collector.take())
    learner = made.learner
    metrics = learner.step(learner.stage(made.replay.sample(learner.config.batch_size)), steps).metrics
    assert np.isfinite(float(metrics["losses/loss"]))
    made.close()


@pytest.mark.parametrize(
    ("config", "changes", "says"),
    [
        ("classic/double_dqn", {"agent.munchausen": True}, "munchausen averages over a policy, where double chooses one action"),
        ("classic/c51", {"agent.munchausen": True, "agent.double": False}, r"agent\.munchausen"),
        ("classic/dqn", {"agent.munchausen_scale": 0.5}, r"agent\.munchausen_scale"),
    ],
)
def test_what_it_does_not_go_with_is_refused(config: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve(config, changes)
