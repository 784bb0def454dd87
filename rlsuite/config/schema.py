"""The schema of a run. Strict: unknown keys, wrong types and impossible values or combinations are refused before anything starts.

Units stand in the names: agent_steps (one action each, by default four emulator frames), learner_steps, minutes.
`rlsuite.config.loader` turns a YAML file and overrides into a `Config`.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def absolute(path: str | None) -> str | None:
    """A run may go on, and workers may live, in another folder."""
    return str(Path(path).resolve()) if path is not None and Path(path).exists() else path


class AgentSection(Section):
    """Each agent's own config derives from this."""

    on_policy: ClassVar[bool] = False  # learns from rollouts, each once, and has no replay memory

    name: str


class EnvSection(Section):
    """Each environment family's own config derives from this."""

    id: str
    num_envs: int = Field(8, ge=1, le=4096)  # copies stepped together


class WeightsMixin(Section):
    """Where a net with a backbone begins."""

    weights: str | None = None  # a run, a checkpoint or a file of `rlsuite vision import` that the backbone's come from
    freeze: bool = False  # the backbone stays as it is

    @field_validator("weights")
    @classmethod
    def _from_everywhere(cls, value: str | None) -> str | None:
        return absolute(value)


class NetConfig(WeightsMixin):
    init_from: str | None = None  # a run or a checkpoint of the same net, whose weights are the first ones
    torso: str = "nature"  # a name of `rlsuite list nets`; parameters in parentheses, such as impala(pool=gap,norm=group)
    hidden: int = Field(512, ge=1)  # units of each hidden dense layer
    memory: str = "none"  # none, lstm, gru, or attention(window=32,heads=4,layers=1)
    memory_size: int = Field(256, ge=1)  # units of the memory
    last_action_reward: bool = False  # the memory also gets the last action and the reward for it
    layer_norm: bool = False  # on the torso's features and inside dense layers, before their ReLU: steadies values
    separate_value: bool = False  # the value does not share the policy's torso and dense layer

    @field_validator("init_from")
    @classmethod
    def _begins_everywhere(cls, value: str | None) -> str | None:
        return absolute(value)

    @field_validator("memory")
    @classmethod
    def _known_memory(cls, value: str) -> str:
        kind = value.split("(")[0].strip()
        if kind not in (known := ("none", "lstm", "gru", "attention")):
            raise ValueError(f"{value!r} is not known; known: {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _one_memory(self) -> "NetConfig":
        if self.separate_value and (self.memory != "none" or self.last_action_reward):
            raise ValueError("separate_value has no memory of its own: use it with memory none and without last_action_reward")
        return self


class ReplayConfig(Section):
    capacity_agent_steps: int = Field(1_000_000, ge=1)
    min_agent_steps: int = Field(50_000, ge=1)  # stored before the first learner step
    samples_per_insert: float = Field(8.0, gt=0)  # DQN's batch of 32 every 4 steps is 8
    prioritized: bool = False
    priority_exponent: float = Field(0.6, ge=0, le=1)
    initial_priority: Literal["max", "td"] = "max"  # of a new sequence: the largest so far, or what the acting net makes of it
    demonstrations: str | None = None  # a folder of `rlsuite record` or a Minari dataset
    demonstration_ratio: float | None = Field(None, ge=0, le=1)  # the chance that an element of a batch is one of them
    importance_exponent_start: float = Field(0.4, ge=0, le=1)
    importance_exponent_end: float = Field(1.0, ge=0, le=1)
    importance_anneal_agent_steps: int = Field(10_000_000, ge=0)

    @field_validator("demonstrations")
    @classmethod
    def _from_everywhere(cls, value: str | None) -> str | None:
        return absolute(value)

    @model_validator(mode="after")
    def _fits(self) -> "ReplayConfig":
        if (self.demonstrations is None) != (self.demonstration_ratio is None):
            raise ValueError("demonstrations and demonstration_ratio belong together: give both, or none")
        if self.initial_priority == "td" and not self.prioritized:
            raise ValueError("initial_priority td: without prioritized there are no priorities")
        if self.min_agent_steps > self.capacity_agent_steps:
            raise ValueError(
                f"min_agent_steps {self.min_agent_steps} is larger than capacity_agent_steps {self.capacity_agent_steps}: "
                "learning could never start"
            )
        return self


class AugmentConfig(Section):
    """Random changes of the pictures that are learned from, for every picture anew. All off by default; ranges are uniform."""

    shift: int = Field(0, ge=0)  # pixels, in both directions: DrQ's is 4
    scale: float = Field(0.0, ge=0, lt=1)  # up to this fraction larger or smaller
    crop: float = Field(0.0, ge=0, lt=1)  # of both sides up to this fraction is cut away, the rest enlarged
    rotate: float = Field(0.0, ge=0, le=180)  # degrees to either side
    shear: float = Field(0.0, ge=0, lt=1)  # pixels sideways for each pixel down
    flip: bool = False  # left and right, one picture of two
    brightness: float = Field(0.0, ge=0, lt=1)  # a factor up to so much more or less than 1
    cutout: int = Field(0, ge=0)  # side in pixels of a grey square (DeVries & Taylor 2017)


class LearnerConfig(Section):
    batch_size: int = Field(32, ge=1)  # sequences; of an on-policy agent rollouts, a multiple of env.num_envs
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"  # rmsprop: centered, decay 0.95
    learning_rate: float = Field(6.25e-5, gt=0)
    learning_rate_end: float | None = Field(None, ge=0)  # null: constant; else linear ...
    learning_rate_anneal_agent_steps: int | None = Field(None, ge=1)  # ... over so many; null: run.agent_steps
    optimizer_epsilon: float = Field(1.5e-4, gt=0)
    max_grad_norm: float | None = Field(10.0, gt=0)  # null: no clipping
    target_period_learner_steps: int = Field(2_000, ge=1)
    target_ema: float | None = Field(None, gt=0, le=1)  # the target moves by this fraction every period
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    compile: bool = False  # torch.compile of the nets
    cuda_graphs: bool = False  # the whole update as one graph; CUDA only
    augment: AugmentConfig = AugmentConfig()
    prefetch_batches: int = Field(0, ge=0, le=8)  # sampled ahead, so priorities are that many steps older

    @model_validator(mode="after")
    def _can_be_captured(self) -> "LearnerConfig":
        if self.cuda_graphs and self.optimizer != "adam":
            raise ValueError(f"cuda_graphs works with optimizer adam, not with {self.optimizer}")
        return self


class RunConfig(Section):
    agent_steps: int = Field(10_000_000, ge=1)  # stop there, exactly
    minutes: float | None = Field(None, gt=0)  # or after so much wall time, resumes counted in
    collect_agent_steps: int = Field(1, ge=1)  # per environment, between two visits to the learner: the length of a rollout
    policy_lag_learner_steps: int = Field(0, ge=0, le=1000)  # the weights that act are older than the learner's by so many updates
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)  # null: all cores
    checkpoint_minutes: float = Field(10.0, gt=0)
    keep_checkpoints: int = Field(2, ge=1)  # the newest, besides the best
    log_seconds: float = Field(5.0, gt=0)  # between two rows of losses and rates


