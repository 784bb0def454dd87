"""The contract of heads that make pictures. Shapes: see the package."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from rlsuite.core.errors import UsageError
from rlsuite.nets.decoders import Shape
from rlsuite.vision.data import Data
from rlsuite.vision.head import Embed, Head


class Measured(Head):
    """Base class of heads that make pictures and are measured by averages over the test pictures."""

    embeds = True
    main: ClassVar[str]  # the metric that decides which weights are the best, the larger the better

    @abstractmethod
    def scores(self, images: Tensor, labels: dict[str, Tensor], embed: Embed, rng: torch.Generator) -> dict[str, Tensor]:
        """Measurements [N] of pictures [N,C,H,W] uint8, to be averaged over all of them. `rng`: on the CPU."""

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        """The metrics of an evaluation from the means of all `scores`."""
        return means

    def baselines(self, data: Data) -> dict[str, float]:
        """Metrics of simpler models on the same test pictures, by name."""
        return {}


class Maker(Measured):
    """Base class of heads that make pictures from codes."""

    samples: ClassVar[bool] = True  # whether codes can be drawn at random
    classes: int | None = None  # number of classes of pictures that can be requested; None if pictures have no class

    def __init__(self, picture: Shape, latent: int):
        """`picture`: shape (C,H,W) of the pictures; `latent`: L."""
        super().__init__()
        self.picture, self.latent = tuple(picture), latent

    @abstractmethod
    def decode(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Codes [N,L] f32, and classes [N] i64 if there are any -> pictures [N,C,H,W]."""

    def codes(self, count: int, rng: torch.Generator, truncation: float | None = None) -> Tensor:
        """Random codes [`count`,L] from N(0, I). UsageError if it has none. `rng`: on the CPU, so that every device draws the same.

        `truncation`: numbers beyond ± this are drawn again, for more typical pictures (Brock et al. 2019, section 3.1).
        """
        if not self.samples:
            raise UsageError(
                f"{type(self).__name__.lower()}: it has no generator, its codes have no known distribution; "
                "train model.head=vae or a GAN to sample, or rank pictures with `rlsuite vision anomalies`"
            )
        codes = torch.randn(count, self.latent, generator=rng)
        while truncation is not None and (beyond := codes.abs() > truncation).any():
            codes[beyond] = torch.randn(int(beyond.sum()), generator=rng)
        return codes


def unit(images: Tensor) -> Tensor:
    """Pictures in [0,1]: uint8 [N,C,H,W] -> f32."""
    return images.float() / 255
