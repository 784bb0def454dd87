"""The Weights & Biases tracker (https://wandb.ai), online or offline: `wandb(project=atari)`."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlsuite.core.console import command, say
from rlsuite.core.errors import UsageError, one_line
from rlsuite.runs.metrics import Outcome, Row, TrackedRun

CONNECT_SECONDS = 20.0
FINISH_SECONDS = 25.0  # to upload the last rows: less than `background.CLOSE_SECONDS`


class WandB:
    """Logs each row as a W&B step of its own, with the clock; charts use `agent_steps` as their x axis.

    If W&B does not answer or nobody is logged in, the run is kept offline in `<run>/wandb`; `wandb sync` uploads it.
    """

    def __init__(
        self,
        run: TrackedRun,
        project: str = "rlsuite",
        entity: str | None = None,
        group: str | None = None,
        mode: str | None = None,
    ):
        """`mode`: online or offline; None: as `WANDB_MODE` or `wandb offline` set it, otherwise online."""
        os.environ.setdefault("WANDB_SILENT", "true")  # its output would break the live table
        import wandb

        if mode not in (None, "online", "offline"):
            raise UsageError(f"mode = {mode}: must be online or offline")
        run_id = run.run_id or secrets.token_hex(6)
        run.keep(run_id)
        self._step = run.last_step

        def begin(mode: Any) -> Any:
            return wandb.init(
                project=str(project),
                entity=None if entity is None else str(entity),
                group=None if group is None else str(group),
                name=run.name,
                id=run_id,
                resume="allow",
                reinit="create_new",  # leaves alone a run that the user's own program has started
                mode=mode,
                dir=str(run.run_dir),
                config=run.config,
                allow_val_change=True,  # a resume may change settings
                settings=wandb.Settings(console="off", init_timeout=CONNECT_SECONDS, finish_timeout=FINISH_SECONDS),
            )

        wanted = mode or wandb.setup().settings.mode
        try:
            if wanted == "online" and not wandb.login(prompt=False):
                raise UsageError("nobody is logged in: wandb login")
            self._run = begin(wanted)
        except (wandb.Error, UsageError) as error:
            self._run = begin("offline")
            later = command("wandb", "sync", Path(self._run.dir).parent)
            say(f"rlsuite: wandb cannot be reached ({one_line(error):.300}); the run goes on, kept offline; send it later: {later}")
        self._run.define_metric("agent_steps")
        self._run.define_metric("*", step_metric="agent_steps")

    def write(self, rows: Sequence[Row]) -> None:
        """Logs the rows. W&B's own step must increase: it is the agent step, or the previous step plus 1 if that is larger."""
        for clock, values in rows:
            self._step = max(self._step + 1, clock.agent_steps)
            self._run.log({**clock._asdict(), **values}, step=self._step)

    def flush(self) -> None:
        """Does nothing: W&B sends rows by itself."""

    def close(self, outcome: Outcome) -> None:
        """Ends the W&B run; it counts as failed if ours did."""
        self._run.finish(exit_code=1 if outcome == "failed" else 0)
