"""A search over the axes of a study with Optuna, which chooses the next setting from the results so far.

The objective of a setting is the IQM over its runs of the mean of their last K periodic evaluations: not the best evaluation, which
would reward luck, nor the last one alone. With several games, returns are human-normalised.

Optuna's journal in the study's folder is the only state. After a kill, unfinished settings are found in it, and their runs continue
from their own checkpoints.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlsuite.config import loader
from rlsuite.core.errors import UsageError
from rlsuite.core.files import reading, writing
from rlsuite.evaluation.statistics import iqm
from rlsuite.studies import baselines, results
from rlsuite.studies.scheduler import Job, job_of
from rlsuite.studies.study import Range, Study, trial

if TYPE_CHECKING:
    import optuna

JOURNAL = "search.journal"
_ENDED = ("finished", "failed", "pruned")


@dataclass
class _Setting:
    """An unfinished setting, with a job for each game and seed."""

    number: int  # Optuna's
    jobs: list[Job]
    trial: "optuna.trial.Trial"


class Search:
    """A source of jobs for the scheduler."""

    def __init__(self, study: Study, folder: Path) -> None:
        """UsageError if Optuna is missing or the journal belongs to another study."""
        assert study.search is not None
        self._study, self._folder, self._spec = study, folder, study.search
        self._optuna = _import_optuna()
        self._distributions = {key: _distribution(self._optuna, axis) for key, axis in study.axes.items()}
        self._storage = _storage(self._optuna, folder / JOURNAL, _fingerprint(study))
        self._pruner = _pruner(self._optuna, study)
        self._search = self._optuna.create_study(
            storage=self._storage,
            study_name=_fingerprint(study),
            direction="maximize",
            pruner=self._pruner,
            load_if_exists=True,
        )
        several = len(study.games or ()) > 1
        self._table = baselines.load("atari57") if several else None
        self._open: dict[int, _Setting] = {}
        self._waiting: list[Job] = []
        self._owner: dict[str, _Setting] = {}  # by the name of a trial
        self._adopt()

    def next(self) -> Job | None:
        while not self._waiting and self._tried() < self._spec.trials:
            self._ask()
        return self._waiting.pop(0) if self._waiting else None

    def evaluated(self, job: Job) -> list[Job]:
        """Reports the objective so far to Optuna's pruner; its step is the number of evaluations that it is based on."""
        setting = self._owner[job.trial.name]
        if setting.number not in self._open or self._spec.pruner == "none":
            return []
        evaluations = [_evaluations(one) for one in setting.jobs]
        step = sum(map(len, evaluations))
        known = self._storage.get_trial(setting.trial._trial_id).intermediate_values
        if step in known:  # it was reported before a kill
            return []
        setting.trial.report(self._objective(setting, evaluations), step)
        if not setting.trial.should_prune():
            return []
        self._search.tell(setting.number, state=self._optuna.trial.TrialState.PRUNED)
        del self._open[setting.number]
        self._waiting = [one for one in self._waiting if one not in setting.jobs]
        return [one for one in setting.jobs if one.state == "running"]

    def ended(self, job: Job) -> None:
        setting = self._owner[job.trial.name]
        if setting.number not in self._open or any(one.state not in _ENDED for one in setting.jobs):
            return
        del self._open[setting.number]
        if any(one.state == "failed" for one in setting.jobs):
            self._search.tell(setting.number, state=self._optuna.trial.TrialState.FAIL)
        else:
            evaluations = [_evaluations(one) for one in setting.jobs]
            self._search.tell(setting.number, self._objective(setting, evaluations))

    def tried(self) -> list[dict[str, Any]]:
        """Every setting so far: its number, state, values of the axes, and objective."""
        return [
            {
                "number": one.number,
                "state": one.state.name.lower(),
                "setting": self._values(one.params),
                "objective": one.value if one.state == self._optuna.trial.TrialState.COMPLETE else None,
            }
            for one in self._search.get_trials(deepcopy=False)
            if one.params.keys() == self._distributions.keys()
        ]

    def _adopt(self) -> None:
        """Restores the settings of earlier sessions, finished ones first, so that the scheduler counts their trials."""
        state = self._optuna.trial.TrialState
        for one in self._search.get_trials(deepcopy=False, states=(state.COMPLETE,)):
            self._begin(one.number, one.params, self._optuna.trial.Trial(self._search, one._trial_id))
            del self._open[one.number]  # its objective is known
        for one in self._search.get_trials(deepcopy=False, states=(state.RUNNING,)):
            if one.params.keys() == self._distributions.keys():
                self._begin(one.number, one.params, self._optuna.trial.Trial(self._search, one._trial_id))
            else:  # killed while Optuna was drawing it
                self._search.tell(one.number, state=state.FAIL)

    def _tried(self) -> int:
        """The number of settings that have values for all axes; only these count."""
        return sum(one.params.keys() == self._distributions.keys() for one in self._search.get_trials(deepcopy=False))

    def _ask(self) -> None:
        # A new sampler for each setting, so that a search that was killed continues as if it had not been.
        self._search.sampler = _sampler(self._optuna, self._study, self._spec.seed + len(self._search.get_trials(deepcopy=False)))
        asked = self._search.ask(self._distributions)
        self._begin(asked.number, asked.params, asked)

    def _begin(self, number: int, params: Mapping[str, Any], asked: "optuna.trial.Trial") -> None:
        chosen = self._values(params)
        jobs = [
            job_of(trial(self._study, chosen, game, seed, prefix=f"setting{number:04d}"), self._folder)
            for seed in self._study.seeds
            for game in self._study.played
        ]
        self._open[number] = setting = _Setting(number, jobs, asked)
        self._owner |= {job.trial.name: setting for job in jobs}
        self._waiting += jobs

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Optuna's parameters as values of the axes."""
        values = {}
        for key, value in params.items():
            axis = self._study.axes[key]
            values[key] = value if isinstance(axis, Range) else next(one for one in axis if loader.literal(one) == value)
        return values

    def _objective(self, setting: _Setting, evaluations: Sequence[Sequence[tuple[int, float]]]) -> float:
        scores = []
        for job, found in zip(setting.jobs, evaluations, strict=True):
            if found:
                score = float(np.mean([value for _, value in found[-self._spec.last_evaluations :]]))
                game = job.trial.overrides.get("env.id", "")
                scores.append(score if self._table is None else self._table.normalise(baselines.game_key(game), score))
        if not scores:
            raise UsageError(
                f"setting {setting.number} has no periodic evaluation: set eval.every_agent_steps below run.agent_steps"
            )
        return iqm(scores)


