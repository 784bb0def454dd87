"""Checkpoints of a run: written whole or not at all, checked when read, and never a pickle.

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

Files that the manifest does not list are never opened, and what it lists is read as JSON, safetensors or `.npy` without
objects, none of which can run code.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rlsuite.errors import CheckpointError, UsageError, nearest

FORMAT = 1

Json: TypeAlias = Any  # None | bool | int | float | str | list[Json] | dict[str, Json]
State: TypeAlias = dict[str, Any]  # nested dict (str or int keys), list, tuple of Tensor | ndarray | the scalars above

_WEIGHTS = "weights.safetensors"
_TENSORS = "tensors.safetensors"
_ARRAYS = "arrays/"
_STATE = "state.json"
_COMPLETE = "COMPLETE"
_STEP = re.compile(r"(?:\.old-)?step_(\d{12,})")
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Checkpoint:
    """What `load` read. All tensors are on the CPU, own their memory and want no gradient."""

    path: Path
    agent_steps: int
    weights: dict[str, Tensor]
    state: State  # {} where only the weights were asked for
    metadata: dict[str, Json]


# ---------------------------------------------------------------------------------------------------- public: writing


def save(
    run_dir: Path,
    agent_steps: int,
    weights: dict[str, Tensor],
    state: State,
    metadata: dict[str, Json],
    with_arrays: bool = True,
) -> Path:
    """Write `<run_dir>/checkpoints/step_<agent_steps>` and return it; the same step saved before is replaced.

    Leaves of `state` are torch tensors, NumPy arrays without objects, and int (of any size), float, str, bool, None of
    exactly these types. Dicts have str or int keys. Everything comes back equal in type, shape, dtype and bits, but
    tensors lose their memory layout and sharing, and a subclass of dict, list, tuple or Tensor comes back as its base.
    Raises TypeError that names the path of any other leaf before anything is written, and CheckpointError where
    the disk refuses; then nothing of this checkpoint remains and the earlier ones are as they were.
    """
    # Without its arrays (gigabytes of replay memory) a checkpoint serves evaluation only, as after `drop_arrays`.
    if agent_steps < 0:
        raise ValueError(f"agent_steps must be >= 0, got {agent_steps}")
    packer, plain = _Packer(), _Packer()
    document = {
        "format": FORMAT,
        "agent_steps": agent_steps,
        "metadata": plain.pack(metadata, ("metadata",)),
        "state": packer.pack(state, ()),
    }
    for path in (*plain.tensors, *plain.arrays):
        raise TypeError(f"{path}: metadata holds JSON values only; put tensors and arrays into the state")
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or name == "__metadata__":  # safetensors keeps that name for itself
            raise TypeError(f"weights[{name!r}] is no tensor that a checkpoint can hold")
        _check_tensor(tensor, f"weights[{name!r}]")

    folder = run_dir / "checkpoints"
    target = folder / f"step_{agent_steps:012d}"
    temporary = folder / f".tmp-{target.name}-{os.getpid()}"
    tensors, arrays = packer.tensors, packer.arrays if with_arrays else {}
    need = sum(tensor.nbytes for tensor in (*weights.values(), *tensors.values()))
    need += sum(array.nbytes for array in arrays.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(run_dir)
        _tidy(folder)
        temporary.mkdir()
        files = {
            _WEIGHTS: _write(temporary / _WEIGHTS, lambda out: _put_tensors(out, weights)),
            _TENSORS: _write(temporary / _TENSORS, lambda out: _put_tensors(out, tensors)),
        }
        for name, array in arrays.items():
            files[_ARRAYS + name] = _write(temporary / _ARRAYS / name, _array_writer(array))
        files[_STATE] = _write(temporary / _STATE, lambda out: out.write(_dump(document)))
        manifest = {"format": FORMAT, "agent_steps": agent_steps, "arrays_dropped": not with_arrays, "files": files}
        _write(temporary / _COMPLETE, lambda out: out.write(_dump(manifest, indent=1)))
        for inner, _, _ in os.walk(temporary):
            _sync_folder(Path(inner))
        _put_in_place(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(_why_not_saved(error, target, need)) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def prune(run_dir: Path, keep_last: int, keep: set[Path]) -> None:
    """Delete the complete checkpoints of a run but the newest `keep_last` (at least 1) and those in `keep`.

    Raises CheckpointError where the disk refuses; what is left then is still whole.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last must be >= 1, or nothing is left to resume; got {keep_last}")
    kept = {_steps(path) for path in keep}
    with _told("delete old checkpoints in", run_dir):
        _tidy(run_dir / "checkpoints")
        for path in list_complete(run_dir)[:-keep_last]:
            if _steps(path) not in kept:
                _delete(path)


