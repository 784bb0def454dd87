"""A plug-in agent that breaks the contract is refused in one line that names file and method; the shipped ones all keep it."""

from pathlib import Path
from typing import Any

import pytest

import rlsuite
from rlsuite.acting.agent_check import check_agent
from rlsuite.acting.board_agent import BoardAgent
from rlsuite.agents import AGENTS
from rlsuite.config.loader import resolve
from rlsuite.core.agent import agent_class
from rlsuite.core.errors import UsageError
from rlsuite.core.types import describe
from rlsuite.factories import make_agent, make_env

HEAD = """
import torch
from rlsuite.agents.dqn import DQN
from rlsuite.core.agent import Agent, Loss, Transitions
from rlsuite.agents.value_based import ValueConfig

class Mine(DQN):
"""


def refusal(tmp_path: Path, body: str, head: str = HEAD) -> str:
    file = tmp_path / "mine.py"
    file.write_text(head + body)
    with pytest.raises(UsageError) as caught:
        rlsuite.train("classic/dqn", {"agent.name": f"{file}:Mine", "run.agent_steps": 10}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()  # before training starts
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "reported"),
    [
        (
            "    def act(self, net, step, state, mode):\n        return torch.zeros(2, 1, dtype=torch.int64), state, {}\n",
            "Mine.act returned actions of shape [2, 1], not [2]",
        ),
        (
            "    def act(self, net, step, state, mode):\n        return torch.zeros(2), state, {}\n",
            "Mine.act returned torch.float32 actions, not int64 ones",
        ),
        (
            "    def act(self, net, step, state, mode):\n"
            "        return torch.zeros(2, dtype=torch.int64), (torch.zeros(2, 5),), {}\n",
            "Mine.act changed the state's shapes and dtypes from [] to [([2, 5], 'torch.float32')]",
        ),
        (
            "    def act(self, net, step, state, mode):\n"
            "        return torch.zeros(2, dtype=torch.int64), state, {'q': torch.zeros(())}\n",
            "Mine.act returned extras['q'] of shape [], not [2, ...]",
        ),
        (
            "    def loss(self, net, target, trajectory, rng):\n        return Loss(torch.zeros(()), None, {})\n",
            "Mine.loss returned a loss of shape [], not [B] = [2]",
        ),
        (
            "    def loss(self, net, target, trajectory, rng):\n        return torch.zeros(2)\n",
            "Mine.loss returned a Tensor, not a rlsuite.core.agent.Loss",
        ),
        (
            "    def priority(self, td, valid):\n        return td.sum() * 0 + torch.zeros(2)\n",
            "Mine.priority returned [0.0, 0.0], not [B] = [2] numbers above 0",
        ),
        ("    def loss(self, net, target, trajectory, rng):\n        return 1 / 0\n", "Mine.loss failed: ZeroDivisionError"),
    ],
)
def test_what_breaks_the_contract_is_refused(tmp_path: Path, body: str, reported: str) -> None:
    message = refusal(tmp_path, body)
    assert reported in message
    assert "mine.py:Mine" in message


def test_where_it_failed_is_reported(tmp_path: Path) -> None:
    message = refusal(tmp_path, "    def loss(self, net, target, trajectory, rng):\n        return 1 / 0\n")
    assert f"{tmp_path / 'mine.py'}, line 9" in message


@pytest.mark.parametrize(
    ("body", "head", "reported"),
    [
        ("    pass\n", "class Mine:\n", "Mine is not a subclass of rlsuite.core.agent.Agent"),
        ("Mine = 3\n", "", "an object of type int is not a subclass"),
        (
            "    def make_net(self): ...\n",
            "from rlsuite.core.agent import Agent\nclass Mine(Agent):\n",
            "Mine does not implement act, loss; see rlsuite.core.agent.Agent",
        ),
        ("raise RuntimeError('boom')\n", "x = 1\n", "mine.py, line 2 cannot be loaded: RuntimeError: boom"),
        ("def broken(:\n", "", "cannot be loaded: SyntaxError"),
        ("class Mime: ...\n", "", "has no Mine; did you mean Mime?"),
    ],
)
def test_a_file_without_a_valid_agent_is_refused(tmp_path: Path, body: str, head: str, reported: str) -> None:
    assert reported in refusal(tmp_path, body, head)


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.py does not exist"):
        resolve("classic/dqn", {"agent.name": f"{tmp_path}/nowhere.py:Mine"})


CONFIGS = {"q_learning": "classic/q_learning", "c51": "classic/c51", "ppo": "classic/pendulum_ppo", "r2d2": "classic/recall_r2d2"}


@pytest.mark.parametrize("name", [name for name in AGENTS if not issubclass(agent_class(name), BoardAgent)])
def test_the_shipped_agents_keep_the_contract(name: str) -> None:
    """All but board agents, which act on positions: blank data are none."""
    config: Any = resolve(CONFIGS.get(name, f"classic/{name}"))
    env = make_env(config, num_envs=1, threads=1)
    spec = describe(env)
    env.close()
    check_agent(make_agent(config, spec), spec)
