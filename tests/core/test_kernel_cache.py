"""Compiled functions on disk: what is found again, what is compiled anew, and what becomes of a cache that is damaged."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import njit, objmode
from numba.extending import intrinsic

from rlsuite.core import kernel_cache
from rlsuite.core.kernel_cache import is_compiled, kernel

ONES = np.ones(3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, empty."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rlsuite-kernels"


def make(times: float, **options: Any) -> Any:
    """A closure over another one, as the kernels of a search are."""

    @njit(**options)
    def product(x: float) -> float:
        return x * times

    @kernel(**options)
    def total(values: Any) -> float:
        found = 0.0
        for value in values:
            found += product(value)
        return found

    return total


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def hits(function: Any) -> int:
    return sum(function.stats.cache_hits.values())


def test_a_closure_is_compiled_once() -> None:
    first, second, other = make(2.0), make(2.0), make(3.0)
    assert not is_compiled(first, ONES)
    assert first(ONES) == 6.0
    assert is_compiled(second, ONES)
    assert not is_compiled(second, np.ones(3, np.float32))
    assert not is_compiled(other, ONES)
    assert second(ONES) == 6.0
    assert (hits(first), hits(second)) == (0, 1)
    assert other(ONES) == 9.0
    assert hits(other) == 0


HELPER = """
from numba import njit
TABLE = (1.0, 2.0)
@njit
def helper(x, y=0.0):
    return x + TABLE[1] + y
"""
GAME = """
import helper as module
from helper import helper
from rlsuite.core.kernel_cache import kernel
SCALE = 2.0
@kernel()
def direct(x):
    return helper(x) * SCALE
@kernel()
def through_module(x):
    return module.helper(x) * SCALE
@kernel()
def constant(x):
    return x * module.TABLE[1]
"""


def load(monkeypatch: pytest.MonkeyPatch, helper: str, game: str) -> ModuleType:
    """The module of a game file that imports a helper's, both under the names they always have."""
    modules = {}
    for name, source in (("helper", helper), ("game", game)):
        modules[name] = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, modules[name])
        exec(source, vars(modules[name]))
    return modules["game"]