def forget_after(run_dir: Path, agent_steps: int) -> None:
    """Delete checkpoints beyond `agent_steps`: a run that was resumed there takes another way, so they are not its own."""
    for path in list_complete(run_dir):
        if _steps(path) > agent_steps:
            _delete(path)


def drop_arrays(path: Path) -> None:
    """Remove the NumPy arrays (the replay memory) of one complete checkpoint; its weights still load.

    A checkpoint without arrays stays as it is. To call it again is harmless, and ends what a kill cut short.
    """
    manifest = _manifest(path)
    with _told("drop the arrays of", path):
        arrays = [name for name in manifest["files"] if name.startswith(_ARRAYS)]
        if arrays:
            manifest["arrays_dropped"] = True
            for name in arrays:
                del manifest["files"][name]
            fresh = path / f".{_COMPLETE}.new"
            _write(fresh, lambda out: out.write(_dump(manifest, indent=1)))
            fresh.replace(path / _COMPLETE)
            # The manifest must be on disk before the first array goes, or a power cut could leave the old one.
            _sync_folder(path)
        if (path / _ARRAYS).is_dir():
            shutil.rmtree(path / _ARRAYS)


# ---------------------------------------------------------------------------------------------------- public: reading


def list_complete(run_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first (none if the run has not saved yet).

    Where a replacement was killed half-way this includes the `.old-step_...` folder of that step.
    """
    folder = run_dir / "checkpoints"
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:  # ".old-step" sorts before "step", which then wins
        if (match := _STEP.fullmatch(path.name)) and _is_complete(path):
            found[int(match[1])] = path
    return [found[steps] for steps in sorted(found)]


def find(path: Path, resumable: bool = False) -> Path:
    """The checkpoint meant by `path`: the newest complete one of a run folder, or the checkpoint folder itself.

    `resumable`: the newest of a run folder that still has its arrays.

    Raises UsageError that says what was expected if `path` is neither.
    """
    with _told("read", path):
        if _is_complete(path):
            return path
        if _STEP.fullmatch(path.name) and _is_complete(aside := path.with_name(f".old-{path.name}")):
            return aside
        if not path.exists():
            raise UsageError(_does_not_exist(path))
        if not path.is_dir():
            raise UsageError(f"{path} is a file; expected a run folder or a checkpoint folder")
        if _STEP.fullmatch(path.name):
            raise UsageError(f"{path} is not a complete checkpoint: no {_COMPLETE} in it{_instead(path, False)}")
        if path.name == "checkpoints":
            raise UsageError(f"{path} is not a run folder: give the folder above it, or one of the checkpoints in it")
        if not (path / "checkpoints").is_dir():
            if stages := [folder for folder in sorted(path.glob("[0-9]_*")) if list_complete(folder)]:
                return find(stages[-1], resumable)  # of a run in stages
            raise UsageError(f"{path} is not a run folder: no checkpoints/ in it")
        if not (complete := list_complete(path)):
            raise UsageError(f"{path} has no complete checkpoint yet")
        if resumable and not any(_has_arrays(found) for found in complete):
            raise UsageError(f"{path} has no checkpoint to resume from: those it has hold weights for evaluation only")
        return [found for found in complete if not resumable or _has_arrays(found)][-1]


def load(path: Path, weights_only: bool = False) -> Checkpoint:
    """Read the checkpoint folder `path` after checking every file that is needed against the manifest.

    `weights_only` checks and reads the weights and state.json (for its metadata) and nothing else, so it also works
    where the arrays were dropped. Raises CheckpointError that names the file that is missing or differs, and
    another checkpoint of the run to use instead, if there is one.
    """
    manifest = _manifest(path)
    if manifest["arrays_dropped"] and not weights_only:
        raise CheckpointError(
            f"{path} holds weights for evaluation only: its arrays (the replay memory) were dropped, so it cannot be "
            f"resumed{_instead(path, False)}"
        )
    files: dict[str, dict[str, Any]] = manifest["files"]
    with _told("read", path):
        for name in (_WEIGHTS, _STATE) if weights_only else dict.fromkeys((_WEIGHTS, _TENSORS, _STATE, *files)):
            if reason := _differs(path, name, files.get(name)):
                raise CheckpointError(f"{path / name} {reason}{_instead(path, weights_only)}")
        try:
            document = json.loads((path / _STATE).read_bytes())
            tensors = {} if weights_only else _get_tensors(path / _TENSORS)
            return Checkpoint(
                path=path,
                agent_steps=document["agent_steps"],
                weights=_get_tensors(path / _WEIGHTS),
                state={} if weights_only else _unpack(document["state"], tensors, _array_reader(path, files)),
                metadata=_unpack(document["metadata"], {}, _array_reader(path, {})),
            )
        except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{path} cannot be read: {reason}{_instead(path, weights_only)}") from error


def load_weights_into(module: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    """Copy `weights` into `module`; raises CheckpointError with the first differences if they are of another net.

    `what` names the weights in the message, e.g. the path of their checkpoint. The module is unchanged on an error.
    """
    own = module.state_dict()
    differ = [f"{name} is missing" for name in own if name not in weights]
    differ += [f"{name} is unknown to this net" for name in weights if name not in own]
    differ += [
        f"{name} has shape {list(weights[name].shape)}, this net has {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise CheckpointError(f"{what} holds the weights of another net: {'; '.join(differ[:3])}{more}")
    module.load_state_dict(weights)


# ------------------------------------------------------------------------------------------------------ state <-> JSON


class _Packer:
    """Turns a nested state into JSON and collects its tensors and arrays (no copies) under unique names.

    What JSON lacks is an object with one key: $tensor, $array, $tuple, $int (hexadecimal), $float (nan, inf, -inf) and
    $items (a dict as pairs, where a key is an int or begins with "$", so that no user's dict looks like a reference).
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.arrays: dict[str, NDArray[Any]] = {}
        self.taken = {"__metadata__"}  # safetensors keeps that name for itself

    def pack(self, value: object, path: tuple[str, ...]) -> Json:
        # Exact types: a subclass (np.float64, an enum) would come back as something else without a word.
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if isinstance(value, int) and kind is int:
            return value if value.bit_length() < 64 else {"$int": hex(value)}  # decimal text is limited to 4300 digits
        if isinstance(value, float) and kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, Tensor):
            _check_tensor(value, _shown(path))
            name = self.name(path, r"A-Za-z0-9_.\-", "")
            self.tensors[name] = value
            return {"$tensor": name}
        if isinstance(value, np.ndarray) and kind in (np.ndarray, np.memmap):
            _check_array(value, _shown(path))
            name = self.name(path, r"A-Za-z0-9_\-", ".npy")
            self.arrays[name] = value
            return {"$array": name}
        if isinstance(value, tuple):
            return {"$tuple": [self.pack(item, (*path, str(i))) for i, item in enumerate(value)]}
        if isinstance(value, list):
            return [self.pack(item, (*path, str(i))) for i, item in enumerate(value)]
        if isinstance(value, dict):
            for key in value:
                if type(key) not in (str, int):
                    raise TypeError(f"{_shown(path)}: a key of a checkpoint's dict is a str or an int, got {key!r}")
            pairs = [(key, self.pack(item, (*path, str(key)))) for key, item in value.items()]
            if any(isinstance(key, int) or key.startswith("$") for key in value):
                return {"$items": [[self.pack(key, path), item] for key, item in pairs]}
            return dict(pairs)
        hint = " (call .item() first)" if isinstance(value, np.generic) else ""
        raise TypeError(
            f"{_shown(path)}: a checkpoint cannot hold a {kind.__module__}.{kind.__qualname__}{hint}; it holds dict, "
            "list, tuple, Tensor, ndarray, int, float, str, bool and None"
        )

    def name(self, path: tuple[str, ...], keep: str, suffix: str) -> str:
        """A new readable name made from `path` and the characters `keep`.

        It need not be reversible (state.json holds the keys), but unique, also where case does not count, and safe as a
        file name: arrays' names keep no dot, so that no folder can be called like a file.
        """
        plain = "/".join(re.sub(f"[^{keep}]", "_", part)[:100] or "_" for part in path)
        name, count = plain + suffix, 1
        while name.lower() in self.taken:
            count += 1
            name = f"{plain}~{count}{suffix}"
        self.taken.add(name.lower())
        return name


def _unpack(node: Json, tensors: dict[str, Tensor], array: Callable[[str], NDArray[Any]]) -> Any:
    """The inverse of `_Packer.pack`; ValueError or KeyError for anything that it does not write."""
    if isinstance(node, list):
        return [_unpack(item, tensors, array) for item in node]
    if not isinstance(node, dict):
        return node
    if not any(key.startswith("$") for key in node):
        return {key: _unpack(item, tensors, array) for key, item in node.items()}
    ((tag, content),) = node.items()
    match tag:
        case "$tensor":
            return tensors[content]
        case "$array":
            return array(content)
        case "$tuple":
            return tuple(_unpack(item, tensors, array) for item in content)
        case "$int":
            return int(content, 16)
        case "$float":
            return float(content)
        case "$items":
            return {_unpack(key, tensors, array): _unpack(item, tensors, array) for key, item in content}
    raise ValueError(f"unknown reference {tag} in {_STATE}")


def _shown(path: tuple[str, ...]) -> str:
    return "/".join(path) or "state"


def _check_tensor(tensor: Tensor, where: str) -> None:
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.dtype not in _DTYPES:
        raise TypeError(f"{where}: a checkpoint cannot hold a {tensor.layout} {tensor.dtype} tensor on {tensor.device}")


def _check_array(array: NDArray[Any], where: str) -> None:
    # Some dtypes (those of other packages) would be written as raw bytes and come back as such.
    dtype = array.dtype
    if dtype.hasobject or np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) != dtype:
        raise TypeError(f"{where}: a checkpoint cannot hold an array of dtype {dtype}")


