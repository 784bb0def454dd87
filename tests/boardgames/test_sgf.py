"""SGF as other programs write it is read; ours is what the standard and sgfmill expect."""

from pathlib import Path

import numpy as np
import pytest
from sgfmill import sgf

from rlsuite.boardgames import game_records
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.record import AFTER_THE_END, GameRecord
from rlsuite.boardgames.sgf import GUESSED, points_of
from rlsuite.core.errors import UsageError

CASES = Path(__file__).parent / "records"


def read(text: str | bytes, game: str | None = None) -> GameRecord:
    content = text.encode() if isinstance(text, str) else text
    return game_records.read(content, None if game is None else make_game(game))


def names(record: GameRecord) -> list[str]:
    """The moves as SGF writes points of Go, "" for a pass."""
    size = record.game.observation_shape[1]
    return ["" if a == size * size else f"{chr(97 + a % size)}{chr(97 + a // size)}" for a in record.actions]


def test_sgf_of_other_programs() -> None:
    record = read("(;GM[1]FF[4]SZ[5]KM[0.375]RE[B+3];B[cc];W[];B[bb](;W[aa];B[tt])(;W[dd]))")
    assert record.game.name == "go(size=5,komi=0.375)"
    assert record.notes == []
    assert record.actions == [12, 25, 6, 0, 25]
    assert (record.points, record.ending) == (1.0, "")


def test_a_byte_order_mark_a_size_of_two_numbers_and_komi_in_hundredths() -> None:
    record = game_records.read(CASES / "other_programs.sgf")
    assert record.game.name == "go(size=19,komi=7.5)"
    assert names(record) == ["pd", "dp"]
    assert record.players == ("x", "y")


def test_play_that_goes_on_after_two_passes_is_read_up_to_them() -> None:
    record = game_records.read(CASES / "play_goes_on_after_passes.sgf")
    assert names(record) == ["ee", "", ""]
    assert record.notes == [AFTER_THE_END]


def test_hex_by_the_standard() -> None:
    record = game_records.read(CASES / "hex_by_the_standard.sgf")
    assert record.game.name == "hex(size=6)"
    assert names(record) == ["ac", "ff", "cd"]
    assert record.notes == ["swap-pieces is read as a change of colours, and the later moves are mirrored"]


