"""The file of a study, and the trials that it describes.

    config: atari100k/der            # or a list of configs
    seeds: [1, 2]
    games: atari100k                 # or atari57, atari5, or a list of environment ids
    overrides: {run.threads: 1}      # dotted key -> value, for every trial
    axes:
      learner.learning_rate: [1e-4, 3e-4]
    search: null                     # see `Search`

Without a search, every combination of config, axes, game and seed is a trial: an ordinary run, in its own folder in the study's.

    STUDY/
        study.yaml       the study
        trials/NAME/     the run of each trial
        logs/NAME.log    what it printed
        search.journal   Optuna's storage, with a search
"""

import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from rlsuite.config import loader
from rlsuite.config.schema import Config
from rlsuite.config.section import Section
from rlsuite.config.shipped import config_names
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.files import atomic_write
from rlsuite.runs import run_folder
from rlsuite.runs.config_changes import flat
from rlsuite.studies import baselines

FILE = "study.yaml"
_LONGEST_NAME = 120  # characters of a trial's name
_MOST_SEEDS = 10_000
_OWN_KEYS = {"seed": "seeds", "env.id": "games"}  # keys of a config that a study has keys of its own for


class Range(Section):
    """Values of an axis between two bounds."""

    low: int | float
    """Smallest value."""
    high: int | float
    """Largest value."""
    log: bool = False
    """Evenly spaced, or drawn uniformly, in the logarithm."""
    count: int | None = Field(None, ge=2)
    """Number of evenly spaced values, without a search; null: a search draws from the range."""

    @model_validator(mode="after")
    def _possible(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low} must be above 0 with log: true")
        if self.count is not None and len(set(self.values())) < self.count:
            bounds = f"{self.low} and {self.high}"
            raise ValueError(
                f"count {self.count}: there are fewer whole numbers between {bounds}; write {float(self.low)} for fractions"
            )
        return self

    def values(self) -> list[float | int]:
        """Its `count` values; integers where both bounds are."""
        assert self.count is not None
        spaced = (np.geomspace if self.log else np.linspace)(self.low, self.high, self.count)
        if self.integers:
            return [int(value) for value in np.unique(spaced.round())]
        return [float(f"{value:.6g}") for value in spaced]

    @property
    def integers(self) -> bool:
        """Whether both bounds are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Search(Section):
    """Which settings a study tries, where it does not try all: Optuna decides after each result."""

    trials: int = Field(ge=1)
    """Settings to try; each with every game and seed."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Tree-structured Parzen estimator (Bergstra et al. 2011), or random search."""
    startup_trials: int = Field(10, ge=1)
    """Random settings before TPE, and settings that are finished before pruning."""
    pruner: Literal["none", "median", "hyperband"] = "none"
    """Ends a setting early whose objective so far is below the median, or by Hyperband (Li et al. 2018)."""
    last_evaluations: int = Field(3, ge=1)
    """A run counts with the mean of so many of its last periodic evaluations."""
    seed: int = Field(1, ge=0)
    """Seed of the sampler."""


