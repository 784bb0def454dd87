"""The schema of a vision run, as strict as that of an agent's. One picture learned from is one step."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model, model_validator

from rlsuite.config import loader
from rlsuite.config.schema import AnyConfig, LearnerConfig, Section, WeightsMixin
from rlsuite.core.errors import UsageError
from rlsuite.vision import data
from rlsuite.vision.data import DataSection


class ModelConfig(WeightsMixin):
    backbone: str  # a name of `rlsuite list nets`, with parameters such as impala(norm=group)
    neck: str = "none"  # none, fpn(width=64,finest=4,extra=none|pool|conv), jpu, yolo, extra, mlfpn
    head: str  # published, linear, fcn, unet, segnet, deeplab, retinanet, anchor_free, ssd, yolo, roi(mask=...)
    output_stride: int | None = Field(None, ge=1)  # dilate the backbone, so that its last map is no coarser than this
    layer_decay: float = Field(1.0, gt=0, le=1)  # the learning rate of a stage is so much that of the one behind it


class VisionRun(Section):
    steps: int = Field(100_000, ge=1)  # pictures to learn from, each pass over the data in a new order
    minutes: float | None = Field(None, gt=0)  # or until so much wall time has passed, resumes counted in
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1)  # null: all cores
    checkpoint_minutes: float = Field(10.0, gt=0)
    keep_checkpoints: int = Field(1, ge=1)  # the newest, besides the best
    log_seconds: float = Field(5.0, gt=0)


class VisionEval(Section):
    every_steps: int | None = Field(None, ge=1)  # on the test pictures; null: only at the end
    batch_size: int = Field(64, ge=1)
    pictures: int | None = Field(None, ge=1)  # of an evaluation on the way; null: all. The last one always takes all


class VisionConfig(AnyConfig):
    """`data` holds the section of the source that is named in it."""

    data: DataSection
    model: ModelConfig
    learner: LearnerConfig = LearnerConfig()
    run: VisionRun = VisionRun()
    eval: VisionEval = VisionEval()

    @model_validator(mode="after")
    def _possible(self) -> "VisionConfig":
        for field in ("target_period_learner_steps", "target_ema", "cuda_graphs", "compile", "prefetch_batches"):
            if getattr(self.learner, field) != LearnerConfig.model_fields[field].default:
                raise ValueError(f"learner.{field}: only agents have that; leave it out")
        return self


def load_config(config: str | Path, overrides: Any = ()) -> VisionConfig:
    """A shipped config such as `vision/digits`, or a YAML file, with `key=value` overrides. UsageError as `resolve`."""
    return check(loader.mapping(config, overrides))


def check(content: dict[str, Any]) -> VisionConfig:
    if "agent" in content or "env" in content:
        raise UsageError(f"{content.get('name')} is the config of an agent: rlsuite train {content.get('name')}")
    section = data.source(loader.name_in(content, "data", "name")).Config
    schema = create_model("VisionConfig", __base__=VisionConfig, data=(section, ...))
    found: VisionConfig = loader.validate(schema, content)
    return found
