"""Translation of pictures: learned from pairs (pix2pix), or between domains without pairs (CycleGAN, StarGAN).

Shapes: see the package; K domains, P planes of a translated picture, h x w patches. The backbone is the encoder of the generator,
a U-Net; the discriminator, a backbone named by a parameter, classifies patches (Isola et al. 2017, section 3.2.2).
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.core.agent import Part
from rlsuite.nets.backbones import Backbone, make_backbone
from rlsuite.nets.backbones.bricks import conv
from rlsuite.nets.decoders import Shape
from rlsuite.vision.baselines import mean_target_l1
from rlsuite.vision.data import Data
from rlsuite.vision.generation.autoencoders import psnr, squared_error
from rlsuite.vision.generation.base import Measured, unit
from rlsuite.vision.generation.gans import DISCRIMINATOR, GENERATOR, discriminator_loss, generator_loss
from rlsuite.vision.head import Embed
from rlsuite.vision.necks import Maps
from rlsuite.vision.segmentation import UNet

BOTH, EITHER = "both/", "either/"  # shares of the pixels that belong to a plane in both pictures, or in at least one
PATCHES = "dcgan(width=32,depth=2)"  # the usual discriminator


class Critic(nn.Module):
    """A backbone with a logit for each place of its last map: pictures [N,C,H,W] f32 -> [N,`outs`,h,w] f32."""

    def __init__(self, backbone: str, channels: int, outs: int = 1):
        super().__init__()
        self.backbone = make_backbone(backbone, channels)
        self.score = nn.Conv2d(self.backbone.channels[-1], outs, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.score(self.backbone(pictures)[-1]).float()  # type: ignore[no-any-return]


class Painter(nn.Module):
    """A U-Net on the maps of an encoder, and two convolutions that also see the picture itself, which is finer than the maps.

    With `domains`, vectors for the requested domain are added to the last map and to the U-Net's output.
    """

    def __init__(self, maps: Sequence[Shape], picture: Shape, planes: int, width: int, domains: int = 0):
        """`planes`: P; `width`: see `UNet`."""
        super().__init__()
        self.unet = UNet([shape[0] for shape in maps], [picture[1] // shape[1] for shape in maps], width, width)
        self.last = nn.Sequential(conv(width + picture[0], width, norm="none"), nn.Conv2d(width, planes, 3, padding=1))
        self.coarse, self.fine = (nn.Embedding(domains, size) if domains else None for size in (maps[-1][0], width))

    def forward(self, maps: Maps, images: Tensor, to: Tensor | None = None) -> Tensor:
        """Pictures [N,P,H,W] f32 in [0,1]; `to`: domains [N] i64."""
        if self.coarse is not None:
            maps = [*maps[:-1], maps[-1] + self.coarse(to)[:, :, None, None]]
        x = self.unet(maps, images)
        if self.fine is not None:
            x = x + self.fine(to)[:, :, None, None]
        return self.last(torch.cat([x, images], 1)).float().sigmoid()  # type: ignore[no-any-return]


class Translator(Measured):
    """Base class: translates pictures into each of `domains`."""

    domains: int

    @abstractmethod
    def translate(self, pictures: Tensor, to: Tensor, embed: Embed) -> Tensor:
        """Translates pictures [N,C,H,W] f32 in [0,1] into the domains `to` [N] i64: [N,P,H,W]."""

    def predict(self, maps: Maps, images: Tensor, embed: Embed) -> Tensor:
        """Translations of `images` [N,C,H,W] uint8 into every domain: [N,K,P,H,W]."""
        pictures, everywhere = unit(images), range(self.domains)
        to = [torch.full((len(images),), domain, device=images.device) for domain in everywhere]
        return torch.stack([self.translate(pictures, to[domain], embed) for domain in everywhere], 1)


class Pix2pix(Translator):
    """pix2pix (Isola et al. 2017): G minimises -log D(x, G(x)) + `l1` |y - G(x)| for pairs of x and `target` y."""

    main = "psnr"
    domains = 1

    def __init__(
        self,
        maps: Sequence[Shape],
        picture: Shape,
        classes: int,
        more: Callable[[], Backbone],
        discriminator: str = PATCHES,
        l1: float = 100.0,
        width: int = 32,
        rate: float = 1.0,
    ):
        """`classes`: P; `width`: see `UNet`; `rate`: factor on the learning rate of D."""
        super().__init__()
        self.l1, self.rate = l1, rate
        self.painter = Painter(maps, picture, classes, width)
        self.critic = Critic(discriminator, picture[0] + classes)

    def parts(self, rest: tuple[nn.Module, ...]) -> dict[str, Part]:
        """D, then G."""
        return {DISCRIMINATOR: Part((self.critic,), self.rate), GENERATOR: Part((*rest, self.painter))}

    def translate(self, pictures: Tensor, to: Tensor, embed: Embed) -> Tensor:
        """See `Translator`."""
        return self.painter(embed(pictures), pictures)  # type: ignore[no-any-return]

    def judge(self, given: Tensor, picture: Tensor) -> Tensor:
        """Logits [N,h,w] that `picture` [N,P,H,W] belongs to `given` [N,C,H,W]."""
        logits: Tensor = self.critic(torch.cat([given, picture], 1))
        return logits[:, 0]

    def losses(
        self, maps: Maps, images: Tensor, labels: dict[str, Tensor], embed: Embed, part: str = ""
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss [N] of D or of G."""
        given, true = unit(images), unit(labels["target"])
        with torch.set_grad_enabled(part == GENERATOR):
            made = self.translate(given, images.new_zeros(len(images)), embed)
        fake = self.judge(given, made)
        if part != GENERATOR:
            return discriminator_loss(self.judge(given, true), fake).mean((1, 2)), {}
        error = (made - true).abs().mean((1, 2, 3))
        return generator_loss(fake, min_max=False).mean((1, 2)) + self.l1 * error, {"losses/l1": error.detach().mean()}

    def scores(self, images: Tensor, labels: dict[str, Tensor], embed: Embed, rng: torch.Generator) -> dict[str, Tensor]:
        """Absolute and squared errors per pixel, where white is 1; with several planes, also the parts of the mIoU in `metrics`."""
        made, true = self.translate(unit(images), images.new_zeros(len(images)), embed), unit(labels["target"])
        found = {"l1": (made - true).abs().mean((1, 2, 3)), "squared_error": squared_error(made, true)}
        if (planes := true.shape[1]) > 1:
            ours, theirs = (F.one_hot(x.argmax(1), planes).bool() for x in (made, true))  # [N,H,W,P]
            for name, pixels in ((BOTH, ours & theirs), (EITHER, ours | theirs)):
                found |= {f"{name}{plane}": pixels[..., plane].double().mean((1, 2)) for plane in range(planes)}
        return found

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        """Adds the peak signal-to-noise ratio of the mean error; mIoU: a pixel belongs to the plane that is brightest there."""
        shares = {name: [means.pop(key) for key in list(means) if key.startswith(name)] for name in (BOTH, EITHER)}
        ious = [both / either for both, either in zip(shares[BOTH], shares[EITHER], strict=True) if either]
        return {"psnr": psnr(means["squared_error"]), **means, **({"mIoU": sum(ious) / len(ious)} if ious else {})}

    def baselines(self, data: Data) -> dict[str, float]:
        """See `Measured`: the absolute error of predicting the mean target for every picture."""
        return {"mean_target_l1": mean_target_l1(data.train, data.test)}


