"""StyleGAN (Karras et al. 2019): codes become styles, which set mean and scale of the generator's maps. Shapes: see the package.

This is a small version, for pictures of about 32x32, whose maps have the sizes of the discriminator's in reverse.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.core.errors import UsageError
from rlsuite.nets.backbones.bricks import InstanceNorm, act_of
from rlsuite.nets.decoders import Shape
from rlsuite.vision.generation.gans import Gan, Settings
from rlsuite.vision.head import Embed

MAPPING_RATE = 0.01  # relative learning rate of the mapping network's layers (appendix C)
MEAN_RATE = 0.005  # rate at which the mean style follows the batches (appendix B: a decay of 0.995)


class MappingLayer(nn.Linear):
    """A dense layer that keeps the scale of its inputs and learns at `MAPPING_RATE` times the learning rate.

    Its parameters are larger by 1 / `MAPPING_RATE`, and Adam's steps do not depend on the size of the parameters.
    """

    def __init__(self, latent: int):
        super().__init__(latent, latent)
        nn.init.normal_(self.weight, std=math.sqrt(2 / latent) / MAPPING_RATE)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [N,L] -> [N,L]."""
        return F.linear(x, self.weight * MAPPING_RATE, self.bias * MAPPING_RATE)


class Styled(nn.Module):
    """A 3x3 convolution, noise, leaky ReLU, and AdaIN: each channel gets the mean and scale of the style (equation 1)."""

    def __init__(self, i: int, o: int, size: Sequence[int], latent: int):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3, padding=1)
        self.strength = nn.Parameter(torch.zeros(o, 1, 1))  # of the noise
        self.act = act_of("leaky2")
        self.norm = InstanceNorm(o)
        self.style = nn.Linear(latent, 2 * o)
        with torch.no_grad():
            self.style.bias[:o] = 1  # scales
        self.register_buffer("noise", torch.randn(1, 1, *size))
        self.noise: Tensor  # of evaluations

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [N,i,H,W] and styles [N,L] -> [N,o,H,W]."""
        x = self.conv(x)
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device) if self.training else self.noise
        scale, mean = self.style(w)[:, :, None, None].chunk(2, 1)
        return scale * self.norm(self.act(x + self.strength * noise)) + mean  # type: ignore[no-any-return]


class StyleGenerator(nn.Module):
    """Mapping network and synthesis network (figure 1b): a constant, and two `Styled` convolutions at each size.

    If no map of D has the size of the picture, that size gets half the channels of the one before.

    In training, a share `mixing` of the pictures has two styles, one up to a random layer and one from there on (section 3.1).
    """

    def __init__(self, maps: Sequence[Shape], picture: Shape, latent: int, depth: int, mixing: float):
        """`depth`: dense layers of the mapping network."""
        super().__init__()
        channels = {tuple(shape[1:]): shape[0] for shape in maps}
        sizes = [*channels][::-1]
        if max(sizes[0]) == 1:
            raise UsageError("the backbone's last map of 1x1 has no pixels that AdaIN could normalise over; use fewer strides")
        if sizes[-1] != tuple(picture[1:]):
            channels[tuple(picture[1:])] = max(channels[sizes[-1]] // 2, 1)
            sizes.append(tuple(picture[1:]))
        self.mixing, self.latent = mixing, latent
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [MappingLayer(latent), act_of("leaky2")]
        self.mapping = nn.Sequential(*layers)
        self.start = nn.Parameter(torch.ones(1, channels[sizes[0]], *sizes[0]))
        self.layers = nn.ModuleList([Styled(channels[sizes[0]], channels[sizes[0]], sizes[0], latent)])
        for size, to in itertools.pairwise(sizes):
            self.layers.append(Styled(channels[size], channels[to], to, latent))
            self.layers.append(Styled(channels[to], channels[to], to, latent))
        self.last = nn.Conv2d(channels[sizes[-1]], picture[0], 1)
        self.register_buffer("mean", torch.zeros(latent))
        self.mean: Tensor  # of the styles

    def styles(self, code: Tensor, truncation: float = 1.0) -> Tensor:
        """Codes [N,L] -> styles [N,L] f32; `truncation`: 1 leaves them as they are, 0 makes all of them the mean (appendix B)."""
        w: Tensor = self.mapping(F.normalize(code, dim=1) * self.latent**0.5).float()
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(w.mean(0), MEAN_RATE)
        return w if truncation == 1 else self.mean + truncation * (w - self.mean)

    def synthesis(self, first: Tensor, second: Tensor, cross: Tensor) -> Tensor:
        """Styles [N,L] up to layer `cross` [N] and from there -> logits [N,C,H,W] f32."""
        x = self.start.expand(len(first), -1, -1, -1)
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Styled)
            x = x if x.shape[2:] == layer.noise.shape[2:] else F.interpolate(x, size=layer.noise.shape[2:])
            x = layer(x, torch.where((index < cross)[:, None], first, second))
        return self.last(x).float()  # type: ignore[no-any-return]

    def forward(self, code: Tensor) -> Tensor:
        """Codes [N,L] -> logits [N,C,H,W] f32."""
        w, count = self.styles(code), len(self.layers)
        cross = torch.full((len(w),), count, device=w.device)
        if self.training and self.mixing:
            mixed = torch.rand(len(w), device=w.device) < self.mixing
            cross = torch.where(mixed, torch.randint(1, count, (len(w),), device=w.device), cross)
        return self.synthesis(w, w.roll(1, 0), cross)


class StyleGan(Gan):
    """StyleGAN's losses are those of `Gan`.

    D also sees how much the pictures of a batch differ, so that G cannot make the same one again and again (Karras et al. 2018,
    section 3): the standard deviation of each feature over the batch, averaged over the features.
    """

    generator: StyleGenerator

    def __init__(self, maps: Sequence[Shape], picture: Shape, generator: StyleGenerator, latent: int, settings: Settings):
        """See `Gan`."""
        super().__init__(maps, picture, generator, latent, settings)
        self.score = nn.Linear(math.prod(maps[-1]) + 1, 1)

    def codes(self, count: int, rng: torch.Generator, truncation: float | None = None) -> Tensor:
        """See `Maker`; also refuses a truncation, since it is styles that are truncated, not codes."""
        if truncation is not None:
            raise UsageError(
                "stylegan truncates styles, not codes: see truncation.png of `rlsuite vision sample`; leave out --truncation"
            )
        return super().codes(count, rng)

    def judge(self, pictures: Tensor, label: Tensor | None, embed: Embed) -> Tensor:
        """See `Gan`."""
        features = embed(pictures)[-1].flatten(1)
        spread = (features.float().var(0, correction=0) + 1e-8).sqrt().mean().to(features)
        return self.score(torch.cat([features, spread.expand(len(features), 1)], 1)).float()[:, 0]  # type: ignore[no-any-return]


def stylegan(
    maps: Sequence[Shape],
    picture: Shape,
    classes: int,
    latent: int = 64,
    depth: int = 4,
    mixing: float = 0.9,
    r1: float = 1.0,
    rate: float = 1.0,
) -> StyleGan:
    """StyleGAN: `depth` layers of the mapping network, `mixing` of styles, weight `r1` of the gradient penalty."""
    return StyleGan(maps, picture, StyleGenerator(maps, picture, latent, depth, mixing), latent, Settings(False, rate, r1))
