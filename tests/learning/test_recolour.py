"""Random colours: the same for all planes and steps, curves that rise or fall, mixtures that keep grey, and styles by hand."""

from typing import Any

import pytest
import torch

from rlsuite.config.augment import AugmentConfig
from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.core.types import Step, Trajectory
from rlsuite.factories import build
from rlsuite.learning.augment import augmented
from rlsuite.learning.recolour import change_colours, curves, mixed_styles, mixtures, random_mixtures


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stacks(n: int, channels: int = 4, seed: int = 0) -> torch.Tensor:
    """Images [N,C,H,W], channels last in memory."""
    planes = torch.randint(1, 256, (n, 12, 10, channels), generator=rng(seed), dtype=torch.uint8)
    return planes.permute(0, 3, 1, 2)


def map_of(before: torch.Tensor, after: torch.Tensor) -> dict[int, int]:
    """What each level became; fails if one became two."""
    pairs = set(zip(before.flatten().tolist(), after.flatten().tolist(), strict=True))
    found = dict(pairs)
    assert len(found) == len(pairs)
    return found


def test_curves_are_smooth_and_rise_or_fall_all_the_way() -> None:
    found = curves(400, rng()).int()
    steps = found.diff(dim=1)
    rising, falling = (steps >= 0).all(1), (steps <= 0).all(1)
    assert (rising | falling).all()
    assert 150 < int(rising.sum()) < 250
    spans = (found[:, -1] - found[:, 0]).abs()
    assert int(spans.min()) >= 0.4 * 255 - 1
    assert int(spans.max()) <= 255
    # The median of the largest step between neighbouring levels: no jumps.
    assert int(steps.abs().amax(1).float().median()) <= 8
    middle = found[rising][:, 128].float() / 255
    assert float(middle.std()) > 0.1  # they differ


@pytest.mark.parametrize("t", [1, 3])
def test_all_planes_and_steps_of_a_sequence_change_alike(t: int) -> None:
    b = 5
    observation = stacks(t * b).view(t, b, 4, 12, 10)
    no, zero = torch.zeros(t, b, dtype=torch.bool), torch.zeros(t, b)
    trajectory = Trajectory(Step(observation, zero, no, no, no, zero.long(), {}), ())
    after = augmented(trajectory, AugmentConfig(recolour=1.0), rng()).steps.observation
    maps = [map_of(observation[:, column], after[:, column]) for column in range(b)]
    for one in maps:
        levels = [one[level] for level in sorted(one)]
        assert levels in (sorted(levels), sorted(levels, reverse=True))
    assert len({tuple(sorted(one.items())) for one in maps}) == b  # each sequence has its own
    assert after.shape == observation.shape
    assert after.movedim(2, -1).is_contiguous() == observation.movedim(2, -1).is_contiguous()


def test_a_share_of_the_sequences_changes_and_blank_planes_stay_blank() -> None:
    images = stacks(300)
    images[:, :2] = 0  # as before an episode's first frame
    after = change_colours(images, AugmentConfig(recolour=0.3), rng(), 1)
    changed = (after != images).flatten(1).any(1)
    assert 60 < int(changed.sum()) < 120
    assert not after[:, :2].any()
    assert torch.equal(images, stacks(300) * (torch.arange(4) >= 2)[None, :, None, None])  # the batch itself is left alone


def test_mixtures_keep_grey_and_include_turns_of_the_hue() -> None:
    matrices = mixtures(500, rng())
    torch.testing.assert_close(matrices.sum(-1), torch.ones(500, 3))
    reds = matrices[:, :, 0]  # what red becomes
    assert {int(row.argmax()) for row in reds} == {0, 1, 2}
    images = stacks(40, channels=3)
    images[:, 1:] = images[:, :1]  # greys
    after = random_mixtures(images, rng(), 1)
    assert torch.equal(after[:, 0], after[:, 1])
    kept, inverted = ((after == one).flatten(1).all(1) for one in (images, 255 - images))
    assert (kept | inverted).all()
    assert 0 < int(kept.sum()) < 40


