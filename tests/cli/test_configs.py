"""`rlsuite config` and `rlsuite list`, called in this process."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from rlsuite.cli import main
from rlsuite.config.loader import as_mapping, config_names, resolve
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
    assert facts["learner.optimizer"]["allowed"] == "adam, rmsprop or sgd"
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
    assert "15 to 18 minutes" in pong
    assert "20 over 30 games" in pong
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
