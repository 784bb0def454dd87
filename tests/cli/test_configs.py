"""`rlsuite config` and `rlsuite list`, called in this process."""

import json
import sys
from pathlib import Path

import pytest
import yaml

import rlsuite
from rlsuite.cli import main
from rlsuite.config.loader import as_mapping, config_names, resolve
from rlsuite.core import registry
from rlsuite.vision.config import load_config


class Calls:
    """Runs the command line and returns its stdout; keeps the exit code and stderr of the last call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> str:
        self.monkeypatch.setattr(sys, "argv", ["rlsuite", *arguments])
        with pytest.raises(SystemExit) as stop:
            main.main()
        self.code = stop.value.code
        out, self.err = self.capsys.readouterr()
        return out


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Calls:
    return Calls(monkeypatch, capsys)


def test_config_prints_a_config_with_overrides(call: Calls, tmp_path: Path) -> None:
    overrides = ["learner.batch_size=128", "learner.learning_rate=1e-4", "seed=7"]
    printed = call("config", "atari/pong", *overrides)
    assert call.code == 0
    assert call.err == ""
    path = tmp_path / "my.yaml"
    path.write_text(printed)
    assert as_mapping(resolve(path)) == as_mapping(resolve("atari/pong", overrides))
    assert "  batch_size: 128  # " in printed
    assert call("config", str(path), "seed=8") == printed.replace("\nseed: 7 ", "\nseed: 8 ")


def test_config_of_a_vision_model(call: Calls, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(call("config", "vision/digits", "learner.batch_size=32"))
    assert call.code == 0
    assert as_mapping(load_config(path)) == as_mapping(load_config("vision/digits", ["learner.batch_size=32"]))


def test_config_as_json(call: Calls) -> None:
    facts = json.loads(call("config", "classic/dqn", "agent.n_steps=3", "--json"))
    assert all(set(one) == {"value", "default", "allowed", "description"} for one in facts.values())
    assert facts["agent.n_steps"]["value"] == 3
    assert facts["agent.n_steps"]["default"] == 1
    assert facts["run.device"]["allowed"] == "auto, cpu or cuda"
    assert facts["env.kwargs"]["value"] == {}
    assert facts["replay.prioritized"]["description"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["classic/dqm"], ["unknown config 'classic/dqm'", "did you mean classic/dqn"]),
        (["classic/dqn", "learner.batchsize=3"], ["unknown key learner.batchsize", "did you mean learner.batch_size?"]),
        (["vision/digits", "model.bakbone=x"], ["unknown key model.bakbone", "did you mean model.backbone?"]),
        (["classic/dqn", "env.lanes=4"], ["env.lanes was renamed to env.num_envs in 0.2"]),
        (["classic/dqn", "replay.priority_exponent=0.7"], ["no effect without replay.prioritized = true"]),
        (["classic/dqn", "oops"], ["'oops'", "key=value"]),
        ([], ["CONFIG"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], words: list[str], call: Calls) -> None:
    assert call("config", *arguments) == ""
    assert call.code == 2
    assert len(call.err.splitlines()) == 1
    assert all(word in call.err for word in words), call.err


def test_configs_are_listed_with_task_cost_and_score(call: Calls) -> None:
    lines = call("list", "configs").splitlines()
    assert [line.split()[0] for line in lines[1:]] == config_names()
    (pong,) = (line for line in lines if line.startswith("atari/pong "))
    assert "dqn on ALE/Pong-v5" in pong
    assert "10 to 20 minutes" in pong
    assert "18.8 to 19.6 over 30 games" in pong
    found = {one["name"]: one for one in json.loads(call("list", "configs", "--json"))["configs"]}
    assert set(found) == set(config_names())
    assert set(found["classic/dqn"]) == {"name", "task", "title", "commands", "hardware", "cost", "score"}
    assert found["atari/pong"]["commands"] == ["rlsuite train atari/pong"]
    assert found["atari/dqn"]["score"].startswith("not measured")


@pytest.mark.parametrize("kind", ["agents", "envs", "games"])
def test_names_are_listed(kind: str, call: Calls) -> None:
    names = call("list", kind).split("\n")[:-1]
    assert json.loads(call("list", kind, "--json")) == {kind: names}
    assert {"agents": "dqn", "envs": "ALE/Pong-v5", "games": "go"}[kind] in names


def test_an_unknown_list_suggests_the_nearest(call: Calls) -> None:
    call("list", "confgs")
    assert call.code == 2
    assert "unknown list 'confgs'; did you mean configs" in call.err


def test_what_config_prints_is_plain_yaml(call: Calls) -> None:
    """So that any YAML parser reads the numbers as we do."""
    data = yaml.safe_load(call("config", "classic/ppo"))
    assert data["agent"]["name"] == "ppo"
    assert data["learner"]["learning_rate"] == 1e-3


def test_nets_are_backbones_other_torsos_and_memory_cores(call: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.torsos.registered, "my_torso", object)
    monkeypatch.setitem(registry.memory_cores.registered, "my_core", object)
    found = json.loads(call("list", "nets", "--json"))
    assert "resnet18" in {net["name"] for net in found["nets"]}
    assert {"mlp", "my_torso"} <= set(found["torsos"])
    assert "resnet18" not in found["torsos"]
    assert {"lstm", "my_core"} <= set(found["memory_cores"])
    lines = call("list", "nets").splitlines()
    names = ("Backbones (net.torso):", "Other torsos (net.torso):", "Memory cores (net.memory):")
    headings = [lines.index(name) for name in names]
    assert headings[0] < headings[1] < lines.index("my_torso") < headings[2] < lines.index("my_core")


AGENT = """
from rlsuite.agents.dqn import DQN


