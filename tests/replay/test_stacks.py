"""Frame stacks of `Planes`, on the host and on the learner's device."""

import numpy as np
import torch

from rlsuite.core.types import Planes, Step, Trajectory, to_tensors
from rlsuite.replay.stacks import stacked, stacked_tensors


def trajectory(planes: np.ndarray, first: np.ndarray) -> Trajectory:
    false = np.zeros_like(first)
    return Trajectory(Step(Planes(planes), false.astype(np.float32), first, false, false, false.astype(np.int64), {}), ())


def test_a_stack_ends_where_its_episode_begins() -> None:
    """Two sequences of four steps and stacks of three: one whose first step is an episode's second, one with a new episode."""
    planes = np.array([[0, 1], [11, 2], [12, 3], [13, 4], [14, 5], [15, 6]], np.uint8)[..., None, None]  # [S-1+T,B,1,1]
    first = np.array([[0, 0], [0, 0], [0, 1], [0, 0]], bool)
    expected = [
        [[0, 11, 12], [1, 2, 3]],
        [[11, 12, 13], [2, 3, 4]],
        [[12, 13, 14], [0, 0, 5]],
        [[13, 14, 15], [0, 5, 6]],
    ]
    given = trajectory(planes, first)
    assert stacked(given).steps.observation[..., 0, 0].tolist() == expected
    assert stacked_tensors(to_tensors(given, torch.device("cpu"))).steps.observation[..., 0, 0].tolist() == expected


def test_both_make_the_same_stacks_with_channels_last_in_memory() -> None:
    rng = np.random.default_rng(0)
    for stack in (2, 3, 4, 5):
        for dtype in (np.uint8, np.float32):
            planes = rng.integers(256, size=(stack - 1 + 7, 3, 6, 5)).astype(dtype)
            given = trajectory(planes, rng.random((7, 3)) < 0.3)
            ours = torch.from_numpy(stacked(given).steps.observation)
            other = stacked_tensors(to_tensors(given, torch.device("cpu"))).steps.observation
            assert ours.shape == other.shape == (7, 3, stack, 6, 5)
            assert ours.dtype == other.dtype
            assert torch.equal(ours, other)
            for found in (ours, other):
                assert found.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_what_is_not_in_planes_stays_as_it_is() -> None:
    given = trajectory(np.zeros((1, 2, 6, 5), np.uint8), np.zeros((1, 2), bool))
    whole = given._replace(steps=given.steps._replace(observation=np.zeros((1, 2, 3))))
    assert stacked(whole) is whole
    assert stacked_tensors(whole) is whole
