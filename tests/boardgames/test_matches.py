"""Matches are fair to both sides, ratings are those of the model, and runs are graded and rated from the command line."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlsuite
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.matches import Batched, Replayed, play_games, play_match, searcher
from rlsuite.boardgames.opponents import Random
from rlsuite.boardgames.ratings import Score, elo, elo_intervals
from rlsuite.core.errors import OpponentError, UsageError
from rlsuite.evaluation.evaluate import evaluate, grade
from rlsuite.play import ladder
from rlsuite.play.players import make_seat
from rlsuite.runs import checkpoint
from rlsuite.search import Puct, rollout_evaluator

TINY = {
    "run.threads": 1,
    "run.collect_agent_steps": 2,
    "run.checkpoint_minutes": 1e-4,
    "run.keep_checkpoints": 3,
    "run.agent_steps": 400,
    "env.num_envs": 8,
    "env.opponent": "random",
    "agent.simulations": 4,
    "agent.eval_simulations": 4,
    "net.torso": "tower(width=8,depth=1)",
    "replay.min_agent_steps": 50,
    "replay.capacity_agent_steps": 500,
    "learner.batch_size": 16,
    "eval.episodes": 2,
}


def first_legal(game: Any) -> Any:
    legal = np.empty(game.num_actions, np.int32)

    def moves(rows: Any) -> Any:
        for row in rows:
            game.rules.legal(row, legal)
        return np.array([legal[: game.rules.legal(row, legal)][0] for row in rows])

    return moves


def test_a_player_against_itself_scores_half() -> None:
    game = make_game("connect_four")
    score = play_match(game, first_legal(game), first_legal(game), 20, opening_moves=6, seed=1)
    assert score.wins == score.losses
    assert sum(score) == 20
    assert score.points == 0.5


def test_the_better_player_wins_from_both_sides() -> None:
    game = make_game("tic_tac_toe")
    strong = searcher(game, rollout_evaluator(game), Puct(noise_fraction=0.0), 200)
    score = play_match(game, strong, first_legal(game), 20, opening_moves=0, seed=1)
    assert score.losses == 0
    assert score.points > 0.9
    back = play_match(game, first_legal(game), strong, 20, opening_moves=0, seed=1)
    assert (back.wins, back.losses) == (score.losses, score.wins)


def test_ratings_by_hand_and_their_intervals() -> None:
    """75 wins, 25 losses and the extra draw: 400 log10((0.5 + 75) / (0.5 + 25)) = 188.5."""
    results = [(1, 0, Score(75, 0, 25)), (2, 1, Score(40, 20, 40))]
    ratings = elo(results, 3)
    assert ratings[0] == 0
    assert ratings[1] == pytest.approx(400 * np.log10(75.5 / 25.5), abs=0.01)
    assert ratings[2] == pytest.approx(ratings[1], abs=0.01)
    low, high = elo_intervals(results, 3, seed=0)[1]
    assert low < ratings[1] < high
    assert 100 < high - low < 250
    assert np.isfinite(elo([(1, 0, Score(10, 0, 0))], 2)).all()


@pytest.mark.integration
def test_a_board_run_is_evaluated_graded_rated_and_searched_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = rlsuite.train("boards/connect_four", {**TINY, "run.agent_steps": 300}, run_dir=tmp_path / "run").run
    other = evaluate(run, 4, 1, None, opponent="mcts(simulations=20)", simulations=2)[0]
    assert other.episodes == 4
    assert set(other.returns) <= {-1.0, 0.0, 1.0}
    simulations, grades = grade(run, positions=3)
    assert simulations == 4
    assert [one.positions for one in grades] == [3] * 6
    assert grade(run, simulations=0, positions=3)[0] == 0
    rungs = ladder.climb(run, games=2, simulations=2, opening_moves=2, most=3)
    assert rungs[0].elo == 0
    assert [rung.agent_steps for rung in rungs] == sorted(rung.agent_steps for rung in rungs)
    assert len(rungs) >= 2
    ladder.draw(rungs, "a run", tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes()[1:4] == b"PNG"
    capsys.readouterr()

    game, agent = make_game("connect_four"), rlsuite.load(run)
    win = game.parse_state("\n".join([*["......."] * 4, "oo.....", "xxx.o.."]))
    found = rlsuite.search(game, win, agent, simulations=50)
    assert (found.action, found.value, found.proven) == (3, 1.0, True)
    assert found.variation[0] == 3
    assert found.policy.shape == (7,)
    with pytest.raises(UsageError, match="plays connect_four, not tic_tac_toe"):
        rlsuite.search(make_game("tic_tac_toe"), make_game("tic_tac_toe").new_state(), agent)
    env = rlsuite.make_env("connect_four", num_envs=2, opponent="random")
    observation, info = env.reset(seed=1)
    actions, _ = agent.act(observation, info=info)
    assert info["action_mask"][np.arange(2), actions].all()
    with pytest.raises(ValueError, match="pass info=info"):
        agent.act(observation)
    for _ in range(30):  # some games end on the way
        observation, _, _, _, info = env.step(actions)
        actions, _ = agent.act(observation, info=info)


@pytest.mark.integration
def test_an_opponent_that_dies_costs_no_training(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text("for _ in range(4):\n    input()\n    print('= \\n', flush=True)\n")
    settings = {**TINY, "env.id": "othello(size=4)", "run.checkpoint_minutes": 60.0, "eval.every_agent_steps": 200}
    settings["env.opponent"] = f"gtp(command={sys.executable} {tmp_path / 'engine.py'})"
    with pytest.raises(OpponentError, match="gtp"):
        rlsuite.train("boards/othello", settings, run_dir=tmp_path / "run")
    kept = checkpoint.load(checkpoint.find(tmp_path / "run", resumable=True))
    assert kept.agent_steps >= 200


def test_other_runs_are_neither_graded_nor_rated(tmp_path: Path) -> None:
    run = rlsuite.train(
        "classic/dqn",
        {"run.agent_steps": 60, "replay.min_agent_steps": 50, "learner.batch_size": 4, "run.threads": 1, "eval.episodes": 1},
        run_dir=tmp_path / "run",
    ).run
    with pytest.raises(UsageError, match=r"has no env\.opponent"):
        evaluate(run, 1, 1, None, opponent="random")
    with pytest.raises(UsageError, match="which is not a board game"):
        grade(run)
    with pytest.raises(UsageError, match="1 checkpoints, a ladder needs two"):
        ladder.climb(run, 2, 2, 0, 2)
    game = make_game("tic_tac_toe")
    with pytest.raises(UsageError, match="cannot evaluate positions"):
        rlsuite.search(game, game.new_state(), 3)


PROGRAM = """
import sys, time
from rlsuite.boardgames.games import make_game
game = make_game("go(size=5,komi=0.5)")
state, moves = game.new_state(), 0
for line in sys.stdin:
    word, *rest = line.split()
    answer = ""
    if word == "clear_board":
        state = game.new_state()
    elif word == "play":
        state = state.apply(next(a for a in range(26) if game.action_text(a) == rest[1].lower()))
    elif word == "genmove":
        moves += 1
        MISCHIEF
        answer = game.action_text(state.legal_actions()[0])
        state = state.apply(state.legal_actions()[0])
    print(f"= {answer}\\n", flush=True)
