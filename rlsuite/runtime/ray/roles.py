"""Stand-ins on the driver for the parts of a run that workers hold: the learner, replay and collectors that `run_loop` sees."""

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
    """`LearnerRole` of the learner processes. It knows their number of steps and the weights that they published last."""

    def __init__(self, config: Config, agent: Agent, workers: list[WorkerHandle]):
        self.workers, self.device = workers, torch.device("cpu")
        plain = config.learner.model_copy(update={"cuda_graphs": False})  # which a CPU refuses
        self.twin = make_learner(config.model_copy(update={"learner": plain}), agent, self.device)  # evaluates; it never learns
        self.steps = 0
        self.published: tuple[int, Any] = (0, None)  # version and reference of the newest weights

    @property
    def first(self) -> WorkerHandle:
        """The one that reports and publishes for all: they have the same weights."""
        return self.workers[0]

    @property
    def ready(self) -> bool:
        """Whether all learners take part."""
        return all(worker.ready for worker in self.workers)

    @property
    def net(self) -> torch.nn.Module:
        """A net on the driver, with the weights published last."""
        load_into(self.twin.online, ray.get(self.published[1]))
        return self.twin.net

    def publish(self) -> None:
        """Makes the current weights those that collectors get next."""
        version, ref = self.first.actor.publish.options(num_returns=2).remote()
        self.published = (ray.get(version), ref)

    def weights(self) -> Weights:
        """The learner's current weights."""
        version, arrays = ray.get(self.first.actor.publish.remote())
        return Weights(version, as_tensors(arrays))

    def state_dict(self) -> dict[str, Any]:
        """The state of the first learner, which is that of all."""
        found: dict[str, Any] = ray.get(actor_of(self.first).state_dict.remote())
        return found

    def learning_rate(self, agent_steps: int) -> float:
        """The schedule's value at `agent_steps`."""
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
        """Continues from a checkpoint; ValueError or RlsuiteError if it does not fit."""
        try:
            self.restore(weights, state, where)
        except RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, RlsuiteError) else ValueError(str(cause))) from error
        self.publish()

    def restore(self, weights: dict[str, torch.Tensor], state: dict[str, Any], where: str) -> None:
        """Loads a checkpoint into all learners, and lets Ray's errors pass."""
        self.steps = ray.get([worker.actor.load.remote(weights, state, where) for worker in self.workers])[0]


class RemoteReplay:
    """`ReplayRole` of all shards, with the scheduler's limiter as the limiter of them all."""

    def __init__(self, config: Config, agent: Agent, shards: list[WorkerHandle], scheduler: Scheduler):
        self.agent, self.shards, self.scheduler = agent, shards, scheduler
        self.sources = [sources_of(config, shard.index) for shard in shards]  # rings of each
        self.capacity_steps = config.replay.capacity_agent_steps

    @property
    def dropped_updates(self) -> int:
        """Priorities that came back for sequences that were overwritten meanwhile."""
        return sum(stored.dropped_updates for stored in self.scheduler.stored)

    def __len__(self) -> int:
        """Steps that the shards have stored."""
        return sum(stored.stored for stored in self.scheduler.stored)

    def note(self, shard: WorkerHandle, report: Stored) -> None:
        """Keeps what a shard has reported."""
        self.scheduler.stored[shard.index] = report

    def end_streams(self) -> None:
        """All environments start anew: nothing may be learned across this point."""
        for shard in self.shards:
            self.note(shard, ray.get(shard.actor.end_streams.remote(None)))

    def state_dict(self) -> dict[str, Any]:
        """The shards' states beside the scheduler's."""
        return {"shards": ray.get([actor_of(shard).state_dict.remote() for shard in self.shards]), **self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> str | None:
        """Restores shards and scheduler, also from a local run or another number of shards or collectors.

        Returns what could not be kept as it was. ValueError if the checkpoint does not fit.
        """
        own = {name: value for name, value in state.items() if "shards" in state and name != "shards"}  # not of a local replay
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
        """References of the calls that bring a shard its part of a saved replay; each returns `Stored`."""
        if saved.sources == self.sources:
            return [shard.actor.load.remote(saved.shards[shard.index])]
        layout = layout_of(self.agent.sequence)
        portions = saved.portions(self.agent.spec, layout, places(self.sources), shard.index)
        return [shard.actor.fill.remote(saved.without_steps(), [(place.source, unroll) for place, unroll in portions])]


class RemoteCollectors:
    """`CollectorRole` of all collectors: on Ray a resumed run begins new episodes."""

    def __init__(self) -> None:
        self.reported: dict[str, float] = {}  # diagnostics since they were last read

    def diagnostics(self) -> dict[str, float]:
        """What collectors have reported since the last call."""
        found, self.reported = self.reported, {}
        return found

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        return False

    def ready(self, steps: int) -> bool:
        return False


class NullPolicyLag:
    """`LagRole` of a run whose collectors lag by themselves."""

    def diagnostics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def as_tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    """Published weights as tensors of their own: the object store's arrays are read-only."""
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
