"""Nets of several parts, each with an optimizer of its own: turns, rates, clipping, precision, state and exact resume."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlsuite.config.schema import LearnerConfig
from rlsuite.core.agent import Loss, Objective, Part
from rlsuite.core.errors import NotFiniteError, UsageError
from rlsuite.core.types import Step, Trajectory
from rlsuite.learning.learner import Learner
from rlsuite.replay import Sample

B = 6


def config(**more: Any) -> LearnerConfig:
    return LearnerConfig(**{"optimizer": "sgd", "learning_rate": 0.5, "max_grad_norm": None, **more})


def sample(seed: int) -> Sample:
    """Observations [1,B,4]."""
    seen = np.random.default_rng(seed).normal(size=(1, B, 4)).astype(np.float32)
    no, none = np.zeros((1, B), bool), np.zeros((1, B), np.float32)
    steps = Step(seen, none, no, no, no, np.zeros((1, B), np.int64), {})
    return Sample(Trajectory(steps, ()), np.arange(B, dtype=np.int64), np.ones(B, np.float32))


def tensors(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class Duel(nn.Module):
    """A forger G(x) and a judge D(y), which sees what G makes."""

    def __init__(self) -> None:
        super().__init__()
        self.forger = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
        self.judge = nn.Linear(4, 1)


class Game(Objective):
    """The judge is to tell observations from forgeries, the forger to be taken for real."""

    has_target = False

    def __init__(self, rate: float = 1.0, names: tuple[str, ...] = ("judge", "forger"), poison: str = ""):
        self.rate, self.names, self.poison, self.part = rate, names, poison, ""

    def make_net(self) -> Duel:
        return Duel()

    def parts(self, net: nn.Module) -> dict[str, Part]:
        return {name: Part((getattr(net, name),), self.rate if name == "judge" else 1.0) for name in self.names}

    def of_part(self, name: str) -> "Game":
        found = copy.copy(self)
        found.part = name
        return found

    def loss(self, net: nn.Module, target: nn.Module, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        real = trajectory.steps.observation[0]  # [B,4]
        fake = net.forger(torch.randn(real.shape, generator=rng))  # type: ignore[operator]
        value: Tensor = net.judge(fake).float()[:, 0]  # type: ignore[operator]
        if self.part == "judge":
            value = net.judge(real).float()[:, 0] - value  # type: ignore[operator]
        poisoned = float("nan") if self.poison == self.part else 1.0
        return Loss(-value.sigmoid().log() * poisoned, None, {f"losses/{self.part}": value.detach().mean()})


def duel(game: Game | None = None, seed: int = 1, **more: Any) -> Learner:
    return Learner(game or Game(), config(**{"optimizer": "adam", "learning_rate": 1e-2, **more}), seed=seed)


def steps(learner: Learner, seeds: range) -> list[dict[str, float]]:
    found = [learner.step(learner.stage(sample(seed)), agent_steps=10 * seed).metrics for seed in seeds]
    return [{name: float(value) for name, value in metrics.items() if name != "charts/threads"} for metrics in found]


def test_each_part_learns_from_its_own_loss_and_leaves_the_other_alone() -> None:
    learner = duel()
    before, seen = tensors(learner.net), []
    turn = learner._turn

    def watched(part: Any, *given: Any) -> Any:
        held = tensors(learner.net)
        out = turn(part, *given)
        seen.append(
            (part.name, {name.split(".")[0] for name, value in tensors(learner.net).items() if not value.equal(held[name])})
        )
        return out

    learner._turn = watched  # type: ignore[method-assign]
    (metrics,) = steps(learner, range(1))
    assert seen == [("judge", {"judge"}), ("forger", {"forger"})]
    assert not identical(before, tensors(learner.net))
    assert metrics["losses/loss"] == pytest.approx(metrics["losses/judge_loss"] + metrics["losses/forger_loss"])
    norms = metrics["losses/judge_grad_norm"], metrics["losses/forger_grad_norm"]
    assert metrics["losses/grad_norm"] == pytest.approx((norms[0] ** 2 + norms[1] ** 2) ** 0.5)
    assert {"losses/judge", "losses/forger"} <= set(metrics)
    assert all(parameter.requires_grad for parameter in learner.net.parameters())
    assert learner.steps == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd(momentum=0.9)", "adamw(weight_decay=0.1)"])
def test_two_optimizers_resume_bit_for_bit(optimizer: str, precision: str) -> None:
    more = {"optimizer": optimizer, "precision": precision, "learning_rate_end": 1e-3, "max_grad_norm": 0.5}
    one = duel(Game(rate=0.5), **more)
    steps(one, range(5))
    state, weights = copy.deepcopy(one.state_dict()), copy.deepcopy(one.weights().tensors)
    expected = steps(one, range(5, 10))
    other = duel(Game(rate=0.5), seed=9, **more)
    steps(other, range(2))
    other.load(weights, state, "here")
    assert steps(other, range(5, 10)) == expected
    assert identical(tensors(other.online.master), tensors(one.online.master))
    assert identical(tensors(other.net), tensors(one.net))


def test_a_part_has_its_own_rate_and_its_own_clipping() -> None:
    learner = duel(Game(rate=0.25), optimizer="sgd", learning_rate=1.0, learning_rate_end=0.0, max_grad_norm=1e-3)
    before = tensors(learner.net)
    learner.step(learner.stage(sample(0)), agent_steps=0)
    moved = {name: value - before[name] for name, value in tensors(learner.net).items()}

    def norm(part: str) -> float:
        return float(sum((value**2).sum() for name, value in moved.items() if name.startswith(part))) ** 0.5

    assert norm("judge") == pytest.approx(0.25e-3, rel=1e-2)
    assert norm("forger") == pytest.approx(1e-3, rel=1e-2)


def test_the_learning_rate_of_every_part_is_annealed() -> None:
    learner = Learner(Game(rate=0.5), config(learning_rate=1.0, learning_rate_end=0.0), seed=0, anneal_over=10)
    learner.step(learner.stage(sample(0)), agent_steps=5)
    assert [part.optimizer.param_groups[0]["lr"] for part in learner.parts] == [0.25, 0.5]


def test_layers_keep_their_factors_within_parts() -> None:
    def rates(net: nn.Module) -> list[tuple[float, list[nn.Parameter]]]:
        assert isinstance(net, Duel)
        return [(1.0, [*net.judge.parameters(), *net.forger[2].parameters()]), (0.5, [*net.forger[0].parameters()])]

    learner = Learner(Game(rate=0.5), config(learning_rate=1.0), seed=0, rates=rates)
    found = [[(group["lr"], len(group["params"])) for group in part.optimizer.param_groups] for part in learner.parts]
    assert found == [[(0.5, 2)], [(1.0, 2), (0.5, 2)]]


def test_a_parameter_belongs_to_one_part() -> None:
    with pytest.raises(UsageError, match=r"forger\.0\.weight is in none of the parts of this net: judge"):
        duel(Game(names=("judge",)))

    class Shared(Game):
        def parts(self, net: nn.Module) -> dict[str, Part]:
            return {**super().parts(net), "all": Part((net,))}

    with pytest.raises(UsageError, match="the parts forger and all of this net share parameters"):
        duel(Shared())


def test_a_part_that_is_not_finite_is_named() -> None:
    learner = duel(Game(poison="judge"))
    before = tensors(learner.net)
    with pytest.raises(NotFiniteError, match=rf"^learner step 1: judge: losses/loss is not finite in {B} of {B} sequences"):
        steps(learner, range(1))
    assert identical(before, tensors(learner.net))
    assert all(parameter.requires_grad for parameter in learner.net.parameters())


def test_the_state_of_other_parts_is_refused() -> None:
    class Whole(Game):
        def parts(self, net: nn.Module) -> dict[str, Part]:
            return Objective.parts(self, net)

    two, one = duel().state_dict(), duel(Whole()).state_dict()
    assert set(two["optimizer"]) == {"judge", "forger"}
    assert set(one["optimizer"]) == {"state", "param_groups"}  # as in checkpoints before there were parts
    with pytest.raises(ValueError, match="its optimizers train forger, judge, but the parts of this net are the whole net"):
        duel(Whole()).load_state_dict(two)
    with pytest.raises(ValueError, match="its optimizers train the whole net, but the parts of this net are judge, forger"):
        duel().load_state_dict(one)
