"""Our GTP engine does what the protocol demands, and no input makes it crash."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.play.gtp_analysis import Reports, katago, vertex
from rlsuite.play.gtp_engine import Engine
from rlsuite.play.players import BoardPlayer
from rlsuite.play.session import Session
from rlsuite.search import Searcher


def engine(game: str = "go(size=5,komi=0.5)", player: str = "mcts(simulations=8)", **more: float) -> Engine:
    board = make_game(game)
    return Engine(Session(board, BoardPlayer(player, board)), "name", "1.0", **more)  # type: ignore[arg-type]


def ask(it: Engine, *lines: str) -> list[str]:
    return [str(it.respond(line)) for line in lines]


def test_answers_have_the_form_of_the_protocol() -> None:
    it = engine()
    assert ask(it, "protocol_version", "17 name", "5 nonsense", "12", "known_command genmove", "known_command foo") == [
        "= 2\n\n",
        "=17 name\n\n",
        "?5 unknown command\n\n",
        "?12 syntax error\n\n",
        "= true\n\n",
        "= false\n\n",
    ]
    assert it.respond("   # a comment") is None
    assert it.respond("\r\n") is None
    assert it.respond("7\tname\r # comment") == "=7 name\n\n"  # tabs are blanks, control characters are ignored
    commands = ask(it, "list_commands")[0][2:].split()
    assert {"boardsize", "clear_board", "komi", "play", "genmove", "undo", "quit", "lz-analyze", "final_score"} <= set(commands)
    assert it.respond("quit") == "=\n\n"
    assert it.quitting


def test_a_game_of_go_by_hand() -> None:
    """Black captures a stone; suicide and occupied points are illegal; undo takes back a move out of turn."""
    it = engine(player="random")
    assert ask(it, "boardsize 5", "clear_board", "komi 0.5") == ["=\n\n"] * 3
    assert set(ask(it, "play b C3", "play w c4", "play B d4", "play white A1", "play b b4")) == {"=\n\n"}
    assert ask(it, "play w c4", "play w j9", "play w i3", "play w z99", "play w") == [
        "? illegal move\n\n",
        "? illegal move\n\n",
        "? illegal move\n\n",
        "? illegal move\n\n",
        "? syntax error\n\n",
    ]
    assert ask(it, "play w d1", "play b c5") == ["=\n\n"] * 2
    board = ask(it, "showboard")[0]
    assert [line[3:].split() for line in board.splitlines()[2:7]] == [  # the stone on C4 is captured
        [".", ".", "x", ".", "."],
        [".", "x", ".", "x", "."],
        [".", ".", "x", ".", "."],
        [".", ".", ".", ".", "."],
        ["o", ".", ".", "o", "."],
    ]
    assert "\n\n" not in board[:-2]
    assert "C4" not in ask(it, "all_legal w")[0]  # suicide
    assert ask(it, "final_score", "final_status_list dead") == ["= B+2.5\n\n", "=\n\n"]  # five points to two, and komi
    assert set(ask(it, "final_status_list alive")[0][2:].split()) == {"C5", "B4", "D4", "C3", "A1", "D1"}
    assert len(it.session.actions) == 7
    assert ask(it, "play b e5") == ["=\n\n"]  # out of turn, as GTP allows
    assert it.session.state.player == 1
    assert ask(it, "undo") == ["=\n\n"]
    assert len(it.session.actions) == 7
    it.respond("clear_board")
    assert ask(it, "undo") == ["? cannot undo\n\n"]


@pytest.mark.integration
def test_moves_are_legal_and_games_end() -> None:
    it, moves = engine(), 0
    while not it.session.over and moves < 200:
        answer = str(it.respond(f"genmove {'bw'[it.session.state.player]}"))
        assert re.fullmatch(r"= ([A-HJ][1-5]|pass)\n\n", answer), answer
        moves += 1
    assert it.session.over
    assert it.respond("genmove b") == "= pass\n\n"
    assert re.fullmatch(r"= [BW]\+[0-9.]+\n\n", str(it.respond("final_score")))
    before = list(it.session.actions)
    assert ask(it, "undo", "undo") == ["=\n\n"] * 2  # the pass after the end, and the last move
    assert ask(it, "reg_genmove " + "bw"[it.session.state.player])[0].startswith("= ")
    assert it.session.actions == before[:-1]


def test_sizes_and_komi() -> None:
    it = engine(player="random")
    assert ask(
        it, "boardsize 7", "boardsize 1", "boardsize 99", "boardsize -3", "boardsize x", "komi 6.5", "komi 1e9", "komi nan"
    ) == [
        "=\n\n",
        "? unacceptable size\n\n",
        "? unacceptable size\n\n",
        "? unacceptable size\n\n",
        "? syntax error\n\n",
        "=\n\n",
        "? syntax error\n\n",
        "? syntax error\n\n",
    ]
    assert it.session.game.name == "go(size=7,komi=6.5)"
    assert ask(it, "play b g7", "komi 3", "final_score") == ["=\n\n", "=\n\n", "= B+46\n\n"]
    assert it.session.actions == [6]  # a new komi keeps the moves
    hex_ = engine("hex(size=4)", "random")
    assert ask(hex_, "boardsize 5", "komi 3", "play b a1", "play b a1", "final_score", "get_komi") == [
        "=\n\n",
        "=\n\n",
        "=\n\n",
        "? illegal move\n\n",
        "? cannot score\n\n",
        "= 0\n\n",
    ]


@pytest.mark.integration
def test_othello_passes_where_it_must() -> None:
    it, turns = engine("othello(size=4)"), 0
    while not it.session.over:
        answer = str(it.respond(f"genmove {'bw'[it.session.state.player]}"))
        assert answer.startswith("= "), answer
        turns += 1
    assert ask(it, "final_score")[0] in ("= B+\n\n", "= W+\n\n", "= 0\n\n")


@pytest.mark.integration
def test_the_first_answer_comes_within_its_time_and_later_ones_use_theirs() -> None:
    """`time_settings 0 2 1`: two seconds for every move, with kernels that were not compiled before."""
    it = engine("hex(size=5)", "mcts(simulations=10000000)")
    it.session.simulations = 100_000
    assert ask(it, "boardsize 6", "time_settings 0 2 1") == ["=\n\n"] * 2  # here the search is compiled
    made = []
    for colour in "bwbw":
        begin = time.monotonic()
        assert ask(it, f"genmove {colour}")[0].startswith("= ")
        assert time.monotonic() - begin < 2
        assert it.session.searcher is not None
        made.append(it.session.searcher.made)
    assert min(made) > 0.2 * max(made)  # not a few simulations for the rest of the game
    assert min(made) > 300


def test_time_left_counts() -> None:
    it = engine(player="random")
    assert ask(it, "time_settings 0 5 5", "time_settings a b c", "time_left b 1", "time_left w 10 5") == [
        "=\n\n",
        "? syntax error\n\n",
        "? syntax error\n\n",
        "=\n\n",
    ]
    assert [it.clock.seconds(player) for player in (0, 1)] == [1.0, 2.0]
    assert ask(it, "time_settings 0 1 0") == ["=\n\n"]
    assert it.clock.seconds(0) is None
    for line, seconds in (
        ("kgs-time_settings absolute 250", 10.0),
        ("kgs-time_settings byoyomi 0 30 3", 29.9),
        ("kgs-time_settings canadian 0 30 10", 3.0),
        ("kgs-time_settings none", None),
    ):
        assert ask(it, line) == ["=\n\n"]
        assert it.clock.seconds(0) == (None if seconds is None else pytest.approx(seconds))
    assert ask(it, "kgs-time_settings", "kgs-time_settings foo 3", "kgs-time_settings canadian 1") == ["? syntax error\n\n"] * 3


def test_komi_of_any_number_gives_its_own_results() -> None:
    it = engine("go(size=5)", "random")
    assert ask(it, "komi 6.3", "get_komi") == ["=\n\n", "= 6.3\n\n"]
    assert it.session.game.name == "go(size=5,komi=6.3)"
    for komi, score in (("6.3", "B+18.7"), ("24.9", "B+0.1"), ("25", "0"), ("-6.3", "B+31.3")):
        ask(it, "clear_board", f"komi {komi}", "play b c3")
        assert ask(it, "final_score") == [f"= {score}\n\n"]
        ask(it, "play w pass", "play b pass")
        assert it.session.points == (0.5 if score == "0" else 1.0)
    assert ask(it, "komi 400", "komi x") == ["? unacceptable komi\n\n", "? syntax error\n\n"]


def test_handicap_stones() -> None:
    it = engine("go(size=9)", "random")
    assert ask(it, "fixed_handicap 2", "showboard")[0] == "= C3 G7\n\n"
    assert it.session.state.player == 1
    assert ask(it, "undo", "fixed_handicap 3") == ["? cannot undo\n\n", "? board not empty\n\n"]
    assert ask(it, "clear_board", "fixed_handicap 9")[1] == "= C3 G7 C7 G3 C5 G5 E3 E7 E5\n\n"
    ask(it, "clear_board")
    assert ask(it, "fixed_handicap 1", "fixed_handicap 10", "fixed_handicap x") == [
        "? invalid number of stones\n\n",
        "? invalid number of stones\n\n",
        "? syntax error\n\n",
    ]
    assert ask(it, "boardsize 19", "fixed_handicap 6")[1] == "= D4 Q16 D16 Q4 D10 Q10\n\n"
    assert ask(it, "boardsize 5", "fixed_handicap 2")[1] == "? invalid number of stones\n\n"
    placed = ask(it, "place_free_handicap 3")[0][2:].split()
    assert len(set(placed)) == 3
    assert all(name[0] in "BCD" and name[1] in "234" for name in placed)
    ask(it, "clear_board")
    assert (
        ask(it, "set_free_handicap A1 pass", "set_free_handicap A1 A1", "set_free_handicap A1", "set_free_handicap A1 Z9")
        == ["? bad vertex list\n\n"] * 4
    )
    assert ask(it, "set_free_handicap A1 E5", "play w C3", "play b B2") == ["=\n\n"] * 3
    assert it.session.actions == [20, 4, 12, 16]
    assert ask(engine("hex(size=4)", "random"), "fixed_handicap 2") == ["? handicap is for Go\n\n"]


def test_play_goes_on_after_two_passes_and_in_any_order() -> None:
    it = engine("go(size=5)", "random")
    assert set(ask(it, "play b C3", "play w pass", "play b pass")) == {"=\n\n"}
    assert it.session.over
    assert ask(it, "genmove w") == ["= pass\n\n"]
    assert ask(it, "all_legal w")[0] == "=\n\n"
    assert set(ask(it, "play w D3", "play w D4", "play w D2", "play b pass", "play b pass", "play w E3")) == {"=\n\n"}
    assert not it.session.over  # passes of the same player in a row end nothing
    assert [len(state.legal_actions()) for state in it.session.states[-1:]] == [21]
    for _ in range(6):
        assert ask(it, "undo") == ["=\n\n"]
    assert ask(it, "genmove w", "undo", "undo", "undo") == ["= pass\n\n"] + ["=\n\n"] * 3  # the game is over again
    assert it.session.actions == [12, 25]
    one = engine("hex(size=3)", "random")
    assert ask(one, "play b a1", "play b b1", "play w c2") == ["=\n\n"] * 3
    assert ask(engine("connect_four", "random"), "play b d", "play w d") == ["=\n\n"] * 2


def test_loadsgf(tmp_path: Path) -> None:
    it, path = engine("go(size=5)", "random"), tmp_path / "a game.sgf"
    path.write_text("(;GM[1]SZ[7]KM[6.5];B[cc];W[dd];B[ee])")
    assert ask(it, f"loadsgf {path}") == ["=\n\n"]
    assert (it.session.game.name, len(it.session.actions)) == ("go(size=7,komi=6.5)", 3)
    assert ask(it, "undo", "move_history") == ["=\n\n", "= white D4\nblack C5\n\n"]
    assert ask(it, f"loadsgf {path} 3", f"loadsgf {path} 1") == ["=\n\n"] * 2
    assert it.session.actions == []
    assert ask(it, "loadsgf nothing.sgf")[0].startswith("? cannot load file: cannot read nothing.sgf")
    path.write_text("(;GM[4]SZ[15];B[cc])")
    assert "is a game of gomoku" in ask(it, f"loadsgf {path}")[0]
    assert ask(it, "loadsgf") == ["? syntax error\n\n"]


def test_loadsgf_into_an_engine_whose_net_sees_other_planes(tmp_path: Path) -> None:
    it, path = engine("go(size=5,planes=stones,history=2)", "random"), tmp_path / "game.sgf"
    path.write_text("(;GM[1]SZ[5]KM[6.5]AB[bb];W[cc])")
    assert ask(it, f"loadsgf {path}") == ["=\n\n"]
    assert (it.session.game.name, it.session.actions) == ("go(size=5,komi=6.5,planes=stones,history=2)", [12])
    assert "4 . x . . ." in ask(it, "showboard")[0]
    assert ask(it, "komi 3", "get_komi", "move_history") == ["=\n\n", "= 3\n\n", "= white C3\n\n"]


def test_analysis_is_of_the_colour_that_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """White is to move; Black, who is asked, would win with D3: its move and its rate."""
    it = engine("gomoku(size=5,connect=3)")
    ask(it, "play b B3", "play w A1", "play b C3")
    for command, rate in (("lz-analyze B 1", 10_000), ("kata-analyze B 1", 1)):
        it.lines = Waits(60)  # type: ignore[assignment]
        output = f"{it.respond(command)}{capsys.readouterr().out}"
        last = output.strip().splitlines()[-1]
        assert re.match(r"info move (A3|D3) ", last)
        found = re.search(r"winrate ([0-9.]+)", last)
        assert found is not None
        assert float(found[1]) > 0.9 * rate
        assert "score" not in output
    it.lines = Waits(60)  # type: ignore[assignment]
    white = f"{it.respond('lz-analyze W 1')}{capsys.readouterr().out}".strip().splitlines()[-1]
    found = re.search(r"winrate ([0-9]+)", white)
    assert found is not None
    assert int(found[1]) < 5000
    assert len(it.session.actions) == 3  # nothing was played
    for words in (
        "B 1 allow B A1,E5,B1 1",
        "B interval 1 allow B B1 1 maxmoves 2",
        "B 1 allow W C1 1 avoid B D3,A3 5 ownership true",
    ):
        it.lines = Waits(60)  # type: ignore[assignment]
        last = f"{it.respond('kata-analyze ' + words)}{capsys.readouterr().out}".strip().splitlines()[-1]
        moves = re.findall(r"info move (\S+)", last)
        assert set(moves) <= {"B1", "E5"} if "allow B" in words else not {"A3", "D3"} & set(moves)
    assert ask(it, "lz-analyze B x", "kata-analyze B 1 nonsense 3") == ["? syntax error\n\n"] * 2


def test_the_first_move_of_a_report_is_the_one_that_wins() -> None:
    """With proven values the search ends before the winning move has more visits than others."""
    game = make_game("hex(size=4)")
    rng, won = np.random.default_rng(0), 0
    for _ in range(20):
        state = game.new_state()
        for _ in range(5):
            state = state.apply(int(rng.choice(state.legal_actions())))
        searcher = Searcher(game, "uniform", 2000, leaves=8, solve=True)
        searcher.begin(state)
        while searcher.step(8):
            pass
        found, text = searcher.found(), Reports(katago, 1.0)._text(searcher)
        first, *others = text.split("info ")[1:]
        assert first.startswith(f"move {vertex(game, found.action)} ")
        lost = [" winrate 0.0000 " in other for other in others]
        assert lost == sorted(lost)
        if found.proven and found.value == 1.0:
            won += 1
            assert " winrate 1.0000 " in first
    assert won > 3


class Waits:
    """Lines, of which the next one comes after so many questions."""

    def __init__(self, questions: int):
        self.questions = questions

    def waiting(self) -> bool:
        self.questions -= 1
        return self.questions < 0


def test_analysis_is_what_guis_read(capsys: pytest.CaptureFixture[str]) -> None:
    it = engine()
    answer = it.respond("4 lz-analyze b 10")
    output = capsys.readouterr().out + str(answer)
    assert re.match(r"=4\ninfo move [A-H][1-5] visits [0-9]+ winrate [0-9]+ prior [0-9]+ lcb [0-9]+ order 0 pv [A-H]", output)
    assert output.endswith("\n\n")
    assert "winrate 0." in (it.respond("kata-analyze interval 5") or "") + capsys.readouterr().out
    it.session.simulations = 16
    capsys.readouterr()
    answer = it.respond("8 lz-genmove_analyze b 100")
    assert re.fullmatch(r"play ([A-E][1-5]|pass)\n\n", str(answer))
    assert re.match(r"=8\ninfo move .* order 0 .*\n", capsys.readouterr().out)
    answer = it.respond("kata-genmove_analyze w 100")
    assert re.fullmatch(r"play ([A-E][1-5]|pass)\n\n", str(answer))
    assert "utility" in capsys.readouterr().out
    assert len(it.session.actions) == 2
    assert ask(engine(player="random"), "lz-analyze")[0].startswith("? random does not search")


def test_a_colour_that_is_not_to_move_is_refused_before_the_answer_begins(capsys: pytest.CaptureFixture[str]) -> None:
    board = replace(make_game("tic_tac_toe"), set_player=None)
    it = Engine(Session(board, BoardPlayer("mcts(simulations=8)", board)), "name", "1.0")
    for command in ("lz-genmove_analyze w 100", "kata-analyze w"):
        assert ask(it, command) == ["? tic_tac_toe: it is x's turn\n\n"]
    assert not capsys.readouterr().out


def test_it_resigns_below_the_value_it_was_given() -> None:
    it = engine("tic_tac_toe", "mcts(simulations=200)", resign_below=-0.5)
    it.session.player.solve = True
    for move in ("b a1", "w b1", "b a3", "w c1", "b c3"):
        it.respond(f"play {move}")
    assert it.respond("genmove w") == "= resign\n\n"
    assert it.session.points == 1.0
    assert it.respond("final_score") == "= B+R\n\n"
    assert it.respond("undo") == "=\n\n"
    assert not it.session.over


def test_no_line_makes_it_crash() -> None:
    rng = random.Random(1)
    it = engine(player="random")
    words = [
        *it.commands,
        "b",
        "w",
        "black",
        "pass",
        "resign",
        "a1",
        "C3",
        "j10",
        "19",
        "0",
        "-1",
        "99999999999",
        "1e308",
        "nan",
        "#",
        "\x00\x07",
        "é",
        "interval",
    ]
    words.remove("quit")
    for _ in range(3000):
        line = " ".join(rng.choice(words) for _ in range(rng.randint(0, 5)))
        if rng.random() < 0.2:
            line = "".join(chr(rng.randint(0, 300)) for _ in range(rng.randint(0, 40)))
        if line.split()[:1] == ["boardsize"] and rng.random() < 0.9:
            continue
        answer = it.respond(line)
        assert answer is None or re.match(r"[=?][0-9]*( |\n)", answer) or it.streamed, (line, answer)
        assert answer is None or answer.endswith("\n\n") or answer == "\n"


@pytest.mark.integration
def test_as_a_process_it_survives_junk_and_a_closed_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlsuite", "gtp", "mcts(simulations=4)", "--game", "go(size=5)"]
    junk = (
        bytes(random.Random(2).randrange(256) for _ in range(5000)).replace(b"quit", b"")
        + b"\n1 name\n"
        + b"x" * 200_000
        + b"\n2 genmove b\n"
    )
    done = subprocess.run(command, input=junk, capture_output=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"=1 rlsuite mcts(simulations=4)\n\n" in done.stdout
    assert re.search(rb"=2 [A-H][1-5]\n\n", done.stdout)
    assert b"Traceback" not in done.stderr
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"name\n")
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    try:
        for _ in range(50):
            process.stdin.write(b"showboard\n" * 100)
            process.stdin.flush()
    except BrokenPipeError:
        pass
    assert process.wait(60) == 0
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.integration
def test_sabakis_client_plays_with_analysis_handicap_and_clocks(tmp_path: Path) -> None:
    """Needs node and `npm install @sabaki/gtp` in a folder that NODE_PATH names (with /node_modules)."""
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('@sabaki/gtp')"], capture_output=True, cwd=tmp_path).returncode:
        pytest.skip("needs node and the package @sabaki/gtp")
    script = Path(__file__).with_name("sabaki_game.js")
    command = [sys.executable, "-m", "rlsuite", "gtp", "pretrained:go", "--simulations", "100"]
    done = subprocess.run([node, str(script), *command], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["name"] == "rlsuite pretrained:go"
    assert report["replayed"] == ["black C3", "black E5", "white D4"]
    assert report["fixed"] == "C3 E5 C5"
    assert re.fullmatch(r"[A-G][1-7]", report["reply"])
    assert len(set(report["free"].split())) == 5
    assert report["reports"] > len(report["moves"])
    assert all(0 <= float(rate) <= (1 if "." in rate else 10_000) for rate in report["rates"])
    assert report["moves"][-2:] == ["pass", "pass"] or len(report["moves"]) == 120
    assert all(re.fullmatch(r"[A-G][1-7]|pass", move) for move in report["moves"])
    assert report["tracked"] == [move.upper() for move in report["moves"]]  # as the client understood the answers
    assert re.fullmatch(r"[BW]\+[0-9.]+", report["score"])
