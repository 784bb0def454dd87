"""REINFORCE, A2C, PPO and IMPALA: losses by hand, minibatches and shared parts. Shapes: T steps, B environments, A actions."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rlsuite
from rlsuite.agents.a2c import A2C
from rlsuite.agents.impala import Impala
from rlsuite.agents.policy_gradient import (
    PolicyGradientAgent,
    columns,
    entropy,
    explained_variance,
    likeliest,
    log_prob,
    sample,
)
from rlsuite.agents.ppo import PPO, normalised
from rlsuite.agents.reinforce import Reinforce
from rlsuite.config.schema import LearnerConfig, NetConfig
from rlsuite.core.agent import Mode
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.returns import gae
from rlsuite.core.types import EnvSpec, Step, Trajectory, take_columns, transitions
from rlsuite.learning.learner import Learner
from rlsuite.nets.policy_net import PolicyNet, PolicyOutput
from rlsuite.replay import Sample

SPEC = EnvSpec((3,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)
ARM = EnvSpec((3,), "float32", num_actions=0, num_states=None, stack=1, frames_per_step=1, action_shape=(2,))
NET = NetConfig(torso="mlp", hidden=8)
T, B = 6, 4


def small(memory: str) -> NetConfig:
    return NetConfig(torso="mlp", hidden=8, memory=memory, **({} if memory == "none" else {"memory_size": 4}))


AGENTS: list[tuple[type[PolicyGradientAgent], dict[str, Any]]] = [(Reinforce, {}), (A2C, {}), (PPO, {}), (Impala, {})]


def agent(kind: type[PolicyGradientAgent], spec: EnvSpec = SPEC, net: NetConfig = NET, **settings: Any) -> Any:
    return kind(kind.Config(name="x", **settings), net, spec)


def rollout(made: Any, seed: int = 0, ends: bool = True, net: nn.Module | None = None) -> Trajectory:
    """[T+1,B] with episodes that end in all ways, acted in by `net` (a new one if None)."""
    rng = np.random.default_rng(seed)
    last = np.zeros((T + 1, B), bool)
    terminal = last.copy()
    if ends:
        last[2, 0] = terminal[2, 0] = True  # over
        last[3, 1] = True  # a time limit
        terminal[1, 2] = True  # a life lost
        last[T, 3] = terminal[T, 3] = True  # over at the very end
    first = np.concatenate([np.zeros((1, B), bool), last[:-1]])
    steps = Step(
        torch.from_numpy(rng.standard_normal((T + 1, B, 3)).astype(np.float32)),
        torch.from_numpy(rng.standard_normal((T + 1, B)).astype(np.float32)),
        *(torch.from_numpy(leaf) for leaf in (first, last, terminal)),
        action=torch.zeros(T + 1, B, dtype=torch.int64),
        extras={},
    )
    torch.manual_seed(seed)
    net = made.make_net() if net is None else net
    state = made.initial_state(B)
    with torch.no_grad():
        policy, _ = net(steps, state)
        action = sample(policy, torch.Generator().manual_seed(seed))
        return Trajectory(steps._replace(action=action, extras={"log_prob": log_prob(policy, action)}), state)


def batch(trajectory: Trajectory) -> Sample:
    arrays = Trajectory(Step(*(_numpy(leaf) for leaf in trajectory.steps)), tuple(leaf.numpy() for leaf in trajectory.state))
    return Sample(arrays, np.arange(B), np.ones(B, np.float32), 0)


def _numpy(leaf: Any) -> Any:
    return {name: value.numpy() for name, value in leaf.items()} if isinstance(leaf, dict) else leaf.numpy()


# Distributions


def test_categorical_against_torch() -> None:
    logits = torch.randn(T, B, 3, generator=torch.Generator().manual_seed(0))
    policy, reference = PolicyOutput(logits, None, torch.zeros(T, B)), torch.distributions.Categorical(logits=logits)
    action = sample(policy, torch.Generator().manual_seed(1))
    assert action.shape == (T, B)
    torch.testing.assert_close(log_prob(policy, action), reference.log_prob(action))
    torch.testing.assert_close(entropy(policy), reference.entropy())
    assert torch.equal(likeliest(policy), logits.argmax(-1))


def test_gaussian_against_torch() -> None:
    mean, log_std = torch.randn(T, B, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, -0.7])
    policy = PolicyOutput(mean, log_std, torch.zeros(T, B))
    reference = torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp().expand_as(mean)), 1)
    action = sample(policy, torch.Generator().manual_seed(1))
    assert action.shape == (T, B, 2)
    torch.testing.assert_close(log_prob(policy, action), reference.log_prob(action))
    torch.testing.assert_close(entropy(policy), reference.entropy())
    assert torch.equal(likeliest(policy), mean)


def test_samples_follow_the_policy() -> None:
    p = torch.tensor([0.1, 0.6, 0.3])
    policy = PolicyOutput(p.log().expand(1, 20_000, 3), None, torch.zeros(1, 20_000))
    counts = torch.bincount(sample(policy, torch.Generator().manual_seed(0)).flatten(), minlength=3) / 20_000
    assert torch.allclose(counts, p, atol=4 * math.sqrt(0.25 / 20_000))


@pytest.mark.parametrize("spec", [SPEC, ARM])
@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_acting_stores_the_log_probability_of_the_action(spec: EnvSpec, memory: str) -> None:
    made = agent(PPO, spec, small(memory))  # type: ignore[arg-type]
    net = made.make_net()
    step = Step(*(leaf[:1] for leaf in rollout(made).steps[:-1]), extras={})
    for explore in (True, False):
        action, state, extras = made.act(net, step, made.initial_state(B), Mode(explore, 0, torch.Generator().manual_seed(3)))
        policy, _ = net(step, made.initial_state(B))
        torch.testing.assert_close(extras["log_prob"], log_prob(policy, action.unsqueeze(0))[0])
        assert len(state) == (0 if memory == "none" else 2)
        if not explore:
            assert torch.equal(action, likeliest(policy)[0])
    made = agent(PPO, spec, greedy_eval=False)
    actions = {
        tuple(made.act(made.make_net(), step, (), Mode(False, 0, torch.Generator().manual_seed(seed)))[0].flatten().tolist())
        for seed in range(8)
    }
    assert len(actions) > 1


def test_initialisation() -> None:
    net = PolicyNet(NetConfig(torso="small", hidden=32), EnvSpec((4, 44, 44), "uint8", 6, None, 4, 4))
    gram = net.policy.weight @ net.policy.weight.T
    torch.testing.assert_close(gram, 1e-4 * torch.eye(6), rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(net.value.weight.norm(), torch.tensor(1.0))
    dense = net.trunk.dense.weight
    torch.testing.assert_close(dense @ dense.T, 2 * torch.eye(32), rtol=1e-3, atol=1e-4)
    assert all(bool((p == 0).all()) for name, p in net.named_parameters() if name.endswith("bias"))


# Losses


def test_columns_average_to_the_mean_of_valid_steps() -> None:
    x, valid = torch.arange(6.0).view(2, 3), torch.tensor([[1, 0, 1], [1, 1, 0]]).bool()
    assert float(columns(x, valid).mean()) == pytest.approx((0 + 2 + 3 + 4) / 4)
    assert float(explained_variance(x, x, valid)) == 1
    assert float(explained_variance(torch.zeros(2, 3), x, valid)) == 0


def test_ppo_by_hand() -> None:
    """One step, four environments: ratios 1.5 and 0.5 with advantages of both signs; only two of them are clipped."""
    made = agent(PPO, clip=0.2, normalise_advantages=False, value_weight=0.5, entropy_weight=0.1, value_clip=0.3)
    logits = torch.zeros(1, 4, 3, requires_grad=True)
    value = torch.tensor([[1.0, 0.0, 2.0, 0.0]], requires_grad=True)
    log_p = math.log(1 / 3)
    ratio = torch.tensor([[1.5, 1.5, 0.5, 0.5]])
    extras = {
        "log_prob": log_p - ratio.log(),
        "advantage": torch.tensor([[1.0, -1.0, 1.0, -1.0]]),
        "return": torch.tensor([[0.0, 0.0, 0.0, 1.0]]),
        "value": torch.tensor([[0.0, 0.0, 0.0, 0.0]]),
    }
    no = torch.zeros(1, 4, dtype=torch.bool)
    steps = Step(torch.zeros(1, 4, 3), torch.zeros(1, 4), no, no, no, torch.zeros(1, 4, dtype=torch.int64), extras)
    loss = made.loss(lambda *_: (PolicyOutput(logits, None, value), ()), None, Trajectory(steps, ()), None)
    surrogate = [1.2, -1.5, 0.5, -0.8]
    # (V - R)^2 against that of V moved by at most 0.3 from its old value: the larger counts.
    errors = [1.0, 0.0, 4.0, 1.0]
    expected = [-s + 0.25 * e - 0.1 * math.log(3) for s, e in zip(surrogate, errors, strict=True)]
    assert loss.loss.tolist() == pytest.approx(expected)
    assert float(loss.metrics["losses/clip_fraction"]) == 1.0
    assert float(loss.metrics["losses/approx_kl"]) == pytest.approx(np.mean([r - 1 - math.log(r) for r in (1.5, 1.5, 0.5, 0.5)]))
    loss.loss.sum().backward()
    assert logits.grad is not None
    free = logits.grad.abs().sum(-1)[0] > 1e-6  # the entropy has no gradient at a uniform policy
    assert free.tolist() == [False, True, True, False]


def test_ppo_prepares_shuffled_minibatches_of_every_step_each_epoch() -> None:
    made = agent(PPO, epochs=3, minibatches=4)
    trajectory = rollout(made)
    net = made.make_net()
    with torch.no_grad():
        values = net(trajectory.steps, ())[0].value
        parts = list(made.prepare(net, trajectory, torch.Generator().manual_seed(0)))
    assert len(parts) == 12
    assert all(part.steps.first.shape == (1, T * B // 4) for part in parts)
    advantage = gae(transitions(trajectory.steps, 0.99), values, 0.95)
    for epoch in range(3):
        some = parts[4 * epoch : 4 * epoch + 4]
        seen = torch.cat([part.steps.observation[0] for part in some])
        place = [int((trajectory.steps.observation[:-1].flatten(0, 1) == row).all(1).nonzero()) for row in seen]
        assert sorted(place) == list(range(T * B))
        assert place != list(range(T * B))
        got = torch.cat([part.steps.extras["advantage"][0] for part in some])
        torch.testing.assert_close(got, advantage.flatten()[place])
        back = torch.cat([part.steps.extras["return"][0] for part in some])
        torch.testing.assert_close(back, (advantage + values[:-1]).flatten()[place])
    assert not torch.equal(parts[0].steps.observation, parts[4].steps.observation)


def test_recurrent_ppo_prepares_whole_environments_with_their_states() -> None:
    net_config = NetConfig(torso="mlp", hidden=8, memory="lstm", memory_size=5)
    made = agent(PPO, net=net_config, epochs=1, minibatches=2)
    trajectory = rollout(made)._replace(state=tuple(torch.arange(B * 5.0).view(B, 5) + i for i in range(2)))
    parts = list(made.prepare(made.make_net(), trajectory, torch.Generator().manual_seed(0)))
    assert [part.steps.first.shape for part in parts] == [(T, B // 2)] * 2
    for part in parts:
        for b in range(B // 2):
            env_index = int(part.state[0][b, 0]) // 5
            assert torch.equal(part.steps.observation[:, b], trajectory.steps.observation[:-1, env_index])
            assert torch.equal(part.state[1][b], trajectory.state[1][env_index])


def test_minibatch_gradients_add_up_to_the_batch() -> None:
    made = agent(PPO, epochs=1, minibatches=1, normalise_advantages=False)
    trajectory = rollout(made, ends=False)
    torch.manual_seed(5)
    net = made.make_net()
    with torch.no_grad():
        (whole,) = made.prepare(net, trajectory, torch.Generator().manual_seed(0))

    def gradient(part: Trajectory) -> list[Tensor]:
        net.zero_grad()
        made.loss(net, net, part, torch.Generator()).loss.mean().backward()
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    full = gradient(whole)
    pieces = [gradient(take_columns(whole, rows)) for rows in torch.arange(T * B).tensor_split(4)]
    for i, expected in enumerate(full):
        torch.testing.assert_close(sum(piece[i] for piece in pieces) / 4, expected)


@pytest.mark.parametrize("size", [1, 2])
def test_final_observations_are_dealt_out_evenly(size: int) -> None:
    """No minibatch of two steps holds nothing else, and one that does is harmless."""
    made = agent(PPO, epochs=2, minibatches=T * B // size)
    trajectory = rollout(made)
    net = made.make_net()
    with torch.no_grad():
        parts = list(made.prepare(net, trajectory, torch.Generator().manual_seed(0)))
    ends = int(trajectory.steps.last[:-1].sum())
    assert ends == 2
    assert len(parts) == 2 * T * B // size
    assert sum(int(part.steps.last.all()) for part in parts) == (2 * ends if size == 1 else 0)
    for epoch in (parts[: len(parts) // 2], parts[len(parts) // 2 :]):
        seen = torch.cat([part.steps.extras["advantage"].flatten() for part in epoch])
        assert len(seen.unique()) == T * B - ends + 1  # every step once; final observations have the advantage 0
    for part in parts:
        loss = made.loss(net, net, part, torch.Generator())
        assert torch.isfinite(loss.loss).all()
        assert all(torch.isfinite(value) for value in loss.metrics.values())


def test_ppo_normalises_over_the_rollout_where_minibatches_are_tiny() -> None:
    """The only advantage of a minibatch of one step, normalised in it, is 0: nothing would be learned."""
    made, raw = (agent(PPO, minibatches=T * B, epochs=1, normalise_advantages=on) for on in (True, False))
    net = made.make_net()
    trajectory = rollout(made, net=net)
    with torch.no_grad():
        parts = list(made.prepare(net, trajectory, torch.Generator().manual_seed(0)))
        assert not any("normalised" in part.steps.extras for part in raw.prepare(net, trajectory, torch.Generator()))
    parts = [part for part in parts if not part.steps.last.all()]
    scaled = torch.cat([part.steps.extras["normalised"].flatten() for part in parts])
    advantage = torch.cat([part.steps.extras["advantage"].flatten() for part in parts])
    torch.testing.assert_close(scaled, (advantage - advantage.mean()) / advantage.std(correction=0))
    losses = [float(made.loss(net, net, part, torch.Generator()).metrics["losses/policy_loss"]) for part in parts]
    torch.testing.assert_close(torch.tensor(losses), -scaled, rtol=1e-3, atol=1e-5)  # the ratio is 1


def test_ppo_learns_from_episodes_of_two_steps_in_minibatches_of_eight(tmp_path: Path) -> None:
    """Some of them hold only final observations: they made every weight NaN."""
    settings = {
        "env.id": f"{write_bandit(tmp_path)}:Bandit",
        "env.num_envs": 8,
        "learner.batch_size": 8,
        "run.collect_agent_steps": 8,
        "agent.minibatches": 32,
        "run.agent_steps": 1_800,
        "run.threads": 1,
        "eval.every_agent_steps": None,
        "eval.stop_at_return": None,
        "eval.episodes": 4,
    }
    with pytest.raises(UsageError, match=r"agent\.minibatches = 32 does not divide"):
        rlsuite.train("classic/ppo", settings, run_dir=tmp_path / "run")
    result = rlsuite.train("classic/ppo", settings | {"agent.minibatches": 8}, run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.mean == 2


def write_bandit(folder: Path) -> Path:
    """A file with an environment of two steps an episode, each of which pays for action 1."""
    file = folder / "bandit.py"
    file.write_text(
        "import gymnasium as gym\nimport numpy as np\n\n\n"
        "class Bandit(gym.Env):\n"
        "    observation_space, action_space = gym.spaces.Box(0, 1, (1,), np.float32), gym.spaces.Discrete(2)\n"
        "    metadata = {'render_modes': []}\n\n"
        "    def __init__(self, render_mode=None):\n        self.t = 0\n\n"
        "    def reset(self, *, seed=None, options=None):\n        self.t = 0\n        return np.ones(1, np.float32), {}\n\n"
        "    def step(self, action):\n        self.t += 1\n"
        "        return np.ones(1, np.float32), float(action), self.t >= 2, False, {}\n"
    )
    return file


def test_normalised_uses_valid_steps_only() -> None:
    x, valid = torch.tensor([[1.0, 3.0, 1e9]]), torch.tensor([[True, True, False]])
    assert normalised(x, valid)[0, :2].tolist() == pytest.approx([-1, 1])


@pytest.mark.parametrize(("kind", "settings"), AGENTS)
@pytest.mark.parametrize("spec", [SPEC, ARM])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_final_observations_do_not_change_the_loss(
    kind: type[PolicyGradientAgent], settings: dict[str, Any], spec: EnvSpec, memory: str
) -> None:
    """The action at a final observation was never taken: neither it nor its log-probability may matter."""
    made = agent(kind, spec, small(memory), **settings)  # type: ignore[arg-type]
    trajectory = rollout(made)
    learner = Learner(made, LearnerConfig(batch_size=B, optimizer="sgd", learning_rate=0.1), seed=0)
    other = Learner(made, LearnerConfig(batch_size=B, optimizer="sgd", learning_rate=0.1), seed=0)
    steps = trajectory.steps
    ignored = steps.last | (torch.arange(T + 1) == T).unsqueeze(1)
    noise = 1 - steps.action if not spec.action_shape else steps.action + 1
    mask = ignored.unsqueeze(-1) if spec.action_shape else ignored
    changed = steps._replace(
        action=torch.where(mask, noise.abs(), steps.action),
        extras={"log_prob": torch.where(ignored, steps.extras["log_prob"] - 5, steps.extras["log_prob"])},
    )
    learner.step(learner.stage(batch(trajectory)))
    other.step(other.stage(batch(Trajectory(changed, trajectory.state))))
    for a, b in zip(learner.net.parameters(), other.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_reinforce_ignores_unfinished_episodes() -> None:
    made = agent(Reinforce)
    trajectory = rollout(made)
    net = made.make_net()
    loss = made.loss(net, net, trajectory, torch.Generator())
    # Environment 0 ends at 2, environment 1 at 3, environment 2 never (a lost life ends no episode), environment 3 at T.
    assert float(loss.metrics["losses/whole_returns"]) == pytest.approx((2 + 3 + 0 + T) / (T * B))
    assert float(loss.loss[2].detach()) == 0


def test_impala_at_lag_0_is_a2c() -> None:
    """Behaviour and target policy are the same: V-trace's targets are the n-step returns, and so are the gradients."""
    torch.manual_seed(2)
    one, two = agent(A2C), agent(Impala)
    net = one.make_net()
    trajectory = rollout(one, net=net)
    losses = [made.loss(net, net, trajectory, torch.Generator()).loss for made in (one, two)]
    torch.testing.assert_close(losses[0], losses[1])


