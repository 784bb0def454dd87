"""Runs a study: every trial of its grid, or the settings that a search asks for.

result = sweep("study.yaml", "studies/mine", jobs=2)
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsuite.core.errors import UsageError
from rlsuite.runs import run_folder
from rlsuite.runtime.signals import signals
from rlsuite.studies import study as studies
from rlsuite.studies.scheduler import Grid, Job, Scheduler, Source, job_of
from rlsuite.studies.search import Search
from rlsuite.studies.table import StudyTable
from rlsuite.studies.workers import Processes, Workers, ray_tasks

ATTEMPTS = 2  # per trial and sweep; the next sweep tries again


@dataclass
class SweepResult:
    """The result of a sweep, as `rlsuite.sweep` returns it."""

    folder: Path
    trials: list[Job]  # that have ended, including those that were finished before
    total: int  # number of trials in the study
    interrupted: bool
    settings: list[dict[str, Any]] | None = None  # that a search has tried; None without a search

    @property
    def failed(self) -> dict[str, str]:
        """Name of a failed trial -> its first error."""
        return {job.trial.name: str(job.error) for job in self.trials if job.state == "failed"}

    @property
    def scores(self) -> dict[str, float]:
        """Name of a finished trial -> mean return of its final evaluation."""
        return {job.trial.name: job.score for job in self.trials if job.state == "finished" and job.score is not None}

    @property
    def best(self) -> dict[str, Any] | None:
        """The setting with the highest objective; None without a search, or before a setting is finished."""
        complete = [one for one in self.settings or () if one["objective"] is not None]
        return max(complete, key=lambda one: float(one["objective"]), default=None)

    def as_dict(self) -> dict[str, Any]:
        """The result as a dict that can be written as JSON, as `rlsuite sweep --json` prints it."""
        counts = {state: sum(job.state == state for job in self.trials) for state in ("finished", "pruned", "failed")}
        facts: dict[str, Any] = {"study": str(self.folder), "trials": self.total, **counts}
        facts |= {"scores": self.scores, "errors": self.failed, "interrupted": self.interrupted}
        return facts if self.settings is None else {**facts, "settings": self.settings, "best": self.best}


def sweep(
    study: str | Path | Mapping[str, Any], out: str | Path, jobs: int = 1, address: str | None = None, attempts: int = ATTEMPTS
) -> SweepResult:
    """Runs the trials of a study (a YAML file, or a mapping with its keys) in the folder `out`, `jobs` at a time.

    Finished trials in the folder are skipped, interrupted ones continue. `address`: a Ray cluster, such as auto, to run the trials
    on. UsageError for an impossible study, before anything starts. Trials that fail are in the result.
    """
    if jobs < 1 or attempts < 1:
        raise UsageError(f"jobs and attempts must be at least 1, got {jobs} and {attempts}")
    folder = Path(out)
    checked = studies.load(study)
    try:
        studies.check(checked)
        grid = [job_of(one, folder) for one in studies.grid(checked)] if checked.search is None else []
    except UsageError as error:
        raise UsageError(f"{study if isinstance(study, str | Path) else 'study'}: {error}") from error
    total = len(grid) if checked.search is None else checked.search.trials * len(checked.seeds) * len(checked.played)
    with signals() as stopped, run_folder.lock(folder):
        studies.keep(checked, folder)
        source: Source = Grid(grid) if checked.search is None else Search(checked, folder)
        table = StudyTable(total)
        place: AbstractContextManager[Workers] = nullcontext(Processes()) if address is None else ray_tasks(address)
        with place as workers:
            scheduler = Scheduler(source, workers, jobs, attempts, table)
            try:
                scheduler.run(stopped)
            finally:
                table.close()
        settings = source.tried() if isinstance(source, Search) else None
        return SweepResult(folder, scheduler.ended, total, bool(stopped), settings)
