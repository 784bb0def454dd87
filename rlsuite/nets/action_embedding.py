"""Files of action vectors, and loading them into a net (`net.action_embedding_from`). Shapes: A actions, D numbers per vector."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from rlsuite.core.errors import UsageError, one_line
from rlsuite.core.files import atomic_write, reading
from rlsuite.core.types import EnvSpec
from rlsuite.nets.memory import LastActionReward

_NAME = "vectors"


class ActionVectors(NamedTuple):
    """A vector for each action, as stored in a file."""

    vectors: NDArray[np.float32]  # [A,D]
    game: str | None  # the board game, as `make_game` takes it; None: the file does not say


def write(path: Path, found: ActionVectors) -> None:
    """Writes action vectors to a safetensors file."""
    metadata = {} if found.game is None else {"game": found.game}
    atomic_write(path, save({_NAME: np.ascontiguousarray(found.vectors, np.float32)}, metadata))


def read(path: Path) -> ActionVectors:
    """Reads a safetensors file with a float32 tensor "vectors" [A,D], such as `write` writes. UsageError for anything else."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a file of rlsuite embed")
    try:
        with reading(path), safe_open(path, "numpy") as file:
            game, vectors = (file.metadata() or {}).get("game"), file.get_tensor(_NAME)
    except SafetensorError as error:
        raise UsageError(f"{path} is not a file of rlsuite embed: {one_line(error)}") from error
    if vectors.ndim != 2 or vectors.dtype != np.float32 or not np.isfinite(vectors).all():
        raise UsageError(f"{path}: {_NAME} must be finite float32 [actions,width], not {vectors.dtype} {list(vectors.shape)}")
    return ActionVectors(vectors, game)


@torch.no_grad()
def load_into(net: nn.Module, path: Path, spec: EnvSpec) -> None:
    """Loads a file's vectors into the last-action embedding of `net`. UsageError if their game, number or width differs."""
    found = read(path)
    kinds = [name.split("(")[0] for name in (found.game, spec.game) if name is not None]
    if found.game is not None and (spec.game is None or kinds[0] != kinds[1]):
        raise UsageError(f"net.action_embedding_from: {path} is of {found.game}, not of {spec.game or 'this environment'}")
    for module in net.modules():
        if isinstance(module, LastActionReward) and module.embedding is not None:
            wanted = tuple(module.embedding.weight.shape)
            if found.vectors.shape != wanted:
                raise UsageError(
                    f"net.action_embedding_from: {path} holds {len(found.vectors)} actions of {found.vectors.shape[1]} numbers, "
                    f"this net has {wanted[0]} of net.action_embedding = {wanted[1]}"
                )
            module.embedding.weight.copy_(torch.from_numpy(found.vectors))
