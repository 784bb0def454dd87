"""The rules of our board games against published counts, OpenSpiel, and positions worked out by hand."""

import contextlib
from itertools import product
from typing import Any

import numpy as np
import pytest
from numba import njit

from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import UsageError
from rlsuite.core.game import BoardState, Game
from rlsuite.envs.boards import GAMES

SMALL = [
    "tic_tac_toe",
    "connect_four",
    "othello",
    "othello(size=6)",
    "gomoku(size=8)",
    "hex(size=6)",
    "go(size=5)",
    "go(size=5,planes=stones,history=3)",
    "go(size=7)",
]
OPEN_SPIEL = {  # ours -> theirs, games in the default set and in the slow one
    "tic_tac_toe": ("tic_tac_toe", 100),
    "connect_four": ("connect_four", 100),
    "othello": ("othello", 40),
    "gomoku(size=9)": ("gomoku(size=9)", 60),
    "gomoku(size=15)": ("gomoku", 10),
    "hex(size=7)": ("hex(board_size=7)", 60),
    "hex(size=11)": ("hex(board_size=11)", 10),
    "go(size=3)": ("go(board_size=3)", 100),
    "go(size=5)": ("go(board_size=5)", 60),
    "go(size=9)": ("go(board_size=9)", 20),
}


@njit
def perft(row: Any, depth: int, legal: Any, play: Any, actions: int) -> int:
    if depth == 0:
        return 1
    moves = np.empty(actions, np.int32)
    found = 0
    for i in range(legal(row, moves)):
        after = row.copy()
        play(after, moves[i])
        found += perft(after, depth - 1, legal, play, actions)
    return found


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("connect_four", [7, 49, 343, 2401, 16807, 117649, 823536, 5673234]),
        ("othello", [4, 12, 56, 244, 1396, 8200, 55092, 390216]),
        ("tic_tac_toe", [9, 72, 504, 3024, 15120, 54720, 148176, 200448, 127872]),
        ("go(size=5)", [26, 651, 15650, 361041]),
        ("go(size=9)", [82, 6643, 531522]),
    ],
)
def test_perft(name: str, counts: list[int]) -> None:
    """The number of move sequences by length: published for the first three games, from OpenSpiel for Go."""
    game = make_game(name)
    row = game.new_state().row
    got = [perft(row, depth, game.rules.legal, game.rules.play, game.num_actions) for depth in range(1, len(counts) + 1)]
    assert got == counts


def test_tic_tac_toe_has_255168_games_and_5478_positions() -> None:
    known: dict[BoardState, tuple[int, int, int]] = {}

    def count(state: BoardState) -> tuple[int, int, int]:
        """Games from here that x wins, o wins, nobody wins."""
        if state not in known:
            if state.is_terminal():
                known[state] = {1.0: (1, 0, 0), -1.0: (0, 1, 0), 0.0: (0, 0, 1)}[state.returns()[0]]
            else:
                below = [count(state.apply(action)) for action in state.legal_actions()]
                known[state] = tuple(sum(column) for column in zip(*below, strict=True))  # type: ignore[assignment]
        return known[state]

    assert count(make_game("tic_tac_toe").new_state()) == (131184, 77904, 46080)
    assert len(known) == 5478


def test_connect_four_distinct_positions_by_ply() -> None:
    layer = {make_game("connect_four").new_state()}
    sizes = []
    for _ in range(6):
        sizes.append(len(layer))
        layer = {state.apply(action) for state in layer for action in state.legal_actions()}
    assert [*sizes, len(layer)] == [1, 7, 49, 238, 1120, 4263, 16422]


def compare(name: str, games: int) -> dict[str, int]:
    """Plays random games in OpenSpiel too and compares legal actions, player, end and result in every position."""
    theirs_name = OPEN_SPIEL[name][0]
    pyspiel = pytest.importorskip("pyspiel", reason="pip install rlsuite[boards]")
    game, theirs = make_game(name), pyspiel.load_game(theirs_name)
    rng, is_go = np.random.default_rng(1), name.startswith("go")
    seen = {"positions": 0, "superko": 0, "draws": 0}
    for _ in range(games):
        ours, other = game.new_state(), theirs.new_initial_state()
        while not other.is_terminal():
            legal = ours.legal_actions()
            extra = set(other.legal_actions()) - set(legal)
            if extra and is_go:  # OpenSpiel allows a position to repeat and calls that a draw
                seen["superko"] += len(extra)
                assert all(other.child(action).is_terminal() and other.child(action).returns() == [0, 0] for action in extra)
                assert set(legal) <= set(other.legal_actions())
            else:
                assert legal == other.legal_actions()
            assert ours.player == other.current_player()
            assert not ours.is_terminal()
            if is_go and len(legal) > 1 and rng.random() < 0.97:
                legal.pop()  # two passes end the game soon
            action = int(rng.choice(legal))
            ours, seen["positions"] = ours.apply(action), seen["positions"] + 1
            other.apply_action(action)
        assert ours.is_terminal()
        assert list(ours.returns()) == other.returns()
        assert ours.legal_actions() == []
        seen["draws"] += ours.returns()[0] == 0
    return seen