@pytest.mark.parametrize(
    ("helper", "game"),
    [
        (HELPER.replace("x + TABLE", "x - TABLE"), GAME),
        (HELPER.replace("2.0)", "3.0)"), GAME),
        (HELPER.replace("y=0.0", "y=1.0"), GAME),
        (HELPER.replace("@njit", "@njit(fastmath=True)"), GAME),
        (HELPER, GAME.replace("SCALE = 2.0", "SCALE = 2.5")),
        (HELPER, GAME.replace("SCALE = 2.0", "SCALE = 2")),
    ],
    ids=["code", "constant of the helper", "default", "options", "constant", "type of a constant"],
)
def test_what_a_helper_in_another_file_holds_counts(helper: str, game: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names, at = ("direct", "through_module", "constant"), 10.0
    before = load(monkeypatch, HELPER, GAME)
    assert [getattr(before, name)(at) for name in names] == [24.0, 24.0, 20.0]
    again = load(monkeypatch, HELPER, GAME)
    assert all(is_compiled(getattr(again, name), at) for name in names)
    changed = load(monkeypatch, helper, game)
    expected = [getattr(changed, name).py_func(at) for name in names]
    assert not is_compiled(changed.direct, at)
    assert not is_compiled(changed.through_module, at)
    assert [getattr(changed, name)(at) for name in names] == expected


def test_a_function_in_numbas_own_cache_is_not_outdated(tmp_path: Path) -> None:
    """Numba looks only at the file of a function with `cache=True`, not at those of the functions that it calls."""
    helper = tmp_path / "helper.py"
    (tmp_path / "game.py").write_text(
        GAME.replace("@kernel()\ndef direct", "from numba import njit\n@njit(cache=True)\ndef direct")
    )
    code = "import game; from rlsuite.core.kernel_cache import keep; print(keep(game.direct)(10.0))"
    found = []
    for source in (HELPER, HELPER.replace("x + TABLE", "x - TABLE")):
        helper.write_text(source)
        found.append(python(code, tmp_path))
    assert found == ["24.0\n", "16.0\n"]


class Before(NamedTuple):
    """Settings of a search, as an argument."""

    first: float
    second: float


def test_the_fields_of_an_argument_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions of a class have one name and the same types, in another order."""

    class After(NamedTuple):
        second: float
        first: float

    def first() -> Any:
        @kernel()
        def read(settings: Any) -> float:
            return settings.first  # type: ignore[no-any-return]

        return read

    assert first()(Before(1.0, 2.0)) == 1.0
    After.__name__ = After.__qualname__ = "Before"
    assert not is_compiled(first(), After(1.0, 2.0))
    assert first()(After(1.0, 2.0)) == 2.0


def test_generated_code_counts() -> None:
    """What an intrinsic generates depends on its function, and on what that is a closure over."""

    def of(which: Any) -> Any:
        @intrinsic
        def chosen(context: Any, x: Any, y: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                return arguments[which]

            return x(x, x), generate

        @kernel()
        def call(x: float, y: float) -> float:
            return chosen(x, y)  # type: ignore[no-any-return]

        return call

    assert of(0)(1.0, 2.0) == 1.0
    assert is_compiled(of(0), 1.0, 2.0)
    assert not is_compiled(of(1), 1.0, 2.0)
    assert of(1)(1.0, 2.0) == 2.0


def ask(x: float) -> float:
    return 2 * x


def test_calls_into_python_and_recursions_are_compiled_in_every_process(folder: Path) -> None:
    """The address of a Python function is that of this process; numba's own cache breaks with recursions."""

    def asking() -> Any:
        @kernel()
        def asks(x: float) -> float:
            with objmode(found="float64"):
                found = ask(x)
            return found

        return asks

    def recursive() -> Any:
        @kernel()
        def count(n: int) -> int:
            return 0 if n == 0 else 1 + count(n - 1)  # type: ignore[no-any-return]

        return count

    for made in (asking, recursive):
        first, second = made(), made()
        assert first(3) in (3, 6.0)
        assert not is_compiled(second, 3)
        assert second(3) in (3, 6.0)
    assert files(folder) == []


@pytest.mark.parametrize("keeps", [0, 10, 60, 100, -1], ids="first {} bytes".format)
def test_a_file_that_is_not_whole_is_replaced(keeps: int, folder: Path) -> None:
    make(2.0)(ONES)
    whole = {path: path.read_bytes() for path in files(folder)}
    for path, content in whole.items():
        path.write_bytes(content[:keeps])
    found = make(2.0)
    assert not is_compiled(found, ONES)
    assert found(ONES) == 6.0
    assert hits(found) == 0
    assert is_compiled(make(2.0), ONES)


def test_a_file_with_a_wrong_byte_or_under_another_name_is_replaced(folder: Path) -> None:
    make(2.0)(ONES)
    for path in files(folder):
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
    assert make(2.0)(ONES) == 6.0
    made = {path: path.read_bytes() for path in files(folder)}
    make(3.0)(ONES)
    for path in set(files(folder)) - made.keys():
        path.write_bytes(next(iter(made.values())))
    assert make(3.0)(ONES) == 9.0


def test_what_cannot_be_loaded_is_compiled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(2.0)(ONES)
    with monkeypatch.context() as patch:
        patch.setattr(kernel_cache.pickle, "loads", lambda content: ())
        assert make(2.0)(ONES) == 6.0


def fails(*arguments: Any, **more: Any) -> Any:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["mkstemp", "replace", "mkdir"])
def test_a_full_disk_costs_only_time(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr({"mkstemp": tempfile, "replace": os, "mkdir": Path}[name], name, fails)
    kernel_cache._own.cache_clear()
    assert make(2.0)(ONES) == make(2.0)(ONES) == 6.0
    assert files(folder) == []  # nothing half written is left
    kernel_cache._own.cache_clear()


@pytest.mark.parametrize("home", ["/dev/null/cache", "relative"])
def test_without_a_folder_everything_works(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert make(2.0)(ONES) == make(2.0)(ONES) == 6.0
    assert not is_compiled(make(2.0), ONES)
    assert not Path(home).exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no owners of this kind")
def test_what_others_can_write_to_is_not_executed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(2.0)(ONES)
    for path in files(folder):
        path.chmod(0o660)
    assert not is_compiled(make(2.0), ONES)
    assert make(2.0)(ONES) == 6.0
    assert is_compiled(make(2.0), ONES)  # replaced by files of our own
    folder.chmod(0o777)
    kernel_cache._own.cache_clear()
    before = files(folder)
    assert not is_compiled(make(2.0), ONES)
    assert make(5.0)(ONES) == 15.0
    assert files(folder) == before
    folder.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    kernel_cache._own.cache_clear()
    assert not is_compiled(make(2.0), ONES)


def test_the_least_recently_used_files_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(2.0)(ONES)
    old = files(folder)
    for path in old:
        os.utime(path, (0, 0))
    assert is_compiled(make(2.0), ONES)  # the closure's file is in use again, that of what it calls is not
    (unused,) = (path for path in old if path.stat().st_mtime == 0)
    monkeypatch.setattr(kernel_cache, "LIMIT", 2 * sum(path.stat().st_size for path in old) - 1000)
    make(3.0)(ONES)
    assert set(old) - set(files(folder)) == {unused}
    assert sum(path.stat().st_size for path in files(folder)) <= kernel_cache.LIMIT


def python(code: str, place: Path, count: int = 1) -> str:
    """What `count` processes at once print, all the same."""
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=place) for _ in range(count)]
    printed = {process.communicate()[0] for process in running}
    assert {process.returncode for process in running} == {0}
    (text,) = printed
    return text


