"""start: seconds from launch until a command has done its first step, each time in a new process."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rlsuite.bench.measure import BenchSettings, Row, Target, say
from rlsuite.core.errors import RlsuiteError

_DONE = "first"
# Runs a command until a method has been called (`count`: with at least 1): module, class, method, arguments of rlsuite.
_UNTIL = f"""
import importlib, os, sys
module, name, method, *arguments = sys.argv[1:]
kind = getattr(importlib.import_module(module), name)
inner = getattr(kind, method)

def call(self, *values, **named):
    out = inner(self, *values, **named)
    if method != "count" or values[0] > 0:
        os.write(1, b"{_DONE}\\n")
        os._exit(0)
    return out

setattr(kind, method, call)
sys.argv = ["rlsuite", *arguments]
from rlsuite.cli.main import main
main()
"""


class _Start(NamedTuple):
    """A command, and how to recognise that it has started."""

    what: str
    words: list[str]  # after the Python interpreter
    typed: str  # text for its standard input
    shows: str  # text in the line of output that shows that it is done; "": it exits
    seconds: float  # limit with a warm cache


def _starts(settings: BenchSettings, run: Path) -> dict[str, _Start]:
    """The commands; those that train get the folder `run`, which must not exist."""
    learner, loop = ("rlsuite.learning.learner", "Learner", "step"), ("rlsuite.runtime.run_loop", "Loop", "count")
    small = ["run.threads=1", "replay.min_agent_steps=200"] if settings.quick else []

    def train(until: Sequence[str], config: str) -> list[str]:
        return ["-c", _UNTIL, *until, "train", config, *small, "--run-dir", str(run)]

    module = ["-m", "rlsuite"]
    gtp = [*module, "gtp", "mcts(simulations=2000)", "--game", "connect_four"]
    play, moves = [*module, "play", "connect_four"], "boards/connect_four"
    return {
        "help": _Start("rlsuite --help", [*module, "--help"], "", "", 0.5),
        "play": _Start("rlsuite play connect_four: the answer to a move", play, "d\n", " plays ", 3),
        "gtp": _Start("rlsuite gtp for Connect Four: the answer to genmove", gtp, "genmove b\n", "= ", 3),
        "selfplay": _Start(f"rlsuite train {moves}: the first move counted", train(loop, moves), "", _DONE, 5),
        "learner": _Start("rlsuite train atari/pong: the first learner step", train(learner, "atari/pong"), "", _DONE, 10),
    }


def bench_start(settings: BenchSettings) -> list[Row]:
    """Seconds of each command with the compilation cache of earlier processes, against those with an empty cache.

    With `quick` each command starts once, with the cache of this machine.
    """
    rows = []
    for name in _starts(settings, Path()):
        with tempfile.TemporaryDirectory() as folder:
            turns = 1 if settings.quick else 1 + min(settings.repeats, 3)
            cold, *later = (_seconds(name, settings, Path(folder), turn) for turn in range(turns))
            warm = statistics.median(later or [cold])
        start = _starts(settings, Path())[name]
        say(f"start/{name}: {cold:.2f} s with an empty cache, then {warm:.2f} s")
        what = f"{start.what}; against the first process on a machine, which compiles"
        rows.append(Row(f"start/{name}", what, "s", warm, cold, Target("ours", "<=", start.seconds)))
    return rows


def _seconds(name: str, settings: BenchSettings, folder: Path, turn: int) -> float:
    """Seconds that a command takes, with its compilation cache in `folder`, unless `quick`.

    RlsuiteError if it ends before it has done its part.
    """
    start = _starts(settings, folder / f"run{turn}")[name]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if not settings.quick:
        environment["NUMBA_CACHE_DIR"] = str(folder)
    words, pipe = [sys.executable, *start.words], subprocess.PIPE
    begin = time.perf_counter()
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(start.typed)
        process.stdin.flush()
        found = next((line for line in process.stdout if start.shows and start.shows in line), None)
        took = time.perf_counter() - begin
        if start.shows and found is None:
            raise RlsuiteError(f"start/{name}: {start.what} did not happen")
        process.kill()
    return took
