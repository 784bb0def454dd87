"""Agents that learn from recordings and do not play: inverse dynamics and masked steps. Losses and alignment by hand.

Shapes: T time, B batch, N = T * B, A actions.
"""

from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import differences, final
from torch import Tensor, nn

import rlsuite
from rlsuite.agents.inverse_dynamics import InverseDynamics, InverseDynamicsConfig
from rlsuite.agents.masked_steps import FAR, HIDDEN, Filled, MaskedSteps, MaskedStepsConfig
from rlsuite.cli.main import app
from rlsuite.config.loader import resolve
from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.core.types import EnvSpec, Step, Trajectory, part_of, tree_map
from rlsuite.evaluation import record
from rlsuite.evaluation.evaluate import evaluate
from rlsuite.evaluation.label import label
from rlsuite.factories import build, make_learner, make_spec
from rlsuite.replay import demonstrations

SPEC = EnvSpec((3,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)
ARM = SPEC._replace(num_actions=0, action_shape=(2,), action_dtype="float32")
B = 2
SMALL: dict[str, Any] = {
    "run.threads": 1,
    "net.hidden": 16,
    "net.memory_size": 8,
    "agent.unroll": 8,
    "agent.stride": 4,
    "eval.episodes": 3,
    "eval.every_agent_steps": None,
    "learner.batch_size": 8,
    "learner.learning_rate": 1e-2,
    "learner.learning_rate_end": None,
}
CARTPOLE: dict[str, Any] = {"env": {"id": "CartPole-v1"}, "net.torso": "mlp", "net.layer_norm": False, "learner.precision": "fp32"}


def steps_of(spec: EnvSpec, length: int, ends: tuple[tuple[int, int], ...] = (), seed: int = 0) -> Step:
    """Leaves [T,B,...] of random steps, with final observations at `ends`."""
    rng = torch.Generator().manual_seed(seed)
    last = torch.zeros(length, B, dtype=torch.bool)
    for end in ends:
        last[end] = True
    first = torch.cat([torch.zeros(1, B, dtype=torch.bool), last[:-1]])
    action = torch.randint(3, (length, B), generator=rng)
    if spec.action_shape:
        action = torch.randn(length, B, 2, generator=rng)
    return Step(torch.randn(length, B, 3, generator=rng), torch.randn(length, B, generator=rng), first, last, last, action, {})


def dynamics(spec: EnvSpec = SPEC, margin: int = 1, unroll: int = 3, memory: str = "bidirectional(core=gru)") -> InverseDynamics:
    config = InverseDynamicsConfig(name="inverse_dynamics", margin=margin, unroll=unroll, stride=2)
    return InverseDynamics(config, NetConfig(torso="mlp", hidden=8, memory=memory, memory_size=4), spec)


def scaled(net: Any) -> Any:
    """The net with a last layer that says something."""
    torch.manual_seed(3)
    with torch.no_grad():
        nn.init.normal_(net.name.weight)
    return net


def test_inverse_dynamics_learns_the_actions_between_observations_it_has_seen() -> None:
    """Of 5 steps the margins are only seen, and the final observation at step 2 of the first row has no action."""
    agent = dynamics()
    net, steps = scaled(agent.make_net()), steps_of(SPEC, 5, ends=((2, 0),))
    found = agent.loss(net, net, Trajectory(steps, ()), torch.Generator())
    log_p = net(steps, agent.initial_state(B))[0].logits.log_softmax(-1)
    learned = [(t, b) for t in (1, 2, 3) for b in range(B) if (t, b) != (2, 0)]
    by_hand = -sum(log_p[t, b, int(steps.action[t, b])].item() for t, b in learned) / 5
    assert found.loss.mean().item() == pytest.approx(by_hand, rel=1e-5)
    right = sum(int(log_p[t, b].argmax() == steps.action[t, b]) for t, b in learned) / 5
    assert found.metrics["losses/same_action"].item() == pytest.approx(right)
    for t, b in [(0, 0), (4, 1), (2, 0)]:  # margins and the final observation
        other = steps.action.clone()
        other[t, b] = (other[t, b] + 1) % 3
        again = agent.loss(net, net, Trajectory(steps._replace(action=other), ()), torch.Generator())
        assert torch.equal(again.loss, found.loss)


def test_what_an_action_led_to_decides_and_what_came_after_the_episode_does_not() -> None:
    agent = dynamics()
    net, steps = scaled(agent.make_net()), steps_of(SPEC, 5, ends=((2, 0),))
    observation = steps.observation.clone().requires_grad_(True)
    logits = net(steps._replace(observation=observation), agent.initial_state(B))[0].logits
    (reached,) = torch.autograd.grad(logits[1, 0].square().sum(), observation)
    assert (reached[:, 0].abs().sum(-1) > 0).tolist() == [True, True, True, False, False]
    assert not reached[:, 1].any()


@pytest.mark.parametrize("n", [1, 3, 4, 11])
@pytest.mark.parametrize("spec", [SPEC, ARM], ids=["discrete", "continuous"])
def test_it_names_the_actions_of_an_episode_piece_by_piece(spec: EnvSpec, n: int) -> None:
    """Pieces of 4 steps are named with 2 more on each side, as in training."""
    agent = dynamics(spec, margin=2, unroll=4)
    net, whole = scaled(agent.make_net()), steps_of(spec, n + 1, ends=((n, 0), (n, 1)))
    episode = part_of(whole, (slice(None), 0))
    with torch.no_grad():
        found = agent.actions(net, episode)
        assert found.shape == (n, *spec.action_shape)
        for t in range(n):
            begin = t // 4 * 4
            low = max(begin - 2, 0)
            seen = tree_map(lambda leaf, low=low, begin=begin: leaf[low : begin + 6, :1], whole)
            policy = net(seen, agent.initial_state(1))[0]
            said = policy.logits[t - low, 0] if spec.action_shape else policy.logits[t - low, 0].argmax()
            torch.testing.assert_close(found[t], said)
        rated = agent.rate(net, episode)
        right = -(found - episode.action[:-1]).square() if spec.action_shape else (found == episode.action[:-1]).float()
        assert rated == pytest.approx(right.mean().item())


def recordings(folder: Path, seed: int, episodes: int = 12) -> Path:
    """Games of CartPole by chance."""
    rng = np.random.default_rng(seed)
    section = resolve("classic/cartpole_cloning").env
    played = record.from_policy(section, lambda env, observation: rng.integers(2, size=env.num_envs), episodes, seed)
    demonstrations.save(played, folder)
    return folder


def test_it_labels_recordings_that_have_no_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In CartPole two observations leave no doubt about the push between them."""
    shown, other = recordings(tmp_path / "shown", 1), recordings(tmp_path / "other", 2)
    settings = {**SMALL, **CARTPOLE, "replay.demonstrations": str(shown), "eval.demonstrations": str(other)}
    settings |= {"net.memory": "bidirectional(core=gru)", "run.agent_steps": 20_000}
    result = rlsuite.train("atari/pong_actions", settings, run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.mean > 0.97
    assert result.evaluation.episodes == 3
    before = demonstrations.load(other)
    np.save(other / "action.npy", np.where(before.steps.last, 0, 1 - before.steps.action))
    assert (label(other, tmp_path / "run").scores or [1.0])[0] < 0.1  # it names what was done, not what the file says
    (other / "action.npy").unlink()
    app(["label", str(other), "--with", str(tmp_path / "run"), "--out", str(tmp_path / "labelled")], standalone_mode=False)
    assert "12 episodes" in capsys.readouterr().out
    after = demonstrations.load(tmp_path / "labelled", before.spec, "CartPole-v1")
    assert not after.steps.action[after.steps.last].any()
    acted = ~before.steps.last
    assert (after.steps.action == before.steps.action)[acted].mean() > 0.97
    for name in ("observation", "reward", "first", "last", "terminal"):
        np.testing.assert_array_equal(getattr(after.steps, name), getattr(before.steps, name))
    with pytest.raises(UsageError, match="does not play: it names the actions of recordings"):
        evaluate(tmp_path / "run", 1, None, None)
    with pytest.raises(UsageError, match="exists already"):
        app(["label", str(shown), "--with", str(tmp_path / "run"), "--out", str(tmp_path / "labelled")], standalone_mode=False)


def masked(spec: EnvSpec = SPEC, memory: str = "gru", last: bool = True, **settings: Any) -> MaskedSteps:
    config = MaskedStepsConfig(**{"name": "masked_steps", "unroll": 5, "stride": 2, **settings})
    sized = {} if memory == "none" else {"memory_size": 4}
    return MaskedSteps(config, NetConfig(torso="mlp", hidden=8, memory=memory, last_action_reward=last, **sized), spec)


@pytest.mark.parametrize("spec", [SPEC, ARM], ids=["discrete", "continuous"])
@pytest.mark.parametrize("memory", ["lstm", "gru", "attention(window=4,heads=2)", "bidirectional(core=lstm)", "none"])
def test_a_hidden_step_is_not_seen(memory: str, spec: EnvSpec) -> None:
    """Nor are the action before it and its reward; where it is shown, all three are."""
    agent = masked(spec, memory)
    torch.manual_seed(1)
    net, steps = agent.make_net(), steps_of(spec, 5)
    nn.init.normal_(net.token)
    hidden = torch.zeros(5, B, dtype=torch.bool)
    hidden[2, 0] = True

    def said(**changes: Any) -> Tensor:
        with torch.no_grad():
            given = steps._replace(**changes)._replace(extras={HIDDEN: hidden})
            filled: Filled = net(given, agent.initial_state(B))[0]
        return filled.guessed

    before = said()
    for name, t in (("observation", 2), ("action", 1), ("reward", 2)):
        for b in range(B):
            leaf = getattr(steps, name).clone()
            leaf[t, b] = (leaf[t, b] + 1) % 3 if leaf.dtype == torch.int64 else leaf[t, b] + 1
            after = said(**{name: leaf})
            assert torch.equal(after[:, 1 - b], before[:, 1 - b])
            assert torch.equal(after, before) == (b == 0), (name, b)


@pytest.mark.parametrize(
    ("memory", "ahead"), [("lstm", False), ("attention(window=4,heads=2)", False), ("bidirectional(core=gru)", True)]
)
def test_only_a_bidirectional_core_fills_in_from_both_sides(memory: str, ahead: bool) -> None:
    agent = masked(memory=memory)
    net, steps = agent.make_net(), steps_of(SPEC, 5)
    hidden = torch.zeros(5, B, dtype=torch.bool)
    hidden[2] = True
    observation = steps.observation.clone().requires_grad_(True)
    filled = net(steps._replace(observation=observation, extras={HIDDEN: hidden}), agent.initial_state(B))[0]
    (reached,) = torch.autograd.grad(filled.guessed[2, 0].square().sum(), observation)
    assert (reached[:, 0].abs().sum(-1) > 0).tolist() == [True, True, False, ahead, ahead]


def test_guesses_are_scored_by_hand() -> None:
    """Cosines over τ = 1/2 against every recorded step; blanks around the recording are no choice."""
    agent = masked(temperature=0.5)
    east, north = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 3.0])
    features, guessed = torch.stack([east, north, east]).unsqueeze(1), torch.stack([east, east, east + north / 3 * 2]).unsqueeze(1)
    real = torch.tensor([[True], [True], [False]])
    found = agent.scores_of(Filled(features, guessed, torch.zeros(3, 1, 3)), real)
    half = 2 * 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([[2.0, 0.0, FAR], [2.0, 0.0, FAR], [half, half, FAR]]))


class Says(nn.Module):
    """A net that has decided already."""

    def __init__(self, filled: Filled):
        super().__init__()
        self.filled = filled

    def forward(self, step: Step, state: Any) -> tuple[Filled, Any]:
        return self.filled, state


def test_the_masked_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps 1, 2 and 4 of the first row and the blank at the end of the second are hidden; step 2 begins an episode."""
    agent = masked(temperature=1.0)
    steps = steps_of(SPEC, 5, ends=((1, 0),))
    blank = torch.zeros(5, B, dtype=torch.bool)
    blank[4, 1] = True
    steps = steps._replace(first=steps.first | blank, last=steps.last | blank)
    drawn = torch.ones(5, B)
    drawn[1, 0] = drawn[2, 0] = drawn[4, 0] = drawn[4, 1] = 0.0
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: drawn)
    features = torch.eye(10).view(5, B, 10)  # every step is unlike every other
    guessed = features.clone()
    guessed[2, 0] = features[0, 0]  # and this one is taken for another
    logits = torch.zeros(5, B, 3)
    logits[1, 0, int(steps.action[0, 0])] = log(4)  # 4 / 6
    logits[4, 0, int(steps.action[3, 0])] = -log(4)  # 1/4 / (2 + 1/4)
    net = Says(Filled(features, guessed, logits))
    found = agent.loss(net, net, Trajectory(steps, ()), torch.Generator())
    right, wrong = -log(exp(1) / (exp(1) + 8)), -log(1 / (exp(1) + 8))  # of the 9 recorded steps
    by_hand = (2 * right + wrong) / 3 + (-log(4 / 6) - log(1 / 9)) / 2
    assert found.loss.mean().item() == pytest.approx(by_hand, rel=1e-5)
    assert found.metrics["losses/feature_accuracy"].item() == pytest.approx(2 / 3)
    assert found.metrics["losses/action_accuracy"].item() == pytest.approx(1 / 2)


