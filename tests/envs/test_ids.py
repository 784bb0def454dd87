"""Environments by `module:Env-v0`, families of somebody else's, and what their constructors raise."""

import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import rlsuite
from rlsuite.core.errors import UsageError
from rlsuite.core.registry import envs
from rlsuite.evaluation.saved_agent import Saved

MODULE = """
import gymnasium as gym
import numpy as np

class Env(gym.Env):
    metadata = {"render_modes": []}
    observation_space, action_space = gym.spaces.Box(0, 1, (1,), np.float32), gym.spaces.Discrete(2)
    def __init__(self, render_mode=None, fails=None):
        if fails: raise {"key": KeyError, "value": ValueError, "exit": SystemExit}[fails]("wrong")
    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.ones(1, np.float32), {}
    def step(self, action):
        self.t += 1
        return np.ones(1, np.float32), 1.0, self.t >= 5, False, {}

gym.register("shelf/Mine-v0", entry_point=Env)
"""
FAMILY = """
from rlsuite.config.schema import EnvSection

class Family:
    Config = EnvSection
    @staticmethod
    def make(config, num_envs, threads, render):
        raise KeyError("no such level")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module that registers an environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"registers_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    yield tmp_path / f"{name}.py"
    sys.modules.pop(name, None)
    gymnasium.registry.pop("shelf/Mine-v0", None)


def test_a_module_before_the_id_is_imported_in_training_and_in_evaluation(folder: Path) -> None:
    env_id = f"{folder.stem}:shelf/Mine-v0"
    settings = {"env.id": env_id, "run.agent_steps": 50, "run.threads": 1, "eval.every_agent_steps": None, "eval.episodes": 1}
    result = rlsuite.train("classic/dqn", settings, run_dir="run")
    assert result.evaluation is not None
    assert result.evaluation.mean == 5
    gymnasium.registry.pop("shelf/Mine-v0")  # as in another process
    del sys.modules[folder.stem]
    assert Saved(Path("run")).config.env.id == env_id
    assert rlsuite.evaluate("run", 1).mean == 5


@pytest.mark.parametrize(
    ("env_id", "told"),
    [
        ("{}:shelf/Mein-v0", r"^unknown environment of {} 'shelf/Mein-v0'; did you mean shelf/Mine-v0"),
        ("absent_module:Mine-v0", r"^env\.id = absent_module:Mine-v0: import absent_module failed: ModuleNotFoundError"),
        ("broken:Mine-v0", r"^env\.id = broken:Mine-v0: import broken failed: KeyError: 'x' \(.*broken\.py, line 1\)$"),
        ("ale_py:ALE/Pong-v5", r"^env\.id = ale_py:ALE/Pong-v5: Atari games need no module, use ALE/Pong-v5$"),
    ],
)
def test_what_cannot_be_imported_or_is_not_registered_is_told_in_a_line(env_id: str, told: str, folder: Path) -> None:
    Path("broken.py").write_text("raise KeyError('x')")
    with pytest.raises(UsageError, match=told.replace("{}", folder.stem)):
        envs.get(env_id.replace("{}", folder.stem))


@pytest.mark.parametrize(("fails", "kind"), [("key", "KeyError"), ("value", "ValueError"), ("exit", "SystemExit")])
def test_a_constructor_that_raises_is_told_in_a_line(fails: str, kind: str, folder: Path) -> None:
    for env_id in (f"{folder.stem}:shelf/Mine-v0", f"{folder}:Env"):
        with pytest.raises(
            UsageError, match=rf"^env\.id = {env_id}, __init__ failed: {kind}: '?wrong'? \(.*{folder.name}, line 9\)$"
        ):
            rlsuite.train("classic/dqn", {"env.id": env_id, "env.kwargs.fails": fails}, run_dir="run")
    assert not Path("run").exists()


def test_a_render_mode_of_ones_own_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^env\.kwargs\.render_mode: rlsuite sets it itself"):
        rlsuite.make_env("CartPole-v1", kwargs={"render_mode": "human"})


def test_a_family_that_raises_is_told_in_a_line() -> None:
    Path("family.py").write_text(FAMILY)
    told = r"^env\.id = .*family\.py:Family, make failed: KeyError: 'no such level' \(.*family\.py, line 8\)$"
    with pytest.raises(UsageError, match=told):
        rlsuite.train("classic/dqn", {"env.id": "family.py:Family"}, run_dir="run")
    with pytest.raises(UsageError, match=r"^env\.id = family\.py:Family, make failed"):
        rlsuite.make_env("family.py:Family")


def test_make_env_takes_numbers_of_numpy_and_refuses_unknown_settings() -> None:
    env = rlsuite.make_env("CartPole-v1", num_envs=np.int64(3), max_episode_steps=np.int32(7))  # type: ignore[arg-type]
    assert env.num_envs == 3
    env.close()
    with pytest.raises(UsageError, match=r"^unknown key max_steps"):
        rlsuite.make_env("CartPole-v1", max_steps=3)
