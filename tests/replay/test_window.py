"""A replay in files: the same samples as in memory, files that come and go, exact resume, damaged files, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import differences

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.config.schema import ReplayConfig
from rlsuite.core.agent import Extra, Games
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, Step, Unroll
from rlsuite.factories import build
from rlsuite.replay import window
from rlsuite.replay.replay import Replay, build_replay
from rlsuite.runs import checkpoint

SPEC = EnvSpec((2, 3, 3), "int8", 9, None, 1, 1, game="tic_tac_toe")
SEQUENCE = Games((Extra("policy", (9,), "float32"), Extra("outcome", (), "float32")))
SMALL = {
    "run.threads": 1,
    "run.collect_agent_steps": 2,
    "env.num_envs": 8,
    "env.opponent": "random",
    "agent.simulations": 4,
    "agent.eval_simulations": 4,
    "net.torso": "tower(width=8,depth=1)",
    "replay.min_agent_steps": 100,
    "replay.capacity_agent_steps": 300,
    "learner.batch_size": 16,
    "eval.episodes": 2,
}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "BLOCK", 16)


def replay(folder: Path | None, capacity: int = 100) -> Replay:
    where = None if folder is None else str(folder)
    config = ReplayConfig(capacity_agent_steps=capacity, min_agent_steps=1, samples_per_insert=1e9, window=where)
    return build_replay(config, SPEC, 1, SEQUENCE, 1, seed=5)


def unroll(begin: int, count: int) -> Unroll:
    """Steps whose number, from `begin` on, can be read off every leaf."""
    at, false = np.arange(begin, begin + count)[:, None], np.zeros((count, 1), bool)
    planes = np.broadcast_to((at % 128)[..., None, None, None], (count, 1, 2, 3, 3)).astype(np.int8)
    extras = {"policy": np.repeat(at[..., None], 9, 2).astype(np.float32), "outcome": at.astype(np.float32)}
    return Unroll(Step(planes, np.zeros((count, 1), np.float32), at % 5 == 0, false, false, at % 9, extras))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


def test_it_gives_the_samples_of_a_ring_in_memory(tmp_path: Path) -> None:
    """Also where the window has passed the first steps, in the middle of a file."""
    disk, memory = replay(tmp_path / "w"), replay(None)
    begin = 0
    for count in (3, 20, 33, 1, 70, 90):
        for store in (disk, memory):
            store.add(unroll(begin, count))
        begin += count
        one, other = disk.sample(64), memory.sample(64)
        assert not differences(one._asdict(), other._asdict())
        numbers = one.trajectory.steps.extras["outcome"][0]
        assert numbers.min() >= begin - 100
        assert np.array_equal(one.trajectory.steps.observation[0, :, 0, 0, 0], numbers % 128)


def test_files_go_once_no_checkpoint_needs_them(tmp_path: Path) -> None:
    store = replay(tmp_path / "w", capacity=40)
    store.add(unroll(0, 100))
    assert len(files(tmp_path / "w")) == 6
    store.state_dict()  # of the first checkpoint, which needs steps 60 and later
    store.add(unroll(100, 40))
    store.state_dict()
    assert files(tmp_path / "w")[0] == "games_000000003.bin"  # steps 48 to 63


def test_a_resume_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    first = replay(tmp_path / "w")
    first.add(unroll(0, 130))
    state = first.state_dict()
    expected = [first.sample(32) for _ in range(3)]
    first.add(unroll(130, 60))  # which a kill made undone
    assert "games_000000010.bin" in files(tmp_path / "w")
    again = replay(tmp_path / "w")
    assert again.load_state_dict(state) is None
    for batch in expected:
        assert not differences(again.sample(32)._asdict(), batch._asdict())
    again.add(unroll(130, 30))
    assert again.sample(500).trajectory.steps.extras["outcome"].max() == 159


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "another"])
def test_files_that_can_be_read_are_kept_and_the_others_counted(tmp_path: Path, damage: str) -> None:
    store = replay(tmp_path / "w")
    store.add(unroll(0, 120))
    state = store.state_dict()
    path = tmp_path / "w" / "games_000000003.bin"  # steps 48 to 63
    content = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "short":
            path.write_bytes(content[:-1])
        case "changed":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "another":
            path.write_bytes((tmp_path / "w" / "games_000000004.bin").read_bytes())
    again = replay(tmp_path / "w")
    note = again.load_state_dict(state)
    assert note is not None
    assert note.startswith("16 of 100 steps of the replay are in files that are missing or damaged")
    numbers = set(again.sample(2000).trajectory.steps.extras["outcome"][0].astype(int))
    assert numbers == set(range(20, 120)) - set(range(48, 64))
    again.add(unroll(120, 60))
    assert set(again.sample(2000).trajectory.steps.extras["outcome"][0].astype(int)) == set(range(80, 180))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    n = 503
    for name in ("whole", "halves", "memory"):
        settings = {**SMALL, "replay.window": None if name == "memory" else str(tmp_path / name / "window")}
        steps = n if name == "halves" else 2 * n
        settings |= {"run.agent_steps": steps, "learner.learning_rate_anneal_agent_steps": 2 * n}
        rlsuite.train("boards/tic_tac_toe", settings, run_dir=tmp_path / f"run_{name}")
    rlsuite.train(None, {"run.agent_steps": 2 * n}, resume=tmp_path / "run_halves")
    saved = {name: checkpoint.load(checkpoint.find(tmp_path / f"run_{name}")) for name in ("whole", "halves", "memory")}
    assert saved["whole"].agent_steps == 2 * n
    assert not differences(saved["whole"].weights, saved["halves"].weights)
    assert not differences(saved["whole"].weights, saved["memory"].weights)


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("classic/dqn", {}, "replay.window is for the games of board agents"),
        ("boards/tic_tac_toe", {"replay.capacity_agent_steps": 10**13}, "GB"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, config: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(resolve(config, {"replay.window": str(tmp_path / "w"), **overrides}))


def test_the_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    """Also where both have begun before the first file is written; a file of another run is no file of one's own."""
    one, other = replay(tmp_path / "w"), replay(tmp_path / "w")
    one.add(unroll(0, 5))
    other.add(unroll(0, 5))
    one.add(unroll(5, 40))
    with pytest.raises(UsageError, match="is another run's by now"):
        other.add(unroll(5, 20))
    with pytest.raises(UsageError, match="holds the games of another run"):
        replay(tmp_path / "w").add(unroll(0, 1))
    state = one.state_dict()
    state["rings"][0]["owner"] = state["rings"][0]["owner"][::-1].copy()
    note = replay(tmp_path / "w").load_state_dict(state)
    assert note is not None
    assert note.startswith("32 of 45 steps")
