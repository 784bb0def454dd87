"""One thread for every test: two OpenMP threads beside another busy process are slower than one, and sums stay reproducible."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
import torch

# The key that signs runs (`rlsuite.runs.trust`); also for the processes that tests start.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="rlsuite-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)  # whatever `build` has set meanwhile
