"""The MLflow tracker (https://mlflow.org), to a server, database or folder: `mlflow(experiment=atari,uri=http://host:5000)`."""

import os
import re
import time
from collections.abc import Sequence

from rlsuite.core.errors import UsageError, one_line
from rlsuite.runs.metrics import Outcome, Row, TrackedRun

_REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "UNAUTHENTICATED", "PERMISSION_DENIED")
_AT_ONCE = 1_000, 100  # maximum number of metrics and of params in a request
_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow:
    """Logs each value as a metric at its agent step, and the config as params."""

    def __init__(self, run: TrackedRun, experiment: str = "rlsuite", uri: str | None = None):
        """`uri`: the tracking server, database or folder; None: MLflow's own choice (`MLFLOW_TRACKING_URI`)."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # `Background` tries again, and says so
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which belongs to `--json`
        if not re.match(r"(?!file:)\w[\w+.-]+:", str(uri or os.environ.get("MLFLOW_TRACKING_URI", "sqlite:"))):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder is what was asked for
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        self._metric, self._error = Metric, MlflowException
        try:
            self._client = MlflowClient(tracking_uri=None if uri is None else str(uri))
            if run.run_id is not None:
                self._id = run.run_id
                self._client.update_run(self._id, status="RUNNING")
                return
            found = self._client.get_experiment_by_name(str(experiment))
            place = self._client.create_experiment(str(experiment)) if found is None else found.experiment_id
            self._id = self._client.create_run(place, run_name=run.name).info.run_id
            run.keep(self._id)
            params = [Param(_allowed(key), str(value)[:500]) for key, value in run.config.items()]
            for start in range(0, len(params), _AT_ONCE[1]):
                self._client.log_batch(self._id, params=params[start : start + _AT_ONCE[1]])
        except MlflowException as error:
            raise self._final(error) from error

    def write(self, rows: Sequence[Row]) -> None:
        """Sends the values of the rows."""
        now = int(time.time() * 1000)
        found = [
            self._metric(_allowed(tag), value, now, clock.agent_steps) for clock, values in rows for tag, value in values.items()
        ]
        try:
            for start in range(0, len(found), _AT_ONCE[0]):
                self._client.log_batch(self._id, metrics=found[start : start + _AT_ONCE[0]])
        except self._error as error:
            raise self._final(error) from error

    def flush(self) -> None:
        """Does nothing: `write` has sent everything."""

    def close(self, outcome: Outcome) -> None:
        """Ends the MLflow run, with a status."""
        self._client.set_terminated(self._id, _STATUS[outcome])

    def _final(self, error: Exception) -> Exception:
        """The error as a UsageError if another attempt would not help, otherwise unchanged."""
        return UsageError(one_line(error)) if getattr(error, "error_code", None) in _REFUSED else error


def _allowed(name: str) -> str:
    """The name as MLflow allows it: other characters become `_`, and it is cut to 250."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]
