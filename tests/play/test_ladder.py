"""Ladders rate checkpoints among themselves and against other players, which have settings of their own."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from rlsuite.cli.main import app
from rlsuite.core.errors import OpponentError, RlsuiteError, UsageError
from rlsuite.play import ladder
from rlsuite.play.ladder import Rung, climb

GNUGO = shutil.which("gnugo") or shutil.which("gnugo", path="/usr/games")
ENGINE = """
import sys
moves = 0
for line in sys.stdin:
    moves += line.startswith("genmove")
    if moves > 1:
        MISCHIEF
    print("= e1\\n" if line.startswith("genmove") else "= \\n", flush=True)
"""


def test_other_players_are_rated_beside_the_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first is 0 Elo; `--simulations` is that of the checkpoints only."""
    out = tmp_path / "ladder.png"
    arguments = ["ladder", "pretrained:tic_tac_toe", "--games", "4", "--simulations", "8", "--out", str(out)]
    arguments += ["--against", "mcts(simulations=2)", "--against", "random"]
    app([*arguments, "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["zero"] == "mcts(simulations=2)"
    checkpoint, mcts, random = found["rungs"]
    assert (mcts["elo"], mcts["interval"], mcts["agent_steps"]) == (0, [0, 0], None)
    assert checkpoint["agent_steps"] == int(Path(checkpoint["player"]).name.rpartition("_")[2])
    assert checkpoint["elo"] > random["elo"]
    assert [rung["failures"] for rung in found["rungs"]] == [0, 0, 0]
    assert out.read_bytes()[1:4] == b"PNG"
    app(arguments, standalone_mode=False)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "Elo with 95% intervals; 0 is mcts(simulations=2)"
    assert shown[2].split() == ["+0", "[+0,", "+0]", "mcts(simulations=2)"]
    assert shown[3].endswith("random")


def test_settings_of_the_players(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[tuple[str, int | None]]()

    class Made(Exception):
        pass

    def meet_pairs(pairs: list[tuple[ladder.Entrant, ladder.Entrant]], *rest: object) -> None:
        made.extend((one.name, one.simulations) for pair in pairs for one in pair)
        raise Made

    monkeypatch.setattr(ladder, "meet_pairs", meet_pairs)
    with pytest.raises(Made):
        climb(Path("pretrained:tic_tac_toe"), 2, 7, 0, 8, against=["random", "mcts(simulations=3)"])
    assert [(Path(name).name[:5], count) for name, count in made] == [
        ("rando", None),
        ("step_", 7),
        ("mcts(", None),
        ("step_", 7),
    ]


@pytest.mark.parametrize(
    ("against", "complaint"),
    [
        (["mtcs"], "did you mean mcts"),
        (["random", "random"], "named twice"),
        (["pretrained:hex"], r"plays hex\(size=6\), not tic_tac_toe"),
        (["gtp(command=no-such-program)"], "no program 'no-such-program'"),
        (["run(simulations=3)"], "run needs path"),
        ([], "has 1 checkpoints, a ladder needs two"),
    ],
)
def test_players_that_cannot_take_part_are_refused_before_any_game(
    against: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "meet_pairs", lambda *everything: pytest.fail("a game is played"))
    with pytest.raises((UsageError, OpponentError), match=complaint):
        climb(Path("pretrained:tic_tac_toe"), 2, 2, 0, 8, against=against)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("mischief", "ending"), [("sys.exit(1)", "has ended"), ("print('= nonsense\\n', flush=True); continue", "no legal move")]
)
def test_a_program_that_fails_loses_the_game_and_it_is_said(
    mischief: str, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "engine.py").write_text(ENGINE.replace("MISCHIEF", mischief))
    name = f"gtp(command={sys.executable} {tmp_path / 'engine.py'},seconds=20)"
    arguments = ["ladder", "pretrained:hex", "--games", "2", "--simulations", "2", "--opening-moves", "0", "--parallel", "1"]
    app([*arguments, "--against", name, "--out", str(tmp_path / "ladder.png")], standalone_mode=False)
    captured = capsys.readouterr()
    assert ending in captured.err
    shown = captured.out.splitlines()
    assert shown[2].endswith(f"{name}; lost by crashes, time-outs and illegal moves: 2")
    assert "+" in shown[1].split()[1]


@pytest.mark.integration
@pytest.mark.skipif(GNUGO is None, reason="gnugo is not installed")
def test_gnu_go_is_the_zero_of_a_ladder(tmp_path: Path) -> None:
    name = f"gtp(command={GNUGO} --mode gtp --level 0 --chinese-rules)"
    rungs = climb(Path("pretrained:go"), 2, 2, 2, 1, against=[name, "random"])
    assert [(rung.player, rung.elo) for rung in rungs if rung.player == name] == [(name, 0)]
    assert [rung.failures for rung in rungs] == [0, 0, 0]


def test_a_picture_of_many_players(tmp_path: Path) -> None:
    rungs = [Rung(10, 5.0, (0.0, 9.0), "a", 0), Rung(None, 0.0, (0.0, 0.0), "gtp(command=" + "x" * 200 + ")", 0)]
    rungs.append(Rung(None, -50.0, (-90.0, -10.0), "random", 0))
    ladder.draw(rungs, "a run", tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes()[1:4] == b"PNG"
    assert ladder.zero(rungs).startswith("gtp(")
    assert ladder.zero(rungs[:1]) == "oldest checkpoint"


def test_the_ratings_are_printed_if_the_picture_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ladder, "climb", lambda *_, **__: [Rung(500, 12.0, (-5.0, 29.0), "run", 0)])
    (tmp_path / "file").touch()
    with pytest.raises(RlsuiteError, match=r"cannot write .*ladder\.png"):
        app(["ladder", "pretrained:tic_tac_toe", "--out", str(tmp_path / "file" / "ladder.png")], standalone_mode=False)
    assert "+12  [-5, +29]" in capsys.readouterr().out
