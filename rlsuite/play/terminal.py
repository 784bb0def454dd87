"""Plays a game in the terminal: boards are text, moves are typed by name."""

import re
from collections.abc import Callable
from pathlib import Path

from rlsuite.boardgames import game_records
from rlsuite.boardgames.gtp_opponent import RESIGNS
from rlsuite.core.errors import RlsuiteError, nearest
from rlsuite.core.game import Game, letter
from rlsuite.play.session import Session

HELP = "type a move, or: moves (lists them), hint, undo, resign, save FILE, quit"


def run(
    session: Session,
    side: int | None,
    watching: bool = False,
    read: Callable[[str], str] = input,
    show: Callable[[str], None] = print,
) -> None:
    """Plays a game with the person at `side`; None: at both sides, or at neither if `watching`.

    Returns when the person quits, or when there is no more input. A finished game can still be saved, and moves can be taken back.
    """
    session.tell = show
    show(f"{session.game.name}: {HELP}")
    seen = None
    while True:
        state = session.state
        if session.over:
            show(f"\n{board(session)}\n{outcome(session, side)}")
            if not resumed(session, side, read, show):
                return
            seen = None
            continue
        if state is not seen:
            show(f"\n{board(session)}")
        seen = state
        if watching or (side is not None and state.player != side):
            action = session.answer()
            move = "resigns" if action == RESIGNS else f"plays {state.text_of(action)}"
            value = session.values[-2] if action != RESIGNS else None
            expects = f" (it expects {value * (1 - 2 * state.player):+.2f})" if value is not None else ""
            show(f"{session.player.title} {move}{expects}")
            continue
        try:
            words = read(f"{side_name(session, state.player)}> ").split()
        except EOFError:
            return
        if words and not command(session, words, side, show):
            return


def resumed(session: Session, side: int | None, read: Callable[[str], str], show: Callable[[str], None]) -> bool:
    """Reads commands about a finished game; returns whether it continues, because a move was taken back."""
    while session.over:
        try:
            words = read("game over (save FILE, undo, or Enter to quit)> ").split()
        except EOFError:
            return False
        if not words or words == ["quit"] or words == ["exit"]:
            return False
        if words[0].lower() in ("save", "undo"):
            command(session, words, side, show)
        else:
            show("the game is over: save FILE, undo or quit")
    return True


def command(session: Session, words: list[str], side: int | None, show: Callable[[str], None]) -> bool:
    """Carries out a command that a person has typed; False for `quit`."""
    state = session.state
    names = {state.text_of(action).lower(): action for action in state.legal_actions()}
    word = " ".join(words).lower()
    try:
        if word in names:
            session.play(names[word])
        elif word in ("quit", "exit"):
            return False
        elif word == "moves":
            show(" ".join(names))
        elif word == "hint":
            found = session.think()
            best = sorted(range(len(found.policy)), key=lambda action: -found.policy[action])[:5]
            shares = ", ".join(f"{state.text_of(a)} {found.policy[a]:.0%}" for a in best if found.policy[a] > 0)
            show(f"{state.text_of(found.action)}; you can expect {found.value:+.2f}. Considered: {shares}")
        elif word == "undo":
            session.undo()
            while side is not None and session.actions and session.state.player != side:
                session.undo()
        elif word == "resign":
            session.resigned = state.player
        elif word == "save":
            show(f"save needs the name of a file: save game{game_records.suffix(session.game)}")
        elif words[0].lower() == "save":
            path = Path(" ".join(words[1:]))
            game_records.write(path, session.game, session.actions, players(session, side), session.points, session.ending)
            show(f"written to {path}")
        elif word in ("help", "?"):
            show(HELP)
        else:
            close = nearest(word, names)
            show(f"{word!r} is not a move here{'; did you mean ' + ' or '.join(close) + '?' if close else ''} ({HELP})")
    except (RlsuiteError, ValueError) as error:  # also a file that cannot be written
        show(str(error))
    return True


def players(session: Session, side: int | None) -> tuple[str, str]:
    """The names of players 0 and 1, for a record."""
    other = session.player.name
    return ("you", "you") if side is None else ("you", other) if side == 0 else (other, "you")


def side_name(session: Session, player: int) -> str:
    """The name of a side, and its symbol on the board."""
    shown, symbol = session.game.presentation, "xo"[player]
    name = shown.sides[player]
    return name if name == symbol or shown.board in ("chess", "text") else f"{name} ({symbol})"


def board(session: Session) -> str:
    """The board, with the names of its columns and rows if it is a grid."""
    game, lines = session.game, str(session.state).splitlines()
    height, width = game.observation_shape[1:]
    grid = [line.replace(" ", "") for line in lines[:height]]
    if game.presentation.board in ("chess", "text") or any(len(line) != width for line in grid):
        return "\n".join(lines)
    columns, names = axes(game)
    slant = game.presentation.board == "hexes"
    rows = [f"{' ' * at * slant}{name:>3} {' '.join(line)}" for at, (name, line) in enumerate(zip(names, grid, strict=True))]
    return "\n".join(["    " + " ".join(columns), *rows, *lines[height:]])


def axes(game: Game) -> tuple[list[str], list[str]]:
    """The names of the columns and of the rows, from the top, as moves have them; rows have none if a move is a column."""
    height, width = game.observation_shape[1:]
    if game.num_actions == width:
        return [game.action_text(column) for column in range(width)], [""] * height
    if game.num_actions in (height * width, height * width + 1):
        cells = [re.fullmatch(r"([a-z])([0-9]+)", game.action_text(cell)) for cell in range(height * width)]
        if all(cells):
            return [str(cell[1]) for cell in cells[:width] if cell], [str(cell[2]) for cell in cells[::width] if cell]
    return [letter(column) for column in range(width)], [str(row + 1) for row in range(height)]


def outcome(session: Session, side: int | None) -> str:
    """A line that says who has won."""
    points = session.points
    if points is None or points == 0.5:
        return "not over" if points is None else "a draw"
    winner = 0 if points > 0.5 else 1
    how = " by resignation" if session.resigned is not None else ""
    if side is None:
        return f"{side_name(session, winner)} has won{how}"
    return ("you have won" if winner == side else "you have lost") + how
