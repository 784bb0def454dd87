"""What several test files share: settings of tiny runs, and how their states are compared."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlsuite.config import loader
from rlsuite.evaluation.statistics import summarise, write_summary
from rlsuite.factories import build, evaluation_seed
from rlsuite.runs import checkpoint, run_folder

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


def combinations(quick: Collection[tuple[Any, ...]], *axes: Sequence[Any]) -> list[Any]:
    """Every combination of `axes`, for `parametrize`; those that are not `quick` are slow."""
    every = list(itertools.product(*axes))
    assert set(quick) <= set(every)
    return [pytest.param(*values, marks=() if values in quick else pytest.mark.slow) for values in every]


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


def finished_run(
    folder: Path, config: str, overrides: Mapping[str, Any], returns: Sequence[float], evaluations: Sequence[tuple[int, float]] = ()
) -> Path:
    """A run with the files that are left when it has finished, but without training; `returns` of its final evaluation."""
    resolved = loader.resolve(config, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_config(resolved, folder, {})
    saved = checkpoint.save(folder, resolved.run.agent_steps, {}, {"replay": np.zeros(3)}, {})
    summary = summarise(returns, [1] * len(returns), resolved.env.id)
    write_summary(saved, summary, evaluation_seed(resolved.seed))
    rows = [{"agent_steps": step, "eval/episodic_return": value} for step, value in evaluations]
    rows.append({"agent_steps": resolved.run.agent_steps, "eval/episodic_return": summary.mean, "eval/final": 1.0})
    clock = {"env_frames": 0, "learner_steps": 0, "wall_seconds": 1.0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(clock | row) + "\n" for row in rows))
    return folder


def start_sweep(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """`rlsuite sweep study.yaml` with these arguments in a folder, its stderr as a pipe."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "rlsuite", "sweep", "study.yaml", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def untrained(config: str, changes: dict[str, Any], run: Path) -> Path:
    """A run folder with random weights: those of a new net, and a tenth of normal numbers."""
    resolved = loader.resolve(config, {"run.threads": 1, **changes})
    parts = build(resolved)
    torch.manual_seed(1)
    weights = {
        name: tensor + 0.1 * torch.randn_like(tensor) if name.endswith("weight") else tensor
        for name, tensor in parts.learner.online.master.state_dict().items()
    }
    run.mkdir()
    run_folder.write_config(resolved, run)
    checkpoint.save(run, 100, weights, {}, run_folder.metadata(resolved, parts.spec), with_arrays=False)
    parts.close()
    return run
