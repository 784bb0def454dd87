"""The self-predictive loss: its mask and distance by hand, where its gradient goes, and that it is learned."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlsuite.agents.distributional import C51, QRDQN
from rlsuite.agents.dqn import DQN
from rlsuite.agents.self_prediction import before_an_end, self_prediction
from rlsuite.agents.value_based import ValueAgent
from rlsuite.config.schema import LearnerConfig, NetConfig
from rlsuite.core.agent import Transitions
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, Step, Trajectory
from rlsuite.learning.learner import DeviceBatch, Learner
from rlsuite.learning.resets import is_head
from rlsuite.nets.self_prediction import Transition, renormalised

PIXELS = EnvSpec((4, 44, 44), "uint8", num_actions=3, num_states=None, stack=4, frames_per_step=4)
KINDS: dict[str, type[ValueAgent]] = {"dqn": DQN, "c51": C51, "qrdqn": QRDQN}
B = 5


def agent(kind: str = "dqn", torso: str = "small", **switches: Any) -> Any:
    return KINDS[kind](KINDS[kind].Config(name=kind, **switches), NetConfig(torso=torso, hidden=16), PIXELS)


def flags(length: int, at: tuple[int, ...]) -> Tensor:
    return torch.tensor([t in at for t in range(length)])[:, None].repeat(1, B)


def trajectory(length: int, last: tuple[int, ...] = (), terminal: tuple[int, ...] = (), seed: int = 0) -> Trajectory:
    rng = torch.Generator().manual_seed(seed)
    observation = torch.randint(0, 256, (length, B, 4, 44, 44), generator=rng, dtype=torch.uint8)
    action = torch.randint(0, 3, (length, B), generator=rng)
    first = flags(length, tuple(t + 1 for t in last))
    steps = Step(
        observation, torch.randn(length, B, generator=rng), first, flags(length, last), flags(length, terminal), action, {}
    )
    return Trajectory(steps, ())


@pytest.mark.parametrize(
    ("last", "terminal", "counted"),
    [
        ((), (), [1, 1, 1, 1]),
        ((2,), (2,), [1, 1, 0, 0]),  # the final observation is predicted, what comes after it is another game
        ((1,), (), [1, 0, 0, 0]),
        ((), (2,), [1, 1, 0, 0]),  # a lost life
        ((), (0,), [1, 1, 1, 1]),  # lost before this step
        ((0,), (), [0, 0, 0, 0]),
        ((4,), (4,), [1, 1, 1, 1]),
    ],
)
def test_what_is_counted_by_hand(last: tuple[int, ...], terminal: tuple[int, ...], counted: list[int]) -> None:
    assert before_an_end(trajectory(5, last, terminal).steps)[:, 0].int().tolist() == counted


class Given(nn.Module):
    """Projections and predictions that are given, [K,P]."""

    def __init__(self, values: list[list[float]]):
        super().__init__()
        self.values = torch.tensor(values)[:, None].repeat(1, B, 1)

    def projections(self, observation: Tensor) -> Tensor:
        assert observation.shape[0] == 2
        assert not torch.is_grad_enabled()
        return self.values

    def predictions(self, observation: Tensor, action: Tensor) -> Tensor:
        assert (observation.shape[0], action.shape[0]) == (1, 2)
        return self.values


def test_the_distance_by_hand() -> None:
    """2 - 2 cos, whatever the lengths are: 0 in the same direction, 2 at right angles, 4 in the opposite one; the mean over K."""
    target = Given([[3.0, 0.0], [0.0, 1.0]])
    for given, loss in (([[1.0, 0.0], [0.0, 7.0]], 0.0), ([[0.0, 1.0], [0.0, 1.0]], 1.0), ([[-1.0, 0.0], [1.0, 0.0]], 3.0)):
        found = self_prediction(Given(given), target, trajectory(6).steps, 2)
        assert found.tolist() == pytest.approx([loss] * B)
    masked = self_prediction(Given([[0.0, 1.0], [1.0, 0.0]]), target, trajectory(6, (1,)).steps, 2)
    assert masked.tolist() == pytest.approx([1.0] * B)  # only the first of the two terms


def test_features_are_moved_to_0_and_1_row_by_row() -> None:
    found = renormalised(torch.tensor([[[1.0, 3.0, 2.0]], [[-4.0, 0.0, -1.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1.0, 0.5]], [[0.0, 1.0, 0.75]]]), rtol=0, atol=1e-4)
    assert torch.equal(renormalised(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_the_transition_depends_on_features_and_action() -> None:
    torch.manual_seed(0)
    model = Transition((2, 3, 3), num_actions=3)
    z, other = torch.rand(2, 1, 18).unbind()
    found = [model(z, torch.tensor([a])) for a in range(3)]
    assert all(one.shape == (1, 18) for one in found)
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert not torch.allclose(found[0], model(other, torch.tensor([0])), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noisy", [False, True])
def test_it_is_added_with_its_weight_and_leaves_priorities_alone(kind: str, noisy: bool) -> None:
    switches = {"n_steps": 2, "dueling": True, "noisy": noisy, "spr_steps": 3}
    one, heavy = (agent(kind, **switches, spr_weight=weight) for weight in (1.0, 5.0))
    assert one.sequence == Transitions(3, whole=True)
    net, target = one.make_net(), one.make_net()
    batch = trajectory(4, (2,))

    def loss(made: Any) -> Any:
        return made.loss(net, target, batch, torch.Generator().manual_seed(1))

    light, more = loss(one), loss(heavy)
    torch.testing.assert_close(light.td, more.td)
    difference = (more.loss - light.loss) / 4  # [B] the self-predictive loss alone
    assert float(difference.detach().mean()) == pytest.approx(float(light.metrics["losses/spr"]), rel=1e-3)
    assert (difference > 0).all()

    more.loss.mean().backward()
    for part in ("torso.backbone.stages.0.0.weight", "transition.net.0.weight", "head.predictor.weight"):
        assert net.get_parameter(part).grad.abs().sum() > 0
    assert all(p.grad is None for p in target.parameters())
    names = [name for name, _ in net.named_parameters() if is_head(name, one.heads)]
    assert "head.predictor.weight" in names
    assert "transition.net.0.weight" not in names


def test_without_a_weight_nothing_of_it_is_there() -> None:
    plain = agent(n_steps=3)
    assert plain.sequence == Transitions(3)
    net = plain.make_net()
    assert not any("transition" in name or "predictor" in name for name, _ in net.named_parameters())
    assert agent(n_steps=7, spr_weight=2.0).sequence == Transitions(7, whole=True)


def test_the_future_is_learned() -> None:
    """The same few pictures again: predictions of their successors come nearer."""
    config = LearnerConfig(learning_rate=1e-3, target_period_learner_steps=1, target_ema=0.05)
    learner = Learner(agent(spr_weight=5.0, spr_steps=3), config, seed=1)
    batch = DeviceBatch(trajectory(4), torch.ones(B), torch.arange(B).numpy(), None)
    losses = [float(learner.step(batch, want_priority=False).metrics["losses/spr"]) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("torso", ["mlp", "small(pool=gap)"])
def test_a_torso_without_a_map_is_refused(torso: str) -> None:
    with pytest.raises(UsageError, match=r"agent\.spr_weight: net\.torso=.* has no feature map"):
        agent(torso=torso, spr_weight=1.0).make_net()
