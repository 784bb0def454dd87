"""Published and human scores for comparison, and lists of games by name.

    game,random,human,SPR,CURL
    Alien,227.8,7127.7,841.89,711.03

A baseline is a CSV file with a row for each game; lines that begin with # are its sources. `atari100k` and `atari57` are shipped.
Two tables of human scores are in use, with 742 or 1,496 points in Assault: both of ours are the former, and reports name theirs.
"""

import csv
import importlib.resources
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlsuite.core.errors import UsageError, nearest, unknown
from rlsuite.core.files import reading
from rlsuite.envs import atari_game
from rlsuite.evaluation.statistics import game_of

BASELINES = ("atari100k", "atari57")
# Aitchison et al. 2022 (Atari-5): the five games that predict the median over 57 best.
ATARI5 = ("battle_zone", "double_dunk", "name_this_game", "phoenix", "qbert")
GAME_LISTS = ("atari100k", "atari57", "atari5")
_NOT_SCORES = ("game", "random", "human")
# Scores from human starts need their own random and human scores, and records are not scores of an agent.
_OTHER_REGIME = ("_humanstart", "human_world_record")


@dataclass(frozen=True)
class Baseline:
    """Random, human and published scores of games, keyed by `game_key`."""

    name: str  # as given: atari100k, or the path of a file
    random: Mapping[str, float]
    human: Mapping[str, float]
    columns: Mapping[str, Mapping[str, float]]  # agent -> game -> published mean score; a game without a score is not in it
    protocol: Mapping[str, object] = field(default_factory=dict)  # dotted setting -> value, where it is known
    left_out: tuple[str, ...] = ()  # columns that these human scores cannot normalise

    def normalise(self, game: str, score: float) -> float:
        """(score - random) / (human - random): 0 is random play, 1 the human tester."""
        return (score - self.random[game]) / (self.human[game] - self.random[game])


# The protocol by which the published numbers of Atari-100k were measured (docs/studies.md).
_ATARI_100K = {
    "env.protocol": "classic",
    "env.life_loss": True,
    "env.full_action_set": False,
    "env.frame_skip": 4,
    "env.noop_max": 30,
    "env.max_frames": 108_000,
    "run.agent_steps": 100_000,
}


def game_key(env_id: str) -> str:
    """The key of a game in tables: `ms_pacman` for ALE/MsPacman-v5, MsPacman and ms_pacman; any other id is unchanged."""
    return game_of(env_id) or env_id


def load(name: str) -> Baseline:
    """A shipped baseline, or one from a CSV file. UsageError for an unknown name or a file that is not such a table."""
    if name in BASELINES:
        text = (importlib.resources.files("rlsuite") / "data" / f"{name}.csv").read_text(encoding="utf-8")
        return _parse(text, name, _ATARI_100K if name == "atari100k" else {})
    path = Path(name)
    if path.suffix.lower() != ".csv" and not path.exists():
        raise unknown("baseline", name, [*BASELINES, "a .csv file"])
    try:
        with reading(path):
            text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text file") from error
    return _parse(text, name, {})


def games(name: str) -> list[str]:
    """The environment ids of a list of games, such as atari100k. UsageError for an unknown list."""
    if name not in GAME_LISTS:
        raise unknown("list of games", name, GAME_LISTS)
    return [ale_id(game) for game in (ATARI5 if name == "atari5" else load(name).human)]


def ale_id(game: str) -> str:
    """The environment id of a game: ALE/MsPacman-v5 for ms_pacman. UsageError if ale-py has no ROM of it."""
    env_id = f"ALE/{''.join(word.capitalize() for word in game.split('_'))}-v5"
    if atari_game(env_id) is None:
        raise UsageError(f"{game}: ale-py has no ROM of {env_id}")
    return env_id


def _parse(text: str, name: str, protocol: Mapping[str, object]) -> Baseline:
    rows = list(csv.reader(line for line in text.splitlines() if line.strip() and not line.startswith("#")))
    head = [column.strip() for column in rows[0]] if rows else []
    missing = [column for column in _NOT_SCORES if column not in head]
    if missing:
        close = [hit for column in missing for hit in nearest(column, head, 1)]
        hint = f"; did you mean these by {', '.join(close)}?" if close else ""
        raise UsageError(
            f"{name} has no column {', '.join(missing)}: a baseline has game, random, human and a column for each agent{hint}"
        )
    if len(set(head)) < len(head):
        raise UsageError(f"{name} has the column {next(column for column in head if head.count(column) > 1)} twice")
    table: dict[str, dict[str, float]] = {column: {} for column in head if column != "game"}
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(head):
            raise UsageError(f"{name}, row {number} ({row[0]}): {len(row)} values for {len(head)} columns")
        cells = dict(zip(head, (cell.strip() for cell in row), strict=True))
        game = game_key(cells.pop("game"))
        if game in table["human"]:
            raise UsageError(f"{name} has the game {game} twice")
        for column, cell in cells.items():
            if cell:
                table[column][game] = _number(cell, f"{name}, {column} of {game}")
        if game not in table["human"] or game not in table["random"] or table["human"][game] == table["random"][game]:
            raise UsageError(f"{name}: {game} needs a random and a human score, and different ones")
    if not table["human"]:
        raise UsageError(f"{name} holds no games")
    agents = [column for column in head if column not in _NOT_SCORES]
    other = tuple(column for column in agents if column.endswith(_OTHER_REGIME))
    return Baseline(
        name=name,
        random=table["random"],
        human=table["human"],
        columns={column: table[column] for column in agents if column not in other and table[column]},
        protocol=protocol,
        left_out=other,
    )


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: {cell!r} is not a number")
    return value
