"""The config section `learner.augment`: random image augmentation."""

from typing import Literal

from pydantic import Field, model_validator

from rlsuite.config.conditions import refuse_ignored
from rlsuite.config.section import Section


class AugmentConfig(Section):
    """Random augmentation of the images in each batch, drawn per image (recolour and style: per sequence); all off by default."""

    shift: int = Field(0, ge=0)
    """Shift by up to this many pixels in each direction; DrQ uses 4."""
    scale: float = Field(0.0, ge=0, lt=1)
    """Enlarge or shrink by up to this fraction."""
    crop: float = Field(0.0, ge=0, lt=1)
    """Crop up to this fraction of height and width, and enlarge the rest."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Rotate by up to this many degrees in either direction."""
    shear: float = Field(0.0, ge=0, lt=1)
    """Shear by up to this many pixels sideways per pixel down."""
    flip: bool = False
    """Flip each image horizontally with probability 1/2."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """Multiply the brightness by a factor between 1 - this and 1 + this."""
    intensity: float = Field(0.0, ge=0, lt=0.5)
    """Multiply the brightness by 1 plus this times a standard normal sample clipped to ±2; SPR uses 0.05."""
    cutout: int = Field(0, ge=0)
    """Cover a square of this side length in pixels with grey (DeVries & Taylor 2017); 0: none."""
    recolour: float = Field(0.0, ge=0, le=1)
    """Fraction of sequences whose colours are changed, the same way at every step: grey frames by a random monotone curve, rising
    or falling; RGB images by a random hue rotation, channel mixing and inversion."""
    style: float = Field(0.0, ge=0, le=1)
    """Fraction of sequences whose brightness and contrast are mixed with those of another sequence in the batch (MixStyle, Zhou
    et al. 2021)."""
    planes: Literal["grey", "colours"] = "grey"
    """How recolour and style read an image's planes: as grey frames, all changed alike (grey), or as RGB channels (colours)."""

    @model_validator(mode="after")
    def _has_planes_for_something(self) -> "AugmentConfig":
        if not (self.recolour or self.style):
            refuse_ignored(self, {"planes": "recolour > 0 or style > 0"})
        return self
