"""Positions with known best moves, read from a file. Shapes: B positions, A actions, R bytes a row.

A CSV file has a header and some of these columns; others are ignored:

    class     a name for a group of positions that is graded by itself (optional)
    position  a board text as `Game.parse` reads it, line breaks in quotes or written as \\n; missing: the game's first position
    moves     the moves from there to the position, by their names, with blanks between them
    best      the best moves, with blanks between them; or else
    scores    `move=score` of every legal move, larger is better for the player to move

Any other file has a position on each line, `moves ; best moves` or `moves ; move=score ...`; lines that begin with # are comments.
A game can bring such a file (`Game.graded_positions`). Connect Four's has six classes of 1,000 positions with scores by a solver:
1 for a win, 0 for a draw, -1 for a loss (`scripts/connect_four_positions.py`).
"""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError, nearest, one_line
from rlsuite.core.files import reading
from rlsuite.core.game import BoardState, Game

ONE_CLASS = "positions"  # the class of positions without a class name
TOTAL = "total"  # the name of the grade of all classes together


class Graded(NamedTuple):
    """The positions of one class."""

    name: str  # such as beginning-hard
    rows: NDArray[np.int8]  # [B,R]
    right: NDArray[np.bool_]  # [B,A] whether a move is no mistake
    loss: NDArray[np.float64]  # [B,A] difference between the scores of the best move and a move; nan where no scores are known
    unit: str = "points"  # of the scores


class _Position(NamedTuple):
    """One position of a file, as written there."""

    where: str  # "positions.csv, line 3"
    name: str  # of its class
    board: str
    moves: str
    best: str
    scores: str


def own_positions(game: Game, most: int | None = None) -> list[Graded]:
    """The first `most` positions of every class in the game's own file. UsageError for a game without one."""
    if game.graded_positions is None:
        raise UsageError(f"{game.name} has no graded positions (a game names a file of them as graded_positions)")
    return read(game.graded_positions, game, most)


def read(path: Path, game: Game, most: int | None = None) -> list[Graded]:
    """The first `most` positions of every class in a file of `game`.

    UsageError, with the line and the reason, for a file that cannot be read as above: a column or a score is missing, a score is no
    number, a move is unknown or illegal, the game is over, or there is no position.
    """
    by_class: dict[str, list[tuple[NDArray[np.int8], NDArray[np.bool_], NDArray[np.float64]]]] = {}
    for position in _written(path):
        found = by_class.setdefault(position.name, [])
        if most is None or len(found) < most:
            try:
                found.append(_graded(position, game))
            except UsageError as error:
                raise UsageError(f"{position.where}: {one_line(error)}") from error
    if not by_class:
        raise UsageError(f"{path} holds no positions")
    return [
        Graded(name, np.stack([one[0] for one in found]), np.stack([one[1] for one in found]), np.stack([one[2] for one in found]))
        for name, found in by_class.items()
    ]


def _written(path: Path) -> Iterator[_Position]:
    """Yields the positions of a file, as written there."""
    with reading(path):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
    return _from_csv(text, path) if path.suffix.lower() == ".csv" else _from_lines(text, path)


def _from_csv(text: str, path: Path) -> Iterator[_Position]:
    lines = csv.reader(text.splitlines(keepends=True), skipinitialspace=True, strict=True)
    columns: list[str] = []
    try:
        for fields in lines:
            where = f"{path}, line {lines.line_num}"
            if not any(field.strip() for field in fields):
                continue
            if not columns:
                columns = [field.strip().lower() for field in fields]
                _check_columns(columns, where)
                continue
            if len(fields) != len(columns):
                raise UsageError(f"{where}: {len(fields)} fields under a header of {len(columns)}")
            found = {column: field.strip() for column, field in zip(columns, fields, strict=True)}
            if found.get("class") == TOTAL:
                raise UsageError(f"{where}: class: {TOTAL} is the name of the line for all classes; choose another")
            board = found.get("position", "").replace("\\n", "\n")
            yield _Position(
                where,
                found.get("class") or ONE_CLASS,
                board,
                *(found.get(column, "") for column in ("moves", "best", "scores")),
            )
    except csv.Error as error:
        raise UsageError(f"{path}, line {lines.line_num}: {error}") from error


