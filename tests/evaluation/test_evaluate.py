"""Evaluation under changed colours: what is printed and filmed, that it replaces no score, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rlsuite
from rlsuite.cli.evaluate import app
from rlsuite.config.schema import Config
from rlsuite.core.errors import UsageError
from rlsuite.envs import atari
from rlsuite.evaluation import evaluate as evaluation
from rlsuite.evaluation.statistics import Summary, summarise

TINY: dict[str, Any] = {
    "env.id": "ALE/Pong-v5",
    "env.num_envs": 2,
    "env.max_frames": 120,
    "run.agent_steps": 40,
    "run.device": "cpu",
    "run.threads": 1,
    "eval.episodes": 1,
    "net.hidden": 8,
    "replay.capacity_agent_steps": 200,
    "replay.min_agent_steps": 16,
    "learner.batch_size": 4,
}


def evaluate(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rlsuite.train("atari/dqn", TINY, run_dir=tmp_path_factory.mktemp("run") / "pong").run


def test_each_colour_has_its_score_and_its_video(run: Path, tmp_path: Path) -> None:
    (kept,) = (run / "checkpoints").glob("*.evaluation.json")
    before = kept.read_text()
    words = ["evaluate", str(run), "--recolour", "inverted,hue(degrees=120)", "--episodes", "2"]
    found = json.loads(evaluate(*words, "--video", str(tmp_path), "--json"))
    assert list(found["recoloured"]) == ["inverted", "hue(degrees=120)"]
    assert all(one["episodes"] == 2 for one in found["recoloured"].values())
    assert "eval" not in found
    assert [Path(one).name.rpartition("-")[2] for one in found["videos"]] == ["inverted.mp4", "hue(degrees=120).mp4"]
    assert all(Path(one).is_file() for one in found["videos"])
    assert kept.read_text() == before  # the score of the game as it is
    lines = evaluate(*words).splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["inverted:", "return"], ["hue(degrees=120):", "return"]]


def test_a_run_in_other_colours_is_scored_in_the_games_own(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["--episodes", "2", "--seed", "3", "--json"]
    own = json.loads(evaluate("evaluate", str(run), "--recolour", "none", *settings))["recoloured"]
    assert own == {"none": json.loads(evaluate("evaluate", str(run), *settings))["eval"]}
    changed = rlsuite.train("atari/dqn", {**TINY, "env.recolour": "inverted"}, run_dir=tmp_path / "inverted").run
    played: list[str | None] = []

    def play(config: Config, *_: object, **__: object) -> Summary:
        assert isinstance(config.env, atari.Config)
        played.append(config.env.recolour)
        return summarise([0.0], [1], config.env.id)

    monkeypatch.setattr(evaluation, "play_episodes", play)
    for words in ([], ["--recolour", "none"], ["--recolour", "hue"]):
        evaluate("evaluate", str(changed), *words, "--episodes", "1")
    assert played == ["inverted", None, "hue"]


def test_what_is_refused(run: Path) -> None:
    for path, colours, message in (
        (str(run), "invert", r"unknown recolour 'invert'; did you mean inverted"),
        (str(run), "", r"'' names no recolour"),
        (str(run), "inverted,hew", r"unknown recolour 'hew'; did you mean hue\? \(known: hue, inverted, none\)"),
        (
            "pretrained:cartpole",
            "inverted",
            r"--recolour changes the screen of an Atari game, .* plays CartPole-v1; leave it",
        ),
        ("pretrained:tic_tac_toe", "hue", "plays tic_tac_toe; leave it out"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            evaluate("evaluate", path, "--recolour", colours, "--episodes", "1")
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="--recolour is for whole games"):
        evaluate("evaluate", "pretrained:tic_tac_toe", "--recolour", "hue", "--opponent", "solver")
