"""Saves, finds, loads and deletes the checkpoint folders of a run.

    <run>/checkpoints/step_000000400000/     agent steps, 12 digits
        weights.safetensors                  the online network, enough to evaluate
        tensors.safetensors                  every other torch tensor of the state; keys are paths in it
        arrays/replay/observation.npy        every NumPy array of the state
        state.json                           format, agent_steps, metadata and the nested state, which refers to
                                             {"$tensor": "learner/optimizer/0/exp_avg"}, {"$array": "replay/done.npy"}
        COMPLETE                             written last: every file above with its size and sha256

A checkpoint is built in `.tmp-...` beside the others, synced, and renamed into place. One that replaces the same
step first moves the old one to `.old-step_...`, so that a kill at any moment leaves a complete one to find. Readers
change nothing on disk; the one process that writes to a run clears leftovers at its next `save` or `prune`.

Files that the manifest does not list are never opened. The others are read as JSON, safetensors, or `.npy` without objects,
none of which can run code.
"""

import errno
import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from rlsuite.core.errors import CheckpointError, UsageError, nearest, one_line
from rlsuite.core.files import parse_json, reading, reason, remedy, writing
from rlsuite.runs import pretrained_agents, trust
from rlsuite.runs.checkpoint.codec import Json, Packer, State, check_tensor, unpack
from rlsuite.runs.checkpoint.files import (
    ARRAYS,
    COMPLETE,
    STATE,
    TENSORS,
    WEIGHTS,
    array_reader,
    array_writer,
    differs,
    dump,
    get_tensors,
    put_tensors,
    sync_folder,
    write,
)

