"""`rlsuite play`, `match`, `gtp` and `uci`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rlsuite.cli.common import Json, examples, print_json
from rlsuite.core.errors import UsageError

Players = (
    "A run or checkpoint, run(path=...,eval_simulations=50), mcts(simulations=1000), random, gtp(command=...) or uci(command=...)."
)
SIDES = ("first", "second", "both", "watch")
GameName = Annotated[str | None, typer.Option("--game", help="Its name (rlsuite list games); default: that of the run.")]
Simulations = Annotated[int | None, typer.Option(min=1, help="A move, of players that search; default: the player's own number.")]


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "rlsuite play connect_four --checkpoint runs/connect_four",
            "rlsuite play runs/connect_four --web --side second --simulations 800",
            "rlsuite play 'hex(size=7)' --against 'mcts(simulations=5000)' --web",
            "rlsuite play 'go(size=9)' --against 'gtp(command=gnugo --mode gtp --level 1)'",
            "rlsuite play --load game.sgf --web",
            "rlsuite play runs/atari-pong --web     # its videos",
        )
    )(play)
    app.command(
        epilog=examples(
            "rlsuite match runs/connect_four 'mcts(simulations=1000)' --games 100",
            "rlsuite match runs/new runs/old --sprt 0 30 --games 1000",
            "rlsuite match runs/go 'gtp(command=gnugo --mode gtp --level 1)' random --out games",
            "rlsuite match 'mcts(simulations=50)' 'uci(command=stockfish,go=depth 1,options=\"Skill Level=0\")'"
            " --game 'openspiel(game=chess)'",
        )
    )(match)
    app.command(epilog=examples("rlsuite gtp runs/go", "rlsuite gtp 'mcts(simulations=5000)' --game 'go(size=9)'"))(gtp)
    app.command(epilog=examples("rlsuite uci 'mcts(simulations=200)'", "rlsuite uci runs/chess"))(uci)


def play(
    what: Annotated[
        str | None, typer.Argument(metavar="GAME|RUN", help="A game (rlsuite list games), or a run, which is played against.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", "--checkpoint", help=f"{Players} Default: the run, or mcts(simulations=2000).")
    ] = None,
    side: Annotated[str, typer.Option(help="Yours: first, second, both or watch.")] = "first",
    simulations: Simulations = None,
    load: Annotated[Path | None, typer.Option(help="Begin behind the moves of this record: SGF, PGN or our own text.")] = None,
    web: Annotated[bool, typer.Option("--web", help="In the browser: a page on this machine alone.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the page.")] = 8017,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the player's chance.")] = 0,
) -> None:
    """Play a board game against a saved agent, a search or another program, in the terminal or the browser.

    Of an Atari run, --web shows its videos.
    """
    from rlsuite.boardgames import game_records
    from rlsuite.play.players import BoardPlayer, game_of
    from rlsuite.play.session import Session

    if side not in SIDES:
        raise UsageError(f"--side {side}: one of {', '.join(SIDES)}")
    run = what if what is not None and Path(what).exists() and not what.endswith(".py") else None
    if web and run is not None and (videos := _videos(Path(run))) is not None:
        _serve(None, None, videos, port)
        return
    name = against or run or "mcts(simulations=2000)"
    game = what if run is None else None
    if game is None and run is None and load is not None:
        game = game_records.read(load)[0].name
    board = game_of([name] if run is None else [run, name], game)
    session = Session(board, BoardPlayer(name, board, simulations, seed), seed=seed)
    first = session.state.player
    person = {"first": first, "second": 1 - first}.get(side)
    try:
        if load is not None:
            for action in game_records.read(load, board)[1]:
                session.play(action)
        if web:
            _serve(session, person, None, port, watching=side == "watch")
        else:
            from rlsuite.play import terminal

            terminal.run(session, person, watching=side == "watch")
    finally:
        session.player.close()


def _videos(path: Path) -> Path | None:
    """The folder of an Atari run's videos; None for anything else. UsageError where it has none yet."""
    from rlsuite.evaluation.saved_agent import Saved

    if not path.exists():
        return None
    run = next((folder for folder in (path, *path.resolve().parents) if (folder / "config.yaml").exists()), path)
    if Saved(path).spec.game is not None:
        return None
    if not list((run / "videos").glob("*.mp4")):
        raise UsageError(f"{run} has no videos yet: rlsuite evaluate {run} --video {run}/videos")
    return run / "videos"


