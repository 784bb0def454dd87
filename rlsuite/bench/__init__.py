"""`rlsuite bench`: our speed against reference implementations, measured alternately in one process.

Both sides of a row use the same number of torch threads. For meaningful figures nothing else may run on the machine.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlsuite.bench.acting import bench_collect, bench_env, bench_inference
from rlsuite.bench.crowd import bench_crowd
from rlsuite.bench.learner import bench_learner
from rlsuite.bench.measure import PLAIN, BenchSettings, Row, config, machine, say
from rlsuite.bench.policy import bench_ppo
from rlsuite.bench.precision import bench_precision
from rlsuite.bench.replay import bench_replay
from rlsuite.bench.search import bench_search
from rlsuite.bench.selfplay import bench_selfplay
from rlsuite.bench.sequences import bench_sequences
from rlsuite.bench.start import bench_start
from rlsuite.bench.train import bench_train
from rlsuite.bench.vision import bench_torsos, bench_vision
from rlsuite.core import cpu
from rlsuite.core.errors import UsageError, unknown
from rlsuite.factories import device_of

BENCHMARKS: dict[str, Callable[[BenchSettings], list[Row]]] = {
    "env": bench_env,
    "inference": bench_inference,
    "collect": bench_collect,
    "precision": bench_precision,
    "replay": bench_replay,
    "learner": bench_learner,
    "train": bench_train,
    "crowd": bench_crowd,
    "ppo": bench_ppo,
    "sequences": bench_sequences,
    "search": bench_search,
    "selfplay": bench_selfplay,
    "start": bench_start,
    "torsos": bench_torsos,
    "vision": bench_vision,
}
__all__ = ["BENCHMARKS", "BenchSettings", "format_report", "run"]


def run(names: Sequence[str], settings: BenchSettings) -> dict[str, Any]:
    """Runs the named benchmarks, or all of them for `all`, and returns {machine, settings, results}, ready for JSON.

    Each result has name, what, ours, reference, unit, ratio (ours / reference), target and met; None if there is nothing to report.
    Progress goes to stderr. UsageError for an unknown name, no name, or a device that is not available.
    """
    for name in names:
        if name not in BENCHMARKS and name != "all":
            raise unknown("benchmark", name, [*BENCHMARKS, "all"])
    if not names:
        raise UsageError(f"name a benchmark: {', '.join([*BENCHMARKS, 'all'])}")
    settings = settings.as_run()
    assert settings.threads is not None
    facts = machine(device_of(config(settings, PLAIN)), settings.threads)
    say(_headline(facts))
    if warning := _warning(facts):
        say(warning)
    threads_before = torch.get_num_threads()
    cpu.set_up(settings.threads)
    rows = []
    try:
        for name, benchmark in BENCHMARKS.items():
            if name in names or "all" in names:
                rows += benchmark(settings)
    finally:
        torch.set_num_threads(threads_before)
    verdict = {"met": None} if settings.quick else {}  # the figures of a smoke test mean nothing
    return {"machine": facts, "settings": asdict(settings), "results": [row.as_dict() | verdict for row in rows]}


def format_report(report: dict[str, Any], width: int = 132) -> str:
    """The report that `run` returned, as a text table `width` characters wide."""
    settings = report["settings"]
    table = Table(show_lines=True)
    for title in ("benchmark", "what was compared"):
        table.add_column(title)
    for title in ("ours", "reference", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for result in report["results"]:
        met = {True: ": met", False: ": missed", None: ""}[result["met"]]
        cells = (
            result["name"],
            f"{result['what']} [{result['unit']}]",
            _number(result["ours"]),
            _number(result["reference"]),
            "-" if result["ratio"] is None else f"{result['ratio']:.2f}",
            "-" if result["target"] is None else result["target"] + met,
        )
        table.add_row(*(Text(cell) for cell in cells))
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None)
    console.print(Text(_headline(report["machine"])))
    if warning := _warning(report["machine"]):
        console.print(Text(warning))
    console.print(Text(f"medians of {settings['repeats']} turns of {settings['seconds']:g} s, ours alternating with the reference"))
    if settings["quick"]:
        console.print(Text("a quick smoke test: these figures are meaningless"))
    console.print(table)
    return out.getvalue()


def _headline(facts: dict[str, Any]) -> str:
    gpu = f", {facts['gpu']}" if facts["gpu"] else ""
    load = "unknown" if facts["load"] is None else f"{facts['load']:.2f}"
    return (
        f"{facts['cpu']}, {facts['cores']} cores{gpu}, torch {facts['torch']}, torch threads {facts['threads']} on both sides, "
        f"1-minute load {load}{'' if facts['bf16'] else ', no bf16: rows that name it compute in fp32'}"
    )


def _warning(facts: dict[str, Any]) -> str | None:
    if facts["load"] is None or facts["load"] <= 0.5 * facts["cores"]:
        return None
    return f"warning: load {facts['load']:.2f} on {facts['cores']} cores: something else was running, do not trust these figures"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
