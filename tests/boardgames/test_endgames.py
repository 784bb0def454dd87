"""Endgames are late, solved, all different, and the same for a seed; games without a solver are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rlsuite.boardgames.endgames import RESULTS, draw
from rlsuite.boardgames.games import make_game
from rlsuite.cli.main import app
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState


def test_endgames_of_othello() -> None:
    game = make_game("othello(size=4)")
    assert game.endgames is not None
    classes = draw(game, 30, seed=1)
    assert [one.name for one in classes] == [name for name in RESULTS if name in {one.name for one in classes}]
    rows = np.concatenate([one.rows for one in classes])
    assert len({row.tobytes() for row in rows}) == 30
    again = draw(game, 30, seed=1)
    assert all(np.array_equal(a.rows, b.rows) and np.array_equal(a.right, b.right) for a, b in zip(classes, again, strict=True))
    assert not np.array_equal(rows, np.concatenate([one.rows for one in draw(game, 30, seed=2)]))
    for one in classes:
        assert one.unit == "discs"
        for row, right, loss in zip(one.rows, one.right, one.loss, strict=True):
            assert game.endgames.empty(row) <= game.endgames.most
            legal = BoardState(game, row).legal_actions()
            assert np.flatnonzero(~np.isnan(loss)).tolist() == legal
            assert loss[legal].min() == 0 < loss[legal].max()
            assert right[loss == 0].all()
            if one.name == "lost":
                assert right[legal].all()


def test_endgames_of_hex_are_won_and_can_be_lost() -> None:
    (won,) = draw(make_game("hex(size=4)"), 20, seed=1)
    assert won.name == "won"
    assert np.isnan(won.loss).all()
    assert won.right.any(1).all()
    assert all(
        not right[BoardState(make_game("hex(size=4)"), row).legal_actions()].all() for row, right in zip(*won[1:3], strict=True)
    )


def test_games_without_endgames_are_refused() -> None:
    with pytest.raises(UsageError, match="connect_four has no solver of endgames"):
        draw(make_game("connect_four"), 5, seed=0)
    with pytest.raises(UsageError, match=r"found [0-9]+ of 500 endgames with at most 18 empty cells, and none in the last"):
        draw(make_game("hex(size=2)"), 500, seed=0)
    never = make_game("hex(size=3)")
    assert never.endgames is not None
    with pytest.raises(UsageError, match="found 0 of 3 endgames"):
        draw(replace(never, endgames=never.endgames._replace(most=0)), 3, seed=0)


@pytest.mark.integration
def test_endgames_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "pretrained:othello", "--opponent", "endgames", "--episodes", "6", "--simulations", "0"]
    app([*arguments, "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["grades"][-1]["positions"] == 6
    assert found["grades"][-1]["unit"] == "discs"
    app(arguments, standalone_mode=False)
    assert "moves that change the result under best play, with 0 simulations" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no --video and no --precision"):
        app([*arguments, "--precision", "bf16"], standalone_mode=False)
    with pytest.raises(UsageError, match="connect_four has no solver"):
        app(["evaluate", "pretrained:connect_four", "--opponent", "endgames"], standalone_mode=False)
