"""Pictures made by a model: random ones, interpolations, one a class. Shapes: N pictures, L numbers in a code, K classes."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlsuite.nets.precision import inference
from rlsuite.vision import draw
from rlsuite.vision.data import Data
from rlsuite.vision.generation.autoencoders import Autoencoder
from rlsuite.vision.generation.base import unit
from rlsuite.vision.generation.stylegan import StyleGan, StyleGenerator
from rlsuite.vision.generation.translation import Translator
from rlsuite.vision.model import Model

Bytes = NDArray[np.uint8]  # [N,C,H,W]
BATCH = 256
SIDE = 56  # pixels that small pictures are enlarged to
COLUMNS = 10
CODES = 5  # of a conditional model's pictures of each class
SEEN = 10_000  # pictures whose codes edits come from


def decoded(model: Model, codes: Tensor, labels: Tensor | None, bf16: bool) -> Bytes:
    """The pictures [N,C,H,W] uint8 of codes [N,L] and, for a conditional model, classes [N]. Leaves the model in its mode."""
    maker, training, made = model.maker, model.training, []
    model.eval()
    device = next(model.parameters()).device
    try:
        for at in range(0, len(codes), BATCH):
            some = slice(at, at + BATCH)
            label = None if labels is None else labels[some].to(device)
            with inference(device, bf16):
                made.append(to_bytes(maker.decode(codes[some].to(device), label)))
    finally:
        model.train(training)
    return np.concatenate(made)


def samples(
    model: Model, count: int, seed: int, bf16: bool, truncation: float | None = None
) -> tuple[Bytes, NDArray[np.int64] | None]:
    """`count` random pictures, and the classes asked for, each in turn; None without classes. UsageError without a generator.

    `truncation`: see `Maker.codes`.
    """
    maker = model.maker
    codes = maker.codes(count, torch.Generator().manual_seed(seed), truncation)
    labels = None if maker.classes is None else torch.arange(count) % maker.classes
    return decoded(model, codes, labels, bf16), None if labels is None else labels.numpy()


def to_bytes(pictures: Tensor) -> Bytes:
    """Pictures [N,C,H,W] in [0,1] as uint8."""
    found: Bytes = (pictures.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return found


def sheet(pictures: Bytes, columns: int) -> draw.Picture:
    """Pictures in rows and columns."""
    return draw.grid([draw.scaled(draw.to_picture(each), SIDE)[0] for each in pictures], columns)


def overview(model: Model, data: Data, bf16: bool) -> draw.Picture:
    """A picture to monitor training: random pictures of the model, or test pictures above an autoencoder's reconstructions."""
    if isinstance(model.head, Translator):
        return translations(model, *first_of(data, COLUMNS), bf16)
    maker = model.maker
    if maker.samples:
        count = COLUMNS * (COLUMNS if maker.classes is None else min(maker.classes, COLUMNS))
        return sheet(samples(model, count, 0, bf16)[0], COLUMNS if maker.classes is None else min(maker.classes, 2 * COLUMNS))
    images, _ = first_of(data, COLUMNS)
    return sheet(np.concatenate([images, remade(model, images, bf16)]), len(images))


def first_of(data: Data, count: int) -> tuple[Bytes, Bytes | None]:
    """`count` evenly spaced test pictures, and their targets, if they have any."""
    rows = np.linspace(0, len(data.test) - 1, min(count, len(data.test))).astype(np.int64)
    images, labels = data.test.take(rows)
    return images, labels.get("target")


def translations(model: Model, images: Bytes, targets: Bytes | None, bf16: bool) -> draw.Picture:
    """A row of pictures, of any number of planes, over one row for each domain they are translated to, and one of their targets."""
    found = remade(model, images, bf16)
    shown = np.stack([draw.to_picture(image).transpose(2, 0, 1) for image in _visible(images)])
    rows = [shown, *(found[:, domain] for domain in range(found.shape[1])), *([] if targets is None else [targets])]
    return np.concatenate([sheet(row, len(row)) for row in rows])


