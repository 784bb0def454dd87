"""Callbacks and trackers of a run on Ray: they are called in the driver."""

import os
from pathlib import Path

import pytest
from helpers import final
from ray_envs import DQN, RAY

import rlsuite
from rlsuite.core.errors import RlsuiteError
from rlsuite.runs.callbacks import Callback, Evaluation, Run
from rlsuite.runs.metrics import Outcome

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("hosts")]
SETTINGS = {**DQN, **RAY, "run.agent_steps": 100_000, "runtime.collectors": 2, "run.log_seconds": 0.05}


class Stopping(Callback):
    """Ends the training after 600 agent steps."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.outcome, self.process = "", 0

    def metrics(self, run: Run, values: object) -> None:
        self.seen.add("metrics")

    def episode(self, run: Run, episodic_return: float, length: int) -> None:
        self.process = os.getpid()
        if run.clock().agent_steps > 600:
            run.stop("600 steps are enough")

    def evaluation(self, run: Run, result: Evaluation) -> None:
        self.seen.add("evaluation")

    def checkpoint(self, run: Run, path: Path) -> None:
        self.seen.add("checkpoint")

    def end(self, run: Run, outcome: Outcome) -> None:
        self.outcome = outcome


class Raising(Callback):
    """Raises once learning has begun."""

    def metrics(self, run: Run, values: object) -> None:
        raise ZeroDivisionError("mine")


@pytest.mark.parametrize("synchronous", [True, False])
def test_a_callback_ends_the_training(tmp_path: Path, synchronous: bool) -> None:
    callback = Stopping()
    settings = {**SETTINGS, "runtime.synchronous": synchronous}
    result = rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run", callbacks=[callback])
    assert 600 < result.agent_steps < 50_000
    assert result.evaluation is not None
    assert callback.seen == {"metrics", "evaluation", "checkpoint"}
    assert (callback.outcome, callback.process) == ("finished", os.getpid())


def test_a_callback_that_raises_ends_the_run_which_is_saved(tmp_path: Path) -> None:
    with pytest.raises(RlsuiteError, match=r"^callback Raising, metrics: ZeroDivisionError: mine"):
        rlsuite.train("classic/dqn", SETTINGS, run_dir=tmp_path / "run", callbacks=[Raising()])
    saved = final(tmp_path / "run")
    assert saved.state["learner"]["steps"] > 0
    stored = sum(ring["head"] * 8 for shard in saved.state["replay"]["shards"] for ring in shard["rings"])
    assert stored == saved.state["replay"]["limiter"]["inserted"] >= saved.agent_steps
    resumed = rlsuite.train(None, {"run.agent_steps": saved.agent_steps + 500}, resume=tmp_path / "run")
    assert resumed.evaluation is not None
