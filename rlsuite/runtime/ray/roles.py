"""Stand-ins on the driver for the parts of a run that are in worker processes: `run_loop`'s learner, replay and collectors."""

from typing import Any

import ray
import torch
from ray.exceptions import RayTaskError

from rlsuite.config.schema import Config
from rlsuite.core.agent import Agent
from rlsuite.core.errors import RlsuiteError
from rlsuite.factories import make_learner
from rlsuite.learning.learner import Weights
from rlsuite.replay.layout import layout_of
from rlsuite.replay.moves import SavedReplay, moved, places
from rlsuite.runtime.ray.handles import WorkerHandle, actor_of, as_own
from rlsuite.runtime.ray.scheduler import Scheduler
from rlsuite.runtime.ray.workers import Arrays, Stored, load_into, sources_of


class RemoteLearner:
    """The `LearnerRole` of the learner processes. It keeps their step count and the weights that they last published."""

    def __init__(self, config: Config, agent: Agent, workers: list[WorkerHandle]):
        self.workers, self.device = workers, torch.device("cpu")
        plain = config.learner.model_copy(update={"cuda_graphs": False})  # not possible on a CPU
        self.twin = make_learner(config.model_copy(update={"learner": plain}), agent, self.device)  # for evaluations; never trained
        self.steps = 0
        self.published: tuple[int, Any] = (0, None)  # version and reference of the newest weights

    @property
    def first(self) -> WorkerHandle:
        """The learner that reports and publishes for all of them; they have the same weights."""
        return self.workers[0]

    @property
    def ready(self) -> bool:
        """Whether all learners are ready."""
        return all(worker.ready for worker in self.workers)

    @property
    def net(self) -> torch.nn.Module:
        """A net on the driver, with the last published weights."""
        load_into(self.twin.online, ray.get(self.published[1]))
        return self.twin.net

    def publish(self) -> None:
        """Publishes the current weights: collectors get them with their next call."""
        version, ref = self.first.actor.publish.options(num_returns=2).remote()
        self.published = (ray.get(version), ref)

    def weights(self) -> Weights:
        """The learner's current weights."""
        version, arrays = ray.get(self.first.actor.publish.remote())
        return Weights(version, as_tensors(arrays))

    def state_dict(self) -> dict[str, Any]:
        """The state of the first learner; all learners have the same."""
        found: dict[str, Any] = ray.get(actor_of(self.first).state_dict.remote())
        return found

    def learning_rate(self, agent_steps: int) -> float:
        """The learning rate at `agent_steps`, according to the schedule."""
        return self.twin.learning_rate(agent_steps)

    def check(self, metrics: dict[str, float]) -> None:
        """RlsuiteError if a metric is not finite."""
        self.twin.steps = self.steps
        self.twin.check(metrics)

    def check_weights(self) -> None:
        """RlsuiteError if a weight is not finite."""
        try:
            ray.get(actor_of(self.first).check_weights.remote())
        except RayTaskError as error:
            raise as_own(self.first, error) from error

    def load(self, weights: dict[str, torch.Tensor], state: dict[str, Any], where: str) -> None:
        """Continues from a checkpoint. ValueError or RlsuiteError if it does not fit."""
        try:
            self.restore(weights, state, where)
        except RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, RlsuiteError) else ValueError(str(cause))) from error
        self.publish()

    def restore(self, weights: dict[str, torch.Tensor], state: dict[str, Any], where: str) -> None:
        """Loads a checkpoint into all learners; lets Ray's errors through."""
        self.steps = ray.get([worker.actor.load.remote(weights, state, where) for worker in self.workers])[0]


class RemoteReplay:
    """The `ReplayRole` of all shards together; the scheduler's limiter limits all of them."""

    def __init__(self, config: Config, agent: Agent, shards: list[WorkerHandle], scheduler: Scheduler):
        self.agent, self.shards, self.scheduler = agent, shards, scheduler
        self.sources = [sources_of(config, shard.index) for shard in shards]  # number of rings per shard
        self.capacity_steps = config.replay.capacity_agent_steps

    @property
    def dropped_updates(self) -> int:
        """The number of priorities that arrived after their sequences were overwritten."""
        return sum(stored.dropped_updates for stored in self.scheduler.stored)

    def __len__(self) -> int:
        """The number of steps stored in all shards."""
        return sum(stored.stored for stored in self.scheduler.stored)

    def note(self, shard: WorkerHandle, report: Stored) -> None:
        """Keeps a shard's last report."""
        self.scheduler.stored[shard.index] = report

    def end_streams(self) -> None:
        """Marks that all environments start new episodes, so that no sequence spans this point."""
        for shard in self.shards:
            self.note(shard, ray.get(shard.actor.end_streams.remote(None)))

    def state_dict(self) -> dict[str, Any]:
        """The states of the shards and of the scheduler."""
        return {"shards": ray.get([actor_of(shard).state_dict.remote() for shard in self.shards]), **self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> str | None:
        """Restores shards and scheduler, even from a local run or from a different number of shards or collectors.

        Returns a description of what could not be restored exactly, or None. ValueError if the checkpoint does not fit.
        """
        own = {name: value for name, value in state.items() if "shards" in state and name != "shards"}  # empty for a local run's
        if not self.shards:
            if state.get("shards") or "rings" in state or "own" in state:
                raise ValueError("the saved run is of an off-policy agent, which has a replay")
            self.scheduler.load_state_dict(own)
            return "rollouts that had not been learned from" if state.get("unrolls", True) else None
        saved = SavedReplay.of(state)
        self.scheduler.load_state_dict(own | {"limiter": saved.limiter})
        for shard in self.shards:
            for ref in self.restoring(shard, saved):
                try:
                    self.note(shard, ray.get(ref))
                except RayTaskError as error:
                    raise ValueError(str(error.cause)) from error
        return None if saved.sources == self.sources else moved(saved.steps(), len(self))

    def restoring(self, shard: WorkerHandle, saved: SavedReplay) -> list[Any]:
        """Starts the calls that send a shard its part of a saved replay; returns their references, each to a `Stored`."""
        if saved.sources == self.sources:
            return [shard.actor.load.remote(saved.shards[shard.index])]
        layout = layout_of(self.agent.sequence)
        portions = saved.portions(self.agent.spec, layout, places(self.sources), shard.index)
        return [shard.actor.fill.remote(saved.without_steps(), [(place.source, unroll) for place, unroll in portions])]


class RemoteCollectors:
    """The `CollectorRole` of all collectors. It has no state: on Ray, a resumed run begins new episodes."""

    def __init__(self) -> None:
        self.reported: dict[str, float] = {}  # diagnostics since they were last read

    def diagnostics(self) -> dict[str, float]:
        """The diagnostics that collectors have reported since the last call."""
        found, self.reported = self.reported, {}
        return found

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        return False

    def ready(self, steps: int) -> bool:
        return False


class NullPolicyLag:
    """The `LagRole` of a run on Ray, whose collectors lag by themselves: it does nothing."""

    def diagnostics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def as_tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    """Published weights as tensors. They are copies, because the object store's arrays are read-only."""
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
