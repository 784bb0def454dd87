"""Opponents by name."""

import os
from pathlib import Path

import pytest

from rlsuite.boardgames.opponents import located_opponent
from rlsuite.config.loader import resolve


def test_commands_with_relative_paths_work_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my engine").write_text("#!/bin/sh\n")
    os.chmod(tmp_path / "my engine", 0o755)
    (tmp_path / "book.dat").touch()
    monkeypatch.chdir(tmp_path)
    found = located_opponent("gtp(command=\"'./my engine' --book book.dat --level 3\",seconds=5)")
    assert found == f"gtp(command=\"'{tmp_path}/my engine' --book {tmp_path}/book.dat --level 3\",seconds=5)"
    config = resolve("boards/hex", {"env.opponent": "gtp(command=sh book.dat)"})
    assert config.env.opponent == f"gtp(command=sh {tmp_path}/book.dat)"  # type: ignore[attr-defined]


def test_other_opponents_stay_as_they_are() -> None:
    for name in ("random", "mcts(simulations=7)", "gtp(command=gnugo --mode gtp)", "gtp(command='a)", 'gtp(command="it\'s")'):
        assert located_opponent(name) == name
