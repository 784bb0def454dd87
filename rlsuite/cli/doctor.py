"""What this machine has, and what a run is."""

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlsuite.core.cpu import cores
from rlsuite.replay.replay import available_bytes
from rlsuite.runs import checkpoint, run_folder
from rlsuite.runs.metrics import read_metrics


def examine() -> dict[str, Any]:
    """Facts, and `problems`: what would keep a run from working."""
    import torch
    from ale_py import roms
    from ale_py.vector_env import AtariVectorEnv

    problems = []
    games = roms.get_all_rom_ids()
    try:
        AtariVectorEnv("pong", 1).close()
    except Exception as error:  # whatever keeps the emulator from starting is the news here
        problems.append(f"the Atari emulator does not start: {error}")
    if not games:
        problems.append("ale-py has no ROMs: reinstall it (pip install --force-reinstall ale-py)")
    memory = available_bytes()
    return {
        "versions": run_folder.versions(),
        "cores": cores(),
        "torch_threads": torch.get_num_threads(),
        "memory_free": f"{memory / 1e9:.1f} GB" if memory else "unknown",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else f"none (torch {torch.__version__})",
        "roms": len(games),
        "ray": _installed("ray"),
        "bench_extra": {name: _installed(name) for name in ("stable-baselines3", "cpprb")},
        "problems": problems,
    }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed" if importlib.util.find_spec(package.replace("-", "_")) is None else "installed"


def describe_run(run: Path) -> dict[str, Any]:
    """UsageError if the folder is no run."""
    config = run_folder.config_of(run)
    rows = read_metrics(run) if (run / "metrics.jsonl").exists() else []
    last: dict[str, Any] = {}
    for row in rows:
        last.update({key: value for key, value in row.items() if value is not None})
    return {
        "run": str(run),
        "config": config.name,
        "agent": config.agent.name,
        "env": config.env.id,
        "seed": config.seed,
        "agent_steps": f"{last.get('agent_steps', 0):,} of {config.run.agent_steps:,}",
        "env_frames": last.get("env_frames", 0),
        "learner_steps": last.get("learner_steps", 0),
        "minutes": round(last.get("wall_seconds", 0.0) / 60, 1),
        "mean_return": last.get("charts/mean_return_100"),
        "evaluation": last.get("eval/episodic_return"),
        "checkpoints": [path.name for path in checkpoint.list_complete(run)],
    }
