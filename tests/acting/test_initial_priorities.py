"""Priorities that a collector computes, on real frames: of stacks, for every form of training data."""

from typing import Any

import numpy as np
import pytest

from rlsuite.config.loader import resolve
from rlsuite.factories import build

PONG: dict[str, Any] = {
    "runtime.kind": "local",
    "run.threads": 1,
    "env.num_envs": 2,
    "env.height": 44,
    "env.width": 44,
    "net.hidden": 8,
    "learner.precision": "fp32",
    "replay.prioritized": True,
    "replay.initial_priority": "td",
    "replay.capacity_agent_steps": 2_000,
    "replay.min_agent_steps": 100,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "transitions": ("atari/dqn", {}),
    "whole transitions": ("atari100k/spr", {}),
    "sequences": ("atari/r2d2", {"net.memory_size": 8, "agent.burn_in": 2, "agent.unroll": 4, "agent.stride": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_stacked_frames_get_the_agents_own_priorities(case: str) -> None:
    name, changes = CASES[case]
    parts = build(resolve(name, {**PONG, **changes}))
    found = []
    for _ in range(3):
        for k in range(20):
            parts.collector.advance(k)
        found.append(parts.collector.take().priority)
    parts.close()
    computed = np.concatenate(found)
    assert computed.shape[1] == 2
    assert (computed > 0).all()
    assert len(np.unique(computed)) > 10  # where none is computed it is 1
