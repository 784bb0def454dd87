"""Every shipped config starts, learns a little and ends on the asked step, so that none can rot."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlsuite
from rlsuite.agents.policy_gradient import PolicyGradientAgent
from rlsuite.agents.pqn import PQN
from rlsuite.agents.value_based import ValueConfig
from rlsuite.cli.main import app
from rlsuite.config.loader import config_names, resolve
from rlsuite.core.agent import agent_class
from rlsuite.envs import atari, atari_game
from rlsuite.replay import demonstrations
from rlsuite.runs.metrics import read_metrics

NUM_ENVS, TICKS, BATCH, PER_INSERT, ROLLOUT = 2, 24, 4, 2, 8
AGENT_STEPS = NUM_ENVS * TICKS
MOVES = 250  # of self-play, in which a game must end before anything is learned
LARGE = {"boards/go13": 1_000, "boards/go19": 3_000}  # on 7x7 here, where games end sooner; the moves that they need themselves


def tiny(name: str) -> dict[str, Any]:
    """Overrides that keep everything of the config but its sizes."""
    given = resolve(name)
    length = getattr(given.agent, "n_steps", 1) + 1  # of a sequence
    sequences: dict[str, Any] = {}
    if hasattr(given.agent, "unroll"):
        sizes = {"burn_in": 2, "margin": 2, "unroll": 4, "stride": 2}
        sequences = {f"agent.{key}": size for key, size in sizes.items() if hasattr(given.agent, key)}
        length += 2 + 4 - 1
    overrides: dict[str, Any] = {
        "env.num_envs": NUM_ENVS,
        "run.agent_steps": AGENT_STEPS,
        "run.device": "cpu",
        "run.threads": 1,
        "run.log_seconds": 1e-6,  # a row of losses for every update
        "eval.episodes": 1,
        "eval.every_agent_steps": None,
        "eval.stop_at_return": None,
    }
    if on_policy(name):
        overrides |= {"run.collect_agent_steps": ROLLOUT, "learner.batch_size": NUM_ENVS}
        if hasattr(given.agent, "minibatches"):
            overrides["agent.minibatches"] = NUM_ENVS
    else:
        overrides |= {
            "replay.capacity_agent_steps": 200,
            "replay.min_agent_steps": NUM_ENVS * (length + 1),
            "replay.samples_per_insert": PER_INSERT,
            "learner.batch_size": BATCH,
            **sequences,
        }
    if atari_game(given.env.id) is not None:
        overrides["env.max_frames"] = 40
        overrides["net.hidden"] = 32
        if "scale=" in given.net.torso:
            overrides["net.torso"] = re.sub(r"scale=\d+", "scale=1", given.net.torso)
    if given.runtime.kind == "ray":  # in turn, so that it ends on the step too
        overrides["runtime"] = {"kind": "ray", "synchronous": True}
        overrides.setdefault("run.collect_agent_steps", 1)
    if plays_itself(name):
        overrides |= {"agent.simulations": 4, "agent.eval_simulations": 4, "env.opponent": "random", "run.agent_steps": MOVES}
        overrides["env.num_envs"] = max(NUM_ENVS, len(getattr(given.env, "sizes", ())))
    if name in LARGE:
        overrides |= {"env.id": re.sub(r"size=\d+", "size=7", given.env.id), "net.torso": "tower(norm=batch,width=8,depth=1)"}
        overrides |= {"env.sizes": [5, 6, 7]} if getattr(given.env, "sizes", ()) else {}
    return overrides


def random_moves(env: Any, observation: Any) -> Any:
    """A policy to record."""
    return np.random.default_rng(int(1e6 * abs(float(np.sum(observation))))).integers(env.single_action_space.n, size=env.num_envs)


def recorded(name: str, folder: Path) -> dict[str, Any]:
    """Overrides as of `tiny` for an agent that learns from recordings, of random play, which this makes."""
    short = ["env.max_frames=40"] if atari_game(resolve(name).env.id) is not None else []
    policy = ["--policy", f"{__file__}:random_moves", "--episodes", "5"]
    app(["record", name, *short, *policy, "--out", str(folder)], standalone_mode=False)
    offline = agent_class(resolve(name).agent.name).offline
    unused = ("replay.", "env.num_envs") if offline else "replay."
    overrides = {key: value for key, value in tiny(name).items() if not key.startswith(unused)}
    if resolve(name).net.memory == "none":
        overrides = {key: value for key, value in overrides.items() if key not in ("agent.burn_in", "agent.unroll", "agent.stride")}
    overrides |= {"replay.demonstrations": str(folder)}
    if resolve(name).net.memory.startswith("attention"):  # which must not look back further than the short sequences go
        overrides["net.memory"] = "attention(window=2,heads=4,layers=2)"
    if resolve(name).agent.name == "decision_transformer":
        overrides["agent.target_return"] = max(demonstrations.load(folder).returns())
    return overrides


def test_atari100k_configs_keep_its_protocol() -> None:
    """Each of these was wrong in some published table: the budget, the evaluation, early stops, what ends an episode."""
    names = [name for name in config_names() if name.startswith("atari100k/")]
    assert "atari100k/der" in names
    for name in names:
        config = resolve(name)
        assert isinstance(config.env, atari.Config)
        assert config.run.agent_steps * config.env.frame_skip == 400_000
        assert (config.env.protocol, config.env.full_action_set, config.env.noop_max) == ("classic", False, 30)
        assert (config.env.max_frames, config.env.life_loss, config.env.num_envs) == (108_000, True, 1)
        assert (config.env.height, config.env.width, config.env.stack, config.env.flicker) == (84, 84, 4, 0)
        assert isinstance(config.agent, ValueConfig)
        assert config.agent.reward_clip == 1
        assert config.agent.epsilon_eval == 0.001
        assert (config.eval.episodes, config.eval.every_agent_steps, config.eval.stop_at_return) == (100, None, None)
        assert config.run.minutes is None


def on_policy(name: str) -> bool:
    return issubclass(agent_class(resolve(name).agent.name), PolicyGradientAgent | PQN)


def plays_itself(name: str) -> bool:
    return hasattr(resolve(name).agent, "simulations")


def budget(name: str, overrides: dict[str, Any]) -> float:
    """Updates that the agent steps of the run allow."""
    given = resolve(name).agent
    if on_policy(name):
        return TICKS / ROLLOUT * getattr(given, "epochs", 1) * overrides.get("agent.minibatches", 1)
    return PER_INSERT * (AGENT_STEPS - overrides["replay.min_agent_steps"]) / BATCH


ONE_PIECE = [name for name in config_names() if not name.startswith("vision/") and resolve(name).stages is None]


IN_SECONDS = ("classic/dqn", "classic/ppo", "classic/c51", "classic/recall_r2d2", "atari/pong")  # one of each family


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_SECONDS else pytest.mark.integration) for name in ONE_PIECE]
)  # runs in stages have tests of their own
def test_starts_learns_and_ends_on_the_step(name: str, tmp_path: Path) -> None:
    needs_recordings = agent_class(resolve(name).agent.name).needs_recordings()
    check(name, recorded(name, tmp_path / "recorded") if needs_recordings else tiny(name), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_starts_learns_and_ends_on_a_large_board(name: str, tmp_path: Path) -> None:
    small = {key: value for key, value in tiny(name).items() if key not in ("env.id", "env.sizes")}
    check(name, {**small, "run.agent_steps": LARGE[name], "agent.eval_simulations": 1}, tmp_path / "run")


def check(name: str, overrides: dict[str, Any], run: Path) -> None:
    """Trains with the config and its `overrides`, and looks at steps, updates, evaluation and losses."""
    result = rlsuite.train(name, overrides, run_dir=run)
    assert result.agent_steps == overrides["run.agent_steps"]
    if plays_itself(name):  # what games are still running at the end is not learned from
        assert 0 < result.learner_steps <= PER_INSERT * overrides["run.agent_steps"] / BATCH
    elif agent_class(resolve(name).agent.name).offline:
        assert result.learner_steps == math.ceil(AGENT_STEPS / (BATCH * overrides.get("agent.unroll", 1)))
    else:  # the records of the last tick come after the last visit to the learner
        assert abs(result.learner_steps - budget(name, overrides)) <= 2
    assert result.evaluation is not None
    assert result.evaluation.episodes == 1
    assert math.isfinite(result.evaluation.mean)

    losses = [row for row in read_metrics(result.run) if "losses/loss" in row]
    assert losses, "no losses were logged"
    for row in losses:  # a number that is not finite is None in the file
        assert all(value is not None and math.isfinite(value) for value in row.values()), row
    assert any(row["losses/grad_norm"] > 0 for row in losses) or resolve(name).agent.name == "q_learning"
