"""Environments with Dict observations and MultiDiscrete actions, from the first step to a loaded agent."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.core.types import describe, spec_of
from rlsuite.factories import build, make_env

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
    ("mask", "wrong"), [([1, 0, 1, 1, 1, 1], None), ([1, 1, 0, 1, 1], None), ([1, 1], r"shape \[2\], but there are 6")]
)
def test_masks_of_multidiscrete_actions_are_of_combinations_or_of_values(mask: list[int], wrong: str | None) -> None:
    from rlsuite.envs.action_masks import read

    space = gymnasium.spaces.MultiDiscrete([2, 3])
    given, reports = np.array([mask, mask]), np.array([True, False])
    if wrong is not None:
        with pytest.raises(UsageError, match=rf"env.id = mine: action_mask has {wrong} actions"):
            read(given, reports, space, "mine")
        return
    expected = [bool(one) for one in mask] if len(mask) == 6 else [False, True, True] * 2
    assert read(given, reports, space, "mine").tolist() == [expected, [True] * 6]


def test_a_picture_with_numbers_cannot_be_shifted_at_random() -> None:
    changes = {"env.id": "Contexts-v0", "env.kwargs": WITH_CAMERA, "learner.augment.shift": 2}
    with pytest.raises(UsageError, match=r"learner\.augment needs observations that are pictures"):
        build(resolve("classic/dqn", changes))


@pytest.mark.integration
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("torso", ["none", "mlp", "small"])  # none: there is no camera
@pytest.mark.parametrize("name", ["dqn", "ppo"])
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
        masks = {"action_mask": np.array([[True, False, True] * 2])} if masked else None
        action, _ = agent.act(rows, info=masks)
        total += env.step(action[0])[1]
    assert total > 18
