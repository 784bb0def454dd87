"""The trained agents in the package: `pretrained:NAME` can be used wherever a saved agent is expected.

Each is a run folder with one checkpoint, without the state that only training needs, and a card that says how the agent was trained
and how well it plays.
`scripts/pretrained.py` makes them.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from rlsuite.core.errors import unknown

PREFIX = "pretrained:"


class Card(NamedTuple):
    """The contents of an agent's `card.json`."""

    name: str
    task: str  # "dqn on ALE/Pong-v5"
    game: str | None  # the board game, as `make_game` takes it
    command: str  # the command that trained it, without the folder
    seed: int
    agent_steps: int
    minutes: float  # wall time
    machine: str
    date: str  # date of the training
    version: str  # version of rlsuite
    parameters: int
    evaluation: str  # the command whose result `score` is
    score: float  # mean return; for a board game, the mean result between -1 and 1
    low: float  # 95% interval
    high: float
    games: int
    sha256: str  # of the weights

    @property
    def folder(self) -> Path:
        """The run folder."""
        return _root() / self.name


def _root() -> Path:
    return Path(str(files("rlsuite"))) / "pretrained"


def names() -> list[str]:
    """Names of the agents in the package."""
    return sorted(path.parent.name for path in _root().glob("*/card.json"))


def is_name(path: str | Path) -> bool:
    """Whether `path` has the form `pretrained:NAME`, even if there is no agent of that name."""
    return str(path).startswith(PREFIX)


def card(name: str) -> Card:
    """The card of an agent by its name, with or without `pretrained:`. UsageError for an unknown one."""
    short = name.removeprefix(PREFIX)
    if short not in names():
        raise unknown("pretrained agent", short, names())
    facts: dict[str, Any] = json.loads((_root() / short / "card.json").read_text())
    return Card(**facts)


def located(path: str | Path) -> Path:
    """The absolute path of a run or a checkpoint, which may be `pretrained:NAME`. UsageError for an unknown name."""
    return card(str(path)).folder if is_name(path) else Path(path).resolve()


def absent(path: str | Path) -> str:
    """Why `path` is not a run folder, worded as the end of a sentence about it."""
    if is_name(path):
        return "is an agent of the package: it has weights and a card, but no log, and nothing to resume"
    return "does not exist"


def of_game(game: str) -> str | None:
    """`pretrained:NAME` for the agent that plays a board game, as `make_game` names it; None if there is none."""
    return next((PREFIX + name for name in names() if card(name).game == game), None)


def table(cards: list[Card]) -> str:
    """The agents as a table for the terminal."""
    lines = [f"{'agent':<24} {'task':<40} {'score':<26} {'steps':>10} {'minutes':>8}"]
    for one in cards:
        score = f"{one.score:.1f} [{one.low:.1f}, {one.high:.1f}], {one.games} games"
        if one.game is not None:
            score = f"{one.score:+.2f} [{one.low:+.2f}, {one.high:+.2f}], {one.games} games"
        lines.append(f"{PREFIX + one.name:<24} {one.task:<40} {score:<26} {one.agent_steps:>10,} {one.minutes:>8.1f}")
    return "\n".join(lines)
