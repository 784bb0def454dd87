"""The workers of a run on Ray, each in a process of its own: a collector, a shard of the replay, the learner, an evaluator.

These are plain classes that know nothing of Ray; `handles` makes actors of them. Their methods return a small report to the driver;
everything else goes through the object store to another worker.

Shapes: K steps and L environments of an unroll, B batch.
"""

import os
import resource
import socket
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.acting.board_agent import BoardAgent
from rlsuite.acting.collector import Episode
from rlsuite.acting.inference import InferenceServer, ServedNet
from rlsuite.config import loader
from rlsuite.config.schema import Config
from rlsuite.core import cpu, registry
from rlsuite.core.agent import Agent, Net, agent_class
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
from rlsuite.nets.precision import Precision, in_bf16
from rlsuite.replay import Sample
from rlsuite.replay.limiter import Unlimited
from rlsuite.replay.mixture import Mixture
from rlsuite.runs import run_folder
from rlsuite.runtime.distillation import make_trained_agent
from rlsuite.runtime.ray import environments
from rlsuite.runtime.ray.environments import Packed

Arrays = dict[str, NDArray[Any]]
Settings = dict[str, Any]  # a config, as `loader.as_mapping` makes it


class Registered(NamedTuple):
    """Everything that the driver's program has registered at run time, to be registered in its workers too."""

    tables: Mapping[str, Mapping[str, Any]] = MappingProxyType({})  # with `rlsuite.register_*`, see `registry.registered`
    environments: Packed = MappingProxyType({})  # with `gymnasium.register`


Priorities = tuple[NDArray[np.int64], NDArray[np.float64]]  # keys [B], new priorities [B]


class Facts(NamedTuple):
    """Facts about the process that a worker runs in."""

    host: str
    pid: int
    versions: dict[str, str]
    card: str | None = None  # a learner's GPU


class Collected(NamedTuple):
    """A collector's report on an unroll."""

    steps: int  # agent steps
    episodes: list[Episode]
    version: int  # version of the weights that acted
    diagnostics: dict[str, float]


class Stored(NamedTuple):
    """A shard's report on its contents."""

    stored: int  # agent steps
    total_weight: float  # of its priorities
    dropped_updates: int
    added: int = 0  # agent steps that this call has stored


class Learned(NamedTuple):
    """A learner's report on the updates of one call."""

    steps: int  # learner steps taken
    metrics: dict[str, float] | None  # None if not asked for


Learning = tuple[Learned, Priorities | None, Arrays | None]  # report, priorities of the batches, weights if published


class Worker(ABC):
    """Base class of the workers. Nothing is built before `hello`, so that the driver receives errors of building unchanged."""

    config: Config

    def __init__(self, settings: Settings, registered: Registered):
        """`settings`: the config as plain data, since the classes of its sections may be defined in a file."""
        self.settings, self.registered = settings, registered

    @property
    def threads(self) -> int | None:
        """CPU threads of the process; None: the fastest number up to `most_threads`."""
        return 1

    @property
    def most_threads(self) -> int:
        """The maximum number of threads to try."""
        return 1

    def hello(self) -> Facts:
        """The greeting: builds the worker. The driver waits for the answer before the worker takes part."""
        registry.restore(self.registered.tables)
        environments.register(self.registered.environments, self.settings["env"]["id"])
        self.config = loader.check(self.settings)
        cpu.set_up(self.threads, self.most_threads)
        # Arrays from the object store are read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self.build()
        return Facts(socket.gethostname(), os.getpid(), run_folder.versions())

    @abstractmethod
    def build(self) -> None:
        """Creates the parts that the worker needs, in its own process."""

    def ping(self) -> bool:
        """Returns True, as a sign that the process is alive."""
        return True


class CollectorWorker(Worker):
    """Collector `index` of `config.runtime.collectors`; each `restart` has random streams of its own."""

    def __init__(self, settings: Settings, registered: Registered, index: int, restart: int, server: Path | None = None):
        """`server`: the socket of the inference server; None: the collector has a net of its own."""
        super().__init__(settings, registered)
        self.index, self.restart, self.server = index, restart, server

    @property
    def threads(self) -> int:
        return self.config.runtime.collector_threads

    def build(self) -> None:
        config, runtime = self.config, self.config.runtime
        self.env, spec = make_collector_env(config, threads=runtime.collector_threads)
        agent = make_trained_agent(config, spec)
        self.device = torch.device("cuda" if runtime.collector_gpus else "cpu")
        net: Net
        if self.server is None:
            self.online = acting_net(config, agent, self.device)
            net = self.online.net
        else:
            net = ServedNet(agent, spec, config.env.num_envs, self.server)
        place = (self.index, runtime.collectors, self.restart)
        self.collector = make_collector(config, self.env, agent, net, self.device, *place)

    def collect(self, weights: Arrays | None, version: int, agent_steps: int) -> tuple[Unroll, Collected]:
        """Collects an unroll. `weights`: None if they are unchanged or on a server; `version`: that of the weights that act.

        `agent_steps`: the run's total, which all collectors advance.
        """
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


