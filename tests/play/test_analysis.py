"""A recorded game searched position by position: what moves lose, which records are taken, and the command."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from rlsuite.boardgames import game_records
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.record import GameRecord
from rlsuite.cli import main
from rlsuite.core.errors import UsageError
from rlsuite.play import analysis
from rlsuite.play.analysis import MoveAnalysis, analyse, draw, read_game, row, summary, worst, write_sgf
from rlsuite.play.players import BoardPlayer
from rlsuite.search import Gumbel, Puct, search

GO = "pretrained:go"  # 7x7, komi 9
ANY = "mcts(simulations=8)"  # of any game
LOST = [0, 4, 8, 6, 2, 5, 1]  # tic-tac-toe: o's second move loses; x wins, and the last two moves do not matter


def played(actions: list[int], game: str = "tic_tac_toe") -> GameRecord:
    return GameRecord(make_game(game), actions)


def solver(game: GameRecord, simulations: int = 1500) -> BoardPlayer:
    player = BoardPlayer(f"mcts(simulations={simulations})", game.game)
    player.solve = True
    return player


def sgf(folder: Path, text: str) -> Path:
    path = folder / "game.sgf"
    path.write_text(text)
    return path


def test_what_a_losing_move_gives_away() -> None:
    game = played(LOST)
    moves = list(analyse(game, solver(game)))
    assert [(move.number, move.player, move.action) for move in moves] == [(i + 1, i % 2, a) for i, a in enumerate(LOST)]
    third, fourth, last = moves[2], moves[3], moves[-1]
    assert (fourth.before, fourth.after, fourth.proven_before, fourth.proven_after) == (0.5, 0.0, True, True)
    assert fourth.loss == 50.0
    assert fourth.best in (1, 3, 5, 7)  # the edges draw
    assert third.loss < 3
    assert third.after == 0.5
    assert (last.after, last.proven_after, last.loss) == (1.0, True, 0.0)  # the end of the game is a result
    assert [move.loss for move in moves[4:]] == [0.0] * 3
    assert worst(moves, 1) == [fourth]
    assert row(fourth, game.game).split() == ["4", "o", "a3", "50.0%*", "0.0%*", "50.0", fourth.best_move]
    lines = summary(moves, game.game)
    assert lines[1] == f"o: 3 moves, 16.7 points lost on average; worst: 4 a3 (-50.0, best {fourth.best_move})"
    assert summary(moves[4:], game.game)[0] == "x: 2 moves, 0.0 points lost on average; worst: none of 1 point or more"


def test_positions_are_searched_a_few_at_a_time_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    game = played([3, 3, 2, 4, 1, 1], "connect_four")
    player = BoardPlayer("mcts(simulations=30)", game.game)
    found = list(analyse(game, player))
    assert len(found) == 6
    assert found == list(analyse(game, player))
    monkeypatch.setattr(analysis, "_POSITIONS", 2)
    monkeypatch.setattr(analysis, "_BATCH", 8)  # four leaves of each tree, as before
    assert [move[:4] for move in analyse(game, player)] == [move[:4] for move in found]
    monkeypatch.setattr(analysis, "_NODES", 1)  # one position at a time
    assert len(list(analyse(game, player))) == 6


def test_the_same_player_may_move_twice() -> None:
    """Othello: where a player has no move but a pass, rates stay those of who moves."""
    game = make_game("othello(size=4)")
    state, actions = game.new_state(), list[int]()
    while not state.is_terminal():
        actions.append(state.legal_actions()[0])
        state = state.apply(actions[-1])
    moves = list(analyse(GameRecord(game, actions), solver(GameRecord(game, actions), 50)))
    result = (1 + state.returns()[0]) / 2
    assert moves[-1].after == (result if moves[-1].player == 0 else 1 - result)
    for one, other in pairwise(moves):
        assert other.before == pytest.approx(one.after if one.player == other.player else 1 - one.after)


def test_gumbels_halving_gives_way_to_puct(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The mean over Gumbel's simulations counts bad moves that it must visit, and would say less than the player can expect."""
    used = []
    monkeypatch.setattr(analysis, "search", lambda *given: used.append(given[4]) or search(*given))
    record = read_game(sgf(tmp_path, "(;GM[1]SZ[7]KM[9];B[cc])"), GO)
    player = BoardPlayer(GO, record.game, 8)
    assert isinstance(player.evaluator(record.game)[1], Gumbel)
    assert len(list(analyse(record, player))) == 1
    assert used == [Puct(noise_fraction=0.0)]


