"""Reading and writing files, with errors that name the file and with atomic replacement.

    with writing(folder, ", or choose another --run-dir"):
        folder.mkdir()  # OSError -> RlsuiteError: cannot write FOLDER: File exists; remove what is in the way, or choose ...
    atomic_write(folder / "run.json", text)
    with replacing(folder / "curves.png") as beside:
        figure.savefig(beside)

Errors name the file and what to do. If the process is killed, the old file or the new one is there, whole.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlsuite.core.errors import RlsuiteError, UsageError


@contextmanager
def writing(path: Path, more: str = "", *, action: str = "write", kind: type[RlsuiteError] = RlsuiteError) -> Iterator[None]:
    """Turns an OSError into a `kind` of error: `cannot write PATH: reason; what to do`.

    `more` is appended to the advice, e.g. ", or choose another --run-dir"; `action` replaces "write", e.g. by "delete".
    """
    try:
        yield
    except OSError as error:
        raise kind(f"cannot {action} {path}: {reason(error, path)}; {remedy(error)}{more}") from error


@contextmanager
def reading(path: Path, *, kind: type[RlsuiteError] = UsageError) -> Iterator[None]:
    """Turns an OSError into a `kind` of error: `cannot read PATH: reason`."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot read {path}: {reason(error, path)}") from error


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON document. ValueError for anything else, also for one that is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


@contextmanager
def replacing(path: Path, more: str = "") -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to, and then moves it to `path`: a kill leaves the old file or the new one.

    Makes parent folders. Leaves nothing behind on an error; an OSError becomes a RlsuiteError as in `writing`.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")  # some writers choose the format by the suffix
    with writing(path, more):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            with open(beside, "rb+") as file:  # on disk before it takes the place of the old one
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def atomic_write(path: Path, data: str | bytes, more: str = "") -> None:
    """Writes `data` (text as UTF-8) to `path` by way of `replacing`, so that a kill leaves the old file or the new one."""
    with replacing(path, more) as beside:
        beside.write_bytes(data.encode() if isinstance(data, str) else data)


def reason(error: OSError, path: Path) -> str:
    """The operating system's reason for an error, and the file that it is about unless that is `path` or in the same folder."""
    text = error.strerror or str(error) or type(error).__name__
    other = isinstance(error.filename, str | os.PathLike) and Path(error.filename).parent != path.parent
    return f"{text} ({error.filename})" if other else text


def remedy(error: OSError) -> str:
    """What a user can do about a failed write, e.g. `free space there`."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "free space there"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "give yourself permission to write there"
        case errno.EEXIST | errno.ENOTDIR | errno.EISDIR:
            return "remove what is in the way"
        case errno.ENOENT:
            return "check the path"
        case _:
            return "check that disk"
