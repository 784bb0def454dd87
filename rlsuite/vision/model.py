"""Vision models: a backbone, a neck and a head.

    model = make_model("resnet50", "retinanet", 21, 3, neck="fpn(finest=8,extra=conv)")
    loss, metrics = model.losses(images, labels)  # [N] f32, dict
    found = model.predict(images)  # a list of N `Found`

Shapes: N images, C channels, H x W pixels, K classes.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.config.spec_string import parse_call
from rlsuite.core.agent import Part
from rlsuite.core.errors import UsageError, unknown
from rlsuite.nets import classifier
from rlsuite.nets.backbones import BACKBONES, Backbone, make_backbone
from rlsuite.nets.torso import as_input
from rlsuite.vision import necks, segmentation
from rlsuite.vision.detection.anchor_based import RetinaNet, Ssd, Yolo
from rlsuite.vision.detection.anchor_free import AnchorFree
from rlsuite.vision.detection.two_stage import RoiHead
from rlsuite.vision.generation import gans
from rlsuite.vision.generation.autoencoders import Autoencoder, Vae
from rlsuite.vision.generation.base import Maker
from rlsuite.vision.generation.stylegan import stylegan
from rlsuite.vision.generation.translation import CycleGan, Pix2pix, StarGan, Translator
from rlsuite.vision.head import Head
from rlsuite.vision.necks import Maps, Neck
from rlsuite.vision.reading import Ctc, TextHead
from rlsuite.vision.writing import caption, seq2seq


class Classify(Head):
    """Classifies images with a dense layer on the averaged last map, or with the head published with the backbone."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, maps: Maps, images: Tensor) -> Tensor:
        """Logits [N,K] f32."""
        logits: Tensor = self.head(maps[-1])
        return logits.float()

    def losses(self, maps: Maps, images: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy [N] against `label` [N] i64, and metrics."""
        logits = self(maps, images)
        right = (logits.detach().argmax(1) == labels["label"]).float().mean()
        return F.cross_entropy(logits, labels["label"], reduction="none"), {"losses/accuracy": right}

    def predict(self, maps: Maps, images: Tensor) -> Tensor:
        """Classes [N] i64."""
        return self.forward(maps, images).argmax(1)


class Model(nn.Module):
    """Backbone, neck and head in one module; takes images [N,C,H,W] uint8."""

    def __init__(self, backbone: Backbone, neck: Neck, head: Head):
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def maps(self, images: Tensor) -> Maps:
        """The neck's feature maps of images, uint8 or f32 in [0,1]."""
        found: Maps = self.neck(self.backbone(images if images.is_floating_point() else as_input(images)))
        return found

    def _embed(self) -> dict[str, Any]:
        return {"embed": self.maps} if self.head.embeds else {}

    def _whole(self, images: Tensor) -> Maps:
        return [] if self.head.embeds else self.maps(images)

    def losses(self, images: Tensor, labels: dict[str, Tensor], part: str = "") -> tuple[Tensor, dict[str, Tensor]]:
        """The loss [N] f32 and metrics; `labels` as the task has them, see `rlsuite.vision.data`. `part`: of `parts`."""
        more = self._embed() | ({"part": part} if part else {})
        return self.head.losses(self._whole(images), images, labels, **more)  # type: ignore[operator, no-any-return]

    def predict(self, images: Tensor) -> Any:
        """The head's predictions: classes [N], class maps [N,H,W], a list of N `Found`, texts [N,L], or those of a `Maker`."""
        return self.head.predict(self._whole(images), images, **self._embed())  # type: ignore[operator]

    def parts(self) -> dict[str, Part]:
        """The parts that learn in turn, see `Objective.parts`."""
        return self.head.parts((self.backbone, self.neck))

    @property
    def maker(self) -> Maker:
        """Its head, if that makes pictures from codes. UsageError otherwise."""
        if not isinstance(self.head, Maker):
            raise UsageError(f"the head {type(self.head).__name__} has no generator to sample from: that takes a vae or a GAN")
        return self.head

    def search(self, beam: int) -> None:
        """From now on, keeps `beam` texts at every step of its search. UsageError if it does not predict texts."""
        if not isinstance(self.head, TextHead):
            raise UsageError(f"--beam: the head {type(self.head).__name__} writes no texts that could be searched for")
        self.head.beam = beam


class Kind(NamedTuple):
    """A kind of head."""

    task: str  # classify, segment, detect, read, generate or translate
    build: Callable[..., Head]  # (channels, strides, classes) and its own parameters; for some tasks others, see `make_model`
    main: str  # the metric that decides which weights are the best, the larger the better
    labels: str | None  # the task whose labels it learns from; None: it needs none


def _classify(build: Callable[..., Head]) -> Kind:
    return Kind("classify", build, "accuracy", "classify")


def _segment(build: Callable[..., Head]) -> Kind:
    return Kind("segment", build, "mIoU", "segment")


def _detect(build: Callable[..., Head]) -> Kind:
    return Kind("detect", build, "mAP", "detect")


def _read(build: Callable[..., Head]) -> Kind:
    return Kind("read", build, "exact", "read")


def _generate(build: Callable[..., Maker], main: str, labels: str | None = None) -> Kind:
    return Kind("generate", build, main, labels)


def _translate(build: type[Translator], labels: str) -> Kind:
    return Kind("translate", build, build.main, labels)


def _linear(channels: Sequence[int], strides: Sequence[int], classes: int, dropout: float = 0.0) -> Head:
    return Classify(classifier.Linear(channels[-1], classes, dropout))


HEADS: dict[str, Kind] = {
    "linear": _classify(_linear),
    "fcn": _segment(segmentation.Fcn),
    "unet": _segment(segmentation.UNet),
    "segnet": _segment(segmentation.SegNet),
    "deeplab": _segment(segmentation.DeepLab),
    "retinanet": _detect(RetinaNet),
    "anchor_free": _detect(AnchorFree),
    "ssd": _detect(Ssd),
    "yolo": _detect(Yolo),
    "roi": _detect(RoiHead),
    "ctc": _read(Ctc),
    "caption": _read(caption),
    "seq2seq": _read(seq2seq),
    "autoencoder": _generate(Autoencoder, "psnr"),
    "vae": _generate(Vae, "elbo"),
    "gan": _generate(gans.gan, "balance"),
    "dcgan": _generate(gans.dcgan, "balance"),
    "conditional_gan": _generate(gans.conditional_gan, "balance", "classify"),
    "stylegan": _generate(stylegan, "balance"),
    "pix2pix": _translate(Pix2pix, "translate"),
    "cyclegan": _translate(CycleGan, "classify"),
    "stargan": _translate(StarGan, "classify"),
}

_NOT_NONE = ("width", "hidden", "anchor", "finest", "scales", "count", "proposals", "latent", "rate", "size", "longest")
PUBLISHED = "published"  # the classifier published with the backbone


def _fpn(channels: Sequence[int], strides: Sequence[int], width: int = 64, finest: int = 4, extra: str = "none") -> Neck:
    if extra not in ("none", "pool", "conv"):
        raise unknown("extra of fpn", extra, ("none", "pool", "conv"))
    return necks.Fpn(channels, strides, width, finest, extra)


def _jpu(channels: Sequence[int], strides: Sequence[int], width: int = 64) -> Neck:
    return necks.Jpu(channels, strides, width)


def _yolo(channels: Sequence[int], strides: Sequence[int], finest: int = 8) -> Neck:
    return necks.YoloNeck(channels, strides, finest)


def _extra(channels: Sequence[int], strides: Sequence[int], finest: int = 8, width: int = 128, count: int = 2) -> Neck:
    return necks.Extra(channels, strides, finest, width, count)


def _mlfpn(
    channels: Sequence[int], strides: Sequence[int], finest: int = 8, width: int = 32, count: int = 4, scales: int = 3
) -> Neck:
    return necks.Mlfpn(channels, strides, finest, width, count, scales)


NECKS: dict[str, Callable[..., Neck]] = {"none": Neck, "fpn": _fpn, "jpu": _jpu, "yolo": _yolo, "extra": _extra, "mlfpn": _mlfpn}


def kind_of(head: str) -> Kind:
    """The kind of a head. UsageError for an unknown one."""
    name, _ = parse_call("head", head)
    if name != PUBLISHED and name not in HEADS:
        raise unknown("model.head", name, [PUBLISHED, *HEADS])
    return HEADS["linear" if name == PUBLISHED else name]


def make_model(
    backbone: str,
    head: str,
    classes: int,
    channels: int,
    *,
    neck: str = "none",
    output_stride: int | None = None,
    size: tuple[int, int] | None = None,
) -> Model:
    """Builds a model from names with parameters. UsageError for unknown names and for parts that do not fit each other.

    `channels`: of the images; `output_stride`: see `segmentation.dilate`; `size`: height and width of pictures to generate or read.
    """
    trunk = make_backbone(backbone, channels)
    try:
        if output_stride is not None:
            segmentation.dilate(trunk, output_stride)
        between = _call("neck", NECKS, neck)(trunk.channels, trunk.strides)
        if parse_call("head", head)[0] == PUBLISHED:
            if parse_call("head", head)[1]:
                raise ValueError("published takes no parameters")
            entry = BACKBONES[parse_call("backbone", backbone)[0]]
            return Model(trunk, between, Classify(classifier.make_classifier(entry.head, between.channels[-1], classes)))
        build = _call("head", {name: kind.build for name, kind in HEADS.items()}, head)
        if (task := kind_of(head).task) in ("generate", "translate"):
            more = [lambda: make_backbone(backbone, channels)] if task == "translate" else []
            return Model(trunk, between, build(*_mirrored(trunk, neck, channels, size), classes, *more))
        if task == "read":
            return Model(trunk, between, build(_shapes(trunk, neck, size)[-1], classes))
        return Model(trunk, between, build(between.channels, between.strides, classes))
    except ValueError as error:
        raise UsageError(f"model {backbone}, {neck}, {head}: {error}") from error


def _mirrored(
    trunk: Backbone, neck: str, channels: int, size: tuple[int, int] | None
) -> tuple[list[tuple[int, ...]], tuple[int, int, int]]:
    """The shapes of the maps that a decoder mirrors, and of the picture that it makes."""
    shapes = _shapes(trunk, neck, size)
    assert size is not None
    return shapes, (channels, *size)


def _shapes(trunk: Backbone, neck: str, size: tuple[int, int] | None) -> list[tuple[int, ...]]:
    """Shapes (C,H,W) of the maps, for heads that fit pictures of one size only."""
    if neck != "none":
        raise ValueError("model.neck must be none: this head uses the backbone's own maps")
    if size is None:
        raise ValueError("this head needs the size of the pictures")
    if min(size) < trunk.strides[-1]:
        raise ValueError(f"pictures of {size[0]}x{size[1]} are smaller than the stride of its last map, {trunk.strides[-1]}")
    return trunk.shapes(*size)


def _call(what: str, table: dict[str, Callable[..., Any]], text: str) -> Callable[..., Any]:
    """The entry that `text` names, with its parameters filled in."""
    name, parameters = parse_call(what, text)
    if name not in table:
        raise unknown(f"model.{what}", name, table)
    names = inspect.signature(table[name]).parameters
    own = {key: value.default for key, value in names.items() if value.default is not inspect.Parameter.empty}
    for key, value in parameters.items():
        if key not in own:
            raise unknown(f"parameter of {name}", key, own)
        kind = type(own[key])
        if kind in (int, float) and isinstance(value, int | float):
            least = "above 0" if key in _NOT_NONE else "0 or more"
            if not (math.isfinite(value) and value >= 0) or (value == 0 and key in _NOT_NONE):
                raise UsageError(f"{text}: {key} must be {least}")
        if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
            allowed = {float: "a number", int: "a whole number"}.get(kind, "a name")
            raise UsageError(f"{text}: {key} must be {allowed}")
    return lambda *given: table[name](*given, **parameters)
