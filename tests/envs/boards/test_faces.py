"""Board games as others see them: Gymnasium, PettingZoo, Stable-Baselines3 and sb3-contrib."""

import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from rlsuite.boardgames.games import make_game
from rlsuite.boardgames.gtp_opponent import RESIGNS
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.envs.boards import faces
from rlsuite.envs.boards.env import Boards
from rlsuite.envs.boards.faces import BoardEnv, two_players
from rlsuite.envs.boards.picture import picture
from rlsuite.envs.gym_ids import BOARD_IDS

GAMES = ["tic_tac_toe", "connect_four", "othello", "gomoku", "hex", "go", "openspiel(game=breakthrough)"]
WHOLE = [3, np.int8(3), np.uint64(3), np.array(3), torch.tensor(3)]
NOT_WHOLE = [3.0, np.float32(3), True, np.bool_(True), np.array(True), torch.tensor(True), np.array([3]), "3", None]


def played(game: str, *actions: int) -> Any:
    env = two_players(game)
    env.reset()
    for action in actions:
        env.step(action)
    return env


def seen(env: Any, agent: str) -> np.ndarray[Any, Any]:
    planes: np.ndarray[Any, Any] = env.observe(agent)["observation"]
    return planes


def test_pettingzoo_observations_are_from_the_side_of_the_agent_that_is_asked() -> None:
    """Connect Four after 3, 3, 2: player 0 has stones in columns 3 and 2, player 1 one on top."""
    env = played("connect_four", 3, 3, 2)
    first, second = seen(env, "player_0"), seen(env, "player_1")
    assert np.argwhere(first[0]).tolist() == [[5, 2], [5, 3]]  # own stones first: row 5 is the bottom
    assert np.argwhere(first[1]).tolist() == [[4, 3]]
    assert np.array_equal(second, first[::-1])
    assert env.observe("player_0")["action_mask"].sum() == 0  # it is not to move
    assert env.observe("player_1")["action_mask"].sum() == 7


def test_pettingzoo_observations_are_from_the_agents_side_at_the_end_of_a_game() -> None:
    env = played("connect_four", 0, 1, 0, 1, 0, 1, 0)
    assert all(env.terminations.values())
    for agent, own in (("player_0", 4), ("player_1", 3)):
        planes = env.observe(agent)
        assert planes["observation"].sum((1, 2)).tolist() == [own, 7 - own]
        assert planes["action_mask"].sum() == 0


@pytest.mark.parametrize("name", GAMES)
def test_both_sides_of_every_game_are_what_each_player_saw_or_will_see(name: str) -> None:
    """The planes of the player to move are `encode`'s own; those of the other one have the two kinds of stones exchanged."""
    game = make_game(name)
    rng, state = np.random.default_rng(0), game.new_state()
    while not state.is_terminal():
        mover = game.planes(state.row, state.player)
        other = game.planes(state.row, 1 - state.player)
        assert np.array_equal(mover, state.observation())
        if not name.startswith("openspiel"):  # whose planes are OpenSpiel's
            assert np.array_equal(mover[:2], other[1::-1])
        assert game.planes(state.row, 0).tobytes() in (mover.tobytes(), other.tobytes())
        state = state.apply(int(rng.choice(state.legal_actions())))
    assert not np.array_equal(game.planes(state.row, 0), game.planes(state.row, 1))


def test_go_and_hex_say_which_side_the_agent_is() -> None:
    """Their planes hold a plane that is 1 for player 0, who plays under other conditions."""
    for name, plane in (("go(size=5)", 3), ("hex(size=5)", 2)):
        env = played(name, 7)
        assert (seen(env, "player_0")[plane] == 1).all()
        assert (seen(env, "player_1")[plane] == 0).all()


def test_a_game_that_cannot_show_the_other_side_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bare: Game = replace(make_game("tic_tac_toe"), set_player=None)
    monkeypatch.setattr(faces, "make_game", lambda name, **parameters: bare)
    with pytest.raises(UsageError, match="its Game needs set_player"):
        two_players("tic_tac_toe")
    env = BoardEnv("tic_tac_toe")  # asks for the other side at the end of a game only, where it does without
    env.reset(seed=1)


@pytest.mark.parametrize("action", WHOLE)
def test_integers_of_any_width_are_actions(action: Any) -> None:
    env = gymnasium.make("rlsuite/Connect4-v0")
    env.reset(seed=1)
    env.step(action)
    assert np.argwhere(seen(played("connect_four", action), "player_0")[0]).tolist() == [[5, 3]]
    assert make_game("connect_four").new_state().apply(action) == make_game("connect_four").new_state().apply(3)


