"""Random augmentation of images with their boxes and masks, for a whole batch at once, on the images' device.

All geometric changes of an image are one affine map, so that image, masks and boxes cannot drift apart.
Shapes: N images, C channels, H x W pixels, at most M objects in an image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlsuite.config.augment import AugmentConfig
from rlsuite.core.types import Trajectory
from rlsuite.learning.recolour import change_colours

Labels = dict[str, Tensor]
LABELS = ("mask", "boxes", "classes", "masks", "target")  # labels that move with their image


def random_shift(images: Tensor, pixels: int, rng: torch.Generator) -> Tensor:
    """DrQ's augmentation (Kostrikov et al. 2021): shifts each image [N,C,H,W], of any dtype, by whole pixels; borders repeat.

    All channels of an image move together.
    """
    n, channels, height, width = images.shape
    by = torch.randint(-pixels, pixels + 1, (2, n, 1), generator=rng, device=images.device)
    rows = (torch.arange(height, device=images.device) + by[0]).clamp(0, height - 1)  # [N,H]
    # A row of the result is a run of values in memory, once the channels are last and the borders are there.
    image = images.permute(0, 2, 3, 1)
    left, right = (edge.expand(-1, -1, pixels, -1) for edge in (image[:, :, :1], image[:, :, -1:]))
    wide = torch.cat([left, image, right], 2)  # [N,H,W+2*pixels,C]
    index = torch.arange(n, device=images.device).unsqueeze(1)
    begin = (index * height + rows) * wide.shape[2] + pixels + by[1]  # [N,H]
    runs = wide.reshape(-1).unfold(0, width * channels, channels)  # a view: the runs from every pixel
    return runs.index_select(0, begin.flatten()).view(n, height, width, channels).permute(0, 3, 1, 2)


def augment(images: Tensor, labels: Labels, config: AugmentConfig, rng: torch.Generator, steps: int = 1) -> tuple[Tensor, Labels]:
    """Augments images [N,C,H,W] uint8, and transforms their labels with them.

    Colours change in the same way in all `steps` of a sequence; images are ordered by step, then by sequence.

    Labels may hold `mask` [N,H,W], `boxes` [N,M,4] with `classes` [N,M] (-1: none), `masks` [N,M,H,W] and `target` [N,P,H,W], which
    is another picture. Pixels from outside the image become 0, and 255 (ignored) in `mask`; with `shift` alone and no labels, the
    border is repeated instead. A box that loses more than three quarters of its area at the border is dropped.
    """
    if config.recolour or config.style:
        images = change_colours(images, config, rng, steps)
    deforms = config.scale or config.rotate or config.shear or config.flip or config.crop
    if config.shift and not deforms and not labels:
        images = random_shift(images, config.shift, rng)
    elif config.shift or deforms:
        images, labels = _move(images, dict(labels), _maps(images, config, rng))
    if config.brightness:
        images = _brighten(images, 1 + config.brightness * (2 * _uniform(len(images), rng, images.device) - 1))
    if config.intensity:
        normal = torch.randn(len(images), generator=rng, device=images.device)
        images = _brighten(images, 1 + config.intensity * normal.clamp(-2, 2))
    if config.cutout:
        images = _cut(images, config.cutout, rng)
    return images, labels


def _brighten(images: Tensor, factor: Tensor) -> Tensor:
    """Images [N,C,H,W] times their factors [N], rounded and clamped to 0..255, in their own dtype."""
    bright = images.to(torch.float32, copy=True).mul_(factor.view(-1, 1, 1, 1))  # in place below: new memory takes as long
    return bright.round_().clamp_(0, 255).to(images.dtype)


def _uniform(n: int, rng: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(n, generator=rng, device=device)


def _maps(images: Tensor, config: AugmentConfig, rng: torch.Generator) -> Tensor:
    """Affine maps [N,2,3] from pixels of the result to pixels of the source, both counted from the centre of the image."""
    n, device = len(images), images.device

    def both_ways(most: float) -> Tensor:
        """Uniform samples from ± `most`, [N]."""
        return most * (2 * _uniform(n, rng, device) - 1)

    angle = both_ways(config.rotate) * torch.pi / 180
    window = 1 - config.crop * _uniform(n, rng, device)  # [N] the part of each side that is kept
    size = window / (1 + both_ways(config.scale))
    shear = both_ways(config.shear)
    mirror = torch.where(_uniform(n, rng, device) < 0.5, -1.0, 1.0) if config.flip else torch.ones(n, device=device)
    cos, sin = size * angle.cos(), size * angle.sin()
    linear = torch.stack(
        [torch.stack([cos * mirror, -sin + shear * cos], -1), torch.stack([sin * mirror, cos + shear * sin], -1)], -2
    )
    sides = torch.tensor(images.shape[:1:-1], dtype=torch.float32, device=device)  # width, height
    slack = (1 - window)[:, None] * sides / 2 * (2 * torch.rand(n, 2, generator=rng, device=device) - 1)
    move = slack + torch.stack([both_ways(config.shift).round(), both_ways(config.shift).round()], -1)
    return torch.cat([linear, move.unsqueeze(-1)], -1)


def _move(images: Tensor, labels: Labels, maps: Tensor) -> tuple[Tensor, Labels]:
    height, width = images.shape[2:]
    half = images.new_tensor([width / 2, height / 2], dtype=torch.float32)
    # affine_grid counts from -1 to 1 over the whole side.
    theta = maps.clone()
    theta[:, :, :2] = maps[:, :, :2] * half / half[:, None]
    theta[:, :, 2] = maps[:, :, 2] / half
    grid = F.affine_grid(theta, [len(images), 1, height, width], align_corners=False)
    images = _sample(images, grid)
    if "target" in labels:
        labels["target"] = _sample(labels["target"], grid)
    if "mask" in labels:
        labels["mask"] = _sample_mask(labels["mask"].unsqueeze(1), grid).squeeze(1)
    if "boxes" in labels:
        inverse = torch.linalg.inv(maps[:, :, :2])
        boxes = labels["boxes"]
        # Maps all four corners, counted from the centre: a rotated box becomes the smallest upright box around it.
        corners = boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(*boxes.shape[:2], 4, 2)  # [N,M,4,2]
        corners = corners - half - maps[:, None, None, :, 2]
        corners = torch.einsum("nij,nmcj->nmci", inverse, corners) + half
        moved = torch.cat([corners.amin(2), corners.amax(2)], -1)
        cut = torch.minimum(moved.clamp(min=0), torch.cat([half, half]) * 2)
        share = (cut[..., 2:] - cut[..., :2]).prod(-1) / (moved[..., 2:] - moved[..., :2]).prod(-1).clamp(min=1e-9)
        gone = share < 0.25
        labels["boxes"] = cut
        labels["classes"] = torch.where(gone, -1, labels["classes"])
    if "masks" in labels:
        masks = labels["masks"]
        labels["masks"] = F.grid_sample(masks.float(), grid, mode="nearest", align_corners=False).to(masks.dtype)
    return images, labels


def _sample(pictures: Tensor, grid: Tensor) -> Tensor:
    """Pictures [N,C,H,W] at the points of a grid, interpolated bilinearly; 0 outside."""
    return F.grid_sample(pictures.float(), grid, align_corners=False).round().to(pictures.dtype)


def _sample_mask(mask: Tensor, grid: Tensor) -> Tensor:
    """Mask values at the nearest pixels; 255 outside the image."""
    sampled = F.grid_sample(mask.float() + 1, grid, mode="nearest", align_corners=False).round()
    return torch.where(sampled == 0, 256.0, sampled).sub(1).to(mask.dtype)


def _cut(images: Tensor, side: int, rng: torch.Generator) -> Tensor:
    n, _, height, width = images.shape
    y, x = (torch.randint(0, size, (n, 1), generator=rng, device=images.device) for size in (height, width))
    down, across = torch.arange(height, device=images.device) - y, torch.arange(width, device=images.device) - x
    rows = (down >= -(side // 2)) & (down < side - side // 2)  # [N,H]
    columns = (across >= -(side // 2)) & (across < side - side // 2)  # [N,W]
    hole = (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
    return torch.where(hole, torch.full_like(images[:1, :1, :1, :1], 128), images)


def augmented(trajectory: Trajectory, config: AugmentConfig, rng: torch.Generator) -> Trajectory:
    """A trajectory with observations [T,B,C,H,W] augmented independently, as DrQ augments a state and the next one.

    Only colours change in the same way throughout a sequence: if they varied by step, changes over time would mean nothing.

    Extras [T,B,...] that label an image (`LABELS`) are transformed with it.
    """
    steps = trajectory.steps
    t, b = steps.observation.shape[:2]
    labels = {name: steps.extras[name].flatten(0, 1) for name in LABELS if name in steps.extras}
    images, labels = augment(steps.observation.flatten(0, 1), labels, config, rng, t)
    extras = {**steps.extras, **{name: leaf.reshape(t, b, *leaf.shape[1:]) for name, leaf in labels.items()}}
    # A view that splits the first axis, whatever the memory layout is.
    observation = images.as_strided((t, b, *images.shape[1:]), (b * images.stride(0), *images.stride()))
    return trajectory._replace(steps=steps._replace(observation=observation, extras=extras))
