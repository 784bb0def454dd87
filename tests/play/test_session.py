"""A game in progress: searches that are compiled and measured beforehand, turns out of order, copies."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import OpponentError, UsageError
from rlsuite.play.clock import Pace
from rlsuite.play.players import BoardPlayer
from rlsuite.play.session import Session
from rlsuite.search import Gumbel, uniform_evaluator


def session(game: str = "tic_tac_toe", player: str = "mcts(simulations=64)") -> Session:
    board = make_game(game)
    return Session(board, BoardPlayer(player, board))


def test_it_says_once_that_a_search_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    it, told = session(), list[str]()
    it.tell = told.append
    monkeypatch.setattr("rlsuite.play.session.compiled", lambda *_: bool(told))
    it.ready()
    assert told == ["compiling the search for tic_tac_toe, which takes some seconds"]
    assert it.rate > 0
    it.think()
    it.ready()
    assert len(told) == 1
    random = session(player="random")
    random.tell = told.append
    random.ready()
    assert len(told) == 1


def test_the_rate_counts_only_simulations_of_this_search() -> None:
    it = session(player="mcts(simulations=2000)")
    it.ready()
    it.think()
    assert it.searcher is not None
    assert it.searcher.made == it.searcher.done == 2000
    it.play(it.searcher.found().action)
    it.think()
    assert it.searcher.done == 2000
    assert 0 < it.searcher.made < 2000  # the others are visits kept from the last tree
    it.think(2000)
    assert it.searcher.made == 0


def test_a_search_with_a_clock_finds_what_one_without_it_finds() -> None:
    timed, untimed = session(player="mcts(simulations=3000)"), session(player="mcts(simulations=3000)")
    timed.ready()
    a, b = timed.think(pace=Pace(time.monotonic() + 60)), untimed.think()
    assert a.visits.sum() == b.visits.sum() == 3000
    assert a.action == b.action == 4
    assert a.value == pytest.approx(b.value, abs=0.05)


def test_only_some_actions_are_searched() -> None:
    it = session()
    found = it.think(200, only=[1, 5])
    assert set(found.visits.nonzero()[0]) <= {1, 5}
    assert found.action in (1, 5)
    assert found.visits.sum() == 200
    assert it.think(200).visits.nonzero()[0].size == 9  # the next search looks at all again
    assert it.think(10, only=[8]).action == 8


def test_a_search_can_be_ended_and_without_time_makes_a_move() -> None:
    it, looks = session(player="mcts(simulations=100000)"), [0]

    def look() -> bool:
        looks[0] += 1
        return looks[0] == 3

    it.think(look=look)
    assert it.searcher is not None
    assert it.searcher.done <= 3 * 64
    it.play(0)
    it.searcher = None
    found = it.think(pace=Pace(0.0))
    assert found.action in it.state.legal_actions()
    assert -1 <= found.value <= 1


def test_copies_survive_other_rules() -> None:
    it = session("go(size=5)", "random")
    it.play(12)
    it.turn(0)
    it.play(13)
    copy = it.copy()
    it.play(14)
    it.change_game(it.game.with_parameters(komi=0.5))
    assert it.actions == [12, 13, 14]
    it.restore(copy)
    assert (it.actions, it.state.player, it.regular) == ([12, 13], 1, False)
    assert it.state.game.parameters["komi"] == 0.5


def test_turns_out_of_order() -> None:
    it = session("go(size=5)", "random")
    it.play(12)
    assert it.turned(0).player == 0
    assert it.state.player == 1  # `turned` only asks
    it.play(25)
    it.play(25)
    assert it.over
    assert it.turned(0).legal_actions()[:2] == [0, 1]  # passes end the game by the rules, not for GTP
    one = session("hex(size=3)", "random")
    one.play(0)
    assert one.turned(0).player == 0
    fixed = session("othello(size=4)", "random")
    object.__setattr__(fixed.game, "set_player", None)
    with pytest.raises(UsageError, match="it is Black's turn"):
        fixed.turned(1)


def test_a_program_is_not_asked_in_a_game_out_of_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    it = session("go(size=5)", "random")
    monkeypatch.setattr("rlsuite.play.session.is_program", lambda name: True)
    it.play(12)
    it.turn(0)
    with pytest.raises(UsageError, match="moved out of turn"):
        it.answer()


@pytest.mark.parametrize("timed", [False, True])
def test_gumbel_halves_at_every_move(timed: bool) -> None:
    """Its schedule needs a root without visits: a tree kept from the last move would leave it without one."""
    it = session()
    player: Any = it.player
    player._evaluator = (uniform_evaluator(it.game), Gumbel(noise=0.0, considered=4))
    it.rate = 40.5 / 900  # with a thousand seconds left, forty simulations are planned for
    for move in range(3):
        found = it.think(40, Pace(time.monotonic() + 1000) if timed else None)
        assert it.searcher is not None
        assert it.searcher.made == it.searcher.done
        assert it.searcher.done == 40 or found.proven
        assert (found.visits > 0).sum() == 4, move  # all halving, nothing else
        it.play(found.action)


def test_a_program_that_crashed_plays_the_next_move(tmp_path: Path) -> None:
    """It crashes at the first move it is asked for, once."""
    script = """
import os, sys
for line in sys.stdin:
    if line.startswith("genmove") and not os.path.exists("HERE"):
        open("HERE", "w").close()
        sys.exit(1)
    print("= a1" if line.startswith("genmove") else "=", end="\\n\\n", flush=True)
"""
    (tmp_path / "engine.py").write_text(script.replace("HERE", str(tmp_path / "crashed")))
    it = session("go(size=5,komi=0.5)", f"gtp(command={sys.executable} {tmp_path / 'engine.py'})")
    with pytest.raises(OpponentError, match="has ended at 'genmove black'"):
        it.answer()
    assert not it.actions
    it.answer()
    assert [it.game.action_text(action) for action in it.actions] == ["a1"]
    it.player.close()
