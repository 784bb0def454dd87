"""`rlsuite match`: a round robin of players, with ratings, a sequential test, and a record of every game."""

import json
import sys
from collections.abc import Sequence
from itertools import combinations
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from rlsuite.boardgames import game_records
from rlsuite.boardgames.matches import Played, play_games, score
from rlsuite.boardgames.ratings import Score, Sprt, elo, elo_intervals, elo_of, interval_of
from rlsuite.boardgames.record import RESIGNED
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.files import atomic_write, writing
from rlsuite.core.game import Game
from rlsuite.play.players import is_program, make_seat

_ALL_AT_ONCE = 256  # games, if no other program plays


class Entrant(NamedTuple):
    """A participant of a match."""

    name: str  # as for `make_seat`
    simulations: int | None = None  # per move if it searches, instead of its own number


class Meeting(NamedTuple):
    """The result of a match between two players."""

    first: str
    second: str
    score: Score  # of the first
    interval: tuple[float, float]  # 95%, of the first player's share of the points
    failures: tuple[int, int]  # games that each player lost by a crash, a time-out or an illegal move
    moves: float  # average length of a game
    different: int  # number of games that differ from all earlier ones; deterministic players repeat games
    ratio: float | None  # log likelihood ratio of the sequential test
    verdict: str | None  # elo0, elo1, or None if it is undecided

    def as_dict(self) -> dict[str, Any]:
        """The result as a dict for JSON, with Elo differences; None stands for infinity."""
        low, high = (elo_of(share) for share in self.interval)
        difference = elo_of(self.score.points)
        return {
            **self._asdict(),
            "score": self.score._asdict(),
            "points": self.score.points,
            "elo": difference if isfinite(difference) else None,
            "elo_interval": [value if isfinite(value) else None for value in (low, high)],
        }


class Rating(NamedTuple):
    """A player's rating from all matches."""

    player: str
    elo: float  # relative to the first player
    interval: tuple[float, float]  # 95%, bootstrap


def meet(
    names: Sequence[str],
    game: Game,
    games: int,
    opening_moves: int,
    simulations: int | None,
    seed: int,
    parallel: int,
    sprt: Sprt | None,
    out: Path | None,
) -> list[Meeting]:
    """Plays a match between every two players. UsageError for an unknown player, raised before the first game."""
    pairs = list(combinations([Entrant(name, simulations) for name in names], 2))
    return meet_pairs(pairs, game, games, opening_moves, seed, parallel, sprt, out)


def meet_pairs(
    pairs: Sequence[tuple[Entrant, Entrant]],
    game: Game,
    games: int,
    opening_moves: int,
    seed: int,
    parallel: int,
    sprt: Sprt | None = None,
    out: Path | None = None,
) -> list[Meeting]:
    """Plays a match between the two players of every pair. UsageError for an unknown player, raised before the first game."""
    if sprt is not None and not -2000 <= sprt.elo0 < sprt.elo1 <= 2000:
        raise UsageError(f"--sprt {sprt.elo0:g} {sprt.elo1:g}: the second must be larger, and both between -2000 and 2000")
    if out is not None:
        with writing(out, ", or choose another --out"):
            out.mkdir(parents=True, exist_ok=True)
    for entrant in {one.name: one for pair in pairs for one in pair}.values():  # before the first game
        make_seat(entrant.name, game, entrant.simulations, 1, seed).close()
    meetings = []
    for number, (first, second) in enumerate(pairs, 1):
        stem = None if out is None else out / f"{number:02d}_{_short(first.name)}_{_short(second.name)}"
        meetings.append(_meet(first, second, game, games, opening_moves, seed, parallel, sprt, stem))
        if out is not None:  # after every match, so that an interruption loses only the one that it stops
            atomic_write(out / "match.json", json.dumps([meeting.as_dict() for meeting in meetings], indent=1) + "\n")
    return meetings