@pytest.mark.parametrize("action", NOT_WHOLE)
def test_what_is_no_integer_is_no_action(action: Any) -> None:
    env, two = gymnasium.make("rlsuite/Connect4-v0"), played("connect_four")
    env.reset(seed=1)
    for step in (env.step, two.step, make_game("connect_four").new_state().apply):
        with pytest.raises(UsageError, match=r"connect_four: the action .* is not an integer; actions are 0 to 6"):
            step(action)
    assert not seen(two, "player_0").any()
    assert env.unwrapped.state.player == 0  # type: ignore[attr-defined]


def test_a_vector_of_boards_takes_integers_only() -> None:
    env = Boards("connect_four", 2, "random")
    env.reset(seed=1)
    for actions in (np.array([1.0, 1.5]), np.array([True, False])):
        with pytest.raises(UsageError, match="actions must be integers"):
            env.step(actions)  # type: ignore[arg-type]
    env.step(np.array([1, 2], np.uint8))  # type: ignore[arg-type]


def test_an_illegal_move_loses_the_game_in_gymnasium_and_is_refused_in_pettingzoo() -> None:
    env = gymnasium.make("rlsuite/TicTacToe-v0")
    env.reset(seed=1)
    env.step(4)
    _, reward, over, truncated, info = env.step(4)
    assert (reward, over, truncated, info["illegal_action"]) == (-1.0, True, False, True)
    assert info["action_mask"].sum() == 0
    with pytest.raises(UsageError, match="the game is over"):
        env.step(0)
    assert env.reset(seed=1)[1]["action_mask"].sum() == 9
    with pytest.raises(UsageError, match="there is no action 9; actions are 0 to 8"):
        env.step(9)
    two = played("tic_tac_toe", 4)
    before = dict(two._cumulative_rewards)
    with pytest.raises(UsageError, match="action 4 is illegal here"):
        two.step(4)
    assert two.agent_selection == "player_1"
    assert two._cumulative_rewards == before


def test_the_last_observation_of_a_game_is_from_the_agents_side(monkeypatch: pytest.MonkeyPatch) -> None:
    env = BoardEnv("connect_four")
    env.reset(seed=1)
    monkeypatch.setattr(env.boards, "opponent", lambda rows, histories, rng: np.array([1] * len(rows)))
    for _ in range(3):
        env.step(np.int64(0))
    observation, reward, over, _, _ = env.step(np.int64(0))
    assert (reward, over) == (1.0, True)
    assert observation.sum((1, 2)).tolist() == [4, 3]
    env.reset(seed=1)
    monkeypatch.setattr(env.boards, "opponent", lambda rows, histories, rng: np.array([RESIGNS] * len(rows)))
    observation, reward, over, _, _ = env.step(np.int64(0))
    assert (reward, over) == (1.0, True)
    assert observation.sum((1, 2)).tolist() == [1, 0]
    assert not env.action_masks().any()


def test_pettingzoo_says_when_no_game_is_on() -> None:
    env = two_players("tic_tac_toe")
    with pytest.raises(UsageError, match="no game is on; reset the environment"):
        env.step(0)
    with pytest.raises(UsageError, match="unknown agent 'player_2'"):
        env.observe("player_2")


def test_metadata_stands_on_the_class() -> None:
    assert BoardEnv.metadata["render_modes"] == ["ansi", "rgb_array"]
    metadata = type(two_players("go(size=5)")).metadata
    assert metadata["name"] == "go(size=5,komi=7.5)"
    assert metadata["render_modes"] == ["ansi", "rgb_array"]
    assert metadata["is_parallelizable"] is False