"""


@pytest.mark.integration
@pytest.mark.parametrize(
    ("mischief", "seconds", "ending"),
    [
        ("if moves == 3: sys.exit(1)", 20, "has ended at 'genmove"),
        ("if moves == 3: time.sleep(60)", 5, "did not answer 'genmove"),
        ("if moves == 3: print('= z9\\n', flush=True); continue", 20, "answered 'z9', which is no legal move"),
        ("if moves % 3 == 0: print('= resign\\n', flush=True); continue", 20, "resigned"),
        ("if moves == 3: print('\\x00\\xff nonsense\\n', flush=True); continue", 20, "refuses 'genmove"),
    ],
)
def test_a_program_that_fails_loses_that_game_and_plays_the_next(
    mischief: str, seconds: float, ending: str, tmp_path: Path
) -> None:
    (tmp_path / "engine.py").write_text(PROGRAM.replace("MISCHIEF", mischief))
    game = make_game("go(size=5,komi=0.5)")
    name = f"gtp(command={sys.executable} {tmp_path / 'engine.py'},seconds={seconds})"
    mine, theirs = make_seat("random", game, None, 1, 0), make_seat(name, game, None, 1, 0)
    played = list(play_games(game, mine, theirs, 2, 0, seed=0, at_once=1))
    mine.close()
    theirs.close()
    assert [p.points for p in played] == [1.0, 1.0]
    assert all(ending in p.ending for p in played), played


def test_openings_are_paired_and_games_run_a_few_at_a_time() -> None:
    game = make_game("othello(size=4)")
    most = 0

    class Seat:
        def __call__(self, slots: Any, rows: Any, histories: Any) -> Any:
            nonlocal most
            assert len(set(slots)) == len(slots)
            assert max(slots) < 3
            most = max(most, len(slots))
            legal = np.empty(game.num_actions, np.int32)
            return [int(legal[: game.rules.legal(row, legal)][-1]) for row in rows]

        def close(self) -> None:
            pass

    played = sorted(play_games(game, Seat(), Seat(), 8, 4, seed=3, at_once=3))
    assert [p.number for p in played] == list(range(8))
    assert [p.side for p in played] == [0, 1] * 4
    for one, other in zip(played[::2], played[1::2], strict=True):
        assert one.opening == other.opening
        assert one.actions == other.actions  # both seats play the same
        assert one.points == 1 - other.points
    assert most >= 2


@pytest.mark.integration
def test_a_match_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rlsuite.cli.main import app

    names = ["random", "mcts(simulations=5)", "mcts(simulations=60)"]
    app(
        [
            "match",
            *names,
            "--game",
            "tic_tac_toe",
            "--games",
            "10",
            "--opening-moves",
            "1",
            "--out",
            str(tmp_path / "games"),
            "--json",
        ],
        standalone_mode=False,
    )
    found = json.loads(capsys.readouterr().out)
    assert [(m["first"], m["second"]) for m in found["meetings"]] == [
        (names[0], names[1]),
        (names[0], names[2]),
        (names[1], names[2]),
    ]
    assert found["meetings"][1]["points"] < 0.5
    assert found["ratings"][2]["elo"] > found["ratings"][0]["elo"] == 0
    assert len(list((tmp_path / "games").glob("*.txt"))) == 30
    assert all(5 < m["different"] <= 10 for m in found["meetings"])
    assert json.loads((tmp_path / "games" / "match.json").read_text()) == found["meetings"]
    app(
        ["match", names[2], names[0], "--game", "tic_tac_toe", "--games", "200", "--opening-moves", "1", "--sprt", "0", "100"],
        standalone_mode=False,
    )
    shown = capsys.readouterr().out
    assert "elo1" in shown
    twice = ["match", names[1], names[2], "--game", "tic_tac_toe", "--games", "6", "--opening-moves", "0"]
    app(twice, standalone_mode=False)
    assert "; only 2 of the games are different" in capsys.readouterr().out
    assert int(shown.split(": ")[1].split(" won")[0]) < 100  # it stopped long before 200 games


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["random"], "a match needs two"),
        (["random", "random"], "meets itself"),
        (["random", "mtcs", "--game", "go(size=5)"], "did you mean mcts"),
        (["random", "mcts"], "which game"),
        (["random", "mcts", "--game", "hexx"], "did you mean hex"),
        (["random", "mcts", "--game", "hex(size=3)", "--sprt", "5", "5"], "must be larger"),
    ],
)
def test_an_impossible_match_is_refused(arguments: list[str], complaint: str) -> None:
    from rlsuite.cli.main import app

    with pytest.raises(UsageError, match=complaint):
        app(["match", *arguments], standalone_mode=False)


def test_a_run_may_play_without_a_search(tmp_path: Path) -> None:
    """With agent.eval_simulations = 0 it plays the net's best move."""
    from rlsuite.play.players import BoardPlayer
    from rlsuite.search.search import without_search

    run = rlsuite.train("boards/connect_four", TINY, run_dir=tmp_path / "run").run
    game = make_game("connect_four")
    player = BoardPlayer(str(run), game)
    player.simulations = 0
    rows = np.stack([game.new_state().row, game.new_state().apply(3).row])
    assert (
        player(rows, [[], [3]], np.random.default_rng(0)).tolist() == without_search(game, rows, player.evaluator(game)[0]).tolist()
    )


