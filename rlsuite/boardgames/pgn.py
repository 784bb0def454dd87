"""Reads and writes chess games in PGN. python-chess reads the main line of every game in a file, from any position.

A record may begin from the position of its FEN tag. Chess960, other variants and null moves are refused.
"""

import io
import re
import textwrap
from collections.abc import Iterator
from datetime import date
from typing import Any, NamedTuple

from rlsuite.boardgames.games import CHESS, make_game
from rlsuite.boardgames.record import AFTER_THE_END, BadRecord, GameRecord, Replay, single_spaced
from rlsuite.boardgames.uci_opponent import moves_by_name
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game

TAG = re.compile(r'^\s*\[\s*[A-Za-z]\w*\s*"', re.MULTILINE)
FIRST_MOVE = re.compile(r"^\s*1[\s.]*[NBRQKa-hO0-]", re.MULTILINE)
_POINTS = {"1-0": 1.0, "1/2-1/2": 0.5, "0-1": 0.0}  # of White
_TAGS_IN_A_LINE = re.compile(r'"\][ \t]*\[(?=[A-Za-z])')
_BLANKS = re.compile(r'^[ \t]+(?=\[[A-Za-z]\w*\s*")', re.MULTILINE)  # before a tag
_TAGS = re.compile(r"\A(?:[ \t]*(?:[\[%;][^\n]*)?\n)*")
_COMMENT = re.compile(r"\{[^}]*(\}|\Z)|;[^\n]*|^%[^\n]*", re.MULTILINE)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"'})


def read(text: str, path: str, game: Game | None) -> Iterator[GameRecord | BadRecord]:
    """Yields the games of a file, and an error for each that cannot be read. UsageError without python-chess or OpenSpiel."""
    try:
        import chess.pgn  # noqa: F401
    except ImportError as error:
        raise UsageError("PGN is read by python-chess: pip install 'rlsuite[chess]'") from error
    if game is not None and game.presentation.uci is None:
        yield BadRecord("another game", f"{path} is a game of chess, not of {game.name}")
        return
    usual = make_game(CHESS) if game is None else game.usual()
    text = _TAGS_IN_A_LINE.sub('"]\n[', text.replace("\r\n", "\n").replace("\r", "\n"))
    games, before = _parsed(_BLANKS.sub("", text)), None
    try:
        current = next(games, None)
        while current is not None:
            following = next(games, None)
            yield _read_one(*current, path, usual, before, None if following is None else following[0])
            before, current = current[0], following
    except ValueError as error:  # such as a number too long to be one
        yield BadRecord("not valid PGN", f"{path} is not valid PGN: {error}")


def _parsed(text: str) -> Iterator[tuple["_Found", str]]:
    """Yields every game that python-chess finds, with its text."""
    import chess.pgn

    stream, begin, visitor = io.StringIO(text), 0, _visitor()
    while (found := chess.pgn.read_game(stream, Visitor=visitor)) is not None:
        yield found, text[begin : stream.tell()]
        begin = stream.tell()


def _read_one(
    found: "_Found", chunk: str, path: str, usual: Game, before: "_Found | None", after: "_Found | None"
) -> GameRecord | BadRecord:
    """Reads a game, given its neighbours in the file: the parser takes a blank line among the moves for the end of a game."""
    if any(one and other and not one.ended and not other.tags for one, other in ((before, found), (found, after))):
        return BadRecord("a game in pieces", f"{path}: a blank line comes before the end of a game")
    try:
        return _Reader(found, chunk, path, usual).read()
    except BadRecord as error:
        return error


class _Found(NamedTuple):
    """A game as python-chess read it."""

    game: Any  # chess.pgn.Game
    tags: dict[str, str]  # the tags in the file
    ended: bool  # whether there is a result after the moves


def _visitor() -> Any:
    """A class that builds a game from the events of python-chess's parser."""
    import chess.pgn

    class Builder(chess.pgn.GameBuilder[chess.pgn.Game]):
        def __init__(self) -> None:
            super().__init__(Game=chess.pgn.Game)
            self.tags, self.ended = dict[str, str](), False

        def visit_header(self, tagname: str, tagvalue: str) -> None:
            self.tags[tagname] = tagvalue
            super().visit_header(tagname, tagvalue)

        def visit_result(self, result: str) -> None:
            self.ended = True
            super().visit_result(result)

        def handle_error(self, error: Exception) -> None:
            self.game.errors.append(error)  # without the parser's line in the log

        # After an error in a variation, the parser continues from a wrong board, so the rest of that game is skipped.

        def begin_parse_san(self, board: chess.Board, san: str) -> Any:
            return chess.pgn.SKIP if self.game.errors else None

        def begin_variation(self) -> Any:
            return chess.pgn.SKIP if self.game.errors else super().begin_variation()

        def end_variation(self) -> None:
            if not self.game.errors:
                super().end_variation()

        def result(self) -> Any:
            return _Found(self.game, self.tags, self.ended)

    return Builder