# A function that is too large to be inlined is called by its name. In a third process, which loads what two others have compiled,
# that name must lead to the right one.
_LINE = "        for j in range(n + {0}): s = np.sin(s + {0}) * k if j % ({0} + 2) else np.cos(s) / (1 + k)\n"
LARGE = f"""
import sys, numpy as np
from rlsuite.core.kernel_cache import kernel, is_compiled
def make(k):
    @kernel()
    def inner(x, n):
        s = x
{"".join(_LINE.format(i) for i in range(12))}        return s
    @kernel()
    def outer(x, n):
        return {" + ".join(f"inner(x + {i}, n + {i})" for i in range(8))}
    return outer
"""


def test_functions_of_two_processes_do_not_meet(tmp_path: Path) -> None:
    """With numba's own numbers, `make(7)` called what `make(5)` calls."""
    one, other = (python(f"{LARGE}\nprint(make({k})(1.0, 1))", tmp_path) for k in (5, 7))
    assert one != other
    both = python(f"{LARGE}\nfor k in (5, 7): made = make(k); assert is_compiled(made, 1.0, 1); print(made(1.0, 1))", tmp_path)
    assert both == one + other


def test_processes_that_write_at_once(folder: Path, tmp_path: Path) -> None:
    python(f"{LARGE}\nprint(make(5)(1.0, 1))", tmp_path, count=2)
    assert len(files(folder)) == 2
    python(f"{LARGE}\nassert is_compiled(make(5), 1.0, 1)", tmp_path)


WATCHED = """
import sys
from numba.core import event
import rlsuite
from rlsuite.search import Puct, compiled
listener = event.RecordingListener()
with event.install_listener("numba:compile", listener):
    game = rlsuite.make_game(sys.argv[1])
    known = compiled(game, Puct)
    state = game.new_state().apply(0)
    rlsuite.search(game, state, "rollout", simulations=20)
    state.observation(), state.legal_actions()
print(known, len(listener.buffer) // 2)
"""


def game_process(name: str, place: Path) -> tuple[bool, int]:
    """Whether a process knew a search of the game to be compiled, and how many functions it has compiled."""
    done = subprocess.run([sys.executable, "-c", WATCHED, name], stdout=subprocess.PIPE, text=True, cwd=place, check=True)
    known, compiled = done.stdout.split()
    return known == "True", int(compiled)


def test_a_second_process_compiles_nothing(tmp_path: Path, guide_game: Callable[[Path], Path]) -> None:
    """Not for a game in a file, until a file that it imports has changed."""
    own = guide_game(tmp_path)
    for size in (5, 4):
        (tmp_path / "sizes.py").write_text(f"N = {size}\n")
        known, compiled = game_process(own.name, tmp_path)
        assert not known
        assert compiled > 0
        assert game_process(own.name, tmp_path) == (True, 0)


@pytest.fixture
def guide_game() -> Callable[[Path], Path]:
    """Writes the game of docs/own-game.md, which takes its size from another file."""

    def write(place: Path) -> Path:
        guide = (Path(__file__).resolve().parents[2] / "docs" / "own-game.md").read_text()
        source = guide.split("```python\n", 1)[1].split("```", 1)[0]
        path = place / "col.py"
        path.write_text(source.replace("N = 5", "from sizes import N"))
        return path

    return write
