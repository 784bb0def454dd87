"""Checkpoints of a run: written whole or not at all, checked when read, and never a pickle.

`store` saves, finds and loads checkpoint folders, `codec` turns a nested state into JSON and back, `files` reads and writes
the single files.
"""

from rlsuite.runs.checkpoint.codec import Json, State, load_weights_into
from rlsuite.runs.checkpoint.store import Checkpoint, drop_arrays, find, forget_after, list_complete, load, prune, save

__all__ = [
    "Checkpoint",
    "Json",
    "State",
    "drop_arrays",
    "find",
    "forget_after",
    "list_complete",
    "load",
    "load_weights_into",
    "prune",
    "save",
]
