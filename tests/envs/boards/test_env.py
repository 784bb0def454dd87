"""Board games as environments: turns, signs, openings, opponents, other programs, and the Gymnasium and PettingZoo interfaces."""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import rlsuite
from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.gtp_opponent import RESIGNS
from rlsuite.boardgames.opponents import make_opponent
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.game import BoardState
from rlsuite.envs import family
from rlsuite.envs.boards.env import Boards
from rlsuite.envs.boards.faces import BoardEnv, two_players


def random_play(env: Boards, ticks: int, seed: int) -> list[tuple[Any, ...]]:
    """Plays random legal actions and returns what every step returned."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    seen: list[tuple[Any, ...]] = [(observation, None, None, info, None)]
    for _ in range(ticks):
        action = np.array([rng.choice(np.flatnonzero(mask)) if mask.any() else 0 for mask in info["action_mask"]])
        observation, reward, over, _, info = env.step(action)
        seen.append((observation, reward, over, info, action))
    return seen


def test_sides_alternate_and_rewards_are_the_agents() -> None:
    env = Boards("tic_tac_toe", 4, "random")
    game, seen = env.game, random_play(env, 60, seed=3)
    begins = [[] for _ in range(4)]  # type: list[list[int]]
    fresh = np.ones(4, bool)
    for observation, reward, over, info, _ in seen:
        for env_index in range(4):
            state = BoardState(game, info["row"][env_index])
            assert np.array_equal(observation[env_index], state.observation())
            assert np.flatnonzero(info["action_mask"][env_index]).tolist() == state.legal_actions()
            if over is not None and over[env_index]:
                assert state.is_terminal()
                assert reward[env_index] == state.returns()[begins[env_index][-1]]
            elif over is not None:
                assert reward[env_index] == 0
            if fresh[env_index]:
                begins[env_index].append(state.player)  # the agent is to move
                assert 9 - len(state.legal_actions()) == state.player  # after one move of the opponent, or none
        fresh = np.zeros(4, bool) if over is None else over.copy()
    for env_index in range(4):
        assert begins[env_index][:4] == [env_index % 2, 1 - env_index % 2, env_index % 2, 1 - env_index % 2]


def test_the_same_seed_plays_the_same_games_and_a_restored_env_continues_them() -> None:
    first, second = (random_play(Boards("connect_four", 3, "random", 4), 30, seed=5) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a[0], b[0])
    env, twin = Boards("connect_four", 3, "random", 4), Boards("connect_four", 3, "random", 4)
    random_play(env, 20, seed=1)
    twin.reset(seed=9)
    twin.set_state(env.get_state())
    for _ in range(20):
        masks = [env._info()["action_mask"], twin._info()["action_mask"]]
        assert np.array_equal(*masks)
        action = masks[0].argmax(1)
        for a, b in zip(env.step(action)[:3], twin.step(action)[:3], strict=True):
            assert np.array_equal(a, b)


def test_an_illegal_action_changes_nothing() -> None:
    env = Boards("tic_tac_toe", 2, "random")
    env.reset(seed=1)
    env.step(np.array([0, int(env._info()["action_mask"][1].argmax())]))
    before = env.rows.copy()
    with pytest.raises(UsageError, match="action 0 of environment 0 is illegal"):
        env.step(np.array([0, int(env._info()["action_mask"][1].argmax())]))
    assert np.array_equal(env.rows, before)


def test_openings_are_random_and_short() -> None:
    env = Boards("othello", 64, "random", opening_moves=3)
    env.reset(seed=1)
    lengths = {len(moves) for moves in env._history}
    assert lengths <= {0, 1, 2, 3, 4}  # the opponent may have answered
    assert {1, 2, 3} <= lengths
    assert len({row.tobytes() for row in env.rows}) > 10


@pytest.mark.integration
def test_no_game_is_over_before_it_begins() -> None:
    """After a long random opening, the opponent's first reply may win; then another game is dealt."""
    env = Boards("tic_tac_toe", 64, "mcts(simulations=20)", opening_moves=6)
    for seed in range(4):
        assert env.reset(seed=seed)[1]["action_mask"].any(1).all()
        assert env.begin_next()[1]["action_mask"].any(1).all()


def test_a_program_that_resigns_has_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Boards("othello", 2, "random")
    env.reset(seed=1)
    monkeypatch.setattr(env, "opponent", lambda rows, histories, rng: np.full(len(rows), RESIGNS))
    _, reward, over, _, info = env.step(env._info()["action_mask"].argmax(1))
    assert reward.tolist() == [1, 1]
    assert over.all()
    assert not info["action_mask"].any()
    monkeypatch.undo()
    assert env.step(np.zeros(2, np.int64))[4]["action_mask"].any(1).all()  # new games


