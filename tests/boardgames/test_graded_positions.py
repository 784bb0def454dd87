"""Positions with known best moves: Connect Four's own are right, and files of users are read or refused with the reason."""

import csv
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.graded_positions import ONE_CLASS, own_positions, read
from rlsuite.core.errors import UsageError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_connect_four_has_six_classes_of_positions() -> None:
    game = make_game("connect_four")
    classes = own_positions(game)
    assert [(one.name, len(one.rows)) for one in classes] == [
        (name, 1000)
        for name in ("end-easy", "middle-easy", "middle-medium", "beginning-easy", "beginning-medium", "beginning-hard")
    ]
    assert all(one.right.any(1).all() for one in classes)
    assert all(np.isin(one.loss[~np.isnan(one.loss)], (0, 1, 2)).all() for one in classes)
    assert all(((one.loss == 0) == one.right).all() for one in classes)
    stones = [[int(row[16]) for row in one.rows] for one in classes]
    assert [(min(n) // 14, max(n) <= top) for n, top in zip(stones, (40, 28, 28, 14, 14, 14), strict=True)] == [
        (2, True),
        (1, True),
        (1, True),
        (0, True),
        (0, True),
        (0, True),
    ]
    with pytest.raises(UsageError, match=r"othello\(size=8\) has no graded positions"):
        own_positions(make_game("othello"))


def test_bitbully_agrees_with_the_graded_positions() -> None:
    bitbully = pytest.importorskip("bitbully")
    solver = bitbully.BitBully()
    with (files("rlsuite") / "envs" / "boards" / "connect_four_positions.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["class"] in ("end-easy", "middle-easy")][::25]
    for line in lines:
        scores = solver.score_all_moves(bitbully.Board(["abcdefg".index(move) for move in line["moves"].split()]))
        shown = [f"{'abcdefg'[m]}={(scores[m] > 0) - (scores[m] < 0)}" for m in range(7) if m in scores]
        assert " ".join(shown) == line["scores"]


def test_a_file_with_a_header(tmp_path: Path) -> None:
    path = written(
        tmp_path / "mine.csv",
        'note, class ,moves,best,scores\nx,early,b2 a1,c3 A3,\n\n,late,a1 b1 a2 b2 c1 c2,,a3=1 b3=0 c3=-2.5\n"x, y",early,,b2,\n',
    )
    early, late = read(path, make_game("tic_tac_toe"))
    assert (early.name, late.name) == ("early", "late")
    assert [np.flatnonzero(right).tolist() for right in early.right] == [[6, 8], [4]]
    assert np.isnan(early.loss).all()
    assert np.flatnonzero(late.right[0]).tolist() == [6]
    assert late.loss[0, 6:].tolist() == [0, 1, 3.5]
    assert np.isnan(late.loss[0, :6]).all()
    assert len(read(path, make_game("tic_tac_toe"), most=1)[0].rows) == 1


def test_boards_are_read_with_moves_after_them(tmp_path: Path) -> None:
    game = make_game("othello(size=4)")
    state = game.new_state().apply(1)
    escaped = str(state).replace("\n", "\\n")
    path = written(tmp_path / "mine.csv", f'position,moves,best\n"{state}",,a1\n{escaped},a1,pass\n')
    with pytest.raises(UsageError, match=r"line 7: best: pass is illegal there"):
        read(path, game)
    path = written(tmp_path / "mine.csv", f'position,moves,best\n"{state}",,a1\n{escaped},a1,a2\n')
    (found,) = read(path, game)
    assert np.array_equal(found.rows[0], state.row)
    assert np.array_equal(found.rows[1], state.apply(0).row)


def test_plain_text(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.txt", "# from a book\nb2 a1 ; c3 a3\n\na1 b1 a2 b2 c1 c2;a3=1 b3=0 c3=-1\n; b2\n")
    (found,) = read(path, make_game("tic_tac_toe"))
    assert found.name == ONE_CLASS
    assert [np.flatnonzero(right).tolist() for right in found.right] == [[6, 8], [6], [4]]
    assert found.loss[1, 6:].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.csv", "moves,best\nb2 b2,a1\n", r"a\.csv, line 2: move 2: b2 is illegal there"),
        ("a.csv", "moves,best\nb2,a1\nb2 x9,a1\n", r"a\.csv, line 3: move 2: 'x9' is no legal move there"),
        ("a.csv", "moves,best\na1 b1 a2 b2 a3,c3\n", "line 2: the game is over in this position"),
        ("a.csv", "moves,best\na1 b1 a2 b2 a3 c3,c2\n", "line 2: move 6: c3 is played after the end of the game"),
        ("a.csv", "moves,best\nb2,b2\n", "line 2: best: b2 is illegal there"),
        ("a.csv", "moves,best\nb2,\n", "line 2: give either the best moves or the scores"),
        ("a.csv", "moves,best,scores\nb2,a1,a1=1\n", "line 2: give either .* not both"),
        ("a.csv", "moves,scores\na1 b1 a2 b2 c1 c2,a3=1 b3=0\n", "line 2: scores: no score for c3"),
        ("a.csv", "moves,scores\na1 b1 a2 b2 c1 c2,a3=1 b3=? c3=0\n", r"line 2: scores: b3=\? is not move=score"),
        ("a.csv", "moves,scores\na1 b1 a2 b2 c1 c2,a3=1 b3=nan c3=0\n", "line 2: scores: b3=nan is not move=score"),
        ("a.csv", "moves,scores\na1 b1 a2 b2 c1 c2,a3=1 a3=0 c3=0\n", "line 2: scores: a3 has two scores"),
        ("a.csv", "class,moves,best\ntotal,b2,a1\n", "line 2: class: total is the name of the line for all classes"),
        ("a.csv", "moves,good\nb2,a1\n", r"line 1: no column best or scores in the header \(moves, good\)"),
        ("a.csv", "best\na1\n", "line 1: no column moves or position"),
        ("a.csv", "moves,moves,best\na1,b2,c3\n", r"line 1: a column of the header is there twice \(moves, moves, best\)"),
        ("a.csv", "moves,best\nb2,a1,a2\n", "line 2: 3 fields under a header of 2"),
        ("a.csv", 'moves,best\nb2,"a1\n', "line 2: unexpected end of data"),
        ("a.csv", "position,best\nxx,a1\n", "line 2: .*board text has 3 lines"),
        ("a.csv", "moves,best\n", r"a\.csv holds no positions"),
        ("a.csv", "", "holds no positions"),
        ("a.txt", "# nothing\n", "holds no positions"),
        ("a.txt", "b2\n", "line 1: a line is `moves ; best moves`"),
        ("a.txt", "b2 ; a1\nb2 ; a1 b2=3\n", "line 2: scores: a1 is not move=score"),
        ("absent.csv", None, "cannot read .*absent.csv"),
    ],
)
def test_what_cannot_be_read_is_refused_with_file_line_and_reason(
    name: str, text: str | None, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if text is not None:
        written(path, text)
    with pytest.raises(UsageError, match=complaint) as found:
        read(path, make_game("tic_tac_toe"))
    assert "\n" not in str(found.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"moves,best\n\xff\xfe,a1\n")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        read(tmp_path / "a.csv", make_game("tic_tac_toe"))
