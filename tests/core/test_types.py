"""The step and its containers: sequences, bootstrap steps, transitions, trees."""

import json
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from rlsuite.core.types import (
    EnvSpec,
    Step,
    Trajectory,
    bootstrap_index,
    describe,
    other_spaces,
    spec_of,
    to_tensors,
    transitions,
    tree_map,
)


def steps_of(last: list[list[int]], terminal: list[list[int]] | None = None) -> Step:
    """Flags given as [B] lists of T; every other leaf encodes its time and row: t * 10 + b."""
    ends = torch.tensor(last, dtype=torch.bool).T  # [T,B]
    t, b = ends.shape
    code = torch.arange(t)[:, None] * 10 + torch.arange(b)
    return Step(
        observation=code * 100,
        reward=code.float(),
        first=torch.zeros(t, b, dtype=torch.bool),
        last=ends,
        terminal=torch.zeros_like(ends) if terminal is None else torch.tensor(terminal, dtype=torch.bool).T,
        action=code + 5,
        extras={"value": code * 1000},
    )


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ([0, 0], 1),
        ([0, 1], 1),
        ([1, 0], 1),  # a `last` at the start has no effect: such a sequence is never sampled
        ([0, 0, 0, 0], 3),
        ([0, 1, 0, 0], 1),
        ([0, 0, 1, 0], 2),
        ([0, 0, 0, 1], 3),
        ([0, 1, 0, 1], 1),
        ([0, 0, 1, 1], 2),
        ([1, 0, 1, 0], 2),
        ([0], 0),
    ],
)
def test_bootstrap_index_by_hand(last: list[int], expected: int) -> None:
    index = bootstrap_index(torch.tensor([last, [0] * len(last)], dtype=torch.bool).T)
    assert index.tolist() == [expected, len(last) - 1]  # the second column has no end: T - 1, whatever the first does
    assert index.dtype == torch.int64


def test_start_and_bootstrap_of_a_full_sequence() -> None:
    steps = steps_of([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 1]])
    trajectory = Trajectory(steps, state=())
    rows = torch.arange(5)
    assert torch.equal(trajectory.start().observation, (rows * 100)[None])
    assert torch.equal(trajectory.start().extras["value"], (rows * 1000)[None])
    end = trajectory.bootstrap()
    code = torch.tensor([30, 11, 22, 33, 14])  # t * 10 + b with t = 3, 1, 2, 3, 1
    assert torch.equal(end.observation, (code * 100)[None])
    assert torch.equal(end.reward, code.float()[None])
    assert torch.equal(end.action, (code + 5)[None])
    assert torch.equal(end.extras["value"], (code * 1000)[None])
    assert end.last.tolist() == [[False, True, True, True, True]]


@pytest.mark.parametrize("shape", [(), (3,), (4, 2, 2)])
def test_start_and_bootstrap_of_a_sparse_sequence(shape: tuple[int, ...]) -> None:
    """Two observations, and the flags of all four steps: the second observation is the bootstrap step's."""
    steps = steps_of([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    seen = torch.arange(2 * 3 * int(np.prod(shape, dtype=int))).reshape(2, 3, *shape)
    trajectory = Trajectory(steps._replace(observation=seen), state=())
    assert torch.equal(trajectory.start().observation, seen[:1])
    end = trajectory.bootstrap()
    assert torch.equal(end.observation, seen[1:])
    assert end.action.tolist() == [[35, 16, 27]]
    assert end.reward.tolist() == [[30, 11, 22]]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_full_sequence_becomes_a_sparse_one_and_its_images_keep_their_layout_in_memory(layout: str) -> None:
    steps = steps_of([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 1]])
    images = torch.randint(255, (4, 5, 3, 6, 7), dtype=torch.uint8)  # [T,B,C,H,W]
    if layout == "NHWC":
        images = images.movedim(2, -1).contiguous().movedim(-1, 2)
    trajectory = Trajectory(steps._replace(observation=images), ())
    sparse = trajectory.sparse()
    end = torch.tensor([3, 1, 2, 3, 1])
    assert torch.equal(sparse.steps.observation, torch.stack([images[0], images[end, torch.arange(5)]]))
    assert sparse.steps.reward is steps.reward
    assert sparse.sparse() is sparse
    assert torch.equal(trajectory.bootstrap().observation[0], sparse.steps.observation[1])
    assert sparse.steps.observation[1].is_contiguous(memory_format=torch.channels_last)


def test_a_full_sequence_of_two_steps_is_also_a_sparse_one() -> None:
    end = Trajectory(steps_of([[0, 0], [0, 1]]), ()).bootstrap()
    assert end.observation.tolist() == [[1000, 1100]]
    assert end.action.tolist() == [[15, 16]]


def test_transitions_by_hand() -> None:
    # Row 0: truncated at t=1. Row 1: over at t=2. Row 2: a life lost at t=1, the game continues.
    steps = steps_of([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]])
    out = transitions(steps, 0.9)
    assert out.action.tolist() == [[5, 6, 7], [15, 16, 17], [25, 26, 27]]  # a_t of t = 0, 1, 2
    assert out.reward.tolist() == [[10, 11, 12], [20, 21, 22], [30, 31, 32]]  # r_{t+1}: t = 1, 2, 3
    expected = torch.tensor([[0.9, 0.9, 0.0], [0.9, 0.0, 0.9], [0.9, 0.9, 0.9]])
    assert torch.equal(out.discount, expected)
    assert out.discount.dtype == torch.float32
    assert out.valid.tolist() == [[True, True, True], [False, True, True], [True, False, True]]


