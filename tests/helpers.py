"""What several test files share: settings of tiny runs, and how their states are compared."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlsuite.runs import checkpoint

SEQUENCES: dict[str, Any] = {
    "run.collect_agent_steps": 3,  # N falls into the middle of an unroll and between two sequences
    "env.num_envs": 5,
    "replay.capacity_agent_steps": 1_000,
    "replay.min_agent_steps": 200,
    "learner.batch_size": 8,
    "net.hidden": 8,
    "net.memory_size": 8,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
}


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two state trees differ in type, shape or any bit."""
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{path}: keys {a.keys() ^ b.keys()}"]
        return [d for key in a for d in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: length"]
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}/{i}")]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, np.ndarray):
        return [] if a.dtype == b.dtype and np.array_equal(a, b) else [path]
    return [] if a == b else [f"{path}: {a!r} != {b!r}"]


def final(run: Path) -> checkpoint.Checkpoint:
    return checkpoint.load(checkpoint.find(run, resumable=True))
