"""GAIL: rewards and losses by hand, what counts at the ends of episodes, turns, resume, what is refused.

Shapes: T steps, B environments, A actions.
"""

from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import differences, final

import rlsuite
from rlsuite.agents.gail import ACTOR, DISCRIMINATOR, GAIL, GAILConfig, ImitationNet, rewards
from rlsuite.config.loader import resolve
from rlsuite.config.schema import LearnerConfig, NetConfig
from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.core.types import EnvSpec, Step, Trajectory
from rlsuite.factories import build, make_spec
from rlsuite.learning.learner import Learner
from rlsuite.replay import Sample, demonstrations
from rlsuite.replay.demonstrations import Demonstrations

SPEC = EnvSpec((3,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)
ARM = SPEC._replace(num_actions=0, action_shape=(2,), action_dtype="float32")
T, B = 4, 2
SMALL: dict[str, Any] = {
    "run.threads": 1,
    "run.agent_steps": 1_024,
    "run.collect_agent_steps": 16,
    "env.num_envs": 4,
    "learner.batch_size": 4,
    "net.hidden": 16,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "learner.learning_rate_end": None,
}


def agent(spec: EnvSpec = SPEC, net: dict[str, Any] | None = None, **settings: Any) -> GAIL:
    return GAIL(GAILConfig(name="gail", **settings), NetConfig(torso="mlp", hidden=8, **(net or {})), spec)


def rollout(spec: EnvSpec = SPEC, seed: int = 0) -> Trajectory:
    """[T,B] with an end of an episode at step 1 of the first environment, and recorded steps beside it."""
    rng = np.random.default_rng(seed)

    def seen() -> Any:
        return rng.normal(size=(T, B, 3)).astype(np.float32)

    def done() -> Any:
        return rng.normal(size=(T, B, 2)).astype(np.float32) if spec.action_shape else rng.integers(3, size=(T, B))

    last = np.zeros((T, B), bool)
    last[1, 0] = True
    first = np.concatenate([np.zeros((1, B), bool), last[:-1]])
    extras = {"log_prob": np.full((T, B), -1.0, np.float32), "recorded_observation": seen(), "recorded_action": done()}
    return Trajectory(Step(seen(), rng.normal(size=(T, B)).astype(np.float32), first, last, last, done(), extras), ())


def tensors(trajectory: Trajectory) -> Trajectory:
    steps = trajectory.steps
    extras = {name: torch.from_numpy(leaf) for name, leaf in steps.extras.items()}
    return Trajectory(Step(*(torch.from_numpy(leaf) for leaf in steps[:-1]), extras), ())  # type: ignore[arg-type]


def test_rewards_by_hand() -> None:
    """D = 1/2, 3/4 and 1/4 give ln 2, ln 4 and ln 4/3 at the next step; a final observation earns nothing."""
    logits = torch.tensor([[0.0, log(3)], [5.0, -log(3)], [log(3), 9.0]])
    last = torch.tensor([[False, False], [True, False], [False, False]])
    found = rewards(logits, last, normalise=False)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [log(2), log(4)], [0.0, log(4 / 3)]]))
    mean = (log(2) + log(4) + log(4 / 3)) / 3  # over the actions: that of the last step has led nowhere yet
    torch.testing.assert_close(rewards(logits, last, normalise=True), found / mean)


def test_the_discriminators_loss_by_hand() -> None:
    """-log D of recorded steps and -log(1 - D) of its own, each a mean over the steps that have an action."""
    made, given = agent(), tensors(rollout())
    net = made.make_net()
    with torch.no_grad():
        net.discriminator.head.out.weight.mul_(100)  # type: ignore[union-attr, operator]
    loss = made.of_part(DISCRIMINATOR).loss(net, net, given, torch.Generator())
    steps = given.steps
    own = net.discriminator(steps.observation, steps.action).tolist()  # type: ignore[operator]
    shown = net.discriminator(steps.extras["recorded_observation"], steps.extras["recorded_action"]).tolist()  # type: ignore[operator]
    acted = [(t, b) for t in range(T) for b in range(B) if (t, b) != (1, 0)]
    mine = [-log(1 - 1 / (1 + exp(-own[t][b]))) for t, b in acted]
    theirs = [-log(1 / (1 + exp(-shown[t][b]))) for t in range(T) for b in range(B)]
    assert loss.loss.mean().item() == pytest.approx(sum(mine) / 7 + sum(theirs) / 8, rel=1e-4)
    assert loss.metrics["losses/own_accuracy"].item() == pytest.approx(sum(own[t][b] < 0 for t, b in acted) / 7)
    assert loss.metrics["losses/recorded_accuracy"].item() == pytest.approx(sum(x > 0 for row in shown for x in row) / 8)
    assert loss.metrics["losses/imitation_reward"].item() == pytest.approx(sum(mine) / 7, rel=1e-4)


