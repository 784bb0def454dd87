"""`rlsuite sweep` and `rlsuite report`: many runs, and one table. Heavy imports are inside the commands."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rlsuite.cli.common import Json, examples, family, print_json
from rlsuite.core.console import command, say

app = family()


@app.command(
    epilog=examples(
        "rlsuite sweep study.yaml --out studies/mine --jobs 2",
        "rlsuite sweep study.yaml --out /shared/studies/mine --jobs 200 --address auto",
        "rlsuite report studies/mine --baseline atari100k --out studies/mine/report",
    )
)
def sweep(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="File with config, seeds, games, axes, overrides, search.")],
    out: Annotated[Path, typer.Option(help="Folder of the study: a new one, or one to continue.")],
    jobs: Annotated[int, typer.Option(min=1, help="Trials to run in parallel, with one CPU thread each.")] = 1,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to run the trials on, such as auto; all its nodes must see the folder.")
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Attempts at a trial before it counts as failed.")] = 2,
    as_json: Json = False,
) -> None:
    """Run a study: configs, games, seeds and settings, or a search over them; see docs/studies.md.

    Repeat the command after Ctrl-C, a crash or a reboot: finished trials are skipped, interrupted ones continue.
    """
    from rlsuite.studies.sweep import sweep as run_sweep

    result = run_sweep(study, out, jobs, address, attempts)
    if as_json:
        print_json(result.as_dict())
    else:
        counts = {state: sum(job.state == state for job in result.trials) for state in ("finished", "pruned", "failed")}
        print(
            f"{', '.join(f'{count} {state}' for state, count in counts.items() if count) or 'nothing run'} of {result.total} trials"
        )
        if (best := result.best) is not None:
            setting = ", ".join(f"{key}={value}" for key, value in best["setting"].items())
            print(f"best setting {best['number']}, objective {best['objective']:,.2f}: {setting}")
        for name, error in result.failed.items():
            say(f"failed: {name}: {error}; {out / 'logs' / name}.log")
        again = command("rlsuite", "sweep", study, "--out", out)
        print(f"\ncontinue with: {again}" if result.interrupted else f"\n{command('rlsuite', 'report', out)}")
    if result.interrupted:
        raise typer.Exit(130)
    if result.failed:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "rlsuite report studies/mine --baseline atari100k --out studies/mine/report",
        "rlsuite report runs/a runs/b runs/c",
        "rlsuite report --baseline atari100k",
    )
)
def report(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[STUDY|RUN]...", help="Studies and runs; none: only the baseline's columns.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="Published scores to compare with: atari100k, atari57, or a .csv with game, random, human and agents."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write report.md, report.json and pictures; default: print Markdown.")
    ] = None,
    mixed_protocols: Annotated[
        bool, typer.Option("--mixed-protocols", help="Allow runs that were scored by different protocols in one report.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Report scores, aggregates with bootstrap intervals, profiles and curves of finished runs; see docs/studies.md.

    A run's score is its final evaluation. IQM over runs and IQM of game means are different numbers, and labelled as such.
    """
    from rlsuite.studies import pages
    from rlsuite.studies.report import report as make_report

    document: dict[str, Any] = make_report(folders or [], baseline, mixed_protocols)
    written = [] if out is None else pages.write(document, out)
    if as_json:
        print_json(document)
    elif out is None:
        print(pages.markdown(document))
    else:
        for path in written:
            print(path)
