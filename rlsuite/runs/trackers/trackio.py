"""The trackio tracker (https://github.com/gradio-app/trackio), local or in a Hugging Face Space: `trackio(project=atari)`."""

import secrets
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from rlsuite.runs.metrics import Outcome, Row, TrackedRun


class Trackio:
    """Logs each row as a trackio step of its own, with the clock. trackio identifies a run by its name, which is made unique."""

    def __init__(self, run: TrackedRun, project: str = "rlsuite", space: str | None = None):
        """`space`: the Hugging Face Space to send rows to; None: the local database, which `trackio show` displays."""
        import trackio

        name = run.run_id or f"{run.name}-{secrets.token_hex(3)}"
        more: dict[str, Any] = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
        with redirect_stdout(sys.stderr):  # stdout belongs to `--json`
            where = None if space is None else str(space)
            self._run = trackio.init(str(project), name, space_id=where, config=run.config, resume="allow", **more)
        run.keep(name)
        self._step = run.last_step

    def write(self, rows: Sequence[Row]) -> None:
        """Logs the rows, each at its agent step or the one after the last."""
        for clock, values in rows:
            self._step = max(self._step + 1, clock.agent_steps)
            self._run.log({**clock._asdict(), **values}, step=self._step)

    def flush(self) -> None:
        """Does nothing: trackio sends rows by itself."""

    def close(self, outcome: Outcome) -> None:
        """Waits until everything is sent."""
        with redirect_stdout(sys.stderr):
            self._run.finish()