def test_impala_corrects_for_older_weights() -> None:
    made = agent(Impala)
    trajectory = rollout(made)
    net = made.make_net()  # other weights than those that acted
    with torch.no_grad():
        net.policy.weight.add_(torch.randn(net.policy.weight.shape, generator=torch.Generator().manual_seed(0)))
    loss = made.loss(net, net, trajectory, torch.Generator())
    assert float(loss.metrics["losses/rho"]) != pytest.approx(1.0, abs=1e-3)


def test_kl_stops_the_epochs_and_metrics_are_means() -> None:
    free = agent(PPO, epochs=5, minibatches=2)
    tight = agent(PPO, epochs=5, minibatches=2, target_kl=1e-9)
    config = LearnerConfig(batch_size=B, optimizer="adam", learning_rate=0.05)
    a, b = Learner(free, config, seed=0), Learner(tight, config, seed=0)
    update = a.step(a.stage(batch(rollout(free))))
    assert a.steps == 10
    assert float(update.metrics["charts/policy_lag"]) == 0
    b.step(b.stage(batch(rollout(tight))))
    assert b.steps == 2  # the first minibatch is of the policy that acted, the second of an updated one
    assert update.priority is None


def test_lag_is_measured_from_the_version() -> None:
    made = agent(Impala)
    learner = Learner(made, LearnerConfig(batch_size=B), seed=0)
    for _ in range(3):
        update = learner.step(learner.stage(batch(rollout(made))))
    assert float(update.metrics["charts/policy_lag"]) == 2  # version 0 acted, two updates came before this one


