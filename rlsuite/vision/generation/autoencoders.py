"""Autoencoders: they encode a picture as a few numbers, from which it can be reconstructed. Shapes: see the package."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.nets.decoders import Decoder, Shape
from rlsuite.vision.baselines import pca_squared_error
from rlsuite.vision.data import Data
from rlsuite.vision.generation.base import Maker, unit
from rlsuite.vision.head import Embed
from rlsuite.vision.necks import Maps


class Autoencoder(Maker):
    """A backbone, a dense layer to a code, and a decoder that mirrors the backbone, trained by squared error.

    Hinton & Salakhutdinov 2006. With `denoise`, the input has Gaussian noise of that standard deviation, where white is 1, and the
    target is the clean picture (Vincent et al. 2010, section 3). With `spatial`, the code is a map of `latent` channels, as large
    as the backbone's last map, which preserves positions.
    """

    main = "psnr"
    samples = False
    outputs = 1  # outputs of the encoder per number of the code

    def __init__(
        self,
        maps: Sequence[Shape],
        picture: Shape,
        classes: int,
        latent: int = 32,
        denoise: float = 0.0,
        up: str = "resize",
        norm: str = "batch",
        spatial: bool = False,
    ):
        """`maps`, `up`, `norm`: see `Decoder`."""
        channels, height, width = maps[-1]
        super().__init__(picture, latent * height * width if spatial else latent)
        self.denoise, self.spatial = denoise, spatial
        if spatial:
            self.encoder: nn.Module = nn.Conv2d(channels, self.outputs * latent, 1)
        else:
            self.encoder = nn.Linear(math.prod(maps[-1]), self.outputs * latent)
        self.decoder = Decoder(latent, maps, picture, up, norm, spatial)

    def encode(self, pictures: Tensor, embed: Embed) -> Tensor:
        """The codes [N,L] of pictures [N,C,H,W], f32 in [0,1]."""
        return self.code(embed(pictures)[-1])

    def code(self, features: Tensor) -> Tensor:
        """The codes [N,L] of last maps [N,F,h,w] of the backbone."""
        return self._outputs(features)

    def _outputs(self, features: Tensor) -> Tensor:
        """The encoder's outputs for last maps: [N,`outputs`*L] f32."""
        found: Tensor = self.encoder(features if self.spatial else features.flatten(1))
        return found.flatten(1).float()

    def decode(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """See `Maker`."""
        return self.decoder(code).sigmoid()  # type: ignore[no-any-return]

    def predict(self, maps: Maps, images: Tensor, embed: Embed) -> Tensor:
        """The reconstructions of `images` [N,C,H,W] uint8."""
        return self.decode(self.encode(unit(images), embed))

    def baselines(self, data: Data) -> dict[str, float]:
        """See `Measured`: the squared error with as many principal components; none for a map, which has too many numbers."""
        return {} if self.spatial else {"pca_squared_error": pca_squared_error(data.train, data.test, self.latent)}

    def noisy(self, pictures: Tensor, noise: Tensor) -> Tensor:
        """Pictures with `noise` [N,C,H,W], which has standard deviation 1, added at the strength `denoise`; in [0,1] again."""
        return (pictures + self.denoise * noise).clamp(0, 1)

    def losses(
        self, maps: Maps, images: Tensor, labels: dict[str, Tensor], embed: Embed, part: str = ""
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean squared error of each picture [N], in units of white squared."""
        clean = unit(images)
        given = self.noisy(clean, torch.randn_like(clean)) if self.denoise else clean
        error = squared_error(self.decode(self.encode(given, embed)), clean)
        return error, {"losses/psnr": -10 * error.detach().mean().log10()}

    def scores(self, images: Tensor, labels: dict[str, Tensor], embed: Embed, rng: torch.Generator) -> dict[str, Tensor]:
        """Squared errors per pixel: of reconstructions of clean pictures and, with `denoise`, of noisy ones before and after."""
        clean = unit(images)
        found = {"squared_error": squared_error(self.decode(self.encode(clean, embed)), clean)}
        if self.denoise:
            noisy = self.noisy(clean, torch.randn(clean.shape, generator=rng).to(clean))
            found["noisy"] = squared_error(noisy, clean)
            found["denoised"] = squared_error(self.decode(self.encode(noisy, embed)), clean)
        return found

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        """The squared error per pixel, and peak signal-to-noise ratios (of mean errors) in decibels."""
        found = {"psnr": psnr(means["squared_error"]), **means}
        if self.denoise:
            found |= {f"{name}_psnr": psnr(found.pop(name)) for name in ("noisy", "denoised")}
        return found


class Vae(Autoencoder):
    """Variational autoencoder (Kingma & Welling 2014): codes are Gaussian, and should look like draws from N(0, I).

    It maximises ELBO = E[log p(x|z)] - KL(q(z|x) || N(0, I)), with `beta` times the second term (Higgins et al. 2017). Greys are
    probabilities of white: log p(x|z) is the log-probability of a black-and-white picture drawn from the greys, averaged over all
    such pictures, so the ELBO is a bound on their log-likelihood. In nats, for a whole picture.
    """

    main = "elbo"
    samples = True
    outputs = 2

    def __init__(
        self,
        maps: Sequence[Shape],
        picture: Shape,
        classes: int,
        latent: int = 32,
        beta: float = 1.0,
        up: str = "resize",
        norm: str = "batch",
    ):
        """`maps`, `up`, `norm`: see `Decoder`."""
        super().__init__(maps, picture, classes, latent, 0.0, up, norm)
        self.beta = beta

    def posterior(self, pictures: Tensor, embed: Embed) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance [N,L] of q(z|x), for pictures [N,C,H,W], f32 in [0,1]."""
        mean, log_variance = self._outputs(embed(pictures)[-1]).chunk(2, 1)
        return mean, log_variance.clamp(-12, 12)

    def code(self, features: Tensor) -> Tensor:
        """The means of q(z|x), for last maps of the backbone."""
        return self._outputs(features).chunk(2, 1)[0]

    def bound(self, pictures: Tensor, embed: Embed, noise: Tensor) -> tuple[Tensor, Tensor]:
        """E[log p(x|z)] from one code per picture, drawn with `noise` [N,L] from N(0, I), and the KL divergence; [N], in nats."""
        mean, log_variance = self.posterior(pictures, embed)
        logits = self.decoder(mean + (log_variance / 2).exp() * noise)
        likelihood = -F.binary_cross_entropy_with_logits(logits, pictures, reduction="none").sum((1, 2, 3))
        return likelihood, kl_from_normal(mean, log_variance)

    def losses(
        self, maps: Maps, images: Tensor, labels: dict[str, Tensor], embed: Embed, part: str = ""
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-E[log p(x|z)] + `beta` KL of each picture [N], in nats."""
        pictures = unit(images)
        likelihood, kl = self.bound(pictures, embed, torch.randn(len(pictures), self.latent, device=pictures.device))
        elbo = (likelihood - kl).detach().mean()
        return self.beta * kl - likelihood, {"losses/elbo": elbo, "losses/kl": kl.detach().mean()}

    def scores(self, images: Tensor, labels: dict[str, Tensor], embed: Embed, rng: torch.Generator) -> dict[str, Tensor]:
        """ELBO and KL divergence in nats, from one code per picture, and the squared error per pixel from mean codes."""
        pictures = unit(images)
        noise = torch.randn(len(pictures), self.latent, generator=rng).to(pictures)
        likelihood, kl = self.bound(pictures, embed, noise)
        return {"elbo": likelihood - kl, "kl": kl, **super().scores(images, labels, embed, rng)}


def squared_error(found: Tensor, true: Tensor) -> Tensor:
    """The mean over the pixels of each picture: [N,C,H,W] -> [N]."""
    return (found - true).square().mean((1, 2, 3))


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio in decibels of a mean squared error, where white is 1."""
    return -10 * math.log10(max(error, 1e-12))


def kl_from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) in nats, [N,L] -> [N] (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
