"""A disk cache of compiled numba functions, also for closures over a game's rules, which `cache=True` compiles in every process.

    @kernel(nogil=True, error_model="numpy")   # takes the options of `njit`
    def encode_all(rows, planes): ...

A file is named by a digest of everything that compiled code depends on: the bytecode, options and constants of the function and of
all functions that it calls, in any module, the types of its arguments, the versions of numba, llvmlite, NumPy and Python, and the
CPU. So edited code is compiled again, and no file ever has to be removed by hand. Functions that cannot be described this way, such
as those that call into Python, are compiled in every process. A cache that cannot be read or written costs only time.

A file is a header, which is checked first, and a pickle. Only folders and files that pass `_private` are read.
"""

import dis
import hashlib
import os
import pickle
import platform
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np
from numba import core, extending
from numba.core import bytecode, caching, compiler, dispatcher, serialize

from rlsuite.version import __version__

F = TypeVar("F", bound=Callable[..., Any])
config: Any = core.config
types: Any = core.types
Dispatcher: Any = dispatcher.Dispatcher
CompileResult: Any = compiler.CompileResult
Intrinsic: Any = type(extending.intrinsic(lambda context: None))
dumps: Any = serialize.dumps

LIMIT = 256 << 20  # bytes of all files; the least recently used are removed
_MAGIC = b"rlsuite kernel 1"
_KNOWN = ("numpy", "numba", "math", "cmath", "builtins", "typing")  # packages whose contents are fixed by a version in the digest
_SETTINGS = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "ENABLE_AVX", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE", "USING_SVML")

# Compiled functions are linked by names that end in a number. Numba counts these from 1 in each process, so functions compiled in
# two processes can have the same name, and a third process that loads both calls the wrong one. Random numbers do not collide.
bytecode.FunctionIdentity._unique_ids = iter(lambda: int.from_bytes(os.urandom(8), "little") >> 1, None)  # type: ignore[assignment]


class _NotCacheable(Exception):
    """A function depends on something that a digest cannot describe."""


def kernel(**options: Any) -> Callable[[F], F]:
    """A decorator like `numba.njit(**options)` that caches compiled functions on disk."""
    return lambda function: keep(numba.njit(**options)(function))


def keep(function: F) -> F:
    """Gives an `njit` function this disk cache in place of numba's own; any other function stays as it is. Returns the function."""
    compiled: Any = function
    if isinstance(compiled, Dispatcher) and not isinstance(compiled._cache, _KernelCache):
        compiled._cache = _KernelCache(compiled)
    return function


def is_compiled(function: Any, *arguments: Any) -> bool:
    """Whether an `njit` function is already compiled for these arguments, in this process or on disk."""
    if not isinstance(function, Dispatcher):
        return True  # NUMBA_DISABLE_JIT
    signature = tuple(function.typeof_pyval(argument) for argument in arguments)
    if signature in function.overloads:
        return True
    return isinstance(function._cache, _KernelCache) and function._cache.read(signature, function.targetctx) is not None


