"""The command line. Heavy imports wait inside the commands, so that `--help` comes at once.

Exit codes: 0 done, 1 failed, 2 asked for something impossible, 130 stopped by Ctrl-C (a checkpoint was written).
"""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from rlsuite.cli import play as play_cli
from rlsuite.cli.common import Json, examples, print_json
from rlsuite.cli.vision import app as vision_app
from rlsuite.core.errors import RlsuiteError, UsageError, unknown

app = typer.Typer(
    help="Reinforcement-learning agents for Atari and board games, the same on a laptop and on a cluster.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: rlsuite train atari/pong     Then: rlsuite evaluate runs/... --video videos",
)
app.add_typer(vision_app, name="vision")


def main() -> None:
    """Every foreseen error is one line and an exit code."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        sys.exit(130)
    except RlsuiteError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())  # type: ignore[attr-defined]
            sys.exit(2)
        if hasattr(error, "format_message"):  # a usage error of the option parser
            _fail(error.format_message(), 2)
        raise


def _fail(message: str, code: int) -> NoReturn:
    told = message.strip() if "Traceback" in message else " ".join(message.split())  # of a worker: as it happened there
    print(f"rlsuite: {told}", file=sys.stderr)
    sys.exit(code)


@app.command(
    epilog=examples(
        "rlsuite train atari/pong",
        "rlsuite train atari/dqn env.id=ALE/Breakout-v5 learner.batch_size=64 seed=3",
        "rlsuite train my.yaml run.minutes=120 --run-dir runs/mine",
        "rlsuite train --resume runs/mine run.agent_steps=20_000_000",
        "rlsuite train classic/ppo runtime=ray runtime.collectors=2",
        "rlsuite train atari/apex runtime.address=auto runtime.collectors=120",
    )
)
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG [KEY=VALUE]...", help="A shipped config (rlsuite list configs) or a YAML file; overrides."),
    ] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Folder of the run; default: a new one under runs/.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run; its config needs no naming.")] = None,
    as_json: Json = False,
) -> None:
    """Train an agent, then evaluate it. Ctrl-C writes a checkpoint; --resume goes on from there."""
    from rlsuite import api

    given = arguments or []
    config = given[0] if given and "=" not in given[0] else None
    result = api.train(config, given[1:] if config else given, run_dir=run_dir, resume=resume)
    if as_json:
        print_json(result.as_dict())
    elif result.evaluation is not None:
        print(f"{result.agent_steps:,} agent steps, {result.learner_steps:,} learner steps, {result.wall_seconds:,.0f} s")
        print(_score(result.evaluation))
        more = f"rlsuite evaluate {result.run}" + (f" --video {result.run}/videos" if result.pictures else "")
        more = f"rlsuite ladder {result.run}" if result.board_game else more
        print(f"\n{more}\ntensorboard --logdir {result.run}")
    else:
        print(f"stopped at {result.agent_steps:,} agent steps; go on with: rlsuite train --resume {result.run}")
    if result.interrupted:
        raise typer.Exit(130)


@app.command(
    epilog=examples(
        "rlsuite evaluate runs/atari-pong__seed1__20260101-120000",
        "rlsuite evaluate runs/mine/checkpoints/step_000001000000 --episodes 100 --seed 7 --video videos",
        "rlsuite evaluate runs/connect_four --opponent 'mcts(simulations=1000)' --simulations 600",
        "rlsuite evaluate runs/connect_four --opponent solver",
    )
)
def evaluate(
    run_or_checkpoint: Annotated[Path, typer.Argument(help="A run folder (its newest checkpoint) or a checkpoint folder.")],
    episodes: Annotated[int | None, typer.Option(min=1, help="Whole games; default: the config's eval.episodes.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Of the games; default: from the run's seed.")] = None,
    video: Annotated[Path | None, typer.Option(help="Also record one game as MP4 into this folder.")] = None,
    opponent: Annotated[
        str | None,
        typer.Option(help="Of a board game: random, mcts(simulations=1000), gtp(command=...), or solver: graded positions."),
    ] = None,
    simulations: Annotated[int | None, typer.Option(min=0, help="Of a board game: a move; 0 (solver only): the net alone.")] = None,
    as_json: Json = False,
) -> None:
    """Score a saved agent: raw returns of whole games, played as well as it can."""
    from rlsuite.evaluation import evaluate as evaluation

    if opponent == "solver":
        if video is not None or seed is not None:
            raise UsageError("--opponent solver grades fixed positions: no --seed and no --video")
        count, grades = evaluation.grade(run_or_checkpoint, simulations, episodes)
        if as_json:
            print_json({"simulations": count, "grades": [grade._asdict() for grade in grades]})
        else:
            print(f"moves that give away what perfect play gets, {count} simulations a move (95% interval)")
            for grade in grades:
                low, high = grade.interval
                print(f"{grade.name:<18} {grade.mistakes:6.1%}  [{low:.1%}, {high:.1%}]  of {grade.positions} positions")
        return
    summary, videos = evaluation.evaluate(run_or_checkpoint, episodes, seed, video, opponent, simulations)
    if as_json:
        print_json({"eval": summary.as_dict(), "videos": [str(path) for path in videos]})
    else:
        print(_score(summary))
        for path in videos:
            print(f"video {path}")


def _score(summary: Any) -> str:
    low, high = summary.iqm_interval
    text = (
        f"return over {summary.episodes} games: mean {summary.mean:,.2f} ± {summary.std:,.2f}  median {summary.median:,.2f}  "
        f"IQM {summary.iqm:,.2f} [{low:,.2f}, {high:,.2f}] (95%)  min {summary.min:,.1f}  max {summary.max:,.1f}"
    )
    if summary.human_normalised is not None:
        text += f"  human-normalised {summary.human_normalised:.0%}"
    return text


@app.command(
    epilog=examples(
        "rlsuite record runs/mine --episodes 20 --out demonstrations/mine",
        "rlsuite record classic/key_door_r2d3 --policy rlsuite.envs.key_door:solve --episodes 100 --out demonstrations/key_door",
        "rlsuite record atari/pong --keyboard --episodes 1 --out demonstrations/pong --minari pong/human-v0",
        "rlsuite train classic/key_door_r2d3 replay.demonstrations=demonstrations/key_door replay.demonstration_ratio=0.25",
    )
)
def record(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|CONFIG [KEY=VALUE]...", help="A run or checkpoint, whose agent plays; or a config, for its environment."
        ),
    ],
    out: Annotated[Path, typer.Option(help="A new folder, for replay.demonstrations.")],
    policy: Annotated[
        str | None, typer.Option(help="package.module:function(env, observation) -> actions, which plays instead.")
    ] = None,
    keyboard: Annotated[bool, typer.Option("--keyboard", help="You play, in a window.")] = False,
    episodes: Annotated[int, typer.Option(min=1, help="Whole ones.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the environment.")] = 1,
    fps: Annotated[float, typer.Option(min=1, help="Steps a second, with --keyboard.")] = 15,
    minari: Annotated[str | None, typer.Option(help="Also write a Minari dataset, such as pong/human-v0.")] = None,
    as_json: Json = False,
) -> None:
    """Record demonstrations: of a saved agent, of a scripted policy, or of yours."""
    from rlsuite.config.loader import config_names, resolve
    from rlsuite.evaluation import record as recording
    from rlsuite.evaluation.saved_agent import Saved
    from rlsuite.replay import demonstrations

    source, settings = arguments[0], arguments[1:]
    demonstrations.check_new(out)
    if minari is not None:
        demonstrations.check_minari(minari)
    if policy is not None and keyboard:
        raise UsageError("--policy and --keyboard: one of them plays")
    if policy is None and not keyboard:
        if settings:
            raise UsageError(f"{settings[0]}: a saved agent plays as it was configured; overrides go with --policy or --keyboard")
        if not Path(source).exists() and source in config_names():
            raise UsageError(f"{source} is a config, and nobody plays: name a run, --policy or --keyboard")
        made = recording.from_agent(Saved(Path(source), device="auto"), episodes, seed)
    else:
        in_run = Path(source) / "config.yaml"
        section = resolve(in_run if in_run.is_file() else source, settings).env
        if keyboard:
            made = recording.from_keyboard(section, episodes, seed, fps)
        else:
            made = recording.from_policy(section, recording.find_policy(str(policy)), episodes, seed)
    demonstrations.save(made, out)
    if minari is not None:
        demonstrations.save_minari(made, minari)
    returns = made.returns()
    actions, mean = len(made.steps.first) - len(returns), sum(returns) / len(returns)
    if as_json:
        facts = {"folder": str(out), "episodes": len(returns), "actions": actions, "mean_return": mean, "minari": minari}
        print_json(facts)
    else:
        print(f"{len(returns)} episodes, {actions:,} actions, mean return {mean:,.2f}: {out}" + (f", {minari}" if minari else ""))
    if len(returns) < episodes:
        print(f"rlsuite: stopped: {len(returns)} of {episodes} episodes are kept", file=sys.stderr)
        raise typer.Exit(130)


play_cli.add_to(app)


@app.command(epilog=examples("rlsuite ladder runs/connect_four --games 40 --simulations 100 --out ladder.png"))
def ladder(
    run: Annotated[Path, typer.Argument(help="The run of a board game.")],
    games: Annotated[
        int, typer.Option(min=2, help="Between any two checkpoints, from random openings, each from both sides.")
    ] = 40,
    simulations: Annotated[int, typer.Option(min=1, help="A move.")] = 100,
    opening_moves: Annotated[int, typer.Option(min=0, help="Random moves at most before a game.")] = 4,
    checkpoints: Annotated[int, typer.Option(min=2, help="How many at most, evenly chosen.")] = 8,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("ladder.png"),
    as_json: Json = False,
) -> None:
    """Rate the checkpoints of a board run against each other."""
    from rlsuite.play import ladder as ladders

    games += games % 2  # every opening from both sides
    rungs = ladders.climb(run, games, simulations, opening_moves, checkpoints)
    ladders.draw(rungs, f"{run.name}: {games} games a pair, {simulations} simulations a move", out)
    if as_json:
        print_json({"picture": str(out), "rungs": [rung._asdict() for rung in rungs]})
    else:
        for rung in rungs:
            print(f"{rung.agent_steps:>12,}  {rung.elo:+7.0f}  [{rung.interval[0]:+.0f}, {rung.interval[1]:+.0f}]")
        print(f"picture {out}")


@app.command(epilog=examples("rlsuite compare runs/a runs/b runs/c --out curves.png"))
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; those that differ in the seed alone share a curve.")],
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("compare.png"),
    metric: Annotated[str, typer.Option(help="A tag of metrics.jsonl.")] = "charts/episodic_return",
    as_json: Json = False,
) -> None:
    """Draw learning curves (mean and spread over seeds) and print a table."""
    from dataclasses import asdict

    from rlsuite.evaluation import compare as comparison

    rows = comparison.compare(runs, out, metric)
    if as_json:
        print_json({"picture": str(out), "rows": [asdict(row) for row in rows]})
    else:
        print(comparison.format_table(rows))
        print(f"picture {out}")


KINDS = ("agents", "envs", "games", "configs", "nets")


@app.command("list", epilog=examples("rlsuite list configs", "rlsuite list envs --json"))
def list_(
    kind: Annotated[str, typer.Argument(help="agents, envs, games, configs or nets.")],
    as_json: Json = False,
) -> None:
    """List what there is by name."""
    if kind not in KINDS:
        raise unknown("list", kind, KINDS)
    from rlsuite.config.loader import config_names
    from rlsuite.core import registry

    if kind == "nets":
        from rlsuite.nets import catalogue

        if as_json:
            print_json({"nets": [facts._asdict() for facts in catalogue.known()]})
        else:
            print(catalogue.table())
            print(
                "\nAs torsos of agents: net.torso=NAME, or NAME(norm=none|group|layer,pool=flatten|gap); for vectors: mlp, onehot"
            )
        return
    names = {
        "agents": registry.agents.names,
        "envs": registry.envs.names,
        "games": registry.games.names,
        "configs": config_names,
    }[kind]()
    if as_json:
        print_json({kind: names})
    else:
        print("\n".join(names))


@app.command("check-game", epilog=examples("rlsuite check-game my_game.py", "rlsuite check-game 'go(size=7)' --games 1000"))
def check_game(
    game: Annotated[str, typer.Argument(help="A Python file or module with make(), or the name of a game.")],
    games: Annotated[int, typer.Option(min=1, help="How many random games.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the random games.")] = 0,
    as_json: Json = False,
) -> None:
    """Play random games of a board game and test that it keeps the contract of docs/own-game.md."""
    from rlsuite.boardgames.games import make_game
    from rlsuite.envs.boards import check

    made = make_game(game)
    facts = {"game": made.name, **check.check_game(made, games, seed)}
    _show(facts, as_json)


@app.command(epilog=examples("rlsuite info runs/mine", "rlsuite info runs/mine --json"))
def info(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Tell what a run is and how far it has come."""
    from rlsuite.cli.doctor import describe_run

    _show(describe_run(run), as_json)


