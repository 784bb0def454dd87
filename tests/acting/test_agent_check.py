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
        ("    def act(self, net, step, state, mode):\n        return None\n", "Mine.act failed: TypeError"),
        ("    def make_net(self):\n        raise SystemExit\n", "Mine.make_net failed: SystemExit"),
        ("    def __init__(self, config, net, spec):\n        1 / 0\n", "Mine.__init__ failed: ZeroDivisionError"),
        ("    def init_net(self, net):\n        1 / 0\n", "Mine.init_net failed: ZeroDivisionError"),
        ("    @classmethod\n    def validate(cls, config):\n        1 / 0\n", "Mine.validate failed: ZeroDivisionError"),
        (
            "    @classmethod\n    def ignores(cls, config):\n        return {'net.none': 'x'}\n",
            "Mine.ignores failed: AttributeError",
        ),
        ("    class Config: pass\n", "Mine.Config must be a subclass of rlsuite.config.schema.AgentSection"),
        (
            "    def __init__(self, config, net, spec):\n"
            "        super().__init__(config, net, spec)\n"
            "        self.sequence = None\n",
            "Mine.sequence is None, not one of Transitions, Sequences, Rollouts, Games",
        ),
        (
            "    def loss(self, net, target, trajectory, rng):\n        return Loss(torch.zeros(2), None, {})\n",
            "Mine.loss returned a loss that does not depend on the net's weights",
        ),
        (
            "    def loss(self, net, target, trajectory, rng):\n"
            "        loss = super().loss(net, target, trajectory, rng)\n"
            "        return loss._replace(metrics={'x': 1.0})\n",
            "Mine.loss returned metrics['x'] of type float, not a tensor",
        ),
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
        ("raise RuntimeError('boom')\n", "x = 1\n", "mine.py cannot be loaded: RuntimeError: boom"),
        ("def broken(:\n", "", "cannot be loaded: SyntaxError"),
        ("class Mime: ...\n", "", "has no Mine; did you mean Mime?"),
    ],
)
def test_a_file_without_a_valid_agent_is_refused(tmp_path: Path, body: str, head: str, reported: str) -> None:
    assert reported in refusal(tmp_path, body, head)


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.py does not exist"):
        resolve("classic/dqn", {"agent.name": f"{tmp_path}/nowhere.py:Mine"})


PARTS = """
import torch
from rlsuite.nets.memory import Core
from rlsuite.nets.torso import Torso

class Wide(Torso):
    def __init__(self, spec, hidden):
        super().__init__()
        self.features = hidden + 1
    def forward(self, observation):
        return observation.new_zeros(*observation.shape[:2], self.features - 1)

class Silent(Torso):
    def __init__(self, spec, hidden):
        super().__init__()

def nothing(spec, hidden):
    return None

def boom(spec, hidden):
    1 / 0

class Growing(Core):
    def __init__(self, features, size):
        super().__init__()
        self.features = size
    def initial_state(self, batch):
        return (torch.zeros(batch, 1),)
    def forward(self, x, step, state):
        grown = torch.cat([state[0], state[0]], 1)
        return x.new_zeros(*x.shape[:2], self.features), (grown,)
"""


@pytest.mark.parametrize(
    ("override", "reported"),
    [
        ("net.torso=parts.py:Wide", "Wide.forward returned [1, 2, 512], not [T,B,features] = [1, 2, 513]"),
        ("net.torso=parts.py:Silent", "Silent has no features"),
        ("net.torso=parts.py:nothing", "returned a NoneType, not a rlsuite.nets.torso.Torso"),
        ("net.torso=parts.py:boom", "failed: ZeroDivisionError"),
        ("net.memory=parts.py:Growing", "Growing.forward changed the state's shapes from [[2, 1]] to [[2, 2]]"),
    ],
)
def test_a_torso_or_core_that_breaks_the_contract_is_refused(
    override: str, reported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        rlsuite.train("classic/recall_r2d2", [override, "net.hidden=512"], run_dir=tmp_path / "run")
    assert reported in str(caught.value)
    assert "parts.py" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_agent_that_acts_on_what_the_environment_reports_is_not_tried_on_blanks(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        HEAD
        + "    def q_values(self, net, step, state, rng):\n"
        + "        q, state = super().q_values(net, step, state, rng)\n"
        + "        mask = step.extras.get('action_mask')\n"
        + "        assert mask is not None or step.reward.shape[1] > 0\n"
        + "        return (q if mask is None else q.masked_fill(~mask[0], -1e9)), state\n"
        + "    def act(self, net, step, state, mode):\n"
        + "        step.extras['action_mask']\n"
        + "        return self.q_values(net, step, state, None)[0].argmax(-1), state, {}\n"
    )
    changes = {"run.agent_steps": 64, "run.threads": 1, "env.opponent": "random", "net.torso": "tower(width=4,depth=1)"}
    changes |= {"env": {"id": "tic_tac_toe", "num_envs": 4, "opponent": "random"}, "eval.episodes": 2, "net.hidden": 8}
    changes |= {"eval.every_agent_steps": None, "eval.stop_at_return": None, "replay.min_agent_steps": 32}
    del changes["env.opponent"]
    result = rlsuite.train("classic/dqn", {"agent.name": f"{tmp_path}/mine.py:Mine", **changes}, run_dir=tmp_path / "run")
    assert result.agent_steps == 64


def test_files_beside_a_plug_in_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("SIZE = 3\n")
    (tmp_path / "mine.py").write_text(
        HEAD.replace("class Mine", "from neighbour_of_mine import SIZE\n\nclass Mine") + "    size = SIZE\n"
    )
    assert agent_class(f"{tmp_path}/mine.py:Mine").size == 3  # type: ignore[attr-defined]


CONFIGS = {"q_learning": "classic/q_learning", "c51": "classic/c51", "ppo": "classic/pendulum_ppo", "r2d2": "classic/recall_r2d2"}
CONFIGS |= {
    "inverse_dynamics": "atari/pong_actions",
    "masked_steps": "classic/key_door_masked",
    "gail": "classic/cartpole_gail",
    "behaviour_cloning": "classic/key_door_cloning",
    "decision_transformer": "classic/cartpole_dt",
}


@pytest.mark.parametrize("name", [name for name in AGENTS if not issubclass(agent_class(name), BoardAgent)])
def test_the_shipped_agents_keep_the_contract(name: str) -> None:
    """All but board agents, which act on positions: blank data are none."""
    config: Any = resolve(CONFIGS.get(name, f"classic/{name}"))
    env = make_env(config, num_envs=1, threads=1)
    spec = describe(env)
    env.close()
    check_agent(make_agent(config, spec), spec)
