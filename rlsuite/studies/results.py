"""The results of finished runs: score, periodic evaluations, and the protocol by which each was scored."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsuite.config import loader
from rlsuite.core.errors import CheckpointError, RlsuiteError, UsageError
from rlsuite.core.files import parse_json, reading
from rlsuite.evaluation.compare import EVALUATION
from rlsuite.factories import evaluation_seed
from rlsuite.runs import checkpoint
from rlsuite.runs.config_changes import changes, flat
from rlsuite.runs.metrics import read_metrics
from rlsuite.runs.run_folder import config_file
from rlsuite.studies.baselines import game_key

# Scores with different values of these settings must not be in the same table.
PROTOCOL = (
    "env.protocol", "env.life_loss", "env.full_action_set", "env.frame_skip", "env.noop_max", "env.max_frames", "env.recolour",
    "run.agent_steps",
)  # fmt: skip


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run."""

    path: Path
    config: Mapping[str, Any]
    env_id: str
    game: str  # see `game_key`
    seed: int
    score: float  # mean return of the final evaluation, unclipped
    episodes: int  # of the final evaluation
    interval: tuple[float, float] | None  # 95%, over its episodes
    evaluations: tuple[tuple[int, float], ...]  # agent steps and mean return of each periodic evaluation

    @property
    def protocol(self) -> dict[str, Any]:
        """The settings of `PROTOCOL` that its environment has."""
        found = {}
        for key in PROTOCOL:
            section, _, name = key.partition(".")
            if name in self.config[section]:
                found[key] = self.config[section][name]
        return found


def read(run: Path) -> RunResult | None:
    """Reads the result of a run; None if it is unfinished. UsageError if the folder is not a run, RlsuiteError if it is damaged."""
    config = _config(run)
    evaluation = final_evaluation(run, config["seed"])
    if evaluation is None:
        return None
    interval = evaluation.get("mean_interval")
    return RunResult(
        path=run,
        config=config,
        env_id=config["env"]["id"],
        game=game_key(config["env"]["id"]),
        seed=config["seed"],
        score=evaluation["mean"],
        episodes=len(evaluation["returns"]),
        interval=None if interval is None else (interval[0], interval[1]),
        evaluations=tuple(periodic_evaluations(read_metrics(run))),
    )


def final_evaluation(run: Path, seed: int) -> dict[str, Any] | None:
    """The final evaluation of a run with this seed; None if there is none yet. RlsuiteError if it was tampered with."""
    complete = checkpoint.list_complete(run)
    path = complete[-1].with_name(complete[-1].name.lstrip(".") + ".evaluation.json") if complete else run / "none"
    if not path.is_file():
        return None
    with reading(path, kind=CheckpointError):
        data = path.read_bytes()
    try:
        found: dict[str, Any] = parse_json(data)
        returns, mean, own_seed = [float(one) for one in found["returns"]], float(found["mean"]), found["seed"]
        sound = returns and math.isclose(math.fsum(returns) / len(returns), mean, rel_tol=1e-9, abs_tol=1e-9)
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise RlsuiteError(f"{path} is damaged or was edited (it must hold returns and their mean); remove it to evaluate anew")
    # A periodic evaluation, of the best weights so far, has another seed: see `evaluation_seed`.
    return found if own_seed == evaluation_seed(seed) else None


def periodic_evaluations(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Agent steps and mean return of the periodic evaluations in a run's log."""
    return [
        (row["agent_steps"], float(row[EVALUATION])) for row in rows if row.get(EVALUATION) is not None and "eval/final" not in row
    ]


def by_agent(runs: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Groups runs by agent, label -> runs: their configs differ only in seed, game, and in how they were run and evaluated.

    The label is the config's name; for a second agent of the same name, the differing settings are added.
    """
    groups: list[list[RunResult]] = []
    for run in runs:
        same = next((group for group in groups if _identity(group[0].config) == _identity(run.config)), None)
        if same is None:
            groups.append([run])
        elif any((other.game, other.seed) == (run.game, run.seed) for other in same):
            twin = next(other for other in same if (other.game, other.seed) == (run.game, run.seed))
            raise UsageError(
                f"{twin.path} and {run.path} are the same run twice: agent, game {run.game} and seed {run.seed} are equal"
            )
        else:
            same.append(run)
    labelled: dict[str, list[RunResult]] = {}
    for group in groups:
        config = group[0].config
        named = [other[0].config for other in groups if other[0].config["name"] == config["name"]]
        differ = {key for other in named for key in changes(_identity(config), _identity(other))}
        settings = flat(_identity(config))
        label = str(config["name"]) + (f" ({', '.join(f'{key}={settings[key]}' for key in sorted(differ))})" if differ else "")
        labelled[label if label not in labelled else f"{label} [{group[0].path}]"] = group
    return labelled


def refuse_mixed_protocols(runs: Sequence[RunResult]) -> None:
    """UsageError that names the settings of `PROTOCOL` that differ between runs."""
    found = []
    for key in PROTOCOL:
        values = {run.protocol[key]: run for run in runs if key in run.protocol}
        if len(values) > 1:
            found.append(f"{key} = " + " and ".join(f"{value} ({run.path.name})" for value, run in values.items()))
    if found:
        raise UsageError(f"the runs were scored by different protocols: {'; '.join(found)}: --mixed-protocols reports on them all")


def _config(run: Path) -> dict[str, Any]:
    path = config_file(run)
    config = loader.mapping(path)
    for section in ("agent", "env", "run", "eval"):
        if not isinstance(config.get(section), dict):
            raise UsageError(f"{path} is not the config of an agent's run: it has no section {section}")
    if not isinstance(config.get("seed"), int) or not isinstance(config["env"].get("id"), str):
        raise UsageError(f"{path} is not the config of an agent's run: it names no seed and env.id")
    return config


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that distinguish agents: these include the budget, but not how it was run and evaluated."""
    rest = {key: value for key, value in config.items() if key not in ("seed", "eval", "runtime")}
    rest["env"] = {key: value for key, value in config["env"].items() if key != "id"}
    rest["run"] = {
        key: config["run"].get(key) for key in ("agent_steps", "minutes", "collect_agent_steps", "policy_lag_learner_steps")
    }
    return rest
