"""Checkpoints of a run: written whole or not at all, checked when read, and never a pickle.

    path = checkpoint.save(run_dir, agent_steps, net.state_dict(), {"optimizer": optimizer.state_dict()}, {"seed": 1})
    saved = checkpoint.load(checkpoint.find(run_dir, resumable=True))

`store` saves, finds and loads checkpoint folders, `codec` converts a nested state to JSON and back, `files` reads and writes
the individual files.
"""

from rlsuite.runs.checkpoint.codec import Json, State, check_weights, load_weights_into
from rlsuite.runs.checkpoint.store import Checkpoint, drop_arrays, find, forget_after, list_complete, load, prune, save, steps_of

__all__ = [
    "Checkpoint",
    "Json",
    "State",
    "check_weights",
    "drop_arrays",
    "find",
    "forget_after",
    "list_complete",
    "load",
    "load_weights_into",
    "prune",
    "save",
    "steps_of",
]