def _evaluations(job: Job) -> Sequence[tuple[int, float]]:
    if job.state == "finished":
        result = results.read(job.folder)
        assert result is not None
        return result.evaluations
    return job.follower.evaluations


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UsageError("a search needs Optuna: pip install 'rlsuite[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _storage(optuna: Any, path: Path, name: str) -> Any:
    """The journal, without a last line that a kill cut short. UsageError if it is another study's or is damaged."""
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

    class NoLock(JournalFileOpenLock):  # Optuna's own lock would remain after a kill, and the study's folder is already locked
        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            pass

    with reading(path):
        data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        with writing(path):
            path.write_bytes(data[: data.rfind(b"\n") + 1])
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=NoLock(str(path))))
        found = [study.study_name for study in storage.get_all_studies()]
    except (ValueError, KeyError, TypeError) as error:  # also JSONDecodeError
        raise UsageError(f"{path} is not a journal of Optuna's, or is damaged: {error}") from error
    if any(other != name for other in found):
        raise UsageError(f"{path} is the storage of another study ({', '.join(found)}, not {name}): choose another --out")
    return storage


def _fingerprint(study: Study) -> str:
    """A fingerprint of everything that the objective depends on."""
    facts = study.model_dump(mode="json", exclude={"search": {"trials"}})
    return "rlsuite-" + hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _distribution(optuna: Any, axis: Any) -> Any:
    if not isinstance(axis, Range):
        return optuna.distributions.CategoricalDistribution([loader.literal(value) for value in axis])
    kind = optuna.distributions.IntDistribution if axis.integers else optuna.distributions.FloatDistribution
    return kind(axis.low, axis.high, log=axis.log)


def _sampler(optuna: Any, study: Study, seed: int) -> Any:
    assert study.search is not None
    if study.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `constant_liar` is called experimental: it spreads settings that are tried side by side
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=study.search.startup_trials, constant_liar=True)


def _pruner(optuna: Any, study: Study) -> Any:
    assert study.search is not None
    match study.search.pruner:
        case "median":
            warmup = study.search.last_evaluations
            return optuna.pruners.MedianPruner(n_startup_trials=study.search.startup_trials, n_warmup_steps=warmup)
        case "hyperband":
            return optuna.pruners.HyperbandPruner()
        case _:
            return optuna.pruners.NopPruner()
