"""`rlsuite bench`. Heavy imports are inside the command."""

from typing import Annotated

import typer

from rlsuite.cli.common import Json, examples, family, print_json
from rlsuite.core.errors import unknown

BENCHES = (
    *(
        "env",
        "inference",
        "collect",
        "precision",
        "replay",
        "learner",
        "train",
        "crowd",
        "ppo",
        "sequences",
        "search",
        "selfplay",
        "start",
    ),
    *("torsos", "vision", "all"),
)

app = family()


@app.command(epilog=examples("rlsuite bench", "rlsuite bench learner replay --json", "rlsuite bench all --quick"))
def bench(
    names: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(BENCHES)}; default: all.")] = None,
    quick: Annotated[bool, typer.Option(help="Smoke test: takes seconds instead of minutes; its figures mean nothing.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements per contender; the median is reported.")] = 5,
    as_json: Json = False,
) -> None:
    """Measure the speed of each part of rlsuite against a reference."""
    for name in names or []:
        if name not in BENCHES:
            raise unknown("benchmark", name, BENCHES)
    from rlsuite import bench as benchmarks

    report = benchmarks.run(names or ["all"], benchmarks.BenchSettings(quick=quick, repeats=repeats))
    if as_json:
        print_json(report)
    else:
        print(benchmarks.format_report(report))
