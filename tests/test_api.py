"""The Python interface."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlsuite
from rlsuite.core.errors import UsageError
from rlsuite.envs import recall

TINY = {
    "run.agent_steps": 300,
    "run.threads": 1,
    "replay.min_agent_steps": 100,
    "learner.batch_size": 8,
    "eval.episodes": 4,
    "net.hidden": 16,
}


def test_a_loaded_agent_plays_in_the_users_own_loop_as_evaluate_does(tmp_path: Path) -> None:
    run = rlsuite.train("classic/dqn", TINY, run_dir=tmp_path / "run").run
    agent = rlsuite.load(run)
    env = rlsuite.make_env("CartPole-v1", num_envs=4)
    seed = 123
    expected = rlsuite.evaluate(run, episodes=4, seed=seed)
    observation, _ = env.reset(seed=seed)
    state = agent.initial_state(batch=4)
    score, open_ = np.zeros(4), np.ones(4, bool)
    while open_.any():
        action, state = agent.act(observation, state)
        assert action.shape == (4,)
        assert action.dtype == np.int64
        observation, reward, terminated, truncated, _ = env.step(action)
        score += reward * open_
        open_ &= ~(terminated | truncated)
    assert sorted(score) == sorted(expected.returns)


def test_observations_of_another_shape_are_refused(tmp_path: Path) -> None:
    run = rlsuite.train("classic/dqn", TINY, run_dir=tmp_path / "run").run
    with pytest.raises(ValueError, match=r"\[B, 4\], got \[2, 5\]"):
        rlsuite.load(run).act(np.zeros((2, 5), np.float32))


def test_an_agent_with_a_memory_reports_what_it_needs(tmp_path: Path) -> None:
    settings = {"net.hidden": 8, "net.memory_size": 8, "run.agent_steps": 200, "replay.min_agent_steps": 100, "eval.episodes": 1}
    agent = rlsuite.load(rlsuite.train("classic/recall_r2d2", settings, run_dir=tmp_path / "run").run)
    env = agent.make_env(num_envs=2)
    assert (env.num_envs, env.length) == (2, 10)  # as configured, where 5 is the environment's own
    observation, _ = env.reset(seed=1)
    with pytest.raises(ValueError, match=r"has a memory: pass state=agent.initial_state\(B\)"):
        agent.act(observation, reward=np.zeros(2))
    with pytest.raises(ValueError, match="pass reward="):
        agent.act(observation, agent.initial_state(2))
    action, state = agent.act(observation, agent.initial_state(2), first=np.ones(2, bool), reward=np.zeros(2))
    assert action.shape == (2,)
    assert len(state) == len(agent.initial_state(2))


def test_evaluation_does_not_depend_on_training_and_names_stay_functions(tmp_path: Path) -> None:
    """A periodic evaluation uses its own games and random streams: the weights come out the same."""
    plain = rlsuite.train("classic/dqn", TINY, run_dir=tmp_path / "a")
    watched = rlsuite.train("classic/dqn", {**TINY, "eval.every_agent_steps": 100}, run_dir=tmp_path / "b")
    assert plain.evaluation is not None
    assert watched.evaluation is not None
    assert plain.evaluation.returns == watched.evaluation.returns
    assert callable(rlsuite.evaluate)
    assert callable(rlsuite.train)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"episodes": 0}, "episodes = 0: must be a whole number of at least 1"),
        ({"episodes": True}, "episodes = True: must be a whole number"),
        ({"episodes": 2.0}, r"episodes = 2\.0: must be a whole number"),
        ({"seed": -1}, "seed = -1: must be a whole number of at least 0"),
    ],
)
def test_evaluate_names_a_wrong_number(settings: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=complaint):
        rlsuite.evaluate(tmp_path, **settings)


def test_evaluate_takes_numpys_integers(tmp_path: Path) -> None:
    rlsuite.train("classic/dqn", TINY, run_dir=tmp_path / "a")
    assert len(rlsuite.evaluate(tmp_path / "a", np.int64(2), np.uint8(3)).returns) == 2  # type: ignore[arg-type]


@pytest.mark.integration
def test_atari_trains_evaluates_and_films(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "run.agent_steps": 100,
        "run.threads": 1,
        "env.num_envs": 4,
        "env.max_frames": 400,
        "replay.capacity_agent_steps": 1_000,
        "replay.min_agent_steps": 50,
        "learner.batch_size": 8,
        "net.hidden": 16,
        "eval.episodes": 2,
        "eval.every_agent_steps": None,
        "eval.stop_at_return": None,
    }
    result = rlsuite.train("atari/pong", settings, run_dir=tmp_path / "run")
    assert result.learner_steps > 0
    assert result.evaluation is not None
    assert result.evaluation.human_normalised is not None
    rlsuite.evaluate(result.run, episodes=1, video=tmp_path / "videos")
    (video,) = (tmp_path / "videos").glob("*.mp4")
    frames, size = read_video(video)
    assert 80 <= frames <= 110  # 400 emulator frames at 4 a step, less the no-ops
    assert size == (320, 420)


def read_video(path: Path) -> tuple[int, tuple[int, int]]:
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    meta: Any = next(reader)
    frames = list(reader)
    assert len({bytes(frame[:50_000]) for frame in frames} | {bytes(frame[-200_000:]) for frame in frames}) > 10  # it moves
    return len(frames), meta["size"]


def test_a_third_party_agent_and_environment_are_found_by_name(tmp_path: Path) -> None:
    from rlsuite.agents.dqn import DQN

    rlsuite.register_agent("mine", DQN)
    rlsuite.register_env("mine/Recall-v0", recall)
    result = rlsuite.train("classic/dqn", {**TINY, "agent.name": "mine", "env.id": "mine/Recall-v0"}, run_dir=tmp_path / "run")
    assert result.agent_steps == 300
    with pytest.raises(UsageError, match="did you mean mine"):
        rlsuite.train("classic/dqn", {**TINY, "agent.name": "mein"})


def test_minutes_stop_a_run(tmp_path: Path) -> None:
    result = rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 10_000_000, "run.minutes": 0.02}, run_dir=tmp_path / "run")
    assert result.agent_steps < 1_000_000
    assert result.evaluation is not None


def test_a_run_stops_once_its_evaluation_reaches_the_goal(tmp_path: Path) -> None:
    goal = {"eval.every_agent_steps": 100, "eval.stop_at_return": 1.0, "run.agent_steps": 10_000}
    assert rlsuite.train("classic/dqn", {**TINY, **goal}, run_dir=tmp_path / "run").agent_steps < 500
