"""Novelty bonuses and auxiliary losses of every agent: who gets which bonus, parts, advantages by hand, and what is refused."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rlsuite
from rlsuite.acting.inference import Layout
from rlsuite.acting.initial_priorities import InitialPriorities
from rlsuite.agents.net_agent import APART
from rlsuite.config.loader import resolve
from rlsuite.config.schema import LearnerConfig, NetConfig
from rlsuite.core.agent import Agent, Rollouts, Sequences, Transitions, agent_class
from rlsuite.core.errors import UsageError
from rlsuite.core.returns import BONUS, gae
from rlsuite.core.types import EnvSpec, Step, Trajectory, Unroll, transitions, tree_map
from rlsuite.factories import make_agent, make_spec
from rlsuite.learning.learner import DeviceBatch, Learner
from rlsuite.nets.policy_net import PolicyOutput
from rlsuite.nets.pretrained import backbones_of, freeze
from rlsuite.replay import Sample
from rlsuite.runtime.distillation import make_trained_agent

PIXELS = EnvSpec((2, 44, 44), "uint8", num_actions=3, num_states=None, stack=2, frames_per_step=4)
VECTOR = EnvSpec((3,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)
B = 3
APARTS = ("ppo", "a2c", "impala")
SETTINGS: dict[str, dict[str, Any]] = {
    "dqn": {"n_steps": 3},
    "c51": {},
    "qrdqn": {"quantiles": 5},
    "iqn": {},
    "r2d2": {"burn_in": 1, "unroll": 3, "stride": 2, "n_steps": 2},
    "pqn": {"minibatches": 1, "epochs": 1},
    "ppo": {"minibatches": 2, "epochs": 1},
    "a2c": {},
    "impala": {},
    "reinforce": {},
}


def made(name: str, novelty: str = "none", auxiliary: str = "none", spec: EnvSpec = VECTOR, **more: Any) -> Any:
    kind = agent_class(name)
    torso = "small" if len(spec.observation_shape) == 3 else "mlp"
    memory = {"memory": "lstm", "memory_size": 4} if name == "r2d2" else {}
    net = NetConfig(torso=torso, hidden=8, auxiliary=auxiliary, **memory)
    return kind(kind.Config(name=name, novelty=novelty, **{**SETTINGS[name], **more}), net, spec)


def trajectory(agent: Agent, ends: tuple[tuple[int, int], ...] = (), lives: tuple[tuple[int, int], ...] = ()) -> Trajectory:
    """Random steps [T,B,...]; `ends`: (step, column) of final observations, `lives`: of lost lives."""
    sequence, spec = agent.sequence, agent.spec
    t = 5 if isinstance(sequence, Rollouts) else sequence.length
    rng = np.random.default_rng(0)
    last, terminal = np.zeros((2, t, B), bool)
    for step, column in ends:
        last[step, column] = True
    for step, column in lives:
        terminal[step, column] = True
    first = np.concatenate([np.zeros((1, B), bool), last[:-1]])
    seen = rng.normal(size=(t, B, *spec.observation_shape)).astype(np.float32)
    if spec.observation_dtype == "uint8":
        seen = rng.integers(0, 256, seen.shape, dtype=np.uint8)
    flags = (torch.from_numpy(leaf) for leaf in (first, last, terminal))
    action = torch.from_numpy(rng.integers(0, 3, (t, B)))
    steps = Step(torch.from_numpy(seen), torch.zeros(t, B), *flags, action, {"log_prob": torch.full((t, B), -1.1)})
    return Trajectory(steps, agent.initial_state(B))


def taught(agent: Any, seed: int = 0, **config: Any) -> Learner:
    return Learner(agent, LearnerConfig(**{"learning_rate": 1e-2, "target_period_learner_steps": 1, **config}), seed=seed)


def batch(one: Trajectory) -> DeviceBatch:
    return DeviceBatch(one, torch.ones(one.steps.reward.shape[1]), np.arange(one.steps.reward.shape[1]), None)


def test_the_mean_bonus_is_that_of_the_steps_that_have_one() -> None:
    agent = made("dqn", "rnd(width=8)")
    net = agent.make_net()
    one = agent.observe(net, trajectory(agent), learning=False)
    metrics = agent.of_part("novelty").loss(net, net, one, torch.Generator()).metrics
    assert float(metrics["charts/bonus"]) == pytest.approx(float(one.steps.extras[BONUS][1:].mean()))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("novelty", ["rnd(weight=0.25,width=8)", "reconstruction(weight=0.25,width=8,latent=2)"])
@pytest.mark.parametrize("spec", [VECTOR, PIXELS], ids=["vector", "pixels"])
def test_every_agent_gets_bonuses_and_teaches_the_predictor(name: str, novelty: str, spec: EnvSpec) -> None:
    agent = made(name, novelty, "reconstruct(latent=2)", spec)
    learner = taught(agent)
    if isinstance(agent.sequence, Transitions):
        assert agent.sequence.whole  # the bonus of every reward needs its observation
    one = trajectory(agent, ends=((2, 0),) if isinstance(agent.sequence, Rollouts | Sequences) else ())
    bonus = learner.observed(one).steps.extras[APART if name in APARTS else BONUS]
    assert bonus.shape == one.steps.reward.shape
    assert (bonus[0] == 0).all()
    assert ((bonus[1:] > 0) == ~one.steps.first[1:]).all()
    before = {key: value.clone() for key, value in learner.net.state_dict().items()}
    metrics = learner.step(batch(one)).metrics
    assert {"charts/bonus", "losses/novelty_loss", "losses/agent_loss", "losses/reconstruction"} <= metrics.keys()
    assert all(torch.isfinite(value) for value in metrics.values())
    after = learner.net.state_dict()
    changed = {key.split(".")[0] + "." + key.split(".")[1] for key in before if not torch.equal(before[key], after[key])}
    assert {"novelty.seen", "novelty.size"} <= changed
    assert ("novelty.predictor" if "rnd" in novelty else "novelty.encoder") in changed
    assert "auxiliary.decoder" in changed
    assert "novelty.fixed" not in changed
    assert any(key.startswith(("torso", "trunk")) for key in changed)


def test_the_weight_scales_bonuses_that_are_added_to_rewards() -> None:
    light, heavy = (made("dqn", f"rnd(weight={weight},width=8)") for weight in (0.5, 2))
    net = light.make_net()
    one = trajectory(light)
    found = [agent.observe(net, one, learning=False).steps.extras[BONUS] for agent in (light, heavy)]
    torch.testing.assert_close(4 * found[0], found[1])


@pytest.mark.parametrize("name", ["dqn", "c51", "qrdqn", "iqn", "r2d2", "pqn", "reinforce"])
def test_added_bonuses_are_rewards(name: str) -> None:
    """The loss with bonuses is the loss with as much more reward, which is not clipped again."""
    agent = made(name, "rnd(width=8)", reward_clip=1.0) if name != "reinforce" else made(name, "rnd(width=8)")
    one = trajectory(agent, ends=((4, 1),) if name == "reinforce" else ())
    net = agent.make_net()
    bonus = 3 + torch.rand(one.steps.reward.shape)
    given = one._replace(steps=one.steps._replace(extras={**one.steps.extras, BONUS: bonus}))
    raw = agent.config.model_copy(update={"reward_clip": None})
    plain = type(agent)(raw, agent.net_config, agent.spec)
    paid = one._replace(steps=one.steps._replace(reward=one.steps.reward + bonus))

    def loss(who: Any, what: Trajectory) -> Tensor:
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            part = next(who.prepare(net, what, rng))
            return who.loss(net, net, part, rng).loss  # type: ignore[no-any-return]

    torch.testing.assert_close(loss(agent, given), loss(plain, paid))
    assert not torch.allclose(loss(agent, given), loss(agent, one))


def test_the_bonus_of_a_lost_life_counts_and_ends_the_return_as_a_reward_does() -> None:
    """DQN, n = 3: a terminal at step 1 keeps the bonus that came with it and none after it."""
    agent = made("dqn", "rnd(width=8)", discount=0.5)
    net = agent.make_net()
    one = trajectory(agent, lives=((1, 0),))
    bonus = torch.tensor([9.0, 1.0, 2.0, 4.0])[:, None].expand(4, B)
    given = one._replace(steps=one.steps._replace(extras={BONUS: bonus}))
    found = agent.loss(net, net, given, torch.Generator())
    q = net(one.start(), ())[0][0, ..., 0].gather(-1, one.steps.action[0][:, None])[:, 0]
    v = net(one.bootstrap(), ())[0][0, ..., 0].amax(-1)
    expected = torch.stack([torch.tensor(1.0), *(1 + 0.5 * 2 + 0.25 * 4 + 0.125 * v[1:])]) - q
    torch.testing.assert_close(found.td[0], expected.detach())


class Fixed(nn.Module):
    """Values of rewards and of bonuses that are given, [T,B]."""

    def __init__(self, value: Tensor, bonus_value: Tensor):
        super().__init__()
        self.value, self.bonus = value, bonus_value

    def forward(self, step: Step, state: Any) -> tuple[PolicyOutput, Any]:
        return PolicyOutput(torch.zeros(*self.value.shape, 3), None, self.value, self.bonus), state


def episode_that_ends(terminal: bool) -> Step:
    """Rewards 0, 1, 2, 8, 4 with a final observation at step 2."""
    column = torch.tensor([0, 1.0, 2.0, 8.0, 4.0])[:, None]
    last = torch.tensor([0, 0, 1, 0, 0]).bool()[:, None]
    first = torch.tensor([0, 0, 0, 1, 0]).bool()[:, None]
    bonus = torch.tensor([0.0, 10.0, 20.0, 0.0, 40.0])[:, None]
    none = torch.zeros(5, 1, dtype=torch.int64)
    extras = {"log_prob": torch.full((5, 1), -np.log(3.0), dtype=torch.float32), APART: bonus}
    return Step(torch.zeros(5, 1, 3), column, first, last, last & terminal, none, extras)


V, BONUS_V = [1.0, 2.0, 3.0, 4.0, 5.0], [100.0, 200.0, 999.0, 300.0, 400.0]


@pytest.mark.parametrize("terminal", [False, True])
def test_two_values_give_one_advantage_by_hand(terminal: bool) -> None:
    """λ = 1, γ = 1/2 for rewards, 1/4 for bonuses, which go on after the end of the episode; their weight is 1/10."""
    agent = made(
        "ppo", "rnd(weight=0.1,discount=0.25,width=8)", discount=0.5, gae_lambda=1.0, minibatches=1, normalise_advantages=False
    )
    net = Fixed(torch.tensor(V)[:, None], torch.tensor(BONUS_V)[:, None])
    (part,) = list(agent.prepare(net, Trajectory(episode_that_ends(terminal), ()), torch.Generator().manual_seed(0)))
    order = part.steps.extras["return"][0].argsort()  # minibatches are shuffled
    found = {key: part.steps.extras[key][0] for key in ("advantage", "return", "bonus_return", "value")}
    v_end = 0.0 if terminal else 3.0
    returns = {0: 1 + 0.5 * (2 + 0.5 * v_end), 1: 2 + 0.5 * v_end, 3: 4 + 0.5 * 5}
    from_3 = 40 + 0.25 * 400
    bonus_returns = {0: 10 + 0.25 * (20 + 0.25 * from_3), 1: 20 + 0.25 * from_3, 3: from_3}
    assert order.numel() == 4
    for t, expected in returns.items():
        at = int((found["value"] == V[t]).nonzero())
        assert float(found["return"][at]) == pytest.approx(expected)
        assert float(found["bonus_return"][at]) == pytest.approx(bonus_returns[t])
        advantage = expected - V[t] + 0.1 * (bonus_returns[t] - BONUS_V[t])
        assert float(found["advantage"][at]) == pytest.approx(advantage)


@pytest.mark.parametrize("name", ["a2c", "impala"])
def test_a2c_and_impala_learn_from_the_same_two_returns(name: str) -> None:
    """On policy V-trace is the λ-return; the policy is uniform, so the loss of every step is its advantage times log 3."""
    settings = {"discount": 0.5, "entropy_weight": 0.0, "value_weight": 1.0} | ({"gae_lambda": 1.0} if name == "a2c" else {})
    agent = made(name, "rnd(weight=0.1,discount=0.25,width=8)", **settings)
    steps = episode_that_ends(True)
    net = Fixed(torch.tensor(V)[:, None], torch.tensor(BONUS_V)[:, None])
    found = agent.loss(net, net, Trajectory(steps, ()), torch.Generator())
    returns, own = [2.0, 2.0, 6.5], [10 + 0.25 * 55, 55.0, 140.0]
    values, bonus_values = [V[t] for t in (0, 1, 3)], [BONUS_V[t] for t in (0, 1, 3)]
    policy = [(r - v + 0.1 * (b - w)) * np.log(3) for r, v, b, w in zip(returns, values, own, bonus_values, strict=True)]
    value = [0.5 * (r - v) ** 2 + 0.5 * (b - w) ** 2 for r, v, b, w in zip(returns, values, own, bonus_values, strict=True)]
    assert float(found.metrics["losses/policy_loss"]) == pytest.approx(np.mean(policy), rel=1e-5)
    assert float(found.metrics["losses/value_loss"]) == pytest.approx(np.mean(value), rel=1e-5)


def test_ppo_learns_both_values() -> None:
    agent = made("ppo", "rnd(width=8)", minibatches=1)
    net = agent.make_net()
    one = agent.observe(net, trajectory(agent), learning=True)
    with torch.no_grad():
        (part,) = list(agent.prepare(net, one, torch.Generator().manual_seed(0)))
    agent.loss(net, net, part, torch.Generator()).loss.mean().backward()
    for head in (net.value, net.bonus_value):
        assert head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.novelty.parameters())  # those learn in a turn of their own
    plain = made("ppo").make_net()
    assert plain.bonus_value is None
    assert not any("novelty" in name or "auxiliary" in name for name in plain.state_dict())


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_nothing_leaks_between_episodes(name: str) -> None:
    """Whatever the next episode begins with, the bonuses and the loss of the steps before its start are the same."""
    agent = made(name, "rnd(width=8)", **({"minibatches": 1, "normalise_advantages": False} if name == "ppo" else {}))
    net = agent.make_net()
    one = trajectory(agent, ends=((1, 0),), lives=((1, 0),))
    other = copy.deepcopy(one)
    other.steps.observation[2, 0] = 50.0  # the first observation of the next episode
    key = APART if name == "ppo" else BONUS
    found = [agent.observe(net, each, learning=False).steps.extras[key] for each in (one, other)]
    assert found[0][2, 0] == found[1][2, 0] == 0
    assert torch.equal(*found)
    statistics = []
    for each in (one, other):
        copied = copy.deepcopy(net)
        agent.observe(copied, each, learning=True)
        statistics.append(copied.novelty.state_dict())
    assert all(torch.equal(value, statistics[1][key]) for key, value in statistics[0].items())  # not in the statistics either


def test_a_final_observation_teaches_the_predictor_and_a_first_one_does_not() -> None:
    agent = made("ppo", "rnd(width=8)")
    predictor = agent.of_part("novelty")
    assert agent.of_part("agent") is agent
    net = agent.make_net()
    with torch.no_grad():
        one = agent.observe(net, trajectory(agent, ends=((2, 0),)), learning=False)

    def loss(at: int) -> Tensor:
        changed = copy.deepcopy(one)
        changed.steps.observation[at, 0] += 7
        with torch.no_grad():
            return predictor.loss(net, net, changed, torch.Generator()).loss.mean()

    with torch.no_grad():
        plain = predictor.loss(net, net, one, torch.Generator()).loss.mean()
    assert loss(2) != plain
    assert loss(3) == plain
    errors = net.novelty(one.steps.observation)[~one.steps.first]
    torch.testing.assert_close(plain, errors.mean().detach())


def test_parts_divide_the_net() -> None:
    agent = made("ppo", "rnd(width=8)")
    net = agent.make_net()
    parts = agent.parts(net)
    names = {id(p): name for name, p in net.named_parameters()}
    own, predictor = ({names[id(p)] for p in part.parameters()} for part in parts.values())
    assert own | predictor == {name for name, p in net.named_parameters() if p.requires_grad}
    assert not own & predictor
    assert all(name.startswith("novelty.predictor.") for name in predictor)
    assert list(made("ppo").parts(net)) == [""]


@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_a_frozen_backbone_and_the_predictor_do_not_mix(name: str) -> None:
    """`net.weights` and `net.freeze` are about the agent's own backbone."""
    agent = made(name, "rnd(width=8)", "reconstruct(latent=2)", PIXELS)
    net = agent.make_net()
    assert len(backbones_of(net)) == 1
    freeze(net)
    trained = {key for key, p in net.named_parameters() if p.requires_grad}
    assert any(key.startswith("novelty.predictor") for key in trained)
    assert any(key.startswith("auxiliary") for key in trained)
    assert not any("backbone" in key for key in trained)


