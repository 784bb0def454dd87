"""The schema of a run. Unknown keys, wrong types, impossible values and keys without effect are refused before training starts.

Units are part of the names: agent_steps (one action each, by default four emulator frames), learner_steps, minutes.
`rlsuite.config.loader` turns a YAML file and overrides into a `Config`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from rlsuite.config.augment import AugmentConfig
from rlsuite.config.auxiliary import auxiliary_of, novelty_of
from rlsuite.config.conditions import OnlyIf, refuse_ignored
from rlsuite.config.optimizers import normalised, optimizer_of
from rlsuite.config.section import Section
from rlsuite.config.spec_string import read_by
from rlsuite.core import registry
from rlsuite.core.errors import unknown


def absolute(path: str | None) -> str | None:
    """Makes an existing path absolute: a run may be resumed from another folder, and workers run in other folders."""
    return str(Path(path).resolve()) if path is not None and Path(path).exists() else path


def _absolute_folder(path: str | None) -> str | None:
    """Makes a folder's path absolute, whether or not it exists yet."""
    return None if path is None else str(Path(path).resolve())


def _located(text: str) -> str:
    """A name with parameters, with the path in `file.py:Name(...)` made absolute."""
    name, bracket, parameters = text.partition("(")
    return registry.absolute(name) + bracket + parameters


