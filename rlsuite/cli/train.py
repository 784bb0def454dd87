"""`rlsuite train`. Heavy imports are inside the command."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from rlsuite.cli.common import ConfigArguments, Json, Resume, RunDir, Trust, config_and_overrides, examples, family, print_json
from rlsuite.cli.evaluate import describe_score
from rlsuite.core.console import command, say
from rlsuite.core.errors import UsageError
from rlsuite.core.limits import peak_bytes

app = family()


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
    arguments: ConfigArguments = None, run_dir: RunDir = None, resume: Resume = None, as_json: Json = False, trust: Trust = False
) -> None:
    """Train an agent, then evaluate it. Ctrl-C saves a checkpoint; --resume continues from it."""
    config, overrides = config_and_overrides(arguments)
    _train(config, overrides, run_dir, resume, as_json)


@app.command(
    epilog=examples(
        "rlsuite distill pretrained:pong atari/pong_pqn net.torso='small(norm=layer,widths=8-16-16)' net.hidden=64",
        "rlsuite distill runs/a runs/b boards/connect_four net.torso='tower(width=16,depth=4)'",
        "rlsuite train --resume runs/mine    # goes on with a student as with any run",
    )
)
def distill(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="TEACHER... CONFIG [KEY=VALUE]...", help="Saved agents to learn from, then the student's config."),
    ],
    run_dir: RunDir = None,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Train an agent to imitate trained agents.

    The policies of several teachers are averaged. Equivalent to `rlsuite train CONFIG` with `distill.teachers`.
    """
    from rlsuite.runs import checkpoint, pretrained_agents

    named = [argument for argument in arguments if "=" not in argument or Path(argument).exists()]
    if len(named) < 2:
        raise UsageError("name one or more teachers, and then the student's config, such as: pretrained:pong atari/pong_pqn")
    *teachers, config = named
    # Checkpoints rather than runs, which may be trained further: a resumed student then has the same teachers.
    places = [one if pretrained_agents.is_name(one) else str(checkpoint.find(Path(one))) for one in teachers]
    overrides = [f"distill.teachers={json.dumps(places)}", *(argument for argument in arguments if argument not in named)]
    _train(config, overrides, run_dir, None, as_json)


def _train(config: str | None, overrides: list[str], run_dir: Path | None, resume: Path | None, as_json: bool) -> None:
    from rlsuite import api

    result = api.train(config, overrides, run_dir=run_dir, resume=resume)
    if as_json:
        print_json(result.as_dict())
    elif result.evaluation is not None:
        cost = f"{result.wall_seconds:,.0f} s, {peak_bytes() / 1e9:.1f} GB of memory at most"
        print(f"{result.agent_steps:,} agent steps, {result.learner_steps:,} learner steps, {cost}")
        print(describe_score(result.evaluation))
        video = ["--video", f"{result.run}/videos"] if result.pictures else []
        more = ["ladder", str(result.run)] if result.board_game else ["evaluate", str(result.run), *video]
        print(f"\n{command('rlsuite', *more)}" if result.plays else "")
        print(command("tensorboard", "--logdir", result.run))
    else:
        again = command("rlsuite", "train", "--resume", result.run)
        say(f"stopped at {result.agent_steps:,} agent steps; continue with: {again}", sys.stdout)
    if result.interrupted:
        raise typer.Exit(130)