class Study(Section):
    """The checked contents of a study's file."""

    config: list[str] = Field(min_length=1)
    """Config or configs to train: shipped names or files."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]]
    """Seeds of the runs of each setting; a number n means 1 to n."""
    games: list[str] | None = None
    """Environment ids, or the name of a list of games; null: the config's own environment."""
    axes: dict[str, Any] = Field(default_factory=dict)
    """Dotted key -> values that it takes in turn: a list, or {low, high, log, count}."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Dotted key -> value, in every trial."""
    search: Search | None = None
    """A search over the axes instead of all combinations."""

    @field_validator("config", mode="before")
    @classmethod
    def _one_config(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _so_many_seeds(cls, value: Any) -> Any:
        if isinstance(value, list):
            return value
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_SEEDS:
            raise ValueError(f"must be a list of integers, or a number from 1 to {_MOST_SEEDS}, got {value!r}")
        return list(range(1, value + 1))

    @field_validator("games", mode="before")
    @classmethod
    def _list_by_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return baselines.games(value)
        except UsageError as error:
            raise ValueError(str(error)) from error

    @field_validator("axes")
    @classmethod
    def _axes(cls, axes: dict[str, Any]) -> dict[str, Any]:
        checked: dict[str, Any] = {}
        for key, values in axes.items():
            if isinstance(values, Range | list):
                checked[key] = values
            elif isinstance(values, dict):
                try:
                    checked[key] = Range.model_validate(values, strict=True)
                except ValidationError as error:
                    first = error.errors()[0]
                    place = ".".join([key, *map(str, first["loc"])])
                    raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
            else:
                raise ValueError(f"{key} = {values!r}: an axis is a list of values, or {{low, high, log, count}}")
        return checked

    @model_validator(mode="after")
    def _possible(self) -> "Study":
        for name in ("seeds", "games"):
            values = getattr(self, name)
            if values is not None and len(set(values)) < len(values):
                raise ValueError(f"{name} holds {next(one for one in values if values.count(one) > 1)} twice")
        empty = [name for name in ("seeds", "games") if getattr(self, name) == []]
        empty += [f"axes.{key}" for key, values in self.axes.items() if values == []]
        if empty:
            raise ValueError(f"no trials: {empty[0]} is empty")
        for key in {*self.axes, *self.overrides} & _OWN_KEYS.keys():
            raise ValueError(f"{key}: a study names these by its key {_OWN_KEYS[key]}")
        if both := self.axes.keys() & self.overrides.keys():
            raise ValueError(f"{min(both)} is an axis and an override: choose one")
        if self.search is not None:
            if not self.axes:
                raise ValueError("search: there is nothing to search over without axes")
            if len(self.config) > 1:
                raise ValueError("search: goes over the axes of one config; make a study of each")
            if counted := [key for key, axis in self.axes.items() if isinstance(axis, Range) and axis.count is not None]:
                raise ValueError(f"axes.{counted[0]}: a search draws from the range; leave count out")
        else:
            if ranges := [key for key, axis in self.axes.items() if isinstance(axis, Range) and axis.count is None]:
                raise ValueError(f"axes.{ranges[0]}: a range needs count, or a search that draws from it")
        return self

    @property
    def played(self) -> list[str | None]:
        """The games of every setting; None stands for the config's own environment."""
        return [None] if self.games is None else [*self.games]


@dataclass(frozen=True)
class Trial:
    """One run of a study, before it starts."""

    name: str  # of its folder
    config: str
    overrides: Mapping[str, Any]  # dotted key -> value; with seed and env.id

    def resolve(self) -> Config:
        """The config of its run."""
        return loader.resolve(self.config, self.overrides)


def load(source: str | Path | Mapping[str, Any]) -> Study:
    """Loads a study from a YAML file, or from a mapping with the same keys. UsageError that says what is wrong and where."""
    if isinstance(source, Mapping):
        where, folder, data = "study", Path(), dict(loader.plain(dict(source)))
    else:
        where, folder = str(source), Path(source).parent
        if not Path(source).is_file():
            raise UsageError(f"{source} does not exist: name the YAML file of a study")
        data = loader.mapping(source)
        if data["name"] == Path(source).stem:  # as every config gets it
            del data["name"]
    try:
        if isinstance(data.get("axes"), dict) or isinstance(data.get("overrides"), dict):
            data |= {key: _dotted(data[key]) for key in ("axes", "overrides") if isinstance(data.get(key), dict)}
        study = loader.validate(Study, data)
        located = [_located(config, folder) for config in study.config]
        return study.model_copy(update={"config": located})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def grid(study: Study) -> list[Trial]:
    """Every combination of seed, config, axes and game; the first seed of all games comes first."""
    assert study.search is None
    values = [axis.values() if isinstance(axis, Range) else axis for axis in study.axes.values()]
    settings = [dict(zip(study.axes, chosen, strict=True)) for chosen in itertools.product(*values)]
    several = len(study.config) > 1
    made = [
        trial(study, setting, game, seed, prefix=_slug(config) if several else "", config=config)
        for seed in study.seeds
        for config in study.config
        for setting in settings
        for game in study.played
    ]
    if len({one.name for one in made}) < len(made):
        twice = next(one.name for one in made if sum(other.name == one.name for other in made) > 1)
        raise UsageError(f"an axis has a value twice: two trials are {twice}")
    return made


def trial(
    study: Study, setting: Mapping[str, Any], game: str | None, seed: int, prefix: str = "", config: str | None = None
) -> Trial:
    """The trial of a setting (dotted key -> value) with a game and a seed; its name begins with `prefix` instead of the setting."""
    parts = [prefix] if prefix else []
    if study.search is None:
        parts += [f"{key.rpartition('.')[2]}={_slug(loader.literal(value))}" for key, value in setting.items()]
    parts += [] if game is None else [_slug(game.removeprefix("ALE/"))]
    name = "__".join([*parts, f"seed{seed}"])
    overrides = {"run.threads": 1, **study.overrides, **setting, **({} if game is None else {"env.id": game}), "seed": seed}
    exact = any(_slug(text) != text for text in map(loader.literal, setting.values())) and study.search is None
    if len(name) > _LONGEST_NAME or exact:
        name = f"{name[:_LONGEST_NAME]}__{hashlib.sha256(repr(sorted(overrides.items())).encode()).hexdigest()[:8]}"
    return Trial(name, study.config[0] if config is None else config, overrides)


def check(study: Study) -> None:
    """Resolves the config of every setting and game. UsageError for one that cannot be trained."""
    settings = []
    for choose in (0, -1):
        setting = {}
        for key, axis in study.axes.items():
            bounds = [_bound(axis, axis.low), _bound(axis, axis.high)] if isinstance(axis, Range) else axis
            setting[key] = bounds[choose]
        settings.append(setting)
    for key, axis in study.axes.items():
        settings += [settings[0] | {key: value} for value in ([] if isinstance(axis, Range) else axis)]
    for number, (config, game) in enumerate(itertools.product(study.config, study.played)):
        for setting in settings if number < len(study.config) else settings[:1]:
            resolved = trial(study, setting, game, study.seeds[0], config=config).resolve()
            if resolved.stages is not None:
                raise UsageError(f"{config} is a run in stages: a study trains single runs")
            if study.search is not None and resolved.eval.every_agent_steps is None:
                raise UsageError("search: its objective needs periodic evaluations: set eval.every_agent_steps")
    if study.search is not None and len(study.games or ()) > 1:
        table = baselines.load("atari57")
        if unknown := [game for game in study.games or () if baselines.game_key(game) not in table.human]:
            raise UsageError(f"search: over several games the objective is human-normalised, and {unknown[0]} has no human score")


def _bound(axis: Range, value: float) -> float | int:
    return int(value) if axis.integers else value


def keep(study: Study, folder: Path) -> None:
    """Writes `study.yaml`. UsageError, with the differences, if the folder belongs to another study.

    Without a search, seeds and games may be appended; a search may get more trials.
    """
    path, before = folder / FILE, None
    now = study.model_dump(mode="json", exclude_none=True)
    if path.exists():
        before = load(path).model_dump(mode="json", exclude_none=True)
        old, new = flat(before), flat(now)
        differ = [
            key for key in {**old, **new} if old.get(key) != new.get(key) and not _grown(key, old.get(key), new.get(key), study)
        ]
        if differ:
            told = "; ".join(f"{key} = {new.get(key)!r}, there {old.get(key)!r}" for key in differ)
            raise UsageError(f"{folder} is of another study ({told}): choose another --out")
    elif folder.exists() and any(entry.name != ".lock" for entry in folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no study: choose another --out")
    if before != now:  # otherwise the file may be the user's own, with comments
        atomic_write(path, loader.to_yaml(now), ", or choose another --out")


def is_study(folder: Path) -> bool:
    """Whether a folder belongs to a study."""
    return (folder / FILE).is_file()


def run_folders(folder: Path) -> list[Path]:
    """The run folders of a study's trials, those of a search only once they have begun.

    RlsuiteError if the config of one is not what the study says.
    """
    study, trials = load(folder / FILE), folder / "trials"
    if study.search is None:
        for one in grid(study):
            refuse_changed(one, trials / one.name)
        return sorted(trials / one.name for one in grid(study))
    return sorted(path for path in trials.iterdir() if path.is_dir()) if trials.is_dir() else []


def refuse_changed(trial: Trial, run: Path) -> None:
    """RlsuiteError, with the differing settings, if a run's `config.yaml` is not the config of its trial."""
    path = run / "config.yaml"
    if not path.is_file():
        return
    wanted, found = flat(loader.as_mapping(trial.resolve())), flat(loader.mapping(path))
    differ = [key for key in wanted if found.get(key, wanted[key]) != wanted[key]]
    if differ:
        told = ", ".join(f"{key} = {found[key]!r}, the study's is {wanted[key]!r}" for key in differ)
        if run_folder.is_own(run):  # then the run is as it began
            again = "the config file or the folder that the sweep was started from is another now; go back to it"
            raise RlsuiteError(f"{run} began with other settings: {told}; {again}, or choose another --out")
        raise RlsuiteError(f"{run} was changed: {told}; put it back, or move the folder away")


def _grown(key: str, old: Any, new: Any, study: Study) -> bool:
    if key == "search.trials":
        return isinstance(old, int) and isinstance(new, int) and new >= old
    appendable = study.search is None and key in ("seeds", "games") and isinstance(old, list) and isinstance(new, list)
    return appendable and new[: len(old)] == old


def _dotted(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Converts `{learner: {batch_size: [32]}}` to `{learner.batch_size: [32]}`; ranges are kept as mappings."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and "." not in str(key) and not {"low", "high"} & value.keys():
            found |= {f"{key}.{inner}": one for inner, one in _dotted(value).items()}
        else:
            found[str(key)] = value
    return found


def _located(config: str, folder: Path) -> str:
    """A config's name or, for a file, its absolute path; a relative path may be relative to the study's file."""
    for path in (Path(config), folder / config):
        if path.is_file():
            return str(path.resolve())
    if config not in config_names():
        loader.mapping(config)  # raises what is wrong with it
    return config


def _slug(text: str) -> str:
    return re.sub(r"[^\w.+=-]+", "-", text).strip("-")
