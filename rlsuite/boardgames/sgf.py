"""Reads and writes SGF, FF[4] (https://www.red-bean.com/sgf), of Go, Othello, Gomoku and Hex, with sgfmill's parser.

Beyond the parser, it handles charsets, sizes and komi as other programs write them, stones set up before the first move, and Hex's
own points and moves (https://www.hexwiki.net/index.php/Smart_Game_Format). Only the main line is read.
"""

import codecs
import math
import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

from sgfmill import sgf_grammar

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.record import AFTER_THE_END, RESIGNED, BadRecord, GameRecord, Replay, placed, single_spaced
from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game, letter

START = re.compile(r"\(\s*;\s*([A-Za-z]+\s*\[|[();])")  # where a game begins, after any text
GUESSED = "its charset is not declared and is guessed"
_GO, _HEX = 1, 11
_ENDINGS = {"R": RESIGNED, "T": "out of time", "F": "forfeited"}
_SET_UP = ("AB", "AW", "AE")
_CHARSETS = ("gb18030", "big5hkscs", "cp932", "cp949")  # that are tried if none is declared
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "cp950": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"}
_KNOWN = re.compile(r"utf-?(8|16|32)|iso8859|iso2022|cp\d|koi8|mac|ascii|gb|big5|shift_?jis|euc|johab|hz|tis", re.IGNORECASE)
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"} | {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

Node = dict[str, list[bytes]]  # property -> values in UTF-8, as they are between the brackets


class Line(NamedTuple):
    """The main line of a game."""

    nodes: list[Node]
    variations: bool  # others leave it somewhere


def decoded(content: bytes) -> list[str]:
    """The content as text: one reading, or several if it is uncertain which bytes are brackets.

    In some charsets, a character's last byte may look like a bracket or a backslash. Some programs put a backslash before such a
    byte, others do not; for the former, the last reading is Latin-1, which keeps every byte as it is. A reading that had to replace
    bytes contains a U+FFFD.
    """
    for mark, codec in _BOMS.items():
        if content.startswith(mark):
            return [content.decode(codec, "replace").removeprefix("\ufeff")]
    if 0 in content[:2]:
        return [content.decode("utf-16-be" if content[0] == 0 else "utf-16-le", "replace")]
    declared = _declared(content)
    if not declared.startswith(("iso2022", "hz")):  # these shift between charsets and use only ASCII's bytes
        try:
            return [content.decode()]  # what is valid UTF-8 has no byte that only looks like a bracket, whatever is declared
        except ValueError:
            pass
    bytewise = content.decode("latin-1")
    if declared:
        return [content.decode(declared, "replace"), bytewise]
    guessed = [content.decode(codec, "replace") for codec in _CHARSETS]
    return [*(text for text in guessed if "\ufffd" not in text), bytewise]


def _declared(content: bytes) -> str:
    """Python's name for the charset of the first CA property; "" if there is none or it is unknown."""
    found = re.search(rb"(?<![A-Za-z])CA\s*\[\s*(?:x-)?([\w.:+-]+)\s*\]", content)
    try:
        name = codecs.lookup(found[1].decode("ascii", "replace")).name if found else ""
    except LookupError:
        return ""
    return _WIDER.get(name, name) if _KNOWN.match(name) else ""


def _lines(text: str) -> list[Line | ValueError]:
    """Every game's main line; where the text can no longer be read, the list ends with an error."""
    content, position, found = text.encode("utf-8", "replace"), 0, list[Line | ValueError]()
    while True:
        tokens, end = sgf_grammar.tokenise(content, position)
        if not tokens:
            return found
        try:
            tree = sgf_grammar.parse_sgf_game(content[position:end])
            nodes, variations = list(sgf_grammar.main_sequence_iter(tree)), False
            while tree.children:
                variations = variations or len(tree.children) > 1
                tree = tree.children[0]
            found.append(Line(nodes, variations))
        except ValueError as error:
            return [*found, error]
        position = end


