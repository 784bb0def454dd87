"""The house keeps its shape: imports run down, files stay short, and the words of the field are used."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import rlsuite
from rlsuite.cli import main

ROOT = Path(rlsuite.__file__).resolve().parents[1]
SOURCES = [path for folder in ("rlsuite", "agents", "envs") for path in sorted((ROOT / folder).rglob("*.py"))]
# What house words replaced; a page that people read must not bring them back.
REPLACED = (
    "lanes", "of_lanes", "chunk", "chunks", "SliceSpec", "begin_with", "lockstep", "Fleet", "Judgement", "hopeless", "settled",
    "on the way", "of itself", "tells", "told", "judge", "opinions", "Opinions", "stale", "slice", "perfect", "quiet", "behind",
)  # fmt: skip


def test_imports_run_down_the_rooms_only() -> None:
    """The layers and the absence of circles, as `[tool.importlinter]` has them; lazy imports count."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_files_stay_short() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in long.items() if lines > 450} == {}


def test_the_package_itself_holds_five_modules() -> None:
    modules = sorted(path.name for path in (ROOT / "rlsuite").glob("*.py"))
    assert modules == ["__init__.py", "__main__.py", "api.py", "factories.py", "version.py"]


def test_agents_are_asked_by_their_contract() -> None:
    """No getattr or hasattr on an agent outside the file that defines what an agent is."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
                target = ast.unparse(node.args[0])
                if re.search(r"\bagent\b", target) and path.name != "agent.py":
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md", "CONTRIBUTING.md"])
def test_pages_use_the_words_of_the_field(page: str) -> None:
    text = (ROOT / page).read_text()
    assert [word for word in REPLACED if re.search(rf"\b{word}\b", text)] == []


def test_help_uses_the_words_of_the_field(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of rlsuite itself, of every command and of every group."""
    group: Any = typer.main.get_command(main.app)
    commands = [[], *([name] for name in group.commands), *(["vision", name] for name in group.commands["vision"].commands)]
    found = {}
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["rlsuite", *command, "--help"])
        with pytest.raises(SystemExit) as stop:
            main.main()
        assert stop.value.code == 0
        text = " ".join(capsys.readouterr().out.split())  # without line breaks inside of phrases
        if words := [word for word in REPLACED if re.search(rf"\b{word}\b", text)]:
            found[" ".join(command)] = words
    assert found == {}


@pytest.mark.parametrize(
    "page", [*sorted(path.name for path in (ROOT / "docs").glob("*.md")), "../README.md", "../CONTRIBUTING.md"]
)
def test_pages_wrap_at_100_columns(page: str) -> None:
    """Tables, code and links may be wider."""
    wide, code = [], False
    for number, line in enumerate((ROOT / "docs" / page).read_text().splitlines(), 1):
        code ^= line.startswith("```")
        if len(line) > 100 and not code and not line.lstrip().startswith(("|", "[", "!")):
            wide.append(number)
    assert wide == []
