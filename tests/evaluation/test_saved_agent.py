"""Saved agents with changed settings."""

from pathlib import Path

import pytest

import rlsuite
from rlsuite.core.errors import UsageError
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.play.players import make_seat

TINY = {
    "run.threads": 1,
    "run.collect_agent_steps": 2,
    "run.agent_steps": 100,
    "env.num_envs": 4,
    "agent.simulations": 4,
    "agent.eval_simulations": 4,
    "net.torso": "tower(width=8,depth=1)",
    "replay.min_agent_steps": 50,
    "replay.capacity_agent_steps": 500,
    "learner.batch_size": 16,
    "eval.episodes": 1,
}


def test_a_change_that_switches_something_off_returns_what_depends_on_it_to_its_default(tmp_path: Path) -> None:
    rlsuite.train("boards/tic_tac_toe", TINY, run_dir=tmp_path / "run")
    assert Saved(tmp_path / "run").config.agent.c_scale == 0.3
    puct = Saved(tmp_path / "run", changes={"agent": {"method": "puct"}}).config.agent
    assert (puct.method, puct.c_scale) == ("puct", type(puct).model_fields["c_scale"].default)
    make_seat(f"run(path={tmp_path / 'run'},method=puct)", rlsuite.make_game("tic_tac_toe"), simulations=4, at_once=1, seed=0)
    with pytest.raises(UsageError, match=r"agent\.c_scale = 0\.5 has no effect"):
        Saved(tmp_path / "run", changes={"agent": {"method": "puct", "c_scale": 0.5}})
