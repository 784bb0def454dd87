"""One thread for every test: two OpenMP threads beside another busy process are slower than one, and sums stay reproducible."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)  # whatever `build` has set meanwhile
