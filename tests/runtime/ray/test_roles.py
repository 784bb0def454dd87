"""Stand-ins on the driver for parts that workers hold."""

from typing import Any

import pytest
from ray_envs import DQN, RAY

from rlsuite.config.loader import resolve
from rlsuite.factories import make_agent, make_spec
from rlsuite.runtime.ray.handles import WorkerHandle
from rlsuite.runtime.ray.roles import RemoteLearner, RemoteReplay
from rlsuite.runtime.ray.scheduler import Scheduler
from rlsuite.runtime.ray.workers import Stored


def test_the_net_of_a_learner_with_cuda_graphs_still_evaluates_on_a_cpu() -> None:
    config = resolve("classic/dqn", {**DQN, **RAY, "learner.cuda_graphs": True})
    learner = RemoteLearner(config, make_agent(config, make_spec(config)), [])
    assert learner.device.type == "cpu"


def shards(count: int) -> RemoteReplay:
    settings: dict[str, Any] = {**DQN, **RAY, "runtime.collectors": 3, "runtime.shards": count}
    config = resolve("classic/dqn", settings)
    workers = [WorkerHandle("shard", index, lambda index, restart: None) for index in range(count)]
    agent = make_agent(config, make_spec(config))
    return RemoteReplay(config, agent, workers, Scheduler(config, on_policy=False, synchronous=False))


def test_a_replay_is_the_sum_of_its_shards() -> None:
    replay = shards(2)
    replay.note(replay.shards[0], Stored(100, 1.0, 3))
    replay.note(replay.shards[1], Stored(50, 1.0, 4))
    assert (len(replay), replay.dropped_updates, replay.capacity_steps) == (150, 7, 4_000)


def test_a_checkpoint_of_an_on_policy_agent_is_refused() -> None:
    for state in ({"shards": []}, {"unrolls": []}):
        with pytest.raises(ValueError, match="the saved run is of an on-policy agent, which has no replay"):
            shards(2).load_state_dict(state)
