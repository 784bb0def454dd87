"""Workers that train nothing: a study's scheduling in milliseconds."""

from collections.abc import Callable, Sequence
from pathlib import Path

from helpers import finished_run

from rlsuite.config import loader
from rlsuite.studies.workers import Worker

# Of a config with overrides: mean returns of its periodic evaluations, the last of which is its score; None: it fails.
Outcome = Callable[[dict[str, object]], list[float] | None]


class FakeWorkers:
    """Each trial ends at its second poll, with the outcome of its overrides."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.started: list[list[str]] = []
        self.most = 0  # that ran side by side
        self.running = 0

    def start(self, arguments: Sequence[str], log: Path) -> Worker:
        self.started.append(list(arguments))
        self.running += 1
        self.most = max(self.most, self.running)
        return _Fake(self, list(arguments), log)


class _Fake:
    def __init__(self, workers: FakeWorkers, arguments: list[str], log: Path) -> None:
        self._workers, self._arguments, self._log = workers, arguments, log
        self._polls = 0
        self._code: int | None = None

    def poll(self) -> int | None:
        self._polls += 1
        if self._code is None and self._polls > 1:
            self._code = self._end()
            self._workers.running -= 1
        return self._code

    def stop(self) -> None:
        if self._code is None:
            self._code = 130
            self._workers.running -= 1

    def _end(self) -> int:
        assert self._arguments[0] == "train"
        assert self._arguments[-2] == "--run-dir"
        overrides = dict(map(loader.parse_override, self._arguments[2:-2]))
        values = self._workers.outcome(overrides)
        if values is None:
            self._log.parent.mkdir(exist_ok=True)
            with self._log.open("a") as log:
                log.write(f"starting\nrlsuite: attempt {len(self._workers.started)} broke\n")
            return 1
        evaluations = [(100 * number, value) for number, value in enumerate(values, 1)]
        finished_run(Path(self._arguments[-1]), self._arguments[1], overrides, values[-1:], evaluations)
        return 0