# --------------------------------------------------------------------------------------------------------------- files


class _HashingFile:
    """A binary file that is hashed as it is written, so that it need not be read again."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        self.file.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)


def _write(path: Path, fill: Callable[[_HashingFile], object]) -> dict[str, Json]:
    """Create `path` and its folder, let `fill` write it, sync it; its entry in the manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = _HashingFile(path)
    with out.file:
        fill(out)
        out.file.flush()
        os.fsync(out.file.fileno())
    return {"bytes": out.size, "sha256": out.digest.hexdigest()}


def _dump(document: Json, indent: int | None = None) -> bytes:
    return json.dumps(document, indent=indent, allow_nan=False).encode("ascii")


def _array_writer(array: NDArray[Any]) -> Callable[[_HashingFile], None]:
    # NumPy writes to a file that is not its own kind in pieces of 16 MiB: no second copy of a large array.
    return lambda out: np.save(out, array, allow_pickle=False)


def _put_tensors(out: _HashingFile, tensors: dict[str, Tensor]) -> None:
    """Write the safetensors format: u64 length of the header, header (JSON), then the raw bytes of each tensor.

    The library's own writer holds all tensors in host memory at once, refuses those that share memory, hides a full
    disk behind its own exception and would have us read the file again to hash it.
    """
    # Widest first keeps every tensor aligned to its element, as the library does.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, offset = {}, 0
    for name in order:
        tensor = tensors[name]
        span = [offset, offset + tensor.nbytes]
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
        offset = span[1]
    text = _dump(header)
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little"))
    out.write(text)
    for name in order:
        flat = tensors[name].detach().cpu().resolve_neg().contiguous().reshape(-1)
        out.write(flat.view(torch.uint8).numpy().data)