def test_a_reset_leaves_the_predictor_alone() -> None:
    agent = made("dqn", "rnd(width=8)", "reconstruct(latent=2)")
    learner = taught(agent, resets={"every_agent_steps": 100, "keep": 0.5}, learning_rate=1e-9)
    before = {key: value.clone() for key, value in learner.net.named_parameters()}
    learner.step(batch(trajectory(agent)), agent_steps=100)
    moved = {key for key, value in learner.net.named_parameters() if not torch.allclose(value, before[key], atol=1e-5)}
    assert moved
    assert not any(key.startswith("novelty") for key in moved)
    assert any(key.startswith("auxiliary") for key in moved)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_auxiliary_loss_is_added_with_its_weight(name: str) -> None:
    one, heavy = (made(name, auxiliary=f"reconstruct(weight={weight},latent=2)", spec=PIXELS) for weight in (1, 5))
    torch.manual_seed(0)
    net = one.make_net()
    batch = trajectory(one)

    def loss(agent: Any, given: nn.Module) -> Any:
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            part = next(agent.prepare(given, batch, rng))
        return agent.loss(given, given, part, rng)

    other = copy.deepcopy(net)
    other.auxiliary.weight = 5.0
    light, more = loss(one, net), loss(heavy, other)
    difference = (more.loss - light.loss) / 4  # [B]
    assert float(difference.detach().mean()) == pytest.approx(float(light.metrics["losses/reconstruction"]), rel=1e-3)
    assert (difference > 0).all()
    light.loss.mean().backward()
    assert all(p.grad is not None for p in net.auxiliary.parameters())
    plain = made(name, spec=PIXELS)
    assert "losses/reconstruction" not in loss(plain, plain.make_net()).metrics