class InferenceWorker(Worker):
    """The inference server of all collectors on its machine."""

    def __init__(self, settings: Settings, registered: Registered, spec: EnvSpec, path: Path):
        """`path`: the socket that it listens at."""
        super().__init__(settings, registered)
        self.spec, self.path = spec, path

    @property
    def threads(self) -> int:
        return self.config.runtime.collector_threads

    def build(self) -> None:
        config, spec = self.config, self.spec
        agent, device = make_trained_agent(config, spec), torch.device("cuda" if config.runtime.inference_gpus else "cpu")
        self.online = acting_net(config, agent, device)
        allow_files()
        bf16 = in_bf16(config.learner.precision, device)
        self.server = InferenceServer(agent, spec, self.online.net, device, bf16, self.path, failed=lambda: os._exit(1))

    def load(self, weights: Arrays) -> None:
        """Acts with these published weights from now on. The first call also lets the server start to answer."""
        with self.server.busy:
            load_into(self.online, weights)
        self.server.start()


def allow_files() -> None:
    """Lets this process open as many files as the system allows: every collector needs two, a socket and shared memory."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def acting_net(config: Config, agent: Agent, device: torch.device) -> Precision:
    """A net for acting, into which published weights can be loaded."""
    layout = torch.channels_last if config.learner.channels_last else torch.contiguous_format
    net = agent.make_net().requires_grad_(False).to(device, memory_format=layout)  # type: ignore[call-overload]
    return Precision(net, in_bf16(config.learner.precision, device))


def sources_of(config: Config, shard: int) -> int:
    """The number of rings in a shard: one for each of its collectors, or a single one if it stores whole games."""
    if issubclass(agent_class(config.agent.name), BoardAgent):
        return 1
    return len(range(shard, config.runtime.collectors, config.runtime.shards))


class ShardWorker(Worker):
    """Shard `index` of `config.runtime.shards`: the replay of every `shards`-th collector.

    It stores and samples whatever it is asked to: the run's one limiter is the scheduler's, which sees all shards.
    """

    def __init__(self, settings: Settings, registered: Registered, spec: EnvSpec, index: int):
        super().__init__(settings, registered)
        self.spec, self.index = spec, index

    def build(self) -> None:
        config, spec, index = self.config, self.spec, self.index
        self.replay = make_replay(
            config, spec, make_trained_agent(config, spec), sources_of(config, index), index, config.runtime.shards
        )
        own = self.replay.own if isinstance(self.replay, Mixture) else self.replay
        own.limiter = Unlimited()

    def add(self, unroll: Unroll, source: int) -> Stored:
        """Stores an unroll of one of the shard's collectors."""
        before = self.replay.inserted
        self.replay.add(unroll, source)
        return self.report()._replace(added=self.replay.inserted - before)

    def sample(self, count: int, inserted: int, batches: int) -> tuple[list[Sample], Stored]:
        """Draws `batches` batches of `count`; `inserted`: steps added to all shards so far, see `Replay.sample`."""
        return [self.replay.sample(count, inserted) for _ in range(batches)], self.report()

    def update(self, priorities: Priorities) -> Stored:
        """Updates the priorities of sampled sequences."""
        self.replay.update(*priorities)
        return self.report()

    def end_streams(self, source: int | None) -> Stored:
        """Marks that the environments of one source, or of all, start new episodes: see `Replay.end_streams`."""
        self.replay.end_streams(source)
        return self.report()

    def report(self) -> Stored:
        """The current contents of the shard, in numbers."""
        return Stored(len(self.replay), self.replay.total_weight(), self.replay.dropped_updates)

    def state_dict(self) -> dict[str, Any]:
        return self.replay.state_dict()

    def load(self, state: Mapping[str, Any]) -> Stored:
        """Continues from what `state_dict` returned."""
        self.replay.load_exactly(state)
        return self.report()

    def fill(self, state: Mapping[str, Any], portions: list[tuple[int, Unroll]]) -> Stored:
        """Continues from this shard's portions of a replay with other shards; `state`: see `SavedReplay.without_steps`."""
        self.replay.load_demonstrations(state)
        self.replay.fill(portions)
        return self.report()