@pytest.mark.parametrize(
    ("config", "overrides", "reported"),
    [
        ("classic/dqn", {"env.id": "Pendulum-v1"}, ["Pendulum-v1 has continuous actions", "agent.name=dqn", "ppo"]),
        ("classic/c51", {"net.memory": "lstm"}, ["net.memory = 'lstm'", "agent.name=c51", "ppo"]),
        ("classic/dqn", {"net.separate_value": True}, ["net.separate_value", "agent.name=dqn", "a2c"]),
    ],
)
def test_what_an_agent_cannot_do_is_refused(config: str, overrides: dict[str, Any], reported: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        rlsuite.train(config, overrides, run_dir=tmp_path / "run")
    assert all(part in str(error.value) for part in reported), str(error.value)
    assert not (tmp_path / "run").exists()


def test_numbers_that_are_not_finite_stop_the_run_and_keep_the_last_checkpoint(tmp_path: Path) -> None:
    """A learning rate that is far too large: the first bad number is named, and no bad weights are written."""
    settings = {"run.agent_steps": 2_048, "eval.every_agent_steps": None, "eval.stop_at_return": None, "eval.episodes": 1}
    good = rlsuite.train("classic/a2c", settings, run_dir=tmp_path / "run")
    before = sorted(path.name for path in (good.run / "checkpoints").iterdir())
    worse = {
        "run.agent_steps": 20_000,
        "learner.learning_rate": 1e30,
        "learner.learning_rate_end": None,
    }
    with pytest.raises(RlsuiteError, match="not finite"):
        rlsuite.train(None, worse | {"learner.max_grad_norm": None}, resume=good.run)
    assert sorted(path.name for path in (good.run / "checkpoints").iterdir()) == before


@pytest.mark.parametrize("kind", [Reinforce, A2C, PPO, Impala])
def test_they_are_on_policy(kind: type[PolicyGradientAgent]) -> None:
    assert agent(kind).on_policy