def test_a_discriminator_that_knows_nothing_loses_twice_ln_2() -> None:
    made, given = agent(), tensors(rollout())
    net = made.make_net()
    with torch.no_grad():
        net.discriminator.head.out.weight.zero_()  # type: ignore[union-attr, operator]
    loss = made.of_part(DISCRIMINATOR).loss(net, net, given, torch.Generator())
    assert loss.loss.mean().item() == pytest.approx(2 * log(2), rel=1e-5)


@pytest.mark.parametrize("terminal", [True, False])
def test_returns_come_from_the_discriminator_and_stop_where_they_should(terminal: bool) -> None:
    """Rewards of ln 2 whatever the environment pays, γ = 1/2, λ = 1, values of 8: a time limit bootstraps, a terminal does not."""
    made = agent(discount=0.5, gae_lambda=1.0, epochs=1, minibatches=1, normalise_rewards=False)
    given = tensors(rollout())
    last = torch.zeros(T, B, dtype=torch.bool)
    last[2, 0] = True
    steps = given.steps._replace(last=last, terminal=last & terminal, first=torch.zeros(T, B, dtype=torch.bool))
    net = made.make_net()
    with torch.no_grad():
        net.discriminator.head.out.weight.zero_()  # type: ignore[union-attr, operator]
        net.actor.value.weight.zero_()  # type: ignore[union-attr, operator]
        net.actor.value.bias.fill_(8.0)  # type: ignore[union-attr, operator]
        (batch,) = made.prepare(net, Trajectory(steps, ()), torch.Generator())
    torch.testing.assert_close(batch.steps.reward.sum(), steps.reward[:-1].sum())  # what the net sees stays as it was in play
    found = {
        tuple(row.tolist()): value for row, value in zip(batch.steps.observation[0], batch.steps.extras["return"][0], strict=True)
    }
    at = [[found[tuple(steps.observation[t, b].tolist())].item() for b in range(B)] for t in range(T - 1)]
    r = log(2)
    end = 0.0 if terminal else 8.0
    assert at[1][0] == pytest.approx(r + 0.5 * end, rel=1e-5)
    assert at[0][0] == pytest.approx(r + 0.5 * (r + 0.5 * end), rel=1e-5)
    assert [at[t][1] for t in (2, 1, 0)] == pytest.approx([r + 4, 1.5 * r + 2, 1.75 * r + 1], rel=1e-5)


@pytest.mark.parametrize("net", [{}, {"memory": "gru", "memory_size": 4}], ids=["feed-forward", "memory"])
@pytest.mark.parametrize("spec", [SPEC, ARM], ids=["discrete", "continuous"])
def test_both_parts_learn_in_turn(spec: EnvSpec, net: dict[str, Any]) -> None:
    made = agent(spec, net, epochs=1, minibatches=1)
    learner = Learner(made, LearnerConfig(learning_rate=1e-2), seed=1)
    assert isinstance(learner.net, ImitationNet)
    before = {name: value.clone() for name, value in learner.net.state_dict().items()}
    given = rollout(spec)
    state = tuple(leaf.numpy() for leaf in made.initial_state(B))
    metrics = learner.step(learner.stage(Sample(given._replace(state=state), np.arange(B), np.ones(B, np.float32), 0))).metrics
    changed = {name.split(".")[0] for name, value in learner.net.state_dict().items() if not value.equal(before[name])}
    assert [part.name for part in learner.parts] == [DISCRIMINATOR, ACTOR]
    assert changed == {ACTOR, DISCRIMINATOR}
    assert {"losses/actor_loss", "losses/discriminator_loss", "losses/policy_loss", "losses/own_accuracy"} <= set(metrics)


def test_the_discriminator_has_a_rate_of_its_own() -> None:
    learner = Learner(agent(discriminator_rate=0.25), LearnerConfig(learning_rate=0.1), seed=1)
    assert [part.optimizer.param_groups[0]["lr"] for part in learner.parts] == [pytest.approx(0.025), 0.1]


