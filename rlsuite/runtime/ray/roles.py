"""Stand-ins for roles whose work is done elsewhere: what `rlsuite.runtime.loop` asks of a learner, a store, a collector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.exceptions import RayTaskError

from rlsuite.build import make_learner
from rlsuite.errors import RlsuiteError
from rlsuite.learner import Weights
from rlsuite.runtime.ray.members import as_own
from rlsuite.runtime.ray.workers import load_into

if TYPE_CHECKING:
    from rlsuite.runtime.ray.fleet import Fleet


class LearnerElsewhere:
    """`LearnerRole` of the learner that runs elsewhere."""

    def __init__(self, fleet: Fleet):
        self.fleet, self.device = fleet, torch.device("cpu")
        self.twin = make_learner(fleet.config, fleet.agent, self.device)  # its net plays evaluations; it never learns

    @property
    def steps(self) -> int:
        return self.fleet.learner_steps

    @property
    def net(self) -> torch.nn.Module:
        """With the newest weights."""
        load_into(self.twin.online, ray.get(self.fleet.published[1]))
        return self.twin.net

    def weights(self) -> Weights:
        version, weights = ray.get(self.fleet.the_learner.actor.publish.remote())
        return Weights(version, {name: torch.from_numpy(array.copy()) for name, array in weights.items()})

    def state_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = ray.get(self.fleet.the_learner.actor.state_dict.remote())
        return found

    def learning_rate(self, agent_steps: int) -> float:
        return self.twin.learning_rate(agent_steps)

    def check(self, metrics: dict[str, float]) -> None:
        self.twin.steps = self.steps
        self.twin.check(metrics)

    def check_weights(self) -> None:
        try:
            ray.get(self.fleet.the_learner.actor.check_weights.remote())
        except RayTaskError as error:
            raise as_own(self.fleet.the_learner, error) from error

    def load(self, weights: dict[str, torch.Tensor], state: dict[str, Any], where: str) -> None:
        try:
            self.fleet.load_learners(weights, state, where)
        except RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, RlsuiteError) else ValueError(str(cause))) from error
        self.fleet._fetch_weights()


class ReplayElsewhere:
    """`ReplayRole` of all shards."""

    def __init__(self, fleet: Fleet):
        self.fleet = fleet

    @property
    def stale(self) -> int:
        return sum(stored.stale for stored in self.fleet.stored)

    @property
    def capacity_steps(self) -> int:
        return self.fleet.config.replay.capacity_agent_steps

    def __len__(self) -> int:
        return sum(stored.stored for stored in self.fleet.stored)

    def end_streams(self) -> None:
        for shard in self.fleet.shards:
            self.fleet.stored[shard.index] = ray.get(shard.actor.end_streams.remote(None))

    def state_dict(self) -> dict[str, Any]:
        return {
            "shards": ray.get([shard.actor.state_dict.remote() for shard in self.fleet.shards]),
            "limiter": self.fleet.limiter.state_dict(),
            "rng": self.fleet.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["shards"]) != len(self.fleet.shards):
            raise ValueError(f"it has {len(state['shards'])} shards, runtime.shards = {len(self.fleet.shards)}")
        self.fleet.limiter.load_state_dict(state["limiter"])
        self.fleet.rng.bit_generator.state = state["rng"]
        for shard, saved in zip(self.fleet.shards, state["shards"], strict=True):
            try:
                self.fleet.stored[shard.index] = ray.get(shard.actor.load.remote(saved))
            except RayTaskError as error:
                raise ValueError(str(error.cause)) from error


class CollectorsElsewhere:
    """`CollectorRole`: on Ray a resumed run begins new episodes."""

    def __init__(self, fleet: Fleet):
        self.fleet, self.env = fleet, fleet.env

    def diagnostics(self) -> dict[str, float]:
        found, self.fleet.told = self.fleet.told, {}
        return found

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        return False

    def ready(self, steps: int) -> bool:
        return False


class Nothing:
    """`LagRole`: collectors lag by themselves."""

    def diagnostics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
