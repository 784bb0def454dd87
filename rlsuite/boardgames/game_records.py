"""Reads and writes game records: SGF for Go, Hex, Othello and Gomoku, PGN for chess, and a text format of our own for any game.

Our text format names the game and lists the actions by number, so that it works for every game.
"""

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

from rlsuite.boardgames import pgn, sgf
from rlsuite.boardgames.games import make_game, own_game
from rlsuite.boardgames.record import BadRecord, GameRecord, Replay, single_spaced
from rlsuite.core import registry
from rlsuite.core.console import say
from rlsuite.core.errors import UsageError
from rlsuite.core.files import atomic_write, parse_json, reading
from rlsuite.core.game import Game

_HEAD = "rlsuite game"
_MOST_BYTES = 64 << 20  # of a file of records


def suffix(game: Game) -> str:
    """The file name suffix of a game's records: `.sgf`, `.pgn` or `.txt`."""
    shown = game.presentation
    return ".sgf" if shown.sgf is not None else ".pgn" if shown.uci is not None else ".txt"


def write(
    path: Path, game: Game, actions: list[int], players: tuple[str, str], points: float | None = None, ending: str = ""
) -> None:
    """Writes a game, from `game.new_state()` on, in the format of its `suffix`.

    `points`: of player 0: 1, 0.5, 0, or None if the game is not over. `ending`: how it ended, if not by the rules.
    """
    form: Callable[..., str] = {".sgf": sgf.written, ".pgn": pgn.written, ".txt": _text}[suffix(game)]
    atomic_write(path, form(game, actions, players, points, ending))


def _text(game: Game, actions: list[int], players: tuple[str, str], points: float | None, ending: str) -> str:
    lines = [_HEAD, f"game: {game.name}", f"players: {players[0]} | {players[1]}", f"date: {date.today().isoformat()}"]
    state, names = game.new_state(), list[str]()
    if game.usual_start is not None:
        lines.append(f"start: {json.dumps(str(state))}")
    if points is not None:
        lines.append(f"result: {points:g} - {1 - points:g}{f' ({single_spaced(ending)})' if ending else ''}")
    for action in actions:
        names.append(state.text_of(action))
        state = state.apply(action)
    return "\n".join([*lines, f"actions: {' '.join(map(str, actions))}", f"moves: {' '.join(names)}", ""])


def read(source: Path | bytes, game: Game | None = None) -> GameRecord:
    """The first game of a file, or of its content; a note says if there are more.

    `game`: the game that the record must be of. It settles what the record leaves open, such as an SGF with another komi, and which
    planes a net sees (`Game.seen_as`). UsageError for a file that is not a record, an unknown game, a game other than `game`, or an
    illegal move, with the move's number.
    """
    games = read_all(source, game)
    first = next(games)
    if isinstance(first, BadRecord):
        raise first
    if next(games, None) is not None:
        first.notes.append("only the first game of the file is read")
    return first


def read_all(source: Path | bytes, game: Game | None = None) -> Iterator[GameRecord | BadRecord]:
    """Yields all games of a file, or of its content, and an error for each that `read` would refuse; at least one item.

    UsageError for PGN if python-chess is not installed.
    """
    if isinstance(source, bytes):
        where, kind, content = "the record", "", source
    else:
        where, kind = str(source), source.suffix.lower()
        try:
            with reading(source), open(source, "rb") as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise UsageError(f"{source} has more than {_MOST_BYTES >> 20} MiB: it is no record of games")
        except UsageError as error:
            yield BadRecord("an unreadable file", str(error))
            return
    text, found = sgf.decoded(content)[-1], 0  # PGN is in Latin-1 if it is not in UTF-8
    tag, node = pgn.TAG.search(text), sgf.START.search(text)
    if text.split("\n", 1)[0].strip() == _HEAD:
        games = _read_text(text, where, game)
    elif kind == ".pgn" or (tag and node and tag.start() < node.start()) or (not node and (tag or pgn.FIRST_MOVE.search(text))):
        games = pgn.read(text, where, game)
    else:
        games = sgf.read(content, where, game)
    for found, record in enumerate(games, 1):  # noqa: B007
        yield record
    if not found:
        what = "neither SGF nor PGN nor the text that rlsuite writes"
        yield BadRecord("not a record", f"{where} is not a game record: {what}")