class Domains(Translator):
    """Translation between the classes of pictures, without pairs. G minimises, by least squares (Mao et al. 2017),

    (D(G(x)) - 1)² + `cycle` |x - G'(G(x))| + `identity` |x - G'(x)|, where G' leads to the domain of x, so that a picture that is
    already in the domain stays unchanged; and, with a classifier in D, `domain` times its cross-entropy.
    """

    main = "cycle_psnr"

    def __init__(self, domains: int, cycle: float, identity: float, domain: float, rate: float):
        super().__init__()
        if domains < 2:
            raise ValueError(f"{domains} domain: there must be two classes of pictures at least")
        self.domains, self.cycle, self.identity, self.domain, self.rate = domains, cycle, identity, domain, rate

    @abstractmethod
    def judge(self, pictures: Tensor, domain: Tensor) -> tuple[Tensor, Tensor | None]:
        """D's outputs [N,h,w] that pictures are real ones of `domain` [N], and, if D classifies, logits [N,K] of their domains."""

    def other(self, domain: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """A random domain [N] for each picture, different from its own."""
        step = torch.randint(1, self.domains, domain.shape, generator=rng, device="cpu" if rng is not None else domain.device)
        return (domain + step.to(domain)) % self.domains

    def losses(
        self, maps: Maps, images: Tensor, labels: dict[str, Tensor], embed: Embed, part: str = ""
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss [N] of D or of G."""
        pictures, own = unit(images), labels["label"]
        to = self.other(own)
        with torch.set_grad_enabled(part == GENERATOR):
            made = self.translate(pictures, to, embed)
        fake, found = self.judge(made, to)
        if part == GENERATOR:
            back = (self.translate(made, own, embed) - pictures).abs().mean((1, 2, 3))
            loss = (fake - 1).square().mean((1, 2)) + self.cycle * back
            if self.identity:
                loss = loss + self.identity * (self.translate(pictures, own, embed) - pictures).abs().mean((1, 2, 3))
            loss = loss if found is None else loss + self.domain * F.cross_entropy(found, to, reduction="none")
            return loss, {"losses/cycle": back.detach().mean()}
        real, found = self.judge(pictures, own)
        loss = (real - 1).square().mean((1, 2)) + fake.square().mean((1, 2))
        loss = loss if found is None else loss + self.domain * F.cross_entropy(found, own, reduction="none")
        return loss, {"losses/d_real": real.detach().mean(), "losses/d_fake": fake.detach().mean()}

    def scores(self, images: Tensor, labels: dict[str, Tensor], embed: Embed, rng: torch.Generator) -> dict[str, Tensor]:
        """The squared error per pixel of pictures translated there and back, and D's outputs for real and translated ones."""
        pictures, own = unit(images), labels["label"]
        to = self.other(own, rng)
        made = self.translate(pictures, to, embed)
        back = squared_error(self.translate(made, own, embed), pictures)
        outputs = {"d_real": self.judge(pictures, own)[0], "d_fake": self.judge(made, to)[0]}
        return {"cycle_error": back, **{name: output.mean((1, 2)) for name, output in outputs.items()}}

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        """Adds the peak signal-to-noise ratio of the mean error there and back."""
        return {"cycle_psnr": psnr(means["cycle_error"]), **means}


class CycleGan(Domains):
    """CycleGAN (Zhu et al. 2017): a generator and a discriminator for each of two domains."""

    def __init__(
        self,
        maps: Sequence[Shape],
        picture: Shape,
        classes: int,
        more: Callable[[], Backbone],
        discriminator: str = PATCHES,
        cycle: float = 10.0,
        identity: float = 5.0,
        width: int = 32,
        rate: float = 1.0,
    ):
        """`more`: makes another encoder; `cycle`, `identity`: see `Domains`."""
        super().__init__(classes, cycle, identity, 0.0, rate)
        if classes != 2:
            raise ValueError(f"a cyclegan translates between two classes of pictures, these have {classes}: use stargan")
        self.encoder = more()  # for pictures translated to domain 1; those to domain 0 use the model's backbone
        self.painters = nn.ModuleList(Painter(maps, picture, picture[0], width) for _ in range(2))
        self.critics = nn.ModuleList(Critic(discriminator, picture[0]) for _ in range(2))

    def parts(self, rest: tuple[nn.Module, ...]) -> dict[str, Part]:
        """The discriminators, then the generators."""
        return {DISCRIMINATOR: Part((self.critics,), self.rate), GENERATOR: Part((*rest, self.encoder, self.painters))}

    def translate(self, pictures: Tensor, to: Tensor, embed: Embed) -> Tensor:
        """See `Translator`."""
        encoders: tuple[Embed, Embed] = (embed, self.encoder)
        return by_domain([lambda x, k=k: self.painters[k](encoders[k](x), x) for k in range(2)], pictures, to)  # type: ignore[misc]

    def judge(self, pictures: Tensor, domain: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `Domains`."""
        return by_domain(list(self.critics), pictures, domain)[:, 0], None


class StarGan(Domains):
    """StarGAN (Choi et al. 2018): one generator for all domains, and a discriminator that also classifies them."""

    def __init__(
        self,
        maps: Sequence[Shape],
        picture: Shape,
        classes: int,
        more: Callable[[], Backbone],
        discriminator: str = PATCHES,
        cycle: float = 10.0,
        identity: float = 5.0,
        domain: float = 1.0,
        width: int = 32,
        rate: float = 1.0,
    ):
        """`cycle`, `identity`, `domain`: see `Domains`."""
        super().__init__(classes, cycle, identity, domain, rate)
        self.painter = Painter(maps, picture, picture[0], width, classes)
        self.critic = Critic(discriminator, picture[0], 1 + classes)

    def parts(self, rest: tuple[nn.Module, ...]) -> dict[str, Part]:
        """D, then G."""
        return {DISCRIMINATOR: Part((self.critic,), self.rate), GENERATOR: Part((*rest, self.painter))}

    def translate(self, pictures: Tensor, to: Tensor, embed: Embed) -> Tensor:
        """See `Translator`."""
        return self.painter(embed(pictures), pictures, to)  # type: ignore[no-any-return]

    def judge(self, pictures: Tensor, domain: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `Domains`."""
        outputs: Tensor = self.critic(pictures)
        return outputs[:, 0], outputs[:, 1:].mean((2, 3))


def by_domain(nets: Sequence[Callable[[Tensor], Tensor]], pictures: Tensor, domain: Tensor) -> Tensor:
    """The output [N,...] for each picture of the net of its domain [N]; a net without pictures is not called."""
    rows = [torch.nonzero(domain == number)[:, 0] for number in range(len(nets))]
    outs = [net(pictures[some]) for net, some in zip(nets, rows, strict=True) if len(some)]
    return torch.cat(outs)[torch.cat(rows).argsort()]