SomePath = Annotated[str | None, AfterValidator(absolute)]
Place = Annotated[str, AfterValidator(absolute)]
Part = Annotated[str, AfterValidator(_located)]
Parts = Annotated[list[Part], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class AgentSection(Section):
    """Base class of every agent's own config."""

    name: str
    """Agent to train (`rlsuite list agents`)."""
    novelty: Annotated[str, read_by(novelty_of)] = "none"
    """Bonus for novel observations: none, rnd(weight=0.5,width=256) or reconstruction(weight=0.5,width=256,latent=64)."""


class EnvSection(Section):
    """Base class of every environment family's own config."""

    id: str
    """Environment to play (`rlsuite list envs`, `rlsuite list games`)."""
    num_envs: int = Field(8, ge=1, le=4096)
    """Environments per collector, stepped together."""


class WeightsMixin(Section):
    """Initial weights of a net with a backbone."""

    weights: SomePath = None
    """Pretrained backbone: a run, a checkpoint, or a file from `rlsuite vision import`; null: random weights."""
    freeze: bool = False
    """Freeze the backbone: it is not trained."""


class NetConfig(WeightsMixin):
    """The net: torso, dense layer, memory core, heads."""

    init_from: SomePath = None
    """Run or checkpoint to initialise the net from: all weights if its agent is the same, otherwise only those of torso, dense
    layer and memory core; null: random weights."""
    torso: Part = "nature"
    """Torso (`rlsuite list nets`), with parameters in parentheses, such as impala(pool=gap,norm=group)."""
    hidden: int = Field(512, ge=1)
    """Units of each hidden dense layer."""
    memory: Part = "none"
    """Memory core: none, lstm, gru, rnn, attention(window=32,heads=4,layers=1), causal(levels=5,kernel=2), bidirectional(core=lstm)
    for agents that do not act, or one of your own."""
    memory_size: Annotated[int, OnlyIf("memory other than none")] = Field(256, ge=1)
    """Units of the memory core."""
    last_action_reward: bool = False
    """Append the previous action and its reward to the input of the memory core."""
    action_embedding: Annotated[int | None, OnlyIf("last_action_reward = true")] = Field(None, ge=1, le=4096)
    """Size of a learned embedding of the previous action; null: one-hot."""
    action_embedding_from: Annotated[SomePath, OnlyIf("action_embedding")] = None
    """File from `rlsuite embed` to initialise the embedding from; null: random."""
    any_size: bool = False
    """Board nets: policy and value heads for boards of any size (Wu 2019), instead of dense layers over all cells."""
    layer_norm: bool = False
    """Apply layer normalisation to the torso's features and in dense layers, before the ReLU; stabilises value estimates."""
    separate_value: bool = False
    """Give the value its own torso and dense layer instead of sharing the policy's."""
    auxiliary: Annotated[str, read_by(auxiliary_of)] = "none"
    """Auxiliary loss: none, or reconstruct(weight=1,latent=64), which decodes the observation from the torso's features."""

    @field_validator("memory")
    @classmethod
    def _known_memory(cls, value: str) -> str:
        name = value.split("(")[0].strip()
        known = ("none", *registry.memory_cores.names())
        if name not in known and registry.file_of(name) is None:
            raise ValueError(str(unknown("memory core", name, known)))
        return value

    @model_validator(mode="after")
    def _memory_fits(self) -> "NetConfig":
        if self.separate_value and (self.memory != "none" or self.last_action_reward):
            raise ValueError("separate_value has no memory of its own: use it with memory none and without last_action_reward")
        return self


class ReplayConfig(Section):
    """The replay buffer of off-policy agents."""

    capacity_agent_steps: int = Field(1_000_000, ge=1)
    """Capacity in agent steps; new steps replace the oldest."""
    min_agent_steps: int = Field(50_000, ge=1)
    """Agent steps stored before the first learner step."""
    samples_per_insert: float = Field(8.0, gt=0)
    """Sequences sampled per agent step stored; DQN's batch of 32 every 4 steps corresponds to 8."""
    prioritized: bool = False
    """Sample by priority instead of uniformly."""
    priority_exponent: Annotated[float, OnlyIf("prioritized = true")] = Field(0.6, ge=0, le=1)
    """Exponent of the priorities: 0 samples uniformly, 1 in proportion to them."""
    initial_priority: Annotated[Literal["max", "td"], OnlyIf("prioritized = true")] = "max"
    """Priority of a new sequence: the largest in the replay (max), or its TD error under the acting net (td)."""
    window: Annotated[str | None, AfterValidator(_absolute_folder)] = None
    """Board agents: folder to store positions in, as files; null: keep them in memory and in checkpoints."""
    demonstrations: SomePath = None
    """Demonstrations to mix into batches or, for offline agents, to learn from: a folder from `rlsuite record` or a Minari dataset;
    null: none."""
    demonstration_ratio: Annotated[float | None, OnlyIf("demonstrations")] = Field(None, ge=0, le=1)
    """Probability that an element of a batch is a demonstration."""
    importance_exponent_start: Annotated[float, OnlyIf("prioritized = true")] = Field(0.4, ge=0, le=1)
    """Exponent of the importance weights at the start of training."""
    importance_exponent_end: Annotated[float, OnlyIf("prioritized = true")] = Field(1.0, ge=0, le=1)
    """Exponent of the importance weights after annealing."""
    importance_anneal_agent_steps: Annotated[
        int, OnlyIf("prioritized = true"), OnlyIf("importance_exponent_end other than importance_exponent_start")
    ] = Field(10_000_000, ge=0)
    """Agent steps over which the importance exponent is annealed linearly."""

    @model_validator(mode="after")
    def _fits(self) -> "ReplayConfig":
        if self.min_agent_steps > self.capacity_agent_steps:
            raise ValueError(
                f"min_agent_steps {self.min_agent_steps} is larger than capacity_agent_steps {self.capacity_agent_steps}: "
                "learning could never start"
            )
        return self


class ResetConfig(Section):
    """Periodic resets of net, target net and optimizer, against overfitting to early data (D'Oro et al. 2023)."""

    every_agent_steps: int | None = Field(None, ge=1)
    """Agent steps between resets; null: no resets."""
    until_agent_steps: Annotated[int | None, OnlyIf("every_agent_steps")] = Field(None, ge=1)
    """No resets after this many agent steps, so that the agent can recover from the last one; null: resets until the end."""
    keep: Annotated[float, OnlyIf("every_agent_steps")] = Field(0.8, ge=0, le=1)
    """Weight of the trained parameters in the mix with fresh random ones (shrink and perturb); heads are reset entirely."""


class PruneConfig(Section):
    """Pruning during training (Zhu & Gupta 2017): a growing share of each layer is set to 0. Output layers are not pruned."""

    all_only_if = OnlyIf("share > 0")

    share: float = Field(0.0, ge=0, lt=1)
    """Fraction of each layer that is pruned in the end; 0: no pruning."""
    what: Literal["weights", "channels"] = "weights"
    """Prune single weights, or whole channels and units, which `rlsuite shrink` can then remove from the net."""
    begin_agent_steps: int = Field(0, ge=0)
    """Agent steps (in vision: pictures) after which pruning begins."""
    end_agent_steps: int = Field(1_000_000, ge=1)
    """Agent steps (in vision: pictures) after which the full share is pruned."""
    every_learner_steps: int = Field(100, ge=1)
    """Learner steps between updates of the pruning masks."""
    rewind: bool = False
    """Once the full share is pruned, reset the remaining weights to their values when pruning began (lottery tickets)."""

    @model_validator(mode="after")
    def _in_order(self) -> "PruneConfig":
        if self.share and self.end_agent_steps <= self.begin_agent_steps:
            raise ValueError(f"end_agent_steps {self.end_agent_steps} is not after begin_agent_steps {self.begin_agent_steps}")
        return self


class LearnerConfig(Section):
    """How the net is updated."""

    batch_size: int = Field(32, ge=1)
    """Sequences in a batch. On-policy agents: rollouts in a batch, a multiple of env.num_envs."""
    optimizer: Annotated[str, read_by(normalised)] = "adam"
    """Optimizer: sgd, adagrad, adadelta, rmsprop, adam, adamw or radam, with settings in parentheses, as in sgd(momentum=0.9) or
    adamw(weight_decay=0.1)."""
    learning_rate: float = Field(6.25e-5, gt=0)
    """Learning rate; with learning_rate_end, the initial one."""
    learning_rate_end: float | None = Field(None, ge=0)
    """Learning rate after annealing; null: constant."""
    learning_rate_anneal_agent_steps: Annotated[int | None, OnlyIf("learning_rate_end")] = Field(None, ge=1)
    """Agent steps (in vision: pictures) over which the learning rate is annealed linearly; null: the whole run."""
    optimizer_epsilon: float = Field(1.5e-4, gt=0)
    """Epsilon that optimizers other than sgd add to the denominator."""
    max_grad_norm: float | None = Field(10.0, gt=0)
    """Clip the global norm of the gradients to this; null: no clipping."""
    target_period_learner_steps: int = Field(2_000, ge=1)
    """Learner steps between updates of the target net."""
    target_ema: float | None = Field(None, gt=0, le=1)
    """τ: an update moves the target net this fraction of the way to the online net; null: it copies the online net."""
    act_with_target: bool = False
    """Act, evaluate and save with the target net instead of the online net. With target_ema, the target net is an average of recent
    weights, often better than the latest ones, even for agents whose loss uses no target net."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the nets; with bf16 the optimizer keeps fp32 weights. A CPU without bf16 falls back to fp32 and says so."""
    channels_last: bool = True
    """Keep images and convolution weights in channels-last memory format."""
    compile: bool = False
    """Compile the nets with torch.compile."""
    cuda_graphs: bool = False
    """Capture the whole update in one CUDA graph."""
    augment: AugmentConfig = AugmentConfig()
    resets: ResetConfig = ResetConfig()
    prune: PruneConfig = PruneConfig()
    prefetch_batches: int = Field(0, ge=0, le=8)
    """Batches to sample ahead, before the priorities of earlier batches are updated, so that the GPU need not wait for data."""

    @model_validator(mode="after")
    def _fits(self) -> "LearnerConfig":
        name, _ = optimizer_of(self.optimizer)
        if name == "sgd":
            refuse_ignored(self, {"optimizer_epsilon": "optimizer other than sgd"})
        if self.cuda_graphs and name not in ("adam", "adamw"):
            raise ValueError(f"cuda_graphs works with optimizer adam or adamw, not with {self.optimizer}")
        return self


class TrainingConfig(Section):
    """Settings shared by the `run` sections of agents and vision models."""

    minutes: float | None = Field(None, gt=0)
    """Stop training after this much wall time, including time before a resume; the final evaluation is extra."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to learn on; auto: the GPU if there is one."""
    threads: int | None = Field(None, ge=1)
    """CPU threads. A fixed number makes results reproducible bit for bit; null: the fastest number, measured again every minute."""
    checkpoint_minutes: float = Field(10.0, gt=0)
    """Minutes between checkpoints."""
    keep_checkpoints: int = Field(2, ge=1)
    """Checkpoints to keep: this many of the newest, plus the best."""
    log_seconds: float = Field(5.0, gt=0)
    """Seconds between rows of losses and rates in the log."""
    trackers: Parts = Field([])
    """Trackers for metrics, besides metrics.jsonl and TensorBoard: wandb(project=atari), mlflow, trackio, or one of your own."""
    callbacks: Parts = Field([])
    """Your own callbacks, called during the run: my_file.py:MyCallback, with parameters in parentheses."""


class RunConfig(TrainingConfig):
    """How long to train, where, and what to keep."""

    agent_steps: int = Field(10_000_000, ge=1)
    """Train for exactly this many agent steps; one action in one environment is one step."""
    collect_agent_steps: int = Field(1, ge=1)
    """Steps of each environment between learner turns: the length of a rollout."""
    policy_lag_learner_steps: int = Field(0, ge=0, le=1000)
    """Act with weights that are this many learner steps old."""


class EvalConfig(Section):
    """Evaluations over whole episodes, without exploration (value agents: ε = agent.epsilon_eval)."""

    demonstrations: SomePath = None
    """For agents that do not play: recordings to evaluate on, with scores in place of returns; null: the training recordings."""
    episodes: int = Field(30, ge=1)
    """Episodes in the final evaluation."""
    every_agent_steps: int | None = Field(None, ge=1)
    """Agent steps between periodic evaluations; null: only the final one."""
    every_episodes: Annotated[int, OnlyIf("every_agent_steps")] = Field(10, ge=1)
    """Episodes in a periodic evaluation."""
    stop_at_return: Annotated[float | None, OnlyIf("every_agent_steps")] = None
    """End the run once a periodic evaluation reaches this mean return; null: never."""


class DistillConfig(Section):
    """Learning from trained agents instead of rewards (docs/distillation.md)."""

    all_only_if = OnlyIf("teachers other than []")

    teachers: list[Place] = Field([])
    """Runs, checkpoints or pretrained agents of the same game to learn from; several are averaged. []: no distillation."""
    temperature: float | None = Field(None, ge=1e-6)
    """τ: temperature of the teachers' scores; null: 0.01 for action values, 1 for policy logits."""
    teacher_share: float = Field(0.5, ge=0, le=1)
    """Fraction of the environments in which the teachers act instead of the student. In board games, teachers play all games."""


# Conditions of keys: collectors and learner do not wait for each other; rlsuite starts Ray itself.
_ASYNCHRONOUS, _OWN = OnlyIf("synchronous other than true"), OnlyIf("address = null")


class RuntimeConfig(Section):
    """Where collectors, replay and learner run. All keys except `kind` are for Ray."""

    all_only_if = OnlyIf("kind = ray")

    kind: Literal["local", "ray"] = "local"
    """One process (local), or several on this machine or a cluster (ray)."""
    address: str | None = None
    """Ray cluster to join: auto, ray://host:port or host:port; null: start Ray here, on 127.0.0.1 only. local is refused: it would
    listen on all interfaces."""
    collectors: int = Field(1, ge=1, le=10_000)
    """Collector processes, each with env.num_envs environments."""
    collector_threads: int = Field(1, ge=1)
    """CPU threads of each collector and of the inference server, and the CPUs that each reserves in the cluster."""
    collector_gpus: Annotated[float, OnlyIf("inference = collector")] = Field(0.0, ge=0)
    """GPUs reserved by each collector; a fraction if several share one."""
    inference: Annotated[Literal["collector", "server"], _OWN] = "collector"
    """Where the acting net runs: in every collector, or in one server process for all of them, on this machine."""
    inference_gpus: Annotated[float, OnlyIf("inference = server")] = Field(0.0, ge=0)
    """GPUs reserved by the inference server; a fraction if it shares one with the learner."""
    shards: int = Field(1, ge=1, le=1000)
    """Processes that the replay is sharded across."""
    learners: int = Field(1, ge=1, le=64)
    """Learner processes, which split each batch and average their gradients."""
    learner_threads: int | None = Field(None, ge=1)
    """CPU threads of a learner; null: run.threads, or else the fastest number within the cores that collectors leave free."""
    learner_gpus: float | None = Field(None, ge=0)
    """GPUs reserved by each learner; null: 1 if the cluster has enough and run.device allows it."""
    synchronous: bool | None = None
    """Collect, store and learn in turn, always with the newest weights; null: only if the agent cannot learn from older ones."""
    publish_learner_steps: Annotated[int, _ASYNCHRONOUS] = Field(16, ge=1)
    """Learner steps between broadcasts of weights to the collectors."""
    calls_in_flight: Annotated[int, _ASYNCHRONOUS] = Field(2, ge=1, le=16)
    """Maximum unrolls requested ahead from each collector."""
    batches_per_call: Annotated[int, _ASYNCHRONOUS] = Field(4, ge=1, le=64)
    """Maximum batches sampled and learned from in one call."""
    batch_calls_in_flight: Annotated[int, _ASYNCHRONOUS] = Field(3, ge=1, le=64)
    """Maximum calls queued for the learner."""
    insert_tolerance_agent_steps: Annotated[int | None, _ASYNCHRONOUS] = Field(None, ge=1)
    """Agent steps by which collectors may run ahead of the learner; null: 4 unrolls per collector."""
    restarts: int = Field(20, ge=0)
    """Worker restarts allowed within an hour before the run gives up."""
    stall_minutes: float = Field(10.0, gt=0)
    """Give up after this many minutes without a learner step."""
    object_store_gb: Annotated[float | None, _OWN] = Field(None, gt=0)
    """Size of the object store in GB, if rlsuite starts Ray; null: Ray decides."""
    dashboard: Annotated[bool, _OWN] = False
    """Serve Ray's dashboard on 127.0.0.1, if rlsuite starts Ray."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value  # `runtime: local`

    @model_validator(mode="after")
    def _fits(self) -> "RuntimeConfig":
        if self.shards > self.collectors:
            raise ValueError(f"shards {self.shards} is more than collectors {self.collectors}: some would stay empty")
        return self


class AnyConfig(Section):
    """Base class of the configs of agents and of vision models."""

    name: str
    """Name of the config, and the start of the run folder's name."""
    seed: int = Field(1, ge=0, lt=2**31)
    """Seed of all randomness in the run."""


class Config(AnyConfig):
    """The checked config of an agent's run; the agent and the environment family define the sections `agent` and `env`."""

    agent: AgentSection
    env: EnvSection
    net: NetConfig = NetConfig()
    replay: ReplayConfig = ReplayConfig()
    learner: LearnerConfig = LearnerConfig()
    run: RunConfig = RunConfig()
    eval: EvalConfig = EvalConfig()
    distill: DistillConfig = DistillConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    stages: dict[str, dict[str, Any]] | None = None
    """Training stages, run one after the other, each from the previous one's weights: name -> the keys that it changes, by section;
    null: a single run."""

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.learner.batch_size > self.replay.capacity_agent_steps:
            raise ValueError(
                f"learner.batch_size {self.learner.batch_size} is larger than replay.capacity_agent_steps "
                f"{self.replay.capacity_agent_steps}"
            )
        if self.runtime.kind == "ray":
            self._on_ray()
        if self.learner.cuda_graphs and self.run.device == "cpu":
            raise ValueError("learner.cuda_graphs needs run.device cuda")
        if self.stages is not None and self.replay.window is not None:
            raise ValueError("replay.window is one run's: with stages, name a folder in each stage that has one")
        return self

    def _on_ray(self) -> None:
        if self.runtime.learner_threads is not None:
            refuse_ignored(self, {"run.threads": "runtime.learner_threads = null"})
        if self.run.policy_lag_learner_steps:
            raise ValueError("run.policy_lag_learner_steps: on Ray collectors lag by themselves (charts/policy_lag); use 0")
        if self.runtime.inference == "server" and self.replay.initial_priority == "td":
            raise ValueError("replay.initial_priority td takes a net in every collector: use runtime.inference collector, or max")
        if self.learner.prefetch_batches:
            raise ValueError("learner.prefetch_batches: Ray has runtime.batch_calls_in_flight instead; use 0")
        if self.learner.batch_size % self.runtime.learners:
            raise ValueError(
                f"learner.batch_size = {self.learner.batch_size} is not a multiple of runtime.learners = {self.runtime.learners}"
            )
        if self.runtime.learners > 1 and self.learner.cuda_graphs:
            raise ValueError("learner.cuda_graphs works with one learner: use runtime.learners 1")