@pytest.mark.parametrize("name", OPEN_SPIEL)
def test_random_games_equal_open_spiel(name: str) -> None:
    seen = compare(name, OPEN_SPIEL[name][1])
    assert seen["positions"] > 10 * OPEN_SPIEL[name][1] * (0.5 if name == "tic_tac_toe" else 1)
    if name in ("tic_tac_toe", "othello"):
        assert seen["draws"] > 0
    if name == "go(size=3)":
        assert seen["superko"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", OPEN_SPIEL)
def test_a_thousand_random_games_equal_open_spiel(name: str) -> None:
    compare(name, 1000)


def go(board: str, size: int, komi: float = 7.5) -> BoardState:
    return make_game("go", size=size, komi=komi).parse_state(board)


@pytest.mark.parametrize(("size", "legal"), [(1, 1), (2, 57), (3, 12675)])
def test_go_legal_positions(size: int, legal: int) -> None:
    """The number of arrangements in which every chain has a liberty (Tromp and Farnebäck)."""
    game = make_game("go", size=size, komi=0.5)
    found = 0
    for stones in product(".xo", repeat=size * size):
        lines = ["".join(stones[y * size : (y + 1) * size]) for y in range(size)]
        with contextlib.suppress(UsageError):
            game.parse("\n".join([*lines, "x to play"]))
            found += 1
    assert found == legal


def test_go_a_ko_cannot_be_retaken_at_once() -> None:
    state = go(".xo..\nx.xo.\n.xo..\n.....\n.....\no to play", 5)
    taken = state.apply(6)  # white takes the ko
    assert str(taken).splitlines()[:3] == [".xo..", "xo.o.", ".xo.."]
    assert 7 not in taken.legal_actions()
    later = taken.apply(24).apply(20)  # a ko threat and its answer
    assert 7 in later.legal_actions()
    assert str(later.apply(7)).splitlines()[1] == "x.xo."


def test_go_superko_looks_further_back_than_ko() -> None:
    """On 2x2 stones are captured all the time, and no move may lead to an arrangement that was there before."""
    game = make_game("go", size=2, komi=0.5)
    seen, state = set(), game.new_state()
    rng = np.random.default_rng(0)
    for _ in range(200):
        if state.is_terminal():
            seen, state = set(), game.new_state()
        board = "".join(str(state).splitlines()[:2])
        legal = state.legal_actions()
        for action in legal[:-1]:
            after = "".join(str(state.apply(action)).splitlines()[:2])
            assert after not in seen | {board}
        seen.add(board)
        state = state.apply(int(rng.choice(legal[:-1] or legal)))


def test_go_suicide_is_illegal_but_a_capture_without_liberties_is_not() -> None:
    state = go("xx.\nx.x\n.x.\no to play", 3)
    assert 4 not in state.legal_actions()
    assert 4 in go("xx.\nx.x\n.x.\nx to play", 3).legal_actions()
    # White fills the last liberty of the surrounding chain and so gets one.
    state = go(".xo\nxxo\noo.\no to play", 3)
    assert str(state.apply(0)).splitlines()[:3] == ["o.o", "..o", "oo."]


def test_go_area_scoring_and_komi() -> None:
    board = ".x.o.\nxx.oo\n.x.o.\nxx.o.\n.x.o."
    for komi, winner in ((0, 0.0), (0.5, -1.0), (-0.5, 1.0)):  # ten points each, the middle column is neutral
        state = go(board + "\nx to play", 5, komi).apply(25).apply(25)
        assert state.is_terminal()
        assert state.returns() == (winner, -winner)
    alone = go("x..\n...\n...\no to play", 3, 7.5).apply(9).apply(9)
    assert alone.returns() == (1.0, -1.0)  # the whole board is black's
    empty = make_game("go", size=3, komi=0.5).new_state().apply(9).apply(9)
    assert empty.returns() == (-1.0, 1.0)


def test_othello_passes_where_nothing_else_is_legal() -> None:
    game = make_game("othello", size=4)
    state = game.parse_state("xxxx\nxxxx\nxxxo\nxxx.\nx to play")
    assert state.legal_actions() == [15]
    stuck = game.parse_state("xxxx\nxxxx\nxxxo\nxxx.\no to play")
    assert stuck.legal_actions() == [16]
    assert stuck.apply(16).player == 0
    end = state.apply(15)
    assert end.is_terminal()
    assert end.returns() == (1.0, -1.0)


def test_othello_a_move_turns_discs_in_every_direction() -> None:
    board = ["x.x.x...", ".ooo....", "xo.ox...", ".ooox...", "x.xxx...", "........", "........", "........"]
    state = make_game("othello").parse_state("\n".join([*board, "x to play"]))
    assert str(state.apply(2 * 8 + 2)).splitlines()[:5] == ["x.x.x...", ".xxx....", "xxxxx...", ".xxxx...", "x.xxx..."]


def test_hex_sides_belong_to_players() -> None:
    game = make_game("hex", size=3)
    down = game.new_state()
    for action in (1, 0, 4, 3, 7):
        down = down.apply(action)
    assert down.returns() == (1.0, -1.0)
    across = game.new_state()
    for action in (0, 3, 1, 4, 8, 5):
        across = across.apply(action)
    assert across.returns() == (-1.0, 1.0)


@pytest.mark.parametrize("name", SMALL)
def test_a_game_is_immutable_and_refuses_illegal_moves(name: str) -> None:
    state = make_game(name).new_state()
    text, legal = str(state), state.legal_actions()
    after = state.apply(legal[0])
    assert (str(state), state.legal_actions()) == (text, legal)
    assert after != state
    assert state.apply(legal[0]) == after
    assert hash(after) == hash(state.apply(legal[0]))
    state.row[:] = 0
    assert str(state) == text
    with pytest.raises(UsageError, match="illegal here; legal: "):
        state.apply(999)
    with pytest.raises(UsageError, match="illegal"):
        state.apply(-1)
    rng = np.random.default_rng(0)
    while not state.is_terminal():
        state = state.apply(int(rng.choice(state.legal_actions())))
    with pytest.raises(UsageError, match="the game is over"):
        state.apply(0)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("tic_tac_toe", "xx.\n...\n...", "2 x and 0 o cannot arise"),
        ("tic_tac_toe", "xxx\nooo\n...", "goes on after x has won"),
        ("tic_tac_toe", "xxx\noo.\no..", "goes on after x has won"),
        ("tic_tac_toe", "xx.\n..", "3 lines of 3"),
        ("tic_tac_toe", "xz.\n...\n...", "'z' in line 1"),
        ("gomoku(size=6,connect=3)", "xxx...\nooo...\nooo...\nxxx...\n......\n......", "goes on after x has won"),
        ("gomoku(size=6,connect=3)", "xxx...\noo.o..\n.oo...\nxxx...\n......\n......", "no single move"),
        ("connect_four", ".......\n.......\n.......\n.......\nx......\n.......", "floats in column a"),
        ("connect_four", ".......\n.......\n.......\n.......\n.......\nxx.....", "no order of moves"),
        ("connect_four", ".......\n.......\n.......\n.......\n.......\noooox..", "no order of moves"),
        ("connect_four", ".......\n.......\n.......\n.......\noooo...\nxxxx...", "no order of moves"),
        ("othello(size=4)", "....\n.x..\n.xo.\n....\nx to play", "never empty"),
        ("othello(size=4)", "....\n.ox.\n.xo.\n....", "the last line"),
        ("othello(size=6)", "x.....\n......\n..ox..\n..xo..\n......\n......\nx to play", "all discs are connected"),
        ("othello(size=4)", "....\n.ox.\n.xo.\n....\nover", "not over"),
        ("hex(size=3)", "x..\n x..\n  ...", "2 x and 0 o"),
        ("hex(size=3)", "xo.\n x.o\n  xo.", "goes on after x has won"),
        ("go(size=3)", "xo.\no..\n...\nx to play", "the chain on a3 has no liberty"),
        ("go(size=3)", "...\n...\n...\nblack", "the last line"),
    ],
)
def test_a_board_that_cannot_arise_is_refused(name: str, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make_game(name).parse(text)


def test_a_win_of_two_rows_by_one_move_can_arise() -> None:
    state = make_game("tic_tac_toe").parse_state("xxx\nxoo\nxoo")
    assert state.is_terminal()
    assert state.returns() == (1.0, -1.0)


def test_make_game_reads_names_and_refuses_others() -> None:
    assert make_game("go(size=5, komi=6.5)").name == make_game("go", size=5, komi=6.5).name == "go(size=5,komi=6.5)"
    for call, reason in [
        ("gp", "unknown game 'gp'; did you mean go"),
        ("go(sze=5)", "unknown parameter of go 'sze'; did you mean size"),
        ("go(size=x)", "'x' is not a number"),
        ("go(size=7.5)", "is not a whole number"),
        ("go(komi=nan)", "is not a finite number"),
        ("openspiel", "needs game="),
        ("go size", "names no game"),
        ("go(size=40)", "allowed are 1 to 19"),
        ("go(size=5,komi=26)", "up to the 25 points"),
        ("othello(size=7)", "even sizes"),
        ("hex(size=1)", "2 to 19"),
        ("gomoku(size=4,connect=5)", "connect 5"),
        ("tic_tac_toe(size=4)", "unknown parameter of tic_tac_toe"),
    ]:
        with pytest.raises(UsageError, match=reason.replace("(", r"\(")):
            make_game(call)


@pytest.mark.parametrize("name", sorted({*GAMES} - {"openspiel"}))
def test_every_action_has_a_name(name: str) -> None:
    game: Game = make_game(name)
    texts = [game.action_text(action) for action in range(game.num_actions)]
    assert len(set(texts)) == game.num_actions
    assert game.new_state().observation().shape == game.observation_shape
