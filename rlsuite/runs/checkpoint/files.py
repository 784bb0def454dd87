"""The files of a checkpoint, hashed while they are written and checked against the manifest when they are read."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from rlsuite.runs.checkpoint.codec import DTYPES, Json

WEIGHTS = "weights.safetensors"
TENSORS = "tensors.safetensors"
ARRAYS = "arrays/"
STATE = "state.json"
COMPLETE = "COMPLETE"


class HashingFile:
    """A binary file that is hashed as it is written, so that it need not be read again to compute its digest."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of `data` and returns its size in bytes."""
        self.file.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)


def write(path: Path, fill: Callable[[HashingFile], object]) -> dict[str, Json]:
    """Creates the file `path` and its folder, calls `fill` to write the file, and syncs it; returns its manifest entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = HashingFile(path)
    with out.file:
        fill(out)
        out.file.flush()
        os.fsync(out.file.fileno())
    return {"bytes": out.size, "sha256": out.digest.hexdigest()}


def dump(document: Json, indent: int | None = None) -> bytes:
    """The document as standard JSON in ASCII."""
    return json.dumps(document, indent=indent, allow_nan=False).encode("ascii")


def array_writer(array: NDArray[Any]) -> Callable[[HashingFile], None]:
    """A `fill` function for `write` that writes the array as .npy."""
    # NumPy writes to our file object in pieces of 16 MiB, so a large array is not copied.
    return lambda out: np.save(out, array, allow_pickle=False)


def put_tensors(out: HashingFile, tensors: dict[str, Tensor]) -> None:
    """Writes the safetensors format: u64 length of the header, header (JSON), then the raw bytes of each tensor.

    The library's own writer holds all tensors in host memory at once, refuses those that share memory, and wraps a full disk's
    error in an exception of its own; the file would also have to be read again to be hashed.
    """
    # Widest first keeps every tensor aligned to its element, as the library does.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, offset = {}, 0
    for name in order:
        tensor = tensors[name]
        span = [offset, offset + tensor.nbytes]
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
        offset = span[1]
    text = dump(header)
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little"))
    out.write(text)
    for name in order:
        flat = tensors[name].detach().cpu().resolve_neg().contiguous().reshape(-1)
        out.write(flat.view(torch.uint8).numpy().data)


def get_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    # The library maps the file: copies do not depend on it (it may be deleted) and are aligned like any other tensor.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def array_reader(path: Path, files: Iterable[str]) -> Callable[[str], NDArray[Any]]:
    """A function from the name of an array to the array; ValueError if `files` (the manifest) lacks it or it is not plain."""

    def read(name: str) -> NDArray[Any]:
        if ARRAYS + name not in files:
            raise ValueError(f"{STATE} refers to {ARRAYS}{name}, which the manifest does not list")
        try:
            array = np.load(path / ARRAYS / name, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{ARRAYS}{name} is not a plain array ({error})") from error
        if not isinstance(array, np.ndarray):  # a zip archive opens as a dict of arrays
            raise ValueError(f"{ARRAYS}{name} is not a plain array")
        return array

    return read


def differs(path: Path, name: str, entry: dict[str, Any] | None) -> str:
    """How a file of the checkpoint differs from its manifest `entry`; "" if it does not."""
    file = path / name
    if entry is None:
        return f"is not listed in {COMPLETE}"
    if not file.is_file():
        return "is missing"
    if (size := file.stat().st_size) != entry["bytes"]:
        return f"has {size} bytes, {entry['bytes']} were written"
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != entry["sha256"]:
            return "is not what was written (its sha256 differs)"
    return ""


def sync_folder(path: Path) -> None:
    """Syncs the entries of a folder to disk, where the file system can."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync folders
            raise
    finally:
        os.close(number)
