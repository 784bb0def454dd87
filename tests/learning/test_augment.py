"""Augmentation: labels move exactly as their images do."""

from typing import Any

import pytest
import torch

from rlsuite.bench.learner import random_sample
from rlsuite.config.augment import AugmentConfig
from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.core.types import Step, Trajectory, tree_map
from rlsuite.factories import build
from rlsuite.learning.augment import augment, augmented, random_shift


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_shift_moves_every_image_by_whole_pixels_and_repeats_the_border() -> None:
    images = torch.arange(25, dtype=torch.uint8).view(1, 1, 5, 5).expand(400, 2, 5, 5)
    moved = random_shift(images, 2, rng())
    seen = set()
    for picture in moved:
        assert torch.equal(picture[0], picture[1])  # the planes of a stack move together
        dy, dx = (int(picture[0, 2, 2]) - 12 + 12) // 5 - 2, int(picture[0, 2, 2]) % 5 - 2
        seen.add((dy, dx))
        rows, columns = (torch.arange(5) + dy).clamp(0, 4), (torch.arange(5) + dx).clamp(0, 4)
        assert torch.equal(picture[0], images[0, 0][rows][:, columns])
    assert len(seen) == 25  # every one of the 5 x 5 shifts
    assert moved.dtype == torch.uint8


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_random_shift_is_that_of_padded_images_whatever_their_layout(dtype: torch.dtype, layout: torch.memory_format) -> None:
    images = torch.randint(255, (6, 3, 7, 9)).to(dtype).contiguous(memory_format=layout)
    by = torch.randint(-2, 3, (2, 6, 1), generator=rng()) + 2
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode="replicate").to(dtype)
    moved = random_shift(images, 2, rng())
    for one, wide, (down, across) in zip(moved, padded, by.squeeze(-1).T.tolist(), strict=True):
        assert torch.equal(one, wide[:, down : down + 7, across : across + 9])


def test_an_agent_augments_only_the_images_that_its_loss_looks_at() -> None:
    """With an annealed n, all observations are stored; DQN looks at two of them, and with SPR at all."""
    annealed = {"agent.n_steps": 4, "agent.n_steps_end": 2, "agent.anneal_learner_steps": 10, "agent.name": "dqn"}
    small = {"env.num_envs": 2, "net.hidden": 8, "replay.capacity_agent_steps": 100, "replay.min_agent_steps": 10}
    settings = {**annealed, **small, "learner.augment.shift": 4, "run.device": "cpu", "run.threads": 1, "learner.precision": "fp32"}
    trajectory = tree_map(torch.from_numpy, random_sample(4, 5, nchw=False, seed=1, seen=5).trajectory)
    for spr, updates, expected in ((0.0, 0, (2, 5)), (0.0, 10, (2, 3)), (1.0, 0, (5, 5))):
        spread = {"agent.spr_weight": spr, "agent.spr_steps": 3} if spr else {}
        agent = build(resolve("atari/dqn", settings | spread)).learner.agent.at(updates)
        used = agent.used(trajectory)
        assert (len(used.steps.observation), len(used.steps.reward)) == expected
        net, target = agent.make_net(), agent.make_net()
        whole, part = (agent.loss(net, target, one, rng()) for one in (trajectory, used))
        assert torch.equal(whole.loss, part.loss)


