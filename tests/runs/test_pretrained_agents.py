"""The trained agents in the package are what their cards say, and stand wherever a run can."""

import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import rlsuite
from rlsuite.cli.main import app
from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import build
from rlsuite.runs import checkpoint
from rlsuite.runs.pretrained_agents import PREFIX, card, located, names, of_game, table

LIMIT = 8_000_000  # bytes of all


def test_there_are_some_and_they_are_small() -> None:
    assert {"pong", "cartpole"} <= set(names())
    assert sum(file.stat().st_size for name in names() for file in card(name).folder.rglob("*") if file.is_file()) <= LIMIT


@pytest.mark.parametrize("name", names())
def test_a_card_says_what_the_agent_is(name: str) -> None:
    one = card(name)
    found = checkpoint.find(one.folder)
    assert hashlib.sha256((found / "weights.safetensors").read_bytes()).hexdigest() == one.sha256
    saved = Saved(Path(PREFIX + name))
    assert one.task == f"{saved.config.agent.name} on {saved.config.env.id}"
    assert (one.game, one.agent_steps, one.seed) == (saved.spec.game, saved.agent_steps, saved.config.seed)
    assert one.parameters == sum(parameter.numel() for parameter in saved.net.parameters())
    assert one.low <= one.score <= one.high
    assert one.name == name
    assert one.command.startswith(f"rlsuite train {saved.config.name} ")
    assert one.evaluation == f"rlsuite evaluate {PREFIX}{name} --episodes {one.games}"
    assert one.minutes > 0


@pytest.mark.parametrize("name", names())
def test_nothing_of_the_machine_that_trained_it_is_in_its_files(name: str) -> None:
    folder = card(name).folder
    texts = [file.read_text() for file in folder.rglob("*") if file.suffix in (".json", ".yaml") or file.name == "COMPLETE"]
    assert len(texts) == 4
    for text in texts:
        assert not any(place in text for place in ("/tmp", "/home", "/Users"))
    assert {file.name for file in folder.rglob("*") if file.is_file()} == {
        "COMPLETE",
        "card.json",
        "config.yaml",
        "state.json",
        "tensors.safetensors",
        "weights.safetensors",
    }


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name != "cartpole" else ()) for name in names()])
def test_the_score_is_what_the_command_of_the_card_gives(name: str) -> None:
    """Within the interval: other processors round otherwise."""
    one = card(name)
    result = CliRunner().invoke(app, [*shlex.split(one.evaluation)[1:], "--json"])
    assert result.exit_code == 0
    assert one.low - 0.05 <= json.loads(result.stdout)["eval"]["mean"] <= one.high + 0.05
    assert not list(one.folder.rglob("*.evaluation.json"))  # nothing is written into the package


def test_it_acts_in_a_loop_of_ones_own() -> None:
    agent = rlsuite.load("pretrained:cartpole")
    env = agent.make_env(4)
    observation, _ = env.reset(seed=3)
    state, total = agent.initial_state(4), np.zeros(4)
    for _ in range(200):
        action, state = agent.act(observation, state)
        observation, reward, _, _, _ = env.step(action)
        total += reward
    assert (total == 200).all()


def test_a_net_begins_with_its_weights() -> None:
    plain = resolve("classic/pqn", {"net.init_from": "pretrained:cartpole", "run.threads": 1})
    assert plain.net.init_from == "pretrained:cartpole"
    parts = build(plain)
    weights = checkpoint.load(checkpoint.find(located("pretrained:cartpole")), weights_only=True).weights
    for name, tensor in parts.learner.online.master.state_dict().items():
        assert (tensor == weights[name]).all()
    parts.close()


def test_unknown_names_are_answered_with_the_nearest() -> None:
    for call in (lambda: rlsuite.load("pretrained:pnog"), lambda: card("pnog"), lambda: rlsuite.evaluate("pretrained:pnog")):
        with pytest.raises(UsageError, match=r"^unknown pretrained agent 'pnog'; did you mean pong or boxing\? \(known: "):
            call()


def test_they_are_listed_and_told_about() -> None:
    listed = CliRunner().invoke(app, ["list", "pretrained"])
    assert listed.stdout.splitlines()[1:] == table([card(name) for name in names()]).splitlines()[1:]
    assert "pretrained:pong" in listed.stdout
    told = CliRunner().invoke(app, ["info", "pretrained:pong", "--json"])
    assert json.loads(told.stdout) == card("pong")._asdict()


def test_a_person_meets_the_trained_agent_of_the_game() -> None:
    assert of_game("tic_tac_toe") == "pretrained:tic_tac_toe"
    assert of_game("chess") is None
    played = CliRunner().invoke(app, ["play", "tic_tac_toe", "--side", "watch"])
    assert played.exit_code == 0
    assert "pretrained:tic_tac_toe" in played.output


def test_an_agent_of_the_package_has_no_videos() -> None:
    result = CliRunner().invoke(app, ["play", "pretrained:pong", "--web"])
    assert isinstance(result.exception, UsageError)
    assert "rlsuite evaluate pretrained:pong --video videos" in str(result.exception)


@pytest.mark.parametrize("command", [["compare"], ["info"], ["report"], ["train", "--resume"]], ids=" ".join)
def test_a_command_that_needs_a_log_says_that_the_package_holds_none(command: list[str], tmp_path: Path) -> None:
    given = [*command, "pretrained:cartpole", *(["--out", str(tmp_path / "out")] if command == ["report"] else [])]
    result = CliRunner().invoke(app, given)
    if command == ["info"]:  # which needs none
        assert result.exit_code == 0
        return
    assert isinstance(result.exception, UsageError)
    assert "pretrained:cartpole is an agent of the package: it has weights and a card, but no log" in str(result.exception)
