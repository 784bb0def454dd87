"""Game records: SGF for Go, Hex, Othello and Gomoku, PGN for chess, and a text of our own for any game, written and read.

SGF is read by sgfmill. Our own text names the game and lists the actions by number, so that it can be read for every game.
"""

import math
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from rlsuite.boardgames.games import CHESS, make_game, own_game
from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.core.files import atomic_write, reading
from rlsuite.core.game import Game, letter

_HEAD = "rlsuite game"


def suffix(game: Game) -> str:
    """The kind of file that a game is written to: `.sgf`, `.pgn` or `.txt`."""
    shown = game.presentation
    return ".sgf" if shown.sgf is not None else ".pgn" if shown.uci is not None else ".txt"


def write(
    path: Path, game: Game, actions: list[int], players: tuple[str, str], points: float | None = None, ending: str = ""
) -> None:
    """Writes a game in the format of its `suffix`.

    `points` of player 0: 1, 0.5, 0, or None if the game is not over; `ending` says how it ended, if not by the rules.
    """
    form: Callable[..., str] = {".sgf": _sgf, ".pgn": _pgn, ".txt": _text}[suffix(game)]
    atomic_write(path, form(game, actions, players, points, ending))


def _text(game: Game, actions: list[int], players: tuple[str, str], points: float | None, ending: str) -> str:
    lines = [_HEAD, f"game: {game.name}", f"players: {players[0]} | {players[1]}", f"date: {date.today().isoformat()}"]
    if points is not None:
        lines.append(f"result: {points:g} - {1 - points:g}{f' ({_line(ending)})' if ending else ''}")
    state, names = game.new_state(), list[str]()
    for action in actions:
        names.append(state.text_of(action))
        state = state.apply(action)
    return "\n".join([*lines, f"actions: {' '.join(map(str, actions))}", f"moves: {' '.join(names)}", ""])


def _line(text: str) -> str:
    return " ".join(text.split())


def _sgf(game: Game, actions: list[int], players: tuple[str, str], points: float | None, ending: str) -> str:
    size = game.observation_shape[1]

    def value(text: str) -> str:
        return _line(text).replace("\\", "\\\\").replace("]", "\\]")

    how = "R" if ending == "resigned" else "F" if ending else ""
    result = "" if points is None else "0" if points == 0.5 else f"{'B' if points > 0.5 else 'W'}+{how}"
    head = f"(;GM[{game.presentation.sgf}]FF[4]CA[UTF-8]AP[rlsuite]SZ[{size}]GN[{value(game.name)}]"
    head += f"PB[{value(players[0])}]PW[{value(players[1])}]DT[{date.today().isoformat()}]"
    if "komi" in game.parameters:
        head += f"RU[Chinese]KM[{game.parameters['komi']:g}]"
    head += f"RE[{result}]" if result else ""
    head += f"C[{value(ending)}]" if ending and ending != "resigned" else ""
    state, moves = game.new_state(), list[str]()
    for action in actions:
        where = "" if action >= size * size else f"{letter(action % size)}{letter(action // size)}"
        moves.append(f";{'BW'[state.player]}[{where}]")
        state = state.apply(action)
    return head + "\n" + "".join(moves) + ")\n"


def _pgn(game: Game, actions: list[int], players: tuple[str, str], points: float | None, ending: str) -> str:
    white = game.new_state().player  # who moves first; in OpenSpiel's chess that is player 1
    result = "*"
    if points is not None:
        result = {1.0: "1-0", 0.5: "1/2-1/2", 0.0: "0-1"}[points if white == 0 else 1 - points]
    tags = {
        "Event": "rlsuite",
        "Site": "?",
        "Date": date.today().strftime("%Y.%m.%d"),
        "Round": "?",
        "White": players[white],
        "Black": players[1 - white],
        "Result": result,
    }
    if ending:
        tags["Termination"] = ending
    lines = [
        f'[{name} "{_line(text).replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"]' for name, text in tags.items()
    ]
    state, words = game.new_state(), list[str]()
    for ply, action in enumerate(actions):
        if ply % 2 == 0:
            words.append(f"{ply // 2 + 1}.")
        words.append(state.text_of(action))
        state = state.apply(action)
    return "\n".join([*lines, "", *_wrapped([*words, result]), ""])


def _wrapped(words: list[str], width: int = 80) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def read(path: Path, game: Game | None = None) -> tuple[Game, list[int]]:
    """The game and the actions of a record.

    `game` is what the record must be of; it decides where the record is vague, such as an SGF with another komi. UsageError for a
    file that is not a record, an unknown game, another game than `game`, and an illegal move, with the move's number.
    """
    with reading(path):
        content = path.read_bytes()
    if content.lstrip()[:1] == b"(":
        return _read_sgf(content, str(path), game)
    text = content.decode("utf-8", "replace")
    if text.splitlines()[:1] == [_HEAD]:
        return _read_text(text, path, game)
    if text.startswith("["):
        if game is not None and game.presentation.uci is None:
            raise UsageError(f"{path} is a game of chess, not of {game.name}")
        return _read_pgn(text, str(path), make_game(CHESS) if game is None else game)
    raise UsageError(f"{path} is not a game record: neither SGF nor PGN nor the text that rlsuite writes")


def is_text(path: Path) -> bool:
    """Whether a file begins as our own text does."""
    with path.open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD.encode()


