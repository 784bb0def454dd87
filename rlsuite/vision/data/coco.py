"""Your own objects to detect: pictures, and a JSON file in COCO's format (Lin et al. 2014) with boxes, polygons or run lengths."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field

from rlsuite.config.schema import SomePath
from rlsuite.core.errors import UsageError
from rlsuite.core.files import parse_json, reading
from rlsuite.vision.data import Data, DataPath, DataSection, padded
from rlsuite.vision.data.files import Files


class Config(DataSection):
    """Your own pictures with objects in COCO's format."""

    images: DataPath
    """Folder of the pictures."""
    annotations: DataPath
    """JSON file in COCO's format."""
    test_annotations: SomePath = None
    """JSON file of the test pictures; null: test on a random fifth, the same for every seed."""
    size: int = Field(128, ge=32, le=1024)
    """Height and width in pixels that pictures are resized to, with their boxes and masks."""
    masks: bool = False
    """Load masks, too."""


def load(config: Config, seed: int) -> Data:
    """Objects marked `iscrowd` are left out. Classes are the categories in the order of their ids."""
    document = _read(Path(config.annotations))
    categories = sorted(document["categories"], key=lambda entry: entry["id"])
    place = {entry["id"]: index for index, entry in enumerate(categories)}
    rows = _pictures(document, place, config)
    if config.test_annotations is None:
        order = np.random.default_rng(0).permutation(len(rows))
        held = max(1, len(rows) // 5)
        train, test = [rows[i] for i in order[held:]], [rows[i] for i in order[:held]]
    else:
        other = _read(Path(config.test_annotations))
        train, test = rows, _pictures(other, place, config)
    if not train or not test:
        raise UsageError(f"data.annotations={config.annotations}: {len(train)} pictures to train on and {len(test)} to test on")
    names = tuple(str(entry["name"]) for entry in categories)
    return Data(_files(train, config), _files(test, config), names, (3, config.size, config.size), ("detect",))


_FINE = 8  # polygons are drawn this many times larger
Row = tuple[Path, NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]


def _files(rows: list[Row], config: Config) -> Files:
    labels: dict[str, NDArray[Any]] = {
        "boxes": padded([boxes for _, boxes, _, _ in rows], 0),
        "classes": padded([classes for _, _, classes, _ in rows], -1),
    }
    if config.masks:
        labels["masks"] = padded([masks for _, _, _, masks in rows], False)
    return Files([path for path, *_ in rows], labels, (config.size, config.size))


def _read(path: Path) -> Any:
    try:
        with reading(path):
            document = parse_json(path.read_text())
    except ValueError as error:
        raise UsageError(f"annotations {path} are not JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise UsageError(f"annotations {path} are not in COCO's format: no list {key!r}")
    return document


def _pictures(document: Any, place: dict[int, int], config: Config) -> list[Row]:
    """The pictures with their objects. UsageError that names the picture whose entries are not in COCO's format."""
    objects: dict[Any, list[Any]] = {}
    found = []
    for entry in document["annotations"]:
        if not entry.get("iscrowd"):
            objects.setdefault(entry.get("image_id"), []).append(entry)
    for image in document["images"]:
        try:
            found.append(_picture(objects.get(image["id"], []), image, place, config))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            name = image.get("file_name", image) if isinstance(image, dict) else image
            raise UsageError(f"annotations of {name} are not in COCO's format: {type(error).__name__} {error}") from error
    return found


def _picture(mine: list[Any], image: Any, place: dict[int, int], config: Config) -> Row:
    path = Path(config.images) / image["file_name"]
    if not path.is_file():
        raise UsageError(f"data.images={config.images} has no {image['file_name']}")
    width, height = image["width"], image["height"]
    sx, sy = config.size / width, config.size / height
    for entry in mine:
        if entry["category_id"] not in place:
            raise UsageError(f"annotation {entry.get('id')}: category {entry['category_id']} is not among the categories")
    corners = [(x * sx, y * sy, (x + w) * sx, (y + h) * sy) for x, y, w, h in (entry["bbox"] for entry in mine)]
    boxes = np.array(corners, np.float32).reshape(-1, 4)
    classes = np.array([place[entry["category_id"]] for entry in mine], np.int64)
    masks = np.zeros((len(mine) if config.masks else 0, config.size, config.size), bool)
    if config.masks:
        for index, entry in enumerate(mine):
            masks[index] = decode_mask(entry.get("segmentation"), height, width, config.size)
    return path, boxes, classes, masks


def decode_mask(segmentation: Any, height: int, width: int, size: int) -> NDArray[np.bool_]:
    """The mask [size,size] of polygons or of uncompressed run lengths down the columns. UsageError for anything else."""
    if isinstance(segmentation, list):
        # Polygons are drawn with their outline, hence the finer grid: a pixel counts if its centre is covered.
        picture = Image.new("1", (_FINE * width, _FINE * height))
        for polygon in segmentation:
            ImageDraw.Draw(picture).polygon([_FINE * float(value) for value in polygon], fill=1)
        full = np.asarray(picture)[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE]
    elif isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), list):
        runs = segmentation["counts"]
        values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        if values.size != height * width:
            raise UsageError(f"run lengths make {values.size} pixels, the picture has {height * width}")
        full = values.reshape(width, height).T
    else:
        raise UsageError("data.masks: an object's segmentation must be polygons or uncompressed run lengths")
    return np.asarray(Image.fromarray(full).resize((size, size), Image.Resampling.NEAREST))
