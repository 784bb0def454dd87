"""Several runs in a row: the `stages` of a config.

    stages:
      supervised: {run: {agent_steps: 100_000}}
      selfplay: {agent: {simulations: 200}}

Each stage is an ordinary run in its own folder, `1_supervised`, `2_selfplay`, ..., and starts from the weights of the previous
stage. The checkpoint of the last stage is the result.
"""

import re
from collections.abc import Callable
from pathlib import Path

from rlsuite.config import loader
from rlsuite.config.schema import Config
from rlsuite.core.console import say
from rlsuite.core.errors import UsageError, unknown
from rlsuite.runs import checkpoint, run_folder
from rlsuite.runtime.run_loop import Result

_DONE = "done"  # a file in the folder of a stage that is finished
_SECTIONS = ("agent", "env", "net", "replay", "learner", "run", "eval", "runtime")


def split(config: Config, folder: Path) -> list[tuple[Path, Config]]:
    """The folder and config of every stage. UsageError that names the stage whose sections are wrong."""
    assert config.stages is not None
    if not 1 <= len(config.stages) <= 9:
        raise UsageError(f"stages: {len(config.stages)} of them; 1 to 9 are allowed; leave the section out for a single run")
    found: list[tuple[Path, Config]] = []
    for number, (name, sections) in enumerate(config.stages.items(), 1):
        if not re.fullmatch(r"[\w-]{1,64}", str(name)):  # it names a folder
            raise UsageError(f"stages: the name {str(name)!r:.80} must be letters, digits, _ and -, at most 64")
        data = loader.as_mapping(config)
        data |= {"stages": None, "name": f"{config.name}/{name}"}
        for section, values in sections.items():
            if section not in _SECTIONS:
                raise unknown(f"section of stages.{name}", section, _SECTIONS)
            if not isinstance(values, dict):
                raise UsageError(f"stages.{name}.{section} = {values!r}: must be a mapping of keys")
            data[section] = {**data[section], **values}
        overridden = {f"{section}.{key}" for section, values in sections.items() for key in values}
        if found:
            data["net"] = {**data["net"], "init_from": str(found[-1][0].resolve())}
        try:
            found.append((folder / f"{number}_{name}", loader.check(data, overridden, saved=True)))
        except UsageError as error:
            raise UsageError(f"stages.{name}: {error}") from error
    return found


def run_stages(config: Config, run_dir: Path | None, resume: bool, run: Callable[[Config, Path, bool], Result]) -> Result:
    """Trains the stages one after the other, each with `run(config, folder, resume)`; returns the result of the last.

    Ctrl-C ends the current stage, and `resume` continues it.
    """
    if run_dir is None:
        split(config, Path())  # raises its errors before there is a folder
    folder = run_dir or run_folder.new_path(config)
    stages = split(config, folder)
    if not resume and any(checkpoint.list_complete(place) for place in (folder, *folder.glob("[1-9]_*"))):
        raise run_folder.already_a_run(folder)
    with run_folder.lock(folder):
        run_folder.write_config(config, folder)
        result: Result | None = None
        for number, (place, stage) in enumerate(stages, 1):
            if (place / _DONE).exists() and number < len(stages):
                continue
            begun = (place / "config.yaml").exists() and _resumable(place)
            say(f"stage {number} of {len(stages)}: {place.name}")
            result = run(stage, place, begun)
            if result.interrupted:
                break
            (place / _DONE).touch()
    assert result is not None
    result.run = folder
    return result


def _resumable(place: Path) -> bool:
    try:
        checkpoint.find(place, resumable=True)
    except UsageError:
        return False
    return True
