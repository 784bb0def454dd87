"""Errors of reading and writing in one line, and files that are replaced whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from rlsuite.core.errors import CheckpointError, RlsuiteError, UsageError
from rlsuite.core.files import atomic_write, reading, replacing, writing


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EROFS, "give yourself permission to write there"),
        (errno.ENOTDIR, "remove what is in the way"),
        (errno.EIO, "check that disk"),
    ],
)
def test_a_failed_write_says_what_to_do(number: int, advice: str) -> None:
    with pytest.raises(RlsuiteError) as caught, writing(Path("runs/x"), ", or choose another --run-dir"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"cannot write runs/x: {os.strerror(number)}; {advice}, or choose another --run-dir"
    assert not isinstance(caught.value, UsageError)


def test_the_file_that_failed_is_named_where_it_is_another() -> None:
    for name, shown in (("a/b", ""), ("a/c", ""), ("d/e", " (d/e)")):
        with pytest.raises(CheckpointError) as caught, writing(Path("a/b"), action="delete", kind=CheckpointError):
            raise OSError(errno.EIO, "Input/output error", name)
        assert str(caught.value) == f"cannot delete a/b: Input/output error{shown}; check that disk"


def test_a_failed_read_is_the_users(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^cannot read .*none: No such file or directory$"), reading(tmp_path / "none"):
        (tmp_path / "none").read_bytes()


def test_atomic_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    atomic_write(path, "é")
    assert path.read_text() == "é"
    atomic_write(path, b"second")
    assert path.read_bytes() == b"second"
    assert [each.name for each in path.parent.iterdir()] == ["b.json"]
    with pytest.raises(RlsuiteError, match=r"cannot write .*b\.json/c: .*; remove what is in the way"):
        atomic_write(path / "c", "")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "b.json"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as beside:
            assert beside.suffix == ".json"  # writers of pictures and videos go by it
            beside.write_text("new")
            raise error

    with pytest.raises(RlsuiteError if isinstance(error, OSError) else type(error)):
        fail()
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["b.json"]
