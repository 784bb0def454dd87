"""Draws the predictions of a saved vision model on pictures, a video, an Atari game, or its own test pictures."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import RlsuiteError, UsageError, one_line
from rlsuite.envs import atari_game
from rlsuite.vision import attention, draw, texts
from rlsuite.vision.data import atari
from rlsuite.vision.data.emulator import WHOLE, frames
from rlsuite.vision.data.files import SUFFIXES, pictures_in, read_picture
from rlsuite.vision.evaluate import as_objects, predict
from rlsuite.vision.generation.autoencoders import Autoencoder
from rlsuite.vision.sample import sheet, to_bytes, translations
from rlsuite.vision.train import SavedModel
from rlsuite.vision.writing import Writer

TEST = "test"  # the model's own test pictures
VIDEOS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif")


class Shown(NamedTuple):
    """A prediction, written as a picture."""

    path: Path
    text: str | None  # a class name or the text that was read; None for other models


def show(saved: SavedModel, what: str, out: Path, count: int) -> list[Shown]:
    """Writes predictions on at most `count` pictures as PNG files into `out`.

    `what`: a picture, a folder of pictures, a video, the id of an Atari environment, or `test`; for a model of texts, the text.
    UsageError if it does not exist, or if a result would replace a picture that is read.
    """
    check_out(what, out)
    written = []
    for name, image in pictures_of(saved, what, count):
        path = out / f"{name}.png"
        picture, text = annotated(saved, image)
        draw.save(picture, path)
        written.append(Shown(path, text))
    return written


def annotated(saved: SavedModel, image: NDArray[np.uint8]) -> tuple[draw.Picture, str | None]:
    """The image [C,H,W] with the model's predictions drawn on it, and its text, as in `Shown`.

    For a writer with attention, it shows where the model looked before each token.
    """
    found: Any = predict(saved.model, image[None], saved.device, saved.bf16)
    if saved.task == "classify":
        text = saved.classes[int(found[0])]
        return draw.draw_label(draw.to_picture(image), text), text
    if saved.task == "read":
        row, head = found[0].cpu().numpy(), saved.model.head
        text = texts.joined(row, saved.classes)
        if isinstance(head, Writer) and head.pool == "attend":
            return attention.drawn(saved.model, image, row, saved.classes, saved.letters, saved.bf16), text
        return draw.draw_label(draw.to_picture(image), text), text
    return _drawn(saved, image, found), None


def _drawn(saved: SavedModel, image: NDArray[np.uint8], found: Any) -> draw.Picture:
    """The image [C,H,W] with the predictions drawn on it or, for an autoencoder, beside its reconstruction."""
    picture = draw.to_picture(image)
    if saved.task == "detect":
        return draw.draw_objects(picture, as_objects(found[0]), saved.classes)
    if saved.task == "segment":
        return draw.draw_classes(picture, found[0].cpu().numpy())
    if saved.task == "translate":
        return translations(saved.model, image[None], None, saved.bf16)
    if not isinstance(saved.model.head, Autoencoder):
        return draw.draw_label(picture, f"real: {float(found[0]):.2f}")
    return sheet(np.concatenate([image[None], to_bytes(found)]), 2)


def pictures_of(saved: SavedModel, what: str, count: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yields at most `count` pictures [C,H,W], in the form that the model takes, with names. `what`: see `show`."""
    channels, height, width = saved.shape
    path, data = Path(what), saved.config.data
    if what != TEST and isinstance(data, atari.Config) and data.labels == "frames":
        raise UsageError(f"{what}: {saved.path} takes maps of a game's colours (data.labels=frames), not pictures: use {TEST!r}")
    if what != TEST and saved.letters:
        yield what, texts.pictures(_letters(saved, what), len(saved.letters))[0]
    elif what == TEST:
        pictures = saved.data().test
        rows = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(np.int64)
        images, _ = pictures.take(rows)
        for row, image in zip(rows, images, strict=True):
            yield f"test_{row:05d}", image
    elif atari_game(what) is not None:
        first, end = data.rows if isinstance(data, atari.Config) else WHOLE
        for number, frame in enumerate(frames(what, count, 7, (channels, height, width), 8, (first, end))):
            yield f"frame_{number:05d}", frame.planes
    elif _is_of_pictures(path):
        files = _named(path)
        if not files or not files[0][1].is_file():
            raise UsageError(f"{what}: no pictures found ({', '.join(SUFFIXES)})")
        for name, file in files[:count]:
            yield name, as_channels(read_picture(file, (height, width)), channels)
    elif path.suffix.lower() in VIDEOS:
        yield from _video(path, saved, count)
    else:
        raise UsageError(f"{what!r} is not a picture, a folder, a video, an Atari environment or {TEST!r}")


def check_out(what: str, out: Path) -> None:
    """UsageError if the result for a picture, `<out>/<its name>.png`, would replace one of the pictures `what`."""
    path = Path(what)
    if what == TEST or not _is_of_pictures(path):
        return
    files = _named(path)
    read = {file.resolve() for _, file in files}
    for name, _ in files:
        if (written := out / f"{name}.png").resolve() in read:
            raise UsageError(f"--out {out}: {written} would replace the picture that is read; choose another folder")


def _is_of_pictures(path: Path) -> bool:
    return path.is_dir() or (path.suffix.lower() in SUFFIXES and path.suffix.lower() != ".gif")


def _named(path: Path) -> list[tuple[str, Path]]:
    """The picture files of a path with names for their results: without the suffix, unless two names would be the same."""
    files = pictures_in(path) if path.is_dir() else [path]
    stems = Counter(file.stem for file in files)
    return [(file.stem if stems[file.stem] == 1 else file.name, file) for file in files]


def _letters(saved: SavedModel, text: str) -> texts.Rows:
    """A text for the model as a row [1,L] of its letters. UsageError for one that it cannot read."""
    others = [letter for letter in text if letter not in saved.letters]
    if others:
        raise UsageError(f"{text!r}: {others[0]!r} is not a letter that {saved.path} learned, which are {' '.join(saved.letters)}")
    if not 0 < len(text) <= saved.shape[2]:
        raise UsageError(f"{text!r} has {len(text)} letters, but {saved.path} reads 1 to {saved.shape[2]}")
    row = texts.encode([text], saved.letters)
    return np.pad(row, ((0, 0), (0, saved.shape[2] - row.shape[1])), constant_values=texts.NONE)


def as_channels(picture: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """[3,H,W] -> [C,H,W]: unless C is 3, every plane is the picture in grey."""
    if channels == 3:
        return picture
    grey = np.rint(picture.astype(np.float64).transpose(1, 2, 0) @ (0.299, 0.587, 0.114)).astype(np.uint8)
    return grey[None].repeat(channels, 0)


def _video(path: Path, saved: SavedModel, count: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    channels, height, width = saved.shape
    reader = imageio_ffmpeg.read_frames(str(path), output_params=["-vf", f"scale={width}:{height}"])
    try:
        size = next(reader)["size"]
        for number, raw in zip(range(count), reader, strict=False):
            picture = np.frombuffer(raw, np.uint8).reshape(size[1], size[0], 3).transpose(2, 0, 1)
            yield f"{path.stem}_{number:05d}", as_channels(picture, channels)
    except (OSError, RuntimeError, StopIteration) as error:
        raise RlsuiteError(f"{path} cannot be read as a video: {one_line(error) if str(error) else 'no frame in it'}") from error
    finally:
        reader.close()
