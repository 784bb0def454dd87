"""Periodic resets: when they are due, what is replaced and what is kept, and that a resumed run goes on bit for bit."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlsuite.agents.distributional import C51, C51Config
from rlsuite.agents.dqn import DQN
from rlsuite.config.schema import LearnerConfig, NetConfig
from rlsuite.core.errors import UsageError
from rlsuite.learning.learner import Learner
from rlsuite.learning.optimizers import make_optimizer
from rlsuite.learning.resets import is_head, reset_net, reset_optimizer
from tests.learning.test_learner import VECTOR, identical, sample, tensors

EVERY = 20


def c51() -> C51:
    config = C51Config(name="c51", atoms=5, dueling=True, noisy=True, epsilon_start=0, epsilon_end=0)
    return C51(config, NetConfig(torso="mlp", hidden=16), VECTOR)


def learner(seed: int = 1, **more: Any) -> Learner:
    resets = {"every_agent_steps": EVERY, **more.pop("resets", {})}
    base: dict[str, Any] = {"optimizer": "adam", "learning_rate": 1e-2, "target_period_learner_steps": 1, "target_ema": 0.1}
    return Learner(c51(), LearnerConfig(**{**base, **more, "resets": resets}), seed=seed)


def step(one: Learner, at: int) -> Any:
    return one.step(one.stage(sample(at)), agent_steps=at)


def test_a_reset_is_due_at_every_multiple_until_the_last() -> None:
    """BBF's four within 100,000 agent steps: at 20, 40, 60 and 80 thousand."""
    one = learner(resets={"until_agent_steps": 80})
    counts = [int(step(one, at).metrics["charts/resets"]) for at in range(0, 101, 5)]
    assert counts == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 5
    assert one.reset_at == 16  # learner steps before that of agent step 80
    assert "charts/resets" not in Learner(c51(), LearnerConfig(), seed=1).step(one.stage(sample(0))).metrics
    one = learner()
    for at in (5, 65, 70):  # several at once, as after a pause of the learner, are one
        step(one, at)
    assert (one.resets, one.reset_at) == (3, 1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_heads_are_replaced_and_the_rest_is_mixed_in_both_nets(precision: str) -> None:
    one = learner(learning_rate=1e-12, resets={"keep": 0.75}, precision=precision)  # so that the update after it moves nothing
    assert one.frozen is not None
    with torch.no_grad():
        for net, value in ((one.online.master, 1.0), (one.frozen.master, 2.0)):
            for parameter in net.parameters():
                parameter.fill_(value)
    step(one, EVERY)
    new = tensors(one.online.master)
    for name, target in tensors(one.frozen.master).items():
        if is_head(name, ("head",)):
            torch.testing.assert_close(target, new[name], rtol=0, atol=1e-6)
            assert not torch.any(new[name] == 1)
        else:
            torch.testing.assert_close(target - new[name], torch.full_like(target, 0.75 * 0.9), rtol=0, atol=1e-5)  # then EMA
            assert (new[name] - 0.75).abs().max() < 0.25
            assert name in ("torso.net.0.weight", "torso.net.0.bias")
    for full, half in one.online.halves + one.frozen.halves:
        assert torch.equal(full.to(torch.bfloat16), half)


def test_resets_differ_from_each_other_and_between_seeds() -> None:
    def heads(one: Learner) -> Tensor:
        return one.online.master.head.advantage.out.mean.weight.detach().clone()  # type: ignore[union-attr, operator, return-value]

    one, other = learner(1, learning_rate=1e-12), learner(2, learning_rate=1e-12)
    before = heads(one)
    step(one, EVERY)
    first = heads(one)
    step(one, 2 * EVERY)
    step(other, EVERY)
    for left, right in ((before, first), (first, heads(one)), (first, heads(other))):
        assert not torch.allclose(left, right, atol=1e-3)


@pytest.mark.parametrize(
    "optimizer",
    ["adam", "adamw", "radam", "rmsprop", "sgd(momentum=0.9)", "adagrad(initial_accumulator_value=.5)"],
)
def test_an_optimizer_after_a_reset_is_as_new(optimizer: str) -> None:
    config = LearnerConfig(optimizer=optimizer, learning_rate=0.1)
    net = nn.Linear(3, 2)

    def steps(stepper: torch.optim.Optimizer, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        net.load_state_dict(weights)
        for at in range(3):
            stepper.zero_grad()
            net(torch.tensor([1.0, -2.0, float(at)])).square().sum().backward()
            stepper.step()
        return tensors(net)

    start = tensors(net)
    used, fresh = (make_optimizer(config, list(net.parameters())) for _ in range(2))
    once = steps(used, start)
    assert not identical(steps(used, start), once)
    reset_optimizer(used, make_optimizer(config, list(net.parameters())))
    assert identical(steps(used, start), steps(fresh, start))


def test_frozen_weights_stay() -> None:
    net = nn.ModuleDict({"head": nn.Linear(2, 2), "torso": nn.Linear(2, 2)})
    before = tensors(net)
    reset_net(net, {name: torch.full_like(p, 9) for name, p in net.named_parameters()}, ("head",), 0.0, {"head.bias", "torso.bias"})
    after = tensors(net)
    assert [name for name in before if torch.equal(before[name], after[name])] == ["head.weight", "torso.weight"]


@pytest.mark.parametrize("act", [False, True])
def test_a_run_resumed_around_resets_goes_on_bit_for_bit(act: bool) -> None:
    one = learner(act_with_target=act)
    for at in range(0, 30, 5):
        step(one, at)
    state, weights = copy.deepcopy(one.state_dict()), copy.deepcopy(one.weights().tensors)
    other = learner(act_with_target=act)
    other.load(weights, state, "here")
    for at in range(30, 60, 5):  # the one at 20 is not made again, that at 40 is the same
        assert step(one, at).metrics == step(other, at).metrics
    assert identical(tensors(one.online.master), tensors(other.online.master))
    assert identical(tensors(one.target), tensors(other.target))


def test_schedules_of_the_agent_begin_anew_with_every_reset() -> None:
    seen: list[int] = []

    class Spy(DQN):
        def at(self, updates: int) -> "Spy":
            seen.append(updates)
            return self

    config = LearnerConfig(resets={"every_agent_steps": EVERY})  # type: ignore[arg-type]
    one = Learner(Spy(Spy.Config(name="dqn"), NetConfig(torso="mlp", hidden=8), VECTOR), config, seed=1)
    for at in (0, 10, 20, 30, 40, 50):
        step(one, at)
    assert seen == [0, 1, 0, 1, 0, 1]


def test_a_head_that_the_net_does_not_have_is_refused() -> None:
    class Odd(DQN):
        heads = ("hat",)

    odd = Odd(Odd.Config(name="dqn"), NetConfig(torso="mlp", hidden=8), VECTOR)
    with pytest.raises(UsageError, match=r"learner\.resets: heads names 'hat'.*torso, head"):
        Learner(odd, LearnerConfig(resets={"every_agent_steps": 5}), seed=1)  # type: ignore[arg-type]
