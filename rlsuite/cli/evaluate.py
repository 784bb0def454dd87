"""`rlsuite evaluate`, `compare`, `record` and `label`: scores, curves and demonstrations. Heavy imports are inside the commands."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlsuite.cli.common import Json, RunOrCheckpoint, Trust, examples, family, print_json
from rlsuite.core.errors import UsageError

if TYPE_CHECKING:
    from rlsuite.evaluation.grading import Grade
    from rlsuite.evaluation.statistics import Summary

SOLVER, ENDGAMES = "solver", "endgames"  # instead of an opponent: positions that a solver has scored before, or scores now

app = family()


@app.command(
    epilog=examples(
        "rlsuite evaluate runs/atari-pong__seed1__20260101-120000",
        "rlsuite evaluate runs/mine/checkpoints/step_000001000000 --episodes 100 --seed 7 --video videos",
        "rlsuite evaluate pretrained:pong --recolour inverted,hue",
        "rlsuite evaluate runs/connect_four --opponent 'mcts(simulations=1000)' --simulations 600",
        "rlsuite evaluate runs/connect_four --opponent solver",
        "rlsuite evaluate runs/othello --opponent endgames --episodes 500 --seed 1",
        "rlsuite evaluate runs/othello --positions mine.csv --simulations 0",
    )
)
def evaluate(
    run_or_checkpoint: RunOrCheckpoint,
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Episodes to play; default: eval.episodes. Graded positions: the maximum per class. Endgames: default 200.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**31 - 1, help="Seed of the episodes; default: derived from the run's seed; for endgames: 0."),
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Also record one episode as an MP4 in this folder.")] = None,
    opponent: Annotated[
        str | None,
        typer.Option(
            help="Board games: random, mcts(simulations=1000), gtp(command=...), or solver or endgames to grade positions."
        ),
    ] = None,
    simulations: Annotated[
        int | None,
        typer.Option(
            min=0, help="Board games: simulations per move; for graded positions, 0 plays the net's best move without search."
        ),
    ] = None,
    positions: Annotated[
        Path | None, typer.Option(help="Board games: grade the agent on positions from a file, with known best moves.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or int8 (`rlsuite export --int8`); default: the training precision.")
    ] = None,
    agent: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Override a key in the `agent` section of the config, such as target_return=200."),
    ] = None,
    recolour: Annotated[
        str | None,
        typer.Option(
            help="Atari: colours to play in, separated by commas: inverted, hue(degrees=180), or none for the game's own; each in "
            "turn."
        ),
    ] = None,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Score a saved agent over whole episodes: undiscounted returns, no exploration (value agents use agent.epsilon_eval).

    Intervals count only distinct games, because a game that a nearly deterministic agent repeats adds no information.
    """
    from rlsuite.config.loader import parse_override
    from rlsuite.config.spec_string import split_calls
    from rlsuite.evaluation import evaluate as evaluation

    settings = dict(parse_override(text) for text in agent or ())
    if (settings or recolour is not None) and (positions is not None or opponent in (SOLVER, ENDGAMES)):
        what = "--agent" if settings else "--recolour"
        raise UsageError(f"{what} is for whole games: positions are graded with the agent as it is")
    if positions is not None or opponent == SOLVER:
        what = "--positions" if positions is not None else f"--opponent {SOLVER}"
        if positions is not None and opponent is not None:
            raise UsageError("--positions and --opponent exclude each other: name one of them")
        if video is not None or seed is not None or precision is not None:
            raise UsageError(f"{what} grades fixed positions: no --seed, no --video and no --precision")
        count, grades = evaluation.grade(run_or_checkpoint, simulations, episodes, positions)
        _print_grades(grades, count, "mistakes: moves that are not among the best", as_json)
        return
    if opponent == ENDGAMES:
        if video is not None or precision is not None:
            raise UsageError(f"--opponent {ENDGAMES} grades positions: no --video and no --precision")
        count, grades = evaluation.grade_endgames(run_or_checkpoint, simulations, episodes or 200, seed or 0)
        _print_grades(grades, count, "mistakes: moves that change the result under best play", as_json)
        return
    colours: list[str | None] = [None]
    if recolour is not None:
        colours = [*(split_calls(recolour) or [recolour])]
        for text in split_calls(recolour):
            evaluation.check_colours(text)  # refuses unknown colours before the first game
    found = {
        colour or "": evaluation.evaluate(
            run_or_checkpoint, episodes, seed, video, opponent, simulations, precision, settings, colour
        )
        for colour in colours
    }
    videos = [path for one in found.values() for path in one.videos]
    size = next(iter(found.values())).size
    if as_json:
        summaries = {name: one.summary.as_dict() for name, one in found.items()}
        scores = {"eval": summaries[""]} if recolour is None else {"recoloured": summaries}
        print_json({**scores, "videos": [str(path) for path in videos], "net": size._asdict()})
        return
    for name, one in found.items():
        print(f"{name}: " * bool(name) + describe_score(one.summary))
    cost = "" if size.macs is None else f", {size.macs:,} multiply-accumulate operations for an observation"
    print(f"net: {size.parameters:,} parameters{cost}")
    for path in videos:
        print(f"video {path}")


def _print_grades(grades: "list[Grade]", simulations: int, what: str, as_json: bool) -> None:
    """Prints a line for each class, below a line that explains what counts as a mistake."""
    if as_json:
        print_json({"simulations": simulations, "grades": [grade._asdict() for grade in grades]})
        return
    print(f"{what}, with {simulations} simulations per move (95% intervals)")
    width = max(18, *(len(grade.name) for grade in grades))
    for grade in grades:
        low, high = grade.interval
        text = f"{grade.name:<{width}} {grade.mistakes:6.1%}  [{low:.1%}, {high:.1%}]  of {grade.positions} positions"
        text += f" (random moves: {grade.random:.1%})"
        if grade.loss is not None:
            interval = "" if grade.loss_interval is None else " [{:.2f}, {:.2f}]".format(*grade.loss_interval)
            text += f"; mean loss {grade.loss:.2f}{interval} {grade.unit}"
        print(text)