class EvalConfig(Section):
    episodes: int = Field(30, ge=1)  # at the end of a run
    every_agent_steps: int | None = Field(None, ge=1)  # null: only at the end
    every_episodes: int = Field(10, ge=1)  # in an evaluation on the way
    stop_at_return: float | None = None  # end the run once an evaluation on the way has reached this mean

    @model_validator(mode="after")
    def _stops(self) -> "EvalConfig":
        if self.stop_at_return is not None and self.every_agent_steps is None:
            raise ValueError("stop_at_return needs every_agent_steps: without evaluations on the way nothing can stop it")
        return self


class RuntimeConfig(Section):
    """Where the roles run. All but `kind` is for `ray`."""

    kind: Literal["local", "ray"] = "local"
    address: str | None = None  # of a Ray cluster: auto, ray://host:port, host:port; null: one of our own, on this machine alone
    collectors: int = Field(1, ge=1, le=10_000)  # processes, each with env.num_envs environments
    collector_threads: int = Field(1, ge=1)  # and as many CPUs of the cluster
    collector_gpus: float = Field(0.0, ge=0)
    shards: int = Field(1, ge=1, le=1000)  # processes that hold the replay memory
    learners: int = Field(1, ge=1, le=64)  # processes that share a batch and its gradients; each with a GPU of its own, or none
    learner_threads: int | None = Field(None, ge=1)  # null: run.threads, or the cores that collectors leave
    learner_gpus: float | None = Field(None, ge=0)  # null: 1 if the cluster has any and run.device allows it
    synchronous: bool | None = None  # collect, store, learn in turn, all with the newest weights; null: only on-policy agents do
    publish_learner_steps: int = Field(16, ge=1)  # collectors get new weights after so many updates
    calls_in_flight: int = Field(2, ge=1, le=16)  # unrolls that a collector is asked for ahead
    batches_per_call: int = Field(4, ge=1, le=64)  # drawn and learned from in one call, where so many are due; 1 synchronously
    batch_calls_in_flight: int = Field(3, ge=1, le=64)  # calls ahead of the learner
    insert_tolerance_agent_steps: int | None = Field(None, ge=1)  # collectors wait when they are so far ahead; null: 4 unrolls each
    restarts: int = Field(20, ge=0)  # of workers, in any hour; then the run ends
    stall_minutes: float = Field(10.0, gt=0)  # the run ends after so long without an update
    object_store_gb: float | None = Field(None, gt=0)  # of our own Ray; null: Ray decides
    dashboard: bool = False  # of our own Ray, on 127.0.0.1

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value  # `runtime: local`

    @model_validator(mode="after")
    def _only_ray(self) -> "RuntimeConfig":
        given = [name for name in self.model_fields_set if name != "kind" and getattr(self, name) != _default(self, name)]
        if self.kind == "local" and given:
            raise ValueError(f"{', '.join(sorted(given))}: only for kind ray, and this run is local (runtime.kind=ray)")
        if self.shards > self.collectors:
            raise ValueError(f"shards {self.shards} is more than collectors {self.collectors}: some would stay empty")
        return self