class Mine(DQN):
    pass
"""


def test_a_plug_in_file_that_has_moved_is_named_with_its_key_and_run(call: Calls, tmp_path: Path) -> None:
    file, run = tmp_path / "my_agent.py", tmp_path / "run"
    file.write_text(AGENT)
    small = ["run.agent_steps=130", "run.threads=1", "replay.min_agent_steps=100", "learner.batch_size=8", "eval.episodes=1"]
    rlsuite.train("classic/dqn", [f"agent.name={file}:Mine", *small], run_dir=run)
    facts = call("info", str(run), "--json")
    file.rename(tmp_path / "moved.py")
    assert call("info", str(run), "--json") == facts  # it needs no plug-in
    for command in (["evaluate", str(run)], ["train", "--resume", str(run)]):
        call(*command)
        assert call.code == 2
        assert str(run) in call.err
        assert f": agent.name: {file} does not exist" in call.err
    call("train", "--resume", str(run), "run.agent_steps=140", f"agent.name={tmp_path}/moved.py:Mine")
    assert call.code == 0, call.err
    call("train", "classic/dqn", "env.id=nowhere.py")
    assert "rlsuite: env.id: nowhere.py does not exist" in call.err


def test_a_board_game_of_ones_own_is_found_from_any_folder(call: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("col.py").write_text("from rlsuite import make_game\n\n\ndef make():\n    return make_game('tic_tac_toe')\n")
    tiny = ["run.threads=1", "run.agent_steps=60", "env.num_envs=4", "agent.simulations=2", "agent.eval_simulations=2"]
    tiny += ["net.torso=tower(width=8,depth=1)", "replay.min_agent_steps=50", "learner.batch_size=16", "eval.episodes=1"]
    call("train", "boards/own", "env.id=col.py", *tiny, "--run-dir", str(tmp_path / "run"))
    assert call.code == 0, call.err
    monkeypatch.chdir(tmp_path / "there")
    call("evaluate", str(tmp_path / "run"), "--episodes", "1")
    assert call.code == 0, call.err
    call("train", "--resume", str(tmp_path / "run"), "run.agent_steps=80")
    assert call.code == 0, call.err