@pytest.mark.parametrize(
    ("text", "komi"),
    [
        ("6.5", 6.5),
        ("6,5", 6.5),
        ("375", 7.5),
        ("-375", -7.5),
        ("650", 6.5),
        ("550", 5.5),
        ("3.75", 7.5),
        ("2.75", 5.5),
        ("0", 0),
        ("-5.5", -5.5),
        ("100.0", 100),
        ("x", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e308", None),
    ],
)
def test_komi(text: str, komi: float | None) -> None:
    assert points_of(text) == komi
    if komi is None:
        note = "its komi cannot be understood" if text else "it gives no komi"
        assert read(f"(;SZ[19]KM[{text}];B[cc])" if text else "(;SZ[19];B[cc])").notes == [note]
    else:
        assert read(f"(;SZ[19]KM[{text}];B[cc])").game.parameters["komi"] == komi


def test_a_handicap_is_the_start_position() -> None:
    record = read("(;GM[1]SZ[5]KM[0.5]HA[2]AB[bb][dd];W[cc];B[cb])")
    assert str(record.game.new_state()) == ".....\n.x...\n.....\n...x.\n.....\no to play"
    assert names(record) == ["cc", "cb"]
    assert str(read("(;SZ[5]HA[2]AB[bb][dd])").game.new_state()).endswith("o to play")  # without a move
    later = read("(;GM[1]SZ[5]HA[2];AB[bb]AB[dd];W[cc])")  # in a node of their own
    assert later.game.new_state() == read("(;GM[1]SZ[5]HA[2]AB[bb][dd];W[cc])").game.new_state()
    moves = read("(;GM[1]SZ[5]HA[2];B[bb];B[dd];W[cc])")  # as Black's first moves
    assert (moves.game.new_state(), names(moves)) == (later.game.new_state(), ["cc"])


@pytest.mark.parametrize(
    ("setup", "board"),
    [
        ("AB[aa:cb]PL[W]", "xxx..\nxxx..\n.....\n.....\n.....\no to play"),
        ("AB[aa:cc]AE[bb]AW[ee]PL[B]", "xxx..\nx.x..\nxxx..\n.....\n....o\nx to play"),
        ("PL[W]", ".....\n.....\n.....\n.....\n.....\no to play"),
        ("AB[]AW[]HA[0]", ".....\n.....\n.....\n.....\n.....\nx to play"),
        ("AB[cc]", ".....\n.....\n..x..\n.....\n.....\nx to play"),
    ],
)
def test_stones_that_are_set_up(setup: str, board: str) -> None:
    assert str(read(f"(;SZ[5]{setup})").game.new_state()) == board


def test_a_position_of_the_other_games() -> None:
    othello = read("(;GM[2]SZ[4]AB[bc][cb][db]AW[bb][cc]PL[W];W[ca])", "othello(size=4)")
    assert str(othello.game.new_state()) == "....\n.oxx\n.xo.\n....\no to play"
    usual = read("(;GM[2]SZ[4]AB[cb][bc]AW[bb][cc];B[ab])", "othello(size=4)")  # the usual one, written out
    assert usual.game.usual_start is None
    assert names(read("(;GM[4]SZ[5]AB[aa]AW[bb];B[cc])", "gomoku(size=5)")) == ["cc"]
    assert names(read("(;GM[11]SZ[5]AB[a1]AW[b2];B[c3])")) == ["cc"]
    with pytest.raises(UsageError, match="its start position"):
        read("(;GM[11]SZ[5]AB[a1][b2];W[c3])")


def test_an_empty_board_repeats_no_start_position() -> None:
    """The first arrangement is part of the history that superko looks at."""
    record = read("(;SZ[3]AB[ba][ab][bc]AW[ca][bb][cc]PL[B])")
    state = record.game.new_state()
    taken = state.apply(5)  # takes b2
    assert 4 not in taken.legal_actions()  # to take back would bring back the start
    assert 4 not in taken.apply(9).apply(9).legal_actions()


def test_hex_as_it_was_written_so_far_and_as_it_is_written_now(tmp_path: Path) -> None:
    assert names(read("(;GM[11]SZ[5];B[aa];W[bc])")) == ["aa", "bc"]
    path = tmp_path / "game.sgf"
    game_records.write(path, make_game("hex(size=11)"), [0, 120, 22], ("a", "b"))
    assert path.read_text().splitlines()[1] == ";B[a1];W[k11];B[a3])"
    assert game_records.read(path).actions == [0, 120, 22]


def test_swaps_of_hex() -> None:
    sides = read("(;GM[11]SZ[3]PB[one]PW[two]RE[W+R];B[a2];W[swap-sides];W[b2])")
    assert (names(sides), sides.points) == (["ab", "bb"], 0.0)
    assert sides.notes == ["swap-sides is read as a change of the players behind the colours"]
    pieces = read("(;GM[11]SZ[3]PB[one]PW[two]RE[B+];B[a2];W[swap-pieces];B[a1];W[c2];B[c3])")
    assert names(pieces) == ["ab", "aa", "bc", "cc"]  # mirrored from the swap on
    assert (pieces.players, pieces.points) == (("two", "one"), 0.0)
    given_up = read("(;GM[11]SZ[3];B[a2];W[b2];B[resign])")
    assert (names(given_up), given_up.points, given_up.ending) == (["ab", "bb"], 0.0, "resigned")
    with pytest.raises(UsageError, match="move 1, 'swap-pieces', is off the board"):
        read("(;GM[11]SZ[3];B[swap-pieces])")


def test_othello_without_its_forced_passes() -> None:
    state, moves, rng = make_game("othello(size=6)").new_state(), list[tuple[int, int]](), np.random.default_rng(0)
    while not state.is_terminal():
        action = int(rng.choice(state.legal_actions()))
        moves.append((state.player, action))
        state = state.apply(action)
    text = "".join(f";{'BW'[p]}[{chr(97 + a % 6)}{chr(97 + a // 6)}]" for p, a in moves if a < 36)
    assert any(action == 36 for _, action in moves)
    assert read(f"(;GM[2]SZ[6]{text})").actions == [action for _, action in moves]


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        ("(;SZ[5]CA[Shift_JIS]PB[ソ]PW[表];B[aa]C[ソ];W[bb])", "shift_jis"),
        ("(;SZ[5]CA[x-sjis]PB[ソ]PW[表];B[aa]C[ソ];W[bb])", "cp932"),
        ("(;SZ[5]CA[Big5]PB[功]PW[許];B[aa]C[功];W[bb])", "big5"),
        ("(;SZ[5]CA[GBK]PB[昞]PW[昞];B[aa]C[昞];W[bb])", "gbk"),
        ("(;SZ[5]CA[gb2312]PB[黑]PW[白];B[aa];W[bb])", "gbk"),
        ("(;SZ[5]CA[EUC-KR]PB[흑]PW[백];B[aa];W[bb])", "euc_kr"),
        ("(;SZ[5]CA[ISO-8859-1]PB[Müller]PW[Kähler];B[aa];W[bb])", "latin-1"),
        ("(;SZ[5]CA[UTF-8]PB[黑]PW[白];B[aa];W[bb])", "utf-8-sig"),
        ("(;SZ[5]CA[gb2312]PB[黑]PW[白];B[aa];W[bb])", "utf-8"),  # declared wrongly
        ("(;SZ[5]PB[黑]PW[白];B[aa];W[bb])", "utf-16"),
        ("(;SZ[5]PB[黑]PW[白];B[aa];W[bb])", "utf-16-le"),
        ("(;SZ[5]PB[黑]PW[白];B[aa];W[bb])", "utf-16-be"),
        ("(;SZ[5]CA[ISO-2022-JP]PB[表]PW[ソ];B[aa];W[bb])", "iso2022_jp"),
    ],
)
def test_charsets(text: str, charset: str) -> None:
    record = read(text.encode(charset))
    assert names(record) == ["aa", "bb"]
    assert record.players == tuple(text.split(name)[1].split("]")[0] for name in ("PB[", "PW["))


