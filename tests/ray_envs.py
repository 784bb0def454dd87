"""What tests of the Ray runtime share: settings of tiny runs, and an environment that fails on purpose, importable by workers."""

import inspect
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from rlsuite.config.schema import EnvSection
from rlsuite.core.errors import UsageError
from rlsuite.envs import classic
from rlsuite.runtime.ray.workers import CollectorWorker, EvaluatorWorker, LearnerWorker, ShardWorker, Worker

RAY: dict[str, Any] = {"runtime.kind": "ray"}
DQN: dict[str, Any] = {
    "run.threads": 1,
    "run.collect_agent_steps": 4,
    "replay.capacity_agent_steps": 4_000,
    "replay.min_agent_steps": 128,
    "replay.prioritized": True,
    "replay.samples_per_insert": 4,
    "learner.batch_size": 16,
    "learner.learning_rate_end": None,
    "agent.n_steps": 3,
    "net.hidden": 32,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}
ROLLOUTS: dict[str, Any] = {
    "run.threads": 1,
    "run.collect_agent_steps": 16,
    "env.num_envs": 4,
    "learner.batch_size": 4,
    "learner.learning_rate_end": None,
    "net.hidden": 16,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}
GAMES: dict[str, Any] = {
    "run.threads": 1,
    "run.collect_agent_steps": 2,
    "env.num_envs": 8,
    "env.opponent": "random",
    "agent.simulations": 6,
    "agent.eval_simulations": 6,
    "net.torso": "tower(width=8,depth=1)",
    "replay.min_agent_steps": 100,
    "replay.capacity_agent_steps": 2_000,
    "learner.batch_size": 32,
    "learner.learning_rate_end": None,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}

RECALL: dict[str, Any] = {
    "run.threads": 1,
    "env.num_envs": 4,
    "replay.capacity_agent_steps": 4_000,
    "replay.min_agent_steps": 200,
    "learner.batch_size": 8,
    "net.hidden": 8,
    "net.memory_size": 8,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn": ("classic/dqn", DQN),
    "r2d2": ("classic/recall_r2d2", RECALL),
    "ppo": ("classic/ppo", ROLLOUTS),
    "alphazero": ("boards/tic_tac_toe", GAMES),
}


class Host:
    """An actor that is one worker after another, of any kind: it has the methods of them all."""

    def become(self, kind: type[Worker], *args: Any) -> None:
        if torch.distributed.is_initialized():  # by a learner that it was
            torch.distributed.destroy_process_group()
        self.worker = kind(*args)


def _forward(name: str) -> Any:
    return lambda host, *args: getattr(host.worker, name)(*args)


for _kind in (CollectorWorker, ShardWorker, LearnerWorker, EvaluatorWorker):
    for _name, _ in inspect.getmembers(_kind, inspect.isfunction):
        if not _name.startswith("_"):
            setattr(Host, _name, _forward(_name))


class Config(EnvSection):
    """Settings of an environment that fails."""

    steps: int = Field(50, ge=0)  # then it raises
    inner: bool = False  # what raises is an environment of Gymnasium's inside
    missing: bool = False  # it cannot be built anywhere but in the driver
    marker: str = ""  # a file; where it exists nothing is missing


def make(config: Config, num_envs: int, threads: int, render: bool = False) -> Any:
    """CartPole that raises after `config.steps` steps, or cannot be built where `config.missing`."""
    if config.missing and not Path(config.marker).exists():
        raise UsageError("the package of this environment is not installed here")
    env = classic.make(classic.Config(id="CartPole-v1", num_envs=num_envs), num_envs, threads=threads, render=render)
    raising = env.env if config.inner else env
    left, step = [config.steps], raising.step

    def failing(actions: Any) -> Any:
        if left[0] == 0:
            raise ZeroDivisionError("the pole caught fire")
        left[0] -= 1
        return step(actions)

    raising.step = failing
    return env