def _serve(session: Any, side: int | None, videos: Path | None, port: int, watching: bool = False) -> None:
    from rlsuite.play import web

    table = web.Table(session, side, videos)
    table.watching = watching
    web.serve(table, port, lambda address: print(f"{address}   (Ctrl-C ends it)", flush=True))


def match(
    players: Annotated[list[str], typer.Argument(help=f"Two or more: {Players}")],
    game: GameName = None,
    games: Annotated[int, typer.Option(min=1, help="Between any two (made even): each opening from both sides.")] = 40,
    opening_moves: Annotated[int, typer.Option(min=0, help="Random moves at most before a game.")] = 4,
    simulations: Simulations = None,
    sprt: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Stop once it is clear which of two Elo differences is true, each to 95%."),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Games at once where another program plays: so many of it run.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder for the games (SGF, PGN or text) and match.json.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of openings and of players' chance.")] = 0,
    as_json: Json = False,
) -> None:
    """Let players meet over many games, and rate them. A program that crashes, is too slow or breaks the rules loses that game."""
    from rlsuite.boardgames.ratings import Sprt
    from rlsuite.play import tournament
    from rlsuite.play.players import game_of, is_saved

    if len(players) < 2:
        raise UsageError("a match needs two players")
    for name in players:
        is_saved(name)  # told before a checkpoint is loaded
    if len(set(players)) < len(players):
        raise UsageError("a player meets itself: name each once")
    board = game_of(players, game)
    bounds = None if sprt is None else Sprt(*sprt)
    meetings = tournament.meet(players, board, games, opening_moves, simulations, seed, parallel, bounds, out)
    ratings = tournament.rate(players, meetings, seed) if len(players) > 2 else []
    if as_json:
        print_json({"game": board.name, "meetings": [m.as_dict() for m in meetings], "ratings": [r._asdict() for r in ratings]})
        return
    for meeting in meetings:
        print(tournament.describe(meeting))
    for rating in sorted(ratings, key=lambda found: -found.elo):
        print(f"{rating.elo:+7.0f}  [{rating.interval[0]:+.0f}, {rating.interval[1]:+.0f}]  {rating.player}")
    if out is not None:
        print(f"games {out}")


def gtp(
    player: Annotated[str, typer.Argument(help=Players)],
    game: GameName = None,
    simulations: Simulations = None,
    resign_below: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Give up where a position is thought to be worth less; default: never.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the player's chance.")] = 0,
) -> None:
    """Be a program that speaks GTP 2 on standard input and output: for Sabaki, Lizzie, gogui-twogtp and the like."""
    from rlsuite.play import gtp_engine as server
    from rlsuite.play.lines import Lines
    from rlsuite.play.players import BoardPlayer, game_of
    from rlsuite.play.session import Session
    from rlsuite.version import __version__

    lines = Lines()
    board = game_of([player], game)
    session = Session(board, BoardPlayer(player, board, simulations, seed), seed=seed)
    engine = server.Engine(session, f"rlsuite {player}", __version__, lines, resign_below)
    try:
        engine.run()
    finally:
        engine.session.player.close()
    _end()


def uci(
    player: Annotated[str, typer.Argument(help=Players)],
    simulations: Simulations = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the player's chance.")] = 0,
) -> None:
    """Be a chess program that speaks UCI, on OpenSpiel's chess (pip install open-spiel): for any chess GUI."""
    from rlsuite.boardgames.games import make_game
    from rlsuite.play import uci_engine as server
    from rlsuite.play.lines import Lines
    from rlsuite.play.players import BoardPlayer
    from rlsuite.play.session import Session

    lines = Lines()
    board = make_game("openspiel(game=chess)")
    session = Session(board, BoardPlayer(player, board, simulations, seed), seed=seed)
    try:
        server.Engine(session, f"rlsuite {player}", lines).run()
    finally:
        session.player.close()
    _end()


def _end() -> None:
    """Without a complaint where nobody reads our output any more."""
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        sys.stdout = None