class _Reader:
    """Reads one game of a file."""

    def __init__(self, found: _Found, chunk: str, path: str, usual: Game):
        """`chunk` is the game's text."""
        self.found, self.chunk, self.path, self.usual = found, chunk, path, usual

    def read(self) -> GameRecord:
        """The record. BadRecord if it cannot be read."""
        moves, notes, tags = list(self.found.game.mainline_moves()), list[str](), self.found.tags
        game = self._start()
        self._check_text(moves)
        replay = Replay(game, self.path)
        for move in moves:
            if replay.state.is_terminal():
                notes.append(AFTER_THE_END)
                break
            if not move:
                raise replay.bad("a null move", " is a null move, which chess does not have")
            action = moves_by_name(game, replay.state.row).get(move.uci())
            if action is None:
                raise replay.bad("an illegal move", f", {move.uci()!r}, is illegal there")
            replay.play(action, move.uci())
        white = self.usual.new_state().player  # who moves first; in OpenSpiel's chess that is player 1
        players = [self._name(tags.get(side, "")) for side in ("White", "Black")]
        points = _POINTS.get(self.found.game.headers["Result"])
        if white == 1:
            players, points = players[::-1], None if points is None else 1 - points
        ending = self._name(tags.get("Termination", ""))
        ending = "" if ending.lower() in ("normal", "unterminated") else ending
        varied = any(len(node.variations) > 1 for node in (self.found.game, *self.found.game.mainline()))
        return GameRecord(game, replay.actions, (players[0], players[1]), points, ending, notes, variations=varied)

    def _name(self, value: str) -> str:
        return single_spaced(re.sub(r"\\(.)", r"\1", value)).strip("?")

    def _start(self) -> Game:
        """Chess from the position of the tags."""
        headers, tags, broken = self.found.game.headers, self.found.tags, re.compile(r"\[\W*(fen|set-?up|variant)", re.IGNORECASE)
        if headers.is_chess960():
            raise BadRecord("Chess960", f"{self.path} is a game of Chess960, which is not known here")
        for line in _TAGS.findall(self.chunk)[0].splitlines():
            if broken.match(line) and line.split("[")[1].split()[0] not in tags.keys() & {"FEN", "SetUp", "Variant"}:
                raise BadRecord("a broken tag", f"{self.path}: a tag that cannot be read: {line[:60]}")
        if self.found.game.errors:
            number = len(list(self.found.game.mainline_moves()))
            what = f"{self.path}: after {number} moves: {self.found.game.errors[0]}"
            raise BadRecord("an illegal move or position", what)
        board = self.found.game.board()
        if type(board).uci_variant != "chess" or headers.is_wild():
            raise BadRecord("a variant of chess", f"{self.path} is a game of {headers['Variant']}, which is not known here")
        if board.chess960:
            raise BadRecord(
                "Chess960", f"{self.path}: the castling rights of its FEN are those of Chess960, which is not known here"
            )
        if "FEN" not in tags and tags.get("SetUp") == "1":
            raise BadRecord("a start position without a FEN", f"{self.path}: SetUp is 1, but there is no FEN")
        if board.fen() == type(board).starting_fen:
            return self.usual
        try:
            if not board.is_valid():
                raise UsageError(f"{tags['FEN']!r} is not a legal position")
            return self.usual.starting_from(f"start: {board.fen()}\nmoves:")
        except UsageError as error:
            raise BadRecord("a start position that cannot be", f"{self.path}: its start position: {error}") from error

    def _check_text(self, moves: list[Any]) -> None:
        """BadRecord for words that the parser skips: in `Sf3` (a German knight move), it sees the pawn move f3."""
        from chess.pgn import MOVETEXT_REGEX

        body = _COMMENT.sub(" ", _TAGS.sub("", self.chunk))
        for token in MOVETEXT_REGEX.finditer(body):
            word = body[max(body.rfind(" ", 0, token.start()), body.rfind("\n", 0, token.start())) + 1 : token.end()]
            if token[1] and token.start() and body[token.start() - 1].isalpha():
                raise BadRecord("a word that is no move", f"{self.path}: {word!r} is not a move in English notation")
        if not moves and not self.found.tags and not self.found.ended:
            raise BadRecord("not a record", f"{self.path} is not a game record: no moves")


def written(game: Game, actions: list[int], players: tuple[str, str], points: float | None, ending: str) -> str:
    """A game as PGN, with moves as `text_of` names them."""
    white = game.usual().new_state().player  # who moves first; in OpenSpiel's chess that is player 1
    result = "*"
    if points is not None:
        result = {1.0: "1-0", 0.5: "1/2-1/2", 0.0: "0-1"}[points if white == 0 else 1 - points]
    tags = {
        "Event": "rlsuite",
        "Site": "?",
        "Date": date.today().strftime("%Y.%m.%d"),
        "Round": "?",
        "White": players[white] or "?",
        "Black": players[1 - white] or "?",
        "Result": result,
    }
    state, number = game.new_state(), 1
    if game.usual_start is not None:
        fen = str(state).splitlines()[0]
        tags |= {"SetUp": "1", "FEN": fen}
        number = int(fen.split()[-1])
    if ending:
        tags["Termination"] = ending
    lines = [f'[{name} "{single_spaced(text).translate(_ESCAPES)}"]' for name, text in tags.items()]
    words = [] if state.player == white else [f"{number}..."]
    for action in actions:
        if state.player == white:
            words.append(f"{number}.")
        number += state.player != white
        words.append(state.text_of(action))
        state = state.apply(action)
    moves = textwrap.fill(" ".join([*words, result]), 80, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "", moves, ""])