def _default(section: Section, name: str) -> Any:
    return type(section).model_fields[name].default


class AnyConfig(Section):
    """Of whatever kind of run."""

    name: str
    seed: int = Field(1, ge=0, lt=2**31)


class Config(AnyConfig):
    """A run as resolved: `agent` and `env` hold the sections of the agent and the environment family named in them."""

    agent: AgentSection
    env: EnvSection
    net: NetConfig = NetConfig()
    replay: ReplayConfig = ReplayConfig()
    learner: LearnerConfig = LearnerConfig()
    run: RunConfig = RunConfig()
    eval: EvalConfig = EvalConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    # Runs one after the other, each beginning with the weights of the last: name -> sections that differ.
    stages: dict[str, dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.agent.on_policy:
            self._on_policy()
        elif self.learner.batch_size > self.replay.capacity_agent_steps:
            raise ValueError(
                f"learner.batch_size {self.learner.batch_size} is larger than replay.capacity_agent_steps "
                f"{self.replay.capacity_agent_steps}"
            )
        if self.runtime.kind == "ray":
            self._on_ray()
        if self.learner.cuda_graphs and self.run.device == "cpu":
            raise ValueError("learner.cuda_graphs needs run.device cuda")
        if self.learner.cuda_graphs and self.net.memory != "none":
            raise ValueError("learner.cuda_graphs cannot capture a memory, which looks where episodes begin: use net.memory none")
        return self

    def _on_ray(self) -> None:
        if self.run.policy_lag_learner_steps:
            raise ValueError("run.policy_lag_learner_steps: on Ray collectors lag by themselves (charts/policy_lag); use 0")
        if self.learner.prefetch_batches:
            raise ValueError("learner.prefetch_batches: on Ray it is runtime.batch_calls_in_flight; use 0")
        if self.learner.batch_size % self.runtime.learners:
            raise ValueError(
                f"learner.batch_size = {self.learner.batch_size} is no multiple of runtime.learners = {self.runtime.learners}"
            )
        if self.runtime.learners > 1 and self.learner.cuda_graphs:
            raise ValueError("learner.cuda_graphs works with one learner: use runtime.learners 1")
        if getattr(self.agent, "gate_games", 0):
            raise ValueError("agent.gate_games works with runtime local only")

    def _on_policy(self) -> None:
        name, num_envs, steps, batch = self.agent.name, self.env.num_envs, self.run.collect_agent_steps, self.learner.batch_size
        if steps < 2:
            raise ValueError(f"run.collect_agent_steps = {steps}: a rollout of {name} needs at least 2 steps")
        if batch % num_envs:
            near = max(1, round(batch / num_envs)) * num_envs
            raise ValueError(
                f"learner.batch_size = {batch}: rollouts of {name} come from {num_envs} environments at once; try {near}"
            )
        if self.replay != ReplayConfig():
            raise ValueError(f"replay.*: {name} learns from every rollout once and has no replay memory; remove the section")
        if self.learner.prefetch_batches:
            raise ValueError(f"learner.prefetch_batches: {name} learns from a rollout as soon as it is there; use 0")
        minibatches = getattr(self.agent, "minibatches", 1)
        if batch % minibatches:
            raise ValueError(f"agent.minibatches = {minibatches} does not divide the {batch} rollouts of learner.batch_size")
