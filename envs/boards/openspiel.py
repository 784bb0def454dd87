"""Games of OpenSpiel (Lanctot et al. 2019) as a `Game`: `openspiel(game=chess)`, `openspiel(game=go(board_size=9))`.

They must be deterministic, sequential, zero-sum games for two players with perfect information. A row holds the moves since the
start; the positions that these lead to are kept in Python. So a search is slower than with rules in numba (thousands of simulations
per second, not a million), and transpositions count as different positions. Observations are OpenSpiel's planes and one more plane
that says whose turn it is.
"""

import ctypes
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding
import numpy as np
from numba import types
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError, one_line, unknown
from rlsuite.core.game import Actions, Game, Planes, Presentation, Row, Rules
from rlsuite.core.hashing import mix
from rlsuite.core.kernel_cache import kernel

_HEAD = 16  # bytes of a row before the moves: the game's number (8), how many moves there are (4), how many there may be (4)
_ASKED = 15  # the last of these bytes, which is otherwise 0: 1 + the player named by `set_player`
_KEPT = 50_000  # positions of all games together
_FRACTION = 100  # planes with fractions are stored in hundredths


class _Loaded(NamedTuple):
    """A game that OpenSpiel has loaded."""

    first: Any  # the first state
    start: str  # its text if it is not the usual one, such as a FEN
    scale: int  # the factor by which planes are stored


_games: dict[int, _Loaded] = {}  # a row's number -> game
_states: OrderedDict[bytes, Any] = OrderedDict()  # a game and its moves -> position, least recently used first


