"""PQN by hand: λ-returns with ends of episodes, masks, minibatches, and what its config refuses."""

import pytest
import torch
from torch import Tensor, nn

from rlsuite.agents.pqn import PQN, PQNConfig
from rlsuite.config.loader import resolve
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Rollouts
from rlsuite.core.errors import UsageError
from rlsuite.core.masks import KEY
from rlsuite.core.types import EnvSpec, State, Step, Trajectory
from rlsuite.factories import build

GAMMA, LAMBDA = 0.5, 0.25
SPEC = EnvSpec((), "int64", num_actions=2, num_states=4, stack=1, frames_per_step=1)
Q = [[1.0, 2.0], [3.0, 8.0], [6.0, 4.0], [10.0, 20.0]]
R = [100.0, 1.0, 2.0, 4.0]  # the first came before the rollout


class Table(nn.Module):
    """Observations [T,B] are row numbers; Q [T,B,A,1]."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(Q))

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        return self.rows[step.observation].unsqueeze(-1), state


def agent(**settings: object) -> PQN:
    base = {"name": "pqn", "discount": GAMMA, "q_lambda": LAMBDA, "reward_clip": None, "epochs": 1, "minibatches": 1}
    return PQN(PQNConfig.model_validate({**base, **settings}), NetConfig(torso="onehot", hidden=8), SPEC)


def rollout(last: int | None = None, terminal: bool = False, masks: list[list[bool]] | None = None) -> Trajectory:
    ends = torch.tensor([[t == last] for t in range(4)])
    steps = Step(
        observation=torch.arange(4)[:, None],
        reward=torch.tensor(R)[:, None],
        first=torch.tensor([[last is not None and t == last + 1] for t in range(4)]),
        last=ends,
        terminal=ends & terminal,
        action=torch.tensor([[0], [1], [0], [1]]),
        extras={} if masks is None else {KEY: torch.tensor(masks)[:, None]},
    )
    return Trajectory(steps, ())


def returns(made: PQN, given: Trajectory) -> list[float]:
    """The target of each step, in the rollout's order."""
    rng = torch.Generator().manual_seed(0)
    (part,) = made.prepare(Table(), given, rng)
    order = part.steps.observation[0].argsort()
    found: list[float] = part.steps.extras["return"][0][order].tolist()
    return found


def mixed(ahead: float, value: float) -> float:
    return LAMBDA * ahead + (1 - LAMBDA) * value


CASES = {
    "no end": (None, False, [1 + GAMMA * mixed(2 + GAMMA * mixed(4 + GAMMA * 20, 6), 8), 2 + GAMMA * mixed(4 + GAMMA * 20, 6), 14]),
    "over at 2": (2, True, [1 + GAMMA * mixed(2.0, 8), 2.0, None]),
    "truncated at 2": (2, False, [1 + GAMMA * mixed(2 + GAMMA * 6, 8), 2 + GAMMA * 6, None]),
    "over at 3": (3, True, [1 + GAMMA * mixed(2 + GAMMA * mixed(4.0, 6), 8), 2 + GAMMA * mixed(4.0, 6), 4.0]),
}


@pytest.mark.parametrize("case", CASES)
def test_lambda_returns_by_hand(case: str) -> None:
    last, terminal, expected = CASES[case]
    for found, wanted in zip(returns(agent(), rollout(last, terminal)), expected, strict=True):
        assert wanted is None or found == pytest.approx(wanted)


def test_bootstrap_values_are_of_allowed_actions() -> None:
    masks = [[True, True], [True, False], [True, True], [True, False]]
    assert returns(agent(q_lambda=0.0), rollout(masks=masks)) == [1 + GAMMA * 3, 2 + GAMMA * 6, 4 + GAMMA * 10]


def test_the_loss_is_of_the_chosen_actions_and_leaves_out_final_observations() -> None:
    made = agent(q_lambda=0.0)
    (part,) = made.prepare(Table(), rollout(1), torch.Generator().manual_seed(0))
    net = Table()
    loss = made.loss(net, net, part, torch.Generator())
    errors = {0: 1 + GAMMA * 8 - Q[0][0], 2: 4 + GAMMA * 20 - Q[2][0]}  # step 1 is a final observation
    assert loss.loss.mean().item() == pytest.approx(sum(0.5 * e**2 for e in errors.values()) / 2)
    loss.loss.mean().backward()
    assert net.rows.grad is not None
    assert net.rows.grad.nonzero().tolist() == [[0, 0], [2, 0]]
    assert loss.td is None


def test_every_epoch_has_every_step_once() -> None:
    made = agent(epochs=3, minibatches=2)
    parts = list(made.prepare(Table(), rollout(), torch.Generator().manual_seed(1)))
    assert len(parts) == 6
    for epoch in range(3):
        seen = torch.cat([part.steps.observation[0] for part in parts[2 * epoch : 2 * epoch + 2]])
        assert sorted(seen.tolist()) == [0, 1, 2]
    assert isinstance(made.sequence, Rollouts)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"agent.n_steps": 3}, "agent.n_steps"),
        ({"agent.double": True}, "agent.double"),
        ({"replay.prioritized": True}, "replay"),
        ({"learner.target_ema": 0.1}, "learner.target_ema"),
        ({"agent.minibatches": 7}, "agent.minibatches = 7 does not divide learner.batch_size = 32"),
        ({"learner.batch_size": 33}, "it must be a multiple of that; try 32"),
        ({"net.memory": "lstm"}, "net.memory"),
    ],
)
def test_what_has_no_effect_or_does_not_fit_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build(resolve("classic/pqn", changes))
