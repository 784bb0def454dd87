"""Agents that learn from recordings alone: losses by hand, returns to go, resume, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import differences

import rlsuite
from rlsuite.agents.behaviour_cloning import BehaviourCloning, BehaviourCloningConfig
from rlsuite.agents.decision_transformer import DecisionTransformer, DecisionTransformerConfig
from rlsuite.config.loader import resolve
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Mode
from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.core.types import EnvSpec, Step, Trajectory
from rlsuite.evaluation.evaluate import evaluate
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import build, make_spec
from rlsuite.nets.memory import ReturnToGo
from rlsuite.replay import demonstrations
from rlsuite.replay.demonstrations import Demonstrations
from rlsuite.runs import checkpoint

SPEC = EnvSpec((4,), "float32", 2, None, 1, 1)
SMALL = {"run.threads": 1, "run.agent_steps": 2_048, "eval.episodes": 4, "eval.every_agent_steps": None, "learner.batch_size": 32}
MEMORY = {"net.memory": "gru", "net.memory_size": 8, "net.last_action_reward": True, "agent.unroll": 8, "agent.stride": 4}


def recording(folder: Path, lengths: tuple[int, ...] = (30, 12, 40), env_id: str = "CartPole-v1") -> Path:
    """Games in which the action follows from the observation: 1 where its first number is above 0. A reward of 1 for each step."""
    rng = np.random.default_rng(0)
    parts = []
    for n in lengths:
        at = np.arange(n + 1)
        observation = rng.normal(size=(n + 1, 4)).astype(np.float32)
        action = (observation[:, 0] > 0).astype(np.int64)
        parts.append(Step(observation, (at > 0).astype(np.float32), at == 0, at == n, at == n, action, {}))
    steps = Step(*(np.concatenate([getattr(part, name) for part in parts]) for name in Step._fields[:-1]), {})
    spec = make_spec(resolve("classic/cartpole_cloning"))
    demonstrations.save(Demonstrations(env_id, spec, steps), folder)
    return folder


def rows(x: Any) -> torch.Tensor:
    return torch.tensor(x)


def test_the_loss_by_hand_leaves_out_final_observations() -> None:
    """Of two transitions the second begins at a final observation, which has no action."""
    agent = BehaviourCloning(BehaviourCloningConfig(name="behaviour_cloning"), NetConfig(torso="mlp", hidden=8), SPEC)
    net = agent.make_net()
    observation = torch.randn(2, 2, 4)  # [T,B,4]
    last = rows([[False, True], [True, False]])
    steps = Step(observation, torch.zeros(2, 2), ~last, last, last, rows([[1, 0], [0, 0]]), {})
    found = agent.loss(net, net, Trajectory(steps, ()), torch.Generator())
    start = steps._replace(observation=observation[:1], first=~last[:1], last=last[:1])
    log_p = net(start, ())[0].logits.log_softmax(-1)
    assert found.loss.mean().item() == pytest.approx(-log_p[0, 0, 1].item(), rel=1e-5)
    assert found.metrics["losses/log_prob"].item() == pytest.approx(log_p[0, 0, 1].item(), rel=1e-5)


@pytest.mark.parametrize("overrides", [{}, MEMORY], ids=["feed-forward", "memory"])
def test_it_learns_to_choose_as_the_recording_and_resumes_bit_for_bit(tmp_path: Path, overrides: dict[str, Any]) -> None:
    where = str(recording(tmp_path / "shown"))
    settings = {**SMALL, **overrides, "replay.demonstrations": where, "learner.learning_rate_anneal_agent_steps": 40_960}
    rlsuite.train("classic/cartpole_cloning", {**settings, "run.agent_steps": 40_960}, run_dir=tmp_path / "whole")
    rlsuite.train("classic/cartpole_cloning", {**settings, "run.agent_steps": 20_480}, run_dir=tmp_path / "halves")
    rlsuite.train(None, {"run.agent_steps": 40_960}, resume=tmp_path / "halves")
    whole, halves = (checkpoint.load(checkpoint.find(tmp_path / name, resumable=True)) for name in ("whole", "halves"))
    assert not differences(whole.weights, halves.weights)
    assert not differences(whole.state["replay"], halves.state["replay"])
    agent = rlsuite.load(tmp_path / "whole")
    observation = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    state, first = agent.initial_state(200), np.ones(200, bool)
    extra = {"reward": np.zeros(200, np.float32)} if overrides else {}
    action, _ = agent.act(observation, state, first, **extra)
    assert (action == (observation[:, 0] > 0)).mean() > 0.8


def test_changed_recordings_are_refused_at_a_resume(tmp_path: Path) -> None:
    where = recording(tmp_path / "shown")
    rlsuite.train("classic/cartpole_cloning", {**SMALL, "replay.demonstrations": str(where)}, run_dir=tmp_path / "run")
    where.rename(tmp_path / "before")
    recording(where, (20, 20))
    with pytest.raises(CheckpointError, match="hold other episodes"):
        rlsuite.train(None, {"run.agent_steps": 4_096}, resume=tmp_path / "run")


def decision(tmp_path: Path, target: float | None = 20.0) -> DecisionTransformer:
    config = DecisionTransformerConfig(name="decision_transformer", target_return=target, return_scale=10.0, unroll=4, stride=2)
    return DecisionTransformer(config, NetConfig(torso="mlp", hidden=8, memory="attention(window=4,heads=2)", memory_size=8), SPEC)


def test_returns_to_go_count_the_rewards_that_are_still_to_come(tmp_path: Path) -> None:
    shown = demonstrations.load(recording(tmp_path / "shown", (3, 2))).steps
    steps = shown._replace(reward=np.array([0, 1, 2, 3, 0, 10, -4], np.float32))
    recorded = decision(tmp_path, 6.0).recorded(steps)
    assert recorded.extras["to_go"].tolist() == [6, 5, 3, 0, 6, -4, 0]
    for target, message in ((None, "is not set: the recorded returns go from 6 to 6"), (7.0, "= 7 was never reached or left")):
        with pytest.raises(UsageError, match=message):
            decision(tmp_path, target).recorded(steps)


def test_play_asks_for_the_target_less_what_was_won() -> None:
    """Two games: one goes on, one begins anew at the third step."""
    seen = []

    class Sees(torch.nn.Module):
        features = 1

        def initial_state(self, batch: int) -> tuple[torch.Tensor, ...]:
            return ()

        def forward(self, x: torch.Tensor, step: Step, state: Any) -> tuple[torch.Tensor, Any]:
            seen.append(x[..., -1] * 10)
            return x, ()

    core = ReturnToGo(lambda width: Sees(), 3, target=20.0, scale=10.0)  # type: ignore[arg-type, return-value]
    state = core.initial_state(2)
    reward, first = rows([[0.0, 0.0], [2.0, 1.0], [3.0, 0.0]]), rows([[True, True], [False, False], [False, True]])
    for t in range(3):
        step = Step((), reward[t : t + 1], first[t : t + 1], (), (), (), {})
        _, state = core(torch.zeros(1, 2, 3), step, state)
    assert torch.cat(seen).tolist() == [[20, 20], [18, 19], [15, 20]]
    whole, _ = core(torch.zeros(3, 2, 3), Step((), reward, first, (), (), (), {}), core.initial_state(2))
    assert (whole[..., -1] * 10).tolist() == [[20, 20], [18, 19], [15, 20]]


def test_a_decision_transformer_acts_by_its_state_and_is_told_another_target(tmp_path: Path) -> None:
    where = recording(tmp_path / "shown")
    settings = {**SMALL, "replay.demonstrations": str(where), "agent.target_return": 40, "run.agent_steps": 1_280}
    rlsuite.train("classic/cartpole_dt", settings, run_dir=tmp_path / "run")
    saved = Saved(tmp_path / "run", changes={"agent": {"target_return": 12.0}})
    *_, asked, action = saved.agent.initial_state(3)
    assert asked.tolist() == [12.0] * 3
    assert action.tolist() == [-1] * 3
    step = Step(torch.zeros(1, 3, 4), torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.bool), (), (), torch.zeros(1, 3).long(), {})
    _, state, _ = saved.agent.act(saved.net, step, saved.agent.initial_state(3), Mode(False, 0, torch.Generator()))
    assert state[-2].tolist() == [11.0] * 3
    before = (checkpoint.find(tmp_path / "run").parent / f"{checkpoint.find(tmp_path / 'run').name}.evaluation.json").read_text()
    assert evaluate(tmp_path / "run", 2, None, None, settings={"target_return": 12.0}).summary.episodes == 2
    after = (checkpoint.find(tmp_path / "run").parent / f"{checkpoint.find(tmp_path / 'run').name}.evaluation.json").read_text()
    assert before == after  # which is the score of the agent as it is
    with pytest.raises(UsageError, match="name the return to ask for"):
        evaluate(tmp_path / "run", 2, None, None, settings={"target_return": None})


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("classic/cartpole_cloning", {}, "learns from recordings: name their folder by replay.demonstrations"),
        ("classic/cartpole_cloning", {"replay.demonstrations": "SHOWN", "env.num_envs": 3}, "env.num_envs"),
        ("classic/cartpole_cloning", {"replay.demonstrations": "SHOWN", "runtime": "ray"}, "takes runtime.kind = local"),
        ("classic/cartpole_cloning", {"replay.demonstrations": "SHOWN", "replay.demonstration_ratio": 0.5}, "demonstration_ratio"),
        ("classic/cartpole_dt", {"replay.demonstrations": "SHOWN"}, "= 500 was never reached or left: .* from 12 to 40"),
        ("classic/cartpole_dt", {"replay.demonstrations": "SHOWN", "agent.target_return": None}, "is not set: .* from 12 to 40"),
        ("classic/cartpole_dt", {"replay.demonstrations": "SHOWN", "net.last_action_reward": False}, "needs the rewards that come"),
        ("classic/cartpole_cloning", {"replay.demonstrations": "SHOWN", "env.id": "Taxi-v4"}, "masks actions"),
        ("classic/cartpole_dt", {"replay.demonstrations": "SHOWN", "agent.target_return": 41}, "= 41 was never reached"),
        ("classic/cartpole_dt", {"replay.demonstrations": "SHOWN", "net.memory": "none"}, "needs a memory"),
        ("classic/key_door_cloning", {"replay.demonstrations": "SHOWN"}, "was recorded in CartPole-v1"),
        ("classic/dqn", {"replay.demonstrations": "SHOWN"}, "replay.demonstrations needs replay.demonstration_ratio"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, config: str, overrides: dict[str, Any], message: str) -> None:
    where = str(recording(tmp_path / "shown"))
    given = {key: where if value == "SHOWN" else value for key, value in overrides.items()}
    with pytest.raises(UsageError, match=message):
        build(resolve(config, given))
