"""The learner: target network, clipping, weights, precision, layout, annealing, exact resume, staging."""

import contextlib
import copy
import re
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlsuite.agents.distributional import IQN, IQNConfig
from rlsuite.agents.dqn import DQN
from rlsuite.agents.value_based import ValueConfig
from rlsuite.config.schema import LearnerConfig, NetConfig, ReplayConfig
from rlsuite.core.agent import Loss, Objective, Transitions
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, Unroll, to_tensors
from rlsuite.learning.learner import DeviceBatch, Learner
from rlsuite.learning.optimizers import make_optimizer
from rlsuite.replay import Sample, build_replay

PIXELS = EnvSpec((4, 44, 44), "uint8", num_actions=3, num_states=None, stack=4, frames_per_step=4)
VECTOR = EnvSpec((4,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)
B = 6


class Point(nn.Module):
    """A net of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(2.0))

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        return self.theta.expand(step.reward.shape), state


class Toy(Objective):
    """L_b = (θ - r_b)² / 2 with r_b the reward of the last step: the gradient of row b is θ - r_b."""

    def __init__(self, td: bool = True, poison: float = 0.0):
        self.td, self.poison = td, poison
        self.targets: list[float] = []

    def make_net(self) -> Point:
        return Point()

    def loss(self, net: nn.Module, target: nn.Module, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        theta = net(trajectory.steps, ())[0][0]  # [B]
        self.targets.append(float(target.theta))  # type: ignore[arg-type]
        error = theta - trajectory.steps.reward[-1]
        td = error.detach()[None] + self.poison if self.td else None
        return Loss(0.5 * error**2, td, {"losses/theta": theta[0].detach().clone()}, valid=~trajectory.steps.last[:1])

    def priority(self, td: Tensor, valid: Tensor) -> Tensor:
        assert td.shape == valid.shape
        return (td.abs() * valid).sum(0) + 1e-3


def config(**more: Any) -> LearnerConfig:
    base: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.5, "max_grad_norm": None, "channels_last": False}
    return LearnerConfig(**{**base, **more})


def sample(seed: int, spec: EnvSpec = VECTOR, batch: int = B, reward: list[float] | None = None) -> Sample:
    """Random sparse sequences of two steps."""
    rng = np.random.default_rng(seed)
    shape = (2, batch, *spec.observation_shape)
    integers = spec.observation_dtype == "uint8"
    seen = rng.integers(0, 256, shape).astype(np.uint8) if integers else rng.normal(size=shape).astype(np.float32)
    rewards = rng.normal(size=(2, batch)).astype(np.float32)
    if reward is not None:
        rewards[1] = reward
    no = np.zeros((2, batch), bool)
    terminal = no.copy()
    terminal[1] = rng.random(batch) < 0.3
    steps = Step(seen, rewards, no, terminal.copy(), terminal, rng.integers(0, spec.num_actions, (2, batch)), {})
    weights = rng.uniform(0.3, 1, batch).astype(np.float32)
    return Sample(Trajectory(steps, ()), np.arange(batch, dtype=np.int64), weights)


def unit(one: Sample) -> Sample:
    return one._replace(weights=np.ones_like(one.weights))


def theta(learner: Learner) -> float:
    return float(learner.net.theta.detach())  # type: ignore[operator, union-attr]


def tensors(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def dqn(spec: EnvSpec = VECTOR, torso: str = "mlp", **switches: Any) -> DQN:
    return DQN(ValueConfig(name="dqn", **switches), NetConfig(torso=torso, hidden=32), spec)


def test_importance_weights_scale_the_gradient_by_hand() -> None:
    learner = Learner(Toy(), config(learning_rate=1.0), seed=0)
    one = sample(0, batch=2, reward=[1.0, 6.0])._replace(weights=np.array([1.0, 0.25], np.float32))
    update = learner.step(learner.stage(one))
    # θ = 2: gradients 1 and -4, weighted 1 and -1, so the mean is 0; unweighted it would be -1.5.
    assert theta(learner) == 2.0
    assert float(update.metrics["losses/loss"]) == pytest.approx((0.5 + 8) / 2)  # as the agent returned it, before weights
    learner.step(learner.stage(unit(one)))
    assert theta(learner) == pytest.approx(2 + 1.5)


@pytest.mark.parametrize(("limit", "moved"), [(None, 3.0), (10.0, 3.0), (0.5, 0.5)])
def test_gradients_are_clipped_by_their_norm(limit: float | None, moved: float) -> None:
    learner = Learner(Toy(), config(learning_rate=1.0, max_grad_norm=limit), seed=0)
    update = learner.step(learner.stage(unit(sample(0, batch=2, reward=[-1.0, -1.0]))))
    assert 2.0 - theta(learner) == pytest.approx(moved, rel=1e-4)
    assert float(update.metrics["losses/grad_norm"]) == pytest.approx(3.0)  # before clipping
    assert float(update.metrics["losses/theta"]) == 2.0  # the agent's own metrics are passed on


def test_clipping_is_over_all_parameters_together() -> None:
    learner = Learner(dqn(), config(learning_rate=1.0, max_grad_norm=0.01), seed=0)
    before = tensors(learner.net)
    learner.step(learner.stage(sample(1)))
    after = tensors(learner.net)
    moved = sum(float(((after[name] - before[name]) ** 2).sum()) for name in after) ** 0.5
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_priorities_come_from_the_agent() -> None:
    learner = Learner(Toy(), config(), seed=0)
    one = sample(0, batch=3, reward=[2.0, 5.0, -1.0])
    one.trajectory.steps.last[0, 2] = True  # not valid: such a start has no effect
    asked = learner.step(learner.stage(one)).priority
    assert asked is not None
    priority = asked()
    np.testing.assert_allclose(priority, [1e-3, 3 + 1e-3, 1e-3], rtol=1e-6)
    assert priority.dtype == np.float64
    assert learner.step(learner.stage(one), want_priority=False).priority is None
    assert Learner(Toy(td=False), config(), seed=0).step(learner.stage(one)).priority is None


def test_a_priority_that_is_not_finite_stops_everything() -> None:
    learner = Learner(Toy(poison=float("nan")), config(), seed=0)
    priority = learner.step(learner.stage(sample(0))).priority
    assert priority is not None
    with pytest.raises(RlsuiteError, match="td error is not finite at learner step 1"):
        priority()


def test_check_names_the_metric_that_is_not_finite() -> None:
    learner = Learner(Toy(), config(), seed=0)
    learner.step(learner.stage(sample(0)))
    with pytest.raises(RlsuiteError, match=r"^losses/entropy is not finite at learner step 1: training stopped"):
        learner.check({"losses/loss": 0.5, "losses/entropy": float("inf")})
    learner.check({"losses/loss": 0.5})


def test_an_update_that_is_not_finite_names_its_cause_and_changes_no_weight() -> None:
    far = Learner(Toy(), config(learning_rate=1e30), seed=0)
    for seed in range(2):
        far.step(far.stage(sample(seed)))
    told = "learner step 3: theta, a weight of the net, is not finite since the update before (learner.learning_rate was 1e+30)"
    with pytest.raises(RlsuiteError, match=re.escape(told)):
        far.step(far.stage(sample(2)))

    learner = Learner(dqn(), config(), seed=0)
    learner.step(learner.stage(sample(0)))
    held = tensors(learner.net)
    bad = sample(1)
    bad.trajectory.steps.observation[0, 2] = np.nan
    with pytest.raises(RlsuiteError, match=r"^learner step 2: observation is not finite in 1 of 6 sequences of the batch \("):
        learner.step(learner.stage(bad))
    bad = sample(1)
    bad.trajectory.steps.reward[1, :2] = np.nan
    with pytest.raises(RlsuiteError, match=r"^learner step 2: reward is not finite in 2 of 6 sequences"):
        learner.step(learner.stage(bad))
    assert identical(held, tensors(learner.net))
    with torch.no_grad():
        learner.net.head.advantage.out.bias[1] = float("nan")  # type: ignore[union-attr, operator, index]
    with pytest.raises(RlsuiteError, match=r"head\.advantage\.out\.bias, a weight of the net, is not finite"):
        learner.step(learner.stage(sample(1)))


def test_a_learner_that_does_not_wait_for_every_norm_remembers_the_first_bad_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which a look at each would slow down."""
    learner = Learner(Toy(), config(learning_rate=1e30), seed=0)
    monkeypatch.setattr(learner, "device", torch.device("meta"))
    monkeypatch.setattr(learner, "_autocast", contextlib.nullcontext)
    learner.unsound = torch.tensor(2**62)
    batch = DeviceBatch(to_tensors(sample(0).trajectory, torch.device("cpu")), torch.ones(B), np.arange(B), None)
    for _ in range(5):
        learner.step(batch, want_priority=False)
    assert int(learner.unsound) == 3
    with pytest.raises(RlsuiteError, match=r"^losses/loss is not finite at learner step 5, the gradients since step 3: training"):
        learner.check({"losses/loss": float("nan")})


class Root(Toy):
    """A loss with an infinite gradient: sqrt at 0."""

    def loss(self, net: nn.Module, target: nn.Module, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        theta = net(trajectory.steps, ())[0][0]  # [B]
        return Loss((theta - 2).clamp(min=0).sqrt(), None, {})


class Far(Toy):
    """A loss beyond float32."""

    def loss(self, net: nn.Module, target: nn.Module, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        theta = net(trajectory.steps, ())[0][0]  # [B]
        term = theta * trajectory.steps.reward[-1].abs() * 1e38
        return Loss(term * 100, None, {"losses/term": term.detach().sum() * 10})


def test_a_loss_or_a_gradient_that_is_not_finite_is_named() -> None:
    learner = Learner(Far(), config(), seed=0)
    told = "losses/loss (losses/term) is not finite in 2 of 6 sequences, though the batch and the weights are; the largest"
    with pytest.raises(RlsuiteError, match=re.escape(told)):
        learner.step(learner.stage(sample(0, reward=[1.0, 1.0, 0.0, 0.0, 0.0, 0.0])))
    learner = Learner(Root(), config(), seed=0)
    with pytest.raises(RlsuiteError, match=r"^learner step 1: the gradient of theta is not finite, though the loss is"):
        learner.step(learner.stage(sample(0)))


def test_weights_that_are_not_finite_are_reported_before_they_are_saved() -> None:
    learner = Learner(dqn(), config(), seed=0)
    learner.check_weights()
    with torch.no_grad():
        learner.net.head.advantage.out.bias[1] = float("nan")  # type: ignore[union-attr, operator, index]
    with pytest.raises(RlsuiteError, match=r"head\.advantage\.out\.bias is not finite at learner step 0"):
        learner.check_weights()


def test_the_target_is_copied_every_period_and_not_between() -> None:
    learner = Learner(dqn(), config(target_period_learner_steps=3), seed=0)
    held = tensors(learner.target)
    assert identical(held, tensors(learner.net))  # they start equal
    for step in range(1, 10):
        learner.step(learner.stage(sample(step)))
        assert not identical(tensors(learner.net), held)
        if step % 3 == 0:
            held = tensors(learner.net)
        assert identical(tensors(learner.target), held), f"step {step}"
        assert learner.steps == step
    assert not any(parameter.requires_grad for parameter in learner.target.parameters())


def test_the_target_takes_over_the_nets_buffers() -> None:
    """Such as the statistics of a plug-in's batch normalisation, which no gradient moves."""

    class Counting(Point):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
            self.seen += 1
            return super().forward(step, state)

    toy = Toy()
    toy.make_net = Counting  # type: ignore[method-assign]
    learner = Learner(toy, config(target_period_learner_steps=2, target_ema=0.5), seed=0)  # type: ignore[arg-type]
    for expected in (0, 2, 2, 4):
        learner.step(learner.stage(sample(0)))
        assert int(learner.target.seen) == expected  # type: ignore[arg-type]


def test_the_loss_sees_the_old_target_until_the_copy() -> None:
    agent = Toy()
    learner = Learner(agent, config(target_period_learner_steps=2, learning_rate=1.0), seed=0)
    values = [2.0]
    for reward in ([4.0], [5.0], [7.0], [8.0], [9.0]):
        learner.step(learner.stage(unit(sample(0, batch=1, reward=reward))))
        values.append(theta(learner))
    assert values == [2, 4, 5, 7, 8, 9]  # learning rate 1 on θ²/2 jumps to the reward
    assert agent.targets == [2, 2, 5, 5, 8]


def test_an_averaged_target_moves_by_its_fraction_every_period() -> None:
    learner = Learner(Toy(), config(target_period_learner_steps=2, target_ema=0.25, learning_rate=1.0), seed=0)
    target = 2.0
    for step, reward in enumerate([10.0, 6.0, 3.0, -2.0], 1):
        learner.step(learner.stage(unit(sample(0, batch=1, reward=[reward]))))
        if step % 2 == 0:
            target += 0.25 * (reward - target)
        assert float(learner.target.theta) == pytest.approx(target)  # type: ignore[arg-type]
    assert theta(learner) == -2.0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_target_can_act_and_is_what_is_saved(precision: str) -> None:
    cfg = config(target_period_learner_steps=1, target_ema=0.1, act_with_target=True, precision=precision)
    learner = Learner(dqn(), cfg, seed=0)
    for seed in range(3):
        learner.step(learner.stage(sample(seed)))
    assert learner.net is learner.target
    assert learner.frozen is not None
    assert identical(learner.weights().tensors, tensors(learner.frozen.master))
    assert not identical(learner.weights().tensors, tensors(learner.online.master))

    state, weights = copy.deepcopy(learner.state_dict()), copy.deepcopy(learner.weights().tensors)
    other = Learner(dqn(), cfg, seed=9)
    other.load(weights, state, "here")
    for one in (learner, other):
        one.step(one.stage(sample(3)))
    assert identical(tensors(learner.online.master), tensors(other.online.master))
    assert identical(tensors(learner.net), tensors(other.net))
    with pytest.raises(ValueError, match=r"it was saved with learner\.act_with_target = true"):
        Learner(dqn(), config(precision=precision), seed=9).load(weights, state, "here")


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_the_learning_rate_is_a_function_of_the_agents_steps(optimizer: str) -> None:
    cfg = config(optimizer=optimizer, learning_rate=1e-2, learning_rate_end=1e-3)
    learner = Learner(dqn(), cfg, seed=0, anneal_over=1000)
    for at, rate in [(0, 1e-2), (500, 5.5e-3), (1000, 1e-3), (5000, 1e-3), (0, 1e-2)]:
        learner.step(learner.stage(sample(0)), agent_steps=at)
        assert learner.parts[0].optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        assert learner.learning_rate(at) == pytest.approx(rate)
    constant = Learner(dqn(), config(optimizer=optimizer, learning_rate=1e-2), seed=0, anneal_over=1000)
    constant.step(constant.stage(sample(0)), agent_steps=900)
    assert constant.parts[0].optimizer.param_groups[0]["lr"] == constant.learning_rate(900) == 1e-2


def test_the_annealed_rate_is_the_one_used() -> None:
    learner = Learner(Toy(), config(learning_rate=1.0, learning_rate_end=0.0), seed=0, anneal_over=10)
    one = unit(sample(0, batch=1, reward=[10.0]))
    learner.step(learner.stage(one), agent_steps=5)
    assert theta(learner) == pytest.approx(2 + 0.5 * 8)
    learner.step(learner.stage(one), agent_steps=10)
    assert theta(learner) == pytest.approx(6)


def test_the_seed_decides_the_initial_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = Learner(dqn(), config(), seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert identical(tensors(one.net), tensors(Learner(dqn(), config(), seed=1).net))
    assert not identical(tensors(one.net), tensors(Learner(dqn(), config(), seed=2).net))


AGENTS = {
    "dqn": lambda: dqn(),
    "noisy dueling pixels": lambda: dqn(PIXELS, "small", noisy=True, dueling=True, double=True),
    "iqn": lambda: IQN(
        IQNConfig(name="iqn", samples=3, target_samples=3, policy_samples=3, cosines=4), NetConfig(torso="mlp", hidden=16), VECTOR
    ),
}


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd(momentum=0.9)", "adamw(weight_decay=0.1)", "adadelta"])
@pytest.mark.parametrize("name", AGENTS)
def test_a_resumed_learner_continues_bit_for_bit(name: str, optimizer: str) -> None:
    """Weights, moments, target between two copies, noise and sampled quantiles."""
    pixels = "pixels" in name
    cfg = config(
        optimizer=optimizer,
        learning_rate=1e-2,
        learning_rate_end=1e-3,
        max_grad_norm=5.0,
        target_period_learner_steps=4,
        channels_last=pixels,
    )
    batches = [sample(seed, PIXELS if pixels else VECTOR) for seed in range(12)]

    def run(learner: Learner, ticks: range) -> list[Any]:
        out = []
        for t in ticks:
            update = learner.step(learner.stage(batches[t]), agent_steps=t * 10)
            assert update.priority is not None
            out += [update.priority().tobytes(), {key: float(value) for key, value in update.metrics.items()}]
        return out

    one = Learner(AGENTS[name](), cfg, seed=1, anneal_over=100)
    run(one, range(6))
    state, weights = copy.deepcopy(one.state_dict()), copy.deepcopy(one.weights().tensors)
    expected = run(one, range(6, 12))
    other = Learner(AGENTS[name](), cfg, seed=99, anneal_over=100)
    run(other, range(3))
    other.net.load_state_dict(weights)
    other.load_state_dict(state)
    assert run(other, range(6, 12)) == expected
    assert identical(tensors(other.net), tensors(one.net))
    assert identical(tensors(other.target), tensors(one.target))
    assert other.steps == one.steps == 12


def test_moments_are_restored_in_the_layout_of_their_weights() -> None:
    """Files do not keep the memory layout; mixed layouts would make every later update slower."""
    cfg = config(optimizer="adam", channels_last=True)
    one = Learner(dqn(PIXELS, "small"), cfg, seed=1)
    one.step(one.stage(sample(0, PIXELS)))
    state = copy.deepcopy(one.state_dict())
    for moments in state["optimizer"]["state"].values():
        for key, value in moments.items():
            moments[key] = value.contiguous()
    other = Learner(dqn(PIXELS, "small"), cfg, seed=1)
    other.load_state_dict(state)
    checked = 0
    for parameter, moments in other.parts[0].optimizer.state.items():
        if parameter.dim() == 4:
            checked += 1
            assert parameter.is_contiguous(memory_format=torch.channels_last)
            assert moments["exp_avg"].stride() == parameter.stride()
    assert checked == 3


def test_weights_carry_the_version_and_no_graph() -> None:
    learner = Learner(dqn(), config(precision="bf16"), seed=0)
    assert learner.weights().version == 0
    learner.step(learner.stage(sample(0)))
    weights = learner.weights()
    assert weights.version == 1
    assert identical(weights.tensors, tensors(learner.online.master))
    assert all(tensor.dtype == torch.float32 for tensor in weights.tensors.values())
    assert not any(tensor.requires_grad for tensor in weights.tensors.values())


def losses(cfg: LearnerConfig, steps: int = 3, agent: Any = None) -> tuple[list[float], dict[str, Tensor]]:
    learner = Learner(agent or dqn(PIXELS, "small", dueling=True, double=True), cfg, seed=3)
    out = [float(learner.step(learner.stage(sample(seed, PIXELS, 8))).metrics["losses/loss"]) for seed in range(steps)]
    return out, tensors(learner.online.master)


def test_channels_last_gives_the_same_numbers_as_contiguous() -> None:
    """The sums run in another order, so the last bits may differ; the layout must be in use and change nothing else."""
    plain, weights = losses(config(learning_rate=0.1))
    last, moved = losses(config(learning_rate=0.1, channels_last=True))
    assert last == pytest.approx(plain, rel=1e-4)
    for name in weights:
        torch.testing.assert_close(moved[name], weights[name], rtol=1e-3, atol=1e-5)
    learner = Learner(dqn(PIXELS, "small"), config(channels_last=True), seed=0)
    kernels = [p for p in [*learner.net.parameters(), *learner.target.parameters()] if p.dim() == 4]
    assert len(kernels) == 6
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_bf16_is_close_to_fp32_and_keeps_fp32_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlsuite.core.cpu.has_bf16", lambda: True)  # torch emulates it where the processor has none
    full, weights = losses(config(learning_rate=0.05))
    half, moved = losses(config(learning_rate=0.05, precision="bf16"))
    assert half == pytest.approx(full, rel=0.05)
    assert half != full  # bf16 was used at all
    for name, tensor in moved.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, weights[name], rtol=0.05, atol=0.01)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_nets_give_the_same_numbers() -> None:
    """Marked slow because compiling takes long."""
    plain, weights = losses(config(learning_rate=0.05))
    fast, moved = losses(config(learning_rate=0.05, compile=True))
    assert fast == pytest.approx(plain, rel=1e-3)
    assert weights.keys() == moved.keys()  # a checkpoint of a compiled net is one of the net
    for name in weights:
        torch.testing.assert_close(moved[name], weights[name], rtol=1e-3, atol=1e-4)


def test_cuda_graphs_are_refused_on_the_cpu() -> None:
    with pytest.raises(UsageError, match=r"learner\.cuda_graphs needs a CUDA device"):
        Learner(dqn(), config(cuda_graphs=True, optimizer="adam"), seed=0)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_a_captured_update_reads_its_learning_rate_from_a_tensor(optimizer: str) -> None:
    """A graph replays the numbers it was captured with: a float would stay constant, however `learning_rate_end` anneals."""
    try:
        cfg = config(optimizer=optimizer, learning_rate=1e-2, learning_rate_end=1e-3, cuda_graphs=True)
        group = make_optimizer(cfg, [nn.Parameter(torch.zeros(2))]).param_groups[0]
    except (UsageError, ValueError):
        return  # refusing the combination is as good
    assert isinstance(group["lr"], Tensor)
    assert float(group["lr"]) == pytest.approx(1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_give_the_same_numbers_as_eager_updates() -> None:
    """Also across a move of the target and a changing learning rate, which happen between replays."""
    device = torch.device("cuda")

    def run(graphs: bool) -> tuple[list[float], list[Any], dict[str, Tensor]]:
        cfg = config(
            optimizer="adam",
            learning_rate=1e-2,
            learning_rate_end=1e-3,
            cuda_graphs=graphs,
            target_period_learner_steps=5,
            max_grad_norm=1.0,
        )
        learner = Learner(dqn(PIXELS, "small", double=True), cfg, seed=3, device=device, anneal_over=12)
        out, priorities = [], []
        for seed in range(12):
            update = learner.step(learner.stage(sample(seed, PIXELS, 8)), agent_steps=seed)
            out.append(float(update.metrics["losses/loss"]))
            assert update.priority is not None
            priorities.append(update.priority())
        return out, priorities, tensors(learner.online.master)

    plain, plain_priorities, weights = run(False)
    fast, priorities, moved = run(True)
    assert fast == pytest.approx(plain, rel=1e-3)
    np.testing.assert_allclose(priorities, plain_priorities, rtol=1e-2, atol=1e-4)
    for name in weights:
        torch.testing.assert_close(moved[name], weights[name], rtol=1e-3, atol=1e-4)


def test_staging_keeps_every_leaf() -> None:
    learner = Learner(Toy(), config(), seed=0)
    one = sample(0)
    batch = learner.stage(one)
    assert isinstance(batch, DeviceBatch)
    assert batch.ready is None  # nothing to wait for on the CPU
    for tensor, array in zip(batch.trajectory.steps[:-1], one.trajectory.steps[:-1], strict=True):
        assert torch.equal(tensor, torch.from_numpy(array))
    assert torch.equal(batch.weights, torch.from_numpy(one.weights))
    assert np.array_equal(batch.keys, one.keys)


def test_batches_staged_ahead_give_the_same_updates() -> None:
    batches = [sample(seed) for seed in range(6)]
    now, ahead = (Learner(dqn(), config(optimizer="adam", learning_rate=1e-2), seed=0) for _ in range(2))
    for one in batches:
        now.step(now.stage(one))
    queue = [ahead.stage(one) for one in batches]
    for batch in queue:
        ahead.step(batch)
    assert identical(tensors(now.net), tensors(ahead.net))


def test_a_staged_batch_outlives_its_slots() -> None:
    """Prefetched batches wait while the collector overwrites the ring: they must be copies."""
    spec = EnvSpec((4, 6, 6), "uint8", 3, None, 4, 1)
    replay = build_replay(
        ReplayConfig(capacity_agent_steps=20, min_agent_steps=1, samples_per_insert=1e6), spec, 1, Transitions(1), 10, seed=0
    )
    rng = np.random.default_rng(0)

    def unroll() -> Unroll:
        no = np.zeros((10, 1), bool)
        planes = rng.integers(0, 256, (10, 1, 6, 6)).astype(np.uint8)
        return Unroll(Step(planes, rng.random((10, 1)).astype(np.float32), no, no, no, rng.integers(0, 3, (10, 1)), {}))

    replay.add(unroll())
    learner = Learner(Toy(), config(), seed=0)
    batch = learner.stage(replay.sample(8))
    kept = copy.deepcopy(batch)
    for _ in range(4):
        replay.add(unroll())
        replay.sample(8)
    for tensor, before in zip(batch.trajectory.steps[:-1], kept.trajectory.steps[:-1], strict=True):
        assert torch.equal(tensor, before)
    assert np.array_equal(batch.keys, kept.keys)
    assert torch.equal(batch.weights, kept.weights)


def test_learning_reaches_a_known_value() -> None:
    """A one-step task: Q of the action taken converges to its reward."""
    agent = dqn(reward_clip=None)
    learner = Learner(agent, config(optimizer="adam", learning_rate=1e-2), seed=0)
    one = sample(0)
    one.trajectory.steps.terminal[1] = True
    for _ in range(300):
        update = learner.step(learner.stage(unit(one)))
    assert float(update.metrics["losses/td_error"]) < 0.05
