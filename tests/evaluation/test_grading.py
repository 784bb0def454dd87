"""Shares of mistakes and mean losses on graded positions."""

import json
from pathlib import Path

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.graded_positions import Graded, own_positions
from rlsuite.boardgames.ratings import wilson
from rlsuite.cli.main import app
from rlsuite.core.errors import UsageError
from rlsuite.evaluation.grading import grade
from rlsuite.search import Gumbel, Puct, uniform_evaluator


def test_mistakes_and_losses_by_hand() -> None:
    """Uniform logits play the first legal move: a1 in the first position, b1 in the second, c1 in the third."""
    game = make_game("tic_tac_toe")
    state = game.new_state()
    rows = [state.row, state.apply(0).row, state.apply(0).apply(1).row]
    right, loss = np.zeros((3, 9), bool), np.full((3, 9), np.nan)
    right[0, 0] = right[1, 4] = right[2, 4] = True
    loss[1], loss[2] = 3, 0.5
    classes = [Graded("known", np.stack(rows[1:]), right[1:], loss[1:], "discs"), Graded("new", rows[0][None], right[:1], loss[:1])]
    seen = list[tuple[int, int]]()
    grades = grade(uniform_evaluator(game), game, classes, 0, Gumbel(), False, total=True, show=lambda *at: seen.append(at))
    assert [(one.name, one.positions, one.loss, one.unit) for one in grades] == [
        ("known", 2, 1.75, "discs"),
        ("new", 1, None, "points"),
        ("total", 3, 1.75, "discs"),
    ]
    assert [one.mistakes for one in grades] == [1.0, 0.0, pytest.approx(2 / 3)]
    assert [one.random for one in grades] == [
        pytest.approx(share) for share in ((7 / 8 + 6 / 7) / 2, 8 / 9, (7 / 8 + 6 / 7 + 8 / 9) / 3)
    ]
    assert grades[2].interval == wilson(2 / 3, 3)
    assert grades[0].loss_interval == (0.5, 3.0)
    assert seen == [(0, 3), (2, 3)]
    assert len(grade(uniform_evaluator(game), game, classes[:1], 0, Gumbel(), False, total=True)) == 1


@pytest.mark.integration
def test_a_search_to_the_end_makes_no_mistakes() -> None:
    """The positions are right where a search can prove it: in endgames."""
    game, play = make_game("connect_four"), Puct(noise_fraction=0.0)
    classes = own_positions(game, 200)[:1]
    end = grade(uniform_evaluator(game), game, classes, 2000, play, solve=True)[0]
    assert end.mistakes <= 0.01
    assert end.loss is not None
    assert end.loss <= 0.02
    knows_nothing = grade(uniform_evaluator(game), game, classes, 0, Gumbel(), solve=False)[0]
    assert knows_nothing.mistakes > 0.2


def test_positions_of_a_user_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("class,moves,best\nwin,a1 b1 a2 b2,a3\nblock,b2 a1 c3 b1,c1\n")
    app(["evaluate", "pretrained:tic_tac_toe", "--positions", str(path)], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "win                  0.0%  [0.0%, 79.3%]  of 1 positions" in shown
    assert "total" in shown
    app(["evaluate", "pretrained:tic_tac_toe", "--positions", str(path), "--simulations", "0", "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["simulations"] == 0
    assert [one["name"] for one in found["grades"]] == ["win", "block", "total"]
    for more, complaint in ((["--opponent", "random"], "exclude each other"), (["--seed", "3"], "--positions grades fixed")):
        with pytest.raises(UsageError, match=complaint):
            app(["evaluate", "pretrained:tic_tac_toe", "--positions", str(path), *more], standalone_mode=False)
    path.write_text("moves,best\na1 a1,a2\n")
    with pytest.raises(UsageError, match=r"mine\.csv, line 2: move 2: a1 is illegal there"):
        app(["evaluate", "pretrained:tic_tac_toe", "--positions", str(path)], standalone_mode=False)
