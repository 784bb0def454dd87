"""Settings that a run on Ray cannot have are refused in one line, before anything starts."""

from typing import Any

import pytest
from ray_envs import RAY

from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"runtime.collectors": 0}, "runtime.collectors = 0: must be greater than or equal to 1"),
        ({"runtime.shards": 0}, "runtime.shards = 0"),
        ({"runtime.shards": 2}, "shards 2 is more than collectors 1"),
        ({"runtime.colectors": 2}, "collectors"),
        ({"run.policy_lag_learner_steps": 3}, r"run\.policy_lag_learner_steps: on Ray"),
        ({"runtime.learners": 3}, r"learner\.batch_size = 64 is not a multiple of runtime\.learners = 3"),
        ({"learner.prefetch_batches": 1}, r"learner\.prefetch_batches: Ray has runtime\.batch_calls_in_flight instead"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_starts(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve("classic/dqn", {**RAY, **settings})


def test_settings_of_ray_without_ray_are_refused() -> None:
    with pytest.raises(UsageError, match=r"runtime\.collectors = 4 has no effect without runtime\.kind = ray"):
        resolve("classic/dqn", {"runtime.collectors": 4})