def _read_alike(content: bytes, path: str) -> tuple[list[Line | ValueError], str, list[str]]:
    """Returns the games of a file, the charset of their texts if they were read byte by byte, and notes.

    BadRecord if another charset would give different games.
    """

    def unlikely(games: list[Line | ValueError]) -> tuple[bool, int]:
        """Sort key: whether there are faults, then how often a value seems to have swallowed the next property."""
        nodes = [node for game in games if isinstance(game, Line) for node in game.nodes]
        looks = sum(len(re.findall(rb"[A-Z]\[", value)) for node in nodes for values in node.values() for value in values)
        return any(isinstance(game, ValueError) for game in games), looks

    def moves(games: list[Line | ValueError]) -> Any:
        return [[_bare(node) for node in game.nodes] if isinstance(game, Line) else str(game) for game in games]

    texts = decoded(content)
    readings = [_lines(text) for text in texts]
    least = min(map(unlikely, readings))
    broken = "\ufffd" in texts[0]  # then nothing may depend on the charset
    likely = [games for games in readings if broken or unlikely(games) == least]
    if any(moves(games) != moves(likely[0]) for games in likely[1:]):
        raise BadRecord("an unknown charset", f"{path}: its charset is unknown and decides what the moves are; add CA[...] to it")
    bytewise, declared = len(readings) > 1 and likely[0] is readings[-1], _declared(content)
    guessed = not declared and likely[-1] is not readings[-1]
    return likely[0], declared if bytewise else "", [GUESSED] if guessed else []


def _bare(node: Node) -> Node:
    """A node without its text properties."""
    return {name: node[name] for name in ("B", "W", *_SET_UP, "PL", "GM", "SZ", "KM", "HA", "RE") if name in node}


def read(content: bytes, path: str, game: Game | None) -> Iterator[GameRecord | BadRecord]:
    """Yields the games of a file, and an error for each that cannot be read."""
    try:
        found, charset, notes = _read_alike(content, path)
    except BadRecord as error:
        yield error
        return
    for line in found:
        if isinstance(line, ValueError):
            yield BadRecord("not valid SGF", f"{path} is not a valid SGF record: {line}")
            continue
        try:
            yield _Reader(line, path, game, charset, notes).read()
        except BadRecord as error:
            yield error