def recording(folder: Path, length: int = 40, env_id: str = "CartPole-v1") -> Path:
    """Two games in which the action follows from the observation."""
    rng = np.random.default_rng(length)
    at = np.tile(np.arange(length), 2)
    observation = rng.normal(size=(2 * length, 4)).astype(np.float32)
    action = (observation[:, 0] > 0).astype(np.int64)
    last = at == length - 1
    steps = Step(observation, (at > 0).astype(np.float32), at == 0, last, last, action, {})
    demonstrations.save(Demonstrations(env_id, make_spec(resolve("classic/cartpole_gail")), steps), folder)
    return folder


@pytest.mark.parametrize("extra", [{}, {"learner.batch_size": 8}], ids=["one unroll", "two unrolls"])
def test_it_resumes_bit_for_bit(tmp_path: Path, extra: dict[str, Any]) -> None:
    settings = {**SMALL, "replay.demonstrations": str(recording(tmp_path / "shown")), **extra}
    n = 500  # in the middle of a rollout
    rlsuite.train("classic/cartpole_gail", {**settings, "run.agent_steps": 2 * n}, run_dir=tmp_path / "whole")
    rlsuite.train("classic/cartpole_gail", {**settings, "run.agent_steps": n}, run_dir=tmp_path / "halves")
    rlsuite.train(None, {"run.agent_steps": 2 * n}, resume=tmp_path / "halves")
    whole, halves = final(tmp_path / "whole"), final(tmp_path / "halves")
    assert differences(whole.weights, halves.weights, "weights") == []
    for role in ("learner", "replay", "collector"):
        assert differences(whole.state[role], halves.state[role], role) == []
    assert (tmp_path / "shown").rename(tmp_path / "before")
    recording(tmp_path / "shown", 20)
    with pytest.raises(CheckpointError, match="hold other episodes"):
        rlsuite.train(None, {"run.agent_steps": 3 * n}, resume=tmp_path / "halves")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, "agent.name=gail learns from recordings: name their folder by replay.demonstrations"),
        ({"replay.demonstrations": "SHOWN", "replay.demonstration_ratio": 0.5}, "replay.demonstration_ratio = 0.5 has no effect"),
        ({"replay.demonstrations": "SHOWN", "replay.min_agent_steps": 7}, "replay.min_agent_steps = 7 has no effect"),
        ({"replay.demonstrations": "MUTE"}, r"MUTE has no actions \(action.npy\): `rlsuite label"),
        ({"replay.demonstrations": "OTHER"}, "was recorded in Acrobot-v1, not in CartPole-v1"),
        ({"replay.demonstrations": "SHOWN", "env.id": "Taxi-v4"}, "Taxi-v4 masks actions"),
        ({"replay.demonstrations": "SHOWN", "learner.augment.flip": True}, "by which they could be told from recorded ones"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, overrides: dict[str, Any], message: str) -> None:
    recording(tmp_path / "SHOWN")
    recording(tmp_path / "OTHER", env_id="Acrobot-v1")
    (recording(tmp_path / "MUTE") / "action.npy").unlink()
    given = {
        key: str(tmp_path / value) if isinstance(value, str) and value.isupper() else value for key, value in overrides.items()
    }
    with pytest.raises(UsageError, match=message) as caught:
        build(resolve("classic/cartpole_gail", given))
    assert "\n" not in str(caught.value)


@pytest.mark.integration
def test_it_learns_on_ray(tmp_path: Path) -> None:
    settings = {**SMALL, "replay.demonstrations": str(recording(tmp_path / "shown")), "runtime": "ray", "run.agent_steps": 512}
    result = rlsuite.train("classic/cartpole_gail", settings, run_dir=tmp_path / "run")
    assert result.agent_steps == 512
    assert result.learner_steps == 512 // 64 * 16
    rlsuite.train(None, {"run.agent_steps": 1_024}, resume=tmp_path / "run")


@pytest.mark.slow
def test_it_solves_cartpole_from_ten_games(tmp_path: Path) -> None:
    from rlsuite.evaluation.record import from_agent
    from rlsuite.evaluation.saved_agent import Saved

    demonstrations.save(from_agent(Saved(Path("pretrained:cartpole")), 10, seed=1), tmp_path / "shown")
    result = rlsuite.train("classic/cartpole_gail", {"replay.demonstrations": str(tmp_path / "shown")}, run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.mean >= 475
