"""`rlsuite info`, `doctor` and `check-game`: the state of a run, a machine, a game. Heavy imports are inside the commands."""

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from rlsuite.cli.common import Json, examples, family, print_facts

app = family()


@app.command(epilog=examples("rlsuite info runs/mine", "rlsuite info runs/mine --json", "rlsuite info pretrained:pong"))
def info(run: Annotated[Path, typer.Argument(help="A run folder, or pretrained:NAME.")], as_json: Json = False) -> None:
    """Show a run's config, progress and checkpoints, or the card of a pretrained agent."""
    print_facts(describe_run(run), as_json)


@app.command(epilog=examples("rlsuite doctor", "rlsuite doctor --json"))
def doctor(as_json: Json = False) -> None:
    """Check this machine: versions, cores, memory, GPU, ROMs, Ray."""
    facts = examine()
    print_facts(facts, as_json)
    if facts["problems"]:
        raise typer.Exit(1)


@app.command("check-game", epilog=examples("rlsuite check-game my_game.py", "rlsuite check-game 'go(size=7)' --games 1000"))
def check_game(
    game: Annotated[str, typer.Argument(help="A game (rlsuite list games), or a Python file or module with make().")],
    games: Annotated[int, typer.Option(min=1, help="Random games to play.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random games.")] = 0,
    as_json: Json = False,
) -> None:
    """Check a board game by random play. docs/own-game.md describes the contract."""
    from rlsuite.boardgames.games import make_game
    from rlsuite.envs.boards import check

    made = make_game(game)
    print_facts({"game": made.name, **check.check_game(made, games, seed)}, as_json)


def examine() -> dict[str, Any]:
    """Facts about this machine; `problems` lists everything that would keep a run from working."""
    import torch
    from ale_py import roms
    from ale_py.vector_env import AtariVectorEnv

    from rlsuite.core.limits import available_bytes, cores
    from rlsuite.runs import run_folder

    problems = []
    games = roms.get_all_rom_ids()
    try:
        AtariVectorEnv("pong", 1).close()
    except Exception as error:  # any reason is worth reporting
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
    """Facts about a run and its progress. UsageError if the folder is not a run."""
    from rlsuite.config import loader
    from rlsuite.runs import checkpoint, pretrained_agents, run_folder
    from rlsuite.runs.metrics import read_metrics

    if pretrained_agents.is_name(run):
        return pretrained_agents.card(str(run))._asdict()
    config = loader.mapping(run_folder.config_file(run))  # not checked: the run's plug-in files may be gone
    loader.refuse_vision(config)
    agent, env = loader.name_in(config, "agent", "name"), loader.name_in(config, "env", "id")
    rows = read_metrics(run) if (run / "metrics.jsonl").exists() else []
    last: dict[str, Any] = {}
    for row in rows:
        last.update({key: value for key, value in row.items() if value is not None})
    return {
        "run": str(run),
        "config": config["name"],
        "agent": agent,
        "env": env,
        "seed": config["seed"],
        "agent_steps": f"{last.get('agent_steps', 0):,} of {config['run']['agent_steps']:,}",
        "env_frames": last.get("env_frames", 0),
        "learner_steps": last.get("learner_steps", 0),
        "minutes": round(last.get("wall_seconds", 0.0) / 60, 1),
        "mean_return": last.get("charts/mean_return_100"),
        "evaluation": last.get("eval/episodic_return"),
        "checkpoints": [path.name for path in checkpoint.list_complete(run)],
    }
