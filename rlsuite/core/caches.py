"""Cache folders for compiled code: a private temporary folder if the user has no writable cache folder.

Numba refuses to compile a cached function if it finds no folder for the cache, as in a container with read-only packages and a user
without a home. Matplotlib and Triton complain or fail.
"""

import os
import stat
import tempfile
from collections.abc import MutableMapping
from pathlib import Path


def set_up(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets cache folders in the environment variables if the user's own is not writable. Call it before Numba compiles anything.

    Variables that already name a writable folder stay as they are.
    """
    home = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if writable(Path(home)) and not home.startswith("~"):  # a user without a name has no home
        return
    folder = private_folder()
    if folder is None:
        return
    environment["XDG_CACHE_HOME"] = str(folder)  # Numba takes it where it cannot write beside the code, as its own default
    for name, place in {
        "MPLCONFIGDIR": "matplotlib",
        "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
        "TRITON_CACHE_DIR": "triton",
    }.items():
        if not writable(Path(environment.get(name) or home)):
            environment[name] = str(folder / place)


def writable(folder: Path) -> bool:
    """Whether a folder can be written to, or created."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def private_folder() -> Path | None:
    """A temporary folder that only this user can write to, usually the same for all processes; None if none can be made.

    Code in it is executed, so a folder of that name that somebody else has made, or could write to, is not used.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"rlsuite-cache-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            found = folder.lstat()
            ours = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
            if not (stat.S_ISDIR(found.st_mode) and ours):
                return Path(tempfile.mkdtemp(prefix="rlsuite-cache-"))
    except OSError:
        return None
    return folder
