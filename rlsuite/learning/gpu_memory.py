"""An error that says what to do when a GPU's memory is full."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rlsuite.core.errors import RlsuiteError


@contextmanager
def explained(what: str, device: torch.device, batch: int) -> Iterator[None]:
    """A context that turns a full GPU into an RlsuiteError: how much `what` took, how much there is, and what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        free, total = torch.cuda.mem_get_info(device)
        ours, most = torch.cuda.memory_reserved(device), torch.cuda.max_memory_allocated(device)
        raise RlsuiteError(
            f"{what} needs more than the {most / 1e9:.1f} GB that it got: of the GPU's {total / 1e9:.1f} GB, "
            f"{max(total - free - ours, 0) / 1e9:.1f} GB are other programs'; lower learner.batch_size = {batch}, "
            "the sizes in net.*, or use learner.precision = bf16"
        ) from error