def _check_columns(columns: list[str], where: str) -> None:
    """UsageError for a header without a column that is needed, or with one twice."""
    if len(set(columns)) < len(columns):
        raise UsageError(f"{where}: a column of the header is there twice ({', '.join(columns)})")
    if not {"moves", "position"} & set(columns):
        raise UsageError(f"{where}: no column moves or position in the header ({', '.join(columns)})")
    if not {"best", "scores"} & set(columns):
        raise UsageError(f"{where}: no column best or scores in the header ({', '.join(columns)})")


def _from_lines(text: str, path: Path) -> Iterator[_Position]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where, parts = f"{path}, line {number}", line.split(";")
        if len(parts) != 2:
            raise UsageError(f"{where}: a line is `moves ; best moves`, with one semicolon (a file with a header ends in .csv)")
        scored = any(_number(word.rpartition("=")[2]) is not None for word in parts[1].split())
        yield _Position(where, ONE_CLASS, "", parts[0], "" if scored else parts[1], parts[1] if scored else "")


def _graded(position: _Position, game: Game) -> tuple[NDArray[np.int8], NDArray[np.bool_], NDArray[np.float64]]:
    """The row [R], whether each move is no mistake [A], and how much it loses [A]. UsageErrors do not name file and line."""
    state = game.parse_state(position.board) if position.board else game.new_state()
    for number, word in enumerate(position.moves.split(), 1):
        if state.is_terminal():
            raise UsageError(f"move {number}: {word} is played after the end of the game")
        state = state.apply(action_named(state, word, f"move {number}: "))
    if state.is_terminal():
        raise UsageError("the game is over in this position")
    right, loss = np.zeros(game.num_actions, bool), np.full(game.num_actions, np.nan)
    if bool(position.best.strip()) == bool(position.scores.strip()):
        raise UsageError("give either the best moves or the scores of the moves" + (", not both" if position.best.strip() else ""))
    if position.best.strip():
        right[[action_named(state, word, "best: ") for word in position.best.split()]] = True
        return state.row, right, loss
    for pair in position.scores.split():
        name, _, value = pair.rpartition("=")
        score = _number(value)
        if not name or score is None:
            raise UsageError(f"scores: {pair} is not move=score, with a number")
        action = action_named(state, name, "scores: ")
        if not np.isnan(loss[action]):
            raise UsageError(f"scores: {name} has two scores")
        loss[action] = score
    legal = state.legal_actions()
    if missing := [state.text_of(action) for action in legal if np.isnan(loss[action])]:
        raise UsageError(f"scores: no score for {' '.join(missing)}; every legal move needs one (else name the best moves only)")
    loss = np.nanmax(loss) - loss
    return state.row, loss == 0, loss


def _number(text: str) -> float | None:
    """A finite number; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def action_named(state: BoardState, name: str, where: str = "") -> int:
    """The legal action of that name; case is ignored unless that would be ambiguous, as with Bxc3 and bxc3.

    UsageError for a move that is illegal or unknown in the game; `where` is put before the reason.
    """
    game, legal = state.game, state.legal_actions()
    exact = {state.text_of(action): action for action in legal}
    if name in exact:
        return exact[name]
    if len(same := [action for text, action in exact.items() if text.lower() == name.lower()]) == 1:
        return same[0]
    if game.move_text is None and name.lower() in {game.action_text(action).lower() for action in range(game.num_actions)}:
        raise UsageError(f"{where}{name} is illegal there")
    close = nearest(name, exact)
    raise UsageError(f"{where}{name!r} is no legal move there" + (f"; did you mean {' or '.join(close)}?" if close else ""))