@pytest.mark.parametrize("memory", ["lstm", "gru", "attention(window=8,heads=2)"])
def test_a_pretrained_torso_and_memory_start_other_agents(tmp_path: Path, memory: str) -> None:
    net = {"net.memory": memory, "net.memory_size": 8, "net.hidden": 16, "run.threads": 1}
    shown = tmp_path / "shown"
    demonstrations.save(record.from_policy(resolve("classic/key_door_masked").env, _solve, 10, 1), shown)
    more = {"replay.demonstrations": str(shown), "learner.batch_size": 8, "run.agent_steps": 2_000, "eval.episodes": 2}
    rlsuite.train("classic/key_door_masked", {**net, **more, "agent.unroll": 9}, run_dir=tmp_path / "masked")
    trained = final(tmp_path / "masked").weights
    for config in ("classic/key_door_r2d3", "classic/key_door_cloning"):
        started = resolve(config, {**net, "net.init_from": str(tmp_path / "masked")})
        spec = make_spec(started)
        agent = rlsuite.factories.make_agent(started, spec)
        weights = make_learner(started, agent, torch.device("cpu")).online.master.state_dict()
        plain = make_learner(resolve(config, net), agent, torch.device("cpu")).online.master.state_dict()
        for name, tensor in weights.items():
            body = name.startswith(("trunk.", "core."))
            assert torch.equal(tensor, trained[name] if body else plain[name]), name
        assert not torch.equal(weights["trunk.dense.weight"], plain["trunk.dense.weight"])
    for overrides, message in (
        ({"net.hidden": 8}, "shape"),
        ({"net.memory": "rnn"}, "core"),
        ({"agent.name": "ppo", "agent.x": 1}, "agent.x"),
    ):
        with pytest.raises((UsageError, CheckpointError), match=message):
            build(resolve("classic/key_door_r2d3", {**net, "net.init_from": str(tmp_path / "masked"), **overrides}))
    with pytest.raises(
        CheckpointError, match=r"is of agent.name=masked_steps: nothing of it fits, the net of dqn has no torso with a dense layer"
    ):
        build(resolve("classic/dqn", {"net.init_from": str(tmp_path / "masked"), "run.threads": 1}))
    with pytest.raises(UsageError, match=r"of agent.name=masked_steps, which names no actions: train agent.name=inverse_dynamics"):
        label(shown, tmp_path / "masked")
    with pytest.raises(UsageError, match="does not play: it is for the start of another agent"):
        evaluate(tmp_path / "masked", 1, None, None)