def _get_tensors(path: Path) -> dict[str, Tensor]:
    # The library maps the file: copies let go of it (it may be deleted under us) and are aligned as any other tensor.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _array_reader(path: Path, files: Iterable[str]) -> Callable[[str], NDArray[Any]]:
    def read(name: str) -> NDArray[Any]:
        if _ARRAYS + name not in files:
            raise ValueError(f"{_STATE} refers to {_ARRAYS}{name}, which the manifest does not list")
        try:
            array = np.load(path / _ARRAYS / name, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{_ARRAYS}{name} is not a plain array ({error})") from error
        if not isinstance(array, np.ndarray):  # a zip archive opens as a dict of arrays
            raise ValueError(f"{_ARRAYS}{name} is not a plain array")
        return array

    return read


def _is_complete(path: Path) -> bool:
    return (path / _COMPLETE).is_file()


def _manifest(path: Path) -> dict[str, Any]:
    """COMPLETE of a checkpoint, its form checked; CheckpointError if there is none that this version can read."""
    try:
        manifest = json.loads((path / _COMPLETE).read_bytes())
        number = manifest["format"]
        if isinstance(number, int) and number > FORMAT:
            raise CheckpointError(f"{path} has checkpoint format {number}, this rlsuite reads up to {FORMAT}: upgrade rlsuite")
        if number != FORMAT or not isinstance(manifest["arrays_dropped"], bool):
            raise ValueError("its fields are not those of a manifest")
        for name, entry in manifest["files"].items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"it lists {name}, outside the checkpoint")
            if not isinstance(entry["bytes"], int) or not isinstance(entry["sha256"], str):
                raise ValueError(f"its entry of {name} is incomplete")
    except FileNotFoundError as error:
        instead = _instead(path, False)
        raise CheckpointError(f"{path} is not a complete checkpoint: no {_COMPLETE} in it{instead}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path / _COMPLETE} is damaged ({error}){_instead(path, False)}") from error
    return dict(manifest)


