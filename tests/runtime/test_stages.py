"""The configs of a run's stages."""

from pathlib import Path

import pytest

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.runtime.stages import split


def test_a_stage_that_switches_something_off_returns_what_depends_on_it_to_its_default() -> None:
    base = {"replay.prioritized": True, "replay.priority_exponent": 0.5}
    config = resolve("classic/dqn", {**base, "stages": {"first": {"replay": {"prioritized": False}}, "second": {"seed": 1}}})
    with pytest.raises(UsageError, match=r"section of stages\.second"):
        split(config, Path("run"))
    config = resolve("classic/dqn", {**base, "stages": {"first": {"replay": {"prioritized": False}}, "second": {"run": {}}}})
    (_, first), (_, second) = split(config, Path("run"))
    default = type(first.replay).model_fields["priority_exponent"].default
    assert (first.replay.prioritized, first.replay.priority_exponent) == (False, default)
    assert (second.replay.prioritized, second.replay.priority_exponent) == (True, 0.5)
    both = {"first": {"replay": {"prioritized": False, "priority_exponent": 0.7}}}
    with pytest.raises(UsageError, match=r"stages\.first: .*priority_exponent = 0\.7 has no effect"):
        split(resolve("classic/dqn", {**base, "stages": both}), Path("run"))


FILE = """
agent: {name: dqn}
env: {id: CartPole-v1, num_envs: 2}
net: {torso: mlp, hidden: 8}
replay: {capacity_agent_steps: 500, min_agent_steps: 50}
run: {threads: 1}
eval: {episodes: 1}
stages:
  one: {run: {agent_steps: 100}}
  two: {run: {agent_steps: 150}, learner: {batch_size: 8}}
"""


def test_an_override_that_every_stage_would_undo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(FILE)
    with pytest.raises(UsageError, match=r"run\.agent_steps has no effect: the stages one, two set it; override stages\.one\.run"):
        resolve(tmp_path / "two.yaml", {"run.agent_steps": 50})
    given = {"stages.two.run.agent_steps": 60, "run.threads": 2, "learner.batch_size": 4}
    config = resolve(tmp_path / "two.yaml", given)
    stages = [stage for _, stage in split(config, tmp_path)]
    assert [(stage.run.agent_steps, stage.run.threads, stage.learner.batch_size) for stage in stages] == [(100, 2, 4), (60, 2, 8)]


def test_a_folder_in_which_nothing_was_trained_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(FILE)
    with pytest.raises(UsageError, match="teachers"):
        rlsuite.train(tmp_path / "two.yaml", {"distill.teachers": ["pretrained:pong"]}, run_dir=tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").exists()
    result = rlsuite.train(tmp_path / "two.yaml", run_dir=tmp_path / "run")
    assert result.agent_steps == 150
    with pytest.raises(UsageError, match="already holds a run"):
        rlsuite.train(tmp_path / "two.yaml", run_dir=tmp_path / "run")
