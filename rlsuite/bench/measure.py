"""The measurement of all benchmarks: contenders take turns (A B A B) in one process, and the median of the turns counts."""

import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import torch

from rlsuite.config.loader import check
from rlsuite.config.schema import Config
from rlsuite.core import cpu
from rlsuite.core.errors import UsageError
from rlsuite.core.limits import cores
from rlsuite.core.types import EnvSpec

PONG = EnvSpec(observation_shape=(4, 84, 84), observation_dtype="uint8", num_actions=6, num_states=None, stack=4, frames_per_step=4)
DUELING: dict[str, Any] = {"name": "dqn", "double": True, "dueling": True, "n_steps": 3}
PLAIN: dict[str, Any] = {"name": "dqn"}
NOT_INSTALLED = "not installed: pip install rlsuite[bench]"

Work = Callable[[int], int]  # rounds to do -> units of work done


@dataclass(frozen=True)
class BenchSettings:
    """Sizes and durations of the benchmarks. UsageError for a value that makes no sense."""

    repeats: int = 5  # turns of each contender
    seconds: float = 2.0  # of each turn
    num_envs: int = 32  # env, inference, collect
    batch: int = 256  # learner
    cuda_batch: int = 512  # learner on a GPU: eager, compiled and with CUDA graphs
    replay_batch: int = 512
    replay_size: int = 1_000_000  # slots of the prioritized selectors
    replay_steps: int = 65_536  # stored Atari steps that whole batches are sampled from
    sequences: int = 16  # in a batch
    train_start: int = 1_000  # agent steps collected before learning begins, and the measurement after that
    threads: int | None = None  # None: all cores
    device: Literal["auto", "cpu", "cuda"] = "auto"
    quick: bool = False  # a smoke test: its figures are meaningless

    def __post_init__(self) -> None:
        counts = (
            "repeats",
            "num_envs",
            "batch",
            "cuda_batch",
            "replay_batch",
            "replay_size",
            "replay_steps",
            "sequences",
            "train_start",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise UsageError(f"bench: {name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.seconds < math.inf:
            raise UsageError(f"bench: seconds must be greater than 0, got {self.seconds}")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"bench: threads must be at least 1, got {self.threads}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"bench: device must be auto, cpu or cuda, got {self.device!r}")

    def as_run(self) -> "BenchSettings":
        """The settings to measure with: `threads` as a number, and with `quick` nothing larger than a smoke test needs."""
        settings = replace(self, threads=self.threads or cores())
        if not self.quick:
            return settings
        small = {
            "repeats": 1,
            "seconds": 0.05,
            "num_envs": 4,
            "batch": 16,
            "cuda_batch": 32,
            "replay_batch": 64,
            "replay_size": 20_000,
            "replay_steps": 2_048,
            "sequences": 2,
            "train_start": 200,
        }
        return replace(settings, **{name: min(value, getattr(self, name)) for name, value in small.items()})


class Target(NamedTuple):
    """The target of a row: a bound on its ratio, or on our own figure."""

    of: Literal["ratio", "ours"]
    sign: Literal[">=", "<="]
    value: float

    def __str__(self) -> str:
        return f"{self.of} {self.sign} {self.value:g}"


@dataclass(frozen=True)
class Row:
    """One row of the report. `ours` and `reference` are in `unit`, and None where there is nothing to measure."""

    name: str
    what: str  # exactly what was compared
    unit: str
    ours: float | None
    reference: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """`ours` / `reference`; None if either is missing."""
        return None if self.ours is None or self.reference is None else self.ours / self.reference

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is no target, or no figure to compare with it."""
        if self.target is None:
            return None
        value = self.ratio if self.target.of == "ratio" else self.ours
        if value is None:
            return None
        return value >= self.target.value if self.target.sign == ">=" else value <= self.target.value

    def as_dict(self) -> dict[str, Any]:
        """The row as plain values for JSON."""
        return {
            "name": self.name,
            "what": self.what,
            "ours": self.ours,
            "reference": self.reference,
            "unit": self.unit,
            "ratio": self.ratio,
            "target": None if self.target is None else str(self.target),
            "met": self.met,
        }


def alternate(name: str, contenders: Mapping[str, Work], settings: BenchSettings) -> dict[str, float]:
    """Median units per second of each contender. All warm up, then take turns, so that the machine's drift affects all alike."""
    say(f"{name}: warming up {', '.join(contenders)}")
    rounds = {key: _warm_up(work, settings) for key, work in contenders.items()}
    rates: dict[str, list[float]] = {key: [] for key in contenders}
    for turn in range(settings.repeats):
        for key, work in contenders.items():
            units, seconds = _timed(work, rounds[key])
            rates[key].append(units / seconds)
        say(f"{name}: turn {turn + 1}/{settings.repeats}: " + ", ".join(f"{key} {rate[-1]:,.4g}/s" for key, rate in rates.items()))
    return {key: statistics.median(rate) for key, rate in rates.items()}


def _warm_up(work: Work, settings: BenchSettings) -> int:
    """The number of rounds that take about `seconds`. The first rounds compile (CUDA graphs after three) and do not count."""
    work(1 if settings.quick else 5)
    rounds, seconds = 1, settings.seconds
    while True:
        _, took = _timed(work, rounds)
        if took >= seconds / 4:
            return max(1, round(rounds * seconds / took))
        rounds *= 2


def _timed(work: Work, rounds: int) -> tuple[int, float]:
    _wait_for_gpu()
    start = time.perf_counter()
    units = work(rounds)
    _wait_for_gpu()
    return units, time.perf_counter() - start


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def repeated(once: Callable[[], object], units: int) -> Work:
    """Work that calls `once` in every round, and counts `units` for it."""

    def work(rounds: int) -> int:
        for _ in range(rounds):
            once()
        return rounds * units

    return work


def config(settings: BenchSettings, agent: Mapping[str, Any], **sections: Mapping[str, Any]) -> Config:
    """A config for Pong with our usual speed settings (Nature torso, 512 units, bf16, channels_last), overridden by `sections`."""
    data: dict[str, Any] = {
        "name": "bench",
        "agent": dict(agent),
        "env": {"id": "ALE/Pong-v5", "num_envs": settings.num_envs},
        "net": {"torso": "nature", "hidden": 512},
        "learner": {"precision": "bf16", "channels_last": True},
        "run": {"device": settings.device, "threads": settings.threads},
    }
    for section, values in sections.items():
        data[section] = {**data.get(section, {}), **values}
    return check(data)


def lacking(packages: Iterable[str]) -> bool:
    """Whether any of these importable packages is missing."""
    return any(find_spec(package) is None for package in packages)


def named(package: str) -> str:
    """A package with its version, such as `cpprb 11.0.0`."""
    return f"{package} {version(package)}"


def say(text: str) -> None:
    """Prints a line of progress on stderr."""
    print(f"bench {text}", file=sys.stderr, flush=True)


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Facts about this machine that the figures depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "threads": threads,
        "bf16": device.type != "cpu" or cpu.has_bf16(),  # without it nets compute in fp32
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,  # of the minute before the benchmarks
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