def test_mcts_takes_a_win_and_stops_one() -> None:
    game, empty = make_game("connect_four"), ["......."] * 4
    win = game.parse_state("\n".join([*empty, "oo.....", "xxx.o.."]))
    threat = game.parse_state("\n".join([*empty, "oo.....", "xxx...."]))
    moves = make_opponent("mcts(simulations=300)", game)(np.stack([win.row, threat.row]), [[], []], np.random.default_rng(0))
    assert moves.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("mtcs", "did you mean mcts"),
        ("mcts(sims=3)", "unknown parameter of mcts 'sims'"),
        ("mcts(simulations=0)", "simulations = 0"),
        ("mcts(c=abc)", "c = abc; allowed are numbers above 0"),
        ('gtp(command=gnugo "x)', "is not a command"),
        ("gtp", "gtp needs a program"),
        ("gtp(command=no-such-program-here)", "cannot be started"),
    ],
)
def test_a_wrong_opponent_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        make_opponent(name, make_game("go", size=5))


ENGINE = """
import random, sys
from rlsuite.boardgames.games import make_game
game = make_game("go", size=5, komi=0.5)
state, size, rng = game.new_state(), 5, random.Random(1)
def vertex(action):
    return "pass" if action == 25 else f"{'ABCDEFGHJ'[action % size]}{size - action // size}"
for line in sys.stdin:
    word, *rest = line.split()
    answer = ""
    if word == "clear_board":
        state = game.new_state()
    elif word == "play":
        action = next(a for a in range(26) if vertex(a).lower() == rest[1].lower())
        assert rest[0] == ("black", "white")[state.player]
        state = state.apply(action)
    elif word == "genmove":
        action = rng.choice(state.legal_actions())
        state, answer = state.apply(action), vertex(action)
    elif word == "boardsize":
        assert rest == ["5"]
    elif word == "komi":
        assert float(rest[0]) == 0.5
    print(f"= {answer}\\n", flush=True)
"""


def test_another_program_plays_through_gtp(tmp_path: Path) -> None:
    """The program checks every move and colour that it gets; the environments' games do not mix."""
    (tmp_path / "engine.py").write_text(ENGINE)
    env = Boards("go(size=5,komi=0.5)", 3, f"gtp(command={sys.executable} {tmp_path / 'engine.py'})", opening_moves=2)
    seen = random_play(env, 40, seed=2)
    assert any(over.any() for _, _, over, _, _ in seen[1:])
    process = env.opponent.program.process  # type: ignore[attr-defined]
    env.close()
    assert process.poll() is not None
    with pytest.raises(RlsuiteError, match="has ended"):
        env.opponent._say("name")  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["TicTacToe", "Connect4", "Othello", "Gomoku", "Hex", "Go"])
def test_gymnasium_knows_the_games(name: str) -> None:
    env = gymnasium.make(f"rlsuite/{name}-v0", render_mode="ansi")
    board = env.unwrapped
    assert isinstance(board, BoardEnv)
    for game in range(2 if name in ("TicTacToe", "Connect4") else 1):
        observation, info = env.reset(seed=7 if game == 0 else None)
        env.action_space.seed(game)
        assert env.observation_space.contains(observation)
        assert board.state.player == game  # sides alternate
        over, reward = False, 0.0
        for _ in range(2000):
            if over:
                break
            assert info["action_mask"].sum() == len(board.state.legal_actions())
            observation, reward, over, truncated, info = env.step(env.action_space.sample(info["action_mask"]))  # type: ignore[assignment]
            assert env.observation_space.contains(observation)
            assert not truncated
        assert over
        assert reward == board.state.returns()[game]
        assert str(env.render()) == str(board.state)
        with pytest.raises(UsageError, match="the game is over"):
            board.step(np.int64(0))


def test_parameters_reach_the_game() -> None:
    env = gymnasium.make("rlsuite/Go-v0", size=5, komi=0.5)
    assert env.observation_space.shape == (5, 5, 5)
    with pytest.raises(UsageError, match="ansi"):
        gymnasium.make("rlsuite/Go-v0", render_mode="svg")


@pytest.mark.parametrize("name", ["tic_tac_toe", "othello(size=4)", "go(size=3)"])
def test_pettingzoo_accepts_the_two_agent_environment(name: str) -> None:
    from pettingzoo.test import api_test

    api_test(two_players(name), num_cycles=60)


def test_configs_of_boards_are_checked() -> None:
    with pytest.raises(UsageError, match="unknown parameter of go 'sise'"):
        rlsuite.make_env("go(sise=5)")


def test_our_gymnasium_ids_train_like_any_other() -> None:
    assert family("rlsuite/Connect4-v0") == "rlsuite.envs.classic"