def test_a_colour_of_one_channel_is_not_blank() -> None:
    images = stacks(64, channels=3)
    images[:, 1:] = 0  # pure red
    after = change_colours(images, AugmentConfig(recolour=1.0, planes="colours"), rng(), 1)
    assert (after[:, 1:].flatten(1).amax(1) > 0).float().mean() > 0.9


def test_styles_are_those_of_the_other_sequence_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sequences of two steps; all of the way, each gets the other's mean and spread over both steps."""
    dark = torch.tensor([10, 30], dtype=torch.uint8).view(2, 1, 1, 1).repeat(1, 1, 1, 2)  # mean 20, spread 10
    light = torch.tensor([100, 180], dtype=torch.uint8).view(2, 1, 1, 1).repeat(1, 1, 1, 2)  # mean 140, spread 40
    images = torch.stack([dark, light], 1).flatten(0, 1)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.tensor([1.0, 0.0]) if shape == (2,) else torch.ones(shape))
    found = mixed_styles(images, rng(), 2, by_channel=False)
    assert found[:, 0, 0, 0].tolist() == [100, 10, 180, 30]
    assert found.dtype == torch.uint8


def test_styles_by_channel_move_each_channel_alone() -> None:
    images = torch.stack([torch.full((3, 4, 4), 40), torch.full((3, 4, 4), 40)]).to(torch.uint8)
    images[1, 0] = 200
    torch.manual_seed(0)
    found = torch.stack([mixed_styles(images, rng(seed), 1, by_channel=True) for seed in range(8)])
    assert (found[:, :, 1:] == 40).all()  # where both have the same
    assert found[:, 0, 0].float().mean() > 40
    assert ((found[:, :, 0] >= 40) & (found[:, :, 0] <= 200)).all()


def test_an_agent_learns_from_other_colours() -> None:
    settings = {
        "learner.augment.recolour": 1.0,
        "learner.augment.style": 0.5,
        "run.device": "cpu",
        "run.threads": 1,
        "env.num_envs": 2,
        "net.hidden": 8,
        "replay.capacity_agent_steps": 100,
        "replay.min_agent_steps": 10,
    }
    from rlsuite.bench.learner import random_sample

    learner = build(resolve("atari/dqn", settings)).learner
    seen: list[torch.Tensor] = []
    agent_loss = learner.agent.loss

    def spy(net: Any, target: Any, trajectory: Trajectory, generator: torch.Generator) -> Any:
        seen.append(trajectory.steps.observation)
        return agent_loss(net, target, trajectory, generator)

    learner.agent.loss = spy  # type: ignore[method-assign]
    learner.step(learner.stage(random_sample(4, 2, nchw=False, seed=1)))
    plain = torch.from_numpy(random_sample(4, 2, nchw=False, seed=1).trajectory.steps.observation)
    assert seen[0].shape == plain.shape
    assert not torch.equal(seen[0], plain)


def test_planes_without_a_change_of_colours_are_refused() -> None:
    with pytest.raises(UsageError, match=r"augment\.planes = colours has no effect without .*recolour > 0 or style > 0"):
        resolve("atari/dqn", {"learner.augment.planes": "colours", "learner.augment.shift": 4})
    assert resolve("atari/dqn", {"learner.augment.planes": "colours", "learner.augment.style": 0.5}).learner.augment.style == 0.5


def test_planes_that_are_no_colours_are_refused() -> None:
    settings = {"learner.augment.recolour": 0.5, "learner.augment.planes": "colours", "run.threads": 1, "run.device": "cpu"}
    with pytest.raises(UsageError, match=r"planes = colours: the images have 4 planes, not red, green and blue; use grey"):
        build(resolve("atari/dqn", settings))
