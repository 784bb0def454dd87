"""Random changes of images' colours, so that a net learns not to depend on them (domain randomisation, Tobin et al. 2017).

Shapes: B sequences of T steps, N = T * B images, ordered by step; C planes of H x W pixels.
"""

import torch
from torch import Tensor

from rlsuite.config.augment import AugmentConfig
from rlsuite.core.errors import UsageError

LEVELS = 256  # of a byte
WAVES = 4  # cosines in the slope of a curve
MIXTURE = 0.5  # largest weight of a random mixture of the channels


def check_planes(config: AugmentConfig, channels: int) -> None:
    """UsageError if the config says that planes are colours, but images do not have three."""
    if config.planes == "colours" and channels != 3:
        raise UsageError(f"learner.augment.planes = colours: the images have {channels} planes, not red, green and blue; use grey")


def change_colours(images: Tensor, config: AugmentConfig, rng: torch.Generator, steps: int) -> Tensor:
    """Applies `config.recolour` and `config.style` to images [N,C,H,W] uint8, in the same way to all `steps` of a sequence.

    Blank frames, such as those before the first one of an episode, stay blank.
    """
    in_colour = config.planes == "colours"
    seen = images.amax((1, 2, 3) if in_colour else (2, 3), keepdim=True) > 0
    changed = images
    if config.recolour:
        change = random_mixtures if in_colour else random_curves
        changed = _some(config.recolour, changed, change(changed, rng, steps), rng, steps)
    if config.style:
        changed = _some(config.style, changed, mixed_styles(changed, rng, steps, in_colour), rng, steps)
    return torch.where(seen, changed, images)


def _some(share: float, images: Tensor, changed: Tensor, rng: torch.Generator, steps: int) -> Tensor:
    """`changed` in a random `share` of the sequences, `images` in the others."""
    chosen = torch.rand(len(images) // steps, generator=rng, device=images.device) < share
    return torch.where(_of_all(chosen, steps)[:, None, None, None], changed, images)


def _of_all(draws: Tensor, steps: int) -> Tensor:
    """Repeats draws [B,...] for sequences to those for their images [N,...]."""
    return draws.repeat(steps, *([1] * (draws.dim() - 1)))


def random_curves(images: Tensor, rng: torch.Generator, steps: int) -> Tensor:
    """Applies a random one of `curves` to the grey levels of each sequence."""
    tables = curves(len(images) // steps, rng)  # [B,256]
    start = LEVELS * torch.arange(len(tables), device=images.device)[:, None, None, None]
    found = torch.empty_like(images)
    for now, then in zip(images.chunk(steps), found.chunk(steps), strict=True):  # indices take eight times the memory of bytes
        then.copy_(tables.flatten()[now.permute(0, 2, 3, 1) + start].permute(0, 3, 1, 2))
    return found


def curves(count: int, rng: torch.Generator) -> Tensor:
    """Random smooth, monotone curves over the levels of grey [`count`,256] uint8, rising or falling with equal probability.

    Their slope is the exponential of a sum of cosines, so contrasts differ by large factors; they span 0.4 to 1 of the range.
    """
    device = rng.device
    waves = torch.randn(count, WAVES, generator=rng, device=device)
    at = torch.linspace(0, 1, LEVELS, device=device)
    cosines = (torch.pi * torch.arange(1, WAVES + 1, device=device)[:, None] * at).cos()  # [WAVES,256]
    rise = (waves @ cosines).exp().cumsum(1)
    rise = (rise - rise[:, :1]) / (rise[:, -1:] - rise[:, :1])
    low, high = 0.3 * torch.rand(2, count, 1, generator=rng, device=device)
    curve = low + (1 - low - high) * rise
    falls = torch.rand(count, 1, generator=rng, device=device) < 0.5
    return (torch.where(falls, 1 - curve, curve) * (LEVELS - 1)).round().to(torch.uint8)


def random_mixtures(images: Tensor, rng: torch.Generator, steps: int) -> Tensor:
    """Rotates the RGB colours of each sequence by a random angle around the grey axis, mixes them, and inverts half of them."""
    count, device = len(images) // steps, images.device
    matrices = _of_all(mixtures(count, rng), steps)  # [N,3,3]
    inverted = _of_all(torch.rand(count, generator=rng, device=device) < 0.5, steps)[:, None, None, None]
    pixels = images.permute(0, 2, 3, 1)
    mixed = torch.einsum("nij,nhwj->nhwi", matrices, pixels.float()).round().clamp(0, LEVELS - 1).to(images.dtype)
    return torch.where(inverted, LEVELS - 1 - mixed, mixed).permute(0, 3, 1, 2)


def mixtures(count: int, rng: torch.Generator) -> Tensor:
    """Random colour matrices [`count`,3,3] whose rows sum to 1, so that greys stay the same."""
    device = rng.device
    angle = 2 * torch.pi * torch.rand(count, generator=rng, device=device)
    # A rotation around (1, 1, 1) is circulant.
    parts = [(1 + 2 * (angle + third * 2 * torch.pi / 3).cos()) / 3 for third in range(3)]
    turn = torch.stack([torch.stack([parts[(j - i) % 3] for j in range(3)], -1) for i in range(3)], -2)
    rows = torch.rand(count, 3, 3, generator=rng, device=device)
    share = MIXTURE * torch.rand(count, 1, 1, generator=rng, device=device)
    return (1 - share) * turn + share * rows / rows.sum(-1, keepdim=True)


def mixed_styles(images: Tensor, rng: torch.Generator, steps: int, by_channel: bool) -> Tensor:
    """Moves each sequence's mean and standard deviation some way towards those of another sequence in the batch.

    Like MixStyle, but on images instead of features, and with a uniform mixing weight instead of one from a beta distribution.
    Statistics are over all pixels of a sequence, `by_channel` or over all channels together.
    """
    count, device = len(images) // steps, images.device
    pixels = images.float().view(steps, count, *images.shape[1:])  # [T,B,C,H,W]
    axes = (0, 3, 4) if by_channel else (0, 2, 3, 4)
    mean, spread = pixels.mean(axes, keepdim=True), pixels.std(axes, keepdim=True, correction=0)
    other = torch.rand(count, generator=rng, device=device).argsort()
    share = torch.rand(1, count, 1, 1, 1, generator=rng, device=device)
    new_mean, new_spread = (torch.lerp(own, own[:, other], share) for own in (mean, spread))
    styled = (pixels - mean) / spread.clamp(min=1e-3) * new_spread + new_mean
    return styled.round().clamp(0, LEVELS - 1).to(images.dtype).flatten(0, 1)
