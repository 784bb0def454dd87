"""The schema of a vision run, as strict as an agent's. One picture learned from is one step."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model, model_validator

from rlsuite.config import loader
from rlsuite.config.conditions import OnlyIf
from rlsuite.config.schema import AnyConfig, LearnerConfig, Section, TrainingConfig, WeightsMixin
from rlsuite.core.errors import UsageError
from rlsuite.vision import data
from rlsuite.vision.data import DataSection


class ModelConfig(WeightsMixin):
    """The model: a backbone, a neck and a head, each a name with parameters in parentheses."""

    backbone: str
    """Backbone (`rlsuite list nets`), with parameters such as impala(norm=group)."""
    neck: str = "none"
    """none, fpn(width=64,finest=4,extra=none|pool|conv), jpu, yolo, extra or mlfpn."""
    head: str
    """published, linear, fcn, unet, segnet, deeplab, retinanet, anchor_free, ssd, yolo, roi(mask=...); to read, ctc(core=...),
    caption(core=...,pool=...) or seq2seq(encoder=...,core=...); to make pictures, autoencoder(latent=...,denoise=...),
    vae(beta=...), gan, dcgan, conditional_gan, stylegan, pix2pix, cyclegan or stargan."""
    output_stride: int | None = Field(None, ge=1)
    """Dilate the backbone so that its last map is no coarser than this; null: leave it as it is."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate of each stage of the backbone as a fraction of the rate of the stage after it."""


class VisionRun(TrainingConfig):
    """How long to train, where, and what to keep."""

    steps: int = Field(100_000, ge=1)
    """Train on this many pictures; each pass over the data is in a new order."""
    keep_checkpoints: int = Field(1, ge=1)


class VisionEval(Section):
    """Evaluations on the test pictures; the final one always takes all of them."""

    every_steps: int | None = Field(None, ge=1)
    """Pictures learned from between two periodic evaluations; null: only the final one."""
    batch_size: int = Field(64, ge=1)
    """Pictures in a batch of an evaluation."""
    pictures: Annotated[int | None, OnlyIf("every_steps")] = Field(None, ge=1)
    """Test pictures of a periodic evaluation; null: all."""


class VisionConfig(AnyConfig):
    """A vision run as resolved: `data` is the section of the data source that it names."""

    data: DataSection
    model: ModelConfig
    learner: LearnerConfig = LearnerConfig()
    run: VisionRun = VisionRun()
    eval: VisionEval = VisionEval()

    @model_validator(mode="after")
    def _fits(self) -> "VisionConfig":
        of_agents = "target_period_learner_steps target_ema act_with_target resets cuda_graphs compile prefetch_batches"
        for field in of_agents.split():
            if getattr(self.learner, field) != LearnerConfig.model_fields[field].default:
                raise ValueError(f"learner.{field}: only agents have that; leave it out")
        return self


def load_config(config: str | Path, overrides: loader.Overrides = (), saved: bool = False) -> VisionConfig:
    """The checked config of a shipped name such as `vision/digits` or a YAML file. As `loader.resolve`, also its UsageError."""
    return check(loader.mapping(config, overrides), loader.overridden(overrides), saved)


def check(content: dict[str, Any], overridden: Collection[str] = (), saved: bool = False) -> VisionConfig:
    """The config in a mapping of sections, with that of the data source it names. `overridden`, `saved`: see `loader.validate`."""
    if "agent" in content or "env" in content:
        raise UsageError(f"{content.get('name')} is the config of an agent: rlsuite train {content.get('name')}")
    section = data.source(loader.name_in(content, "data", "name")).Config
    schema = create_model("VisionConfig", __base__=VisionConfig, data=(section, ...))
    found: VisionConfig = loader.validate(schema, content, overridden, saved)
    return found
