"""Environments with Dict observations and MultiDiscrete actions, from the first step to a loaded agent."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from helpers import combinations

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.core.masks import read
from rlsuite.core.spaces import observations, plain
from rlsuite.core.types import EnvSpec, describe, spec_of
from rlsuite.factories import build, make_env
from rlsuite.nets.torso import make_torso

WITH_CAMERA = {"camera": True}


class Contexts(gymnasium.Env[Any, Any]):
    """Episodes of one step, whose reward is for telling a bright picture (or mode 8) from a dark one, and a sensor's sign."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, camera: bool = False, masked: bool = False, render_mode: str | None = None):
        self.masked = masked
        shown = gymnasium.spaces.Box(0, 255, (36, 36, 3), np.uint8) if camera else gymnasium.spaces.Discrete(2, start=7)
        sensors = gymnasium.spaces.Box(-1, 1, (3,), np.float64)
        self.observation_space = gymnasium.spaces.Dict(shown=shown, sensors=sensors)
        self.action_space = gymnasium.spaces.MultiDiscrete([2, 3], start=[0, -1])
        self.camera, self.right = camera, (0, 0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        bright, sensors = int(self.np_random.integers(2)), self.np_random.uniform(-1, 1, 3)
        self.right = (bright, 1 if sensors[1] > 0 else -1)
        shown: Any = np.full((36, 36, 3), 250 * bright, np.uint8) if self.camera else 7 + bright
        mask = np.array([1, 1, 1, 0, 1], np.int8)  # of the values of either part: the second may not be 0
        return {"shown": shown, "sensors": sensors}, {"action_mask": mask} if self.masked else {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        assert not (self.masked and action[1] == 0)
        reward = 0.5 * float(action[0] == self.right[0]) + 0.5 * float(action[1] == self.right[1])
        observation, info = self.reset()
        return observation, reward, True, False, info


@pytest.fixture(autouse=True)
def _registered() -> None:
    if "Contexts-v0" not in gymnasium.registry:
        gymnasium.register("Contexts-v0", Contexts)


@pytest.mark.parametrize("camera", [False, True])
def test_the_spec_of_parts_survives_a_file(camera: bool) -> None:
    spec = describe(make_env(resolve("classic/dqn", {"env.id": "Contexts-v0", "env.kwargs": {"camera": camera}})))
    assert spec.num_actions == 6
    assert (spec.observation_shape, spec.observation_dtype) == (((3900,), "uint8") if camera else ((5,), "float32"))
    assert spec.picture == ((3, 36, 36) if camera else None)
    assert spec_of(spec._asdict()) == spec


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.array([1, 0, 1, 1, 1, 0]), None),  # of combinations
        (np.array([1, 1, 0, 1, 1], np.int8), [False, True, True] * 2),
        ([True, False, True, True, True], [True, True, True, False, False, False]),
        (np.array([1.0, 1.0, 0.0, 1.0, 1.0]), [False, True, True] * 2),
        ((np.array([1, 1]), np.array([0, 1, 1], np.int8)), [False, True, True] * 2),
        (np.array([2, 1, 0, 1, 1]), None),
        (7, None),
    ],
)
def test_masks_of_multidiscrete_actions_are_of_the_values_of_the_parts(mask: Any, expected: list[bool] | None) -> None:
    space = gymnasium.spaces.MultiDiscrete([2, 3])
    spec = EnvSpec((), "int64", 6, 2, 1, 1, action_space=plain(space))
    given = np.empty(2, object)
    given[0] = mask
    info = {"action_mask": given, "_action_mask": np.array([True, False])}
    if expected is None:
        with pytest.raises(
            UsageError, match=r"info\['action_mask'\] must be 2 \+ 3 numbers of 0 or 1 for each environment, found '"
        ):
            read(info, spec, 2)
        return
    assert read(info, spec, 2).tolist() == [expected, [True] * 6]
    assert read({}, spec, 2).all()


class Silent(gymnasium.Env[Any, Any]):
    """Reports masks from `step` only, and draws its layout at its first reset."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.layout = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if not self.layout.any():
            self.layout = self.np_random.random(1, np.float32)
        return self.layout, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.layout, 0.0, False, False, {"action_mask": np.ones(2)}


def test_masks_from_step_alone_are_refused_and_looking_for_them_changes_no_seeded_run() -> None:
    gymnasium.register("Silent-v0", Silent)
    env = make_env(resolve("classic/dqn", {"env.id": "Silent-v0", "env.num_envs": 2}))
    first, _ = env.reset(seed=0)
    with pytest.raises(UsageError, match=r"Silent-v0: info\['action_mask'\] came from step but not from reset"):
        env.step(np.zeros(2, np.int64))
    again, _ = make_env(resolve("classic/dqn", {"env.id": "Silent-v0", "env.num_envs": 2})).reset(seed=0)
    np.testing.assert_array_equal(first, again)


def test_a_picture_of_an_odd_number_of_bytes_and_one_environment() -> None:
    space = gymnasium.spaces.Dict(image=gymnasium.spaces.Box(0, 255, (7, 7, 3), np.uint8), direction=gymnasium.spaces.Discrete(4))
    given = {"image": np.full((1, 7, 7, 3), 3, np.uint8), "direction": np.array([2])}
    translation = observations(space)
    spec = EnvSpec(translation.space.shape, "uint8", 2, None, 1, 1, picture=translation.picture)
    torso = make_torso("mlp", 8, spec)
    assert torso(torch.from_numpy(translation.to_agent(given))[None]).shape == (1, 1, 16)


def test_a_picture_with_numbers_cannot_be_shifted_at_random() -> None:
    changes = {"env.id": "Contexts-v0", "env.kwargs": WITH_CAMERA, "learner.augment.shift": 2}
    with pytest.raises(UsageError, match=r"learner\.augment needs observations that are pictures"):
        build(resolve("classic/dqn", changes))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "torso", "masked"),  # torso none: there is no camera
    combinations(
        [("dqn", "none", True), ("dqn", "mlp", False), ("dqn", "small", True), ("ppo", "none", False), ("ppo", "small", True)],
        ["dqn", "ppo"],
        ["none", "mlp", "small"],
        [False, True],
    ),
)
def test_both_parts_are_learned(name: str, torso: str, masked: bool, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "env.id": "Contexts-v0",
        "env.kwargs": {"camera": torso != "none", "masked": masked},
        "run.threads": 1,
        "run.agent_steps": 40_000 if name == "ppo" else 6_000,
        "eval.every_agent_steps": None,
        "eval.stop_at_return": None,
        "eval.episodes": 50,
        "net.hidden": 32,
        "agent.discount": 0.0,
    }
    changes |= {} if torso == "none" else {"net.torso": torso}
    if name == "dqn":
        changes |= {"replay.min_agent_steps": 500, "agent.epsilon_decay_agent_steps": 2000, "agent.epsilon_eval": 0.0}
    result = rlsuite.train(f"classic/{name}", changes, run_dir=tmp_path / "run")
    assert result.evaluation.mean > 0.9
    agent, env, total = rlsuite.load(result.run), Contexts(camera=torso != "none", masked=masked), 0.0
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        rows = {key: np.asarray(part)[None] for key, part in observation.items()}
        masks = {"action_mask": np.array([[1, 1, 1, 0, 1]])} if masked else None
        action, _ = agent.act(rows, info=masks)
        total += env.step(action[0])[1]
    assert total > 18
