"""What runs in processes of its own under Ray: a collector, a shard of the replay memory, the learner, an evaluator.

Plain classes that know nothing of Ray: the driver (`driver`) makes actors of them. Whatever a method returns besides small reports
goes to another worker through the object store, never through the driver.

Shapes: K steps and L environments of an unroll, B batch.
"""

import os
import socket
import warnings
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.acting.collector import Episode
from rlsuite.config.schema import Config
from rlsuite.core import cpu, registry
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, Unroll
from rlsuite.evaluation.episodes import play_episodes
from rlsuite.evaluation.statistics import Summary
from rlsuite.factories import (
    device_of,
    evaluation_seed,
    make_agent,
    make_collector,
    make_collector_env,
    make_learner,
    make_queue,
    make_replay,
)
from rlsuite.nets.precision import Precision
from rlsuite.replay import Sample
from rlsuite.runs import run_folder

Arrays = dict[str, NDArray[Any]]
Tables = dict[str, dict[str, Any]]  # what was registered at run time


class Facts(NamedTuple):
    """Of the process that a worker runs in."""

    host: str
    pid: int
    versions: dict[str, str]


class Collected(NamedTuple):
    """What a driver hears of an unroll."""

    steps: int  # agent steps
    episodes: list[Episode]
    version: int  # of the weights that acted
    diagnostics: dict[str, float]


class Stored(NamedTuple):
    """What a driver hears of a shard."""

    stored: int  # agent steps
    total_weight: float  # of its priorities
    dropped_updates: int
    added: int = 0  # agent steps that this call has stored


class Learned(NamedTuple):
    """What a driver hears of an update."""

    steps: int  # learner steps taken
    metrics: dict[str, float] | None  # only if asked for


class Worker(ABC):
    """What all have in common. Nothing is built before `hello`, so that what goes wrong there is told as it is."""

    def __init__(self, tables: Tables, threads: int):
        registry.restore(tables)
        self.threads = threads

    def hello(self) -> Facts:
        """Builds the worker."""
        cpu.set_up(self.threads)
        # Arrays from the object store are read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self.build()
        return Facts(socket.gethostname(), os.getpid(), run_folder.versions())

    @abstractmethod
    def build(self) -> None: ...

    def ping(self) -> bool:
        """Answers if it lives."""
        return True


class CollectorWorker(Worker):
    """Collector `index` of `config.runtime.collectors`; `restart` counts the ones that died before it."""

    def __init__(self, config: Config, index: int, restart: int, tables: Tables):
        super().__init__(tables, config.runtime.collector_threads)
        self.config, self.index, self.restart = config, index, restart

    def build(self) -> None:
        config, runtime = self.config, self.config.runtime
        self.env, spec = make_collector_env(config, threads=runtime.collector_threads)
        agent = make_agent(config, spec)
        self.device = torch.device("cuda" if runtime.collector_gpus else "cpu")
        layout = torch.channels_last if config.learner.channels_last else torch.contiguous_format
        net = agent.make_net().requires_grad_(False).to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.online = Precision(net, config.learner.precision == "bf16")
        place = (self.index, runtime.collectors, self.restart)
        self.collector = make_collector(config, self.env, agent, self.online.net, self.device, *place)

    def collect(self, weights: Arrays | None, version: int, agent_steps: int) -> tuple[Unroll, Collected]:
        """An unroll; `weights` None where they are as before. The clock `agent_steps` also moves with the other collectors."""
        collector, of = self.collector, self.config.runtime.collectors
        if weights is not None:
            load_into(self.online, weights)
            collector.version = version
        steps, episodes = 0, []
        while steps == 0 or not collector.ready(self.config.run.collect_agent_steps):
            moved, ended = collector.advance(agent_steps + steps * of)
            steps += moved
            episodes += ended
        unroll = collector.take()
        return unroll, Collected(steps, episodes, unroll.version, collector.diagnostics())


class ShardWorker(Worker):
    """Shard `index` of `config.runtime.shards`: a store for every `shards`-th collector."""

    def __init__(self, config: Config, spec: EnvSpec, index: int, tables: Tables):
        super().__init__(tables, 1)
        self.config, self.spec, self.index = config, spec, index

    def build(self) -> None:
        config, spec, index = self.config, self.spec, self.index
        shards, collectors = config.runtime.shards, config.runtime.collectors
        sources = len(range(index, collectors, shards))
        self.replay = make_replay(config, spec, make_agent(config, spec), sources, index, shards)

    def add(self, unroll: Unroll, source: int) -> Stored:
        before = self.replay.inserted
        self.replay.add(unroll, source)
        return self.report()._replace(added=self.replay.inserted - before)

    def sample(self, count: int, inserted: int, batches: int) -> tuple[list[Sample], Stored]:
        """So many batches: see `Replay.sample`."""
        return [self.replay.sample(count, inserted) for _ in range(batches)], self.report()

    def update(self, priority: tuple[NDArray[np.int64], NDArray[np.float64]]) -> Stored:
        """Keys [B] and their new priorities [B]."""
        self.replay.update(*priority)
        return self.report()

    def end_streams(self, source: int | None) -> Stored:
        self.replay.end_streams(source)
        return self.report()

    def report(self) -> Stored:
        return Stored(len(self.replay), self.replay.total_weight(), self.replay.dropped_updates)

    def state_dict(self) -> dict[str, Any]:
        return self.replay.state_dict()

    def load(self, state: dict[str, Any]) -> Stored:
        self.replay.load_state_dict(state)
        return self.report()