@pytest.mark.parametrize("declared", ["Shift_JIS", "Big5"])
def test_bytes_that_look_like_a_backslash_may_have_one_before_them(declared: str) -> None:
    name = "表ソ" if declared == "Shift_JIS" else "功"
    made = sgf.Sgf_game(5, encoding=declared)  # puts backslashes before them
    made.get_root().set("PB", name)
    made.extend_main_sequence().set_move("b", (4, 0))
    assert b"\\\\]" in made.serialise()
    record = read(made.serialise())
    assert (names(record), record.players[0]) == (["aa"], name)


def test_without_a_charset_the_moves_must_not_depend_on_it() -> None:
    for charset in ("gbk", "big5", "shift_jis", "euc_kr"):
        assert names(read("(;SZ[5]PB[中文];B[aa];W[bb])".encode(charset, "replace"))) == ["aa", "bb"]
    assert names(read("(;SZ[5]PB[André];B[aa];W[bb])".encode("latin-1"))) == ["aa", "bb"]
    hidden = read("(;SZ[5]KM[1];B[aa]C[ソ];W[bb])".encode("shift_jis"))
    assert (names(hidden), hidden.notes) == (["aa", "bb"], [GUESSED])
    with pytest.raises(UsageError, match=r"its charset is unknown and decides what the moves are; add CA\[...\]"):
        read(b"(;SZ[5]CA[Shift_JIS];B[aa]C[\x83\\\\];W[bb]C[\x83\\];B[cc]C[x])")  # once with a backslash before, once without