def openspiel(game: str, max_moves: int = 512) -> Game:
    """An OpenSpiel game by its name in `pyspiel.load_game`. If it is not over after `max_moves` moves, it is a draw.

    UsageError if open_spiel is not installed, for an unknown game, and for one with chance, hidden information, simultaneous
    moves, another number of players, or payoffs that are not zero-sum.
    """
    try:
        import pyspiel
    except ImportError as error:
        raise UsageError("openspiel(...) needs OpenSpiel: pip install open-spiel") from error
    if game.split("(")[0] not in (names := pyspiel.registered_names()):  # load_game would print all of them
        raise unknown("game of OpenSpiel", game.split("(")[0], names)
    try:
        loaded = pyspiel.load_game(game)
    except Exception as error:  # pyspiel's own error class is not public
        raise UsageError(f"OpenSpiel refuses {game}: {one_line(error)}") from error
    kind = loaded.get_type()
    for fine, why in (
        (kind.chance_mode == pyspiel.GameType.ChanceMode.DETERMINISTIC, "has chance"),
        (kind.dynamics == pyspiel.GameType.Dynamics.SEQUENTIAL, "has simultaneous moves"),
        (kind.information == pyspiel.GameType.Information.PERFECT_INFORMATION, "hides something from a player"),
        (loaded.num_players() == 2, f"is for {loaded.num_players()} players"),
        (kind.utility == pyspiel.GameType.Utility.ZERO_SUM, "is not zero-sum"),
        (kind.provides_observation_tensor, "has no observation tensor"),
    ):
        if not fine:
            allowed = "only deterministic zero-sum games for two players that hide nothing can be played"
            raise UsageError(f"OpenSpiel's {game} {why}: {allowed}")
    if not 1 <= max_moves <= 10_000:
        raise UsageError(f"openspiel: max_moves = {max_moves}; allowed are 1 to 10,000")
    longest = min(loaded.max_game_length(), max_moves)
    name = f"openspiel(game={game},max_moves={max_moves})"
    start = np.zeros(_HEAD + -(-2 * longest // 8) * 8, np.int8)
    start[8:_HEAD].view(np.int32)[1] = longest
    try:
        scale = _FRACTION if _has_fractions(loaded) else 1
    except Exception as error:
        raise UsageError(f"OpenSpiel refuses {game}: {one_line(error)}") from error

    def register(row: Row, first: Any, text: str) -> None:
        """Registers a start state `first`, whose text is `text`, and writes its number into an empty row."""
        number = int(mix(np.frombuffer(f"{name}{text}".encode(), np.int8), np.uint64(0))) >> 1
        row[:8].view(np.int64)[0] = number
        _games[number] = _Loaded(first, text, scale)

    register(start, loaded.new_initial_state(), "")
    shape = _shape(loaded)
    cells, actions = shape[1] * shape[2], loaded.num_distinct_actions()

    def action_text(action: int) -> str:
        return f"action {action}"

    def board_text(row: Row) -> str:
        first = _game(row).start
        begin = f"start: {first}\n" if first else ""
        return f"{position(row)}\n{begin}moves: {' '.join(map(str, _moves(row)))}"

    def parse(text: str) -> Row:
        first, last = ["", "", *text.strip().splitlines()][-2:]
        if not last.startswith("moves:"):
            raise UsageError(f"{name}: the last line of a board text lists the moves so far: `moves: 3 1 4`")
        row = start.copy()
        if first.startswith("start: "):
            begin = first.removeprefix("start: ")
            try:
                register(row, loaded.new_initial_state(begin), begin)
            except Exception as error:  # pyspiel's own error class is not public
                raise UsageError(f"{name} cannot begin from {begin!r}") from error
        for word in last.removeprefix("moves:").split():
            legal = position(row).legal_actions()
            if not word.isdigit() or int(word) not in legal:
                raise UsageError(f"{name}: move {word!r} is illegal there; legal: {legal[:20]}")
            play(row, int(word))
        return row

    return Game(
        name=name,
        rules=RULES,
        start=start,
        num_actions=actions,
        observation_shape=shape,
        max_moves=longest,
        cell_maps=np.arange(cells, dtype=np.int32)[None],
        action_maps=np.arange(actions, dtype=np.int32)[None],
        action_text=action_text,
        board_text=board_text,
        parse=parse,
        plane_scale=1 / scale,
        move_text=lambda row, action: str(position(row).action_to_string(action)),
        set_player=set_player,
        presentation=Presentation(("Black", "White"), "chess", uci=_uci) if game == "chess" else Presentation(board="text"),
    )


def _uci(row: Row, action: int) -> str:
    """A chess move in UCI notation."""
    import pyspiel

    return str(pyspiel.chess.action_to_move(action, position(row).board()).to_lan())


def _shape(game: Any) -> tuple[int, int, int]:
    """The shape [C+1,H,W] of the planes: a vector becomes a column of channels, a matrix one plane."""
    given = list(game.observation_tensor_shape())
    three = given if len(given) == 3 else [given[0], 1, 1] if len(given) == 1 else [int(np.prod(given[:-2])), *given[-2:]]
    return int(three[0]) + 1, int(three[1]), int(three[2])


def _has_fractions(game: Any) -> bool:
    """Whether the planes of three random games hold fractions."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        state = game.new_initial_state()
        for _ in range(200):
            if state.is_terminal():
                break
            seen = np.array(state.observation_tensor(state.current_player()))
            if (seen != np.round(seen)).any():
                return True
            state.apply_action(int(rng.choice(state.legal_actions())))
    return False


def _game(row: Row) -> _Loaded:
    return _games[int(row[:8].view(np.int64)[0])]


def _count(row: Row) -> int:
    """The number of moves since the start."""
    return int(row[8:_HEAD].view(np.int32)[0])


def _moves(row: Row) -> list[int]:
    """The moves since the start."""
    return [int(move) for move in row[_HEAD : _HEAD + 2 * _count(row)].view(np.int16)]


def position(row: Row) -> Any:
    """The OpenSpiel state that the row's moves lead to. It is shared with the cache: do not change it."""
    count = known = _count(row)
    while (state := _states.get(_key(row, known))) is None and known > 0:  # back to the last position that is cached
        known -= 1
    if state is None:
        state = _states[_key(row, 0)] = _game(row).first.clone()
    _states.move_to_end(_key(row, known))
    for at in range(known, count):
        state = state.clone()
        state.apply_action(int(row[_HEAD + 2 * at :][:2].view(np.int16)[0]))
        _states[_key(row, at + 1)] = state
    while len(_states) > _KEPT:
        _states.popitem(last=False)
    return state


def _key(row: Row, count: int) -> bytes:
    """A row's game and its first `count` moves, as a key of `_states`."""
    return row[:8].tobytes() + row[_HEAD : _HEAD + 2 * count].tobytes()


# Compiled rules call Python through these functions. `objmode` would do the same, but it puts addresses of this process into the
# compiled code, which could then not be cached on disk. These names are looked up when the code is loaded.
_ARGUMENTS = 5  # address and bytes of the row, address of an array for the answer, its length or [rows, columns]
_FAILED, _INTERRUPTED = -1, -2


def _callable(ask: Callable[[Row, int, int, int], int]) -> Any:
    """Makes a Python function callable from compiled rules; an exception becomes the result `_FAILED` or `_INTERRUPTED`."""

    def answer(row: int, size: int, out: int, rows: int, columns: int) -> int:
        try:
            return ask(_array(row, size, np.int8), out, rows, columns)
        except KeyboardInterrupt:
            return _INTERRUPTED
        except BaseException:  # cannot pass through compiled code
            traceback.print_exc()
            return _FAILED

    name, kind = f"rlsuite_openspiel{ask.__name__}", ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_size_t] * _ARGUMENTS)
    _exposed.append(kind(answer))
    llvmlite.binding.add_symbol(name, ctypes.cast(_exposed[-1], ctypes.c_void_p).value)
    return types.ExternalFunction(name, types.int64(*[types.uintp] * _ARGUMENTS))


