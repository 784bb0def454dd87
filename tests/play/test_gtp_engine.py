"""Our GTP engine does what the protocol demands, and no input makes it crash."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.play.gtp_engine import Engine
from rlsuite.play.players import BoardPlayer
from rlsuite.play.session import Session


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
    """Black captures a stone; suicide and occupied points are illegal; undo takes back a move together with the pass before it."""
    it = engine()
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
    assert ask(it, "play b e5") == ["=\n\n"]  # out of turn: this implies a pass of White ...
    assert len(it.session.actions) == 9
    assert ask(it, "undo") == ["=\n\n"]  # ... and taken back
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
    it = engine()
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
    hex_ = engine("hex(size=4)")
    assert ask(hex_, "boardsize 5", "komi 3", "play b a1", "play b a2", "final_score") == [
        "=\n\n",
        "=\n\n",
        "=\n\n",
        "? illegal move\n\n",
        "? cannot score\n\n",
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
def test_time_limits_the_search() -> None:
    it = engine(player="mcts(simulations=100000)")
    assert ask(it, "time_settings 2 0 0", "genmove b")[0] == "=\n\n"
    assert it.clock.rate is not None
    it.clock.rate = 1000.0  # simulations per second
    it.respond("time_left b 10 0")
    assert it._simulations(0) == 400  # 10 s / 20 moves * 0.8
    it.respond("time_left w 10 5")
    assert it._simulations(1) == 1600  # 10 s / 5 stones * 0.8
    assert ask(it, "time_settings 0 1 0") == ["=\n\n"]
    assert it._simulations(0) is None  # extra time without stones: no limit
    assert ask(it, "time_settings 0 5 5", "time_settings a b c", "time_left b 1") == [
        "=\n\n",
        "? syntax error\n\n",
        "? syntax error\n\n",
    ]
    assert it._simulations(0) == 800


def test_analysis_is_what_guis_read(capsys: pytest.CaptureFixture[str]) -> None:
    it = engine()
    answer = it.respond("4 lz-analyze b 10")
    output = capsys.readouterr().out + str(answer)
    assert re.match(r"=4\ninfo move [A-H][1-5] visits [0-9]+ winrate [0-9]+ prior [0-9]+ lcb [0-9]+ order 0 pv [A-H]", output)
    assert output.endswith("\n\n")
    assert "winrate 0." in (it.respond("kata-analyze interval 5") or "") + capsys.readouterr().out
    it.session.simulations = 16
    it.respond("lz-genmove_analyze b 100")
    assert len(it.session.actions) == 1
    assert ask(engine(player="random"), "lz-analyze")[0].startswith("? random does not search")


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
