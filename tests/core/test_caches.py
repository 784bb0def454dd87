"""Cache folders where the user has none to write to."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rlsuite.core import caches


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /tmp."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_home_that_can_be_written_to_is_left_alone(temporary: Path, tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "mine" / "later")}
    caches.set_up(environment)
    assert environment == {"XDG_CACHE_HOME": str(tmp_path / "mine" / "later")}
    assert not list(temporary.iterdir())
    assert not (tmp_path / "mine").exists()


def test_without_a_home_libraries_get_a_private_folder(temporary: Path, tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": "/dev/null/cache", "TRITON_CACHE_DIR": str(tmp_path), "MPLCONFIGDIR": "/dev/null/x"}
    caches.set_up(environment)
    (folder,) = temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert environment == {
        "XDG_CACHE_HOME": str(folder),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "torchinductor"),
        "TRITON_CACHE_DIR": str(tmp_path),
    }
    again = {"XDG_CACHE_HOME": "/dev/null/cache"}
    caches.set_up(again)
    assert again["XDG_CACHE_HOME"] == str(folder)  # what one process has compiled, the next one finds


@pytest.mark.parametrize("home", ["/dev/null", "~"])  # the latter: a user without an entry in /etc/passwd
def test_the_home_decides_without_the_variable(home: str, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", home))
    environment: dict[str, str] = {}
    caches.set_up(environment)
    assert Path(environment["XDG_CACHE_HOME"]).parent == temporary


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no owners of this kind")
def test_a_folder_that_others_can_write_to_is_not_taken(temporary: Path) -> None:
    first = caches.private_folder()
    assert first is not None
    assert caches.private_folder() == first
    first.chmod(0o777)
    other = caches.private_folder()
    assert other is not None
    assert other != first
    first.rmdir()
    first.symlink_to(other)
    assert caches.private_folder() not in (first, other)


def test_where_nothing_can_be_written_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    environment = {"XDG_CACHE_HOME": "/dev/null/cache"}
    caches.set_up(environment)
    assert environment == {"XDG_CACHE_HOME": "/dev/null/cache"}


def test_kernels_compile_where_neither_the_package_nor_the_home_can_be_written_to(tmp_path: Path) -> None:
    """Numba ended with "cannot cache function". The setting keeps it from writing beside the code, as a read-only package does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "NUMBA_", "MPL", "TORCHIND"))}
    environment |= {"HOME": "/dev/null", "TMPDIR": str(tmp_path), "NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator"}
    code = "import rlsuite; print(rlsuite.make_game('tic_tac_toe').new_state().legal_actions())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(tmp_path.rglob("rlsuite-kernels/*"))