@app.command(epilog=examples("rlsuite doctor", "rlsuite doctor --json"))
def doctor(as_json: Json = False) -> None:
    """Check this machine: versions, cores, memory, GPU, ROMs, Ray."""
    from rlsuite.cli.doctor import examine

    facts = examine()
    _show(facts, as_json)
    if facts["problems"]:
        raise typer.Exit(1)


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value)) or "none"
        print(f"{name:<14} {value}")


BENCHES = ("env", "inference", "collect", "replay", "learner", "train", "ppo", "sequences", "search", "torsos", "vision", "all")


@app.command(epilog=examples("rlsuite bench", "rlsuite bench learner replay --json", "rlsuite bench all --quick"))
def bench(
    names: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(BENCHES)}; default: all.")] = None,
    quick: Annotated[bool, typer.Option(help="Seconds instead of minutes; figures are rough.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each; the median counts.")] = 5,
    as_json: Json = False,
) -> None:
    """Measure this machine: each part beside a reference in the same run."""
    for name in names or []:
        if name not in BENCHES:
            raise unknown("benchmark", name, BENCHES)
    from rlsuite import bench as benchmarks

    report = benchmarks.run(names or ["all"], benchmarks.BenchSettings(quick=quick, repeats=repeats))
    if as_json:
        print_json(report)
    else:
        print(benchmarks.format_report(report))


def _version(wanted: bool) -> None:
    if wanted:
        from rlsuite.version import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


__all__ = ["UsageError", "app", "main"]