def test_agents_start_from_each_other_with_and_without_what_learns_beside_them(tmp_path: Path) -> None:
    net = {"net.hidden": 16, "run.threads": 1}
    short = {"run.agent_steps": 256, "run.collect_agent_steps": 16, "eval.episodes": 1, "eval.every_agent_steps": None}
    shown = {"replay.demonstrations": str(tmp_path)}
    cases = {  # what it is trained as -> what it starts
        ("classic/ppo", "agent.novelty", "rnd(width=8)"): ("classic/ppo", "net.auxiliary", "reconstruct(latent=2)"),
        ("classic/ppo", "agent.novelty", "none"): ("classic/cartpole_gail", "agent.name", "gail"),
    }
    for number, ((trained, *change), (started, *other)) in enumerate(cases.items()):
        run = tmp_path / str(number)
        rlsuite.train(trained, {**net, **short, change[0]: change[1]}, run_dir=run)
        weights = final(run).weights
        config = resolve(started, {**net, **(shown if "gail" in started else {}), "net.init_from": str(run), other[0]: other[1]})
        agent = rlsuite.factories.make_agent(config, make_spec(config))
        found = make_learner(config, agent, torch.device("cpu")).online.master.state_dict()
        place = "actor." if "gail" in started else ""
        for name in ("trunk.dense.weight", "trunk.torso.dense.weight"):
            if name in weights:
                assert torch.equal(found[place + name], weights[name])


