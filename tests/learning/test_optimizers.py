"""Optimizers by name: torch's own classes with the settings given, and weight decay on matrices only."""

from typing import Any

import pytest
import torch
from torch import nn

from rlsuite.config.schema import LearnerConfig
from rlsuite.learning.optimizers import make_optimizer, same_kind


def made(optimizer: str, net: nn.Module | None = None, **more: Any) -> torch.optim.Optimizer:
    config = LearnerConfig(optimizer=optimizer, learning_rate=0.1, **more)
    return make_optimizer(config, list((net or nn.Linear(3, 2)).parameters()))


@pytest.mark.parametrize(
    ("optimizer", "kind", "settings"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.0}),
        ("sgd(momentum=0.9,nesterov=true)", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("adagrad", torch.optim.Adagrad, {}),
        ("adagrad(initial_accumulator_value=0.1)", torch.optim.Adagrad, {"initial_accumulator_value": 0.1}),
        ("adadelta(rho=0.8)", torch.optim.Adadelta, {"rho": 0.8}),
        ("rmsprop", torch.optim.RMSprop, {"alpha": 0.95, "centered": True}),
        ("rmsprop(alpha=0.99,centered=false,momentum=0.5)", torch.optim.RMSprop, {"alpha": 0.99, "momentum": 0.5}),
        ("adam", torch.optim.Adam, {}),
        ("adam(beta1=0.5,beta2=0.9)", torch.optim.Adam, {"betas": (0.5, 0.9)}),
        ("adam(beta1=0,beta2=0.9)", torch.optim.Adam, {"betas": (0.0, 0.9)}),
        ("adamw(weight_decay=0)", torch.optim.AdamW, {"weight_decay": 0}),
        ("radam", torch.optim.RAdam, {}),
    ],
)
def test_an_optimizer_does_what_torchs_does(optimizer: str, kind: Any, settings: dict[str, Any]) -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    epsilon = {} if kind is torch.optim.SGD else {"eps": 1e-3}
    pairs = (
        (ours, made(optimizer, ours, **({"optimizer_epsilon": 1e-3} if epsilon else {}))),
        (
            theirs,
            kind(theirs.parameters(), lr=0.1, **epsilon, **settings),
        ),
    )
    for net, stepper in pairs:
        for at in range(8):
            stepper.zero_grad()
            net(torch.tensor([1.0, -2.0, 0.5 * at])).square().sum().backward()
            stepper.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adadelta", "rmsprop", "adam", "adamw", "radam"])
def test_weight_decay_shrinks_matrices_and_leaves_vectors_alone(optimizer: str) -> None:
    """With gradients of zero nothing but the decay can move a weight."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.LayerNorm(2), nn.Linear(2, 3))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    stepper = made(f"{optimizer}(weight_decay=0.1)", net)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    stepper.step()
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name]) == (p.dim() <= 1), name
        assert ((p.detach() - before[name]) * before[name] <= 0).all(), name  # towards zero


def test_factors_on_the_learning_rate_hold_with_and_without_decay() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = [(1.0, list(net[0].parameters())), (0.5, list(net[1].parameters()))]
    config = LearnerConfig(optimizer="adamw(weight_decay=0.1)", learning_rate=0.1)
    found = [(g["lr"], g["weight_decay"], len(g["params"])) for g in make_optimizer(config, [], groups).param_groups]
    assert found == [(0.1, 0.1, 1), (0.1, 0.0, 1), (0.05, 0.1, 1), (0.05, 0.0, 1)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("adam", "adamw(weight_decay=0)"),
        ("adam", "adam(beta1=0.5)"),
        ("adamw(weight_decay=0.1)", "adamw(weight_decay=0.2)"),
        ("adamw(weight_decay=0.1)", "adamw(weight_decay=0)"),
        ("rmsprop", "rmsprop(centered=false)"),
        ("sgd", "sgd(momentum=0.9)"),
    ],
)
def test_the_state_of_another_optimizer_is_told_apart(one: str, other: str) -> None:
    assert same_kind(made(one).state_dict(), made(one).state_dict())
    assert not same_kind(made(one).state_dict(), made(other).state_dict())


def test_one_optimizer_is_written_in_one_way() -> None:
    assert LearnerConfig(optimizer=" adam ( beta2 = .99, beta1=0.5 )").optimizer == "adam(beta1=0.5,beta2=0.99)"
    assert LearnerConfig(optimizer="sgd()").optimizer == "sgd"