class _KernelCache(caching._Cache):
    """The disk cache of one dispatcher, with the interface that numba's compiler expects."""

    def __init__(self, dispatcher: Any):
        self.dispatcher, self.digest = dispatcher, ""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for these argument types; None if it is not cached or cannot be loaded."""
        target_context.refresh()
        found = self.read(sig, target_context)
        if found is None:
            return None
        with suppress(Exception):  # any error from a damaged or foreign file: the function is then compiled
            return CompileResult._rebuild(target_context, *pickle.loads(found))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Writes a compiled function to the cache, completely or not at all."""
        folder, key = _folder(), self._key(sig, data.target_context)
        if folder is None or key is None or data.lifted or data.library.has_dynamic_globals:
            return
        with suppress(Exception):  # a full disk, a folder that has gone, constants that cannot be pickled
            payload = dumps(data._reduce())
            with suppress(OSError):  # another process may remove files, too
                _make_room(folder, len(payload))
            handle, temporary = tempfile.mkstemp(dir=folder)  # only this user can read or write it
            try:
                with open(handle, "wb") as file:
                    file.write(_MAGIC + key + hashlib.sha256(payload).digest() + payload)
                os.replace(temporary, folder / key.hex())
            except BaseException:
                os.unlink(temporary)
                raise

    def read(self, sig: Any, target_context: Any) -> bytes | None:
        """The pickle of a compiled function; None if it is missing, incomplete, or not private to this user."""
        folder, key = _folder(), self._key(sig, target_context)
        if folder is None or key is None:
            return None
        begin = _MAGIC + key
        with suppress(OSError), open(folder / key.hex(), "rb") as file:
            if not _private(os.fstat(file.fileno())):
                return None
            content = file.read()
            payload = content[len(begin) + 32 :]
            if content.startswith(begin) and content[len(begin) :][:32] == hashlib.sha256(payload).digest():
                with suppress(OSError):
                    os.utime(file.name)  # it is in use: `_make_room` removes others first
                return payload
        return None

    def _key(self, sig: Any, target_context: Any) -> bytes | None:
        """The digest that identifies the compiled function for these argument types; None if it cannot be cached."""
        with suppress(_NotCacheable, AttributeError, TypeError, ValueError):
            if not self.digest:
                description = _Description()
                description.value(self.dispatcher)
                self.digest = description.hash.hexdigest()
            description = _Description()
            description.add(self.digest, *_machine(target_context))
            for argument in sig:
                description.numba_type(argument)
            return description.hash.digest()
        return None

    @property
    def cache_path(self) -> str | None:
        """The cache folder; None if there is none."""
        folder = _folder()
        return None if folder is None else str(folder)

    def enable(self) -> None:
        """Does nothing, like `disable` and `flush`, which are part of numba's interface."""

    disable = flush = enable