def test_the_score_of_hidden_steps_is_a_mean_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 4, 4 and 2 steps. With a share of 0 the middle one of each is hidden; a last piece of one step is left out."""
    agent = masked(unroll=4, share=1e-9)
    net = agent.make_net()
    seen: list[tuple[int, list[int]]] = []
    loss = agent.loss

    def watched(net: nn.Module, target: nn.Module, piece: Trajectory, rng: torch.Generator) -> Any:
        hidden = piece.steps.extras[HIDDEN]
        seen.append((len(hidden), hidden[:, 0].nonzero().flatten().tolist()))
        found = loss(net, target, piece, rng)
        return found._replace(loss=torch.full_like(found.loss, float(len(seen))))

    monkeypatch.setattr(agent, "loss", watched)
    with torch.no_grad():
        assert agent.rate(net, part_of(steps_of(SPEC, 10), (slice(None), 0))) == -2
        assert seen == [(4, [2]), (4, [2]), (2, [1])]
        seen.clear()
        agent.rate(net, part_of(steps_of(SPEC, 9), (slice(None), 0)))
        assert seen == [(4, [2]), (4, [2])]


def _solve(env: Any, observation: Any) -> Any:
    from rlsuite.envs.key_door import solve

    return solve(env, observation)


AGENTS = {
    "inverse_dynamics": ("atari/pong_actions", {**CARTPOLE, "net.memory": "bidirectional(core=lstm)"}),
    "masked_steps": ("classic/key_door_masked", {**CARTPOLE, "net.memory": "gru"}),
}


@pytest.mark.parametrize("name", AGENTS)
def test_they_resume_bit_for_bit(tmp_path: Path, name: str) -> None:
    config, own = AGENTS[name]
    settings = {**SMALL, **own, "replay.demonstrations": str(recordings(tmp_path / "shown", 1))}
    rlsuite.train(config, {**settings, "run.agent_steps": 2_048}, run_dir=tmp_path / "whole")
    rlsuite.train(config, {**settings, "run.agent_steps": 1_024}, run_dir=tmp_path / "halves")
    rlsuite.train(None, {"run.agent_steps": 2_048}, resume=tmp_path / "halves")
    whole, halves = final(tmp_path / "whole"), final(tmp_path / "halves")
    assert not differences(whole.weights, halves.weights)
    for role in ("learner", "replay"):
        assert not differences(whole.state[role], halves.state[role])


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("atari/pong_actions", {"net.memory": "lstm"}, r"looks at what follows an action: use net.memory = bidirectional"),
        ("atari/pong_actions", {"net.memory": "none"}, r"looks at what follows an action: use net.memory = bidirectional"),
        ("atari/pong_actions", {"net.last_action_reward": True}, "agent.name=inverse_dynamics cannot use that"),
        ("atari/pong_actions", {}, "name their folder by replay.demonstrations"),
        ("atari/pong_actions", {"replay.demonstrations": "MUTE", **CARTPOLE}, r"has no actions \(action.npy\): `rlsuite label"),
        ("classic/cartpole_cloning", {"replay.demonstrations": "MUTE"}, r"has no actions \(action.npy\): `rlsuite label"),
        ("classic/key_door_masked", {"replay.demonstrations": "SHOWN"}, "was recorded in CartPole-v1"),
        ("atari/pong_actions", {"replay.demonstrations": "SHOWN", "eval.demonstrations": "MUTE", **CARTPOLE}, "has no actions"),
        ("atari/pong_actions", {"replay.demonstrations": "SHOWN", "runtime": "ray", **CARTPOLE}, "takes runtime.kind = local"),
        ("classic/cartpole_cloning", {"eval.demonstrations": "SHOWN"}, "eval.demonstrations .* an agent that does not play"),
        ("classic/dqn", {"eval.demonstrations": "SHOWN"}, "eval.demonstrations .* an agent that does not play"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, config: str, overrides: dict[str, Any], message: str) -> None:
    shown = recordings(tmp_path / "SHOWN", 1, episodes=2)
    (recordings(tmp_path / "MUTE", 1, episodes=2) / "action.npy").unlink()
    given = {key: str(shown.parent / value) if value in ("SHOWN", "MUTE") else value for key, value in overrides.items()}
    with pytest.raises(UsageError, match=message) as caught:
        build(resolve(config, given))
    assert "\n" not in str(caught.value)
