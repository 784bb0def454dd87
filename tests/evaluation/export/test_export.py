"""Exported nets give what the agent's own give, and nothing is left of an export that fails."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import untrained
from torch import Tensor, nn

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.evaluation import export as package
from rlsuite.evaluation.export import acting_net, compared, export, games
from rlsuite.evaluation.export.acting_net import ActingNet
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import build, make_agent, make_spec

PIXELS = {"env.num_envs": 2, "env.height": 40, "env.width": 40, "net.hidden": 32, "learner.precision": "bf16"}
MEMORY = {"net.hidden": 16, "net.memory_size": 16, "env.num_envs": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn": ("classic/dqn", {}),
    "noisy c51": ("classic/rainbow", {}),
    "iqn": ("classic/iqn", {}),
    "tabular": ("classic/taxi", {}),
    "masks": ("classic/dqn", {"env.id": "Taxi-v4"}),
    "pixels": ("atari/pong", PIXELS),
    "spectral": ("atari/btr-laptop", PIXELS | {"net.torso": "impala(spectral=true,pool=max6)"}),
    "lstm": ("classic/recall_r2d2", MEMORY),
    "gru": ("classic/recall_r2d2", MEMORY | {"net.memory": "gru"}),
    "attention": ("classic/recall_r2d2", MEMORY | {"net.memory": "attention(window=4,heads=2)"}),
    "last action": ("classic/recall_r2d2", MEMORY | {"net.last_action_reward": True}),
    "embedded action": ("classic/recall_r2d2", MEMORY | {"net.last_action_reward": True, "net.action_embedding": 3}),
    "ppo": ("classic/ppo", {}),
    "continuous": ("classic/pendulum_ppo", {}),
    "recurrent ppo": ("classic/recall_ppo", {}),
    "wdl": ("boards/tic_tac_toe", {}),
    "scalar": ("boards/connect_four", {"agent.value": "scalar", "net.torso": "tower(width=8,depth=1)"}),
}
GRAPH = {"env.id": "hex(size=4)", "net.any_size": True, "learner.precision": "fp32"}
CASES |= {
    "graph": ("boards/hex", GRAPH | {"net.torso": "graph(width=8,depth=2)"}),
    "graph attention": ("boards/hex", GRAPH | {"net.torso": "graph(width=8,depth=1,attention=true)"}),
}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "OBSERVATIONS", 160)


@pytest.mark.parametrize(
    ("case", "form"), [*((case, "onnx") for case in CASES), *((case, "torch") for case in ("dqn", "pixels", "last action", "wdl"))]
)
def test_the_exported_net_is_the_agents_own(case: str, form: str, tmp_path: Path) -> None:
    """In its own games, with its own memory: `export` itself refuses anything else."""
    facts = export(untrained(*CASES[case], tmp_path / "run"), form, tmp_path / "out")
    assert facts["check"]["observations"] == 160
    assert facts["check"]["largest_difference"] < 1e-3 * max(facts["check"]["largest_output"], 1)
    assert facts["check"]["equal_actions"] + facts["check"]["ties"] / 160 == pytest.approx(1)
    assert json.loads((tmp_path / "out" / "model.json").read_text()) == facts
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"model.json", "model.onnx" if form == "onnx" else "model.pt2"}


def test_onnx_says_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    facts = export(untrained(*CASES["last action"], tmp_path / "run"), "onnx", tmp_path / "out")
    assert [port["name"] for port in facts["inputs"]] == ["observation", "first", "reward", "last_action", "state_0", "state_1"]
    assert [port["name"] for port in facts["outputs"]] == ["scores", "next_state_0", "next_state_1"]
    model = onnx.load(str(tmp_path / "out" / "model.onnx"))
    (mine,) = [prop for prop in model.metadata_props if prop.key == "rlsuite"]
    assert json.loads(mine.value) == {name: value for name, value in facts.items() if name != "check"}
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [one.name for one in session.get_inputs()] == [port["name"] for port in facts["inputs"]]
    assert [one.name for one in session.get_outputs()] == [port["name"] for port in facts["outputs"]]
    for batch in (1, 3):  # of any size
        feed = {port["name"]: np.zeros((batch, *port["shape"]), port["dtype"]) for port in facts["inputs"]}
        assert session.run(["scores"], feed)[0].shape == (batch, *facts["outputs"][0]["shape"])


def test_the_exported_net_plays_as_the_agent_does(tmp_path: Path) -> None:
    """A loop of one's own, memory and all: the actions of `rlsuite.load(...).act`."""
    changes = PIXELS | {"net.last_action_reward": True, "net.memory_size": 16, "agent.epsilon_eval": 0.0}
    run = untrained("atari/r2d2-pong", changes | {"learner.precision": "fp32"}, tmp_path / "run")
    facts = export(run, "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    agent = rlsuite.load(run)
    env = agent.make_env(4)
    observation, _ = env.reset(seed=0)
    values = {port["name"]: np.zeros((4, *port["shape"]), port["dtype"]) for port in facts["inputs"]}
    state, reward = agent.initial_state(4), np.zeros(4, np.float32)
    first, ended, different = np.ones(4, bool), np.zeros(4, bool), set()
    for _ in range(60):
        action, state = agent.act(observation, state, first=first, reward=reward)
        values |= {"observation": observation, "first": first, "reward": reward.astype(np.float32)}
        scores, *after = session.run(None, values)
        assert (scores.argmax(-1) == action).all()
        different |= set(action.tolist())
        values |= {"last_action": action, "state_0": after[0], "state_1": after[1]}
        observation, reward, terminated, truncated, _ = env.step(action)
        first, ended = ended, terminated | truncated
    assert len(different) > 1
    env.close()


def test_an_export_that_differs_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = untrained("classic/dqn", {}, tmp_path / "run")
    saved = Saved(run)
    net = ActingNet(saved.agent, saved.spec, saved.net)
    with pytest.raises(RlsuiteError, match=r"^the exported net differs from the agent's: by 1 in scores of up to .* equal actions"):
        compared(Saved(run), net, lambda given: [net(*given)[0] + torch.tensor([1.0, 0.0])])
    monkeypatch.setattr(package, "_runs_torch", lambda program: lambda given: [net(*given)[0] + torch.tensor([1.0, 0.0])])
    with pytest.raises(RlsuiteError, match=r"^the exported net differs"):
        export(run, "torch", tmp_path / "out")
    assert {file.name for file in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize("case", ["continuous", "lstm"])
def test_what_is_not_a_number_is_refused_also_in_actions_and_states(case: str, tmp_path: Path) -> None:
    saved = Saved(untrained(*CASES[case], tmp_path / "run"))
    net = ActingNet(saved.agent, saved.spec, saved.net)

    def broken(given: tuple[Tensor, ...]) -> list[Tensor]:
        *fine, last = net(*given)
        return [*fine, last * torch.nan]

    with pytest.raises(RlsuiteError, match=r"^the exported net differs from the agent's: by nan"):
        compared(saved, net, broken)


def test_what_the_agent_sees_and_chooses_in_its_own_terms_is_said(tmp_path: Path) -> None:
    """Pendulum's torque is from -2 to 2, the agent's action from -1 to 1."""
    facts = export(untrained(*CASES["continuous"], tmp_path / "run"), "torch", tmp_path / "out")
    assert facts["action_space"] == ["Box", [1], "float32", -2.0, 2.0]
    assert facts["outputs"][0]["meaning"].startswith("the action, in the agent's terms")
    plain = export(Path("pretrained:pong"), "torch", tmp_path / "pong")
    assert "action_space" not in plain
    assert "observation_space" not in plain
    assert plain["inputs"][0]["meaning"] == "as the environment returns it"


def test_a_folder_to_share_holds_no_code_and_no_places_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text("from rlsuite.agents.dqn import DQN\n\n\nclass Mine(DQN):\n    pass\n")
    run = untrained("classic/dqn", {"agent.name": f"{tmp_path}/my_agent.py:Mine"}, tmp_path / "run")
    with pytest.raises(UsageError, match=r"names code of its own \(agent.name = .*my_agent.py:Mine\), which a folder to share"):
        export(run, "folder", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    run = untrained("classic/dqn", {"net.init_from": str(untrained("classic/dqn", {}, tmp_path / "first"))}, tmp_path / "second")
    assert str(tmp_path) in (run / "config.yaml").read_text()
    export(run, "folder", tmp_path / "mine")
    for file in (tmp_path / "mine").rglob("*"):
        assert not file.is_file() or str(tmp_path) not in file.read_bytes().decode(errors="replace")
    assert rlsuite.load(tmp_path / "mine").saved.agent_steps == 100


def test_a_net_that_cannot_be_traced_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    plain = acting_net.clear_noise

    def with_a_hole(net: Any) -> None:
        plain(net)
        net.head.advantage.norm = Looks()

    monkeypatch.setattr(acting_net, "clear_noise", with_a_hole)
    with pytest.raises(RlsuiteError, match=r"^the net of .* cannot be traced in head.advantage.norm, a Looks: "):
        export(untrained("classic/dqn", {}, tmp_path / "run"), "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("form", "message"),
    [("onx", r"^unknown format 'onx'; did you mean onnx"), ("onnx", "exists already: choose a new folder for --out")],
)
def test_what_cannot_be_written_is_refused_at_once(form: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        export(Path("pretrained:cartpole"), form, tmp_path)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^--format onnx needs onnx, onnxscript, onnxruntime: pip install 'rlsuite\[export\]'$"):
        export(Path("pretrained:cartpole"), "onnx", tmp_path / "out")


def test_a_folder_to_share_is_a_run_that_anybody_can_load(tmp_path: Path) -> None:
    facts = export(Path("pretrained:cartpole"), "folder", tmp_path / "mine")
    files = {file.relative_to(tmp_path / "mine").as_posix() for file in (tmp_path / "mine").rglob("*") if file.is_file()}
    step = "checkpoints/step_000000040000"
    checkpointed = {f"{step}/{name}" for name in ("COMPLETE", "state.json", "tensors.safetensors", "weights.safetensors")}
    assert files == {"README.md", "config.yaml", "card.json", "evaluation.json", *checkpointed}
    text = (tmp_path / "mine" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: rlsuite\n")
    assert "value: 498.56" in text
    assert facts["score"] == 498.56
    agent = rlsuite.load(tmp_path / "mine")
    assert agent.saved.agent_steps == 40_000
    assert rlsuite.evaluate(tmp_path / "mine", 2).mean > 400


def test_games_of_a_board_go_on_after_their_end() -> None:
    saved = Saved(Path("pretrained:tic_tac_toe"))
    seen = [given[0] for given in games.own_games(saved, ActingNet(saved.agent, saved.spec, saved.net), 30, seed=0)]
    stones = torch.stack(seen)[:, :, :2].sum((2, 3, 4))  # [30,B]
    assert (stones[1:] < stones[:-1]).any(0).all()  # every slot has begun a new game
    assert (stones[0] == 0).all()


def test_the_size_of_a_net_is_counted_as_by_hand() -> None:
    config = resolve("atari/pong", {"env.num_envs": 1})  # two planes of 64x64, a small torso, 256 units for values and advantages
    parts = build(config)
    size = acting_net.size_of(parts.agent, parts.spec)
    parts.close()
    convolutions = 15 * 15 * 16 * (2 * 8 * 8) + 6 * 6 * 32 * (16 * 4 * 4) + 4 * 4 * 32 * (32 * 3 * 3)
    dense = 2 * (4 * 4 * 32) * 256 + 256 * (6 + 1)
    assert size.macs == convolutions + dense
    assert size.parameters == 286_039
    stages = resolve("boards/alphago", {})
    spec = make_spec(stages)
    assert acting_net.size_of(make_agent(stages, spec), spec).macs is None
