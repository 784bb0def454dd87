"""Environments that a script registers with Gymnasium, on their way to the workers."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from rlsuite.core.errors import UsageError
from rlsuite.runtime.ray.environments import packed, register

SCRIPT = """
import sys, tempfile, gymnasium, numpy as np, rlsuite
from gymnasium import spaces

class Ten(gymnasium.Env):
    metadata = {"render_modes": []}
    observation_space, action_space = spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2)
    def __init__(self, pay=1.0): self.pay = pay
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.ones(1, np.float32), {}
    def step(self, action):
        self.t += 1
        return np.ones(1, np.float32), self.pay, self.t == 10, False, {}

if __name__ == "__main__":
    gymnasium.register("Script/Ten-v0", entry_point=Ten, kwargs={"pay": 2.0})
    settings = {"run.threads": 1, "run.agent_steps": 500, "eval.every_agent_steps": None, "eval.stop_at_return": None}
    settings |= {"env.id": "Script/Ten-v0", "eval.episodes": 2, "runtime": "ray"}
    print(rlsuite.train("classic/dqn", settings, run_dir=sys.argv[1]).evaluation.mean)
"""


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(gymnasium.registry)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


class Nothing(gymnasium.Env[Any, Any]):
    """An environment of this module."""


@pytest.mark.usefixtures("registered")
def test_what_was_registered_arrives_with_its_settings() -> None:
    gymnasium.register("T/Module-v0", entry_point="no_such_module:Env", max_episode_steps=7)
    gymnasium.register("T/Class-v0", entry_point=Nothing, kwargs={"pay": 3})
    sent = packed("T/Class-v0")
    assert set(sent) >= {"T/Module-v0", "T/Class-v0"}
    assert "CartPole-v1" not in sent  # every process has it
    for name in sent:
        gymnasium.registry.pop(name)
    register(sent, "T/Class-v0")
    assert gymnasium.spec("T/Module-v0").max_episode_steps == 7
    assert gymnasium.spec("T/Class-v0").entry_point is Nothing
    assert gymnasium.spec("T/Class-v0").kwargs == {"pay": 3}


@pytest.mark.usefixtures("registered")
def test_what_cannot_be_sent_is_refused_only_for_the_run_that_needs_it() -> None:
    lock = threading.Lock()
    gymnasium.register("T/Lock-v0", entry_point=lambda: lock)
    with pytest.raises(UsageError, match=r"^env\.id = T/Lock-v0: .* Ray cannot send to its workers: TypeError: cannot pickle"):
        packed("T/Lock-v0")
    assert "T/Lock-v0" not in packed("CartPole-v1")


@pytest.mark.usefixtures("registered")
def test_what_a_node_cannot_import_is_named() -> None:
    broken = {"T/Broken-v0": b"cno_such_module\nEnv\n."}
    register(broken, "CartPole-v1")
    with pytest.raises(UsageError, match=r"^env\.id = T/Broken-v0: .*No module named 'no_such_module'; install it on all nodes$"):
        register(broken, "T/Broken-v0")


@pytest.mark.integration
def test_a_class_of_the_script_trains_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "script.py").write_text(SCRIPT)
    path = ":".join(path for path in sys.path if path)
    monkeypatch.setenv("PYTHONPATH", path)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "20.0\n"
