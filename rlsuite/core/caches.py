"""Where libraries keep what they compile: in a private temporary folder if this user has no cache folder to write to.

Numba refuses to compile a cached function that it can cache nowhere, as in a container whose packages are read-only and whose user
has no home. Matplotlib and Triton complain or fail.
"""

import os
import stat
import tempfile
from collections.abc import MutableMapping
from pathlib import Path


def set_up(environment: MutableMapping[str, str] = os.environ) -> None:
    """Names folders that can be written to in the environment, where the user's own cannot; before Numba compiles anything.

    What the environment names already, and can be written to, stays.
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
    """Whether a folder can be written to, or made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def private_folder() -> Path | None:
    """A temporary folder that only this user can write to, the same for all processes; None where nothing can be written.

    What lies in it is executed, so a folder that somebody else made is not taken.
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