def test_a_run_plays_with_other_settings(tmp_path: Path) -> None:
    from rlsuite.play.players import BoardPlayer

    run = rlsuite.train("boards/connect_four", TINY, run_dir=tmp_path / "run").run
    game = make_game("connect_four")
    assert BoardPlayer(str(run), game).simulations == 4
    assert BoardPlayer(f"run(path={run},eval_simulations=7,c_scale=0.5)", game).simulations == 7
    with pytest.raises(UsageError, match=r"has no agent\.simulation "):
        BoardPlayer(f"run(path={run},simulation=7)", game)
    with pytest.raises(UsageError, match=r"run needs path"):
        BoardPlayer("run(eval_simulations=7)", game)


def test_pairs_count_up_to_the_first_unfinished_one() -> None:
    from rlsuite.boardgames.matches import Played
    from rlsuite.play.tournament import _pairs

    ended = {n: Played(n, n % 2, [], 0, points, "") for n, points in ((0, 1.0), (1, 0.5), (2, 0.0), (4, 1.0), (5, 1.0))}
    assert _pairs(ended) == [0.75]
    assert _pairs({**ended, 3: Played(3, 1, [], 0, 1.0, "")}) == [0.75, 0.5, 1.0]


def test_a_program_that_refuses_the_board_is_ended(tmp_path: Path) -> None:
    import time

    (tmp_path / "engine.py").write_text(
        f"import os, sys\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "for line in sys.stdin: print('? no\\n', flush=True)\n"
    )
    with pytest.raises(OpponentError, match="refuses 'boardsize"):
        make_seat(f"gtp(command={sys.executable} {tmp_path / 'engine.py'})", make_game("go(size=5)"), None, 1, 0)
    time.sleep(0.1)
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_long_command_is_a_command() -> None:
    from rlsuite.play.players import is_saved

    assert not is_saved(f"gtp(command=engine {'x' * 5000})")


def test_a_player_of_other_planes_gets_positions_of_its_own_game() -> None:
    """Chains against stones of the last two positions: the same moves, other rows; each side sees what it learned with."""
    game = make_game("go(size=5,komi=3)")
    stones = game.seen_as(make_game("go(size=5,planes=stones,history=2)"))
    seen = list[tuple[int, int]]()

    class Looks:
        def __call__(self, rows: Any, histories: Any, rng: Any) -> Any:
            for row, history in zip(rows, histories, strict=True):
                state = stones.new_state()
                for action in history:
                    state = state.apply(action)
                assert np.array_equal(row, state.row)
                seen.append((len(row), len(history)))
            return Random(stones)(rows, histories, rng)

        def close(self) -> None: ...

    first, second = Batched(Replayed(Looks(), stones), 1), Batched(Random(game), 2)
    played = list(play_games(game, first, second, 6, opening_moves=2, seed=3))
    assert len(played) == 6
    assert {size for size, _ in seen} == {stones.start.size} != {game.start.size}
    assert max(moves for _, moves in seen) > 10
