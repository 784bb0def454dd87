"""The section `learner.augment`: random changes of images."""

from typing import Literal

from pydantic import Field, model_validator

from rlsuite.config.conditions import refuse_ignored
from rlsuite.config.section import Section


class AugmentConfig(Section):
    """Random changes of the images in each batch, drawn for every image by itself, uniformly; all off by default."""

    shift: int = Field(0, ge=0)
    """Move by up to this many pixels in each direction; DrQ's is 4."""
    scale: float = Field(0.0, ge=0, lt=1)
    """Enlarge or shrink by up to this fraction."""
    crop: float = Field(0.0, ge=0, lt=1)
    """Crop up to this fraction of both sides and enlarge the rest."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Rotate by up to this many degrees either way."""
    shear: float = Field(0.0, ge=0, lt=1)
    """Shear by up to this many pixels sideways per pixel down."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """Multiply the brightness by a factor of up to this much above or below 1."""
    intensity: float = Field(0.0, ge=0, lt=0.5)
    """Multiply the brightness by 1 plus this times a standard normal number cut off at ±2; SPR's is 0.05."""
    cutout: int = Field(0, ge=0)
    """Cover a square of this many pixels a side with grey (DeVries & Taylor 2017); 0: none."""
    recolour: float = Field(0.0, ge=0, le=1)
    """Share of the sequences whose colours are changed, alike in all steps: grey by a random curve, which may fall; red, green and
    blue by a random turn of the hue, mixture and inversion."""
    style: float = Field(0.0, ge=0, le=1)
    """Share of the sequences whose brightness and contrast are mixed with another's in the batch (MixStyle, Zhou et al. 2021)."""
    planes: Literal["grey", "colours"] = "grey"
    """What the planes of an image are, for recolour and style: grey frames, changed alike, or red, green and blue."""

    @model_validator(mode="after")
    def _has_planes_for_something(self) -> "AugmentConfig":
        if not (self.recolour or self.style):
            refuse_ignored(self, {"planes": "recolour > 0 or style > 0"})
        return self
