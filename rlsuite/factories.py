"""Builds the parts of a run from its config, for the runtimes to wire together."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from rlsuite.acting.agent_check import check_agent
from rlsuite.acting.best_net_gate import BestNetGate
from rlsuite.acting.board_agent import BoardAgent, GameCollector
from rlsuite.acting.collector import Collector
from rlsuite.acting.delayed_policy import PolicyLag
from rlsuite.acting.initial_priorities import InitialPriorities
from rlsuite.acting.offline import Offline
from rlsuite.acting.selfplay import SelfPlayAgent
from rlsuite.config.augment import AugmentConfig
from rlsuite.config.schema import Config
from rlsuite.core import cpu, limits, masks, registry
from rlsuite.core.agent import (
    Agent,
    Capability,
    Net,
    Rollouts,
    Sequences,
    SequenceSpec,
    Transitions,
    agent_class,
    with_capability,
)
from rlsuite.core.errors import UsageError, one_line
from rlsuite.core.types import EnvSpec, Step, describe
from rlsuite.learning.learner import Learner
from rlsuite.learning.recolour import check_planes
from rlsuite.nets import action_embedding, memory, pretrained
from rlsuite.nets.backbones import BACKBONES
from rlsuite.nets.precision import in_bf16
from rlsuite.replay import demonstrations
from rlsuite.replay.demonstrations import Demonstrations
from rlsuite.replay.mixture import Mixture, digest, store_of
from rlsuite.replay.queue import Queue, QueueBesideRecorded
from rlsuite.replay.recorded import Recorded
from rlsuite.replay.replay import Replay, Store, build_replay

# Every role has its own random stream, so that moving a role to another process does not change the other streams.
_COLLECTOR, _LEARNER, _REPLAY, _EVALUATION, _RESTART, _PERIODIC_EVALUATION, _GATE, _PRIORITIES, _MIXTURE = range(9)


@dataclass
class Parts:
    """The parts of a local run, wired together."""

    env: Any | None  # the environment that the collector steps; None for a board agent, which plays its games itself
    spec: EnvSpec
    agent: Agent
    learner: Learner
    lag: PolicyLag | BestNetGate
    collector: Collector | GameCollector | Offline
    replay: Store

    def close(self) -> None:
        """Closes the environment and any processes or threads that it has started."""
        if self.env is not None:
            self.env.close()


def stream_seed(seed: int, role: int, count: int = 0) -> int:
    """A 31-bit seed for one role of a run; `count` numbers its instances and restarts, which get different seeds."""
    return (seed * 1_000_003 + role * 7919 + count * 104_729) % 2**31


def evaluation_seed(seed: int, final: bool = True) -> int:
    """The seed of a run's evaluations.

    The final evaluation plays different games from the periodic ones, which decide when to stop and which weights are best.
    """
    return stream_seed(seed, _EVALUATION if final else _PERIODIC_EVALUATION)


def restart_seed(seed: int, agent_steps: int) -> int:
    """The seed for environments that cannot be restored from a checkpoint and therefore begin new episodes."""
    return stream_seed(seed, _RESTART, agent_steps)


class HasRunSection(Protocol):
    """A config with a `run` section, of an agent or of a vision model."""

    @property
    def run(self) -> Any: ...


def device_of(config: HasRunSection) -> torch.device:
    """The device of `run.device`. UsageError if it is not available."""
    wanted = config.run.device
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("run.device = 'cuda', but torch sees no CUDA device here: use auto or cpu")
    return torch.device(wanted)


def threads_of(config: Config) -> int:
    """The number of threads that emulators run on."""
    return config.run.threads or limits.cores()


def make_env(config: Config, num_envs: int | None = None, render: bool = False, threads: int | None = None) -> Any:
    """The vector environment of a config. `num_envs`, `threads`: replace the config's. `render`: whether it can render videos."""
    return registry.make_env(config.env, num_envs or config.env.num_envs, threads or threads_of(config), render)


def make_spec(config: Config) -> EnvSpec:
    """The spec of the config's environment, which is built only if its module has no function `spec(config)`."""
    describe_only = getattr(registry.envs.get(config.env.id), "describe_config", None)
    if describe_only is not None:
        spec: EnvSpec = describe_only(config.env)
        return spec
    with closing(make_env(config, 1, threads=1)) as env:
        return describe(env)