class LearnerWorker(Worker):
    """Learner `rank` of `config.runtime.learners`, which have the same weights and learn from parts of the same batches.

    Updates go in the order of the calls, in all of them.
    """

    def __init__(self, config: Config, spec: EnvSpec, rank: int, threads: int, tables: Tables):
        super().__init__(tables, threads)
        self.config, self.spec, self.rank, self.of = config, spec, rank, config.runtime.learners

    def build(self) -> None:
        config, spec, agent = self.config, self.spec, make_agent(self.config, self.spec)
        if self.of > 1 and agent.makes_minibatches:
            raise UsageError(f"runtime.learners = {self.of}: agent.name={config.agent.name} makes minibatches of its own, use 1")
        self.learner = make_learner(config, agent, device_of(config), self._mean if self.of > 1 else None)
        self.queue = make_queue(config, spec) if agent.on_policy else None

    def meeting_place(self, host: str | None) -> str:
        """Where the learners of a run find each other: `host` or the name of this one, and a port that is free."""
        host = host or socket.gethostbyname(socket.gethostname())
        with socket.create_server((host, 0)) as server:
            return f"tcp://{host}:{server.getsockname()[1]}"

    def meet(self, place: str) -> None:
        """Waits for all learners."""
        kind = "nccl" if self.learner.device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(kind, init_method=place, rank=self.rank, world_size=self.of)

    def _mean(self, gradients: list[torch.Tensor]) -> None:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.of
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()

    def publish(self) -> tuple[int, Arrays]:
        """Learner steps, and the weights behind them."""
        found = self.learner.weights()
        return found.version, {name: tensor.cpu().numpy() for name, tensor in found.tensors.items()}

    def learn(
        self, samples: list[Sample], agent_steps: int, metrics: bool, publish: bool
    ) -> tuple[Learned, tuple[NDArray[np.int64], NDArray[np.float64]] | None, Arrays | None]:
        """An update from each batch: a report, keys and new priorities for the shard, and the weights if they are published."""
        keys, priorities, prioritized = [], [], self.config.replay.prioritized
        for sample in samples:
            batch = self.learner.stage(sample if self.of == 1 else sample.part(self.rank, self.of))
            update = self.learner.step(batch, agent_steps, want_priority=prioritized)
            if update.priority is not None:
                keys.append(batch.keys)
                priorities.append(update.priority)
        priority = (np.concatenate(keys), np.concatenate(priorities)) if keys else None
        found = {name: float(value) for name, value in update.metrics.items()} if metrics else None
        return Learned(self.learner.steps, found), priority, self.publish()[1] if publish else None

    def learn_rollouts(self, agent_steps: int, metrics: bool, *unrolls: Unroll) -> tuple[Learned, None, Arrays | None]:
        """The updates from a batch of rollouts, and the weights behind them."""
        assert self.queue is not None
        for unroll in unrolls:
            self.queue.add(unroll)
        return self.learn([self.queue.sample(self.config.learner.batch_size)], agent_steps, metrics, True)  # type: ignore[return-value]

    def state_dict(self) -> dict[str, Any]:
        return self.learner.state_dict()

    def load(self, weights: dict[str, torch.Tensor], state: dict[str, Any], where: str) -> int:
        self.learner.load(weights, state, where)
        return self.learner.steps

    def check_weights(self) -> None:
        self.learner.check_weights()


class EvaluatorWorker(Worker):
    """Plays evaluations on the way, beside the training."""

    def __init__(self, config: Config, spec: EnvSpec, tables: Tables):
        super().__init__(tables, config.runtime.collector_threads)
        self.config, self.spec = config, spec

    def build(self) -> None:
        config = self.config
        self.agent = make_agent(config, self.spec)
        self.online = Precision(self.agent.make_net().requires_grad_(False), config.learner.precision == "bf16")

    def evaluate(self, weights: Arrays, episodes: int) -> Summary:
        load_into(self.online, weights)
        seed = evaluation_seed(self.config.seed, final=False)
        summary = play_episodes(self.config, self.agent, self.online.net, episodes, seed, torch.device("cpu"))
        assert summary is not None  # nobody stops it
        return summary


def load_into(online: Precision, weights: Arrays) -> None:
    with torch.no_grad():
        for name, tensor in online.master.state_dict().items():
            tensor.copy_(torch.tensor(weights[name]))
    online.refresh()
