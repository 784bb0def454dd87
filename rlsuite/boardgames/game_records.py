"""Games written down: SGF for Go, Hex, Othello and Gomoku, PGN for chess, our own text for any game; and read again.

An SGF record is read by sgfmill. Our text names the game and lists the numbers of the actions, so that it can always be read.
"""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from rlsuite.boardgames.games import make_game, own_game
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.game import Game

_SGF_GAMES = {"go": 1, "othello": 2, "gomoku": 4, "hex": 11}  # property GM
_HEAD = "rlsuite game"


def suffix(game: Game) -> str:
    """What kind of file a game is written to."""
    kind = game.name.split("(")[0]
    return ".sgf" if kind in _SGF_GAMES else ".pgn" if game.name.startswith("openspiel(game=chess,") else ".txt"


def write(
    path: Path, game: Game, actions: list[int], players: tuple[str, str], points: float | None = None, ending: str = ""
) -> None:
    """`points` of player 0: 1, 0.5, 0, or None for a game that is not over; `ending` where it was not the rules that ended it."""
    form = {".sgf": _sgf, ".pgn": _pgn, ".txt": _text}[suffix(game)]
    try:
        path.write_text(form(game, actions, players, points, ending), encoding="utf-8")
    except OSError as error:
        raise RlsuiteError(f"could not write {path}: {error.strerror}") from error


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
    head = f"(;GM[{_SGF_GAMES[game.name.split('(')[0]]}]FF[4]CA[UTF-8]AP[rlsuite]SZ[{size}]GN[{value(game.name)}]"
    head += f"PB[{value(players[0])}]PW[{value(players[1])}]DT[{date.today().isoformat()}]"
    if "komi" in game.parameters:
        head += f"RU[Chinese]KM[{game.parameters['komi']:g}]"
    head += f"RE[{result}]" if result else ""
    head += f"C[{value(ending)}]" if ending and ending != "resigned" else ""
    state, moves = game.new_state(), list[str]()
    for action in actions:
        where = "" if action >= size * size else f"{_letter(action % size)}{_letter(action // size)}"
        moves.append(f";{'BW'[state.player]}[{where}]")
        state = state.apply(action)
    return head + "\n" + "".join(moves) + ")\n"


def _letter(number: int) -> str:
    return chr(ord("a") + number)


def _pgn(game: Game, actions: list[int], players: tuple[str, str], points: float | None, ending: str) -> str:
    result = "*" if points is None else {1.0: "0-1", 0.5: "1/2-1/2", 0.0: "1-0"}[points]  # OpenSpiel's White is player 1
    tags = {
        "Event": "rlsuite",
        "Site": "?",
        "Date": date.today().strftime("%Y.%m.%d"),
        "Round": "?",
        "White": players[1],
        "Black": players[0],
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
    """A record's game and actions. `game`: for an SGF whose size and komi ours should not follow, such as another program's.

    UsageError for what is no record, a game that is not here, a move that is illegal, with the move's number.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if content.lstrip()[:1] == b"(":
        return _read_sgf(content, str(path), game)
    text = content.decode("utf-8", "replace")
    if text.splitlines()[:1] == [_HEAD]:
        fields = dict(line.split(": ", 1) for line in text.splitlines()[1:] if ": " in line)
        found = make_game(_named(fields.get("game", ""), path, game))
        if game is not None and found.name != game.name:
            raise UsageError(f"{path} is a game of {found.name}, not of {game.name}")
        words = fields.get("actions", "").split()
        if not all(word.isdecimal() for word in words):
            raise UsageError(f"{path}: its actions are no numbers")
        return found, _checked(found, [int(word) for word in words], str(path))
    if text.startswith("["):
        if game is not None and not game.name.startswith("openspiel(game=chess,"):
            raise UsageError(f"{path} is a game of chess, not of {game.name}")
        return _read_pgn(text, str(path))
    raise UsageError(f"{path} is no record of a game: SGF, PGN or the text that rlsuite writes")


def is_text(path: Path) -> bool:
    """Whether a file begins as our own text does."""
    with path.open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD.encode()


def _named(name: str, path: Path, game: Game | None) -> str:
    """A record may name our games only: to load one of the user's own means to run its file, which the user must ask for."""
    if own_game(name) is not None and (game is None or own_game(name) != own_game(game.name)):
        raise UsageError(f"{path} is a game of {name}, which is Python code: name that game yourself to load it")
    return name


def _checked(game: Game, actions: list[int], path: str) -> list[int]:
    state = game.new_state()
    for number, action in enumerate(actions, 1):
        try:
            state = state.apply(action)
        except UsageError as error:
            raise UsageError(f"{path}: move {number}: {error}") from error
    return actions


def _read_pgn(text: str, path: str) -> tuple[Game, list[int]]:
    """The first game of a file, its main line; comments and variations are left out."""
    game = make_game("openspiel(game=chess)")
    body, depth, plain = text, 0, ""
    while body.lstrip().startswith("["):  # tags
        body = body.lstrip().partition("\n")[2]
    body = body.split("\n[", 1)[0]  # another game begins
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
        raise UsageError(f"{path} is no SGF record: {error}") from error
    root, size = record.get_root(), record.get_size()
    kind = _number(root, "GM", 1)
    name = {number: known for known, number in _SGF_GAMES.items()}.get(kind)
    if name is None:
        raise UsageError(f"{path}: game {kind} of SGF is not here; {', '.join(_SGF_GAMES)} are")
    if game is None:
        komi = _komi(root) if name == "go" else None
        game = make_game(name, size=size) if komi is None else make_game(name, size=size, komi=komi)
    elif game.name.split("(")[0] != name or game.observation_shape[1] != size:
        raise UsageError(f"{path} is a game of {name} of size {size}, not of {game.name}")
    if root.has_property("AB") or root.has_property("AW"):
        raise UsageError(f"{path} begins with stones on the board (handicap); only games from the empty board are read")
    state, actions = game.new_state(), list[int]()
    for node in record.get_main_sequence()[1:]:
        if any(node.has_property(name) for name in ("AB", "AW", "AE")):
            raise UsageError(f"{path}: stones are set up behind move {len(actions)}, which no move of the game does")
        for number, colour in enumerate(("B", "W")):
            if not node.has_property(colour):
                continue
            action = _point(node.get_raw(colour), size, path, len(actions) + 1)
            if state.player != number:
                raise UsageError(f"{path}: move {len(actions) + 1} is {colour}'s, out of turn")
            try:
                state = state.apply(action)
            except UsageError as error:
                raise UsageError(f"{path}: move {len(actions) + 1}: {error}") from error
            actions.append(action)
    return game, actions


def _number(root: Any, name: str, otherwise: int) -> int:
    try:
        return int(root.get_raw(name)) if root.has_property(name) else otherwise
    except ValueError:
        return otherwise


def _komi(root: Any) -> float:
    """Half points at the nearest; 7.5 where it says nothing that can be understood."""
    try:
        return float(np.round(2 * float(root.get_raw("KM")))) / 2 if root.has_property("KM") else 7.5
    except ValueError:
        return 7.5


def _point(raw: bytes, size: int, path: str, number: int) -> int:
    text = raw.decode("ascii", "replace")
    if text == "" or (text == "tt" and size <= 19):
        return size * size
    column, row = (ord(char) - ord("a") for char in text) if len(text) == 2 else (-1, -1)
    if not (0 <= column < size and 0 <= row < size):
        raise UsageError(f"{path}: move {number}, {text!r}, is off the board")
    return row * size + column