def read_folder(folder: Path, game: Game) -> list[GameRecord]:
    """The games of all records of `game` in a folder and its subfolders, in the order of their paths.

    Records that are left out or not read literally are reported on standard error, a line for each kind of fault. UsageError if
    there is no record, or none that can be read.
    """
    found, faults, notes = list[GameRecord](), dict[str, list[str]](), dict[str, list[str]]()
    for path in sorted(path for path in folder.rglob("*") if _is_record(path, game)):
        for record in read_all(path, game):
            if isinstance(record, BadRecord):
                faults.setdefault(record.kind, []).append(str(record))
                continue
            found.append(record)
            for note in record.notes:
                notes.setdefault(note, []).append(str(path))
    if not found and not faults:
        kinds = " or ".join(sorted({suffix(game), ".txt"}))
        raise UsageError(f"{folder} holds no records ({kinds}) of {game.name}; rlsuite match ... --out {folder} writes some")
    lines = [f"{len(all_)} left out: {kind} (the first: {all_[0]})" for kind, all_ in faults.items()]
    if not found:
        raise UsageError(f"{folder} holds no record of {game.name} that can be read; {'; '.join(lines)}")
    lines += [f"{len(all_)} read with a change: {note} (the first: {all_[0]})" for note, all_ in notes.items()]
    for line in lines:
        say(f"rlsuite: records in {folder}: {line}")
    return found


def _is_record(path: Path, game: Game) -> bool:
    """Whether a file may be a record of `game`: it has the right suffix, or begins like our own text format."""
    kind = path.suffix.lower()
    if kind != ".txt" or not path.is_file():
        return kind == suffix(game) and path.is_file()
    try:
        with path.open("rb") as file:
            return file.read(len(_HEAD)) == _HEAD.encode()  # unlike a README.txt
    except OSError:
        return True  # `read_all` says why it cannot be read


def _read_text(text: str, where: str, game: Game | None) -> Iterator[GameRecord | BadRecord]:
    try:
        yield _text_record(text, where, game)
    except BadRecord as error:
        yield error
    except UsageError as error:
        yield BadRecord("another game", f"{where}: {error}")


def _text_record(text: str, where: str, game: Game | None) -> GameRecord:
    fields = dict(line.split(": ", 1) for line in text.splitlines()[1:] if ": " in line)
    found = make_game(_named(fields.get("game", ""), where, game))
    try:
        if "start" in fields:
            found = found.starting_from(parse_json(fields["start"]))
    except UsageError as error:
        raise BadRecord("a start position that cannot be", f"{where}: {error}") from error
    except (ValueError, AttributeError) as error:
        raise BadRecord("a start position that cannot be", f"{where}: its start position cannot be read") from error
    found = found if game is None else found.seen_as(game)
    if game is not None and found.name != game.name:
        raise BadRecord("another game", f"{where} is a game of {found.name}, not of {game.name}")
    words = fields.get("actions", "").split()
    if not all(word.isdecimal() and len(word) < 10 for word in words):
        raise BadRecord("not valid", f"{where}: its actions must be numbers")
    replay = Replay(found, where)
    for word in words:
        replay.play(int(word), word)
    names = (*fields.get("players", "").split(" | "), "", "")
    result, _, ending = fields.get("result", "").partition(" (")
    points = {"1": 1.0, "0.5": 0.5, "0": 0.0}.get(result.split(" ")[0])
    return GameRecord(
        found, replay.actions, (names[0], names[1]), points, ending.removesuffix(")"), komi=found.parameters.get("komi")
    )


def _named(name: str, where: str, game: Game | None) -> str:
    """The name of a record's game. A game in a file is Python code, which a record may only run if the caller named it too."""
    foreign = own_game(name) is not None or registry.games.is_foreign(name) or "filename" in name
    if foreign and (game is None or name != game.name):
        raise BadRecord(
            "a game in Python", f"{where} is a game of {name}, which is Python code: name that game yourself to load it"
        )
    return name
