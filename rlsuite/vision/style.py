"""Style transfer (Gatys et al. 2016): a picture with the content of one and the style of another, by the features of a backbone.

Shapes: C channels, H x W pixels; M maps of the backbone, F channels and P places of a map.
"""

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
from rlsuite.vision.data.emulator import Emulator
from rlsuite.vision.data.files import read_picture
from rlsuite.vision.predict import as_channels
from rlsuite.vision.train import SavedModel

RATE = 0.02  # of Adam, on pixels in [0,1]
PLAYED = 120  # random steps before a game's screen is taken


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
    layer = len(backbone.strides) // 2 if layer is None else layer
    if not 0 <= layer < len(backbone.strides):
        raise UsageError(f"layer {layer}: the backbone has maps 0 to {len(backbone.strides) - 1}")
    backbone.eval().requires_grad_(False)
    x, y = (torch.from_numpy(image)[None].float() / 255 for image in (content, style))
    aim, grams = backbone(x)[layer], [gram(each) for each in backbone(y)]
    start = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) if noise else adain(x, y).clamp(0, 1)
    picture = start.requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=RATE)
    seen = []
    for step in range(steps + 1):
        maps = backbone(picture)
        kept = (maps[layer] - aim).square().mean() / 2
        styled = torch.stack([(gram(each) - true).square().sum() / 4 for each, true in zip(maps, grams, strict=True)]).mean()
        seen.append((float(kept.detach()), float(styled.detach())))
        if step == steps:
            break
        optimizer.zero_grad()
        (kept + weight * styled).backward()
        optimizer.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
    (content_0, style_0), (content_1, style_1) = seen[0], seen[-1]
    made = (picture.detach()[0] * 255).round().to(torch.uint8).numpy()
    return Transfer(made, (content_0, content_1), (style_0, style_1))


def gram(maps: Tensor) -> Tensor:
    """Products of all pairs of channels, a mean over the places and divided by F: [1,F,H,W] -> [F,F] (equation 3)."""
    flat = maps[0].flatten(1)  # [F,P]
    return flat @ flat.T / (flat.shape[0] * flat.shape[1])


def adain(x: Tensor, y: Tensor) -> Tensor:
    """x [N,C,H,W] with the means and standard deviations of the channels of y (Huang & Belongie 2017, equation 8)."""
    means, spreads = zip(*((z.mean((2, 3), keepdim=True), z.std((2, 3), keepdim=True)) for z in (x, y)), strict=True)
    found: Tensor = spreads[1] * (x - means[0]) / (spreads[0] + 1e-5) + means[1]
    return found