_exposed: list[Any] = []  # keeps the callbacks alive


def _array(address: int, size: int, dtype: Any) -> NDArray[Any]:
    """A view of the `size` elements at a memory address."""
    return np.frombuffer((ctypes.c_char * (size * np.dtype(dtype).itemsize)).from_address(address), dtype)


@_callable
def _ask_player(row: Row, out: int, rows: int, columns: int) -> int:
    return max(0, int(position(row).current_player()))  # -4 where the game is over


@_callable
def _ask_legal(row: Row, out: int, rows: int, columns: int) -> int:
    count, most = row[8:_HEAD].view(np.int32)
    legal = position(row).legal_actions() if count < most else []  # none where the game is over
    _array(out, rows, np.int32)[: len(legal)] = legal
    return len(legal)


@_callable
def _ask_outcome(row: Row, out: int, rows: int, columns: int) -> int:
    state, value = position(row), _array(out, 1, np.float64)
    if state.is_terminal():
        value[0] = np.clip(state.returns()[0], -1, 1)
        return 1
    count, most = row[8:_HEAD].view(np.int32)
    value[0] = 0.0
    return int(count >= most)


@_callable
def _ask_planes(row: Row, out: int, rows: int, columns: int) -> int:
    state, scale = position(row), _game(row).scale
    planes = _array(out, rows * columns, np.int8).reshape(rows, columns)
    mover = int(row[_ASKED]) - 1 if row[_ASKED] else max(0, int(state.current_player()))
    seen = np.array(state.observation_tensor(mover)) * scale
    planes[:-1] = np.clip(np.round(seen), -127, 127).reshape(rows - 1, columns)
    planes[-1] = mover * scale
    return 0


class Interrupted(KeyboardInterrupt, Exception):
    """Ctrl-C during a call to Python, as an exception that compiled code can raise."""


@kernel()
def _checked(answer: int) -> int:
    """The result of a call to Python. Interrupted or RuntimeError if the call failed."""
    if answer == _INTERRUPTED:
        raise Interrupted
    if answer == _FAILED:
        raise RuntimeError("OpenSpiel gives no answer: see above")
    return answer


@kernel()
def init(row: Row) -> None:
    """Does nothing: a new game has no moves."""


@kernel()
def player(row: Row) -> int:
    """The player to move."""
    return _checked(_ask_player(row.ctypes.data, row.size, 0, 0, 0))


@kernel()
def outcome(row: Row) -> tuple[bool, float]:
    """OpenSpiel's result, or a draw once the maximum number of moves is reached."""
    value = np.empty(1)
    over = _checked(_ask_outcome(row.ctypes.data, row.size, value.ctypes.data, 1, 1))
    return over == 1, value[0]


@kernel()
def legal(row: Row, actions: Actions) -> int:
    """OpenSpiel's legal actions."""
    return _checked(_ask_legal(row.ctypes.data, row.size, actions.ctypes.data, actions.size, 1))


@kernel()
def play(row: Row, action: int) -> None:
    """Appends a move to those of the row."""
    head = row[8:_HEAD].view(np.int32)
    row[_HEAD:].view(np.int16)[head[0]] = action
    head[0] += 1


@kernel()
def encode(row: Row, planes: Planes) -> None:
    """OpenSpiel's observation tensor of the player to move, then a plane with that player's number."""
    channels = planes.shape[0]
    _checked(_ask_planes(row.ctypes.data, row.size, planes.ctypes.data, channels, planes.size // channels))


@kernel()
def position_hash(row: Row) -> np.uint64:
    """A hash of the game and all moves so far."""
    return mix(row, np.uint64(0))


def set_player(row: Row, player: int) -> None:
    """Sets the player whose observation `encode` writes; afterwards, the row can only be encoded."""
    row[_ASKED] = 1 + player


RULES = Rules(init, player, legal, play, outcome, encode, position_hash)