def _read_text(text: str, path: Path, game: Game | None) -> tuple[Game, list[int]]:
    fields = dict(line.split(": ", 1) for line in text.splitlines()[1:] if ": " in line)
    found = make_game(_named(fields.get("game", ""), path, game))
    if game is not None and found.name != game.name:
        raise UsageError(f"{path} is a game of {found.name}, not of {game.name}")
    words = fields.get("actions", "").split()
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"{path}: its actions must be numbers")
    state, actions = found.new_state(), list[int]()
    for word in words:
        try:
            state = state.apply(int(word))
        except UsageError as error:
            raise UsageError(f"{path}: move {len(actions) + 1}: {error}") from error
        actions.append(int(word))
    return found, actions


def _named(name: str, path: Path, game: Game | None) -> str:
    """The name of a record's game. A game in a file is Python code, which a record must not run unless the caller named it too."""
    if own_game(name) is not None and (game is None or own_game(name) != own_game(game.name)):
        raise UsageError(f"{path} is a game of {name}, which is Python code: name that game yourself to load it")
    return name


def _read_pgn(text: str, path: str, game: Game) -> tuple[Game, list[int]]:
    """The main line of the first game in the file, without comments and variations."""
    body, depth, plain = text, 0, ""
    while body.lstrip().startswith("["):  # tags
        body = body.lstrip().partition("\n")[2]
    body = body.split("\n[", 1)[0]  # where the next game begins
    opening = {"{": "}", ";": "\n"}
    until = ""
    for char in body:
        if until:
            until = "" if char == until else until
        elif char in opening:
            until = opening[char]
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif depth == 0:
            plain += char
    state, actions = game.new_state(), list[int]()
    for word in plain.split():
        word = word.lstrip("0123456789.").rstrip("!?") if word[0].isdigit() and "-" not in word else word.rstrip("!?")
        if not word or word[0] == "$" or word in ("1-0", "0-1", "1/2-1/2", "*"):
            continue
        names = {state.text_of(action): action for action in state.legal_actions()}
        plain_names = {name.rstrip("+#"): action for name, action in names.items()}
        found = names.get(word, plain_names.get(word.rstrip("+#")))
        if found is None:
            raise UsageError(f"{path}: move {len(actions) + 1}, {word!r}, is illegal there")
        actions.append(found)
        state = state.apply(found)
    return game, actions


def _read_sgf(content: bytes, path: str, game: Game | None) -> tuple[Game, list[int]]:
    from sgfmill import sgf

    try:
        record = sgf.Sgf_game.from_bytes(content)
    except ValueError as error:
        raise UsageError(f"{path} is not a valid SGF record: {error}") from error
    root, size = record.get_root(), record.get_size()
    number = _number(root, "GM", 1)
    if game is None:
        game = _sgf_game(root, size, number, path)
    elif game.presentation.sgf != number or game.observation_shape[1] != size:
        kind = _sgf_games().get(number, f"SGF number {number}")
        raise UsageError(f"{path} is a game of {kind} of size {size}, not of {game.name}")
    if root.has_property("AB") or root.has_property("AW"):
        raise UsageError(f"{path} begins with stones on the board (handicap); only games from the empty board can be read")
    state, actions = game.new_state(), list[int]()
    for node in record.get_main_sequence()[1:]:
        if any(node.has_property(name) for name in ("AB", "AW", "AE")):
            raise UsageError(f"{path}: stones are set up after move {len(actions)}, which no move of the game does")
        for player, colour in enumerate(("B", "W")):
            if not node.has_property(colour):
                continue
            action = _point(node.get_raw(colour), size, path, len(actions) + 1)
            if state.player != player:
                raise UsageError(f"{path}: move {len(actions) + 1} is {colour}'s, out of turn")
            try:
                state = state.apply(action)
            except UsageError as error:
                raise UsageError(f"{path}: move {len(actions) + 1}: {error}") from error
            actions.append(action)
    return game, actions


def _sgf_games() -> dict[int, str]:
    """SGF's number -> name, of all games by name that SGF knows; of two with one number the one that rlsuite ships."""
    found: dict[int, str] = {}
    for name in [*registry.games.shipped, *registry.games.names()]:
        try:
            number = make_game(name).presentation.sgf
        except UsageError:  # needs a parameter or a package
            continue
        if number is not None:
            found.setdefault(number, name)
    return found


def _sgf_game(root: Any, size: int, number: int, path: str) -> Game:
    """The game of a record's root, of its size and komi."""
    known = _sgf_games()
    if number not in known:
        raise UsageError(f"{path}: SGF's game {number} is not known here; {', '.join(known.values())} are")
    game, changes = make_game(known[number]), dict[str, Any]()
    if size != game.observation_shape[1]:
        changes["size"] = size
    if "komi" in game.parameters and (komi := _komi(root)) is not None:
        changes["komi"] = komi
    return game.with_parameters(**changes) if changes else game


def _number(root: Any, name: str, otherwise: int) -> int:
    try:
        return int(root.get_raw(name)) if root.has_property(name) else otherwise
    except ValueError:
        return otherwise


def _komi(root: Any) -> float | None:
    """The komi, rounded to half points; None if the record gives none that can be understood."""
    try:
        komi = float(root.get_raw("KM")) if root.has_property("KM") else math.nan
    except ValueError:
        return None
    return round(2 * komi) / 2 if math.isfinite(komi) else None


def _point(raw: bytes, size: int, path: str, number: int) -> int:
    """The action of a move, such as `cd`: column, then row from the top."""
    text = raw.decode("ascii", "replace")
    if text == "" or (text == "tt" and size <= 19):
        return size * size
    column, row = (ord(char) - ord("a") for char in text) if len(text) == 2 else (-1, -1)
    if not (0 <= column < size and 0 <= row < size):
        raise UsageError(f"{path}: move {number}, {text!r}, is off the board")
    return row * size + column
