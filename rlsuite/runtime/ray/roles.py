"""Stand-ins for roles whose work is done elsewhere: what `rlsuite.runtime.run_loop` asks of a learner, a store, a collector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.exceptions import RayTaskError

from rlsuite.core.errors import RlsuiteError
from rlsuite.factories import make_learner
from rlsuite.learning.learner import Weights
from rlsuite.runtime.ray.handles import as_own
from rlsuite.runtime.ray.workers import load_into

if TYPE_CHECKING:
    from rlsuite.runtime.ray.driver import Driver


class LearnerElsewhere:
    """`LearnerRole` of the learner that runs elsewhere."""

    def __init__(self, driver: Driver):
        self.driver, self.device = driver, torch.device("cpu")
        self.twin = make_learner(driver.config, driver.agent, self.device)  # its net plays evaluations; it never learns

    @property
    def steps(self) -> int:
        return self.driver.learner_steps

    @property
    def net(self) -> torch.nn.Module:
        """With the newest weights."""
        load_into(self.twin.online, ray.get(self.driver.published[1]))
        return self.twin.net

    def weights(self) -> Weights:
        version, weights = ray.get(self.driver.the_learner.actor.publish.remote())
        return Weights(version, {name: torch.from_numpy(array.copy()) for name, array in weights.items()})

    def state_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = ray.get(self.driver.the_learner.actor.state_dict.remote())
        return found

    def learning_rate(self, agent_steps: int) -> float:
        return self.twin.learning_rate(agent_steps)

    def check(self, metrics: dict[str, float]) -> None:
        self.twin.steps = self.steps
        self.twin.check(metrics)

    def check_weights(self) -> None:
        try:
            ray.get(self.driver.the_learner.actor.check_weights.remote())
        except RayTaskError as error:
            raise as_own(self.driver.the_learner, error) from error

    def load(self, weights: dict[str, torch.Tensor], state: dict[str, Any], where: str) -> None:
        try:
            self.driver.load_learners(weights, state, where)
        except RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, RlsuiteError) else ValueError(str(cause))) from error
        self.driver._fetch_weights()


class ReplayElsewhere:
    """`ReplayRole` of all shards."""

    def __init__(self, driver: Driver):
        self.driver = driver

    @property
    def dropped_updates(self) -> int:
        return sum(stored.dropped_updates for stored in self.driver.stored)

    @property
    def capacity_steps(self) -> int:
        return self.driver.config.replay.capacity_agent_steps

    def __len__(self) -> int:
        return sum(stored.stored for stored in self.driver.stored)

    def end_streams(self) -> None:
        for shard in self.driver.shards:
            self.driver.stored[shard.index] = ray.get(shard.actor.end_streams.remote(None))

    def state_dict(self) -> dict[str, Any]:
        return {
            "shards": ray.get([shard.actor.state_dict.remote() for shard in self.driver.shards]),
            "limiter": self.driver.limiter.state_dict(),
            "rng": self.driver.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["shards"]) != len(self.driver.shards):
            raise ValueError(f"it has {len(state['shards'])} shards, runtime.shards = {len(self.driver.shards)}")
        self.driver.limiter.load_state_dict(state["limiter"])
        self.driver.rng.bit_generator.state = state["rng"]
        for shard, saved in zip(self.driver.shards, state["shards"], strict=True):
            try:
                self.driver.stored[shard.index] = ray.get(shard.actor.load.remote(saved))
            except RayTaskError as error:
                raise ValueError(str(error.cause)) from error


class CollectorsElsewhere:
    """`CollectorRole`: on Ray a resumed run begins new episodes."""

    def __init__(self, driver: Driver):
        self.driver, self.env = driver, driver.env

    def diagnostics(self) -> dict[str, float]:
        found, self.driver.diagnostics = self.driver.diagnostics, {}
        return found

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        return False

    def ready(self, steps: int) -> bool:
        return False


class NullPolicyLag:
    """`LagRole`: collectors lag by themselves."""

    def diagnostics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
