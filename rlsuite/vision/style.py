"""Style transfer: makes a picture with the content of one picture and the style of another, from the features of a backbone.

By optimisation (Gatys et al. 2016), or in one pass through an autoencoder (Huang & Belongie 2017).

Shapes: C channels, H x W pixels; M maps of the backbone, F channels and P places of a map.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rlsuite.core.errors import UsageError
from rlsuite.envs import atari_game
from rlsuite.nets import pretrained
from rlsuite.nets.backbones import Backbone, make_backbone
from rlsuite.nets.precision import inference
from rlsuite.vision.data.emulator import Emulator
from rlsuite.vision.data.files import read_picture
from rlsuite.vision.generation.autoencoders import Autoencoder
from rlsuite.vision.predict import as_channels
from rlsuite.vision.sample import to_bytes
from rlsuite.vision.train import SavedModel

RATE = 0.02  # of Adam, on pixels in [0,1]
PLAYED = 120  # random steps before a game's screen is taken


Losses = Callable[[Tensor], tuple[Tensor, Tensor]]  # a picture [1,C,H,W] -> its losses of content and style


class Transfer(NamedTuple):
    """A picture in the style of another."""

    picture: NDArray[np.uint8]  # [C,H,W]
    content: tuple[float, float]  # loss before and after
    style: tuple[float, float]


def backbone_of(weights: Path, name: str | None) -> tuple[Backbone, int]:
    """A trained backbone and its channels: of a vision run, or of type `name` from a file of `rlsuite vision import`.

    UsageError or CheckpointError if there is none, or it does not fit.
    """
    if name is None:
        if weights.suffix == ".safetensors":
            raise UsageError(f"{weights} does not say which backbone it is of: add --backbone, such as --backbone vgg16")
        saved = SavedModel(weights)
        return saved.model.backbone.cpu(), saved.shape[0]
    net = make_backbone(name, 3)
    pretrained.load_backbones(torch.nn.ModuleDict({"backbone": net}), weights)
    return net, 3


def picture_of(what: str, channels: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture file, or the screen of an Atari game after random play, as [C,*size] uint8. UsageError if it is neither."""
    if atari_game(what) is not None:
        emulator = Emulator(what, seed=0)
        for _ in range(PLAYED):
            emulator.step(int(emulator.rng.integers(len(emulator.actions))))
        screen = Image.fromarray(emulator.ale.getScreenRGB()).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return as_channels(np.asarray(screen).transpose(2, 0, 1).copy(), channels)
    if not Path(what).is_file():
        raise UsageError(f"{what!r} is not a picture or an Atari environment")
    return as_channels(read_picture(Path(what), size), channels)


def transfer(
    backbone: Backbone,
    content: NDArray[np.uint8],
    style: NDArray[np.uint8],
    steps: int,
    weight: float,
    layer: int | None = None,
    noise: bool = False,
) -> Transfer:
    """Minimises content loss + `weight` times style loss with Adam, from the content in the style's colours, or from `noise`.

    Content: half the mean squared difference of map `layer`, by default the middle one (equation 1). Style: the mean over all maps
    of the squared differences of Gram matrices (equations 4 and 5). UsageError if the backbone has no such map.
    """
    x, y = as_batch(content), as_batch(style)
    losses = losses_of(backbone, x, y, layer)
    start = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) if noise else adain(x, y).clamp(0, 1)
    picture = start.requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=RATE)
    seen = []
    for step in range(steps + 1):
        kept, styled = losses(picture)
        seen.append((float(kept.detach()), float(styled.detach())))
        if step == steps:
            break
        optimizer.zero_grad()
        (kept + weight * styled).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
    return _transfer(picture.detach(), seen[0], seen[-1])


def stylise(saved: SavedModel, content: NDArray[np.uint8], style: NDArray[np.uint8], share: float = 1.0) -> Transfer:
    """Transfers a style in one pass (Huang & Belongie 2017): gives the content's last map the style's statistics, and decodes it.

    `share`: how far the map's statistics move from the content's to the style's (equation 14). Decoder and backbone are those of an
    autoencoder that was only trained to reconstruct pictures, whereas the paper trains the decoder on styles. The losses, as in
    `transfer`, are those of the reconstructed content and of the result. UsageError if the model has no decoder.
    """
    head = saved.model.head
    if not isinstance(head, Autoencoder):
        raise UsageError(
            f"{saved.path} is a {saved.config.model.head}, which decodes no features: --adain needs an autoencoder or vae"
        )
    x, y = as_batch(content), as_batch(style)
    with inference(saved.device, saved.bf16):
        own, other = (saved.model.maps(each.to(saved.device))[-1].float() for each in (x, y))
        codes = [head.code(torch.lerp(own, adain(own, other), each)) for each in (0.0, share)]
        again, made = (head.decode(code).float().cpu() for code in codes)
    losses = losses_of(saved.model.backbone.cpu(), x, y)
    before, after = ((float(kept), float(styled)) for kept, styled in (losses(again), losses(made)))
    return _transfer(made, before, after)


def as_batch(image: NDArray[np.uint8]) -> Tensor:
    """An image [C,H,W] uint8 as a batch of one, [1,C,H,W] f32 in [0,1]."""
    return torch.from_numpy(image)[None].float() / 255


def losses_of(backbone: Backbone, content: Tensor, style: Tensor, layer: int | None = None) -> Losses:
    """The losses of pictures [1,C,H,W] for a content and a style, see `transfer`. UsageError if the backbone has no such map."""
    at = len(backbone.strides) // 2 if layer is None else layer
    if not 0 <= at < len(backbone.strides):
        raise UsageError(f"layer {at}: the backbone has maps 0 to {len(backbone.strides) - 1}")
    backbone.eval().requires_grad_(False)
    aim, grams = backbone(content)[at], [gram(each) for each in backbone(style)]

    def losses(picture: Tensor) -> tuple[Tensor, Tensor]:
        maps = backbone(picture)
        styled = torch.stack([(gram(each) - true).square().sum() / 4 for each, true in zip(maps, grams, strict=True)]).mean()
        return (maps[at] - aim).square().mean() / 2, styled

    return losses


def _transfer(picture: Tensor, before: tuple[float, float], after: tuple[float, float]) -> Transfer:
    """The `Transfer` for a picture [1,C,H,W] and its losses of content and style, before and after."""
    return Transfer(to_bytes(picture)[0], (before[0], after[0]), (before[1], after[1]))


def gram(maps: Tensor) -> Tensor:
    """Products of all pairs of channels, a mean over the places and divided by F: [1,F,H,W] -> [F,F] (equation 3)."""
    flat = maps[0].flatten(1)  # [F,P]
    return flat @ flat.T / (flat.shape[0] * flat.shape[1])


def adain(x: Tensor, y: Tensor) -> Tensor:
    """x [N,C,H,W] with the means and standard deviations of the channels of y (Huang & Belongie 2017, equation 8)."""
    means, spreads = zip(*((z.mean((2, 3), keepdim=True), z.std((2, 3), keepdim=True)) for z in (x, y)), strict=True)
    found: Tensor = spreads[1] * (x - means[0]) / (spreads[0] + 1e-5) + means[1]
    return found
