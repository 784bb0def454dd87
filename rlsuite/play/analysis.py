"""Analyses a recorded game position by position: how much win rate every move lost, as a table and as a picture.

    game = read_game(Path("game.sgf"), "pretrained:go")
    for move in analyse(game, BoardPlayer("pretrained:go", game.game, simulations=400)):
        print(move.number, move.move, move.loss, move.best_move)

Win rates are shares in [0, 1] of the player who moves; a draw counts as half a win. Losses are in points of 100.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlsuite.boardgames import game_records, sgf
from rlsuite.boardgames.record import BadRecord, GameRecord
from rlsuite.core.errors import UsageError
from rlsuite.core.files import atomic_write, replacing
from rlsuite.core.game import BoardState, Game
from rlsuite.play.players import BoardPlayer, game_of, is_saved
from rlsuite.search import Puct, search

_BATCH = 64  # leaves that the net evaluates at once
_POSITIONS = 16  # maximum number of positions searched together, so that a block of positions is soon done
_NODES = 65_536  # maximum number of nodes in their trees; fewer positions are searched together if these would have more
_LEAVES = 16  # maximum number of leaves of one tree at once, as in a `Searcher`
_UNSET = 100  # simulations for a player that plays without a search
_WORST = 3  # number of worst moves listed for each side
_SMALL = 1.0  # points: moves that lose less are not listed
_RED = "#c0392b"


class MoveAnalysis(NamedTuple):
    """The search's assessment of a move that was made."""

    number: int  # from 1
    player: int  # the player who made it, 0 or 1
    action: int
    move: str
    before: float  # the player's win rate in the position before the move
    after: float  # the same player's win rate in the position after it
    proven_before: bool  # whether the win rate before the move is proven to be that of perfect play
    proven_after: bool
    best: int  # the action that the search would have chosen
    best_move: str

    @property
    def loss(self) -> float:
        """Points of win rate that the move gave away, in [0, 100]; 0 for the move that the search would have chosen."""
        return 0.0 if self.action == self.best else max(100 * (self.before - self.after), 0.0)

    def as_dict(self) -> dict[str, Any]:
        """The analysis as a dict for JSON."""
        return {**self._asdict(), "loss": self.loss}


def read_game(path: Path, player: str, number: int = 1, any_komi: bool = False) -> GameRecord:
    """Reads game `number`, from 1, of a file, to be analysed by `player`. The record's remarks say what is left out.

    If `player` is a saved agent, the record's game may show a net other planes than the agent's (`Game.seen_as`). A record without
    a komi gets the agent's; with `any_komi`, every record does. UsageError for a record that cannot be read, has no such game or no
    moves, or has a different game, board size or komi than the agent's.
    """
    game = game_of([player], None) if is_saved(player) else None
    records = list(game_records.read_all(path, game))
    if not 1 <= number <= len(records):
        raise UsageError(f"{path} has {len(records)} game{'s' * (len(records) != 1)}: there is no game {number}")
    record = records[number - 1]
    if isinstance(record, BadRecord):
        raise record
    if not record.actions:
        raise UsageError(f"{path} has no moves, so there is nothing to analyse")
    if game is not None and not any_komi and not record.has_komi_of(game):
        komi = game.parameters["komi"]
        raise UsageError(
            f"{path} is a game with komi {record.komi:g}, but {player} learned with {komi:g}, and its win rates are for that; "
            "--any-komi analyses the game as one with the agent's"
        )
    if len(records) > 1:
        record.notes.append(f"game {number} of {len(records)}; --game N picks another")
    if record.game.usual_start is not None:
        record.notes.append("it begins from a position that is set up")
    return record


