"""The schema of a vision run, as strict as an agent's. A step is one training picture."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model, model_validator

from rlsuite.config import loader
from rlsuite.config.conditions import OnlyIf, refuse_ignored
from rlsuite.config.schema import AnyConfig, LearnerConfig, TrainingConfig, WeightsMixin
from rlsuite.config.section import Section
from rlsuite.core.errors import UsageError
from rlsuite.vision import data
from rlsuite.vision.data import DataSection


class ModelConfig(WeightsMixin):
    """The model: a backbone, a neck and a head, each a name with parameters in parentheses."""

    backbone: str
    """Backbone (`rlsuite list nets`), with parameters such as impala(norm=group)."""
    neck: str = "none"
    """Neck: none, fpn(width=64,finest=4,extra=none|pool|conv), jpu, yolo, extra or mlfpn."""
    head: str
    """Head: published, linear, fcn, unet, segnet, deeplab, retinanet, anchor_free, ssd, yolo or roi(mask=...); for texts,
    ctc(core=...), caption(core=...,pool=...) or seq2seq(encoder=...,core=...); to generate pictures, vae(beta=...), gan, dcgan,
    conditional_gan, stylegan, pix2pix, cyclegan, stargan or autoencoder(latent=...,denoise=...,spatial=...)."""
    output_stride: int | None = Field(None, ge=1)
    """Dilate the backbone so that its last feature map has at most this stride; null: leave it as it is."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Learning rate of each backbone stage, as a fraction of the next stage's."""


class VisionRun(TrainingConfig):
    """How long to train, where, and what to keep."""

    steps: int = Field(100_000, ge=1)
    """Train on this many pictures; the data is reshuffled for each pass."""
    keep_checkpoints: int = Field(1, ge=1)


class VisionEval(Section):
    """Evaluations on the test pictures; the final one always uses all of them."""

    every_steps: int | None = Field(None, ge=1)
    """Training pictures between periodic evaluations; null: only the final one."""
    batch_size: int = Field(64, ge=1)
    """Pictures in an evaluation batch."""
    pictures: Annotated[int | None, OnlyIf("every_steps")] = Field(None, ge=1)
    """Test pictures in a periodic evaluation; null: all."""


class VisionConfig(AnyConfig):
    """The resolved config of a vision run: `data` is the section of the data source that it names."""

    data: DataSection
    model: ModelConfig
    learner: LearnerConfig = LearnerConfig()
    run: VisionRun = VisionRun()
    eval: VisionEval = VisionEval()

    @model_validator(mode="after")
    def _fits(self) -> "VisionConfig":
        for field in ("resets", "cuda_graphs", "compile", "prefetch_batches"):
            if getattr(self.learner, field) != LearnerConfig.model_fields[field].default:
                raise ValueError(f"learner.{field}: only agents have that; leave it out")
        if not self.learner.act_with_target:
            needs = "learner.act_with_target = true, with which a model is evaluated and saved with averaged weights"
            refuse_ignored(self, {"learner.target_period_learner_steps": needs, "learner.target_ema": needs})
        return self


def load_config(config: str | Path, overrides: loader.Overrides = (), saved: bool = False) -> VisionConfig:
    """The checked config of a shipped name such as `vision/digits` or a YAML file. As `loader.resolve`, also its UsageError."""
    return check(loader.mapping(config, overrides), loader.overridden(overrides), loader.file_name(config), saved)


def check(content: dict[str, Any], overridden: Collection[str] = (), where: str = "", saved: bool = False) -> VisionConfig:
    """The config in a mapping of sections, with that of the data source it names. The other arguments: see `loader.validate`."""
    if "agent" in content or "env" in content:
        raise UsageError(f"{content.get('name')} is the config of an agent: rlsuite train {content.get('name')}")
    section = data.source(loader.name_in(content, "data", "name")).Config
    schema = create_model("VisionConfig", __base__=VisionConfig, data=(section, ...))
    found: VisionConfig = loader.validate(schema, content, overridden, where, saved)
    return found
