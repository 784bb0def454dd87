"""The configs of a run's stages."""

from pathlib import Path

import pytest

from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.runtime.stages import split


def test_a_stage_that_switches_something_off_returns_what_depends_on_it_to_its_default() -> None:
    base = {"replay.prioritized": True, "replay.priority_exponent": 0.5}
    config = resolve("classic/dqn", {**base, "stages": {"first": {"replay": {"prioritized": False}}, "second": {"seed": 1}}})
    with pytest.raises(UsageError, match=r"section of stages\.second"):
        split(config, Path("run"))
    config = resolve("classic/dqn", {**base, "stages": {"first": {"replay": {"prioritized": False}}, "second": {"run": {}}}})
    (_, first), (_, second) = split(config, Path("run"))
    default = type(first.replay).model_fields["priority_exponent"].default
    assert (first.replay.prioritized, first.replay.priority_exponent) == (False, default)
    assert (second.replay.prioritized, second.replay.priority_exponent) == (True, 0.5)
    both = {"first": {"replay": {"prioritized": False, "priority_exponent": 0.7}}}
    with pytest.raises(UsageError, match=r"stages\.first: .*priority_exponent = 0\.7 has no effect"):
        split(resolve("classic/dqn", {**base, "stages": both}), Path("run"))