def _differs(path: Path, name: str, entry: dict[str, Any] | None) -> str:
    """What is wrong with a file of the checkpoint, "" if nothing."""
    file = path / name
    if entry is None:
        return f"is not listed in {_COMPLETE}"
    if not file.is_file():
        return "is missing"
    if (size := file.stat().st_size) != entry["bytes"]:
        return f"has {size} bytes, {entry['bytes']} were written"
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != entry["sha256"]:
            return "is not what was written (its sha256 differs)"
    return ""


# ------------------------------------------------------------------------------------------------------------- folders


def _put_in_place(temporary: Path, target: Path) -> None:
    """Rename a finished checkpoint to its name; what stood there is complete under one name or the other throughout."""
    aside = target.with_name(f".old-{target.name}")
    if target.exists():
        target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
    _sync_folder(target.parent)
    if aside.exists():
        with suppress(OSError):  # the new one is in place, and the next save deletes what is left
            _delete(aside)


def _tidy(folder: Path) -> None:
    """Clear what a killed save left: half-written folders go, an old checkpoint whose successor never came returns."""
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
    """Delete a checkpoint: first it stops being complete, then its files go."""
    (path / _COMPLETE).unlink(missing_ok=True)
    _sync_folder(path)
    shutil.rmtree(path)


def _sync_folder(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(number)


# -------------------------------------------------------------------------------------------------------------- errors


@contextmanager
def _told(what: str, path: Path) -> Iterator[None]:
    """Turns an OSError into a CheckpointError `cannot <what> <path>: <reason>`."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"cannot {what} {path}: {error.strerror or error} ({error.filename or path})") from error


def _why_not_saved(error: OSError, target: Path, need: int) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            advice = f"it needs about {need / 2**20:.1f} MiB beside the others: free space there"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            advice = "give yourself permission to write there"
        case _:
            advice = "check that disk"
    earlier = []
    with suppress(OSError):
        earlier = list_complete(target.parent.parent)
    previous = f"the previous checkpoint, {earlier[-1].name}, is untouched" if earlier else "no earlier one exists"
    at = f" ({error.filename})" if error.filename else ""
    return f"could not save {target}: {error.strerror or error}{at}; {advice}, or choose another --run-dir; {previous}"


def _instead(path: Path, weights_only: bool) -> str:
    """`; use <path> instead`: the newest older complete checkpoint of the run, else the newest; "" if there is none."""
    if len(path.parts) < 3:
        path = path.absolute()
    if path.parent.name != "checkpoints":
        return ""
    others = []
    with suppress(OSError):
        others = [other for other in list_complete(path.parent.parent) if other.name != path.name]
    if not weights_only:
        others = [other for other in others if _has_arrays(other)]
    older = [other for other in others if _steps(other) < _steps(path)]
    return f"; use {(older or others)[-1]} instead" if others else ""


def _steps(path: Path) -> int:
    """Agent steps by the folder's name; -1 for one that was renamed."""
    return int(match[1]) if (match := _STEP.fullmatch(path.name)) else -1


def _has_arrays(path: Path) -> bool:
    try:
        return json.loads((path / _COMPLETE).read_bytes())["arrays_dropped"] is False
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _does_not_exist(path: Path) -> str:
    missing = path.absolute()
    while not missing.parent.exists():
        missing = missing.parent
    names = [sibling.name for sibling in missing.parent.iterdir() if sibling.is_dir() and sibling.name[0] != "."]
    close = nearest(missing.name, names)
    hint = f"; did you mean {' or '.join(str(missing.parent / name) for name in close)}?" if close else ""
    return f"{path} does not exist{hint}"
