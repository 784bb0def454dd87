"""Callbacks: your own code, called at certain points of a run.

    class Patience(Callback):
        def evaluation(self, run: Run, result: Evaluation) -> None:
            if result.score < 100 and result.clock.agent_steps > 50_000:
                run.stop("it does not learn")

    rlsuite.train("classic/dqn", callbacks=[Patience()])
    rlsuite train classic/dqn 'run.callbacks=["patience.py:Patience"]'

Callbacks run in the process that trains; on Ray, that is the driver.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rlsuite.config.schema import AnyConfig
from rlsuite.config.spec_string import check_keywords, parse_call
from rlsuite.core import registry
from rlsuite.core.console import say
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.runs.metrics import Clock, Outcome


class Run(Protocol):
    """The run, as a callback sees it."""

    @property
    def run_dir(self) -> Path:
        """The folder of the run."""

    @property
    def config(self) -> AnyConfig:
        """The config of the run."""

    def clock(self) -> Clock:
        """The progress of the run so far: its steps and seconds."""

    def stop(self, reason: str) -> None:
        """Ends the training early, as if all its steps were done: a checkpoint and the final evaluation follow."""


class Evaluation(NamedTuple):
    """The result of an evaluation."""

    clock: Clock  # when the weights were current; on Ray the run may have moved on
    score: float  # mean return; for a vision model, its main metric
    scalars: Mapping[str, float]  # as in metrics.jsonl: tag -> number
    final: bool  # whether it is the evaluation after the training


class Callback:
    """Base class of callbacks. Every method does nothing unless a subclass defines it."""

    def start(self, run: Run) -> None:
        """Called when the training begins, or continues after a resume."""

    def metrics(self, run: Run, values: Mapping[str, float]) -> None:
        """Called when a row of losses and rates was logged: tag -> number (every `run.log_seconds`)."""

    def episode(self, run: Run, episodic_return: float, length: int) -> None:
        """Called when an episode of the training has ended, after `length` agent steps. Vision models have no episodes."""

    def evaluation(self, run: Run, result: Evaluation) -> None:
        """Called after each evaluation: the periodic ones and the final one."""

    def checkpoint(self, run: Run, path: Path) -> None:
        """Called when a checkpoint was written to the folder `path`: one to resume from, or one with weights only."""

    def end(self, run: Run, outcome: Outcome) -> None:
        """Called when the run ends: "finished", "interrupted" by a signal, or "failed" by an error.

        Everything that can be saved has been saved.
        """


class Callbacks:
    """The callbacks of a run, called one after the other.

    After the first error, no callback is called any more, except for `end`. `check` raises the error; the run calls it where it can
    end without losing a step.
    """

    def __init__(self, named: Mapping[str, Callback] | None = None):
        """`named`: name (for error messages) -> callback."""
        self._named = dict(named or {})
        self._error: RlsuiteError | None = None

    def start(self, run: Run) -> None:
        """See `Callback`, here and below."""
        self._call(lambda one: one.start(run), "start")

    def metrics(self, run: Run, values: Mapping[str, float]) -> None:
        self._call(lambda one: one.metrics(run, values), "metrics")

    def episode(self, run: Run, episodic_return: float, length: int) -> None:
        self._call(lambda one: one.episode(run, episodic_return, length), "episode")

    def evaluation(self, run: Run, result: Evaluation) -> None:
        self._call(lambda one: one.evaluation(run, result), "evaluation")

    def checkpoint(self, run: Run, path: Path) -> None:
        self._call(lambda one: one.checkpoint(run, path), "checkpoint")

    def end(self, run: Run, outcome: Outcome) -> None:
        """Calls `end` of all callbacks, then raises the first error; if the run has failed anyway, it only prints the error."""
        self._error = None  # an earlier error has been raised already: it is why the run failed
        for name, one in self._named.items():
            self._guarded(name, lambda one: one.end(run, outcome), one, "end")
        if outcome != "failed":
            self.check()
        elif self._error is not None:
            say(f"rlsuite: {self._error}")

    def check(self) -> None:
        """RlsuiteError, with the name of the callback, if one has failed."""
        if self._error is not None:
            raise self._error

    def _call(self, call: Callable[[Callback], None], method: str) -> None:
        for name, one in self._named.items():
            if self._error is None:
                self._guarded(name, call, one, method)

    def _guarded(self, name: str, call: Callable[[Callback], None], one: Callback, method: str) -> None:
        try:
            call(one)
        except (Exception, SystemExit) as error:
            failed = RlsuiteError(f"callback {name}, {method}: {registry.described(error)}")
            failed.__cause__ = error
            self._error = self._error or failed


def load_callbacks(specs: Sequence[str], given: Sequence[Callback] = ()) -> Callbacks:
    """The callbacks that a config names, followed by those `given` in code. UsageError if one cannot be created."""
    named: dict[str, Callback] = {}
    for spec in specs:
        if spec in named:
            raise UsageError(f"run.callbacks names {spec} twice")
        named[spec] = _made(spec)
    for number, one in enumerate(given, 1):
        if not isinstance(one, Callback):
            hint = f"; make one: {one.__name__}()" if isinstance(one, type) else ""
            raise UsageError(f"callbacks: {one!r} is not an instance of a subclass of rlsuite.Callback{hint}")
        kind = type(one).__name__
        named[kind if kind not in named else f"{kind} (number {number})"] = one
    return Callbacks(named)


def _made(spec: str) -> Callback:
    name, parameters = parse_call("callback", spec)
    kind: Any = registry.callbacks.get(name)
    if not (isinstance(kind, type) and issubclass(kind, Callback)):
        raise UsageError(f"run.callbacks: {name} is not a subclass of rlsuite.Callback")
    check_keywords(f"callback {name}", kind, parameters)
    with registry.third_party(f"run.callbacks: {spec}"):
        return kind(**parameters)
