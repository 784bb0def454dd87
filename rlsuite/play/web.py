"""The page of `rlsuite play --web`: a game against a player, or a recorded one to step through, and the videos of a run.

Starlette and uvicorn serve a page of plain JavaScript (`page/`) that loads nothing from elsewhere. The server binds to 127.0.0.1
only and answers only requests that use that name and come from its own page, so that scripts of other sites cannot reach it.
"""

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rlsuite.boardgames import game_records
from rlsuite.boardgames.uci_opponent import moves_by_name
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.files import parse_json
from rlsuite.core.game import BoardState, Game
from rlsuite.play.session import Session
from rlsuite.play.terminal import axes, players

HOST = "127.0.0.1"
_LARGEST = 1_000_000  # bytes of a request
_MOST = 100_000  # simulations per move
_PAGES = {
    "/": ("index.html", "text/html"),
    "/board.js": ("board.js", "text/javascript"),
    "/play.js": ("play.js", "text/javascript"),
    "/play.css": ("play.css", "text/css"),
}
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class OwnOnly:
    """Refuses requests to any other host name (DNS rebinding) and from any other origin."""

    def __init__(self, app: ASGIApp, port: int):
        self.app = app
        self.hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        if port == 80:  # browsers leave it out
            self.hosts |= {HOST, "localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        if headers.get("host") not in self.hosts or (origin is not None and origin not in {f"http://{h}" for h in self.hosts}):
            await PlainTextResponse("this server answers to its own page only\n", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class Table:
    """The game on the page, the side that each player has, and a lock, because requests arrive while a search runs."""

    def __init__(self, session: Session | None, side: int | None, videos: Path | None):
        """`side`: the person's; None: both. Without a session, there are only videos."""
        self.session, self.side, self.videos = session, side, videos
        self.watching = False  # whether the player plays both sides
        self.lock = threading.Lock()
        self.closing = threading.Event()  # ends a search
        self.hint: dict[str, Any] | None = None  # for the current position
        self.notes: list[str] = []  # what was not read literally in the last record that was loaded

    def game(self) -> Session:
        """The session. UsageError if there is none."""
        if self.session is None:
            raise UsageError("there is no board here, only videos")
        return self.session

    def view(self, ply: int | None = None) -> dict[str, Any]:
        """Everything that the page shows, after `ply` moves; None: after all of them."""
        videos = sorted(path.name for path in self.videos.glob("*.mp4")) if self.videos is not None else []
        if self.session is None:
            return {"game": None, "videos": videos}
        session = self.session
        last = len(session.actions)
        at = last if ply is None else min(max(ply, 0), last)
        state = session.states[at]
        texts = [session.states[i].text_of(action) for i, action in enumerate(session.actions)]
        newest = at == last
        mine = newest and not session.over and not self.watching and self.side in (None, state.player)
        return {
            "game": session.game.name,
            "player": session.player.title,
            "searches": session.player.can_search,
            "waits": session.waits,
            "simulations": session.simulations,
            "side": "watch" if self.watching else "both" if self.side is None else str(self.side),
            "sides": session.game.presentation.sides,
            "first": session.states[0].player,
            "ply": at,
            "plies": last,
            "turn": state.player,
            "mine": mine,
            "over": session.over and newest,
            "points": session.points if newest else None,
            "resigned": session.resigned if newest else None,
            "moves": texts,
            "values": [*session.values[:-1], session.values[-1] if session.points is None else 2 * session.points - 1],
            "board": layout(session.game, state),
            "text": str(state),
            "legal": [{"action": a, "text": state.text_of(a)} for a in state.legal_actions()]
            if not session.over or not newest
            else [],
            "last": session.actions[at - 1] if at else None,
            "hint": self.hint if newest else None,
            "notes": self.notes,
            "videos": videos,
        }

    def new(self, body: dict[str, Any]) -> None:
        """Starts a new game, in which the person takes `side`."""
        session = self.game()
        side, simulations = body.get("side", "0"), body.get("simulations", session.simulations)
        if side not in ("0", "1", "both", "watch"):
            raise UsageError(f"side {side!r}: 0, 1, both or watch")
        if not isinstance(simulations, int) or isinstance(simulations, bool) or not 0 <= simulations <= _MOST:
            raise UsageError(f"simulations {simulations!r}: a whole number up to {_MOST}")
        if session.player.can_search:
            session.simulations = max(simulations, 1)
        self.watching, self.side, self.notes = side == "watch", int(side) if side in ("0", "1") else None, []
        session.clear()
        if session.game.usual_start is not None:  # a record was loaded that begins from another position
            session.change_game(session.game.usual())
            session.clear()  # the side to move may be the other one

    def move(self, body: dict[str, Any]) -> None:
        """Makes the person's move."""
        session, action = self.game(), body.get("action")
        if body.get("ply") != len(session.actions):
            raise UsageError("the game has gone on in the meantime")
        if not isinstance(action, int) or isinstance(action, bool):
            raise UsageError("a move must be the number of an action")
        session.play(action)

    def answer(self, body: dict[str, Any]) -> None:
        """Makes the player's move, unless it has been made already."""
        session = self.game()
        if session.over or body.get("ply") != len(session.actions):
            return
        if not self.watching and self.side in (None, session.state.player):
            raise UsageError("it is your move")
        session.answer(look=self.closing.is_set)

    def undo(self, body: dict[str, Any]) -> None:
        """Takes back the last move, or the person's last move and the answer to it."""
        session = self.game()
        session.undo()
        while not self.watching and self.side is not None and session.actions and session.state.player != self.side:
            session.undo()

    def resign(self, body: dict[str, Any]) -> None:
        """The person resigns."""
        session = self.game()
        if session.over:
            raise UsageError("the game is over")
        session.resigned = session.state.player if self.side is None else self.side

    def think(self, body: dict[str, Any]) -> None:
        """Searches for a hint."""
        session = self.game()
        if session.over:
            raise UsageError("the game is over")
        found, state, texts = session.think(look=self.closing.is_set), session.state, list[str]()
        for action in found.variation:
            texts.append(state.text_of(action))
            state = state.apply(action)
        self.hint = {
            "action": found.action,
            "value": found.value,
            "variation": texts,
            "policy": {str(action): float(share) for action, share in enumerate(found.policy) if share > 0.001},
            "simulations": int(found.visits.sum()),
            "proven": found.proven,
        }

    def load(self, body: dict[str, Any]) -> None:
        """Loads a record, to step through and to continue."""
        session, text = self.game(), body.get("record")
        if not isinstance(text, str):
            raise UsageError("no record")
        if "\ufffd" in text:  # the browser's replacement for bytes that are not UTF-8
            raise UsageError("the record is not in UTF-8, all that the page reads: use rlsuite play --load FILE --web")
        record = game_records.read(text.encode("utf-8", "replace"), session.game)
        session.clear()
        if record.game is not session.game:  # the record begins from another position
            session.change_game(record.game)
            session.clear()  # the side to move may be the other one
        for action in record.actions:
            session.play(action)
        self.notes = record.remarks()

    def record(self) -> tuple[str, str]:
        """A record of the game so far: file name and text."""
        session = self.game()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"game{game_records.suffix(session.game)}"
            game_records.write(path, session.game, session.actions, players(session, self.side), session.points, session.ending)
            return path.name, path.read_text(encoding="utf-8")


def layout(game: Game, state: BoardState) -> dict[str, Any] | None:
    """The data for drawing a board on the page; None for a board that is shown as text.

    Cells [H*W] are 0, 1 (player 0) or 2, or chess pieces; `clicks` [H*W]: each cell's action or -1; `columns` and `rows`: their
    names, rows from the top.
    """
    shape, (height, width) = game.presentation.board, game.observation_shape[1:]
    if shape == "chess":
        return _chess_layout(game, state)
    lines = [line.replace(" ", "") for line in str(state).splitlines()[:height]]
    if shape == "text" or len(lines) < height or any(len(line) != width or set(line) - set(".xo") for line in lines):
        return None
    legal = set(state.legal_actions())
    cells = [".xo".index(char) for line in lines for char in line]
    if game.num_actions in (height * width, height * width + 1):
        clicks = [cell if cell in legal else -1 for cell in range(height * width)]
    elif game.num_actions == width:
        clicks = [cell % width if cell % width in legal else -1 for cell in range(height * width)]
    else:
        return None
    columns, rows = axes(game)
    return {"shape": shape, "height": height, "width": width, "columns": columns, "rows": rows, "cells": cells, "clicks": clicks}


def _chess_layout(game: Game, state: BoardState) -> dict[str, Any]:
    """Pieces as in FEN, and the legal moves from square to square."""
    board = str(state).split(" ")[0]
    pieces = "".join("." * int(char) if char.isdigit() else char for char in board if char != "/")
    moves = [
        {"from": _square(name[:2]), "to": _square(name[2:4]), "action": action, "text": state.text_of(action)}
        for name, action in moves_by_name(game, state.row).items()
    ]
    drawn = {"shape": "chess", "height": 8, "width": 8, "columns": list("abcdefgh"), "rows": list("87654321")}
    return {**drawn, "cells": list(pieces), "clicks": [-1] * 64, "moves": moves}


def _square(name: str) -> int:
    """The number of a square from the top left: a8 is 0."""
    return (8 - int(name[1])) * 8 + ord(name[0]) - ord("a")


Handler = Callable[[Request], Awaitable[Response]]


def make_app(table: Table, port: int) -> ASGIApp:
    """The web application that serves a table's page."""

    async def page(request: Request) -> Response:
        name, kind = _PAGES[request.url.path]
        return Response((files("rlsuite") / "play" / "page" / name).read_bytes(), media_type=kind, headers=_SECURITY)

    async def state(request: Request) -> Response:
        ply = request.query_params.get("ply", "")
        return JSONResponse(table.view(int(ply) if ply.isdecimal() and len(ply) < 9 else None), headers=_SECURITY)

    def action(do: Callable[[dict[str, Any]], None]) -> Handler:
        def locked(body: dict[str, Any]) -> dict[str, Any]:
            with table.lock:
                if do != table.think:
                    table.hint = None
                do(body)
                return table.view()

        async def handle(request: Request) -> Response:
            content = b""
            async for part in request.stream():
                content += part
                if len(content) > _LARGEST:
                    return _refused("too long", 413)
            try:
                body = parse_json(content or b"{}")
            except ValueError:
                return _refused("not JSON", 400)
            if not isinstance(body, dict):
                return _refused("not a JSON object", 400)
            try:
                return JSONResponse(await run_in_threadpool(locked, body), headers=_SECURITY)
            except RlsuiteError as error:
                return _refused(str(error), 400)

        return handle

    async def record(request: Request) -> Response:
        try:
            name, text = await run_in_threadpool(table.record)
        except UsageError as error:
            return _refused(str(error), 400)
        return PlainTextResponse(text, headers={**_SECURITY, "Content-Disposition": f'attachment; filename="{name}"'})

    async def video(request: Request) -> Response:
        name = request.path_params["name"]
        if table.videos is None or name not in {path.name for path in table.videos.glob("*.mp4")}:
            return _refused("no such video", 404)
        return FileResponse(table.videos / name, media_type="video/mp4", headers=_SECURITY)

    posts = ("new", "move", "answer", "undo", "resign", "think", "load")
    routes = [
        *(Route(path, page) for path in _PAGES),
        Route("/api/state", state),
        *(Route(f"/api/{name}", action(getattr(table, name)), methods=["POST"]) for name in posts),
        Route("/api/record", record),
        Route("/videos/{name}", video),
        Route("/favicon.ico", lambda request: Response(status_code=204)),
    ]
    return OwnOnly(Starlette(routes=routes), port)


def _refused(why: str, status: int) -> Response:
    return JSONResponse({"error": " ".join(why.split())}, status, headers=_SECURITY)


def serve(table: Table, port: int, ready: Callable[[str], None]) -> None:
    """Serves the page until Ctrl-C; calls `ready` with its address. RlsuiteError if the port is taken."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready(f"http://{HOST}:{port}")

        async def shutdown(self, sockets: Any = None) -> None:
            table.closing.set()
            await super().shutdown(sockets)

    config = uvicorn.Config(make_app(table, port), HOST, port, log_level="warning", timeout_graceful_shutdown=2, lifespan="off")
    server = Server(config)
    try:
        asyncio.run(server.serve())
    except SystemExit as error:  # uvicorn exits if it cannot bind
        raise RlsuiteError(f"port {port} of {HOST} cannot be used: is another server on it? choose one with --port") from error
    except KeyboardInterrupt:
        pass
