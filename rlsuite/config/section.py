"""The base class of every section of a config."""

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

from rlsuite.config.conditions import OnlyIf, refuse_without_effect


class Section(BaseModel):
    """Base class of every section of a config. The docstring under a key is its description, which `rlsuite config` prints."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
    all_only_if: ClassVar[OnlyIf | None] = None  # a condition on every key except the one that it tests

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        refuse_without_effect(self, self.all_only_if)
        return self