def _folder() -> Path | None:
    """The folder of compiled functions, private to this user; None if there is none."""
    homes = (config.CACHE_DIR, os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    found = (_own(os.path.join(home, "rlsuite-kernels")) for home in homes if os.path.isabs(home))
    return next((folder for folder in found if folder is not None), None)


@cache
def _own(name: str) -> Path | None:
    folder = Path(name)
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and _private(status):
            return folder
    return None


def _private(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user and nobody else can write to it, as its contents are executed."""
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)


def _make_room(folder: Path, size: int) -> None:
    """Removes the least recently used files until `size` more bytes fit within LIMIT."""
    files = sorted(((entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(folder)), reverse=True)
    for _, taken, path in files:
        size += taken
        if size > LIMIT:
            os.unlink(path)


def _machine(target_context: Any) -> Iterator[str]:
    """Yields what compiled code depends on besides its source: versions, the CPU and numba's settings."""
    yield from (__version__, numba.__version__, llvmlite.__version__, np.__version__, platform.python_version())
    yield from (platform.python_implementation(), str(target_context.codegen().magic_tuple()))
    yield from (f"{name}={getattr(config, name, None)}" for name in _SETTINGS)


class _Description:
    """A digest of values, functions and types."""

    def __init__(self) -> None:
        self.hash, self.seen = hashlib.sha256(), dict[tuple[int, ...], int]()
        self.within = list[Any]()  # functions that are being described

    def add(self, *parts: str | bytes) -> None:
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            self.hash.update(len(data).to_bytes(8, "little") + data)

    def value(self, value: Any) -> None:
        """Adds a constant, or something that a compiled function calls."""
        if isinstance(value, Dispatcher):
            self._dispatcher(value)
        elif isinstance(value, Intrinsic):
            self._function(value._defn)
        elif isinstance(value, CodeType):
            self._code(value)
        elif value is None or value is Ellipsis or isinstance(value, bool | int | float | complex | str | bytes):
            self.add(type(value).__name__, repr(value))
        elif isinstance(value, np.ndarray | np.generic):
            if value.dtype.hasobject:
                raise _NotCacheable
            self.add("array", repr(value.dtype), str(value.shape), value.tobytes())
        elif isinstance(value, np.dtype):
            self.add("dtype", repr(value))
        elif isinstance(value, tuple | list):
            self._named(type(value))
            self.values(value)
        elif isinstance(value, frozenset | set | dict):
            self.add(type(value).__name__)
            self.values(sorted(value.items() if isinstance(value, dict) else value, key=repr))
        elif isinstance(value, types.Type):
            self.numba_type(value)
        elif isinstance(value, type):
            self._named(value)
        elif isinstance(value, ModuleType) and _known(value.__name__):
            self.add("module", value.__name__)
        elif isinstance(value, np.ufunc) or (hasattr(value, "__name__") and _known(value.__module__)):
            self.add("function", value.__name__)
        else:
            raise _NotCacheable  # such as a Python function

    def values(self, values: Any) -> None:
        self.add(str(len(values)))
        for value in values:
            self.value(value)

    def numba_type(self, one: Any) -> None:
        """Adds the numba type of an argument or a constant."""
        if isinstance(one, types.BaseTuple):
            if isinstance(one, types.BaseNamedTuple):
                self._named(one.instance_class)
            self.add("tuple", str(len(one.types)))
            for part in one.types:
                self.numba_type(part)
        elif isinstance(one, types.Array):
            self.add("array", str(one))
            self.numba_type(one.dtype)
        elif isinstance(one, types.Number | types.Boolean | types.Record | types.NoneType | types.UnicodeType | types.Omitted):
            self.add(type(one).__name__, str(one))
        elif isinstance(one, types.ExternalFunction):  # found by its name when it is loaded
            self.add("external", one.symbol, str(one.sig))
        else:
            raise _NotCacheable

    def _again(self, *what: Any) -> bool:
        """Whether these objects have been described before; adds their number."""
        before = len(self.seen)
        number = self.seen.setdefault(tuple(map(id, what)), before)
        self.add("object", str(number))
        return number < before

    def _named(self, one: type) -> None:
        """Adds a class: a named tuple with its fields, an exception, or a class of one of the `_KNOWN` packages."""
        if not (hasattr(one, "_fields") or issubclass(one, BaseException) or _known(one.__module__)):
            raise _NotCacheable
        self.add("class", one.__module__, one.__qualname__, *getattr(one, "_fields", ()))

    def _dispatcher(self, one: Any) -> None:
        if one in self.within:
            raise _NotCacheable  # recursion: loading it crashes the process with numba 0.68
        if self._again(one):
            return
        self.within.append(one)
        keep(one)  # numba's own cache does not notice changes to functions in other files
        self.value(one.targetoptions)
        self.value(one.locals)
        self._function(one.py_func)
        self.within.pop()

    def _function(self, function: Any) -> None:
        self.add("compiled", function.__module__, function.__qualname__)
        self.values(function.__defaults__ or ())
        self.value(function.__kwdefaults__)
        self._code(function.__code__)
        try:
            self.values([cell.cell_contents for cell in function.__closure__ or ()])
        except ValueError as error:  # a cell that is still empty
            raise _NotCacheable from error
        self._globals(function.__code__, function.__globals__)

    def _code(self, code: CodeType) -> None:
        if "objmode" in code.co_names:
            raise _NotCacheable  # calls Python by addresses of this process
        self.add("code", code.co_code, code.co_exceptiontable, str((code.co_argcount, code.co_kwonlyargcount, code.co_flags)))
        self.values((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))
        self.values(code.co_consts)

    def _globals(self, code: CodeType, names: dict[str, Any]) -> None:
        """Adds the values of the globals that a function reads."""
        for read in sorted({at.argval for at in dis.get_instructions(code) if at.opname in ("LOAD_GLOBAL", "LOAD_NAME")}):
            self.add("global", read)
            if read in names:
                self._member(names[read], code)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._globals(constant, names)

    def _member(self, value: Any, code: CodeType) -> None:
        """Adds a global's value; for a module, its members whose names the function uses."""
        if not isinstance(value, ModuleType) or _known(value.__name__):
            self.value(value)
            return
        if self._again(value, code):
            return
        for name in sorted(set(code.co_names) & vars(value).keys()):
            self.add("attribute", name)
            self._member(vars(value)[name], code)


def _known(module: str) -> bool:
    return module.partition(".")[0] in _KNOWN