class LearnerWorker(Worker):
    """Learner `rank` of `config.runtime.learners`, which have the same weights and learn from parts of the same batches.

    All of them make the same updates in the same order.
    """

    def __init__(self, settings: Settings, registered: Registered, spec: EnvSpec, rank: int, most_threads: int):
        super().__init__(settings, registered)
        self.spec, self.rank, self.most = spec, rank, most_threads

    @property
    def threads(self) -> int | None:
        return self.config.runtime.learner_threads or self.config.run.threads

    @property
    def most_threads(self) -> int:
        return self.most

    def build(self) -> None:
        config, spec, agent = self.config, self.spec, make_trained_agent(self.config, self.spec)
        self.of = config.runtime.learners
        self.learner = make_learner(config, agent, device_of(config), self._mean if self.of > 1 else None)
        self.queue = make_queue(config, spec, agent) if agent.on_policy else None

    def hello(self) -> Facts:
        facts, device = super().hello(), self.learner.device
        return facts if device.type == "cpu" else facts._replace(card=torch.cuda.get_device_name(device))

    def meeting_place(self, host: str | None) -> str:
        """An address for the learners of a run to connect to: `host`, or this one's, and a free port."""
        host = host or socket.gethostbyname(socket.gethostname())
        with socket.create_server((host, 0)) as server:
            return f"tcp://{host}:{server.getsockname()[1]}"

    def meet(self, place: str) -> None:
        """Connects to the other learners, and waits for all of them."""
        kind = "nccl" if self.learner.device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(kind, init_method=place, rank=self.rank, world_size=self.of)

    def _mean(self, gradients: list[torch.Tensor]) -> None:
        """Averages gradients over all learners, in place."""
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.of
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()

    def publish(self) -> tuple[int, Arrays]:
        """The number of learner steps, and the current weights."""
        found = self.learner.weights()
        return found.version, {name: tensor.cpu().numpy() for name, tensor in found.tensors.items()}

    def learn(self, agent_steps: int, metrics: bool, publish: bool, samples: list[Sample]) -> Learning:
        """Makes one update from each batch."""
        keys: list[NDArray[np.int64]] = []
        priorities, prioritized = [], self.config.replay.prioritized
        for sample in samples:
            batch = self.learner.stage(sample if self.of == 1 else sample.part(self.rank, self.of))
            update = self.learner.step(batch, agent_steps, want_priority=prioritized)
            if update.priority is not None:
                keys.append(batch.keys)
                priorities.append(update.priority)
        arrived = [priority() for priority in priorities]  # only after the last update, so that a GPU need not wait in between
        priority = (np.concatenate(keys), np.concatenate(arrived)) if keys else None
        found = {name: float(value) for name, value in update.metrics.items()} if metrics else None
        return Learned(self.learner.steps, found), priority, self.publish()[1] if publish else None

    def learn_rollouts(self, agent_steps: int, metrics: bool, publish: bool, *unrolls: Unroll) -> Learning:
        """Makes all updates from one batch of rollouts."""
        assert self.queue is not None
        for unroll in unrolls:
            self.queue.add(unroll)
        return self.learn(agent_steps, metrics, publish, [self.queue.sample(self.config.learner.batch_size)])

    def state_dict(self) -> dict[str, Any]:
        return self.learner.state_dict()

    def load(self, weights: dict[str, torch.Tensor], state: dict[str, Any], where: str) -> int:
        """Continues from a checkpoint, and returns its learner steps."""
        self.learner.load(weights, state, where)
        return self.learner.steps

    def check_weights(self) -> None:
        """RlsuiteError if a weight is not finite."""
        self.learner.check_weights()


class EvaluatorWorker(Worker):
    """Plays periodic evaluations while training goes on."""

    def __init__(self, settings: Settings, registered: Registered, spec: EnvSpec):
        super().__init__(settings, registered)
        self.spec = spec

    @property
    def threads(self) -> int:
        return self.config.runtime.collector_threads

    def build(self) -> None:
        config = self.config
        self.agent = make_agent(config, self.spec)
        bf16 = in_bf16(config.learner.precision, torch.device("cpu"))
        self.online = Precision(self.agent.make_net().requires_grad_(False), bf16)

    def evaluate(self, weights: Arrays, episodes: int) -> Summary:
        """Plays whole episodes with published weights."""
        load_into(self.online, weights)
        seed = evaluation_seed(self.config.seed, final=False)
        summary = play_episodes(self.config, self.agent, self.online.net, episodes, seed, torch.device("cpu"))
        assert summary is not None  # it has no stop condition
        return summary


def load_into(online: Precision, weights: Arrays) -> None:
    """Copies published weights into a net."""
    with torch.no_grad():
        for name, tensor in online.master.state_dict().items():
            tensor.copy_(torch.tensor(weights[name]))
    online.refresh()
