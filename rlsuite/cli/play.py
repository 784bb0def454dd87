"""`rlsuite play`, `analyse`, `embed`, `match`, `ladder`, `gtp` and `uci`: board games. Heavy imports are inside the commands."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlsuite.cli.common import Json, Trust, examples, family, print_json
from rlsuite.core.console import command
from rlsuite.core.errors import UsageError

if TYPE_CHECKING:
    from rlsuite.play.ladder import Rung

PLAYERS = (
    "a run or checkpoint, run(path=...,eval_simulations=50), mcts(simulations=1000), random, gtp(command=...) or uci(command=...)"
)
SEARCH = "mcts(simulations=2000)"  # the opponent if none is named and there is no trained agent
SIDES = ("first", "second", "both", "watch")
GameName = Annotated[str | None, typer.Option("--game", help="Game to play (rlsuite list games); default: the run's.")]
Simulations = Annotated[
    int | None, typer.Option(min=1, help="Simulations per move, for players that search; default: each player's own setting.")
]
OpeningMoves = Annotated[int, typer.Option(min=0, help="Maximum number of random moves at the start of each game.")]
PlayerSeed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the player's random choices.")]


app = family()


@app.command(
    epilog=examples(
        "rlsuite play connect_four --checkpoint runs/connect_four",
        "rlsuite play runs/connect_four --web --side second --simulations 800",
        "rlsuite play 'hex(size=7)' --against 'mcts(simulations=5000)' --web",
        "rlsuite play 'go(size=9)' --against 'gtp(command=gnugo --mode gtp --level 1)'",
        "rlsuite play --load game.sgf --web",
        "rlsuite play runs/atari-pong --web     # its videos",
    )
)
def play(
    what: Annotated[
        str | None, typer.Argument(metavar="GAME|RUN", help="A game (rlsuite list games), or a run to play against.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", "--checkpoint", help=f"Opponent: {PLAYERS}; default: the run, the game's pretrained agent, or {SEARCH}."
        ),
    ] = None,
    side: Annotated[str, typer.Option(help="Your side: first, second, both or watch.")] = "first",
    simulations: Simulations = None,
    load: Annotated[
        Path | None, typer.Option(help="Continue from the end of this game record: SGF, PGN or rlsuite's text format.")
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Play in the browser, on a page that only this machine can open.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the web page.")] = 8017,
    seed: PlayerSeed = 0,
    trust: Trust = False,
) -> None:
    """Play a board game against an agent, search or program.

    In the terminal, or in the browser with --web. For an Atari run, --web shows its videos.
    """
    from rlsuite.boardgames import game_records
    from rlsuite.play.players import BoardPlayer, game_of, is_run
    from rlsuite.play.session import Session
    from rlsuite.runs import pretrained_agents

    if side not in SIDES:
        raise UsageError(f"--side {side}: one of {', '.join(SIDES)}")
    run = what if what is not None and is_run(what) else None
    if web and run is not None and (videos := _videos(Path(run))) is not None:
        _serve(None, None, videos, port)
        return
    name, record = against or run, None
    if what is None and load is not None:
        record = game_records.read(load)
    else:
        players = [player for player in (run, name) if player is not None]
        board = game_of(players or [SEARCH], what if run is None else None)
        record = None if load is None else game_records.read(load, board)
    if record is not None:
        board = record.game
        for note in record.remarks():
            print(f"rlsuite: {load}: {note}", file=sys.stderr)
    name = name or pretrained_agents.of_game(board.name) or SEARCH
    session = Session(board, BoardPlayer(name, board, simulations, seed), seed=seed)
    first = session.state.player
    person = {"first": first, "second": 1 - first}.get(side)
    try:
        for action in record.actions if record is not None else []:
            session.play(action)
        if web:
            _serve(session, person, None, port, watching=side == "watch")
        else:
            from rlsuite.play import terminal

            terminal.run(session, person, watching=side == "watch")
    finally:
        session.player.close()


def _videos(path: Path) -> Path | None:
    """The folder with an Atari run's videos; None for anything else. UsageError if there are none yet."""
    from rlsuite.evaluation.saved_agent import Saved
    from rlsuite.runs import pretrained_agents

    if pretrained_agents.is_name(path) and Saved(path).spec.game is None:
        raise UsageError(f"{path} has no videos: {command('rlsuite', 'evaluate', path, '--video', 'videos')} records one")
    if not path.exists():
        return None
    run = next((folder for folder in (path, *path.resolve().parents) if (folder / "config.yaml").exists()), path)
    if Saved(path).spec.game is not None:
        return None
    if not list((run / "videos").glob("*.mp4")):
        raise UsageError(f"{run} has no videos yet: {command('rlsuite', 'evaluate', run, '--video', run / 'videos')}")
    return run / "videos"


