"""The local runtime: what happens during updates, and in which order."""

from pathlib import Path
from typing import Any

import pytest

from rlsuite.acting.collector import Collector
from rlsuite.config.loader import resolve
from rlsuite.factories import build
from rlsuite.runs.metrics import MetricLog
from rlsuite.runs.progress import Progress
from rlsuite.runtime.local import train_loop
from rlsuite.runtime.run_loop import Loop
from rlsuite.runtime.signals import Stop

SMALL: dict[str, Any] = {
    "run.threads": 1,
    "run.agent_steps": 60,
    "env.num_envs": 2,
    "env.height": 36,
    "env.width": 36,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}
DQN: dict[str, Any] = {"replay.min_agent_steps": 20, "replay.capacity_agent_steps": 2000, "learner.batch_size": 8}
PPO: dict[str, Any] = {"run.collect_agent_steps": 10, "learner.batch_size": 2, "agent.minibatches": 2}


@pytest.mark.parametrize(("config", "settings", "wanted"), [("atari/pong", DQN, True), ("atari/pong_ppo", PPO, False)])
def test_emulators_step_during_updates_unless_the_agent_is_on_policy(
    config: str, settings: dict[str, Any], wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve(config, {**SMALL, **settings})
    parts = build(resolved)
    assert isinstance(parts.collector, Collector)
    seen = []  # at every update
    update = parts.learner.update

    def watched(*args: Any) -> Any:
        seen.append((loop.collected < 60, parts.collector.under_way is not None))  # type: ignore[union-attr]
        return update(*args)

    monkeypatch.setattr(parts.learner, "update", watched)
    loop = Loop(resolved, tmp_path, parts, MetricLog(tmp_path))
    assert not train_loop(parts, loop, Progress(), Stop())
    assert loop.collected == 60
    assert set(seen) == {(True, wanted), (False, False)}  # after the last step none begins
    assert parts.collector.under_way is None
    loop.log.close()
    parts.close()


@pytest.mark.parametrize("ahead", [0, 2])
def test_priorities_come_back_as_late_as_asked_for(ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch n is drawn when the priorities of batch n - 1 - `ahead` and of all before are there, and no others."""
    settings = {"run.agent_steps": 200, "replay.min_agent_steps": 64, "learner.batch_size": 8, "learner.prefetch_batches": ahead}
    resolved = resolve("classic/dqn", {**settings, "replay.prioritized": True, "run.threads": 1, "eval.every_agent_steps": None})
    parts = build(resolved)
    drawn: list[Any] = []  # keys of batches
    returned: list[Any] = []  # keys of priorities
    known: list[int] = []  # priorities returned when each batch is drawn
    sample, update = parts.replay.sample, parts.replay.update

    def watched_sample(count: int) -> Any:
        known.append(len(returned))
        found = sample(count)
        drawn.append(found.keys)
        return found

    def watched_update(keys: Any, priority: Any) -> None:
        returned.append(keys)
        update(keys, priority)

    monkeypatch.setattr(parts.replay, "sample", watched_sample)
    monkeypatch.setattr(parts.replay, "update", watched_update)
    loop = Loop(resolved, tmp_path, parts, MetricLog(tmp_path))
    assert not train_loop(parts, loop, Progress(), Stop())
    assert len(drawn) == parts.learner.steps > 20
    assert known == [max(n - ahead, 0) for n in range(len(drawn))]
    for keys, back in zip(drawn, returned, strict=False):
        assert (keys == back).all()
    loop.log.close()
    parts.close()