def describe_score(summary: "Summary") -> str:
    """The statistics of an evaluation on one line."""
    from rlsuite.evaluation.statistics import describe_mean

    half_width = summary.mean_interval and summary.mean_interval[1] - summary.mean
    iqm = "unknown" if summary.iqm_interval is None else "[{:,.2f}, {:,.2f}]".format(*summary.iqm_interval)
    text = (
        f"return {describe_mean(summary.mean, half_width, summary.episodes, summary.different_games)}  std {summary.std:,.2f}  "
        f"median {summary.median:,.2f}  IQM {summary.iqm:,.2f} {iqm}  min {summary.min:,.1f}  max {summary.max:,.1f}"
    )
    if summary.human_normalised is not None:
        text += f"  human-normalised {summary.human_normalised:.0%}"
    for game, mean in (summary.by_game or {}).items():
        text += f"  {game} {mean:,.2f}"
    return f"{text}  (intervals: 95%)"


@app.command(epilog=examples("rlsuite compare runs/a runs/b runs/c --out curves.png"))
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; runs that differ only in the seed share a curve.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("compare.png"),
    metric: Annotated[str, typer.Option(help="Metric to plot, as named in metrics.jsonl.")] = "charts/episodic_return",
    as_json: Json = False,
) -> None:
    """Plot learning curves with mean and range over seeds.

    Also prints a table with one row per group of seeds.
    """
    from dataclasses import asdict

    from rlsuite.evaluation import compare as comparison

    rows = comparison.compare(runs, out, metric)
    if as_json:
        print_json({"picture": str(out), "rows": [asdict(row) for row in rows]})
    else:
        print(comparison.format_table(rows))
        print(f"picture {out}")


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
            metavar="RUN|CONFIG [KEY=VALUE]...", help="A run or checkpoint whose agent plays, or a config for its environment."
        ),
    ],
    out: Annotated[Path, typer.Option(help="New folder to write, for replay.demonstrations.")],
    policy: Annotated[
        str | None,
        typer.Option(help="Policy to play instead: package.module:function or file.py:function, called with (env, observation)."),
    ] = None,
    keyboard: Annotated[bool, typer.Option("--keyboard", help="Play yourself, in a window.")] = False,
    episodes: Annotated[int, typer.Option(min=1, help="Whole episodes to record.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the environment.")] = 1,
    fps: Annotated[float, typer.Option(min=1, help="Steps per second, with --keyboard.")] = 15,
    minari: Annotated[str | None, typer.Option(help="Also write a Minari dataset, such as pong/human-v0.")] = None,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Record demonstrations from an agent, a policy or your own play."""
    from rlsuite.config.loader import resolve
    from rlsuite.config.shipped import config_names
    from rlsuite.evaluation import record as recording
    from rlsuite.evaluation.saved_agent import Saved
    from rlsuite.replay import demonstrations
    from rlsuite.runs import run_folder

    source, settings = arguments[0], arguments[1:]
    demonstrations.check_new(out)
    if minari is not None:
        demonstrations.check_minari(minari)
    if policy is not None and keyboard:
        raise UsageError("--policy and --keyboard exclude each other: only one of them can play")
    if policy is None and not keyboard:
        if settings:
            raise UsageError(f"{settings[0]}: a saved agent plays as it was configured; overrides need --policy or --keyboard")
        if not Path(source).exists() and source in config_names():
            raise UsageError(f"{source} is a config, whose agent is untrained: name a run, or give --policy or --keyboard")
        made = recording.from_agent(Saved(Path(source), device="auto"), episodes, seed)
    else:
        in_run = Path(source) / "config.yaml"
        run_folder.admit_config(in_run if in_run.is_file() else source, settings)
        section = (resolve(in_run, settings, saved=True) if in_run.is_file() else resolve(source, settings)).env
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
        print(f"rlsuite: stopped: kept {len(returns)} of {episodes} episodes", file=sys.stderr)
        raise typer.Exit(130)


@app.command(
    epilog=examples(
        "rlsuite train atari/pong_actions replay.demonstrations=demonstrations/pong",
        "rlsuite label demonstrations/seen --with runs/NAME --out demonstrations/labelled",
    )
)
def label(
    recording: Annotated[Path, typer.Argument(help="Recording whose actions are missing (no action.npy) or are to be replaced.")],
    run: Annotated[Path, typer.Option("--with", help="Run or checkpoint of agent.name=inverse_dynamics.")],
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Label a recording with actions inferred by an inverse-dynamics model, as demonstrations for other agents."""
    from rlsuite.evaluation import label as labelling
    from rlsuite.replay import demonstrations

    demonstrations.check_new(out)
    made, scores = labelling.label(recording, run)
    demonstrations.save(made, out)
    episodes = len(made.returns())
    actions = len(made.steps.first) - episodes
    score = None if scores is None else sum(scores) / len(scores)
    if as_json:
        print_json({"folder": str(out), "episodes": episodes, "actions": actions, "score": score})
        return
    compared = ""
    if score is not None:
        compared = f"; the recorded ones {f'are the same in {score:.1%}' if made.spec.num_actions else f'score {score:.4g}'}"
    print(f"{episodes} episodes, {actions:,} actions{compared}: {out}")