def test_a_player_that_does_not_search_is_refused() -> None:
    game = played(LOST)
    with pytest.raises(UsageError, match="random does not search"):
        next(analyse(game, BoardPlayer("random", game.game)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(;GM[1]SZ[9]KM[9];B[cc])", "is a game of go of size 9, not of go(size=7,komi=9)"),
        ("(;GM[4]SZ[7];B[cc])", "is a game of gomoku of size 7, not of go"),
        ("(;GM[1]SZ[7]KM[7.5];B[cc])", "with komi 7.5, but pretrained:go learned with 9"),
        ("(;GM[1]SZ[7]KM[99];B[cc])", "with komi 99, but"),
        ("(;GM[1]SZ[7]KM[9])", "has no moves"),
        ("(;GM[1]SZ[7]KM[9];B[cc];W[cc])", "move 2: 'cc' is illegal there"),
        ("(;GM[1]SZ[7]KM[9];B[cc", "not a valid SGF record"),
        ("nonsense", "is not a game record"),
    ],
)
def test_records_that_are_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_game(sgf(tmp_path, text), GO)
    assert words in str(error.value)


def test_what_is_left_out_of_a_record_is_said(tmp_path: Path) -> None:
    two = sgf(tmp_path, "(;GM[1]SZ[7]KM[9];B[cc](;W[dd])(;W[ee]))(;GM[1]SZ[7]KM[9]AB[cc][dd]PL[W];W[ee])")
    first = read_game(two, GO)
    assert first.remarks() == ["game 1 of 2; --game N picks another", "only the main line is read, without the variations"]
    assert first.actions == [16, 24]
    second = read_game(two, GO, 2)
    assert second.remarks() == ["game 2 of 2; --game N picks another", "it begins from a position that is set up"]
    assert second.game.new_state().player == 1
    with pytest.raises(UsageError, match="has 2 games: there is no game 3"):
        read_game(two, GO, 3)
    player = BoardPlayer(GO, second.game, 8)
    assert [move.player for move in analyse(second, player)] == [1]


def test_komi(tmp_path: Path) -> None:
    none = read_game(sgf(tmp_path, "(;GM[1]SZ[7];B[cc])"), GO)
    assert none.game.name == "go(size=7,komi=9)"  # the agent's
    other = sgf(tmp_path, "(;GM[1]SZ[7]KM[6.5];B[cc])")
    any_ = read_game(other, GO, any_komi=True)
    assert any_.game.name == "go(size=7,komi=9)"
    assert any_.remarks() == ["its komi is 6.5; here it is 9"]
    assert read_game(other, ANY).game.name == "go(size=7,komi=6.5)"  # a search without a net plays any


def test_the_charset_is_the_readers_matter(tmp_path: Path) -> None:
    path = tmp_path / "game.sgf"
    path.write_bytes("(;GM[1]SZ[7]KM[9]CA[gb2312]PB[围棋];B[cc])".encode("gb2312"))
    assert read_game(path, GO).players[0] == "围棋"


def test_our_own_text_and_games_by_name(tmp_path: Path) -> None:
    path = tmp_path / "game.txt"
    game_records.write(path, make_game("connect_four"), [3, 3, 2], ("a", "b"))
    assert read_game(path, "pretrained:connect_four").actions == [3, 3, 2]
    with pytest.raises(UsageError, match=r"is a game of connect_four, not of go\(size=7,komi=9\)"):
        read_game(path, GO)


def test_a_record_is_taken_by_a_net_that_sees_other_planes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stones = make_game("go(size=5,komi=3.5,planes=stones,history=4)")
    monkeypatch.setattr(analysis, "game_of", lambda *_: stones)  # as of a run with these planes
    text = tmp_path / "game.txt"
    text.write_text("rlsuite game\ngame: go(size=5,komi=3.5)\nactions: 12 6\n")
    for path in (sgf(tmp_path, "(;GM[1]SZ[5]KM[3.5];B[cc];W[bb])"), text):
        record = read_game(path, GO)
        assert (record.game.name, record.actions) == (stones.name, [12, 6])
        moves = list(analyse(record, BoardPlayer("mcts(simulations=8)", record.game)))
        assert [move.move for move in moves] == ["c3", "b4"]
    text.write_text("rlsuite game\ngame: go(size=5,komi=2.5)\nactions: 12 6\n")
    with pytest.raises(UsageError, match=r"is a game of go\(size=5,komi=2.5"):
        read_game(text, GO)