class _Reader:
    """Reads one game's main line."""

    def __init__(self, line: Line, path: str, game: Game | None, charset: str, notes: list[str]):
        """`charset`: of the texts in the nodes, if these were read byte by byte; otherwise ""."""
        self.nodes, self.path, self.charset, self.notes = line.nodes, path, charset, list(notes)
        self.variations = line.variations
        self.hex, self.size = False, 0
        self.game = self._game(game)
        self.swapped = False  # Hex: the colours and the board's two directions have been exchanged

    def read(self) -> GameRecord:
        """The record. BadRecord if it cannot be read."""
        first = next((at for at, node in enumerate(self.nodes) if "B" in node or "W" in node), len(self.nodes))
        nodes = self.nodes[first:]
        self.game = self._set_up(self.nodes[: first + 1], nodes)
        replay = Replay(self.game, self.path)
        points, ending = _result(self._text("RE"))
        for player, text in self._moves(nodes, self.nodes[first : first + 1]):
            if replay.state.is_terminal():
                self.notes.append(AFTER_THE_END)
                break
            if self.hex and text in ("resign", "forfeit"):
                points, ending = float(player == 1), RESIGNED if text == "resign" else "forfeited"
                break
            self._play(replay, player ^ self.swapped, text)
        names = self._text("PB"), self._text("PW")
        if self.swapped:
            names, points = (names[1], names[0]), None if points is None else 1 - points
        komi = points_of(self._text("KM")) if "komi" in self.game.parameters else None
        return GameRecord(self.game, replay.actions, names, points, ending, self.notes, komi, self.variations)

    def _text(self, name: str) -> str:
        """A property of the root as text; "" if it has none."""
        value = self.nodes[0].get(name, [b""])[0]
        if self.charset:
            value = value.decode().encode("latin-1")
        value = re.sub(rb"\\(.)", lambda found: found[1].strip(b"\n"), value, flags=re.DOTALL)
        return single_spaced(value.decode(self.charset or "utf-8", "replace"))

    def _game(self, asked: Game | None) -> Game:
        """The game of the root node, with its size and komi; `asked` itself if it is of that kind."""
        kind, size = self._text("GM") or "1", self._text("SZ") or None
        if not re.fullmatch(r"[0-9]{1,4}", kind):
            raise BadRecord("another game", f"{self.path}: GM[{kind}] is not the number of a game")
        number = int(kind)
        self.hex = number == _HEX
        sizes = re.fullmatch(r"([0-9]{1,4})(?: ?: ?([0-9]{1,4}))?", size) if size else None
        if size and (sizes is None or int(sizes[2] or sizes[1]) != int(sizes[1])):
            raise BadRecord("another size", f"{self.path}: SZ[{size}] is not the size of a square board")
        if asked is not None:
            usual = asked.usual()
            self.size = int(sizes[1]) if sizes else 19 if number == _GO else usual.observation_shape[1]
            if usual.presentation.sgf != number or usual.observation_shape[1] != self.size:
                what = f"{_numbers().get(number, f'SGF number {number}')} of size {self.size}"
                same = usual.presentation.sgf == number
                raise BadRecord("another size" if same else "another game", f"{self.path} is a game of {what}, not of {usual.name}")
            return usual
        if number not in (known := _numbers()):
            listed = ", ".join(known.values())
            raise BadRecord("another game", f"{self.path}: SGF's game {number} is not known here; {listed} are")
        game, changes = make_game(known[number]), dict[str, Any]()
        self.size = int(sizes[1]) if sizes else 19 if number == _GO else game.observation_shape[1]
        if self.size != game.observation_shape[1]:
            changes["size"] = self.size
        if "komi" in game.parameters:
            changes["komi"] = self._komi(game.parameters["komi"])
        try:
            return game.with_parameters(**changes) if changes else game
        except UsageError as error:
            raise BadRecord("a size or komi that cannot be", f"{self.path}: {error}") from error

    def _komi(self, otherwise: float) -> float:
        """The komi; `otherwise` if the record gives none that can be understood."""
        text = self._text("KM")
        komi = points_of(text)
        if komi is None:
            self.notes.append("its komi cannot be understood" if text else "it gives no komi")
            return otherwise
        return komi

    def _set_up(self, before: list[Node], nodes: list[Node]) -> Game:
        """The game from the position that is set up before the first move."""
        usual = self.game.new_state()
        cells, turn = placed(usual), ""
        for node in before:
            points = {name: self._cells(node.get(name, []), name) for name in _SET_UP}
            if set(points["AB"]) & set(points["AW"]):
                raise BadRecord("a start position that cannot be", f"{self.path}: one node sets up two stones on one point")
            for name, symbol in zip(_SET_UP, "xo.", strict=True):
                for cell in points[name]:
                    cells[cell] = symbol
            turn = node["PL"][0].decode().strip().upper()[:1] if "PL" in node else turn
        handicap = self._text("HA")
        stones = int(handicap) if handicap.isdecimal() and len(handicap) < 4 else 0
        if stones > 1 and self.game.presentation.sgf == _GO and cells == placed(usual):
            self._handicap(stones, nodes, cells)
        first = "B" if nodes and "B" in nodes[0] else "W" if nodes else "W" if stones > 1 else ""
        mover = {"B": 0, "1": 0, "W": 1, "2": 1}.get(turn or first, usual.player)
        if cells == placed(usual) and mover == usual.player:
            return self.game
        lines = ["".join(cells[at : at + self.size]) for at in range(0, len(cells), self.size)]
        if len(str(usual).splitlines()) > self.size:  # the last line then says whose turn it is
            lines.append(f"{'xo'[mover]} to play")
        kind = "a start position that cannot be"
        try:
            game = self.game.starting_from("\n".join(lines))
        except UsageError as error:
            raise BadRecord(kind, f"{self.path}: its start position: {error}") from error
        if game.new_state().player != mover:
            raise BadRecord(kind, f"{self.path}: {('Black', 'White')[mover]} cannot be to move in its start position")
        return game

    def _handicap(self, stones: int, nodes: list[Node], cells: list[str]) -> None:
        """Handles handicap stones that are recorded as Black's first moves, and removes those nodes."""
        given = [node["B"] for node in nodes[:stones] if "B" in node and not {"W", *_SET_UP} & set(node)]
        if len(given) < stones or (len(nodes) > stones and "B" in nodes[stones]):
            raise BadRecord("a handicap without its stones", f"{self.path}: HA[{stones}], but no stones are set up")
        for values in given:
            for cell in self._cells(values, "B"):
                cells[cell] = "x"
        del nodes[:stones]

    def _cells(self, values: list[bytes], name: str) -> list[int]:
        """The cells of a list of points and rectangles."""
        cells = list[int]()
        for value in values:
            first, _, last = value.decode().partition(":")
            if not value:
                continue  # `AB[]`: none
            corners = [self._cell(corner) for corner in ((first, last) if last else (first,))]
            if None in corners:
                raise BadRecord("a point off the board", f"{self.path}: {name}[{value.decode()}] is off the board")
            rows, columns = ([divmod(corner or 0, self.size)[axis] for corner in corners] for axis in (0, 1))
            if rows[0] > rows[-1] or columns[0] > columns[-1]:
                raise BadRecord("a point off the board", f"{self.path}: {name}[{value.decode()}] is not from its top left on")
            cells += [
                row * self.size + column for row in range(rows[0], rows[-1] + 1) for column in range(columns[0], columns[-1] + 1)
            ]
        return cells

    def _cell(self, text: str) -> int | None:
        """The cell of a point: `cd` is column c, row d from the top; Hex's standard writes `c4`. None for one off the board."""
        if found := re.fullmatch(r"([a-z])([1-9][0-9]?)", text) if self.hex else None:
            column, row = ord(found[1]) - ord("a"), int(found[2]) - 1
        elif re.fullmatch(r"[a-z]{2}", text):
            column, row = (ord(char) - ord("a") for char in text)
        else:
            return None
        return row * self.size + column if max(row, column) < self.size else None

    def _moves(self, nodes: list[Node], begin: list[Node]) -> Iterator[tuple[int, str]]:
        """(player by colour, text) of every move. BadRecord for stones that are set up in a node that is not in `begin`."""
        number = 0
        for node in nodes:
            if node not in begin and any(value for name in _SET_UP for value in node.get(name, [])):
                raise BadRecord("stones set up in mid-game", f"{self.path}: stones are set up after move {number}")
            moves = [(player, text) for player, colour in enumerate("BW") for text in node.get(colour, [])]
            if len(moves) > 1:
                raise BadRecord("two moves at once", f"{self.path}: move {number + 1}: two moves in one node")
            for player, text in moves:
                number += 1
                yield player, text.decode()

    def _play(self, replay: Replay, player: int, text: str) -> None:
        """Makes a move of `player`."""
        end, state = self.size**2, replay.state
        if state.player != player and state.legal_actions() == [end]:
            replay.play(end, "a pass")  # some programs leave out a pass where nothing else is legal
        if replay.state.player != player:
            raise replay.bad("a move out of turn", f" is {'BW'[player ^ self.swapped]}'s, out of turn")
        if text == "" or (text == "tt" and self.size <= 19):
            replay.play(end, "a pass")
        elif self.hex and text in ("swap-pieces", "swap-sides") and replay.actions:
            self._swap(text)
        elif (cell := self._cell(text)) is None:
            raise replay.bad("a point off the board", f", {text!r}, is off the board")
        else:
            replay.play(cell % self.size * self.size + cell // self.size if self.swapped else cell, repr(text))

    def _swap(self, text: str) -> None:
        """Handles a swap in Hex, by which the second player takes over the first stone. Our Hex has no swap, so the colours change.

        `swap-sides` is exactly that, and White moves next. After `swap-pieces`, the players keep their colours, but the stones are
        mirrored and change colour: the same game, with the later moves mirrored and in the other colour.
        """
        if text == "swap-pieces":
            self.swapped = not self.swapped
            self.notes.append("swap-pieces is read as a change of colours, and the later moves are mirrored")
        else:
            self.notes.append("swap-sides is read as a change of the players behind the colours")


def points_of(text: str) -> float | None:
    """A komi in points: with a comma, in hundredths (Fox: `650`), or in Chinese stones (`3.75` of them are 7.5 points)."""
    try:
        komi = float(text.replace(",", "."))
    except ValueError:
        return None
    if not math.isfinite(4 * komi):
        return None
    if abs(komi) >= 100 and text.lstrip("+-").isdecimal():
        komi /= 100
    return 2 * komi if 4 * komi % 2 == 1 else komi


def _result(text: str) -> tuple[float | None, str]:
    """(points of Black, ending) of a property RE."""
    if found := re.match(r"([BW])\+(.?)", text.upper()):
        return float(found[1] == "B"), _ENDINGS.get(found[2], "")
    return (0.5 if text.lower() in ("0", "draw", "jigo") else None), ""


def _numbers() -> dict[int, str]:
    """SGF's number -> name, for all games that SGF knows; if two have the same number, the one that rlsuite ships."""
    found: dict[int, str] = {}
    for name in [*registry.games.shipped, *registry.games.names()]:
        try:
            number = make_game(name).presentation.sgf
        except UsageError:  # needs a parameter or a package
            continue
        if number is not None:
            found.setdefault(number, name)
    return found


def written(
    game: Game, actions: list[int], players: tuple[str, str], points: float | None, ending: str, comments: Sequence[str] = ()
) -> str:
    """A game as SGF text. `comments`: one for each of its first moves."""
    size, state = game.observation_shape[1], game.new_state()

    def value(text: str) -> str:
        return single_spaced(text).replace("\\", "\\\\").replace("]", "\\]")

    def point(action: int) -> str:
        if action >= size * size:
            return ""
        row, column = divmod(action, size)
        return f"{letter(column)}{row + 1 if game.presentation.sgf == _HEX else letter(row)}"

    how = next((code for code, words in _ENDINGS.items() if words == ending), "F") if ending else ""
    result = "" if points is None else "0" if points == 0.5 else f"{'B' if points > 0.5 else 'W'}+{how}"
    head = f"(;GM[{game.presentation.sgf}]FF[4]CA[UTF-8]AP[rlsuite]SZ[{size}]GN[{value(game.name)}]"
    head += f"PB[{value(players[0])}]PW[{value(players[1])}]DT[{date.today().isoformat()}]"
    if "komi" in game.parameters:
        komi = game.parameters["komi"]
        head += f"RU[Chinese]KM[{komi:g}{'.0' if abs(komi) >= 100 and komi == int(komi) else ''}]"  # not to look like hundredths
    if game.usual_start is not None:
        cells, usual = placed(state), placed(game.usual().new_state())
        for name, symbol in zip(_SET_UP, "xo.", strict=True):
            changed = [point(cell) for cell, (now, then) in enumerate(zip(cells, usual, strict=True)) if now == symbol != then]
            head += f"{name}[{']['.join(changed)}]" if changed else ""
        if game.presentation.sgf == _GO and state.player == 1 and "o" not in cells and cells.count("x") > 1:
            head += f"HA[{cells.count('x')}]"
        head += f"PL[{'BW'[state.player]}]"
    head += f"RE[{result}]" if result else ""
    head += f"C[{value(ending)}]" if ending and ending not in _ENDINGS.values() else ""
    moves = list[str]()
    for number, action in enumerate(actions):
        comment = f"C[{value(comments[number])}]" if number < len(comments) else ""
        moves.append(f";{'BW'[state.player]}[{point(action)}]{comment}")
        state = state.apply(action)
    return head + "\n" + "".join(moves) + ")\n"