def test_pictures_are_made_again_better_and_better() -> None:
    agent = made("dqn", auxiliary="reconstruct(weight=5,latent=8)", spec=PIXELS)
    learner = taught(agent, learning_rate=1e-3)
    one = trajectory(agent)
    smooth = one.steps.observation // 2 + torch.arange(44, dtype=torch.uint8)
    one = one._replace(steps=one.steps._replace(observation=smooth[[0, -1]]))
    errors = [float(learner.step(batch(one), want_priority=False).metrics["losses/reconstruction"]) for _ in range(60)]
    assert errors[-1] < 0.7 * errors[0]


def test_initial_priorities_see_bonuses_and_change_no_statistics() -> None:
    agent = made("dqn", "rnd(weight=3,width=8)")
    net = agent.make_net()
    seen = []
    loss = agent.loss
    agent.loss = lambda net, target, given, rng: seen.append(given.steps.extras) or loss(net, target, given, rng)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    arrays = tree_map(lambda leaf: leaf.numpy(), trajectory(agent)._replace(state=()).steps._replace(extras={}))
    priorities = InitialPriorities(agent, VECTOR, B, 4, 0, torch.device("cpu"))
    priorities(net, Unroll(arrays))
    assert seen
    assert all((extras[BONUS][1:] > 0).all() for extras in seen)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("config", "changes", "reported"),
    [
        ("boards/connect_four", {"agent.novelty": "rnd"}, "agent.novelty = 'rnd': agent.name=alphazero cannot use that; a2c, "),
        ("classic/cartpole_cloning", {"agent.novelty": "rnd"}, "agent.novelty = 'rnd': agent.name=behaviour_cloning cannot use"),
        ("classic/cartpole_dt", {"agent.novelty": "rnd"}, "agent.novelty = 'rnd': agent.name=decision_transformer cannot use"),
        ("boards/connect_four", {"net.auxiliary": "reconstruct"}, "net.auxiliary = 'reconstruct': agent.name=alphazero cannot use"),
        ("classic/dqn", {"agent.novelty": "rnd(discount=0.9)"}, "discount has no effect with agent.name = dqn, which adds bonuses"),
        ("classic/reinforce", {"agent.novelty": "rnd(discount=0.9)"}, "discount has no effect with agent.name = reinforce"),
        ("classic/q_learning", {"net.auxiliary": "reconstruct"}, "net.auxiliary = reconstruct has no effect without agent.name"),
        ("classic/q_learning", {"agent.novelty": "reconstruction"}, "observations are numbers of states, which no decoder makes"),
        (
            "classic/dqn",
            {"agent.novelty": "rnd", "runtime": {"kind": "ray", "learners": 2}},
            "agent.novelty normalises by the running statistics of one learner: use runtime.learners 1",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(config: str, changes: dict[str, Any], reported: str) -> None:
    def net() -> None:
        given = resolve(config, changes)
        make_agent(given, make_spec(given)).make_net()

    with pytest.raises(UsageError) as error:
        net()
    assert reported in str(error.value)
    assert "\n" not in str(error.value)


def test_an_agent_that_leaves_the_predictor_out_is_told_how() -> None:
    agent = made("dqn", "rnd")
    plain = made("dqn").make_net()
    with pytest.raises(UsageError, match=r"agent\.novelty: the agent's make_net must return self\.extended\(net\)"):
        agent.parts(plain)


def test_a_table_explores_too(tmp_path: Path) -> None:
    settings = {
        "agent.novelty": "rnd(width=8,rate=1e-3)",
        "run.agent_steps": 400,
        "eval.episodes": 1,
        "eval.every_agent_steps": None,
    }
    settings |= {"replay.min_agent_steps": 64, "eval.stop_at_return": None}
    result = rlsuite.train("classic/taxi", settings, run_dir=tmp_path / "run")
    assert result.learner_steps > 0


def test_gae_of_rewards_is_that_without_bonuses() -> None:
    """An agent with a value of bonuses never finds them among its rewards."""
    agent = made("ppo", "rnd(width=8)", minibatches=1, normalise_advantages=False)
    net = agent.make_net()
    one = agent.observe(net, trajectory(agent), learning=True)
    with torch.no_grad():
        (part,) = list(agent.prepare(net, one, torch.Generator().manual_seed(0)))
        values = net(one.steps, ())[0].value
    expected = gae(transitions(one.steps, agent.config.discount), values, agent.config.gae_lambda) + values[:-1]
    torch.testing.assert_close(part.steps.extras["return"].sort().values[0], expected.flatten().sort().values)


def test_samples_of_a_replay_keep_their_importance_weights() -> None:
    """`observe` makes another trajectory, but no minibatch of its own."""
    agent = made("dqn", "rnd(width=8)")
    one = trajectory(agent)
    arrays = Trajectory(tree_map(lambda leaf: leaf.numpy(), one.steps._replace(extras={})), ())
    sample = Sample(arrays, np.arange(B), np.zeros(B, np.float32))
    learner = taught(agent)
    before = learner.net.head.advantage.out.weight.clone()
    learner.step(learner.stage(sample))
    assert torch.equal(before, learner.net.head.advantage.out.weight)  # all weights are 0


def test_a_server_of_actions_passes_the_value_of_bonuses_on() -> None:
    answer, _ = Layout(made("ppo", "rnd(width=8)"), VECTOR, 2).answer
    assert answer.bonus_value.shape == answer.value.shape == (2,)


def test_a_student_gets_no_bonus() -> None:
    config = resolve("classic/dqn", {"agent.novelty": "rnd", "distill.teachers": ["somewhere"]})
    with pytest.raises(UsageError, match=r"distill\.teachers: a student learns from no rewards, so no bonus has an effect"):
        make_trained_agent(config, make_spec(config))