def _serve(session: Any, side: int | None, videos: Path | None, port: int, watching: bool = False) -> None:
    from rlsuite.play import web

    table = web.Table(session, side, videos)
    table.watching = watching
    web.serve(table, port, lambda address: print(f"{address}   (Ctrl-C to stop)", flush=True))


@app.command(
    epilog=examples(
        "rlsuite analyse game.sgf pretrained:go --simulations 1000 --out game.png",
        "rlsuite analyse games/01_a_b_0001.txt runs/connect_four --json",
        "rlsuite analyse match.pgn 'mcts(simulations=2000)' --game 3",
    )
)
def analyse(
    record: Annotated[
        Path, typer.Argument(metavar="RECORD", help="Game record: SGF, PGN or the text format of rlsuite match --out.")
    ],
    player: Annotated[
        str, typer.Argument(metavar="RUN", help="Player that searches: a run or checkpoint, or mcts(simulations=1000).")
    ],
    simulations: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Simulations per position; default: the player's own setting.")
    ] = None,
    number: Annotated[int, typer.Option("--game", min=1, help="Number of the game in the file.")] = 1,
    any_komi: Annotated[bool, typer.Option("--any-komi", help="Use the agent's komi instead of the record's.")] = False,
    out: Annotated[Path | None, typer.Option(help="PNG file to write: the win rate over the moves.")] = None,
    sgf: Annotated[Path | None, typer.Option(help="SGF file to write: the game with a comment on every move.")] = None,
    seed: PlayerSeed = 0,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Search every position of a recorded game, and show how much each move lost.

    Win rates are for the player to move; a draw counts as half a win. Ctrl-C stops early, with output for the moves so far.
    """
    from rlsuite.play import analysis
    from rlsuite.play.players import BoardPlayer
    from rlsuite.play.session import waits_for
    from rlsuite.search import Puct

    for option, path in (("--out", out), ("--sgf", sgf)):
        if path is not None and path.is_dir():
            raise UsageError(f"{option} {path}: that is a folder, not a file to write")
        if path is not None and path.resolve() == record.resolve():
            raise UsageError(f"{option} {path}: that is the record itself; choose another file")
    found = analysis.read_game(record, player, number, any_komi)
    if sgf is not None:
        analysis.check_sgf(found.game)
    game, total, moves, stopped = found.game, len(found.actions), list[analysis.MoveAnalysis](), False
    searcher = BoardPlayer(player, game, simulations, seed)
    try:
        searcher.evaluator(game)  # refuses a player that does not search
        for line in (*(f"rlsuite: {record}: {note}" for note in found.remarks()), waits_for(game, Puct)):
            if line:
                _tell(line)
        if not as_json:
            print(f"{game.name}, {searcher.title}: win rates of the player who moves; * proven\n{analysis.HEADER}", flush=True)
        for move in analysis.analyse(found, searcher, seed):
            moves.append(move)
            if not as_json:
                print(analysis.row(move, game), flush=True)
    except KeyboardInterrupt:
        stopped = True
        _tell(f"rlsuite: stopped after {len(moves)} of {total} moves")
    finally:
        searcher.close()
    if as_json:
        facts = {"game": game.name, "players": found.players, "sides": game.presentation.sides, "simulations": searcher.simulations}
        print_json({**facts, "total_moves": total, "moves": [move.as_dict() for move in moves]})
    else:
        for line in analysis.summary(moves, game):
            print(line)
    if sgf is not None and moves:
        analysis.write_sgf(found, moves, sgf)
    if out is not None and moves:
        analysis.draw(moves, game, f"{record.name}, searched by {searcher.title}", out)
    for what, path in (("record", sgf), ("picture", out)):
        if path is not None and moves and not as_json:
            print(f"{what} {path}")
    if stopped:
        raise typer.Exit(130)


@app.command(
    epilog=examples(
        "rlsuite embed games --game 'go(size=7)' --picture moves.png",
        "rlsuite embed games --game othello --moves a1,b2,d3 --out moves.safetensors",
    )
)
def embed(
    records: Annotated[Path, typer.Argument(metavar="RECORDS", help="Folder of game records, as written by rlsuite match --out.")],
    game: Annotated[str, typer.Option("--game", help="Game of the records (rlsuite list games).")],
    moves: Annotated[
        str | None, typer.Option(help="Moves to show, such as a1,d4; default: one corner, one side and one centre.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=50, help="Neighbours to show for each move.")] = 5,
    out: Annotated[Path | None, typer.Option(help="File to write the vectors to, for net.action_embedding_from.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG file to write: the board with the neighbours.")] = None,
    width: Annotated[int, typer.Option(min=1, max=4096, help="Dimensions of a vector.")] = 16,
    window: Annotated[int, typer.Option(min=1, max=100, help="Moves before and after a move that count as near it, at most.")] = 4,
    negatives: Annotated[int, typer.Option(min=1, max=100, help="Negative samples for each pair of near moves.")] = 5,
    passes: Annotated[int, typer.Option(min=1, max=10_000, help="Passes over the pairs of moves.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the initial vectors and of all sampling.")] = 0,
    as_json: Json = False,
) -> None:
    """Learn a vector for each move from recorded games (word2vec), and show the nearest neighbours of moves."""
    from rlsuite.boardgames import game_records
    from rlsuite.boardgames.games import make_game
    from rlsuite.nets import action_embedding
    from rlsuite.play import move_vectors

    board = make_game(game)
    shown = move_vectors.actions_of(board, moves)
    if picture is not None:
        move_vectors.places(board)  # refuses a game without one
    found = game_records.read_folder(records, board)
    learned = move_vectors.of_records(found, board, width=width, window=window, negatives=negatives, passes=passes, seed=seed)
    rows = {
        board.action_text(action): [
            (board.action_text(other), cosine) for other, cosine in move_vectors.neighbours(learned.vectors, action, count)
        ]
        for action in shown
    }
    if out is not None:
        action_embedding.write(out, action_embedding.ActionVectors(learned.vectors, board.name))
    if picture is not None:
        move_vectors.draw(learned.vectors, board, shown, count, picture)
    total = sum(len(record.actions) for record in found)
    if as_json:
        losses = {"loss": learned.loss, "untrained_loss": learned.untrained}
        print_json({"game": board.name, "games": len(found), "moves": total, **losses, "neighbours": rows})
        return
    print(f"{board.name}: {len(found)} games, {total} moves; loss {learned.loss:.3f}, untrained {learned.untrained:.3f}")
    for name, near in rows.items():
        print(f"{name:<6} {'  '.join(f'{other} {cosine:+.2f}' for other, cosine in near)}")
    for what, path in (("vectors", out), ("picture", picture)):
        if path is not None:
            print(f"{what} {path}")


@app.command(
    epilog=examples(
        "rlsuite match runs/connect_four 'mcts(simulations=1000)' --games 100",
        "rlsuite match runs/new runs/old --sprt 0 30 --games 1000",
        "rlsuite match runs/go 'gtp(command=gnugo --mode gtp --level 1)' random --out games",
        "rlsuite match 'mcts(simulations=50)' 'uci(command=stockfish,go=depth 1,options=\"Skill Level=0\")'"
        " --game 'openspiel(game=chess)'",
    )
)
def match(
    players: Annotated[list[str], typer.Argument(help=f"Two or more, each {PLAYERS}.")],
    game: GameName = None,
    games: Annotated[
        int, typer.Option(min=1, help="Games per pair of players, rounded up to even: each opening is played from both sides.")
    ] = 40,
    opening_moves: OpeningMoves = 4,
    simulations: Simulations = None,
    sprt: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Stop a pair's games once a sequential test decides between these two Elo differences, at 95%."),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Games at once against another program; as many copies of it run.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder to write the games (SGF, PGN or text) and match.json to.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the openings and of the players' random choices.")] = 0,
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Play many games between players and rate them.

    A program that crashes, is too slow or breaks the rules loses that game.
    """
    from rlsuite.boardgames.ratings import Sprt
    from rlsuite.play import tournament
    from rlsuite.play.players import game_of, is_saved

    if len(players) < 2:
        raise UsageError("a match needs two players")
    for name in players:
        is_saved(name)  # refuses a bad name before any checkpoint is loaded
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


