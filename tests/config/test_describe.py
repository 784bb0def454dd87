"""`rlsuite config`: every key with its value, default, allowed values and meaning, and YAML that is the same config again."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt
from pydantic import Field

from rlsuite.config import describe
from rlsuite.config.loader import as_mapping, literal, mapping, resolve
from rlsuite.config.schema import Config, LearnerConfig
from rlsuite.config.section import Section
from rlsuite.config.shipped import config_names
from rlsuite.vision.config import load_config


def load(config: str | Path, vision: bool, overrides: Any = ()) -> Any:
    return load_config(config, overrides) if vision else resolve(config, overrides)


@pytest.mark.parametrize("name", config_names())
def test_what_it_prints_is_the_same_config(name: str, tmp_path: Path) -> None:
    vision = name.startswith("vision/")
    config = load(name, vision)
    path = tmp_path / "my.yaml"
    path.write_text(describe.as_yaml(config))
    again = load(path, vision)
    assert as_mapping(again) == as_mapping(config)
    assert describe.as_yaml(again) == path.read_text()


@pytest.mark.parametrize("name", ["atari/pong", "boards/alphago", "classic/q_learning", "vision/digits"])
def test_every_key_has_one_comment(name: str) -> None:
    config = load(name, name.startswith("vision/"))
    text = describe.as_yaml(config)
    found = list(describe.settings(config))
    for one in found:
        assert one.comment()
        assert text.count(f"  # {one.comment()}\n") >= 1, one
    assert text.count("  # ") == len(found) + sum(line.endswith(":") or ":  # " in line for line in headings(text))


def headings(text: str) -> list[str]:
    """Lines that begin a section with a comment of its own."""
    sections = (
        "agent",
        "env",
        "net",
        "replay",
        "learner",
        "augment",
        "resets",
        "prune",
        "run",
        "eval",
        "distill",
        "runtime",
        "data",
        "model",
    )
    return [line for line in text.splitlines() if line.strip().split(":")[0] in sections and ":  # " in line]


def test_a_line_as_people_read_it() -> None:
    lines = describe.as_yaml(resolve("classic/dqn", ["learner.batch_size=64"])).splitlines()
    (line,) = (line for line in lines if line.startswith("  batch_size:"))
    description = LearnerConfig.model_fields["batch_size"].description
    assert description is not None
    assert line == f"  batch_size: 64  # {description.rstrip('.')}; default 32; integer, at least 1"


def test_the_facts_of_a_key() -> None:
    facts = describe.as_dict(resolve("atari/pong", {"learner.augment.shift": 4}))
    assert facts["run.minutes"] == {
        "value": None,
        "default": None,
        "allowed": "number, above 0, or null",
        "description": "Stop training after this much wall time, including time before a resume; the final evaluation is extra.",
    }
    assert facts["learner.augment.shift"]["value"] == 4
    assert facts["run.device"]["allowed"] == "auto, cpu or cuda"
    assert facts["env.id"]["value"] == "ALE/Pong-v5"
    assert facts["agent.n_steps"]["default"] == 1
    assert set(mapping("atari/pong")["learner"]) <= {key.removeprefix("learner.") for key in facts}


def test_defaults_are_those_of_the_agent_named() -> None:
    """R2D2 changes some of those that it shares with DQN; their meaning stands where they are first defined."""
    dqn, r2d2 = (describe.as_dict(resolve(name)) for name in ("classic/dqn", "classic/recall_r2d2"))
    assert dqn["agent.n_steps"]["default"] == 1
    assert r2d2["agent.n_steps"]["default"] == 5
    assert r2d2["agent.n_steps"]["description"] == dqn["agent.n_steps"]["description"] != ""


class Sample(Section):
    """Fields of every kind."""

    whole: int = 3
    """Whole."""
    share: float = Field(0.5, ge=0, le=1)
    above: float | None = Field(None, gt=0)
    between: int = Field(1, ge=0, lt=5)
    one_of: Literal["a", "b", "c"] = "a"
    only: Literal["a"] = "a"
    switch: bool | None = None
    text: str
    either: int | str = 1
    things: dict[str, Any] = Field(default_factory=dict)
    bounded: Annotated[int, Gt(2)] = 3


@pytest.mark.parametrize(
    ("field", "allowed"),
    [
        ("whole", "integer"),
        ("share", "number, 0 to 1"),
        ("above", "number, above 0, or null"),
        ("between", "integer, at least 0, below 5"),
        ("one_of", "a, b or c"),
        ("only", "a"),
        ("switch", "true or false, or null"),
        ("text", "string"),
        ("either", "integer or string"),
        ("things", "mapping"),
        ("bounded", "integer, above 2"),
    ],
)
def test_allowed_values_in_words(field: str, allowed: str) -> None:
    assert describe.allowed(Sample.model_fields[field]) == allowed


def test_a_key_without_a_default_is_required() -> None:
    found = {one.key: one.comment() for one in describe.settings(Sample(text="x"))}
    assert found["text"] == "required; string"
    assert found["whole"] == "Whole; default 3; integer"
    assert found["things"] == "default {}; mapping"


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 1e-7, 2.5, "text", "a: b  # c", "null", "1e-3", "", "it's", "two\nlines", "größer", [1, "a"], {"a": {}}],
)
def test_literals_are_yaml_on_one_line(value: Any, tmp_path: Path) -> None:
    text = literal(value)
    assert "\n" not in text
    path = tmp_path / "a.yaml"
    path.write_text(f"key: {text}  # comment\n")
    assert mapping(path)["key"] == value


def test_names_and_settings_of_every_kind_come_back(tmp_path: Path) -> None:
    overrides = {
        "name": "a: b  # c\nd",
        "learner.learning_rate": 1.25e-7,
        "run.minutes": 0.5,
        "env.kwargs": {"sutton_barto_reward": True, "text": "x # y"},
        "env.max_episode_steps": 77,
    }
    config = resolve("classic/dqn", overrides)
    path = tmp_path / "my.yaml"
    path.write_text(describe.as_yaml(config))
    assert as_mapping(resolve(path)) == as_mapping(config)
    assert isinstance(config, Config)
