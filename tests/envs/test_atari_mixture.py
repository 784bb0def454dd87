"""Several Atari games in one vector environment."""

import numpy as np
import pytest
import torch

from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.evaluation.episodes import play_episodes
from rlsuite.factories import make_agent, make_env, make_spec

BOTH = "ALE/Pong-v5+ALE/Breakout-v5"


def test_every_environment_plays_as_in_a_vector_of_its_own_game() -> None:
    small = {"env.height": 36, "env.width": 36, "run.threads": 1}
    both = make_env(resolve("atari/pong_pqn", {**small, "env.id": BOTH}), 4)
    alone = {
        game: make_env(resolve("atari/pong_pqn", {**small, "env.id": game}), 2) for game in BOTH.split("+")
    }  # environments 0, 2 and 1, 3
    rows = {game: [g, g + 2] for g, game in enumerate(alone)}
    first = {"ALE/Pong-v5": 0, "ALE/Breakout-v5": 6}  # of its actions
    seen, info = both.reset(seed=7)
    for game, env in alone.items():
        np.testing.assert_array_equal(env.reset(seed=[7 + row for row in rows[game]])[0], seen[rows[game]])
    np.testing.assert_array_equal(info["action_mask"].sum(1), [6, 4, 6, 4])
    rng = np.random.default_rng(0)
    for _ in range(300):
        actions = np.array([rng.integers(6), 6 + rng.integers(4), rng.integers(6), 6 + rng.integers(4)])
        found = both.step(actions)
        for game, env in alone.items():
            own = env.step(actions[rows[game]] - first[game])
            for k in range(4):
                np.testing.assert_array_equal(own[k], found[k][rows[game]])
    assert found[0].strides[1] == 1  # channels_last in memory, as of one game
    for env in (both, *alone.values()):
        env.close()


def test_an_evaluation_tells_the_games_apart() -> None:
    config = resolve("atari/pong_pqn", {"env.id": BOTH, "env.max_frames": 2000, "run.threads": 1, "agent.epsilon_eval": 1.0})
    agent = make_agent(config, make_spec(config))
    summary = play_episodes(config, agent, agent.make_net(), 5, 1, torch.device("cpu"))
    assert summary is not None
    assert summary.by_game is not None
    assert summary.by_game["ALE/Pong-v5"] < -5 < 0 <= summary.by_game["ALE/Breakout-v5"]
    assert summary.scalars()["eval/episodic_return/ALE/Pong-v5"] == summary.by_game["ALE/Pong-v5"]


def test_fewer_environments_than_games_play_the_first_ones() -> None:
    env = make_env(resolve("atari/pong_pqn", {"env.id": BOTH}), 1)
    assert env.games == ["ALE/Pong-v5"]
    env.close()


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("ALE/Pong-v5+ALE/Brekout-v5", "unknown Atari game in env.id 'ALE/Brekout-v5'; did you mean ALE/Breakout-v5"),
        ("ALE/Pong-v5+ALE/Pong-v5", "names a game twice"),
        ("ALE/Pong-v5+ALE/Breakout-v5+ALE/Boxing-v5", "num_envs 64 is not a multiple of the 3 games"),
        ("CartPole-v1+ALE/Pong-v5", "unknown Atari game in env.id 'CartPole-v1'"),
    ],
)
def test_other_mixtures_are_refused(env_id: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve("atari/pong_pqn", {"env.id": env_id})