@app.command(
    epilog=examples(
        "rlsuite ladder runs/connect_four --games 40 --simulations 100 --out ladder.png",
        "rlsuite ladder runs/go --against 'gtp(command=gnugo --mode gtp --level 1)' --against 'mcts(simulations=1000)'",
    )
)
def ladder(
    run: Annotated[Path, typer.Argument(help="Run folder of a board game, or pretrained:NAME with --against.")],
    games: Annotated[
        int, typer.Option(min=2, help="Games per pair of players, rounded up to even: each opening is played from both sides.")
    ] = 40,
    simulations: Annotated[int, typer.Option(min=1, help="Simulations per move, for the checkpoints.")] = 100,
    opening_moves: OpeningMoves = 4,
    checkpoints: Annotated[int, typer.Option(min=1, help="Maximum number of checkpoints to rate, evenly spaced.")] = 8,
    against: Annotated[
        list[str] | None,
        typer.Option(help=f"Another player that meets every checkpoint: {PLAYERS}; can be repeated. The first is 0 Elo."),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Games at once against another program; as many copies of it run.")] = 2,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("ladder.png"),
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Rate the checkpoints of a board game run, and other players if given, in Elo.

    A program that crashes, is too slow or breaks the rules loses that game.
    """
    from rlsuite.play import ladder as ladders

    games += games % 2
    if checkpoints < 2 and not against:
        raise UsageError("--checkpoints 1: a ladder of one checkpoint needs --against")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder: name the PNG file to write")
    rungs = ladders.climb(run, games, simulations, opening_moves, checkpoints, against=against or (), parallel=parallel)
    zero = ladders.zero(rungs)
    if as_json:
        print_json({"picture": str(out), "zero": zero, "rungs": [rung._asdict() for rung in rungs]})
    else:
        _print_ladder(rungs, zero, bool(against))
    # After the ratings, which took the time, are printed.
    ladders.draw(rungs, f"{run.name}: {games} games per pair, {simulations} simulations per move", out)
    if not as_json:
        print(f"picture {out}")


def _print_ladder(rungs: Sequence["Rung"], zero: str, against: bool) -> None:
    print(f"Elo with 95% intervals; 0 is the {zero}" if not against else f"Elo with 95% intervals; 0 is {zero}")
    for rung in rungs:
        steps = "" if rung.agent_steps is None else f"{rung.agent_steps:,}"
        text = f"{steps:>12}  {rung.elo:+7.0f}  [{rung.interval[0]:+.0f}, {rung.interval[1]:+.0f}]"
        if rung.agent_steps is None:
            text += f"  {rung.player}"
        if rung.failures:
            text += f"; lost by crashes, time-outs and illegal moves: {rung.failures}"
        print(text)


@app.command(epilog=examples("rlsuite gtp runs/go", "rlsuite gtp 'mcts(simulations=5000)' --game 'go(size=9)'"))
def gtp(
    player: Annotated[str, typer.Argument(help=f"Player: {PLAYERS}.")],
    game: GameName = None,
    simulations: Simulations = None,
    resign_below: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Resign when the value of the position falls below this; default: never.")
    ] = None,
    seed: PlayerSeed = 0,
    trust: Trust = False,
) -> None:
    """Run a player as a GTP engine, for Sabaki, Lizzie and other programs. Speaks GTP 2 on standard input and output."""
    from rlsuite.play import gtp_engine
    from rlsuite.play.lines import Lines
    from rlsuite.play.players import BoardPlayer, game_of
    from rlsuite.play.session import Session
    from rlsuite.version import __version__

    lines = Lines()
    board = game_of([player], game)
    session = Session(board, BoardPlayer(player, board, simulations, seed), seed=seed)
    session.tell = _tell
    engine = gtp_engine.Engine(session, f"rlsuite {player}", __version__, lines, resign_below)
    try:
        engine.run()
    finally:
        engine.session.player.close()
    _end()


@app.command(epilog=examples("rlsuite uci 'mcts(simulations=200)'", "rlsuite uci runs/chess"))
def uci(
    player: Annotated[str, typer.Argument(help=f"Player: {PLAYERS}.")],
    simulations: Simulations = None,
    seed: PlayerSeed = 0,
    trust: Trust = False,
) -> None:
    """Run a player as a UCI engine, for chess programs. Needs OpenSpiel's chess: pip install open-spiel."""
    from rlsuite.boardgames.games import CHESS, make_game
    from rlsuite.play import uci_engine
    from rlsuite.play.lines import Lines
    from rlsuite.play.players import BoardPlayer
    from rlsuite.play.session import Session

    lines = Lines()
    board = make_game(CHESS)
    session = Session(board, BoardPlayer(player, board, simulations, seed), seed=seed)
    session.tell = _tell
    try:
        uci_engine.Engine(session, f"rlsuite {player}", lines).run()
    finally:
        session.player.close()
    _end()


def _tell(text: str) -> None:
    """Prints to stderr what the user has to wait for; standard output belongs to the protocol."""
    print(text, file=sys.stderr, flush=True)


def _end() -> None:
    """Flushes stdout; no error if nobody reads it any more."""
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        sys.stdout = None