class Pair(NamedTuple):
    a: Any
    b: Any


def test_tree_map_reaches_every_leaf_and_keeps_types() -> None:
    tree = {"x": Pair(1, (2, {"y": 3})), "empty": (), "none": {}}
    assert tree_map(lambda leaf: leaf * 10, tree) == {"x": Pair(10, (20, {"y": 30})), "empty": (), "none": {}}
    assert isinstance(tree_map(lambda leaf: leaf, tree)["x"], Pair)
    assert isinstance(tree_map(lambda leaf: leaf, tree)["x"].b, tuple)


def test_to_tensors_shares_memory_on_the_cpu() -> None:
    array = np.zeros((2, 3), np.float32)
    tree = to_tensors({"a": (array,)}, torch.device("cpu"))
    tensor: Tensor = tree["a"][0]
    array[1, 2] = 7
    assert tensor[1, 2] == 7
    assert tensor.dtype == torch.float32


def test_describe_reads_spaces_and_metadata() -> None:
    class Env:
        single_observation_space = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        single_action_space = gymnasium.spaces.Discrete(6)
        metadata: dict[str, Any] = {"frame_stack": 4, "frames_per_step": 3}  # noqa: RUF012

    spec = describe(Env())
    assert spec._asdict() == {
        "observation_shape": (4, 84, 84),
        "observation_dtype": "uint8",
        "num_actions": 6,
        "num_states": None,
        "stack": 4,
        "frames_per_step": 3,
        "action_shape": (),
        "action_dtype": "int64",
        "game": None,
        "has_pictures": False,
        "info_keys": (),
        "more_games": (),
        "observation_space": None,
        "action_space": None,
        "picture": None,
    }


def test_describe_defaults_and_discrete_states() -> None:
    class Env:
        single_observation_space = gymnasium.spaces.Discrete(16)
        single_action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        metadata: dict[str, Any] = {}  # noqa: RUF012

    spec = describe(Env())
    assert spec.observation_shape == ()
    assert spec.num_states == 16
    assert spec.num_actions == 0  # continuous
    assert (spec.stack, spec.frames_per_step) == (1, 1)
    assert spec_of(json.loads(json.dumps(spec._asdict()))) == spec


def test_specs_that_mean_other_things_by_the_same_numbers_differ() -> None:
    spec = EnvSpec((3,), "float32", num_actions=2, num_states=None, stack=1, frames_per_step=1)
    assert other_spaces(spec, spec._replace(frames_per_step=4)) is None
    assert other_spaces(spec, spec._replace(num_actions=3)) == "num_actions = 3, not 2"
    started = spec._replace(action_space=("Discrete", 2, -1, "int64"))
    assert other_spaces(spec, started) == "action_space = ('Discrete', 2, -1, 'int64'), not None"
