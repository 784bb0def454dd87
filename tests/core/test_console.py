"""Lines for a terminal that may be gone, and commands that can be copied into a shell."""

import os
import subprocess
import sys
from pathlib import Path

from rlsuite.core.console import command, say


def test_a_reader_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as out:
        os.close(reading)
        say("a", out)
        say("b", out)


def test_a_program_whose_output_nobody_reads_ends_well() -> None:
    code = "import sys; from rlsuite.core.console import say; sys.stdin.read(); [say('x' * 10_000, sys.stdout) for _ in range(100)]"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_a_closed_file_is_no_error(tmp_path: Path) -> None:
    out = open(tmp_path / "log", "w")  # noqa: SIM115
    out.close()
    say("a", out)


def test_commands_are_quoted_for_a_shell() -> None:
    assert command("rlsuite", "train", "--resume", Path("runs/plain")) == "rlsuite train --resume runs/plain"
    assert command("rlsuite", "evaluate", Path("my runs/it's; rm -rf *")) == "rlsuite evaluate 'my runs/it'\"'\"'s; rm -rf *'"
