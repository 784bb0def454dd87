"""The Python interface: the main commands as functions."""

from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

from rlsuite.boardgames.games import make_game as make_game
from rlsuite.config import loader
from rlsuite.config.loader import resolve
from rlsuite.config.schema import Config, EnvSection
from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.evaluation import evaluate as evaluation
from rlsuite.evaluation.saved_agent import LoadedAgent, Saved
from rlsuite.evaluation.statistics import Summary
from rlsuite.runs import run_folder
from rlsuite.runs.callbacks import Callback as Callback
from rlsuite.runs.callbacks import load_callbacks
from rlsuite.runs.trackers.opening import check_trackers
from rlsuite.runs.trust import allowing
from rlsuite.runtime.local import run_local
from rlsuite.runtime.run_loop import Result
from rlsuite.runtime.stages import run_stages
from rlsuite.studies.report import report as report
from rlsuite.studies.sweep import sweep as sweep


def train(
    config: str | Path | None = None,
    overrides: Mapping[str, Any] | list[str] = (),  # type: ignore[assignment]
    *,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    trust: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Trains a shipped config or a YAML file with overrides (dotted key -> value), or continues the run in the folder `resume`.

    `trust`: lets a resumed run from someone else execute the files and commands that its config names (docs/security.md).
    `callbacks`: called during the run, after those that `run.callbacks` names (docs/watching.md).
    """
    new, old = (None if path is None else Path(path) for path in (run_dir, resume))
    with allowing(trust):
        resolved, folder = run_folder.requested(resolve, config, overrides, new, old, example="atari/pong")
    return _run(resolved, folder, resume is not None, callbacks)


def _run(config: Config, run_dir: Path | None, resume: bool, callbacks: Sequence[Callback]) -> Result:
    # Before anything is built or written.
    check_trackers(config.run.trackers)
    loaded = load_callbacks(config.run.callbacks, callbacks)
    if config.stages is not None:
        return run_stages(config, run_dir, resume, partial(_run, callbacks=callbacks))
    if config.runtime.kind == "local":
        return run_local(config, run_dir, resume, loaded)
    from rlsuite.runtime.ray import run_ray  # takes a second to import

    return run_ray(config, run_dir, resume, loaded)


def load(run_or_checkpoint: str | Path, seed: int = 0, *, trust: bool = False) -> LoadedAgent:
    """Loads a saved agent: `.initial_state(batch)` and `.act(observation, state) -> action, state` on NumPy arrays.

    `trust`: lets a run from someone else execute the files and commands that its config names (docs/security.md).
    """
    with allowing(trust):
        return LoadedAgent(Saved(Path(run_or_checkpoint)), seed)


def evaluate(
    run_or_checkpoint: str | Path,
    episodes: int | None = None,
    seed: int | None = None,
    video: str | Path | None = None,
    *,
    recolour: str | None = None,
    trust: bool = False,
) -> Summary:
    """Evaluates a saved agent over whole episodes; scores are raw returns. `video`: a folder for an MP4. `trust`: see `load`.

    `recolour`: other colours for an Atari game, `inverted` or `hue(degrees=180)`; `none` for the game's own.
    """
    episodes, seed = _whole("episodes", episodes, 1), _whole("seed", seed, 0)
    with allowing(trust):
        path, folder = Path(run_or_checkpoint), None if video is None else Path(video)
        return evaluation.evaluate(path, episodes, seed, folder, recolour=recolour).summary


def _whole(name: str, value: Any, least: int) -> int | None:
    """`value` as an int, NumPy's included; None stays None."""
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise UsageError(f"{name} = {value!r}: must be a whole number of at least {least}")
    return int(value)


def make_env(env_id: str, num_envs: int = 1, threads: int = 1, **settings: Any) -> Any:
    """Makes a vector environment like those that agents train in (Gymnasium's VectorEnv, NEXT_STEP autoreset).

    `settings`: as in `env.*` of a config.
    """
    given = loader.plain({"id": env_id, "num_envs": num_envs, **settings})
    section: EnvSection = loader.validate(registry.envs.get(env_id).Config, given)
    return registry.make_env(section, section.num_envs, threads)


register_agent, register_env = registry.register_agent, registry.register_env
