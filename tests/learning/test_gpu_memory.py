"""A GPU whose memory is full: the error says what to lower."""

import pytest
import torch

from rlsuite.core.errors import RlsuiteError
from rlsuite.learning.gpu_memory import explained


def test_a_full_gpu_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000_000_000, 16_000_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 12_000_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 11_500_000_000)
    message = (
        "an update needs more than the 11.5 GB that it got: of the GPU's 16.0 GB, 3.0 GB are other programs'; "
        "lower learner.batch_size = 512, the sizes in net.*, or use learner.precision = bf16"
    )
    with pytest.raises(RlsuiteError) as error, explained("an update", torch.device("cuda"), 512):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    assert str(error.value) == message


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), explained("an update", torch.device("cuda"), 512):
        raise RuntimeError("shapes")