def labelled(n: int = 64) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A bright rectangle on black, its mask, its box, and an empty place for another object."""
    images = torch.zeros(n, 1, 40, 48, dtype=torch.uint8)
    mask = torch.zeros(n, 40, 48, dtype=torch.uint8)
    images[:, :, 12:24, 16:30] = 200
    mask[:, 12:24, 16:30] = 3
    boxes = torch.tensor([[16.0, 12, 30, 24], [0, 0, 0, 0]]).expand(n, 2, 4).clone()
    classes = torch.tensor([2, -1]).expand(n, 2).clone()
    masks = torch.stack([mask == 3, torch.zeros_like(mask, dtype=torch.bool)], 1)
    return images, {"mask": mask, "boxes": boxes, "classes": classes, "masks": masks}


@pytest.mark.parametrize("change", [{"flip": True}, {"shift": 4}, {"scale": 0.3, "rotate": 20.0, "crop": 0.2}])
def test_a_target_follows_the_image(change: dict[str, object]) -> None:
    images = labelled()[0]
    found, labels = augment(images, {"target": images[:, :1].clone()}, AugmentConfig(**change), rng())  # type: ignore[arg-type]
    assert not torch.equal(found, images)
    assert torch.equal(labels["target"], found[:, :1])


@pytest.mark.parametrize(
    "change", [{"shift": 5}, {"scale": 0.3}, {"flip": True}, {"crop": 0.3}, {"shift": 3, "scale": 0.2, "flip": True}]
)
def test_boxes_and_masks_follow_the_image(change: dict[str, object]) -> None:
    images, labels = augment(*labelled(), AugmentConfig(**change), rng())  # type: ignore[arg-type]
    moved = 0
    for image, mask, boxes, classes, masks in zip(
        images, labels["mask"], labels["boxes"], labels["classes"], labels["masks"], strict=True
    ):
        bright = image[0] > 100
        rows, columns = bright.any(1).nonzero()[:, 0], bright.any(0).nonzero()[:, 0]
        seen = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
        assert (boxes[0] - seen).abs().max() <= 1.0
        assert ((mask == 3) != bright).float().mean() < 0.02
        assert (masks[0] != bright).float().mean() < 0.02
        assert classes.tolist() == [2, -1]
        moved += int((seen != torch.tensor([16.0, 12, 30, 24])).any())
    assert moved > 10


@pytest.mark.parametrize("change", [{"rotate": 40.0}, {"shear": 0.4}])
def test_a_rotated_box_still_holds_its_object(change: dict[str, float]) -> None:
    images, labels = augment(*labelled(), AugmentConfig(**change), rng())  # type: ignore[arg-type]
    for image, box in zip(images, labels["boxes"][:, 0], strict=True):
        rows, columns = (image[0] > 100).any(1).nonzero()[:, 0], (image[0] > 100).any(0).nonzero()[:, 0]
        assert columns[0] >= box[0] - 1
        assert columns[-1] <= box[2] + 1
        assert rows[0] >= box[1] - 1
        assert rows[-1] <= box[3] + 1


def test_outside_pixels_are_ignored_and_boxes_that_leave_are_dropped() -> None:
    images, labels = labelled(200)
    labels["boxes"][:, 0] = torch.tensor([0.0, 12, 4, 24])  # at the left border
    images, labels = augment(images, labels, AugmentConfig(shift=6), rng())
    assert (labels["mask"] == 255).any()
    assert not (images.squeeze(1)[labels["mask"] == 255] > 0).any()
    gone = labels["classes"][:, 0] == -1
    width = labels["boxes"][:, 0, 2] - labels["boxes"][:, 0, 0]
    assert gone.any()
    assert (~gone).any()
    assert (width[gone] < 1.0 + 1e-4).all()
    assert (width[~gone] > 1.0 - 1e-4).all()


def test_brightness_and_cutout() -> None:
    images = torch.full((50, 2, 20, 20), 100, dtype=torch.uint8)
    bright, _ = augment(images, {}, AugmentConfig(brightness=0.3), rng())
    values = bright[:, 0, 0, 0].float()
    assert values.min() >= 70
    assert values.max() <= 130
    assert len(values.unique()) > 10
    cut, _ = augment(images, {}, AugmentConfig(cutout=6), rng())
    assert int((cut == 128).sum((1, 2, 3)).max()) == 2 * 36
    assert (cut == 128).any((1, 2, 3)).all()


def test_intensity_is_normal_and_cut_off_at_two() -> None:
    images = torch.full((4000, 2, 2, 3), 100, dtype=torch.uint8)
    changed, _ = augment(images, {}, AugmentConfig(intensity=0.2), rng())
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, changed[:, :1, :1, :1].expand_as(changed))  # one factor for an image
    values = changed[:, 0, 0, 0].float()
    assert (values.min(), values.max()) == (60, 140)
    assert float((values == 140).float().mean()) == pytest.approx(0.0228, abs=0.01)  # P(N > 2)
    assert float(((values - 100).abs() <= 20).float().mean()) == pytest.approx(0.69, abs=0.03)  # P(|N| < 1)
    assert int(augment(images + 150, {}, AugmentConfig(intensity=0.2), rng())[0].max()) == 255
    alone, _ = augment(images[:8], {}, AugmentConfig(shift=4, intensity=0.2), rng(1))
    assert torch.equal(alone, augment(images[:8], {}, AugmentConfig(shift=4, intensity=0.2), rng(1))[0])


@pytest.mark.parametrize("config", ["classic/dqn", "boards/tic_tac_toe"])
def test_observations_that_are_no_pictures_are_refused(config: str) -> None:
    with pytest.raises(UsageError, match=r"learner\.augment needs observations that are pictures"):
        build(resolve(config, {"learner.augment.shift": 4, "run.threads": 1, "run.device": "cpu"}))


def test_an_agent_learns_from_augmented_observations() -> None:
    """The learner augments what it samples, so the loss of the same batch varies."""
    settings = {
        "learner.augment.shift": 4,
        "learner.precision": "fp32",
        "run.device": "cpu",
        "run.threads": 1,
        "env.num_envs": 2,
        "net.hidden": 8,
        "replay.capacity_agent_steps": 100,
        "replay.min_agent_steps": 10,
    }
    learner = build(resolve("atari/dqn", settings)).learner
    seen = []
    agent_loss = learner.agent.loss

    def spy(net: Any, target: Any, trajectory: Trajectory, rng: torch.Generator) -> Any:
        seen.append(trajectory.steps.observation)
        return agent_loss(net, target, trajectory, rng)

    learner.agent.loss = spy  # type: ignore[method-assign]
    learner.step(learner.stage(random_sample(4, 2, nchw=False, seed=1)))
    plain = torch.from_numpy(random_sample(4, 2, nchw=False, seed=1).trajectory.steps.observation)
    assert seen[0].shape == plain.shape
    assert not torch.equal(seen[0], plain)


def test_an_augmented_trajectory_keeps_its_shapes() -> None:
    """[T,B,C,H,W]: every step moves on its own, and nothing else changes."""
    observation = torch.randint(0, 255, (3, 4, 2, 12, 12), dtype=torch.uint8)
    zero = torch.zeros(3, 4)
    no = zero.bool()
    steps = Step(observation, zero, no, no, no, zero.long(), {"logp": zero})
    out = augmented(Trajectory(steps, ()), AugmentConfig(shift=4), rng())
    assert out.steps.observation.shape == observation.shape
    assert not torch.equal(out.steps.observation, observation)
    assert out.steps.extras["logp"] is zero
    again = augmented(Trajectory(steps, ()), AugmentConfig(shift=4), rng())
    assert torch.equal(out.steps.observation, again.steps.observation)  # by the generator alone
    flat = random_shift(observation.flatten(0, 1), 4, rng())
    assert torch.equal(out.steps.observation.flatten(0, 1), flat)
