"""Decoders: from a code to a picture, through the scales of a backbone in reverse, or to a vector.

Shapes: N codes, L numbers in a code, C channels, H x W pixels of a picture.
"""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from rlsuite.core.errors import unknown
from rlsuite.nets.backbones.bricks import NORMS, act_of, norm_of

UPS = ("transpose", "resize")
Shape = Sequence[int]  # (C,H,W) of a map or a picture


def up(i: int, o: int, size: Shape, to: Shape, how: str, *, norm: str = "none", act: str = "none") -> nn.Sequential:
    """A layer that upsamples [N,`i`,*`size`] to [N,`o`,*`to`], followed by normalisation and activation.

    `how`: `transpose`, the transpose of the convolution that would lead from `to` to `size` (Dumoulin & Visin 2016, section 4); or
    `resize`, nearest-neighbour resizing and a 3x3 convolution, which avoids checkerboard artefacts (Odena et al. 2016).
    """
    layer: list[nn.Module]
    if how == "transpose":
        sides = [_transposed(side, goal) for side, goal in zip(size, to, strict=True)]
        kernel, stride, padding = (tuple(values) for values in zip(*sides, strict=True))
        layer = [nn.ConvTranspose2d(i, o, kernel, stride, padding, bias=norm == "none")]
    else:
        layer = [nn.Upsample(tuple(to)), nn.Conv2d(i, o, 3, padding=1, bias=norm == "none")]
    between = [] if norm == "none" else [norm_of(norm, o)]
    return nn.Sequential(*layer, *between, *([] if act == "none" else [act_of(act)]))


def _transposed(side: int, to: int) -> tuple[int, int, int]:
    """Kernel, stride and padding of a transposed convolution from `side` to `to` pixels: (side - 1) stride - 2 padding + kernel.

    The padding is the smallest with which every output pixel is covered by the kernels of two inputs, or of three at stride 1.
    """
    stride = max(1, round(to / side))
    least = 2 * stride - 1 if stride > 1 else 3
    kernel, padding = to - (side - 1) * stride, 0
    while kernel < least:
        kernel, padding = kernel + 2, padding + 1
    return kernel, stride, padding


class Decoder(nn.Module):
    """A decoder to pictures: a dense layer to a map as large as the backbone's last, and upsampling through its finer maps' sizes.

    A `spatial` code is a flattened map of that size with `latent` channels: a 1x1 convolution replaces the dense layer.

    Each map has as many channels as the backbone's of that size. The output has no activation: its sigmoid is a picture.
    """

    def __init__(
        self, latent: int, maps: Sequence[Shape], picture: Shape, how: str = "resize", norm: str = "batch", spatial: bool = False
    ):
        """`maps`: shapes of the backbone's maps for pictures of shape `picture`, finest first.

        ValueError for an unknown `how`, UsageError for an unknown `norm`.
        """
        super().__init__()
        if how not in UPS:
            raise ValueError(f"up={how}: must be {' or '.join(UPS)}")
        if norm not in NORMS:
            raise unknown("norm of a decoder", norm, NORMS)
        channels = {tuple(shape[1:]): shape[0] for shape in maps}  # by size; the deepest map of each
        sizes = [*channels][::-1]
        first, deepest = sizes[0], channels[sizes[0]]
        bias = norm == "none"
        places = nn.Unflatten(1, (latent if spatial else deepest, *first))
        self.enter = nn.Sequential(
            *(
                (places, nn.Conv2d(latent, deepest, 1, bias=bias))
                if spatial
                else (nn.Linear(latent, deepest * first[0] * first[1], bias=bias), places)
            ),
            *([] if norm == "none" else [norm_of(norm, deepest)]),
            act_of("relu"),
        )
        parts = [up(channels[size], channels[to], size, to, how, norm=norm, act="relu") for size, to in itertools.pairwise(sizes)]
        self.ups = nn.Sequential(*parts, up(channels[sizes[-1]], picture[0], sizes[-1], picture[1:], how))

    def forward(self, code: Tensor) -> Tensor:
        """Codes [N,L] -> logits [N,C,H,W] f32."""
        logits: Tensor = self.ups(self.enter(code))
        return logits.float()


class DenseDecoder(nn.Module):
    """A decoder to any shape: dense layers with ReLU, as in the first generator of a GAN (Goodfellow et al. 2014, section 5)."""

    def __init__(self, latent: int, shape: Shape, hidden: int = 256):
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Linear(latent, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 2 * hidden), nn.ReLU(inplace=True)),
            *(nn.Linear(2 * hidden, math.prod(shape)), nn.Unflatten(1, tuple(shape))),
        )

    def forward(self, code: Tensor) -> Tensor:
        """Codes [N,L] -> logits [N,*shape] f32."""
        logits: Tensor = self.net(code)
        return logits.float()