def _meet(
    one_side: Entrant,
    other_side: Entrant,
    game: Game,
    games: int,
    opening_moves: int,
    seed: int,
    parallel: int,
    sprt: Sprt | None,
    stem: Path | None,
) -> Meeting:
    first, second = one_side.name, other_side.name
    at_once = min(parallel if is_program(first) or is_program(second) else _ALL_AT_ONCE, games + games % 2)
    one = make_seat(first, game, one_side.simulations, at_once, seed)
    try:
        other = make_seat(second, game, other_side.simulations, at_once, seed + 1)
    except RlsuiteError:
        one.close()
        raise
    played: dict[int, Played] = {}
    try:
        for found in play_games(game, one, other, games, opening_moves, seed, at_once):
            played[found.number] = found
            if stem is not None:
                _write(stem, game, found, first, second)
            _show_progress(score([p.points for p in played.values()]), first, second, games + games % 2)
            if found.ending not in ("", RESIGNED):
                print(f"\ngame {found.number + 1}: {found.ending}", file=sys.stderr)
            if sprt is not None and sprt.verdict(_pairs(played)) is not None:
                break
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)
        one.close()
        other.close()
    pairs = _pairs(played)
    played = {n: p for n, p in played.items() if n < 2 * len(pairs)}
    return Meeting(
        first,
        second,
        score([p.points for p in played.values()]),
        interval_of(pairs),
        tuple(sum(p.ending not in ("", RESIGNED) and p.points == lost for p in played.values()) for lost in (0, 1)),  # type: ignore[arg-type]
        sum(len(p.actions) for p in played.values()) / len(played),
        len({(p.side, *p.actions) for p in played.values()}),
        None if sprt is None else sprt.ratio(pairs),
        None if sprt is None else sprt.verdict(pairs),
    )


def _show_progress(result: Score, first: str, second: str, total: int) -> None:
    """Writes the score so far to standard error: one line that is overwritten, or about 20 lines if it is not a terminal."""
    tty = sys.stderr.isatty()
    if tty or result.games % max(1, total // 20) == 0:
        text = f"{_short(first)} against {_short(second)}: {result.games} of {total} games, "
        text += f"{result.wins} won, {result.draws} drawn, {result.losses} lost"
        print(f"\r{text}" if tty else text, end="" if tty else "\n", file=sys.stderr, flush=True)


def _pairs(played: dict[int, Played]) -> list[float]:
    """Each pair's points in [0, 1], up to the first unfinished pair: short games end first and must not count for more."""
    found = list[float]()
    while (n := 2 * len(found)) in played and n + 1 in played:
        found.append((played[n].points + played[n + 1].points) / 2)
    return found


def _write(stem: Path, game: Game, played: Played, first: str, second: str) -> None:
    players = (first, second) if played.side == 0 else (second, first)
    points = played.points if played.side == 0 else 1 - played.points
    path = stem.with_name(f"{stem.name}_{played.number + 1:04d}{game_records.suffix(game)}")
    game_records.write(path, game, played.actions, players, points, played.ending)


def _short(name: str) -> str:
    """A player's name for a file name."""
    last = name.rstrip("/").rsplit("/", 1)[-1] if "(" not in name else name
    return "".join(char if char.isalnum() else "-" for char in last).strip("-")[:40]


def rate(names: Sequence[str], meetings: Sequence[Meeting], seed: int) -> list[Rating]:
    """Ratings of all players from all meetings."""
    place = {name: at for at, name in enumerate(names)}
    results = [(place[m.first], place[m.second], m.score) for m in meetings]
    ratings, intervals = elo(results, len(names)), elo_intervals(results, len(names), seed)
    return [
        Rating(name, float(rating), (float(low), float(high)))
        for name, rating, (low, high) in zip(names, ratings, intervals, strict=True)
    ]


def describe(meeting: Meeting) -> str:
    """A meeting in one line."""
    found, (low, high) = meeting.score, meeting.interval
    text = (
        f"{meeting.first} against {meeting.second}: {found.wins} won, {found.draws} drawn, {found.losses} lost; "
        f"{found.points:.1%} [{low:.1%}, {high:.1%}] of the points, Elo {elo_of(found.points):+.0f} "
        f"[{elo_of(low):+.0f}, {elo_of(high):+.0f}] (95%), {meeting.moves:.0f} moves a game"
    )
    if meeting.different < found.games:
        text += f"; only {meeting.different} of the games are different, see --opening-moves"
    if any(meeting.failures):
        text += f"; crashes, time-outs and illegal moves: {meeting.failures[0]} and {meeting.failures[1]}"
    if meeting.ratio is not None:
        text += f"; log likelihood ratio {meeting.ratio:+.2f}: {meeting.verdict or 'open'}"
    return text
