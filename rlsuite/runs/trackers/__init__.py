"""The shipped trackers: name -> import path "module:Class". Each needs the package of its name, which `rlsuite[NAME]` installs.

A tracker is a `rlsuite.runs.metrics.Tracker`, created with a `TrackedRun` and the parameters in its spec.
"""

TRACKERS = {
    "wandb": "rlsuite.runs.trackers.wandb:WandB",
    "mlflow": "rlsuite.runs.trackers.mlflow:MLflow",
    "trackio": "rlsuite.runs.trackers.trackio:Trackio",
}
