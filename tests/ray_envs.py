"""Environments that fail on purpose, importable by the workers of a Ray run."""

from pathlib import Path
from typing import Any

from pydantic import Field

from rlsuite.config.schema import EnvSection
from rlsuite.core.errors import UsageError
from rlsuite.envs import classic


class Config(EnvSection):
    steps: int = Field(50, ge=0)  # then it raises
    missing: bool = False  # cannot be built anywhere but in the driver
    marker: str = ""  # a file; where it exists nothing is missing


def make(config: Config, num_envs: int, threads: int, render: bool = False) -> Any:
    if config.missing and not Path(config.marker).exists():
        raise UsageError("the package of this environment is not installed here")
    env = classic.make(classic.Config(id="CartPole-v1", num_envs=num_envs), num_envs, threads=threads, render=render)
    left, step = [config.steps], env.step

    def failing(actions: Any) -> Any:
        if left[0] == 0:
            raise ZeroDivisionError("the pole caught fire")
        left[0] -= 1
        return step(actions)

    env.step = failing
    return env