def test_text_around_the_games() -> None:
    text = "From: a\nSubject: a game (1.)\n\n(;SZ[5];B[aa])\n-- \nb"
    assert names(read(text)) == ["aa"]
    two = read("(;SZ[5]KM[1];B[aa])\n\n(;SZ[5]KM[1];B[bb])")
    assert (names(two), two.notes) == (["aa"], ["only the first game of the file is read"])
    both = [*game_records.read_all(b"(;SZ[5]KM[1];B[aa])\n\n(;SZ[5]KM[1];B[bb])")]
    assert [names(one) for one in both if isinstance(one, GameRecord)] == [["aa"], ["bb"]]


def test_names_of_properties_with_small_letters() -> None:
    assert names(read("(;GaMe[1]SiZe[5]KoMi[1];Black[aa];White[bb])")) == ["aa", "bb"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(;GM[1]SZ[5];B[cc];W[cc])", "move 2: .*illegal"),
        ("(;GM[1]SZ[5];B[cc];B[dd])", "move 2 is B's, out of turn"),
        ("(;GM[1]SZ[5];B[zz])", "move 1, 'zz', is off the board"),
        ("(;GM[1]SZ[5];B[a3])", "move 1, 'a3', is off the board"),
        ("(;GM[1]SZ[5];B[aa][bb])", "move 1: two moves in one node"),
        ("(;GM[1]SZ[5];B[aa]W[bb])", "move 1: two moves in one node"),
        ("(;GM[1]SZ[5];B[cc];AW[dd])", "stones are set up after move 1"),
        ("(;GM[1]SZ[5]AB[zz];W[aa])", r"AB\[zz\] is off the board"),
        ("(;GM[1]SZ[5]AB[cc:aa];W[dd])", r"AB\[cc:aa\] is not from its top left on"),
        ("(;GM[1]SZ[5]AB[aa]AW[aa];W[dd])", "one node sets up two stones on one point"),
        ("(;GM[1]SZ[5]HA[2];W[aa])", r"HA\[2\], but no stones are set up"),
        ("(;GM[1]SZ[3]AB[ba][ab]AW[aa];W[cc])", "this board cannot arise"),
        ("(;GM[40]SZ[5];B[cc])", "SGF's game 40 is not known here; .*go"),
        ("(;GM[Othello]PC[x];B[D3])", r"GM\[Othello\] is not the number of a game"),
        ("(;GM[1]SZ[9:13];B[cc])", r"SZ\[9:13\] is not the size of a square board"),
        ("(;GM[1]SZ[25];B[cc])", "size 25; allowed are 1 to 19"),
        ("(;GM[1]SZ[5]KM[99.5];B[cc])", "komi 99.5; allowed"),
        ("(;GM[1]SZ[5];B[cc]", "is not a valid SGF record"),
        ("(;GM[4]SZ[5];B[])", "move 1: a pass is illegal there in gomoku"),
        ("(;GM[11]SZ[5];B[a1];W[pass])", "move 2, 'pass', is off the board"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        read(text)


def test_ours_is_read_by_sgfmill(tmp_path: Path) -> None:
    path = tmp_path / "game.sgf"
    game = make_game("go(size=5,komi=6.5)").starting_from(".....\n.x...\n.....\n...x.\n.....\no to play")
    game_records.write(path, game, [12, 25, 0], ("Müller ] \\", "二"), 0.0, "resigned")
    theirs = sgf.Sgf_game.from_bytes(path.read_bytes())
    assert (theirs.get_size(), theirs.get_komi(), theirs.get_handicap()) == (5, 6.5, 2)
    assert (theirs.get_player_name("b"), theirs.get_player_name("w"), theirs.get_winner()) == ("Müller ] \\", "二", "w")
    assert theirs.get_root().get_setup_stones() == ({(3, 1), (1, 3)}, set(), set())
    assert theirs.get_root().get("PL") == "w"
    moves = [node.get_move() for node in theirs.get_main_sequence()[1:]]
    assert moves == [("w", (2, 2)), ("b", None), ("w", (4, 0))]


def test_a_large_komi_is_not_written_as_hundredths(tmp_path: Path) -> None:
    path = tmp_path / "game.sgf"
    game_records.write(path, make_game("go(size=19,komi=150)"), [0], ("a", "b"))
    assert game_records.read(path).game.parameters["komi"] == 150
