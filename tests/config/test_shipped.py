"""What the heads of shipped configs say, and how it is read."""

import shlex

import pytest
import yaml

from rlsuite.config.loader import resolve
from rlsuite.config.shipped import config_names, parse_head, shipped, shipped_text, table
from rlsuite.core.errors import UsageError
from rlsuite.vision.config import load_config


@pytest.mark.parametrize("name", config_names())
def test_every_config_tells_command_hardware_cost_and_score(name: str) -> None:
    text = shipped_text(name)
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    for field in ("command", "hardware", "cost", "score"):
        assert sum(line.startswith(f"# {field}: ") for line in lines) >= 1, field
    head = shipped(name).head
    assert all([head.title, *head.commands, head.hardware, head.cost, head.score])
    assert "steps" in head.cost or "pictures" in head.cost
    assert "not measured" in head.score or any(char.isdigit() for char in head.score) or "no mistake" in head.score


@pytest.mark.parametrize("name", config_names())
def test_its_commands_are_commands(name: str) -> None:
    """The last one, or all of them, train this config with overrides that it accepts."""
    trained = False
    for command in shipped(name).head.commands:
        program, *words = shlex.split(command)
        assert program == "rlsuite"
        assert words[0] in ("train", "vision", "match", "record")
        if words[0] in ("train", "vision"):
            words = words[2:] if words[0] == "vision" else words[1:]
            assert words[0] == name
            overrides = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in words[1:])}
            if name.startswith("vision/"):
                load_config(name, overrides)
            elif name != "boards/own":  # its file is the reader's own
                resolve(name, overrides)
            trained = True
    assert trained


@pytest.mark.parametrize("name", config_names())
def test_the_task_is_what_is_configured(name: str) -> None:
    task = shipped(name).task
    if name.startswith("vision/"):
        assert task.split(" with ")[0] == load_config(name).model.backbone.split("(")[0]
    else:
        config = resolve(name)
        assert task == f"{config.agent.name} on {config.env.id}"


HEAD = """# A title.
# command: rlsuite train a \\
#     b=1
# command: rlsuite train a
# hardware: one core
# cost: 10 steps,
#   2 s
# score: 3 over
#   4 games
# A remark.
#   And its second line.
agent:
  name: dqn  # score: no
# cost: no
"""


def test_a_head_is_read_line_by_line() -> None:
    head = parse_head(HEAD, "a")
    assert head.title == "A title."
    assert head.commands == ("rlsuite train a b=1", "rlsuite train a")
    assert (head.hardware, head.cost, head.score) == ("one core", "10 steps, 2 s", "3 over 4 games")


@pytest.mark.parametrize(
    ("line", "missing"), [("# score: 3 over\n", "score"), ("# hardware: one core\n", "hardware"), ("# A title.\n", "title")]
)
def test_a_head_that_lacks_something_says_what(line: str, missing: str) -> None:
    with pytest.raises(UsageError, match=rf"config a: no {missing} in its head"):
        parse_head(HEAD.replace(line, ""), "a")


def test_a_table_has_a_line_for_each() -> None:
    found = [shipped(name) for name in ("atari/pong", "vision/digits")]
    lines = table(found).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["config", "task", "cost", "score"]
    for line, one in zip(lines[1:], found, strict=True):
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        assert cells == [one.name, one.task, one.head.cost, one.head.score]
