"""Generative adversarial networks: a generator makes pictures, a discriminator tells them from real ones. Shapes: see the package.

The backbone with a dense layer is the discriminator D, so every backbone can be one; G makes pictures from codes z ~ N(0, I).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.core.agent import Part
from rlsuite.nets.decoders import Decoder, DenseDecoder, Shape
from rlsuite.vision.generation.base import Maker, unit
from rlsuite.vision.head import Embed
from rlsuite.vision.necks import Maps

Shapes = Sequence[Shape]

DISCRIMINATOR, GENERATOR = "discriminator", "generator"


class Settings(NamedTuple):
    """How D and G are trained, see `Gan`."""

    min_max: bool
    rate: float  # factor on the learning rate of D (Heusel et al. 2017)
    r1: float


class Gan(Maker):
    """GAN (Goodfellow et al. 2014): min over G, max over D of V = E[log D(x)] + E[log(1 - D(G(z)))].

    With `min_max`, G minimises V itself, whose gradient vanishes where D is certain; otherwise it maximises E[log D(G(z))], which
    has the same optimum (section 3, the -log D trick). At the optimum, D is 1/2 everywhere; alternating gradient steps only
    approach it if D also minimises `r1` / 2 |∇D(x)|² at real pictures x (Mescheder et al. 2018, equation 9).
    """

    main = "balance"

    def __init__(self, maps: Shapes, picture: Shape, generator: nn.Module, latent: int, settings: Settings):
        """`maps`: shapes of the backbone's maps; `generator`: codes [N,L] -> logits [N,C,H,W]."""
        super().__init__(picture, latent)
        self.min_max, self.rate, self.r1 = settings
        self.score = nn.Linear(math.prod(maps[-1]), 1)
        self.generator = generator

    def parts(self, rest: tuple[nn.Module, ...]) -> dict[str, Part]:
        """D, then G, as in algorithm 1 of the paper with k = 1."""
        return {DISCRIMINATOR: Part((*rest, self.score), self.rate), GENERATOR: Part((self.generator,))}

    def decode(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """See `Maker`."""
        return self.generator(code).sigmoid()  # type: ignore[no-any-return]

    def judge(self, pictures: Tensor, label: Tensor | None, embed: Embed) -> Tensor:
        """D's logits [N] that pictures [N,C,H,W] (of the classes [N]) are real."""
        features = embed(pictures)[-1].flatten(1)
        return self.score(features).float()[:, 0]  # type: ignore[no-any-return]

    def labels(self, labels: dict[str, Tensor]) -> Tensor | None:
        """The classes that G and D are given; None if they are given none."""
        return None

    def predict(self, maps: Maps, images: Tensor, embed: Embed) -> Tensor:
        """D's probability [N] that each picture is real."""
        return self.judge(unit(images), None, embed).sigmoid()

    def losses(
        self, maps: Maps, images: Tensor, labels: dict[str, Tensor], embed: Embed, part: str = ""
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss [N] of D or of G, in nats."""
        label = self.labels(labels)
        code = torch.randn(len(images), self.latent, device=images.device)
        with torch.set_grad_enabled(part == GENERATOR):
            made = self.decode(code, label)
        fake = self.judge(made, label, embed)
        if part == GENERATOR:
            return generator_loss(fake, self.min_max), {}
        pictures = unit(images).requires_grad_(bool(self.r1))
        real = self.judge(pictures, label, embed)
        loss = discriminator_loss(real, fake)
        metrics = {
            "losses/value": -loss.detach().mean(),
            "losses/d_real": real.detach().sigmoid().mean(),
            "losses/d_fake": fake.detach().sigmoid().mean(),
        }
        if not self.r1:
            return loss, metrics
        (slope,) = torch.autograd.grad(real.sum(), pictures, create_graph=True)  # [N,C,H,W]
        penalty = slope.square().sum((1, 2, 3))  # [N]
        return loss + self.r1 / 2 * penalty, {**metrics, "losses/r1": penalty.detach().mean()}

    def scores(self, images: Tensor, labels: dict[str, Tensor], embed: Embed, rng: torch.Generator) -> dict[str, Tensor]:
        """D's outputs for the pictures and for as many made ones, and V in nats."""
        label = self.labels(labels)
        real = self.judge(unit(images), label, embed)
        fake = self.judge(self.decode(self.codes(len(images), rng).to(images.device), label), label, embed)
        return {"d_real": real.sigmoid(), "d_fake": fake.sigmoid(), "value": -discriminator_loss(real, fake)}

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        """`balance`, 1 - |mean D(x) - mean D(G(z))|, is 1 at the optimum, and 0 if D distinguishes all pictures."""
        return {"balance": 1 - abs(means["d_real"] - means["d_fake"]), **means}


class ConditionalGan(Gan):
    """A GAN whose G and D are given the class of a picture (Mirza & Osindero 2014).

    G gets it with its code. D's logit is ψ(φ(x)) + e_y · φ(x), with a vector e_y for each class (Miyato & Koyama 2018, equation 4),
    so that its backbone φ does not need the class.
    """

    classes: int

    def __init__(self, maps: Shapes, picture: Shape, generator: nn.Module, latent: int, settings: Settings, classes: int):
        """See `Gan`; `generator` takes codes and classes, [N,L+K]."""
        super().__init__(maps, picture, generator, latent, settings)
        self.classes = classes
        self.vectors = nn.Embedding(classes, math.prod(maps[-1]))
        nn.init.zeros_(self.vectors.weight)

    def parts(self, rest: tuple[nn.Module, ...]) -> dict[str, Part]:
        """See `Gan`."""
        return super().parts((*rest, self.vectors))

    def labels(self, labels: dict[str, Tensor]) -> Tensor:
        """The classes [N]."""
        return labels["label"]

    def decode(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """See `Maker`."""
        assert label is not None
        return super().decode(torch.cat([code, F.one_hot(label, self.classes).to(code)], 1))

    def judge(self, pictures: Tensor, label: Tensor | None, embed: Embed) -> Tensor:
        """See `Gan`; without classes, the logit has no class term."""
        features = embed(pictures)[-1].flatten(1)
        logit = self.score(features).float()[:, 0]
        return logit if label is None else logit + (self.vectors(label) * features).float().sum(1)  # type: ignore[no-any-return]


def gan(
    maps: Shapes,
    picture: Shape,
    classes: int,
    latent: int = 64,
    hidden: int = 256,
    min_max: bool = False,
    rate: float = 1.0,
    r1: float = 0.0,
) -> Gan:
    """GAN with a generator of dense layers, of `hidden` and twice as many units."""
    return Gan(maps, picture, DenseDecoder(latent, picture, hidden), latent, Settings(min_max, rate, r1))


def dcgan(
    maps: Shapes,
    picture: Shape,
    classes: int,
    latent: int = 64,
    min_max: bool = False,
    rate: float = 1.0,
    r1: float = 0.0,
    up: str = "transpose",
    norm: str = "batch",
) -> Gan:
    """DCGAN (Radford et al. 2016): G is a `Decoder`, which mirrors D; as published with the backbone `dcgan`."""
    return Gan(maps, picture, Decoder(latent, maps, picture, up, norm), latent, Settings(min_max, rate, r1))


def conditional_gan(
    maps: Shapes,
    picture: Shape,
    classes: int,
    latent: int = 64,
    min_max: bool = False,
    rate: float = 1.0,
    r1: float = 0.0,
    up: str = "transpose",
    norm: str = "batch",
) -> ConditionalGan:
    """A conditional `dcgan`."""
    return ConditionalGan(
        maps, picture, Decoder(latent + classes, maps, picture, up, norm), latent, Settings(min_max, rate, r1), classes
    )


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) [N] in nats, of logits [N]; its mean is -V."""
    return F.softplus(-real) + F.softplus(fake)


def generator_loss(fake: Tensor, min_max: bool) -> Tensor:
    """The loss of G, [N] in nats, from D's logits [N] of its pictures: log(1 - D(G(z))) with `min_max`, otherwise -log D(G(z))."""
    return -F.softplus(fake) if min_max else F.softplus(-fake)