def test_the_picture(tmp_path: Path) -> None:
    game = played(LOST)
    moves = [
        MoveAnalysis(1, 0, 0, "a1", 0.5, 0.4, False, False, 4, "b2"),
        MoveAnalysis(2, 1, 4, "b2", 0.6, 1.0, False, True, 4, "b2"),
    ]
    draw(moves, game.game, "a game", tmp_path / "out" / "game.png")
    with Image.open(tmp_path / "out" / "game.png") as picture:
        assert picture.size == (1080, 540)


def test_the_annotated_record(tmp_path: Path) -> None:
    path = sgf(tmp_path, "(;GM[1]SZ[7]KM[9]AB[cc]PL[W]PB[a]PW[b];W[dd];B[ee];W[ef])")
    record, out = read_game(path, GO), tmp_path / "out.sgf"
    moves = list(analyse(record, BoardPlayer(GO, record.game, 8)))
    moves[1] = moves[1]._replace(before=0.5, after=0.25, best=3, best_move="d7", proven_after=True)
    write_sgf(record, moves, out)
    again = read_game(out, GO)
    assert (again.actions, again.players, again.game.new_state()) == (record.actions, ("a", "b"), record.game.new_state())
    assert ";B[ee]C[win rate of Black 50.0% before, 25.0%* after; best d7; loss 25.0]" in out.read_text()
    write_sgf(record, moves[:1], out)  # of a stopped analysis
    assert out.read_text().count("]C[") == 1
    assert read_game(out, GO).actions == record.actions
    with pytest.raises(UsageError, match="SGF does not know tic_tac_toe"):
        write_sgf(played(LOST), [], out)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["rlsuite", "analyse", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main.main()
    return int(stop.value.code or 0)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, picture = tmp_path / "game.txt", tmp_path / "game.png"
    game_records.write(path, make_game("tic_tac_toe"), LOST, ("a", "b"))
    assert call(monkeypatch, path, ANY, "--simulations", 20, "--out", picture) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tic_tac_toe, mcts(simulations=8), 20 simulations: win rates of the player who moves")
    assert lines[1] == analysis.HEADER
    assert [line.split()[:3] for line in lines[2:4]] == [["1", "x", "a1"], ["2", "o", "b2"]]
    assert (len(lines), lines[-1]) == (len(LOST) + 5, f"picture {picture}")
    assert picture.stat().st_size > 1000
    assert call(monkeypatch, path, ANY, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["game"], found["simulations"], found["total_moves"]) == ("tic_tac_toe", 8, 7)
    assert found["moves"][3]["move"] == "a3"
    assert found["moves"][3].keys() >= {"before", "after", "loss", "best_move", "proven_before", "proven_after", "player", "number"}


def test_ctrl_c_prints_and_writes_what_was_analysed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, picture = tmp_path / "game.txt", tmp_path / "game.png"
    game_records.write(path, make_game("tic_tac_toe"), LOST, ("a", "b"))
    whole = analysis.analyse

    def stopped(*arguments: object) -> object:
        for move in whole(*arguments):  # type: ignore[arg-type]
            if move.number > 2:
                raise KeyboardInterrupt
            yield move

    monkeypatch.setattr(analysis, "analyse", stopped)
    assert call(monkeypatch, path, ANY, "--out", picture) == 130
    captured = capsys.readouterr()
    assert "stopped after 2 of 7 moves" in captured.err
    assert captured.out.splitlines()[-2].startswith("o: 1 move, ")
    assert captured.out.splitlines()[-1] == f"picture {picture}"
    assert picture.exists()
    assert call(monkeypatch, path, ANY, "--json") == 130
    assert len(json.loads(capsys.readouterr().out)["moves"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.sgf", ANY], "nowhere.sgf"),
        (["game.txt", "random"], "random does not search"),
        (["game.txt", "nobody"], "unknown player 'nobody'"),
        (["game.txt", ANY, "--out", "."], "that is a folder"),
        (["game.txt", ANY, "--sgf", "./game.txt"], "that is the record itself"),
        (["game.txt", ANY, "--sgf", "a.sgf"], "SGF does not know tic_tac_toe"),
        (["game.txt", ANY, "--game", "2"], "has 1 game: there is no game 2"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    game_records.write(tmp_path / "game.txt", make_game("tic_tac_toe"), LOST, ("a", "b"))
    assert call(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)
