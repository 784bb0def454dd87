"""Distillation: what students learn from, who acts, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import differences, final
from typer.testing import CliRunner

import rlsuite
from rlsuite.acting.selfplay import SelfPlay
from rlsuite.cli.main import app
from rlsuite.config.loader import resolve
from rlsuite.core.agent import Mode, Transitions
from rlsuite.core.errors import UsageError
from rlsuite.core.types import Step, Trajectory
from rlsuite.evaluation.export import export
from rlsuite.evaluation.record import from_agent
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import build, make_spec
from rlsuite.replay import demonstrations
from rlsuite.runs.metrics import read_metrics
from rlsuite.runtime.distillation import KEY, make_trained_agent

SMALL: dict[str, Any] = {
    "distill.teachers": ["pretrained:cartpole"],
    "run.threads": 1,
    "net.hidden": 16,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
    "learner.learning_rate_end": None,
}
REPLAY = {"replay.min_agent_steps": 100, "replay.capacity_agent_steps": 2000, "learner.batch_size": 16}
ROLLOUTS = {"run.collect_agent_steps": 8, "env.num_envs": 4, "learner.batch_size": 4}
RECURRENT = {"net.memory": "lstm", "net.memory_size": 8}


def student(config: str, **settings: Any) -> Any:
    resolved = resolve(config, {**SMALL, **settings})
    return make_trained_agent(resolved, make_spec(resolved))


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ("classic/dqn", {**REPLAY, "replay.prioritized": True}),
        ("classic/dqn", {**REPLAY, "agent.name": "c51", "agent.noisy": True}),
        (
            "classic/dqn",
            {
                **REPLAY,
                **RECURRENT,
                "agent.name": "r2d2",
                "agent.epsilon_ladder": False,
                "agent.burn_in": 2,
                "agent.unroll": 4,
                "agent.stride": 2,
            },
        ),
        ("classic/ppo", {**ROLLOUTS, "agent.minibatches": 2}),
        ("classic/ppo", {**ROLLOUTS, **RECURRENT, "agent.minibatches": 2}),
        ("classic/a2c", ROLLOUTS),
    ],
    ids=["dqn", "c51", "r2d2", "ppo", "ppo-lstm", "a2c"],
)
def test_a_student_of_any_kind_comes_to_choose_as_its_teacher(config: str, settings: dict[str, Any], tmp_path: Path) -> None:
    settings = {**SMALL, **settings, "run.agent_steps": 1500, "learner.learning_rate": 3e-3, "run.log_seconds": 1e-9}
    rlsuite.train(config, settings, run_dir=tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if "losses/kl_to_teacher" in row]
    first, last = rows[: len(rows) // 4], rows[-(len(rows) // 4) :]
    agree = [np.mean([row["losses/same_action"] for row in part]) for part in (first, last)]
    apart = [np.mean([row["losses/kl_to_teacher"] for row in part]) for part in (first, last)]
    assert agree[1] > max(0.6, agree[0])
    assert apart[1] < 0.8 * apart[0]


def test_the_loss_is_the_divergence_from_the_stored_policy() -> None:
    agent = student("classic/dqn", **REPLAY)
    assert agent.sequence.length == 2
    net = agent.make_net()
    count, rng = 5, torch.Generator().manual_seed(0)
    policy = torch.rand(2, count, 2, generator=rng).softmax(-1)
    blank = torch.zeros(2, count, dtype=torch.bool)
    seen = torch.randn(2, count, 4, generator=rng)
    steps = Step(seen, blank.float(), blank, blank, blank, blank.long(), {KEY: policy})
    found = agent.loss(net, net, Trajectory(steps, ()), rng)
    with torch.no_grad():
        log_p = net(steps._replace(observation=seen[:1]), ())[0][0, ..., 0].log_softmax(-1)  # [B,A]
    by_hand = torch.nn.functional.kl_div(log_p, policy[0], reduction="none").sum(-1)  # [B]
    torch.testing.assert_close(found.loss.detach(), by_hand)
    torch.testing.assert_close(found.td[0], by_hand)


@pytest.mark.parametrize(("share", "shown"), [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_teachers_act_in_their_share_of_the_environments(share: float, shown: int) -> None:
    agent = student("classic/ppo", **{"distill.teacher_share": share, "distill.temperature": 1e-6})  # its best action, always
    net = agent.make_net()
    torch.nn.init.zeros_(net.policy.weight)
    teacher, rng = Saved(Path("pretrained:cartpole")), torch.Generator().manual_seed(3)
    false = torch.zeros(1, 8, dtype=torch.bool)
    seen = torch.randn(1, 8, 4, generator=rng)
    step = Step(seen, false.float(), false, false, false, false.long(), {})
    best = teacher.agent.scores(teacher.net, step, ())[0][0].argmax(-1)
    same = torch.ones(8, dtype=torch.bool)
    for _ in range(20):
        action, _, extras = agent.act(net, step, (), Mode(True, 0, rng))
        assert torch.equal(extras[KEY].argmax(-1), best)
        same &= action == best
    assert same[:shown].all()
    assert not same[shown:].any()  # 20 draws of a student that knows nothing
    # Collectors of a distributed run share the environments out, not each its own.
    action, _, _ = agent.act(net, step, (), Mode(True, 0, rng, first_env=8, total_envs=16))
    assert share == 1.0 or not torch.equal(action, best)


def test_teachers_have_no_part_in_evaluations(tmp_path: Path) -> None:
    settings = {
        **SMALL,
        **ROLLOUTS,
        "distill.teacher_share": 1.0,
        "run.agent_steps": 64,
        "eval.episodes": 5,
        "agent.minibatches": 1,
    }
    found = rlsuite.train("classic/ppo", settings, run_dir=tmp_path / "run").evaluation
    assert found is not None
    assert found.mean == rlsuite.evaluate(tmp_path / "run", 5).mean
    assert found.mean < 100  # the teacher has 500


def test_masked_actions_count_neither_as_equal_nor_as_other() -> None:
    agent = student("classic/dqn", **REPLAY)
    net = agent.make_net()
    with torch.no_grad():
        net.head.advantage.out.bias.copy_(torch.tensor([100.0, 0.0]))
    blank = torch.zeros(2, 3, dtype=torch.bool)
    mask = torch.tensor([False, True]).expand(2, 3, 2)
    steps = Step(torch.zeros(2, 3, 4), blank.float(), blank, blank, blank, blank.long(), {KEY: mask.float(), "action_mask": mask})
    found = agent.loss(net, net, Trajectory(steps, ()), torch.Generator())
    assert found.metrics["losses/same_action"] == 1
    assert found.loss.abs().max() < 1e-6


def test_a_students_values_are_the_logits_of_the_next_students_teacher(tmp_path: Path) -> None:
    rlsuite.train("classic/dqn", {**SMALL, **REPLAY, "run.agent_steps": 200}, run_dir=tmp_path / "first")
    export(tmp_path / "first", "folder", tmp_path / "shared")
    assert Saved(tmp_path / "shared").config.distill.teachers == ["pretrained:cartpole"]
    seen = torch.randn(1, 3, 4)
    false = torch.zeros(1, 3, dtype=torch.bool)
    step = Step(seen, false.float(), false, false, false, false.long(), {})
    for place in ("first", "shared"):
        agent = student("classic/ppo", **{"distill.teachers": [str(tmp_path / place)]})
        policy = agent.act(agent.make_net(), step, (), Mode(True, 0, torch.Generator()))[2][KEY]
        teacher = Saved(tmp_path / place)
        torch.testing.assert_close(policy, teacher.agent.scores(teacher.net, step, ())[0][0].softmax(-1))


def test_an_averaged_net_acts_in_a_student_too() -> None:
    settings = {**SMALL, **REPLAY, "learner.act_with_target": True, "learner.target_ema": 0.01}
    config = resolve("classic/dqn", {**settings, "learner.target_period_learner_steps": 1})
    parts = build(config, make=make_trained_agent)
    assert parts.learner.acting is parts.learner.frozen
    parts.close()


def test_several_teachers_are_averaged(tmp_path: Path) -> None:
    rlsuite.train("classic/ppo", {**SMALL, "distill.teachers": [], "run.agent_steps": 512}, run_dir=tmp_path / "other")
    places = ["pretrained:cartpole", str(tmp_path / "other")]
    agent = student("classic/ppo", **{"distill.teachers": places})
    seen = torch.randn(1, 3, 4)
    false = torch.zeros(1, 3, dtype=torch.bool)
    step = Step(seen, false.float(), false, false, false, false.long(), {})
    found = agent.act(agent.make_net(), step, (), Mode(True, 0, torch.Generator()))[2][KEY]
    one, other = (student("classic/ppo", **{"distill.teachers": [place]}) for place in places)
    policies = [each.act(each.make_net(), step, (), Mode(True, 0, torch.Generator()))[2][KEY] for each in (one, other)]
    torch.testing.assert_close(found, (policies[0] + policies[1]) / 2)


BOARD = {
    "distill.teachers": ["pretrained:tic_tac_toe"],
    "run.threads": 1,
    "env.num_envs": 8,
    "net.torso": "tower(width=8,depth=1)",
    "net.hidden": 8,
    "replay.min_agent_steps": 50,
    "replay.capacity_agent_steps": 1000,
    "learner.batch_size": 16,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}


def test_at_the_board_the_teacher_plays_and_the_student_learns(tmp_path: Path) -> None:
    config = resolve("boards/tic_tac_toe", BOARD)
    parts = build(config, make=make_trained_agent)
    collector, teacher = parts.collector, Saved(Path("pretrained:tic_tac_toe"))
    assert isinstance(collector, SelfPlay)
    planes = np.zeros((1, *parts.spec.observation_shape), np.int8)
    with torch.no_grad():
        played = collector.agent.evaluate(collector.net, planes)
        own = teacher.agent.evaluate(teacher.net.float(), planes)  # type: ignore[attr-defined]
    for ours, theirs in zip(played, own, strict=True):  # logits and values
        np.testing.assert_allclose(ours, theirs, rtol=0.05, atol=0.05)  # one of them in bf16
    parts.close()
    rlsuite.train("boards/tic_tac_toe", {**BOARD, "run.agent_steps": 400}, run_dir=tmp_path / "run")
    assert Saved(tmp_path / "run").net is not None  # a student is an agent as any other, and needs no teacher


def test_a_resumed_student_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = {**SMALL, **REPLAY, "replay.prioritized": True}
    rlsuite.train("classic/dqn", {**settings, "run.agent_steps": 1200}, run_dir=tmp_path / "whole")
    rlsuite.train("classic/dqn", {**settings, "run.agent_steps": 600}, run_dir=tmp_path / "halves")
    rlsuite.train(None, {"run.agent_steps": 1200}, resume=tmp_path / "halves")
    whole, halves = final(tmp_path / "whole"), final(tmp_path / "halves")
    assert differences(whole.weights, halves.weights) == []


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ("classic/ppo", {"distill.teachers": ["pretrained:pong"]}, "pretrained:pong plays another game: ALE/Pong-v5, not CartPole"),
        ("classic/ppo", {"distill.teachers": ["pretrained:pon"]}, "unknown pretrained agent 'pon'; did you mean pong"),
        ("classic/ppo", {"distill.teachers": ["runs/none"]}, "runs/none does not exist"),
        (
            "classic/ppo",
            {"distill.teachers": [], "distill.temperature": 2.0},
            r"distill.temperature = 2.0 has no effect without distill.teachers",
        ),
        ("atari/pong_pqn", {"distill.teachers": ["pretrained:pong"], "env.stack": 4}, "observation_shape = .*set env"),
        ("boards/tic_tac_toe", {"distill.teachers": ["pretrained:cartpole"]}, "agent.name=alphazero cannot learn"),
        ("boards/tic_tac_toe", {"distill.teachers": ["pretrained:tic_tac_toe"], "agent.gate_games": 4}, "agent.gate_games=0"),
        ("boards/connect_four", {"distill.teachers": ["pretrained:tic_tac_toe"]}, "plays another game: tic_tac_toe, not connect_f"),
        (
            "atari/pong_pqn",
            {"env.id": "ALE/Pong-v5+ALE/Breakout-v5", "distill.teachers": ["pretrained:pong"]},
            "none of them plays ALE/Breakout",
        ),
    ],
)
def test_teachers_that_do_not_fit_are_refused(config: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        rlsuite.train(config, {"distill.teachers": ["pretrained:cartpole"], "run.threads": 1, **settings}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_recordings_have_no_teacher(tmp_path: Path) -> None:
    demonstrations.save(from_agent(Saved(Path("pretrained:cartpole")), 1, 1), tmp_path / "shown")
    settings = {**SMALL, **REPLAY, "replay.demonstrations": str(tmp_path / "shown"), "replay.demonstration_ratio": 0.5}
    with pytest.raises(UsageError, match=r"leave replay.demonstrations out"):
        rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")


def test_a_teacher_with_a_memory_is_refused(tmp_path: Path) -> None:
    rlsuite.train("classic/ppo", {**SMALL, **RECURRENT, "distill.teachers": [], "run.agent_steps": 600}, run_dir=tmp_path / "lstm")
    with pytest.raises(UsageError, match=r"has a memory, net.memory=lstm: a teacher must be a feed-forward net"):
        student("classic/ppo", **{"distill.teachers": [str(tmp_path / "lstm")]})


def test_a_student_of_two_games_has_a_teacher_and_outputs_for_each(tmp_path: Path) -> None:
    few: dict[str, Any] = {
        "run.threads": 1,
        "env.num_envs": 4,
        "learner.batch_size": 4,
        "agent.minibatches": 1,
        "run.collect_agent_steps": 2,
    }
    few |= {"eval.every_agent_steps": None, "eval.stop_at_return": None, "run.agent_steps": 8, "eval.episodes": 1}
    rlsuite.train("atari/pong_pqn", {**few, "env.id": "ALE/Breakout-v5", "env.max_frames": 400}, run_dir=tmp_path / "breakout")
    teachers = ["pretrained:pong", str(tmp_path / "breakout")]
    config = resolve("atari/pong_pqn", {**few, "env.id": "ALE/Pong-v5+ALE/Breakout-v5", "distill.teachers": teachers})
    parts = build(config, make=make_trained_agent)
    assert parts.spec.num_actions == 6 + 4
    step, _ = parts.collector.tick(0)  # type: ignore[union-attr]
    policy = step.extras[KEY]  # [L,A]
    for row in range(4):
        game, own = (teachers[row % 2], slice(0, 6) if row % 2 == 0 else slice(6, 10))
        assert step.action[row] in range(10)[own]
        assert policy[row].sum() == pytest.approx(1)
        assert policy[row, own].sum() == pytest.approx(1)
        teacher = Saved(Path(game), changes={"learner": {"precision": "bf16"}})
        false = torch.zeros(1, 1, dtype=torch.bool)
        seen = torch.from_numpy(step.observation[None, row : row + 1])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            q = teacher.agent.scores(teacher.net, Step(seen, false.float(), false, false, false, false.long(), {}), ())[0][0, 0]
        np.testing.assert_allclose(policy[row, own], (q / 0.01).softmax(-1).numpy(), atol=0.05)
    parts.close()


def test_the_command_names_teachers_and_then_a_config(tmp_path: Path) -> None:
    arguments = ["distill", "pretrained:cartpole", "classic/ppo", "run.agent_steps=600", "net.hidden=8", "eval.episodes=1"]
    result = CliRunner().invoke(app, [*arguments, f"--run-dir={tmp_path / 'run'}", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["agent_steps"] == 600
    assert Saved(tmp_path / "run").config.distill.teachers == ["pretrained:cartpole"]
    again = ["distill", str(tmp_path / "run"), "classic/ppo", "run.agent_steps=600", "net.hidden=8", "eval.episodes=1"]
    assert CliRunner().invoke(app, [*again, f"--run-dir={tmp_path / 'again'}"]).exit_code == 0
    (teacher,) = Saved(tmp_path / "again").config.distill.teachers
    assert Path(teacher).parent == tmp_path / "run" / "checkpoints"
    assert isinstance(Saved(tmp_path / "run").agent.sequence, type(student("classic/ppo").sequence))
    refused = CliRunner().invoke(app, ["distill", "classic/ppo"])
    assert isinstance(refused.exception, UsageError)
    assert "name one or more teachers" in str(refused.exception)
    assert not isinstance(student("classic/ppo").sequence, Transitions)