def make_collector_env(config: Config, threads: int | None = None) -> tuple[Any | None, EnvSpec]:
    """The environment that a collector steps, and its spec.

    The environment is None for a board agent, which plays its games itself, and for an agent that learns from recordings.
    """
    kind = agent_class(config.agent.name)
    if issubclass(kind, BoardAgent) or kind.offline:
        return None, make_spec(config)
    env = make_env(config, threads=threads)
    return env, describe(env)


def make_agent(config: Config, spec: EnvSpec) -> Agent:
    """The agent of a config. UsageError if agent, net and environment do not fit each other."""
    kind, core = agent_class(config.agent.name), memory.without_weights(config.net)
    wanted: dict[Capability, tuple[bool, str]] = {
        "continuous actions": (spec.num_actions == 0, f"{config.env.id} has continuous actions"),
        "net.memory": (config.net.memory != "none", f"net.memory = {config.net.memory!r}"),
        "net.last_action_reward": (config.net.last_action_reward, "net.last_action_reward = true"),
        "inference server": (config.runtime.inference == "server", "runtime.inference = 'server'"),
        "net.separate_value": (config.net.separate_value, "net.separate_value = true"),
        "net.any_size": (config.net.any_size, "net.any_size = true"),
        "looking ahead": (core.looks_ahead, f"net.memory = {config.net.memory!r} reads steps that are still to come"),
        "net.auxiliary": (config.net.auxiliary != "none", f"net.auxiliary = {config.net.auxiliary!r}"),
        "agent.novelty": (config.agent.novelty != "none", f"agent.novelty = {config.agent.novelty!r}"),
    }
    for capability, (needed, why) in wanted.items():
        if needed and capability not in kind.capabilities:
            able = ", ".join(with_capability(capability))
            raise UsageError(f"{why}: agent.name={config.agent.name} cannot use that; {able} can")
    pictures = len(spec.observation_shape) == 3 and spec.observation_dtype == "uint8" and spec.game is None
    if config.learner.augment != AugmentConfig() and not pictures:
        has = "has none" if spec.picture is None else "has numbers beside its picture"
        raise UsageError(f"learner.augment needs observations that are pictures, and {config.env.id} {has}; leave it out")
    if pictures:
        check_planes(config.learner.augment, spec.observation_shape[0])
    parts = ((registry.agents, config.agent.name), (registry.torsos, config.net.torso), (registry.memory_cores, config.net.memory))
    if all(_is_shipped(table, name) for table, name in parts):
        shipped = kind(config.agent, config.net, spec)
        shipped.sequence = masks.with_masks(shipped.sequence, spec)
        _refuse_huge(shipped)
        return shipped
    with registry.third_party(f"agent.name = {config.agent.name}, {kind.__name__}.__init__"):
        agent = kind(config.agent, config.net, spec)
        agent.sequence = masks.with_masks(agent.sequence, spec)
    check_agent(agent, spec)  # only third-party agents: ours have tests
    return agent


def _is_shipped(table: registry.Registry, name: str) -> bool:
    """Whether `name`, as a config has it, is one of rlsuite's own parts, with any parameters."""
    return registry.file_of(name) is None and name.split("(")[0] in {*table.shipped, *BACKBONES, "none"}


def refuse_short_sequences(agent: Agent, config: Config) -> None:
    """UsageError for a memory core that would act over more steps than it learns from, in sequences that start without a state.

    Only new runs are refused: one that was trained this way can still be evaluated and resumed.
    """
    sequence, core = agent.sequence, memory.without_weights(config.net)
    if not isinstance(sequence, Sequences) or sequence.state or core.receptive_field is None:
        return
    held = sequence.burn_in + sequence.unroll
    if core.receptive_field > held:
        raise UsageError(
            f"net.memory = {config.net.memory!r} looks at {core.receptive_field} steps, but the sequences of agent.name="
            f"{config.agent.name} hold {held}, and start without a state: raise agent.unroll by {core.receptive_field - held}, or "
            "let the core look back less"
        )


