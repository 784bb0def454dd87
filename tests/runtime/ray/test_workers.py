"""Workers are plain classes: what they do shows without Ray."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray_envs import DQN, RAY, ROLLOUTS

from rlsuite.config.loader import as_mapping, resolve
from rlsuite.core.errors import UsageError
from rlsuite.evaluation import record
from rlsuite.factories import make_spec
from rlsuite.replay import demonstrations
from rlsuite.runtime.ray import run_ray
from rlsuite.runtime.ray.workers import CollectorWorker, Registered, ShardWorker


@pytest.mark.parametrize("with_demonstrations", [False, True])
def test_a_shard_leaves_counting_to_the_scheduler(tmp_path: Path, with_demonstrations: bool) -> None:
    settings: dict[str, Any] = {**DQN, **RAY}
    if with_demonstrations:
        section = resolve("classic/dqn", settings).env
        recorded = record.from_policy(section, lambda env, observation: np.zeros(len(observation), np.int64), episodes=20, seed=1)
        demonstrations.save(recorded, tmp_path / "shown")
        settings |= {"replay.demonstrations": str(tmp_path / "shown"), "replay.demonstration_ratio": 0.5}
    config = resolve("classic/dqn", settings)
    collector, shard = (
        CollectorWorker(as_mapping(config), Registered(), 0, 0),
        ShardWorker(as_mapping(config), Registered(), make_spec(config), 0),
    )
    collector.hello()
    shard.hello()
    unroll, report = collector.collect(None, 0, 0)
    stored = shard.add(unroll, 0)
    assert stored.added == stored.stored == report.steps == 32
    samples, _ = shard.sample(16, 32, 3)  # before `replay.min_agent_steps`, and more than the ratio allows
    assert [len(sample.keys) for sample in samples] == [16] * 3
    state = shard.state_dict()
    assert (state["own"] if with_demonstrations else state)["limiter"] == {}


def test_learners_do_not_share_the_minibatches_that_an_agent_makes_itself() -> None:
    config = resolve("classic/ppo", {**ROLLOUTS, **RAY, "agent.minibatches": 2, "runtime.learners": 2})
    with pytest.raises(UsageError, match=r"^runtime.learners = 2: agent.name=ppo makes minibatches of its own, use 1$"):
        run_ray(config, None)  # before Ray is started