def test_positions_are_rendered_as_text_and_as_pictures_of_one_size() -> None:
    env = gymnasium.make("rlsuite/Othello-v0", render_mode="rgb_array")
    env.reset(seed=1)
    start: Any = env.render()
    env.step(int(np.flatnonzero(env.unwrapped.action_masks())[0]))  # type: ignore[attr-defined]
    later: Any = env.render()
    assert start.shape == later.shape == (9 * 24, 9 * 24, 3)  # 8 lines of 8 cells, then whose turn it is
    assert start.dtype == np.uint8
    assert not np.array_equal(start, later)
    dark, light = picture(make_game("othello").new_state())[3 * 24 + 12, [4 * 24 + 12, 3 * 24 + 12]]
    assert dark.max() < 50 < 200 < light.min()
    two = two_players("othello", render_mode="rgb_array")
    two.reset()
    assert np.array_equal(two.render(), start)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"oponent": "random"}, "'oponent'; did you mean opponent"),
        ({"opening_move": 3}, "'opening_move'; did you mean opening_moves"),
        ({"rendermode": "ansi"}, "'rendermode'; did you mean render_mode"),
        ({"size": 9}, r"'size' \(known: opening_moves, opponent, render_mode\)"),
        ({"opening_moves": -1}, "opening_moves = -1"),
        ({"opening_moves": 1.5}, "opening_moves = 1.5"),
        ({"render_mode": "svg"}, "'svg': boards are rendered as 'ansi' or 'rgb_array'"),
    ],
)
def test_a_wrong_keyword_is_refused_with_the_nearest(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        BoardEnv("connect_four", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium warns of the render mode
        with pytest.raises(UsageError, match=complaint):
            gymnasium.make("rlsuite/Connect4-v0", **settings)


def test_a_wrong_keyword_of_two_players_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown keyword of go 'sise'; did you mean size"):
        two_players("go", sise=5)
    with pytest.raises(UsageError, match="'render_mod'; did you mean render_mode"):
        two_players("go", render_mod="ansi")
    with pytest.raises(UsageError, match="'human': boards are rendered as"):
        two_players("go", render_mode="human")


def test_ids_are_known_whichever_is_imported_first() -> None:
    for first, second in (("rlsuite", "gymnasium"), ("gymnasium", "rlsuite"), ("rlsuite.envs.gym_ids", "gymnasium")):
        code = f"import {first}; import {second}; print('rlsuite/Connect4-v0' in gymnasium.registry)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "True\n", done.stderr


@pytest.mark.integration
@pytest.mark.parametrize("name", BOARD_IDS)
@pytest.mark.parametrize("render_mode", [None, "ansi", "rgb_array"])
def test_gymnasiums_checker_accepts_every_board_game(name: str, render_mode: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*HumanRendering")
        check_env(gymnasium.make(f"rlsuite/{name}-v0", render_mode=render_mode))


@pytest.mark.integration
@pytest.mark.parametrize("name", BOARD_IDS.values())
def test_pettingzoos_tests_accept_every_board_game(name: str) -> None:
    from pettingzoo.test import api_test, seed_test

    api_test(two_players(name), num_cycles=200)
    seed_test(lambda: two_players(name), num_cycles=200)


@pytest.mark.integration
@pytest.mark.parametrize("name", BOARD_IDS)
def test_stable_baselines_makes_vectors_of_every_board_game(name: str) -> None:
    env_util = pytest.importorskip("stable_baselines3.common.env_util")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = env_util.make_vec_env(f"rlsuite/{name}-v0", 2, seed=1)
    env.reset()
    for _ in range(80):  # games end and begin meanwhile
        masks = np.stack(env.env_method("action_masks"))
        assert masks.dtype == bool
        _, rewards, _, infos = env.step(masks.argmax(1))
        assert not any("illegal_action" in info for info in infos)
        assert set(rewards) <= {-1.0, 0.0, 1.0}
    assert env.render().dtype == np.uint8
    env.close()


@pytest.mark.integration
@pytest.mark.parametrize("name", BOARD_IDS)
def test_maskable_ppo_trains_on_every_board_game(name: str) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    env_util = pytest.importorskip("stable_baselines3.common.env_util")
    env = env_util.make_vec_env(f"rlsuite/{name}-v0", 2, seed=1)
    lost_by_illegal_moves: list[bool] = []

    def look(values: dict[str, Any], _: dict[str, Any]) -> bool:
        lost_by_illegal_moves.extend("illegal_action" in info for info in values["infos"])
        return True  # go on

    model = contrib.MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=1, device="cpu", seed=1)
    model.learn(256, callback=look)
    assert len(lost_by_illegal_moves) == 256
    assert not any(lost_by_illegal_moves)
    # The mask of a single environment, without a vector.
    maskable = pytest.importorskip("sb3_contrib.common.maskable.utils")
    single = gymnasium.make(f"rlsuite/{name}-v0")
    single.reset(seed=1)
    assert np.array_equal(maskable.get_action_masks(single), single.action_masks())  # type: ignore[attr-defined]
    single.close()