def _refuse_huge(agent: Agent) -> None:
    """UsageError for a net that cannot fit into memory, before any is allocated."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            size = sum(tensor.nbytes for tensor in agent.make_net().state_dict().values())
    except RuntimeError as error:  # sizes that overflow
        raise UsageError(f"net.*: the net cannot be built: {one_line(error)}") from error
    free = limits.available_bytes()
    if free is not None and size > free:
        raise UsageError(f"net.*: the net's weights need {size / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are free")


def make_store(config: Config, spec: EnvSpec, agent: Agent) -> Store:
    """The store of an agent: a queue of rollouts if it is on-policy, recordings if it learns only from them, otherwise a replay."""
    if agent.offline:
        return make_recorded(config, spec, agent)
    return make_queue(config, spec, agent) if agent.on_policy else make_replay(config, spec, agent)


def make_recorded(config: Config, spec: EnvSpec, agent: Agent) -> Recorded:
    """The recordings of `replay.demonstrations`. UsageError if there are none, or if they are of another environment."""
    shown, store = _recordings(config, spec, agent, agent.sequence)
    if config.eval.demonstrations is not None:
        load_rated(config, spec)
    return Recorded(store, len(shown.reward), digest(shown))


def load_rated(config: Config, spec: EnvSpec) -> Demonstrations:
    """The recordings for evaluating an agent that does not play. UsageError if they are of another environment."""
    return demonstrations.load(Path(config.eval.demonstrations or config.replay.demonstrations or ""), spec, config.env.id)


def _recordings(config: Config, spec: EnvSpec, agent: Agent, sequence: SequenceSpec) -> tuple[Step, Replay]:
    """The recorded steps [N,...] for an agent that does not mix them into a replay, and a store that holds them.

    UsageError as for `make_recorded`.
    """
    place = config.replay.demonstrations
    if place is None:
        raise UsageError(f"agent.name={config.agent.name} learns from recordings: name their folder by replay.demonstrations")
    _refuse_masks(config, spec)
    shown = agent.recorded(demonstrations.load(Path(place), spec, config.env.id).steps)
    sized = config.replay.model_copy(update={"prioritized": False})
    return shown, store_of(shown, sized, spec, sequence, agent.initial_state, stream_seed(config.seed, _REPLAY))


def _refuse_masks(config: Config, spec: EnvSpec) -> None:
    """UsageError for recordings of an environment that masks actions."""
    if masks.stored(spec):
        raise UsageError(
            f"replay.demonstrations: {config.env.id} masks actions, and recordings hold no masks; leave it out, or set "
            "env.action_masks=false to ignore them"
        )


def make_queue(config: Config, spec: EnvSpec, agent: Agent) -> Queue:
    """A queue that holds one batch of rollouts and, if the agent asks for them, recorded steps beside it.

    UsageError as for `make_recorded`.
    """
    num_envs = config.env.num_envs
    size = (spec, num_envs, config.run.collect_agent_steps, config.learner.batch_size // num_envs)
    if not (isinstance(agent.sequence, Rollouts) and agent.sequence.recorded):
        return Queue(*size)
    shown, store = _recordings(config, spec, agent, Transitions(1))
    return QueueBesideRecorded(*size, store, digest(shown))


def make_replay(config: Config, spec: EnvSpec, agent: Agent, sources: int = 1, part: int = 0, parts: int = 1) -> Replay | Mixture:
    """Shard `part` of `parts` of the replay, for `sources` collectors."""
    num_envs, unroll, sized = config.env.num_envs, config.run.collect_agent_steps, config.replay
    if isinstance(agent, BoardAgent):
        if config.replay.prioritized:
            raise UsageError(f"replay.prioritized = true: agent.name={config.agent.name} samples positions uniformly; use false")
        num_envs = unroll = sources = 1  # finished games are stored one after the other
    elif config.replay.window is not None:
        raise UsageError(f"replay.window is for the games of board agents: leave it out with agent.name={config.agent.name}")
    if parts > 1 and sized.window is not None:
        sized = sized.model_copy(update={"window": str(Path(sized.window) / f"shard_{part}")})
    if parts > 1:
        sized = sized.model_copy(update={"capacity_agent_steps": sized.capacity_agent_steps // parts})
    own = build_replay(sized, spec, num_envs, agent.sequence, unroll, stream_seed(config.seed, _REPLAY, part), sources)
    place, ratio = config.replay.demonstrations, config.replay.demonstration_ratio
    if place is None or ratio is None:
        return own
    if isinstance(agent, BoardAgent):
        raise UsageError(f"replay.demonstrations: agent.name={config.agent.name} learns only from its own games; leave it out")
    _refuse_masks(config, spec)
    shown = demonstrations.load(Path(place), spec, config.env.id).steps
    seed = stream_seed(config.seed, _MIXTURE, 2 * part)
    store = store_of(shown, sized, spec, agent.sequence, agent.initial_state, seed)
    return Mixture(own, store, ratio, stream_seed(config.seed, _MIXTURE, 2 * part + 1), digest(shown))


def make_learner(
    config: Config, agent: Agent, device: torch.device, reduce: Callable[[list[torch.Tensor]], None] | None = None
) -> Learner:
    """The learner of a config; its net has the initial weights that `net.*` asks for. `reduce`: see `Learner`."""

    def adapt(net: nn.Module) -> None:
        if config.net.init_from is not None:
            pretrained.load_all(net, config.net.init_from, config.agent.name)
        if config.net.weights is not None:
            pretrained.load_backbones(net, config.net.weights)
        if config.net.action_embedding_from is not None:
            action_embedding.load_into(net, Path(config.net.action_embedding_from), agent.spec)
        if config.net.freeze:
            pretrained.freeze(net)
        if config.agent.name in registry.agents.shipped:
            agent.init_net(net)
            return
        with registry.third_party(f"agent.name = {config.agent.name}, {type(agent).__name__}.init_net"):
            agent.init_net(net)

    return Learner(
        agent,
        config.learner,
        seed=stream_seed(config.seed, _LEARNER),
        device=device,
        anneal_over=config.learner.learning_rate_anneal_agent_steps or config.run.agent_steps,
        reduce=reduce,
        adapt=adapt,
    )


def resumed(config: Config) -> Config:
    """The config for resuming a run, without files of initial weights: the checkpoint has weights, and the files may be gone."""
    return config.model_copy(update={"net": pretrained.without_files(config.net)})


def make_collector(
    config: Config, env: Any, agent: Agent, net: Net, device: torch.device, index: int = 0, of: int = 1, restart: int = 0
) -> Collector | GameCollector | Offline:
    """Collector number `index` of `of`; each has its own random streams, which change with every `restart`.

    `env`: the environment that it steps; None for a board agent, which plays its games itself.
    """
    count, bf16 = index + of * restart, in_bf16(config.learner.precision, device)
    seed = stream_seed(config.seed, _COLLECTOR, count)
    if isinstance(agent, BoardAgent):
        return agent.collector(net, config.env.num_envs, seed=seed, device=device, bf16=bf16)
    if agent.offline:
        learned = agent.sequence.unroll if isinstance(agent.sequence, Sequences) else 1
        return Offline(config.env.num_envs, config.learner.batch_size * learned)
    priorities = None
    if config.replay.initial_priority == "td":
        steps, stream = config.run.collect_agent_steps, stream_seed(config.seed, _PRIORITIES, count)
        priorities = InitialPriorities(agent, describe(env), env.num_envs, steps, stream, device)
    place = {"first_env": index * env.num_envs, "total_envs": of * env.num_envs}
    return Collector(env, agent, net, seed=seed, device=device, bf16=bf16, priorities=priorities, **place)


def make_lag(config: Config, agent: Agent, learner: Learner) -> PolicyLag | BestNetGate:
    """The object that chooses the weights that the collector of a local run acts with: the newest, older, or the best so far."""
    if isinstance(agent, SelfPlayAgent) and agent.gated:
        bf16 = in_bf16(config.learner.precision, learner.device)
        return BestNetGate(learner.net, agent, stream_seed(config.seed, _GATE), learner.device, bf16)
    return PolicyLag(learner.net, config.run.policy_lag_learner_steps)


def build(config: Config, resumed_at: int = 0, make: Callable[[Config, EnvSpec], Agent] = make_agent) -> Parts:
    """The parts of a local run. Any UsageError is raised here, before the first step.

    `resumed_at`: agent steps of the checkpoint to resume from, so that the random streams differ from those at the run's start.
    `make`: creates the agent.
    """
    cpu.set_up(config.run.threads)
    device = device_of(config)
    env, spec = make_collector_env(config)
    agent = make(config, spec)
    if not resumed_at:
        refuse_short_sequences(agent, config)
    replay = make_store(config, spec, agent)
    learner = make_learner(config, agent, device)
    lag = make_lag(config, agent, learner)
    # In one process and without a lag, the collector uses the learner's own weights.
    collector = make_collector(config, env, agent, lag.net, device, restart=resumed_at)
    return Parts(env, spec, agent, learner, lag, collector, replay)