def analyse(record: GameRecord, player: BoardPlayer, seed: int = 0) -> Iterator[MoveAnalysis]:
    """Searches all positions of a game, with `player.simulations` each, and yields an analysis of each move, in order.

    It uses the player's evaluator and settings, but always PUCT, like an analysis over GTP: Gumbel's sequential halving also spends
    visits on bad moves. UsageError for a player that does not search.
    """
    game, states = record.game, [record.game.new_state()]
    for action in record.actions:
        states.append(states[-1].apply(action))
    (evaluate, method), simulations = player.evaluator(game), player.simulations or _UNSET
    if not isinstance(method, Puct):
        method = Puct(noise_fraction=0.0)
    block = max(min(_POSITIONS, _NODES // simulations), 1)
    before: _Value | None = None
    for begin in range(0, len(states), block):
        part = states[begin : begin + block]
        open_ = [state for state in part if not state.is_terminal()]  # all, or all but the last
        values = list[_Value]()
        if open_:
            found = search(game, open_, evaluate, simulations, method, seed, min(_BATCH // block, _LEAVES), player.solve)
            values = [
                _Value(state, _share(value, state.player), bool(proven), int(action))
                for state, value, proven, action in zip(open_, found.value, found.proven, found.action, strict=True)
            ]
        values += [_Value(state, _share(state.returns()[0], 0), True, -1) for state in part[len(open_) :]]
        for at, after in enumerate(values, begin):
            if before is not None:
                yield _judged(at, record.actions[at - 1], before, after)
            before = after


class _Value(NamedTuple):
    """The result of a search of one position."""

    state: BoardState
    rate: float  # win rate of player 0
    proven: bool
    best: int  # the action that the search would choose; -1 if the game is over


def _share(value: float, player: int) -> float:
    """The win rate of player 0 from a value in [-1, 1] for a player."""
    return (1 + float(value if player == 0 else -value)) / 2


def _judged(number: int, action: int, before: _Value, after: _Value) -> MoveAnalysis:
    state, player = before.state, before.state.player
    return MoveAnalysis(
        number,
        player,
        action,
        state.text_of(action),
        before.rate if player == 0 else 1 - before.rate,
        after.rate if player == 0 else 1 - after.rate,
        before.proven,
        after.proven,
        before.best,
        state.text_of(before.best),
    )


def worst(moves: Sequence[MoveAnalysis], player: int, most: int = _WORST) -> list[MoveAnalysis]:
    """A player's moves that lost the most, the worst first, without those that lost less than a point."""
    costly = [move for move in moves if move.player == player and move.loss >= _SMALL]
    return sorted(costly, key=lambda move: -move.loss)[:most]


HEADER = f"{'move':>4}  {'player':<7} {'played':<8} {'before':>7}  {'after':>7}  {'loss':>6}  best"


def row(move: MoveAnalysis, game: Game) -> str:
    """A move as a line below `HEADER`. Results that the rules prove have a star."""
    before, after = _rate(move.before, move.proven_before), _rate(move.after, move.proven_after)
    rates = " ".join(f"{text if text.endswith('*') else text + ' ':>8}" for text in (before, after))
    side, loss = game.presentation.sides[move.player], f"{move.loss:.1f}" if move.loss else "-"
    best = "" if move.best == move.action else move.best_move
    return f"{move.number:>4}  {side:<7} {move.move:<8} {rates} {loss:>6}  {best}".rstrip()


def summary(moves: Sequence[MoveAnalysis], game: Game) -> list[str]:
    """A line for each side: the average loss of its moves, and its worst moves."""
    lines = []
    for player, side in enumerate(game.presentation.sides):
        own = [move for move in moves if move.player == player]
        if not own:
            continue
        named = [f"{move.number} {move.move} (-{move.loss:.1f}, best {move.best_move})" for move in worst(moves, player)]
        plural = "s" * (len(own) != 1)
        mean = f"{side}: {len(own)} move{plural}, {sum(move.loss for move in own) / len(own):.1f} points lost on average"
        lines.append(f"{mean}; worst: {', '.join(named) or f'none of {_SMALL:g} point or more'}")
    return lines


def check_sgf(game: Game) -> None:
    """UsageError for a game that SGF has no number for."""
    if game.presentation.sgf is None:
        raise UsageError(f"SGF does not know {game.name}, so its records cannot be annotated: --json has all of the analysis")


def write_sgf(record: GameRecord, moves: Sequence[MoveAnalysis], out: Path) -> None:
    """Writes the game with a comment on each of `moves`, which are its first moves or all. UsageError as in `check_sgf`."""
    game = record.game
    check_sgf(game)
    comments = [
        f"win rate of {game.presentation.sides[move.player]} {_rate(move.before, move.proven_before)} before, "
        f"{_rate(move.after, move.proven_after)} after"
        + ("" if move.best == move.action else f"; best {move.best_move}")
        + (f"; loss {move.loss:.1f}" if move.loss else "")
        for move in moves
    ]
    atomic_write(out, sgf.written(game, record.actions, record.players, record.points, record.ending, comments))


def _rate(share: float, proven: bool) -> str:
    return f"{100 * share:.1f}%{'*' if proven else ''}"


def draw(moves: Sequence[MoveAnalysis], game: Game, title: str, out: Path) -> None:
    """Plots player 0's win rate over the moves into a PNG file, with the moves marked that lost the most."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def rate(share: float, player: int) -> float:
        return 100 * (share if player == 0 else 1 - share)

    figure = Figure(figsize=(9, 4.5), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    first, sides = moves[0], game.presentation.sides
    rates = [rate(first.before, first.player), *(rate(move.after, move.player) for move in moves)]
    axes.plot(range(first.number - 1, moves[-1].number + 1), rates, color="0.3", linewidth=1.5)
    axes.axhline(50, color="0.7", linewidth=0.8)
    for player, colour in enumerate(("#222222", "white")):
        bad = worst(moves, player)
        spots = [(move.number, rate(move.after, player)) for move in bad]
        named = ", ".join(f"{move.number} {move.move} (-{move.loss:.0f})" for move in bad) or "-"
        label = f"worst moves of {sides[player]}: {named}"
        numbers, heights = [spot[0] for spot in spots], [spot[1] for spot in spots]
        axes.plot(numbers, heights, "o", color=colour, markeredgecolor=_RED, label=label)
        for spot in spots:  # labels are below the curve, which falls after a bad move of player 0, or above it
            place: Any = {
                "xytext": (0, (-6, 6)[player]),
                "textcoords": "offset points",
                "ha": "center",
                "va": ("top", "bottom")[player],
            }
            axes.annotate(str(spot[0]), spot, fontsize=8, color=_RED, **place)
    axes.set(xlabel="moves", ylabel=f"win rate of {sides[0]} (%)", title=title, ylim=(-8, 108), yticks=range(0, 101, 20))
    axes.legend(loc="best", fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    with replacing(out) as beside:
        figure.savefig(beside, format="png")