FORMAT = 2
_STEP = re.compile(r"(?:\.old-)?step_(\d{12,})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory. All tensors are on the CPU, own their memory and require no gradient."""

    path: Path
    agent_steps: int
    weights: dict[str, Tensor]
    state: State  # {} where only the weights were asked for
    metadata: dict[str, Json]
    own: bool = False  # whether this user's rlsuite wrote it (`runs.trust`)


# ---------------------------------------------------------------------------------------------------- public: writing


def save(
    run_dir: Path,
    agent_steps: int,
    weights: dict[str, Tensor],
    state: State,
    metadata: dict[str, Json],
    with_arrays: bool = True,
) -> Path:
    """Writes `<run_dir>/checkpoints/step_<agent_steps>` and returns its path; replaces an earlier checkpoint of the same step.

    Leaves of `state` are torch tensors, NumPy arrays without objects, or values of exactly the types int (of any size), float,
    str, bool and None. Dicts have str or int keys. Everything is restored equal in type, shape, dtype and bits, except that
    tensors lose their memory layout and sharing, and a subclass of dict, list, tuple or Tensor is restored as its base class.
    `with_arrays=False` leaves out NumPy arrays (gigabytes of replay): the checkpoint can then be used for evaluation only.

    TypeError, with the path, for any other leaf, before anything is written. CheckpointError if the write fails: nothing of
    this checkpoint remains then, and the earlier ones are untouched.
    """
    if agent_steps < 0:
        raise ValueError(f"agent_steps must be >= 0, got {agent_steps}")
    packer, plain = Packer(), Packer()
    document = {
        "format": FORMAT,
        "agent_steps": agent_steps,
        "metadata": plain.pack(metadata, ("metadata",)),
        "state": packer.pack(state, ()),
    }
    for path in (*plain.tensors, *plain.arrays):
        raise TypeError(f"{path}: metadata holds JSON values only; put tensors and arrays into the state")
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or name == "__metadata__":  # safetensors reserves that name
            raise TypeError(f"weights[{name!r}] is not a tensor that a checkpoint can hold")
        check_tensor(tensor, f"weights[{name!r}]")

    folder = run_dir / "checkpoints"
    target = folder / f"step_{agent_steps:012d}"
    temporary = folder / f".tmp-{target.name}-{os.getpid()}"
    tensors, arrays = packer.tensors, packer.arrays if with_arrays else {}
    need = sum(tensor.nbytes for tensor in (*weights.values(), *tensors.values()))
    need += sum(array.nbytes for array in arrays.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(run_dir)
        _tidy(folder)
        temporary.mkdir()
        files = {
            WEIGHTS: write(temporary / WEIGHTS, lambda out: put_tensors(out, weights)),
            TENSORS: write(temporary / TENSORS, lambda out: put_tensors(out, tensors)),
        }
        for name, array in arrays.items():
            files[ARRAYS + name] = write(temporary / ARRAYS / name, array_writer(array))
        files[STATE] = write(temporary / STATE, lambda out: out.write(dump(document)))
        manifest = {"format": FORMAT, "agent_steps": agent_steps, "arrays_dropped": not with_arrays, "files": files}
        write(temporary / COMPLETE, lambda out: out.write(dump(_signed(manifest), indent=1)))
        for inner, _, _ in os.walk(temporary):
            sync_folder(Path(inner))
        _put_in_place(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(_why_not_saved(error, target, need)) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def prune(run_dir: Path, keep_last: int, keep: set[Path]) -> None:
    """Deletes the complete checkpoints of a run except the newest `keep_last` (at least 1) and those in `keep`.

    CheckpointError if that fails; every checkpoint that is left is still complete.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last must be >= 1, or nothing is left to resume; got {keep_last}")
    kept = {_steps(path) for path in keep}
    with writing(run_dir, action="delete old checkpoints in", kind=CheckpointError):
        _tidy(run_dir / "checkpoints")
        for path in list_complete(run_dir)[:-keep_last]:
            if _steps(path) not in kept:
                _delete(path)


def forget_after(run_dir: Path, agent_steps: int) -> None:
    """Deletes checkpoints later than `agent_steps`: a run resumed there diverges, so they would no longer belong to it."""
    for path in list_complete(run_dir):
        if _steps(path) > agent_steps:
            _delete(path)


def drop_arrays(path: Path) -> None:
    """Deletes the NumPy arrays (the replay) of one complete checkpoint; its weights still load.

    Calling it again is harmless, and completes a deletion that a kill interrupted.
    """
    manifest = _manifest(path)
    with writing(path, action="drop the arrays of", kind=CheckpointError):
        arrays = [name for name in manifest["files"] if name.startswith(ARRAYS)]
        if arrays:
            own = _is_own(manifest)
            manifest["arrays_dropped"] = True
            for name in arrays:
                del manifest["files"][name]
            if own:
                manifest = _signed(manifest)
            fresh = path / f".{COMPLETE}.new"
            write(fresh, lambda out: out.write(dump(manifest, indent=1)))
            fresh.replace(path / COMPLETE)
            # The manifest must be on disk before the first array goes, or a power cut could leave the old one.
            sync_folder(path)
        if (path / ARRAYS).is_dir():
            shutil.rmtree(path / ARRAYS)


# ---------------------------------------------------------------------------------------------------- public: reading


def list_complete(run_dir: Path) -> list[Path]:
    """The folders of a run's complete checkpoints, oldest first (none if the run has not saved yet).

    If a replacement was killed halfway, this includes the `.old-step_...` folder of that step.
    """
    folder = run_dir / "checkpoints"
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:  # ".old-step" sorts before "step", which then wins
        if (match := _STEP.fullmatch(path.name)) and _is_complete(path):
            found[int(match[1])] = path
    return [found[steps] for steps in sorted(found)]


def find(path: Path, resumable: bool = False) -> Path:
    """The checkpoint that `path` refers to: the newest complete one of a run folder, or the checkpoint folder itself.

    `resumable`: in a run folder, the newest that still has its arrays. UsageError, with what was expected, if `path` is neither.
    """
    with reading(path, kind=CheckpointError):
        if _is_complete(path):
            return path
        if _STEP.fullmatch(path.name) and _is_complete(aside := path.with_name(f".old-{path.name}")):
            return aside
        if not path.exists():
            raise UsageError(_does_not_exist(path))
        if not path.is_dir():
            raise UsageError(f"{path} is a file; expected a run folder or a checkpoint folder")
        if _STEP.fullmatch(path.name):
            raise UsageError(f"{path} is not a complete checkpoint: no {COMPLETE} in it{_instead(path, False)}")
        if path.name == "checkpoints":
            raise UsageError(f"{path} is not a run folder: give the folder above it, or one of the checkpoints in it")
        if not (path / "checkpoints").is_dir():
            if stages := [folder for folder in sorted(path.glob("[0-9]_*")) if list_complete(folder)]:
                return find(stages[-1], resumable)  # a run in stages
            raise UsageError(f"{path} is not a run folder: no checkpoints/ in it")
        if not (complete := list_complete(path)):
            raise UsageError(f"{path} has no complete checkpoint yet")
        if resumable and not any(_has_arrays(found) for found in complete):
            _manifest(complete[-1])  # raises if it is damaged
            instead = f"start a new run from them with net.init_from={path}"
            raise UsageError(
                f"{path} has no checkpoint to resume from: its checkpoints hold weights for evaluation only; {instead}"
            )
        return [found for found in complete if not resumable or _has_arrays(found)][-1]


def steps_of(path: Path | None) -> int:
    """Agent steps of a checkpoint folder according to its name; 0 without one."""
    return 0 if path is None else max(_steps(path), 0)


def load(path: Path, weights_only: bool = False) -> Checkpoint:
    """Reads the checkpoint folder `path`, after checking every file it needs against the manifest.

    `weights_only` checks and reads only the weights and state.json (for its metadata), so it also works if the arrays were
    dropped. CheckpointError if a file is missing or differs; it names the file and, if there is one, another checkpoint of the
    run to use instead.
    """
    manifest = _manifest(path)
    if manifest["arrays_dropped"] and not weights_only:
        raise CheckpointError(
            f"{path} holds weights for evaluation only: its arrays (the replay) were dropped, so it cannot be "
            f"resumed{_instead(path, False)}"
        )
    files: dict[str, dict[str, Any]] = manifest["files"]
    with reading(path, kind=CheckpointError):
        for name in (WEIGHTS, STATE) if weights_only else dict.fromkeys((WEIGHTS, TENSORS, STATE, *files)):
            if difference := differs(path, name, files.get(name)):
                raise CheckpointError(f"{path / name} {difference}{_instead(path, weights_only)}")
        try:
            document = parse_json((path / STATE).read_bytes())
            tensors = {} if weights_only else get_tensors(path / TENSORS)
            if type(document["agent_steps"]) is not int:
                raise ValueError(f"agent_steps = {document['agent_steps']!r:.100} is not a whole number")
            return Checkpoint(
                path=path,
                agent_steps=document["agent_steps"],
                weights=get_tensors(path / WEIGHTS),
                state={} if weights_only else unpack(document["state"], tensors, array_reader(path, files)),
                metadata=unpack(document["metadata"], {}, array_reader(path, {})),
                own=_is_own(manifest),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            text = one_line(error)
            raise CheckpointError(f"{path} cannot be read: {text}{_instead(path, weights_only)}") from error


# --------------------------------------------------------------------------------------------------------------- files


def _is_complete(path: Path) -> bool:
    return (path / COMPLETE).is_file()


def _manifest(path: Path) -> dict[str, Any]:
    """The checked manifest of a checkpoint. CheckpointError if there is none that this version can read."""
    try:
        manifest = parse_json((path / COMPLETE).read_bytes())
        if not isinstance(manifest, dict):
            raise ValueError("its fields are not those of a manifest")
        number = manifest["format"]
        if isinstance(number, int) and number > FORMAT:
            raise CheckpointError(f"{path} has checkpoint format {number}, this rlsuite reads format {FORMAT}: upgrade rlsuite")
        if isinstance(number, int) and 1 <= number < FORMAT:
            raise CheckpointError(
                f"{path} was written in checkpoint format {number} by {_writer(path)}, this rlsuite reads format {FORMAT}: "
                "use the one that wrote it, or train again"
            )
        if number != FORMAT or not isinstance(manifest["arrays_dropped"], bool):
            raise ValueError("its fields are not those of a manifest")
        for name, entry in manifest["files"].items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"it lists {name}, outside the checkpoint")
            if not isinstance(entry["bytes"], int) or not isinstance(entry["sha256"], str):
                raise ValueError(f"its entry of {name} is incomplete")
    except FileNotFoundError as error:
        instead = _instead(path, False)
        raise CheckpointError(f"{path} is not a complete checkpoint: no {COMPLETE} in it{instead}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / COMPLETE} is damaged ({error}){_instead(path, False)}") from error
    return dict(manifest)


def _signed(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "signature": trust.sign(_to_sign(manifest))}


def _is_own(manifest: dict[str, Any]) -> bool:
    return trust.is_own(_to_sign(manifest), manifest.get("signature"))


def _to_sign(manifest: dict[str, Any]) -> bytes:
    return json.dumps({key: value for key, value in manifest.items() if key != "signature"}, sort_keys=True).encode()


# ------------------------------------------------------------------------------------------------------------- folders


def _put_in_place(temporary: Path, target: Path) -> None:
    """Renames a finished checkpoint into place; at every moment the new one or the one it replaces is complete on disk."""
    aside = target.with_name(f".old-{target.name}")
    if target.exists():
        target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
    sync_folder(target.parent)
    if aside.exists():
        with suppress(OSError):  # the new one is in place, and the next save deletes the leftovers
            _delete(aside)


def _tidy(folder: Path) -> None:
    """Cleans up after a killed save: deletes half-written folders, and restores an old checkpoint that was not replaced."""
    for left in folder.glob(".tmp-*/"):
        shutil.rmtree(left)
    for aside in folder.glob(".old-*/"):
        target = folder / aside.name.removeprefix(".old-")
        if _is_complete(target) or not _is_complete(aside):
            _delete(aside)
            continue
        if target.exists():
            _delete(target)
        aside.rename(target)


def _delete(path: Path) -> None:
    """Deletes a checkpoint: first the mark that it is complete, then its files."""
    (path / COMPLETE).unlink(missing_ok=True)
    sync_folder(path)
    shutil.rmtree(path)


# -------------------------------------------------------------------------------------------------------------- errors


def _why_not_saved(error: OSError, target: Path, need: int) -> str:
    size = f" (it needs about {need / 2**20:.1f} MiB)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    earlier = []
    with suppress(OSError):
        earlier = list_complete(target.parent.parent)
    previous = f"the previous checkpoint, {earlier[-1].name}, is untouched" if earlier else "no earlier one exists"
    return f"cannot save {target}: {reason(error, target)}; {remedy(error)}{size}, or choose another --run-dir; {previous}"


def _writer(path: Path) -> str:
    """The version of rlsuite that wrote a checkpoint, according to its metadata."""
    try:
        return f"rlsuite {parse_json((path / STATE).read_bytes())['metadata']['versions']['rlsuite']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "an older rlsuite"


def _instead(path: Path, weights_only: bool) -> str:
    """The advice `; use <path> instead`: the newest older complete checkpoint of the run, else the newest; "" if there is none.

    If that one has only weights to start from, the advice says so.
    """
    if len(path.parts) < 3:
        path = path.absolute()
    if path.parent.name != "checkpoints":
        return ""
    others = []
    with suppress(OSError):
        others = [other for other in list_complete(path.parent.parent) if other.name != path.name]
    whole = others if weights_only else [other for other in others if _has_arrays(other)]
    older = [other for other in whole if _steps(other) < _steps(path)]
    if others and not whole:
        return f"; the others hold weights for evaluation only: a new run can start from them by net.init_from={others[-1]}"
    return f"; use {(older or whole)[-1]} instead" if whole else ""


def _steps(path: Path) -> int:
    """Agent steps according to the folder's name; -1 for a folder that was renamed."""
    return int(match[1]) if (match := _STEP.fullmatch(path.name)) else -1


def _has_arrays(path: Path) -> bool:
    try:
        return parse_json((path / COMPLETE).read_bytes())["arrays_dropped"] is False
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _does_not_exist(path: Path) -> str:
    if pretrained_agents.is_name(path):
        return f"{path} {pretrained_agents.absent(path)}"
    missing = path.absolute()
    while not missing.parent.exists():
        missing = missing.parent
    names = [sibling.name for sibling in missing.parent.iterdir() if sibling.is_dir() and sibling.name[0] != "."]
    close = nearest(missing.name, names)
    hint = f"; did you mean {' or '.join(str(missing.parent / name) for name in close)}?" if close else ""
    return f"{path} does not exist{hint}"