def _visible(images: Bytes) -> Bytes:
    """Pictures of more planes than colours, as maps of classes are, in greys: the index of the brightest plane."""
    planes = images.shape[1]
    if planes <= 3:
        return images
    greys: Bytes = (images.argmax(1)[:, None] * (255 // (planes - 1))).astype(np.uint8)
    return greys


def remade(model: Model, images: Bytes, bf16: bool) -> Bytes:
    """An autoencoder's or a translator's predictions for images [N,C,H,W] uint8, as bytes. Leaves the model in its mode."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        with inference(device, bf16):
            parts = [model.predict(torch.from_numpy(images[at : at + BATCH]).to(device)) for at in range(0, len(images), BATCH)]
    finally:
        model.train(training)
    return np.concatenate([to_bytes(part) for part in parts])


def write_samples(
    model: Model, out: Path, count: int, seed: int, bf16: bool, data: Data | None = None, truncation: float | None = None
) -> list[Path]:
    """Writes PNG files into `out`: a grid of `count` random pictures, interpolations, and what else the model has.

    That is pictures of each class from the same codes, or mixed and truncated styles; of an autoencoder, edits of pictures in
    `data`, if these have classes. `truncation`: of the codes, see `Maker.codes`. UsageError if the model makes no pictures.
    """
    maker, rng = model.maker, torch.Generator().manual_seed(seed)
    edits = edits_of(model, data, bf16)
    changes = {} if edits is None else {"edits": draw_edits(model, edits, bf16)}
    if changes and not maker.samples and truncation is None:
        return _write(changes, out)
    pictures, _ = samples(model, count, seed, bf16, truncation)
    sheets = {"grid": sheet(pictures, min(count, COLUMNS if maker.classes is None else maker.classes))}
    ends = maker.codes(2 * COLUMNS, rng, truncation).view(2, COLUMNS, 1, -1)
    way = between(ends[0], ends[1], torch.linspace(0, 1, COLUMNS)[None, :, None]).flatten(0, 1)  # [COLUMNS²,L], a row each
    classes = None if maker.classes is None else torch.arange(COLUMNS).repeat_interleave(COLUMNS) % maker.classes
    sheets["interpolation"] = sheet(decoded(model, way, classes, bf16), COLUMNS)
    if maker.classes is not None:  # a row for each code
        codes = maker.codes(CODES, rng, truncation).repeat_interleave(maker.classes, 0)
        sheets["classes"] = sheet(decoded(model, codes, torch.arange(maker.classes).repeat(CODES), bf16), maker.classes)
    if isinstance(maker, StyleGan):
        sheets |= {"mixing": mixing(model, maker, rng), "truncation": truncated_styles(model, maker, rng)}
    return _write(sheets | changes, out)


def _write(sheets: dict[str, draw.Picture], out: Path) -> list[Path]:
    paths = [out / f"{name}.png" for name in sheets]
    for path, picture in zip(paths, sheets.values(), strict=True):
        draw.save(picture, path)
    return paths


class Edits(NamedTuple):
    """The data to move codes from one class to another, by the difference of the classes' mean codes."""

    classes: NDArray[np.int64]  # [K] those that are there in training and in tests
    means: Tensor  # [K,L]
    images: Bytes  # [N,C,H,W] test pictures
    own: NDArray[np.int64]  # [N] index of their class in `classes`


def edits_of(model: Model, data: Data | None, bf16: bool) -> Edits | None:
    """The edits of an autoencoder, from at most `SEEN` pictures; None if its data has no classes to move between."""
    if data is None or not isinstance(model.head, Autoencoder) or "classify" not in data.tasks:
        return None
    parts = [part.take(np.linspace(0, len(part) - 1, min(SEEN, len(part))).astype(np.int64)) for part in (data.train, data.test)]
    (train, train_labels), (test, test_labels) = ((images, labels["label"]) for images, labels in parts)
    classes = np.intersect1d(train_labels, test_labels)
    if len(classes) < 2:
        return None
    means = torch.stack([encoded(model, train[train_labels == k], bf16).mean(0) for k in classes])
    known = np.isin(test_labels, classes)
    return Edits(classes, means, test[known], np.searchsorted(classes, test_labels[known]))


def moved(model: Model, edits: Edits, rows: NDArray[np.int64], to: NDArray[np.int64], bf16: bool) -> Bytes:
    """The test pictures `rows` [M] decoded from their codes, moved to the classes `to` [M], indices of `edits.classes`."""
    codes = encoded(model, edits.images[rows], bf16)
    return decoded(model, codes - edits.means[edits.own[rows]] + edits.means[to], None, bf16)


def draw_edits(model: Model, edits: Edits, bf16: bool) -> draw.Picture:
    """A row for each of at most `COLUMNS` classes: a test picture of it, and the same moved to each of them in turn."""
    count = min(len(edits.classes), COLUMNS)
    first = np.array([np.flatnonzero(edits.own == k)[0] for k in range(count)])
    made = moved(model, edits, first.repeat(count), np.tile(np.arange(count), count), bf16)
    rows = np.concatenate([edits.images[first][:, None], made.reshape(count, count, *made.shape[1:])], 1)
    return sheet(rows.reshape(-1, *made.shape[1:]), count + 1)


def encoded(model: Model, images: Bytes, bf16: bool) -> Tensor:
    """Codes [N,L] f32, on the CPU, of images [N,C,H,W] uint8 by an autoencoder. Leaves the model in its mode."""
    maker, training, device = model.maker, model.training, next(model.parameters()).device
    assert isinstance(maker, Autoencoder)
    model.eval()
    try:
        with inference(device, bf16):
            parts = [
                maker.encode(unit(torch.from_numpy(images[at : at + BATCH]).to(device)), model.maps)
                for at in range(0, len(images), BATCH)
            ]
    finally:
        model.train(training)
    return torch.cat(parts).float().cpu()


def mixing(model: Model, maker: StyleGan, rng: torch.Generator) -> draw.Picture:
    """Pictures whose first half of the layers has the style of the first picture in their row, the rest that of their column's."""
    count = COLUMNS - 1
    codes = maker.codes(2 * count, rng)

    def made(generator: StyleGenerator, device: torch.device) -> Tensor:
        w = generator.styles(codes.to(device))
        layers, rows, columns = len(generator.layers), w[:count], w[count:]
        crossed = torch.full((count * count,), layers // 2, device=device)
        mixed = generator.synthesis(rows.repeat_interleave(count, 0), columns.repeat(count, 1), crossed)
        alone = generator.synthesis(w, w, torch.full((len(w),), layers, device=device))
        blank = torch.full_like(alone[:1], -20)
        by_row = torch.cat([alone[:count, None], mixed.view(count, count, *mixed.shape[1:])], 1).flatten(0, 1)
        return torch.cat([blank, alone[count:], by_row]).sigmoid()

    return sheet(_by_generator(model, maker, made), COLUMNS)


def truncated_styles(model: Model, maker: StyleGan, rng: torch.Generator) -> draw.Picture:
    """Rows of pictures of one code each, their styles from the mean to beyond themselves: 0 to 1.2."""
    codes = maker.codes(COLUMNS // 2, rng)

    def made(generator: StyleGenerator, device: torch.device) -> Tensor:
        shares = torch.linspace(0, 1.2, COLUMNS).tolist()
        w = torch.stack([generator.styles(codes.to(device), share) for share in shares], 1).flatten(0, 1)
        return generator.synthesis(w, w, torch.full((len(w),), len(generator.layers), device=device)).sigmoid()

    return sheet(_by_generator(model, maker, made), COLUMNS)


def _by_generator(model: Model, maker: StyleGan, made: Callable[[StyleGenerator, torch.device], Tensor]) -> Bytes:
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            return to_bytes(made(maker.generator, device))
    finally:
        model.train(training)


def between(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Codes at shares of the way from `a` to `b` [...,L], as likely under N(0, I) as its ends: along the sphere (White 2016)."""
    cosine = (a * b).sum(-1, keepdim=True) / (a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True))
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    found: Tensor = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    return found
